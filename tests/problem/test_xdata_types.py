"""Types of what is given: integers are floats, and nothing wide is rounded to what is narrow."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import curve_fit, fit, least_squares, least_squares_batch, leastsq

INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)


def decay(x, a, tau):
    return a * jnp.exp(-x / tau)


SHORT = [
    *(f"shared-{kind.__name__}" for kind in INTEGERS),
    *(f"{form}-{kind}" for form in ("each", "list", "pytree") for kind in ("uint8", "int16")),
]


@pytest.mark.long_but(*SHORT)
@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("form", ["shared", "each", "list", "pytree"])
def test_integer_x_does_not_wrap(kind, form):
    x = np.arange(0, 100, 5).astype(kind)
    y = np.stack([7 * np.exp(-x.astype(float) / 20.0)] * 3)
    given = {"shared": x, "each": np.stack([x] * 3), "list": [x] * 3, "pytree": (x,)}[form]
    model = (lambda x, a, tau: decay(x[0], a, tau)) if form == "pytree" else decay
    result = fit(model, given, list(y) if form == "list" else y, [5.0, 30.0])
    np.testing.assert_allclose(result.params, [[7.0, 20.0]] * 3, rtol=1e-7)
    there = (x,) if form == "pytree" else x
    np.testing.assert_allclose(result.predict(there), y, rtol=1e-7)
    np.testing.assert_allclose(result.predict(), y, rtol=1e-7)


@pytest.mark.long
def test_powers_of_integer_x():
    x = np.arange(0, 30000, 1000).astype(np.int16)
    y = 3 + 0.5 * x.astype(float)[None] ** 2
    result = fit(lambda x, a, b: a + b * x**2, x, y, [1.0, 1.0])
    np.testing.assert_allclose(result.params[0], [3.0, 0.5], rtol=1e-6)
    popt, _ = curve_fit(lambda x, a, b: a + b * x**2, x, y[0], [1.0, 1.0])
    np.testing.assert_allclose(popt, [3.0, 0.5], rtol=1e-6)


def test_boolean_x_is_zero_and_one():
    x = np.arange(20) % 3 == 0
    y = np.stack([2.0 + 3.0 * x] * 2)
    np.testing.assert_allclose(fit(lambda x, a, b: a - b * (-x), x, y, [1, 1]).params[1], [2, 3])


def test_an_index_is_spelled_astype_int():
    table = jnp.asarray(np.random.default_rng(0).normal(size=8))
    x = np.arange(20) % 8
    y = 2.5 * np.asarray(table)[x][None] + 1.0
    result = fit(lambda x, a, c: a * table[x.astype(int)] + c, x, y, [1.0, 0.0])
    np.testing.assert_allclose(result.params[0], [2.5, 1.0], rtol=1e-5)
    np.testing.assert_allclose(result.predict(x), y, rtol=1e-6)


def test_integers_in_a_guess_and_in_a_refit():
    x = np.arange(0, 200, 10).astype(np.uint8)
    y = np.stack([5.0 + 0.3 * x.astype(float) ** 2] * 2)

    def guess(x, y):  # 190**2 is beyond uint8
        return y[0], (y[-1] - y[0]) / x[-1] ** 2

    result = fit(lambda x, a, b: a + b * x**2, x, y, guess)
    np.testing.assert_allclose(result.params, [[5.0, 0.3]] * 2, rtol=1e-9)
    again = result.refit(where=[True, False], p0=guess)
    np.testing.assert_allclose(again.params, [[5.0, 0.3]] * 2, rtol=1e-9)


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_in_the_data_of_a_general_residual(kind):
    x = np.tile(np.arange(0, 100, 5).astype(kind), (2, 1))
    y = 7 * np.exp(-x.astype(float) / 20.0)
    result = least_squares_batch(
        lambda p, d: decay(d["x"], *p) - d["y"], [5.0, 30.0], {"x": x, "y": y}
    )
    np.testing.assert_allclose(result.params, [[7.0, 20.0]] * 2, rtol=1e-7)
    squares = least_squares_batch(lambda p, d: p[0] * d**2 - 4.0 * d**2, [1.0], x)
    np.testing.assert_allclose(squares.params, [[4.0]] * 2, rtol=1e-7)


# --- wide x, narrow y ------------------------------------------------------------


def transit(t, depth, centre, width, xp=jnp):
    return 1 - depth * xp.exp(-((t - centre) ** 2) / (2 * width**2))


DAY = 58_010.0
TIMES = DAY + np.linspace(0.6, 0.8, 300)
FLUX = transit(TIMES, 0.01, DAY + 0.7, 0.02, np).astype(np.float32)
START = [0.008, DAY + 0.69, 0.03]


@pytest.mark.parametrize("form", ["shared", "each", "list"])
def test_wide_x_with_narrow_y_is_fitted_in_float64(form):
    y = np.stack([FLUX] * 2)
    x = {"shared": TIMES, "each": np.stack([TIMES] * 2), "list": [TIMES] * 2}[form]
    result = fit(transit, x, list(y) if form == "list" else y, START)
    exact = fit(transit, TIMES, y.astype(float), START)
    assert result.x.dtype == np.float64
    np.testing.assert_allclose(result.params, exact.params, rtol=1e-9)
    np.testing.assert_allclose(result.params[:, [0, 2]], [[0.01, 0.02]] * 2, rtol=1e-3)
    np.testing.assert_allclose(curve_fit(transit, TIMES, FLUX, START)[0], exact.params[0])


def test_ragged_wide_x_with_narrow_y():
    result = fit(transit, [TIMES, TIMES[:-40]], [FLUX, FLUX[:-40]], START)
    np.testing.assert_allclose(result.params[:, [0, 2]], [[0.01, 0.02]] * 2, rtol=1e-3)


def test_wide_data_of_a_general_residual():
    data = {"t": np.stack([TIMES] * 2), "y": np.stack([FLUX] * 2)}
    result = least_squares_batch(lambda p, d: transit(d["t"], *p) - d["y"], START, data)
    assert result.x.dtype == np.float64
    np.testing.assert_allclose(result.params[:, [0, 2]], [[0.01, 0.02]] * 2, rtol=1e-3)


def line(x, a, b):
    return a + b * x


@pytest.mark.parametrize(
    ("x", "y", "sigma", "expected"),
    [
        (np.arange(20), np.float32, None, np.float32),  # each value is exact in float32
        (np.arange(20.0), np.float32, None, np.float32),
        (np.arange(20.0) / 3, np.float32, None, np.float64),
        ((np.arange(20.0) / 3).astype(np.float32), np.float32, None, np.float32),
        (np.arange(20) + 2**40, np.float32, None, np.float64),
        (np.arange(20).astype(np.int16), np.float32, None, np.float32),
        (np.arange(20), np.float64, None, np.float64),
        (np.arange(20), np.int32, None, np.float64),
        (np.arange(20), np.uint8, None, np.float64),
        (np.arange(20, dtype=np.float32), np.int16, None, np.float32),
        (np.arange(20, dtype=np.float32), np.int32, None, np.float64),
        (np.arange(20), np.float16, None, np.float32),
        (np.arange(20), np.float32, 0.1, np.float32),
        (np.arange(20), np.float32, np.full((2, 20), 0.1, np.float32), np.float32),
        (np.arange(20), np.float32, np.full((2, 20), 0.1), np.float64),
        (np.arange(20), np.float32, np.full(20, 0.5), np.float32),
        (np.tile(np.arange(20), (2, 1)), np.float32, None, np.float64),  # read in blocks
    ],
)
def test_the_type_is_that_of_all_that_is_given(x, y, sigma, expected):
    ones = np.tile(np.arange(20), (2, 1)).astype(y)
    # The data are exact, which polish='auto' would go on with in float64.
    assert fit(line, x, ones, [1.0, 1.0], sigma=sigma, polish=None).x.dtype == expected


def test_predict_is_as_wide_as_its_x():
    y = np.stack([np.arange(20, dtype=np.float32)] * 2)
    model = lambda t, a: a + (t - DAY) * 0  # noqa: E731
    result = fit(model, np.arange(20), y - y + 1, [0.5], polish=None)
    assert result.predict(np.arange(3)).dtype == np.float32
    far = fit(lambda t, a: a + t - DAY, np.arange(20), y - DAY, [0.5])
    at = DAY + np.array([0.125, 0.25])
    np.testing.assert_allclose(far.predict(at) - far.params[0, 0], [[0.125, 0.25]] * 2, atol=0.2)
    assert far.predict(at).dtype == np.float64


# --- halves -----------------------------------------------------------------------


def halves(kind):
    """x, y, a start and a model, and what float64 finds."""
    x = np.linspace(0, 4, 20)
    y = jnp.asarray(np.stack([3.0 * np.exp(-0.7 * x)] * 2), kind)
    model = lambda x, a, k: a * jnp.exp(-k * x)  # noqa: E731
    return x, y, jnp.ones(2, kind), model, fit(model, x, np.asarray(y, float), [1.0, 1.0])


@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
def test_half_precision_starts_and_data(kind):
    x, y, p0, model, expected = halves(kind)
    result = fit(model, x.astype(np.float32), y, p0)
    assert result.x.dtype == np.float32
    np.testing.assert_allclose(result.params, expected.params, rtol=1e-3)
    popt, _ = curve_fit(model, x, y[0], p0)
    np.testing.assert_allclose(popt, expected.params[0], rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
def test_half_precision_starts_and_data_of_residuals(kind):
    x, y, p0, model, expected = halves(kind)
    single = np.asarray(y[0], np.float32)
    found = leastsq(lambda p: model(x, *p) - single, p0)[0]
    np.testing.assert_allclose(found, expected.params[0], rtol=1e-6)
    many = least_squares_batch(lambda p, d: model(x.astype(np.float32), *p) - d, p0, y)
    np.testing.assert_allclose(many.params, expected.params, rtol=1e-3)


@pytest.mark.long_but("bfloat16")
@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
def test_half_precision_starts_in_a_program_are_fitted_in_float32(kind):
    x = jnp.linspace(0, 4, 20)
    y = 3.0 * jnp.exp(-0.7 * x)
    result = least_squares(lambda p: p[0] * jnp.exp(-p[1] * x) - y, jnp.ones(2, kind))
    assert result.x.dtype == kind  # as x0 was given, rounded at the end
    np.testing.assert_array_equal(result.x, jnp.array([3.0, 0.7], kind))
    assert result.cost.dtype == np.float32
    assert result.cost < 1e-8
