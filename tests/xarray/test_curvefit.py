"""`jaxlsq.xarray.curvefit`: what xarray's own `curvefit` is tested for, plain and with Dask."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from jaxlsq.xarray import curvefit

T = np.arange(0.0, 10.0, 0.2)
RNG = np.random.default_rng(0)
pytestmark = pytest.mark.filterwarnings("ignore:Sending large graph")


@pytest.fixture(params=[False, True], ids=["plain", "dask"])
def chunked(request):
    return (lambda array, **chunks: array.chunk(chunks)) if request.param else lambda a, **_: a


def decay(t, n0, tau=1):
    return n0 * np.exp(-t / tau)


def decays():
    values = decay(T, np.array([[3.0], [5.0], [2.0]]), np.array([[3.0], [4.0], [2.5]]))
    return xr.DataArray(values, {"t": T, "x": [0, 1, 2]}, ("x", "t"), attrs={"units": "Bq"})


@pytest.mark.parametrize("coords", ["t", ["t"], "array", ["array"]])
def test_coords_may_be_a_name_or_an_array(chunked, coords):
    da = decays()
    if "array" in coords:
        coords = da.t if coords == "array" else [da.t]
    out = curvefit(chunked(da, x=1), coords, decay)
    assert out.curvefit_coefficients.dims == ("x", "param")
    assert list(out.param) == ["n0", "tau"]
    np.testing.assert_allclose(out.curvefit_coefficients, [[3, 3], [5, 4], [2, 2.5]], rtol=1e-6)
    assert out.curvefit_covariance.dims == ("x", "cov_i", "cov_j")
    np.testing.assert_array_equal(out.cov_i, ["n0", "tau"])
    assert out.attrs == da.attrs


def test_the_same_as_xarrays_own():
    da = decays() + 0.05 * RNG.normal(size=(3, T.size))
    ours, theirs = curvefit(da, "t", decay), da.curvefit("t", decay)
    xr.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert ours.sizes == theirs.sizes
    sigma = xr.DataArray(np.linspace(0.5, 2.0, T.size), {"t": T}, "t")
    ours = curvefit(da, "t", decay, kwargs={"sigma": sigma, "absolute_sigma": True})
    theirs = da.curvefit("t", decay, kwargs={"sigma": sigma.values, "absolute_sigma": True})
    xr.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_a_dataset_has_a_result_for_each_variable(chunked):
    ds = xr.Dataset({"one": decays(), "two": 2 * decays()}, attrs={"title": "both"})
    out = curvefit(chunked(ds, x=2), "t", decay)
    kinds = ("coefficients", "covariance")
    assert set(out) == {f"{name}_curvefit_{kind}" for name in ("one", "two") for kind in kinds}
    first, second = (out[f"{k}_curvefit_coefficients"].sel(param="n0") for k in ("one", "two"))
    np.testing.assert_allclose(second, 2 * first, rtol=1e-6)
    assert out.attrs == {"title": "both"}


def test_missing_points_are_skipped(chunked):
    da = decays()
    da[0, 4], da[2] = np.nan, np.nan
    out = curvefit(chunked(da, x=1), "t", decay).curvefit_coefficients
    np.testing.assert_allclose(out[:2], [[3, 3], [5, 4]], rtol=1e-6)
    assert np.isnan(out[2]).all()
    with pytest.raises(ValueError, match="must not contain infs or NaNs"):
        curvefit(chunked(da, x=1), "t", decay, skipna=False).compute()


def test_dims_that_are_pooled():
    x = xr.DataArray(np.linspace(1.0, 3.0, 20), dims="x")
    y = x**0.7 * xr.DataArray(np.ones(4), dims="y")
    out = curvefit(y.assign_coords(x=x), "x", np.power, reduce_dims="y", param_names=["a"])
    assert out.curvefit_coefficients.dims == ("param",)
    np.testing.assert_allclose(out.curvefit_coefficients, [0.7], rtol=1e-7)


def test_several_variables(chunked):
    x = xr.DataArray(np.arange(8.0), dims="x")
    y = xr.DataArray(np.arange(9.0), dims="y")
    cx = xr.DataArray([3.0, 4.5], dims="spot")
    da = 2.0 * np.exp(-((x - cx) ** 2) / 4) * np.exp(-((y - 4.0) ** 2) / 9)
    da = da.assign_coords(x=x, y=y)

    def spot(xy, a, cx, cy):
        x, y = xy
        return a * jnp.exp(-((x - cx) ** 2) / 4) * jnp.exp(-((y - cy) ** 2) / 9)

    p0 = {"a": 1.0, "cx": 3.5, "cy": 3.0}
    out = curvefit(chunked(da, spot=1), ["x", "y"], spot, p0=p0).curvefit_coefficients
    np.testing.assert_allclose(out, [[2, 3, 4], [2, 4.5, 4]], rtol=1e-6)


# --- starts and bounds ------------------------------------------------------------------


def sine(t, a, f, p):
    return a * np.sin(2 * np.pi * (f * t + p))


def two_sines():
    t = np.arange(0, 2, 0.02)
    return xr.DataArray([sine(t, 1.0, 2, 0)] * 2, {"x": [0, 1], "t": t}, ("x", "t"))


ANSWERS = [[1, 2, 0], [-1, 2, 0.5]]


def test_starts_of_each_series(chunked):
    da = two_sines()
    p0 = {"a": xr.DataArray([1, -1], [da.x]), "p": xr.DataArray([0, 0.5], [da.x]), "f": 2}
    out = curvefit(chunked(da, x=1), [da.t], sine, p0=p0).curvefit_coefficients
    np.testing.assert_allclose(out, ANSWERS, rtol=1e-5, atol=1e-8)
    with pytest.raises(ValueError, match="Initial guess for 'a' has unexpected dimensions"):
        curvefit(da, "t", sine, p0={"a": xr.DataArray([1, 2], dims="foo")})


def test_bounds_of_each_series(chunked):
    da = two_sines()
    sides = [xr.DataArray(side, [da.x]) for side in ([0, -2], [2, 0])]
    p0 = {"f": 2, "p": 0.25}
    out = curvefit(chunked(da, x=1), "t", sine, p0=p0, bounds={"a": tuple(sides)})
    np.testing.assert_allclose(out.curvefit_coefficients, ANSWERS, rtol=1e-5, atol=1e-8)
    out = curvefit(chunked(da, x=1), "t", sine, p0=p0, bounds={"a": (-2, sides[1])})
    np.testing.assert_allclose(out.curvefit_coefficients[1], ANSWERS[1], rtol=1e-5, atol=1e-8)
    other = xr.DataArray([1, 2], dims="foo")
    for pair, which in (((0, other), "Upper"), ((other, 9), "Lower")):
        with pytest.raises(ValueError, match=f"{which} bound for 'a' has unexpected dimensions"):
            curvefit(da, "t", sine, p0=p0, bounds={"a": pair})


def test_starts_are_moved_into_bounds():
    seen = []

    def model(t, n0=4, tau=1):
        if tau > 0.0:  # which no trace can answer: called from Python
            seen.append((float(n0), float(tau)))
        return n0 * np.exp(-t / tau)

    curvefit(decays()[1], "t", model, bounds={"tau": (5, np.inf)})
    assert (4.0, 6.0) in seen
    low = xr.DataArray([7.0, 1.0, 1.0], dims="x")
    out = curvefit(decays(), "t", decay, bounds={"tau": (low, np.inf)}).curvefit_coefficients
    np.testing.assert_allclose(out.sel(param="tau"), [7.0, 4.0, 2.5], rtol=1e-6)


# --- failures ---------------------------------------------------------------------------


def line(x, a, b):
    if a > 10:
        return 0
    return a * x + b


def test_a_fit_that_fails_raises_or_is_nan(chunked):
    values = [[1, 3, 5], [0, 20, 40]]
    da = xr.DataArray(values, {"i": [1, 2], "x": [0.0, 1.0, 2.0]}, ("i", "x"))
    da = chunked(da, i=1)
    with pytest.raises(RuntimeError, match="calls to function has reached maxfev"):
        curvefit(da, "x", line, kwargs={"maxfev": 5}).compute()
    out = curvefit(da, "x", line, errors="ignore", kwargs={"maxfev": 5}).curvefit_coefficients
    np.testing.assert_allclose(out, [[2, 1], [np.nan, np.nan]], rtol=1e-6)


def test_what_the_data_do_not_determine_has_an_infinite_covariance():
    da = decays()
    out = curvefit(da, "t", lambda t, a, b: (a + b) * jnp.exp(-t / 3))
    assert np.isinf(out.curvefit_covariance).any()
    assert np.isfinite(out.curvefit_coefficients).all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"errors": "warn"}, ValueError, "errors must be either"),
        ({"coords": "x2"}, KeyError, "x2"),
        ({"reduce_dims": "z"}, ValueError, "reduce_dims has 'z'"),
        ({"p0": {"n": 1}}, ValueError, "p0 names 'n'.*Did you mean 'n0'"),
        ({"p0": {"n": 1}, "param_names": [1, 2]}, ValueError, r"p0 names 'n'.* \(1, 2\)"),
        ({"kwargs": {"maxfevs": 5}}, TypeError, "kwargs has 'maxfevs'"),
        ({"kwargs": {"method": "bfgs"}}, ValueError, "method must be"),
        ({"func": max}, ValueError, "param_names"),
        ({"func": lambda t, *p: t}, ValueError, "variable length arguments"),
    ],
)
def test_improper_input(change, error, words):
    arguments = {"coords": "t", "func": decay} | change
    with pytest.raises(error, match=words):
        curvefit(decays(), **arguments)


def test_nothing_is_reduced():
    da = decays().assign_coords(z=("x", [1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="scalar data"):
        curvefit(da, "z", decay)


def test_dates_are_no_numbers():
    days = np.datetime64("2026-01-01", "ns") + np.arange(T.size).astype("timedelta64[D]")
    da = decays().assign_coords(t=days)
    with pytest.raises(TypeError, match=r"datetime64.*say in which unit"):
        curvefit(da, "t", decay)


def test_the_covariance_at_a_bound_is_xarrays_own():
    da = decays() + 0.05 * RNG.normal(size=(3, T.size))
    for bounds in ({"n0": (0, 2.5)}, {"n0": (0, xr.DataArray([2.5, 9.0, 9.0], {"x": da.x}, "x"))}):
        ours, theirs = (
            curvefit(da, "t", decay, bounds=bounds),
            da.curvefit("t", decay, bounds=bounds),
        )
        assert float(ours.curvefit_coefficients.sel(param="n0", x=0)) == 2.5
        xr.testing.assert_allclose(ours, theirs, rtol=1e-3)
    open_below = curvefit(da, "t", decay, bounds={"n0": (None, 2.5)})
    xr.testing.assert_allclose(open_below, curvefit(da, "t", decay, bounds={"n0": (-np.inf, 2.5)}))


def test_variables_of_other_dims_than_the_starts(chunked):
    da = decays()
    ds = xr.Dataset({"each": da, "one": da.isel(x=1, drop=True)})
    high = xr.DataArray([2.0, 4.0, 9.0], {"x": da.x}, "x")
    for more in ({"p0": {"n0": high}}, {"bounds": {"n0": (0, high)}}):
        ours = curvefit(chunked(ds, x=1), "t", decay, **more)
        theirs = ds.curvefit("t", decay, **more)
        for name in theirs:
            assert ours[name].dims == theirs[name].dims
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-9)
    with pytest.raises(ValueError, match=r"variable 'one' has the dims \('t',\).* along 'x'"):
        curvefit(ds, "t", decay, reduce_dims="x")


def test_mistakes_name_what_the_caller_named():
    da = decays()
    with pytest.raises(ValueError, match=r"'n0' starts at 5\.0"):
        curvefit(da, "t", decay, p0={"n0": 5}, bounds={"n0": (0, 2)})
    with pytest.raises(ValueError, match=r"those of 'tau' are 3\.0 and 1\.0"):
        curvefit(da, "t", decay, bounds={"tau": (3, 1)})
    with pytest.raises(TypeError, match="p0 must be a dict"):
        curvefit(da, "t", decay, p0=[1, 2])
    with pytest.raises(TypeError, match="bounds must be a dict"):
        curvefit(da, "t", decay, bounds=(0, 1))
    with pytest.raises(ValueError, match=r"bounds\['tau'\] must be a pair"):
        curvefit(da, "t", decay, bounds={"tau": 3})


@pytest.mark.parametrize("names", [("x", "lambda"), (0, 1), ("x", "y"), ("a b", "c")])
def test_names_that_are_no_words_of_python(names):
    out = curvefit(decays(), "t", lambda t, *p: decay(t, *p), param_names=names)
    np.testing.assert_allclose(out.curvefit_coefficients, [[3, 3], [5, 4], [2, 2.5]], rtol=1e-6)
    assert out.param.values.tolist() == list(names)
