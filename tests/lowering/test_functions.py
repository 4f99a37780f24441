"""Elementary functions on registers: units in the last place, and special values."""

import numpy as np
import pytest
import scipy.special
from jax import lax

from tests.lowering.mapped import mapped

WIDE = np.longdouble
TYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])
MILLION = 1_000_000


def spread(low, high):
    """From a uniform distribution."""
    return lambda rng: rng.uniform(low, high, MILLION)


def normal(scale):
    return lambda rng: scale * rng.normal(size=MILLION)


def logarithmic(low, high):
    return lambda rng: np.exp(rng.uniform(low, high, MILLION))


# The function, one of a wider type, arguments, and the largest error in units of the last place.
FUNCTIONS = {
    "exp": (lax.exp, np.exp, spread(-86, 88), 1.3),
    "expm1": (lax.expm1, np.expm1, normal(2.0), 1.8),
    "expm1-small": (lax.expm1, np.expm1, normal(1e-3), 1.0),
    "log": (lax.log, np.log, logarithmic(-80, 80), 1.0),
    "log-near-one": (lax.log, np.log, spread(0.5, 2.0), 1.0),
    "log1p": (lax.log1p, np.log1p, spread(-0.99, 5.0), 1.0),
    "log1p-small": (lax.log1p, np.log1p, normal(1e-3), 1.0),
    "sin": (lax.sin, np.sin, spread(-100, 100), 1.6),
    "sin-far": (lax.sin, np.sin, spread(-1e9, 1e9), 1.6),
    "cos": (lax.cos, np.cos, spread(-100, 100), 1.6),
    "tan": (lax.tan, np.tan, spread(-100, 100), 3.0),
    "sinh": (lax.sinh, np.sinh, normal(10.0), 2.0),
    "cosh": (lax.cosh, np.cosh, normal(10.0), 2.0),
    "tanh": (lax.tanh, np.tanh, normal(3.0), 2.0),
    "logistic": (lax.logistic, lambda x: 1 / (1 + np.exp(-x)), normal(10.0), 2.5),
    "atan": (lax.atan, np.arctan, normal(3.0), 1.0),
    "sqrt": (lax.sqrt, np.sqrt, logarithmic(-80, 80), 0.51),
    "rsqrt": (lax.rsqrt, lambda x: 1 / np.sqrt(x), logarithmic(-80, 80), 1.6),
    "cbrt": (lax.cbrt, np.cbrt, normal(1.0), 4.0),
}
needs_wide = pytest.mark.skipif(np.finfo(WIDE).eps > 1e-18, reason="no wider type to compare with")


def units(found, expected, dtype):
    """Errors in units of the last place."""
    spacing = np.spacing(np.maximum(np.abs(expected).astype(dtype), np.finfo(dtype).tiny))
    return np.abs(found.astype(WIDE) - expected) / spacing.astype(WIDE)


@needs_wide
@pytest.mark.long_but(*[f"{name}-f64" for name in FUNCTIONS], "exp-f32", "log-f32", "sin-f32")
@TYPES
@pytest.mark.parametrize("name", FUNCTIONS)
def test_units_in_the_last_place(name, dtype):
    function, reference, arguments, bound = FUNCTIONS[name]
    x = arguments(np.random.default_rng(0)).astype(dtype)
    x = x[: MILLION // 20] if name == "sin-far" else x
    errors = units(mapped(function, dtype)(x), reference(x.astype(WIDE)), dtype)
    assert np.max(errors) < bound


@pytest.mark.long_but("f64")
@needs_wide
@TYPES
def test_powers(dtype):
    rng = np.random.default_rng(0)
    x, y = logarithmic(-3, 3)(rng).astype(dtype), rng.uniform(-20, 20, MILLION).astype(dtype)
    power = mapped(lax.pow, dtype, dtype)
    assert np.max(units(power(x, y), x.astype(WIDE) ** y.astype(WIDE), dtype)) < 1.5
    # By integers, of numbers of either sign.
    k = rng.integers(-8, 9, MILLION).astype(dtype)
    x = (rng.choice([-1, 1], MILLION) * x).astype(dtype)
    assert np.max(units(power(x, k), x.astype(WIDE) ** k.astype(WIDE), dtype)) < 1.5


@needs_wide
@TYPES
def test_angles(dtype):
    y, x = np.random.default_rng(0).normal(size=(2, MILLION)).astype(dtype)
    found = mapped(lax.atan2, dtype, dtype)(y, x)
    assert np.max(units(found, np.arctan2(y.astype(WIDE), x.astype(WIDE)), dtype)) < 1.6


SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 2.0, 0.5, -3.0, 720.0, 1e-30]


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
@TYPES
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if "-" not in name])
def test_special_values(name, dtype):
    function, reference, *_ = FUNCTIONS[name]
    x = np.array(SPECIAL, dtype)
    expected = reference(x.astype(WIDE)).astype(dtype)
    np.testing.assert_allclose(mapped(function, dtype)(x), expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
@TYPES
@pytest.mark.parametrize("name", ["pow", "atan2"])
def test_special_pairs(name, dtype):
    function, reference = {"pow": (lax.pow, np.power), "atan2": (lax.atan2, np.arctan2)}[name]
    x, y = (v.ravel() for v in np.meshgrid(np.array(SPECIAL, dtype), np.array(SPECIAL, dtype)))
    expected = reference(x.astype(WIDE), y.astype(WIDE)).astype(dtype)
    subnormal = (expected != 0) & (np.abs(expected) < np.finfo(dtype).tiny)
    expected = np.where(subnormal, 0.0, expected).astype(dtype)
    np.testing.assert_allclose(
        mapped(function, dtype, dtype)(x, y), expected, rtol=4 * np.finfo(dtype).eps
    )


@TYPES
def test_a_far_element_changes_no_bit_of_the_others(dtype):
    x = np.random.default_rng(0).uniform(-100, 100, 64).astype(dtype)
    sine, far = mapped(lax.sin, dtype), x.copy()
    far[7] = 1e9
    others = np.arange(x.size) != 7
    np.testing.assert_array_equal(sine(far)[others], sine(x)[others])


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 2e-15), (np.float32, 1e-6)])
@pytest.mark.parametrize("low", [-30.0, 0.0, 100.0])
def test_digamma(low, dtype, tolerance):
    x = np.random.default_rng(0).uniform(low, low + 50.0, 50_000).astype(dtype)
    found, wide = mapped(lax.digamma, dtype)(x), x.astype(float)
    expected = scipy.special.digamma(wide)
    # Beside a pole the last digit of x is one of many digits of the result.
    lost = np.where(x < 0.5, np.abs(wide) * scipy.special.polygamma(1, wide), 0.0)
    bound = tolerance * np.maximum(1.0, np.abs(expected)) + np.finfo(dtype).eps * lost
    assert np.max(np.abs(found - expected) / bound) < 1.0


@TYPES
def test_special_values_of_digamma(dtype):
    x = np.array([0.0, -0.0, -1.0, -7.0, -np.inf, np.inf, np.nan, 1.0, 1e30], dtype)
    expected = [*[np.nan] * 5, np.inf, np.nan, -np.euler_gamma, np.log(np.array(1e30, dtype))]
    found = mapped(lax.digamma, dtype)(x)
    np.testing.assert_allclose(found, expected, rtol=8 * np.finfo(dtype).eps)
