"""Dependence on the parameters that a trace cannot see goes the way of Python."""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxlsq
from jaxlsq import curve_fit, leastsq
from jaxlsq.tracing.cache import PROGRAMS

T = np.linspace(0.0, 4.0, 40)
Y = 2.0 * np.exp(-0.8 * T) + 0.1 * np.sin(5 * T)


def expected():
    return scipy.optimize.leastsq(lambda p: p[0] * np.exp(-p[1] * T) - Y, [1.0, 1.0])[0]


def by_float(p):
    try:
        a = float(p[0])
    except Exception:
        a = 1.0
    return a * jnp.exp(-p[1] * T) - Y


def by_float_of_the_other(p):
    try:
        k = float(p[1])
    except TypeError:
        k = 0.9
    return p[0] * jnp.exp(-k * T) - Y


def partly(p):
    """Both are seen, and one of them in another place too."""
    try:
        a = float(p[0])
    except Exception:
        a = 1.0
    return 0.5 * (a + p[0]) * jnp.exp(-p[1] * T) - Y


@lru_cache
def rate(k):
    return float(k)


def by_lru_cache(p):
    try:
        k = rate(p[1])
    except Exception:
        k = 1.0
    return p[0] * jnp.exp(-k * T) - Y


HIDING = [by_float, by_float_of_the_other, partly, by_lru_cache]


@pytest.fixture(autouse=True)
def empty_cache():
    jaxlsq.clear_cache()


@pytest.mark.long_but("partly", "by_lru_cache")
@pytest.mark.parametrize("residual", HIDING)
def test_leastsq(residual):
    for _ in range(2):
        x, ier = leastsq(residual, [1.0, 1.0])
        assert ier in (1, 2, 3)
        np.testing.assert_allclose(x, expected(), rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0, 9)])
@pytest.mark.parametrize("residual", HIDING)
def test_curve_fit(residual, bounds):
    popt, _ = curve_fit(lambda t, a, k: residual((a, k)) + Y, T, Y, [1.0, 1.0], bounds=bounds)
    np.testing.assert_allclose(popt, expected(), rtol=1e-6)


def test_after_an_honest_function_of_the_same_structure():
    def honest(p):
        p[0]  # is read, as it is in the other one
        return 1.0 * jnp.exp(-p[1] * T) - Y + 0 * p[0]

    np.testing.assert_allclose(leastsq(honest, [1.0, 1.0])[0][0], 1.0)

    def hiding(p):
        try:
            a = float(p[0])
        except Exception:
            a = 1.0
        return a * jnp.exp(-p[1] * T) - Y + 0 * p[0]

    np.testing.assert_allclose(leastsq(hiding, [1.0, 1.0])[0], expected(), rtol=1e-6)
    assert len(PROGRAMS) == 2  # that of both functions, and the steps of fits on the host


def test_a_counter():
    calls = []

    def residual(p):
        calls.append(1)
        shift = 0.0 if len(calls) == 1 else 1.0  # of the first call alone
        return p[0] * jnp.exp(-p[1] * T) - Y + shift

    def always(p):
        return p[0] * np.exp(-p[1] * T) - Y + 1.0

    x, _ = leastsq(residual, [1.0, 1.0])
    reference = scipy.optimize.leastsq(always, [1.0, 1.0])[0]
    np.testing.assert_allclose(x, reference, rtol=1e-4)


def test_an_honest_function_is_called_in_python_for_its_first_program_only():
    calls = []

    def make(y):
        def residual(p):
            calls.append(1)
            return p[0] * jnp.exp(-p[1] * T) - y

        return residual

    leastsq(make(Y), [1.0, 1.0])
    first = len(calls)
    assert first == 3
    for scale in (2.0, 3.0):
        x, _ = leastsq(make(scale * Y), [1.0, 1.0])
        np.testing.assert_allclose(x, [scale * expected()[0], expected()[1]], rtol=1e-6)
    assert len(calls) == first + 2


@pytest.mark.parametrize("far", [0.0, 1e8])
def test_rounding_is_no_mismatch(far):
    y = Y + far
    leastsq(lambda p: p[0] * jnp.exp(-p[1] * T) + far - y, [1.0, 1.0])
    (program,) = PROGRAMS._values.values()
    assert list(program.agreed._values.values()) == [True]


@pytest.mark.long_but("None")
@pytest.mark.parametrize("method", [None, "jacfwd", "jacrev"])
def test_an_exact_linear_fit_is_no_mismatch(method):
    """Its first step leads to residuals that are rounding, which no two compilers share."""
    y = 2.0 + 3.0 * T
    x, _, info, _, ier = leastsq(
        lambda p: p[0] + p[1] * T - y, [1.0, 1.0], Dfun=method, full_output=True
    )
    assert "njev" in info  # of a compiled fit
    assert ier in (1, 2, 3, 4)
    np.testing.assert_allclose(x, [2.0, 3.0], rtol=1e-12)


@pytest.mark.long_but("by_float-jacfwd", "partly-jacrev", "by_lru_cache-jacrev")
@pytest.mark.parametrize("method", ["jacfwd", "jacrev"])
@pytest.mark.parametrize("residual", HIDING)
def test_a_derivative_of_what_is_hidden_is_refused(residual, method):
    for _ in range(2):
        with pytest.raises(TypeError, match=rf"Dfun='{method}' needs .* Dfun=None or '2-point'"):
            leastsq(residual, [1.0, 1.0], Dfun=method)


def test_a_counter_of_a_loop_makes_no_new_function():
    """A function that JAX can't trace is tried once, though it reads another integer each time."""
    traced, rows = [], np.stack([Y, 2 * Y, 3 * Y])

    def fitted(i):
        def residual(p):
            traced.append(type(p) is not np.ndarray)
            return p[0] * np.exp(-p[1] * T) - rows[i]

        return leastsq(residual, [1.0, 1.0])[0]

    fits = [fitted(i) for i in range(3)]
    assert sum(traced) == 1
    np.testing.assert_allclose(fits[2][0] / fits[0][0], 3.0, rtol=1e-5)


def test_an_integer_that_chooses_the_function_is_seen():
    functions = [np.exp, jnp.exp]

    def evaluations(i):
        def residual(p):
            return p[0] * functions[i](-p[1] * T) - Y

        return leastsq(residual, [1.0, 1.0], full_output=True)[2]["nfev"]

    assert evaluations(0) > evaluations(1)
