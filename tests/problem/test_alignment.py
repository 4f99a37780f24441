"""What has labels along its dims is read by them, in every door, and never by position."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxlsq import fit

xr = pytest.importorskip("xarray")
import jaxlsq.xarray  # noqa: E402, F401
from jaxlsq.xarray import curvefit  # noqa: E402

RNG = np.random.default_rng(0)
T = np.linspace(0.1, 4.0, 8)
U = list("abc")
RATES = RNG.uniform(0.5, 1.0, (3, 3, 1))
Y = 2.0 * np.exp(-RATES * T) + 0.02 * RNG.normal(size=(3, 3, 8))
DATA = xr.DataArray(Y, {"t": T, "u": U}, ("u", "v", "t"))
SIGMA = np.linspace(0.01, 0.3, 8)
P0 = {"a": 1.0, "k": 1.0}


def decay(t, a, k):
    return a * jnp.exp(-k * t)


def of_points(values, dtype=float):
    return xr.DataArray(np.asarray(values, dtype), {"t": T}, "t")


def of_sets(values):
    return xr.DataArray(np.asarray(values, float), {"u": U}, "u")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sigma", of_points(SIGMA)),
        ("mask", of_points(np.arange(8) < 5, bool)),
        ("xsigma", of_points(SIGMA)),
        ("sigma", of_sets([0.1, 0.2, 0.3]) * of_points(SIGMA)),
    ],
)
def test_values_of_points_in_another_order(name, value):
    expected = fit(decay, T, DATA, P0, **{name: value})
    turned = value.isel({dim: slice(None, None, -1) for dim in value.dims})
    for data, axis in ((DATA, "t"), (DATA.transpose("t", "v", "u"), "t")):
        found = fit(decay, T, data, P0, axis=axis, **{name: turned})
        x = found.x if data is DATA else found.x.transpose(1, 0, 2)
        np.testing.assert_allclose(x, expected.x, rtol=1e-9)
    if "u" not in value.dims:
        out = DATA.lsq.fit(decay, "t", P0, **{name: turned})
        np.testing.assert_allclose(out.k, expected.params["k"], rtol=1e-9)


def test_x_in_another_order():
    expected = fit(decay, T, DATA, P0)
    x = DATA.t[::-1]
    np.testing.assert_allclose(fit(decay, x, DATA, P0).x, expected.x, rtol=1e-9)
    each = (x * of_sets([1.0, 2.0, 3.0]))[:, ::-1]
    same = fit(decay, (T * np.array([[1.0], [2.0], [3.0]]))[:, None] + np.zeros((3, 3, 8)), Y, P0)
    np.testing.assert_allclose(fit(decay, each, DATA, P0).x, same.x, rtol=1e-9)
    out = DATA.lsq.fit(decay, "t", P0, x=x)
    np.testing.assert_allclose(out.k, expected.params["k"], rtol=1e-9)
    out = curvefit(DATA, x, decay, reduce_dims="t", kwargs={"sigma": of_points(SIGMA)[::-1]})
    weighted = fit(decay, T, DATA, P0, sigma=SIGMA)
    np.testing.assert_allclose(out.curvefit_coefficients, weighted.x, rtol=1e-6)


def test_values_of_data_sets_in_another_order():
    starts = of_sets([1.0, 2.0, 3.0])[::-1]
    held = fit(decay, T, DATA, {"a": starts, "k": 1.0}, fixed=["a"])
    np.testing.assert_array_equal(held.params["a"], np.repeat([[1.0], [2.0], [3.0]], 3, axis=1))
    most = of_sets([0.5, 1.0, 1.5])[::-1]
    bounded = fit(decay, T, DATA, {"a": 0.1, "k": 1.0}, bounds={"a": (0.0, most)})
    np.testing.assert_array_equal(bounded.params["a"][:, 0], [0.5, 1.0, 1.5])
    groups = xr.DataArray(["p", "q", "q"], {"u": U}, "u")[::-1]
    shared = fit(decay, T, DATA, P0, shared={"k": groups}).params["k"]
    np.testing.assert_array_equal(shared[1], shared[2])
    assert np.all(shared[0] != shared[1])


def test_other_labels_are_refused():
    other = xr.DataArray(SIGMA, {"t": T + 0.5}, "t")
    twice = xr.DataArray(SIGMA, {"t": np.r_[T[:7], T[6]]}, "t")
    for wrong in (other, twice):
        with pytest.raises(ValueError, match="sigma has other labels than ydata along 't'"):
            fit(decay, T, DATA, P0, sigma=wrong)
        with pytest.raises(ValueError, match="sigma has other labels than ydata along 't'"):
            DATA.lsq.fit(decay, "t", P0, sigma=wrong)
    start = xr.DataArray([1.0, 2.0, 3.0], {"u": list("abd")}, "u")
    with pytest.raises(ValueError, match=r"p0\['a'\] has other labels than ydata along 'u'"):
        fit(decay, T, DATA, {"a": start, "k": 1.0})
    unlabelled = xr.DataArray(SIGMA, dims="t")  # which has no other place than its own
    expected = fit(decay, T, DATA, P0, sigma=SIGMA)
    np.testing.assert_array_equal(fit(decay, T, DATA, P0, sigma=unlabelled).x, expected.x)


def test_booleans_with_dims_choose_fits_by_them():
    result = fit(decay, T, DATA, P0)
    wanted = np.array([[True, False, False], [False, False, True], [False, False, False]])
    chosen = xr.DataArray(wanted, {"u": U}, ("u", "v")).transpose()[:, ::-1]
    np.testing.assert_array_equal(result[chosen].x, result[wanted].x)
    np.testing.assert_array_equal(result.refit(chosen, fixed=["a"]).fixed[..., 0], wanted)
    part = result[1:]
    np.testing.assert_array_equal(part[chosen.sel(u=["c", "b"])].x, result[1:][wanted[1:]].x)
    first = xr.DataArray([False, True, False], {"u": U}, "u")
    np.testing.assert_array_equal(result[first].x, result[[1]].x)
    with pytest.raises(ValueError, match=r"the index has the dims \['w', 'v'\]"):
        result[chosen.rename(u="w").transpose("w", "v")]


# --- pandas ------------------------------------------------------------------------------

KEYS, NAMES = list("wxyz"), [f"t{i}" for i in range(8)]
X2 = T * np.arange(1.0, 5.0)[:, None]
Y2 = 2.0 * np.exp(-RNG.uniform(0.5, 1.0, (4, 1)) * X2) + 0.02 * RNG.normal(size=(4, 8))
SIGMA2 = RNG.uniform(0.01, 0.3, (4, 8))
TABLES = {
    name: pd.DataFrame(values, KEYS, NAMES)
    for name, values in (("x", X2), ("y", Y2), ("sigma", SIGMA2))
}
SHUFFLED = {name: table.iloc[[2, 0, 3, 1], ::-1] for name, table in TABLES.items()}


def test_tables_of_points_in_another_order():
    expected = fit(decay, X2, Y2, P0, sigma=SIGMA2).x
    sigma = SHUFFLED["sigma"]
    found = fit(decay, SHUFFLED["x"], TABLES["y"], P0, sigma=sigma)
    np.testing.assert_array_equal(found.x, expected)
    turned = fit(decay, SHUFFLED["x"].T, TABLES["y"].T, P0, sigma=sigma.T, axis=0)
    np.testing.assert_array_equal(turned.x, expected)
    errors = fit(decay, TABLES["x"], TABLES["y"], P0, xsigma=TABLES["sigma"]).x
    np.testing.assert_array_equal(fit(decay, TABLES["x"], TABLES["y"], P0, xsigma=sigma).x, errors)
    # Columns of other names are taken in their order.
    renamed = TABLES["sigma"].set_axis([f"s{i}" for i in range(8)], axis=1)
    np.testing.assert_array_equal(
        fit(decay, TABLES["x"], TABLES["y"], P0, sigma=renamed).x, expected
    )
    apart = TABLES["x"].T.set_axis(["x1", "x2", "x3", "x4"], axis=1)
    found = fit(decay, apart, TABLES["y"].T, P0, sigma=SIGMA2.T, axis=0)
    np.testing.assert_array_equal(found.x, expected)


def test_columns_of_points_in_another_order():
    expected = fit(decay, T, Y2, P0, sigma=SIGMA2[0], mask=T < 3.0).x
    columns = (pd.Series(values, NAMES)[::-1] for values in (T, SIGMA2[0], T < 3.0))
    x, sigma, mask = columns
    found = fit(decay, x, TABLES["y"], P0, sigma=sigma, mask=mask)
    np.testing.assert_array_equal(found.x, expected)


def of_one():
    index = [f"row {k}" for k in range(8)]
    return pd.Series(T, index), pd.Series(Y[0, 0], index)


REFUSED = {
    "xdata": lambda x, y: ((x[::-1], y), {}),
    "xdata of two": lambda x, y: ((pd.DataFrame({"a": x, "b": x})[::-1], y), {}),
    "sigma": lambda x, y: ((x, y), {"sigma": pd.Series(SIGMA, x.index)[::-1]}),
    "mask": lambda x, y: ((x, y), {"mask": pd.Series(T < 2, x.index)[::-1]}),
    "xsigma": lambda x, y: (((x, x), y), {"xsigma": (None, 0.1 * x[::-1])}),
    "lists": lambda x, y: (([x, x[::-1]], [y, y]), {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rows_of_one_data_set_in_another_order_are_refused(case):
    (x, y), more = REFUSED[case](*of_one())
    name = "xdata" if case in ("lists", "xdata of two") else case
    with pytest.raises(ValueError, match=rf"{name} has the rows of ydata in another order"):
        fit(decay, x, y, P0, **more)


def test_rows_of_one_data_set_that_are_called_otherwise_are_taken_as_they_lie():
    x, y = of_one()
    expected = fit(decay, T, Y[0, 0], P0).x
    for one in (x, x[::-1].reset_index(drop=True)[::-1].set_axis(range(8)), T):
        np.testing.assert_array_equal(fit(decay, one, y, P0).x, expected)


def test_groups_of_tables_that_are_sorted_differently_are_refused():
    k = np.repeat(["a", "b"], 8)
    table = pd.DataFrame({"k": k, "t": np.tile(T, 2), "y": Y[0, :2].ravel()})
    groups, turned = (one.groupby("k") for one in (table, table.sort_values("y")))
    expected = fit(decay, [T, T], Y[0, :2], P0).x
    np.testing.assert_allclose(fit(decay, groups["t"], groups["y"], P0).x, expected, rtol=1e-12)
    np.testing.assert_allclose(fit(decay, turned["t"], turned["y"], P0).x, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"xdata has the rows of ydata in another order"):
        fit(decay, turned["t"], groups["y"], P0)
