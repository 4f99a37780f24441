"""Series, tables and arrays of other libraries, in every front door, with both kinds of models."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import curve_fit, fit, leastsq

T = np.linspace(0.0, 4.0, 30)
Y = 2.5 * np.exp(-1.3 * T)


def decay(t, a, k, xp=jnp):
    return a * xp.exp(-k * t)


def of_jax(t, a, k):
    return decay(t, a, k)


def of_numpy(t, a, k):
    return decay(t, a, k, np)


def made(kind, values, name="t"):
    """Values in a container of another library."""
    if kind == "array":
        return values
    if kind == "pandas":
        return pytest.importorskip("pandas").Series(
            values, index=np.arange(len(values))[::-1] + 7, name=name
        )
    if kind == "nullable":
        return pytest.importorskip("pandas").Series(values, dtype="Float64")
    if kind == "polars":
        return pytest.importorskip("polars").Series(name, values)
    return pytest.importorskip("xarray").DataArray(values, dims="time", name=name)


KINDS = ("pandas", "nullable", "polars", "xarray")


@pytest.mark.long_but(
    "options0-of_jax-pandas",
    "options0-of_jax-nullable",
    "options0-of_jax-polars",
    "options0-of_jax-xarray",
    "options1-of_numpy-pandas",
    "options1-of_numpy-nullable",
    "options1-of_numpy-polars",
    "options1-of_numpy-xarray",
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", [of_jax, of_numpy])
@pytest.mark.parametrize("options", [{}, {"bounds": (0, 10)}])
def test_curve_fit(kind, model, options):
    x, y, sigma = made(kind, T), made(kind, Y, "y"), made(kind, 0.5 + T, "sigma")
    popt, _ = curve_fit(model, x, y, [1.0, 1.0], sigma, **options)
    np.testing.assert_allclose(popt, [2.5, 1.3], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", [of_jax, of_numpy])
def test_leastsq(kind, model):
    def residual(p, x, y):
        return model(x, *p) - y

    x, _ = leastsq(residual, [1.0, 1.0], args=(made(kind, T), made(kind, Y, "y")))
    np.testing.assert_allclose(x, [2.5, 1.3], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_fit(kind):
    x, y, sigma = made(kind, T), made(kind, Y, "y"), made(kind, 0.5 + T, "sigma")
    result = fit(of_jax, x, y, [1.0, 1.0], sigma=sigma)
    np.testing.assert_allclose(result.params, [2.5, 1.3], rtol=1e-6)
    np.testing.assert_allclose(result.predict(x), Y, rtol=1e-6)


def test_a_float32_series_has_differences_of_float64():
    pd = pytest.importorskip("pandas")
    x = pd.Series(T).astype("float32")
    popt, _ = curve_fit(of_numpy, x, Y, [1.0, 1.0])
    np.testing.assert_allclose(popt, [2.5, 1.3], rtol=1e-5)


def test_a_model_may_use_what_a_series_has():
    pd = pytest.importorskip("pandas")
    popt, _ = curve_fit(lambda t, a, k: of_numpy(t.to_numpy(), a, k), pd.Series(T), Y, [1.0, 1.0])
    np.testing.assert_allclose(popt, [2.5, 1.3], rtol=1e-6)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("read", [lambda d: d["t"], lambda d: d.t, lambda d: d["t"].to_numpy()])
def test_a_table_as_x(xp, read):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"t": T, "gain": 1.0 + T})

    def model(d, a, k):
        return decay(read(d), a, k, xp)

    popt, _ = curve_fit(model, table, Y, [1.0, 1.0])
    np.testing.assert_allclose(popt, [2.5, 1.3], rtol=1e-6)


def test_what_cannot_be_used_is_said_in_a_line():
    pd = pytest.importorskip("pandas")
    for wrong in (pd.Series(["a"] * 30), pd.Series([{}] * 30)):
        with pytest.raises(TypeError, match="xdata must be an array of real numbers") as error:
            fit(of_jax, wrong, Y, [1.0, 1.0])
        assert len(str(error.value)) < 200


def test_our_warning_is_scipys_where_that_is_imported():
    code = """
import sys, warnings
import numpy as np, jaxlsq
def warned():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jaxlsq.curve_fit(lambda x, a, b: a + b * x, [1.0, 2.0], [1.0, 3.0], [1.0, 1.0])
    return [w.category for w in caught if issubclass(w.category, jaxlsq.OptimizeWarning)]
assert warned() == [jaxlsq.OptimizeWarning]
assert "scipy.optimize" not in sys.modules
from scipy.optimize import OptimizeWarning
category, = warned()
assert issubclass(category, OptimizeWarning) and issubclass(category, jaxlsq.OptimizeWarning)
"""
    pytest.importorskip("scipy.optimize")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_what_is_no_array_of_numbers_says_what_to_do():
    xr = pytest.importorskip("xarray")
    days = np.arange("2020-01-01", "2020-01-31", dtype="datetime64[D]")
    for values, words in (
        (None, "got None"),
        ({"y": Y}, "got dict"),
        (days, "Pass numbers in a unit"),
        (days - days[0], r"such as \(x\) / timedelta64"),
        (Y + 0j, "real and imaginary parts as two halves"),
        (Y.astype(object), r"say of which type: \.astype\(float\)"),
        (Y.astype(str), "Make numbers of the texts"),
        (made("pandas", Y.astype(str)), "got dtype object"),
        (xr.Dataset({"first": ("t", Y), "second": ("t", Y)}), r"\['first', 'second'\]; choose one"),
    ):
        with pytest.raises(TypeError, match=f"ydata .*{words}"):
            fit(of_jax, T, values, [1.0, 1.0])
    with pytest.raises(TypeError, match="Pass numbers in a unit"):
        fit(of_jax, days, Y, [1.0, 1.0])


def test_half_precision_of_numpy():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    half = Y.astype(ml_dtypes.bfloat16)
    result = fit(of_jax, T.astype(np.float32), half, [1.0, 1.0])
    expected = fit(of_jax, T.astype(np.float32), half.astype(np.float32), [1.0, 1.0])
    np.testing.assert_allclose(result.x, expected.x, rtol=1e-6)
    assert np.isfinite(result.residuals).all()
