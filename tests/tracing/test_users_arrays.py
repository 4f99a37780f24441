"""The user's own arrays after a fit, and after one that failed: they are what they were."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxlsq import curve_fit, fit, least_squares, least_squares_batch, leastsq

T = np.linspace(0.1, 4.0, 30)
P0 = [1.0, 1.0]


def decay(t, a, k):
    return a * jnp.exp(-k * t)


def fails_by_numpy(value):
    return np.abs(value)


def fails_by_if(value):
    return value if value[0] > 0 else -value


def fails_by_shape(value):
    return value + np.ones(7)


def fails_by_raise(value):
    raise RuntimeError("of the user's own")


def is_complex(value):
    return value + 1j


def good(value):
    return value


KINDS = [good, fails_by_numpy, fails_by_if, fails_by_shape, fails_by_raise, is_complex]


def jitted(function):
    return jax.jit(function)


def plain(function):
    return function


def by_leastsq(y, x, last, wrap):
    leastsq(wrap(lambda p: last(decay(x, *p) - y)), P0)


def by_curve_fit(y, x, last, wrap):
    curve_fit(wrap(lambda t, a, k: last(decay(x, a, k) - y)), T, np.zeros(30), P0)


def by_bounded_curve_fit(y, x, last, wrap):
    model = wrap(lambda t, a, k: last(decay(x, a, k) - y))
    curve_fit(model, T, np.zeros(30), P0, bounds=(0, 9))


def by_fit(y, x, last, wrap):
    fit(wrap(lambda t, a, k: last(decay(x, a, k) - y)), T, np.zeros((2, 30)), P0)


def by_fit_in_float32(y, x, last, wrap):
    zeros = np.zeros((2, 30), np.float32)
    fit(wrap(lambda t, a, k: last(decay(x, a, k) - y)), T.astype(np.float32), zeros, P0)


def by_guess(y, x, last, wrap):
    guess = wrap(lambda t, z: (1.0 + 0.0 * last(y - z)[0], 1.0 + 0.0 * x[0]))
    fit(decay, T, np.stack([2 * np.exp(-T)] * 2), guess)


def by_least_squares(y, x, last, wrap):
    least_squares(wrap(lambda p: last(decay(x, *p) - y)), jnp.ones(2))


def by_batch(y, x, last, wrap):
    fun = wrap(lambda p, z: last(decay(x, *p) - y + 0 * z))
    least_squares_batch(fun, P0, np.zeros((2, 30)))


def by_loss(y, x, last, wrap):
    def rho(z):
        weight = 1.0 + 0.0 * last(x - y) * z
        return z * weight, jnp.ones_like(z) * weight, 0.0 * z

    curve_fit(decay, T, 2 * np.exp(-T), P0, method="trf", loss=wrap(rho))


DOORS = [
    *(by_leastsq, by_curve_fit, by_bounded_curve_fit, by_fit, by_fit_in_float32),
    *(by_guess, by_least_squares, by_batch, by_loss),
]


def check(*arrays):
    """Each array in float32 and float64, with a correct value."""
    gc.collect()
    for array in arrays:
        for wide in (False, True):
            with jax.enable_x64(wide):
                got = jnp.ones(30) - array
                assert got.dtype == (np.float64 if wide else np.float32)
                np.testing.assert_allclose(got, 1 - array, rtol=0, atol=1e-15 if wide else 1e-6)


# Each door with one error, and one with all that can happen.
SHORT = [
    f"{door.__name__}-{last.__name__}-plain"
    for door in DOORS
    for last in KINDS
    if last is fails_by_numpy or door is by_fit
]
SHORT.append("by_fit-fails_by_numpy-jitted")


@pytest.mark.long_but(*SHORT)
@pytest.mark.parametrize("wrap", [plain, jitted])
@pytest.mark.parametrize("last", KINDS)
@pytest.mark.parametrize("door", DOORS)
def test_arrays_are_what_they_were(door, last, wrap):
    y, x = 2.5 * np.exp(-1.3 * T) + 0.1, T.copy()
    error = None
    try:
        door(y, x, last, wrap)
    except Exception as raised:  # what it is does not matter here
        error = raised  # held: a notebook keeps the last one
    check(y, x)
    del error


@pytest.mark.parametrize("last", [good, fails_by_numpy])
def test_scipy_goes_on_with_the_same_array(last):
    x, y = T.copy(), 2.5 * np.exp(-1.3 * T)
    leastsq(lambda p: last(decay(x, *p) - y), P0)
    popt, _ = scipy.optimize.curve_fit(lambda t, a, k: decay(x, a, k), T, y, P0, epsfcn=1e-6)
    np.testing.assert_allclose(popt, [2.5, 1.3], rtol=1e-3)


def test_a_jitted_model_goes_on_after_a_fit():
    x, y = T.copy(), 2.5 * np.exp(-1.3 * T)

    @jax.jit
    def model(p):
        return p[0] * jnp.exp(-p[1] * x)

    p, _ = leastsq(lambda p: model(p) - y, P0)
    values = model(jnp.asarray(p))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, y, rtol=1e-5)
    np.testing.assert_allclose(leastsq(lambda p: model(p) - y, P0)[0], [2.5, 1.3], rtol=1e-12)


def test_an_interrupted_trace_leaves_nothing():
    y = np.ones(30)

    def model(p):
        jnp.ones(30) - y
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leastsq(model, P0)
    check(y)


@pytest.mark.long_but("leastsq-jitted", "curve_fit-plain", "fit-jitted")
@pytest.mark.parametrize("wrap", [plain, jitted])
@pytest.mark.parametrize("door", ["leastsq", "curve_fit", "fit"])
def test_data_that_jitted_code_holds_in_float32_are_float64_in_a_fit(door, wrap):
    if (door, wrap) == ("leastsq", jitted) and jax.__version_info__ < (0, 10, 2):
        pytest.skip("JAX itself can't call such a function with 64 bits")
    x = 2458000.0 + np.linspace(0.0, 1.0, 30)
    y = 2.0 * np.sin(9.0 * (x - 2458000.3)) + 0.5
    held = jax.jit(lambda a: a * x + y)
    held(1.0)  # from here on JAX has both as float32

    @wrap
    def model(t, a, w):
        return a * jnp.sin(w * (x - 2458000.3)) + 0.5

    for _ in range(2):
        if door == "leastsq":
            p = leastsq(wrap(lambda p: model(x, *p) - y), [1.5, 8.7])[0]
        elif door == "curve_fit":
            p = curve_fit(model, x, y, [1.5, 8.7])[0]
        else:
            p = fit(model, x, y[None], [1.5, 8.7]).x[0]
        np.testing.assert_allclose(p, [2, 9], rtol=1e-8)
    assert held(1.0).dtype == np.float32
