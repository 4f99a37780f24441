"""Parameters keep the order in which they were given, and what has names is read by them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import FitResult, curve_fit, fit, least_squares_batch

T = np.linspace(0.0, 4.0, 30)
TRUTH = np.array([2.5, 1.3, 0.3])
Y = np.stack([2.5 * np.exp(-1.3 * T) + 0.3] * 2)
START = {"a": 1.0, "k": 0.5, "c": 0.1}
NAMES = ("a", "k", "c")


def decay(t, a, k, c, xp=jnp):
    return a * xp.exp(-k * t) + c


def four(t, a, k, c):
    return decay(t, a, k, c)


def columns(t, a, k, c):
    e = jnp.exp(-k * t)
    return jnp.stack([e, -a * t * e, jnp.ones_like(t)], axis=1)


@pytest.fixture(scope="module")
def named():
    return fit(four, T, Y, START)


def test_arrays_names_and_reports_are_in_the_order_given(named, tmp_path):
    assert named.names == tuple(named.params) == tuple(named.stderr) == NAMES
    np.testing.assert_allclose(named.x, [TRUTH] * 2, rtol=1e-6)
    np.testing.assert_allclose(list(named.params.values()), np.transpose([TRUTH] * 2), rtol=1e-6)
    assert list(named.to_dict())[:3] == list(NAMES)
    lines = [line.split()[0] for line in named.report(0).splitlines()[1:4]]
    assert lines == list(NAMES)
    plain = fit(four, T, Y, list(START.values()))
    np.testing.assert_allclose(named.cov, plain.cov, rtol=1e-6)
    named.save(tmp_path / "kept.npz")
    loaded = FitResult.load(tmp_path / "kept.npz")
    assert loaded.names == tuple(loaded.params) == NAMES
    np.testing.assert_array_equal(loaded.params["k"], named.params["k"])
    assert tuple(FitResult.concat([named, loaded]).params) == NAMES
    assert tuple(named[0].params) == NAMES


def test_positional_arguments_follow_the_order_given():
    result = fit(four, T, Y, START, fixed=[False, False, True])
    np.testing.assert_array_equal(result.params["c"], 0.1)
    result = fit(four, T, Y, START, bounds=([0, 0, 0], [5, 5, 0.2]))
    np.testing.assert_allclose(result.params["c"], 0.2)
    np.testing.assert_array_equal(result.active_mask, [[0, 0, 1]] * 2)
    result = fit(four, T, Y, START, jac=columns)
    np.testing.assert_allclose(result.x, [TRUTH] * 2, rtol=1e-6)
    result = fit(four, T, Y, START, starts=np.array([[2.5, 1.3, 0.3]]), max_nfev=3)
    np.testing.assert_allclose(result.x, [TRUTH] * 2, rtol=1e-6)
    scaled = fit(four, T, Y, START, x_scale=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(
        scaled.x, fit(four, T, Y, list(START.values()), x_scale=[1.0, 2.0, 3.0]).x
    )


def test_a_guess_keeps_its_order():
    result = fit(four, T, Y, lambda t, y: {"k": 1.0, "a": y[0], "c": y[-1]})
    assert result.names == tuple(result.params) == ("k", "a", "c")
    np.testing.assert_allclose(result.x, [TRUTH[[1, 0, 2]]] * 2, rtol=1e-6)
    held = fit(
        four, T, Y, lambda t, y: {"k": 1.5, "a": y[0], "c": y[-1]}, fixed=[True, False, False]
    )
    np.testing.assert_allclose(held.params["k"], 1.5)


def test_a_refit_takes_another_order(named):
    again = named.refit(where=[True, False], p0={"c": 0.2, "a": 2.0, "k": 1.0})
    assert again.names == NAMES
    np.testing.assert_allclose(again.x, [TRUTH] * 2, rtol=1e-6)


def test_a_jacobian_whose_columns_could_be_in_two_orders_raises():
    with pytest.raises(ValueError, match="in which of the two are jac's columns"):
        fit(four, T, Y, {"c": 0.1, "a": 1.0, "k": 0.5}, jac=columns)


def test_general_functions_keep_the_order():
    def residual(p, y):
        return decay(T, p["a"], p["k"], p["c"]) - y

    result = least_squares_batch(residual, START, Y, bounds=([0, 0, 0], [5, 5, 0.2]))
    assert result.names == tuple(result.params) == NAMES
    np.testing.assert_allclose(result.params["c"], 0.2)
    nested = {"k": {"z": 0.5, "b": [0.1]}, "a": 1.0}

    def of_nested(p, y):
        return decay(T, p["a"], p["k"]["z"], p["k"]["b"][0]) - y

    result = least_squares_batch(of_nested, nested, Y, fixed=[False, True, False])
    assert result.names == ("k.z", "k.b.0", "a")
    np.testing.assert_array_equal(result.params["k"]["b"][0], 0.1)
    assert list(result.params["k"]) == ["z", "b"]


def test_derived_and_band_are_of_the_right_parameters(named):
    values, errors = named.derived(lambda p: {"half": jnp.log(2.0) / p["k"], "a": p["a"]})
    np.testing.assert_allclose(values["half"], np.log(2) / 1.3, rtol=1e-6)
    np.testing.assert_allclose(errors["a"], named.stderr["a"], rtol=1e-6)
    plain = fit(four, T, Y, list(START.values()))
    np.testing.assert_allclose(named.band(), plain.band(), rtol=1e-6)


def test_names_of_a_model_with_defaults():
    result = fit(lambda t, a, k, c=0.3: decay(t, a, k, c), T, Y, [1.0, 1.0])
    assert result.names == ("a", "k")
    np.testing.assert_allclose(result.x, [TRUTH[:2]] * 2, rtol=1e-6)


# --- Series and DataFrames -----------------------------------------------------------


@pytest.fixture
def pd():
    return pytest.importorskip("pandas")


@pytest.mark.long_but("series")
@pytest.mark.parametrize("kind", ["series", "list", "dict"])
def test_bounds_and_what_is_fixed_are_read_by_the_names_of_a_series(pd, kind):
    start = pd.Series({"c": 0.1, "a": 1.0, "k": 0.5})
    p0 = {"series": start, "list": list(START.values()), "dict": START}[kind]
    low = pd.Series({"k": 0.0, "c": 0.0, "a": 0.0})
    high = pd.Series({"k": 5.0, "a": 5.0, "c": 0.2})
    held = fit(four, T, Y, p0, bounds=(low, high))
    np.testing.assert_allclose(held.x[:, held.names.index("c")], 0.2)
    fixed = pd.Series({"k": True, "a": False, "c": False})
    pinned = fit(four, T, Y, p0, fixed=fixed)
    np.testing.assert_allclose(pinned.x[:, pinned.names.index("k")], 0.5)


def test_a_series_is_read_by_its_names(pd, named):
    start = pd.Series({"c": 0.1, "a": 1.0, "k": 0.5})
    low = pd.Series({"k": 0.0, "c": 0.0, "a": 0.0})
    high = pd.Series({"k": 5.0, "a": 5.0, "c": 0.2})
    result = fit(four, T, Y, start)
    np.testing.assert_allclose([result.params[n] for n in NAMES], named.x.T, rtol=1e-6)
    popt, _ = curve_fit(four, T, Y[0], start)
    np.testing.assert_allclose(popt, TRUTH, rtol=1e-6)
    bounded, _ = curve_fit(four, T, Y[0], start, bounds=(low, high))
    np.testing.assert_allclose(bounded[2], 0.2)
    with pytest.raises(ValueError, match=r"p0 names 'rate'.*\('a', 'k', 'c'\)"):
        curve_fit(four, T, Y[0], pd.Series({"a": 1.0, "rate": 1.0, "c": 0.0}))
    with pytest.raises(ValueError, match="bounds names 'rate'"):
        fit(four, T, Y, START, bounds=(pd.Series({"rate": 0.0}), high))
    plain = curve_fit(four, T, Y[0], pd.Series([1.0, 0.5, 0.1]))[0]
    np.testing.assert_allclose(plain, TRUTH, rtol=1e-6)


def test_a_data_frame_has_rows_for_data_sets(pd):
    start = pd.DataFrame({"c": [0.1, 0.3], "a": [1.0, 2.5], "k": [0.5, 1.3]})
    result = fit(four, T, Y, start, max_nfev=1)
    np.testing.assert_array_equal(result.params["a"], start["a"])
    np.testing.assert_array_equal(result.params["k"], start["k"])
    high = pd.DataFrame({"k": [9.0, 9.0], "c": [0.2, 1.0], "a": [9.0, 9.0]})
    bounded = fit(four, T, Y, START, bounds=(-np.inf, high))
    np.testing.assert_allclose(bounded.params["c"], [0.2, 0.3], rtol=1e-6)


# --- named dims -------------------------------------------------------------------


@pytest.fixture
def image():
    xr = pytest.importorskip("xarray")
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.5, 2.0, (4, 4))
    y = 2.0 * np.exp(-rates[..., None] * T)
    return xr, rates, xr.DataArray(y, dims=("row", "column", "time"))


def two(t, a, k):
    return a * jnp.exp(-k * t)


def test_dims_in_another_order_are_aligned_by_name(image):
    xr, rates, y = image
    start = xr.DataArray(rates, dims=("row", "column")).transpose("column", "row")
    result = fit(two, T, y, {"a": 2.0, "k": start}, max_nfev=1)
    np.testing.assert_array_equal(result.params["k"], rates)
    stacked = np.stack([np.full((4, 4), 2.0), rates], axis=-1)
    stacked = xr.DataArray(stacked, dims=("row", "column", "what")).transpose(
        "what", "column", "row"
    )
    result = fit(two, T, y, stacked, max_nfev=1)
    np.testing.assert_array_equal(result.params[..., 1], rates)
    mask = np.random.default_rng(1).uniform(size=(4, 4, 30)) > 0.3
    spoiled = y.where(xr.DataArray(mask, dims=y.dims), 50.0)
    turned = xr.DataArray(mask, dims=y.dims).transpose("time", "column", "row")
    result = fit(two, T, spoiled, [1.0, 1.0], mask=turned)
    np.testing.assert_allclose(result.params[..., 1], rates, rtol=1e-6)
    sigma = xr.DataArray(np.where(mask, 1.0, np.inf), dims=y.dims).transpose(
        "column", "time", "row"
    )
    result = fit(two, T, spoiled, [1.0, 1.0], sigma=sigma)
    np.testing.assert_allclose(result.params[..., 1], rates, rtol=1e-6)
    upper = xr.DataArray(0.9 * rates, dims=("row", "column")).transpose("column", "row")
    result = fit(two, T, y, {"a": 1.0, "k": 0.1}, bounds={"k": (0.0, upper)})
    np.testing.assert_allclose(result.params["k"], 0.9 * rates, rtol=1e-6)


def test_named_x_is_read_by_its_dims(image):
    xr, rates, y = image
    gain = xr.DataArray(np.random.default_rng(2).uniform(1, 2, (4, 4)), dims=("row", "column"))
    times = (gain * xr.DataArray(T, dims="time")).transpose("time", "column", "row")
    faster = 2.0 * np.exp(-rates[..., None] * gain.values[..., None] * T)
    result = fit(two, times, xr.DataArray(faster, dims=y.dims), [1.0, 1.0])
    np.testing.assert_allclose(result.params[..., 1], rates, rtol=1e-6)
    rows = xr.DataArray(np.outer(T, [1, 2, 3, 4.0]), dims=("time", "row"))
    slower = 2.0 * np.exp(-rates[..., None] * rows.values.T[:, None])
    result = fit(two, rows, xr.DataArray(slower, dims=y.dims), [1.0, 1.0])
    np.testing.assert_allclose(result.params[..., 1], rates, rtol=1e-6)
    variables = xr.DataArray(np.stack([T, T**2], axis=1), dims=("time", "power"))
    line = xr.DataArray(np.tile(3 * T + T**2, (2, 1)), dims=("row", "time"))
    result = fit(lambda x, a, b: a * x[0] + b * x[1], variables, line, [1.0, 1.0])
    np.testing.assert_allclose(result.params, [[3.0, 1.0]] * 2, rtol=1e-6)
    popt, _ = curve_fit(lambda x, a, b: a * x[0] + b * x[1], variables, line[0], [1.0, 1.0])
    np.testing.assert_allclose(popt, [3.0, 1.0], rtol=1e-6)


def test_unknown_dims_are_refused(image):
    xr, rates, y = image
    with pytest.raises(ValueError, match=r"sigma has the dims \['x'\]"):
        fit(
            two, T, y, [1.0, 1.0], sigma=xr.DataArray(np.ones((4, 4, 1)), dims=("row", "x", "time"))
        )
    with pytest.raises(ValueError, match=r"p0\['k'\] has the dims \['x'\]"):
        fit(two, T, y, {"a": 1.0, "k": xr.DataArray(rates, dims=("row", "x"))})
