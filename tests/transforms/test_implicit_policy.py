"""Derivatives of fits that failed or are singular, and by Gauss-Newton."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import Status, least_squares
from tests.decays import T, Y

pytestmark = pytest.mark.usefixtures("x64")

BAD = 3
GOOD = np.arange(len(Y)) != BAD


def rate(y, shift, **options):
    """The rate of a decay whose time axis is shifted, and why the fit ended."""
    solution = least_squares(
        lambda p: p[0] * jnp.exp(-p[1] * (T - shift)) + 0.1 * shift**2 - y, jnp.ones(2), **options
    )
    return solution.x[1], solution.status


def gradients(y, **options):
    """Of the sum of all rates, by the data and by the shift they share; forward too."""

    def total(y, shift):
        rates, status = jax.vmap(lambda row: rate(row, shift, **options))(y)
        return jnp.sum(rates), status

    (by_data, by_shift), status = jax.grad(total, (0, 1), has_aux=True)(y, 0.1)
    _, forward = jax.jvp(lambda shift: total(y, shift)[0], (0.1,), (1.0,))
    return by_data, by_shift, forward, status


@functools.cache
def good_gradients():
    return gradients(Y[GOOD])


def spoiled(value):
    y = Y.copy()
    y[BAD, 4] = value
    return y


@pytest.mark.long
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("policy", ["zero", "pinv"])
def test_a_fit_without_a_solution_spoils_no_sum(value, policy):
    by_data, by_shift, forward, status = gradients(spoiled(value), on_singular=policy)
    assert status[BAD] == Status.NONFINITE_START
    expected_data, expected_shift, *_ = good_gradients()
    np.testing.assert_array_equal(by_data[BAD], 0.0)
    np.testing.assert_allclose(by_data[GOOD], expected_data, rtol=1e-12)
    np.testing.assert_allclose([by_shift, forward], expected_shift, rtol=1e-10)


@pytest.mark.long
def test_nan_where_it_is_asked_for():
    by_data, by_shift, forward, _ = gradients(spoiled(np.nan), on_singular="nan")
    assert np.all(np.isnan(by_data[BAD]))
    np.testing.assert_allclose(by_data[GOOD], good_gradients()[0], rtol=1e-12)
    assert np.isnan(by_shift)
    assert np.isnan(forward)


@pytest.mark.long
def test_a_fit_that_did_not_converge_has_no_derivative():
    by_data, _, _, status = gradients(Y, max_nfev=5)
    cut = status == Status.MAX_NFEV
    assert 0 < cut.sum() < len(Y)
    np.testing.assert_array_equal(np.any(by_data != 0, axis=1), ~cut)


def test_a_model_that_is_not_finite_everywhere():
    """Its derivatives are NaN too, and must not arrive as 0 * NaN."""

    def root(y, power):
        return least_squares(lambda p: jnp.sqrt(p[0] - y) ** power - 1.0, jnp.ones(1)).x[0]

    y = jnp.array([[0.5, 0.2], [2.0, 0.1]])  # the second starts at the root of a negative number
    by_data, by_power = jax.grad(lambda *a: jnp.sum(jax.vmap(root, (0, None))(*a)), (0, 1))(y, 2.0)
    assert np.all(by_data[0] != 0)
    np.testing.assert_array_equal(by_data[1], 0.0)
    assert np.isfinite(by_power)


def products(y, policy):
    """Only the product of the first two parameters is determined."""

    def residual(p):
        return p[0] * p[1] * jnp.exp(-p[2] * T) - y

    start = jnp.array([1.0, 2.0, 1.0])
    return least_squares(residual, start, ftol=1e-14, on_singular=policy).x


def test_a_singular_fit():
    y = 2.0 * jnp.exp(-T) + 0.01 * jnp.cos(9.0 * T)
    direction = jnp.sin(T)

    def moved(policy):
        return jax.jvp(lambda y: products(y, policy), (y,), (direction,))

    x, zero = moved("zero")
    np.testing.assert_array_equal(zero, 0.0)
    assert np.all(np.isnan(moved("nan")[1]))
    _, pinv = moved("pinv")

    def determined(y):
        return least_squares(lambda p: p[0] * jnp.exp(-p[1] * T) - y, jnp.ones(2), ftol=1e-14).x

    _, expected = jax.jvp(determined, (y,), (direction,))
    np.testing.assert_allclose(pinv[0] * x[1] + x[0] * pinv[1], expected[0], rtol=1e-6)
    np.testing.assert_allclose(pinv[2], expected[1], rtol=1e-6)


# --- Gauss-Newton ---------------------------------------------------------------------


def derivative(y, hessian):
    def solution(y):
        residual = lambda p: p[0] * jnp.exp(-p[1] * T) - y  # noqa: E731
        return least_squares(residual, jnp.ones(2), ftol=1e-15, xtol=1e-15, hessian=hessian).x

    return jax.jacrev(solution)(y)


def test_gauss_newton_is_exact_without_a_residual():
    y = 2.0 * jnp.exp(-1.3 * T)
    np.testing.assert_allclose(
        derivative(y, "gauss-newton"), derivative(y, "full"), rtol=1e-7, atol=1e-10
    )


def test_gauss_newton_is_another_where_there_is_one():
    y = 2.0 * jnp.exp(-1.3 * T) + 0.3 * jnp.cos(9.0 * T)
    difference = derivative(y, "gauss-newton") - derivative(y, "full")
    assert np.max(np.abs(difference)) > 0.01


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"hessian": "exact"}, r"hessian must be one of .*gauss-newton"),
        ({"on_singular": None}, r"on_singular must be one of .*'zero'"),
        ({"return_history": -1}, "return_history must be a number of points"),
        ({"return_history": 2.5}, "return_history must be a number of points"),
    ],
)
def test_improper_options(options, match):
    with pytest.raises(ValueError, match=match):
        rate(Y[0], 0.1, **options)
