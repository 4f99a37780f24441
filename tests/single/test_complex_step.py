"""jac='cs': the complex step of functions in NumPy, and the exact derivative of JAX's."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import curve_fit as scipy_curve_fit

from jaxlsq import curve_fit, fit, least_squares, leastsq

T = np.linspace(0.1, 4.0, 40)
Y = 2.5 * np.exp(-1.3 * T) + 0.3 + 0.01 * np.random.default_rng(0).normal(size=T.size)
P0 = [1.0, 1.0, 0.0]


def decay(t, a, k, c):
    return a * np.exp(-k * t) + c


def traced(t, a, k, c):
    return a * jnp.exp(-k * t) + c


def derivative(p, *_):
    e = np.exp(-p[1] * T)
    return np.stack([e, -p[0] * T * e, np.ones_like(T)], axis=1)


def test_is_exact_in_leastsq():
    by_step = leastsq(lambda p: decay(T, *p) - Y, P0, Dfun="cs", full_output=True)
    by_hand = leastsq(lambda p: decay(T, *p) - Y, P0, Dfun=derivative, full_output=True)
    np.testing.assert_allclose(by_step[0], by_hand[0], rtol=1e-13)
    np.testing.assert_allclose(by_step[1], by_hand[1], rtol=1e-11)
    # n evaluations for each Jacobian, which were by_hand's.
    assert by_step[2]["nfev"] == by_hand[2]["nfev"] + 3 * by_hand[2]["njev"]
    assert by_step[4] == by_hand[4]


@pytest.mark.parametrize("sigma", [None, 0.5 + T, np.diag(0.5 + T)])
@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), ([0, 0, 0.1], [2.4, 5, 1])])
def test_as_scipys_in_curve_fit(sigma, bounds):
    ours = curve_fit(decay, T, Y, [*P0[:2], 0.2], sigma, bounds=bounds, method="trf", jac="cs")
    theirs = scipy_curve_fit(
        decay, T, Y, [*P0[:2], 0.2], sigma, bounds=bounds, method="trf", jac="cs"
    )
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-40, 1.0, 1e40])
def test_parameters_of_any_size(scale):
    x, ier = leastsq(lambda p: decay(T, *p / scale) - Y, np.array(P0) * scale, Dfun="cs")
    expected, _ = leastsq(lambda p: decay(T, *p) - Y, P0, Dfun=derivative)
    assert ier in (1, 2, 3)
    np.testing.assert_allclose(x / scale, expected, rtol=1e-7)


BY_JAX = {
    "leastsq": lambda jac: leastsq(lambda p: traced(T, *p) - Y, P0, Dfun=jac)[0],
    "curve_fit": lambda jac: curve_fit(traced, T, Y, P0, jac=jac)[0],
    "fit": lambda jac: fit(traced, T, Y, P0, jac=jac).x,
    "least_squares": lambda jac: np.asarray(
        least_squares(lambda p: traced(jnp.asarray(T), *p) - Y, np.array(P0), jac=jac).x
    ),
}


@pytest.mark.long_but("fit")
@pytest.mark.parametrize("door", BY_JAX)
def test_is_jacfwd_where_jax_traces(door):
    np.testing.assert_array_equal(BY_JAX[door]("cs"), BY_JAX[door]("jacfwd"))


def test_says_where_it_is_not_possible():
    def real(p):
        return np.real(decay(T, *p)) - Y

    with pytest.raises(TypeError, match=r"jac='cs' .* complex values .* Use '2-point'"):
        leastsq(real, P0, Dfun="cs")
