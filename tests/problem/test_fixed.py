"""Fixed, tied and derived parameters, against lmfit and closed forms."""

import jax.numpy as jnp
import lmfit
import numpy as np
import pytest

from jaxlsq import curve_fit, fit, least_squares, using
from tests.decays import TRUTH, B, T

CLEAN = TRUTH[:, :1] * np.exp(-TRUTH[:, 1:] * T) + 0.3 + 0.1 * T
Y = CLEAN + 0.02 * np.random.default_rng(11).normal(size=CLEAN.shape)
START = {"a": 1.5, "k": 1.0, "c": 0.2, "s": 0.0}


def model(t, a, k, c, s):
    return a * jnp.exp(-k * t) + c + s * t


def lmfit_result(y, **changes):
    """lmfit's fit of one data set; changes are arguments of its parameters."""
    parameters = lmfit.Parameters()
    for name, value in START.items():
        parameters.add(name, value=value)
    for name, settings in changes.items():
        parameters[name].set(**settings)

    def residual(p):
        v = p.valuesdict()
        return v["a"] * np.exp(-v["k"] * T) + v["c"] + v["s"] * T - y

    tight = {"ftol": 1e-13, "xtol": 1e-13}
    return lmfit.minimize(residual, parameters, method="leastsq", **tight)


def assert_same_as_lmfit(result, i, expected, names):
    assert expected.success
    for name in names:
        np.testing.assert_allclose(
            result.params[name][i], expected.params[name].value, rtol=1e-5, atol=1e-7
        )
        np.testing.assert_allclose(result.stderr[name][i], expected.params[name].stderr, rtol=2e-3)
    np.testing.assert_allclose(result.chi2[i], expected.chisqr, rtol=1e-8)
    np.testing.assert_allclose(result.redchi[i], expected.redchi, rtol=1e-8)
    np.testing.assert_allclose(result.aic[i], expected.aic, rtol=1e-8)
    np.testing.assert_allclose(result.bic[i], expected.bic, rtol=1e-8)
    assert result.dof[i] == expected.nfree


@pytest.mark.parametrize(
    "fixed",
    [["c"], {"c", "s"}, "c", {"c": True}, {"c": np.ones(B, bool)}],
    ids=["list", "set", "name", "dict", "per lane"],
)
def test_fixed_parameters_are_lmfits(fixed):
    result = fit(model, T, Y, START, fixed=fixed)
    names = {"c", "s"} & set(fixed if not isinstance(fixed, str) else [fixed])
    assert result.success.all()
    for name in names:
        np.testing.assert_array_equal(result.params[name], START[name])
        np.testing.assert_array_equal(result.stderr[name], 0.0)
    free = [name for name in START if name not in names]
    for i in (0, 5):
        expected = lmfit_result(Y[i], **{name: {"vary": False} for name in names})
        assert_same_as_lmfit(result, i, expected, free)
    assert "(fixed)" in result.report(0)
    assert not result.active_mask.any()


def test_a_fixed_value_per_lane():
    rates = TRUTH[:, 1]
    result = fit(model, T, Y, START | {"k": rates}, fixed=["k"])
    np.testing.assert_array_equal(result.params["k"], rates)
    # What is left is linear.
    for i in range(B):
        rows = np.stack([np.exp(-rates[i] * T), np.ones_like(T), T], axis=1)
        expected = np.linalg.lstsq(rows, Y[i], rcond=None)[0]
        found = [result.params[name][i] for name in ("a", "c", "s")]
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.long
def test_fixed_parameters_stay_through_starts_refits_float32_and_polish():
    y = Y.astype(np.float32)
    result = fit(
        model, T.astype(np.float32), y, START, fixed=["c"], starts=4, polish="float64", max_nfev=4
    )
    np.testing.assert_array_equal(result.params["c"], START["c"])
    again = result.refit(max_nfev=200)
    np.testing.assert_array_equal(again.params["c"], START["c"])
    elsewhere = again.refit(where=True, p0=START | {"c": 0.3})
    assert set(np.unique(elsewhere.params["c"])) <= {START["c"], np.float32(0.3), 0.3}
    guessed = fit(
        lambda t, a, k: a * jnp.exp(-k * t), T, Y, lambda t, y: (y[0], 1.0), fixed=[True, False]
    )
    np.testing.assert_array_equal(guessed.x[:, 0], Y[:, 0])


def test_a_mask_per_lane_is_the_fit_of_each_lane():
    mask = np.zeros((B, 4), bool)
    mask[::2, 2], mask[1::2, 3] = True, True
    vector = tuple(START.values())
    result = fit(model, T, Y, vector, fixed=mask)
    even = fit(model, T, Y[::2], vector, fixed=["c"])
    np.testing.assert_allclose(result.x[::2], even.x, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(result.cov[::2], even.cov, rtol=1e-5, atol=1e-18)
    np.testing.assert_array_equal(result.varying, 3)


# --- tied -------------------------------------------------------------------------------


def expand(free):
    return {"a": free["a"], "k": free["k"], "c": 0.1 * free["a"], "s": free["s"]}


def test_tied_parameters_are_lmfits():
    start = {"a": 1.5, "k": 1.0, "s": 0.0}
    result = fit(model, T, Y, start, expand=expand)
    assert result.success.all()
    assert result.names == ("a", "k", "s")
    values, errors = result.derived(expand)
    for i in (0, 5):
        expected = lmfit_result(Y[i], c={"expr": "0.1*a"})
        assert_same_as_lmfit(result, i, expected, start)
        np.testing.assert_allclose(values["c"][i], expected.params["c"].value, rtol=1e-5)
        np.testing.assert_allclose(errors["c"][i], expected.params["c"].stderr, rtol=2e-3)
    assert result.predict(T[:3]).shape == (B, 3)
    assert result.band().shape == Y.shape


def test_tied_parameters_of_a_vector():
    vector = fit(
        model, T, Y, [1.5, 1.0, 0.0], expand=lambda p: (p[0], p[1], 0.1 * p[0], 2.0 * p[2])
    )
    named = fit(model, T, Y, {"a": 1.5, "k": 1.0, "s": 0.0}, expand=expand)
    np.testing.assert_allclose(vector.x[:, :2], named.x[:, :2], rtol=1e-6)
    np.testing.assert_allclose(2.0 * vector.x[:, 2], named.x[:, 2], rtol=1e-5, atol=1e-9)
    held = fit(
        model,
        T,
        Y,
        {"a": 1.5, "k": 1.0, "s": 0.0},
        expand=expand,
        fixed="s",
        bounds={"k": (0.2, 1.2)},
    )
    assert np.all(held.params["s"] == 0.0)
    assert np.all(held.params["k"] <= 1.2)
    assert held.active_mask.any()


# --- derived ----------------------------------------------------------------------------


def test_derived_quantities_follow_the_delta_method():
    result = fit(model, T, Y, START)

    def half_life_and_area(p):
        return {"half": jnp.log(2.0) / p["k"], "pair": jnp.stack([p["a"] / p["k"], p["c"]])}

    values, errors = result.derived(half_life_and_area)
    a, k = result.params["a"], result.params["k"]
    names = list(result.names)
    i, j = names.index("a"), names.index("k")
    np.testing.assert_allclose(values["half"], np.log(2) / k, rtol=1e-12)
    np.testing.assert_allclose(errors["half"], np.log(2) / k**2 * result.stderr["k"], rtol=1e-10)
    cov = result.cov
    variance = cov[:, i, i] / k**2 + a**2 / k**4 * cov[:, j, j] - 2 * a / k**3 * cov[:, i, j]
    np.testing.assert_allclose(errors["pair"][:, 0], np.sqrt(variance), rtol=1e-8)
    np.testing.assert_allclose(errors["pair"][:, 1], result.stderr["c"], rtol=1e-10)
    assert values["pair"].shape == (B, 2)
    one, one_error = result[3].derived(lambda p: p["a"])
    np.testing.assert_allclose([one, one_error], [a[3], result.stderr["a"][3]], rtol=1e-9)


def test_a_derived_quantity_of_what_is_fixed_has_no_error():
    result = fit(model, T, Y, START, fixed="c")
    _, error = result.derived(lambda p: p["c"] ** 2)
    np.testing.assert_array_equal(error, 0.0)


# --- a fixed parameter is one that is written into the model, however large it is --------

EPOCH = 2_458_000.0
ORBIT = np.linspace(-0.1, 0.1, 60)
DIP = 1.0 - 0.01 * np.exp(-0.5 * (ORBIT / 0.02) ** 2)
DIPS = DIP + 0.0005 * np.random.default_rng(3).normal(size=(2, 60))
DIP_START = {"depth": 0.005, "width": 0.03, "level": 1.1}


def transit(x, depth, width, level, epoch, xp=jnp):
    return level - depth * xp.exp(-0.5 * ((x + EPOCH - epoch) / width) ** 2)


def written(x, depth, width, level):
    return transit(x, depth, width, level, EPOCH)


@pytest.mark.long_but("None-lanes", "shared1-lanes")
@pytest.mark.parametrize("engine", ["xla", "lanes"])
@pytest.mark.parametrize("shared", [None, ["width"]])
def test_a_large_fixed_parameter_is_as_one_that_is_written_out(engine, shared):
    """What is fixed is no part of ||D x||, of which xtol takes a part for a short step."""
    expected = fit(written, ORBIT, DIPS, DIP_START, shared=shared)
    with using(engine):
        start = DIP_START | {"epoch": EPOCH}
        result = fit(transit, ORBIT, DIPS, start, fixed=["epoch"], shared=shared)
    assert result.success.all()
    np.testing.assert_allclose(result.cost, expected.cost, rtol=1e-7)
    np.testing.assert_allclose(result.x[:, :3], expected.x, rtol=1e-5)
    np.testing.assert_allclose(result.x[:, 1], 0.02, rtol=0.1)


@pytest.mark.long
def test_a_large_parameter_of_equal_bounds_in_the_other_doors(x64):
    start = [*DIP_START.values(), EPOCH]
    bounds = ([-np.inf] * 3 + [EPOCH], [np.inf] * 3 + [EPOCH])
    expected = curve_fit(written, ORBIT, DIPS[0], start[:3])[0]
    for xp in (jnp, np):

        def model(x, depth, width, level, epoch, xp=xp):
            return transit(x, depth, width, level, epoch, xp)

        found = curve_fit(model, ORBIT, DIPS[0], start, bounds=bounds)[0]
        np.testing.assert_allclose(found[:3], expected, rtol=1e-5)
    found = least_squares(
        lambda p: transit(ORBIT, *p) - DIPS[0],
        jnp.array(start),
        bounds=tuple(map(np.array, bounds)),
    )
    np.testing.assert_allclose(found.x[:3], expected, rtol=1e-5)


def test_fixed_parameters_on_which_nothing_depends_do_not_stop_a_small_signal():
    """The place of a peak that is fixed at zero, beside currents of nanoamperes."""

    def peaks(x, a, x1, w, b, x2):
        return a * jnp.exp(-(((x - x1) / w) ** 2)) + b * jnp.exp(-(((x - x2) / w) ** 2))

    x = np.linspace(0.0, 10.0, 50)
    y = 2e-9 * np.exp(-(((x - 4.2) / 1.1) ** 2)) + 1e-11 * np.random.default_rng(4).normal(size=50)
    start = {"a": 1e-9, "x1": 3.8, "w": 0.9, "b": 0.0, "x2": 5000.0}
    result = fit(peaks, x, y, start, fixed=["b", "x2"])
    expected = fit(lambda x, a, x1, w: peaks(x, a, x1, w, 0.0, 1.0), x, y, [1e-9, 3.8, 0.9])
    assert result.nfev == expected.nfev
    np.testing.assert_allclose(result.x[:3], expected.x, rtol=1e-9)
