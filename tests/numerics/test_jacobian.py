"""The four methods against the analytic Jacobian, and MINPACK's forward difference."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.jacobian import (
    EVALUATIONS,
    METHODS,
    differentiate,
    forward_step,
    inside,
    linearized,
)

X = np.array([0.7, -1.3, 2.1])
EPS = np.finfo(np.float64).eps


def function(x):
    return jnp.stack([jnp.exp(x[0]) * x[1], jnp.sin(x[1] * x[2]), x[2] * x[2], x[0] + x[1] * x[2]])


def analytic(x):
    a, b, c = x
    cosine = np.cos(b * c)
    return np.array(
        [[np.exp(a) * b, np.exp(a), 0], [0, c * cosine, b * cosine], [0, 0, 2 * c], [1, c, b]]
    )


def polynomial(x):
    """Products and sums alone, which NumPy and JAX round alike."""
    return [x[0] * x[1], x[1] * x[1] * x[2], x[2] + 0.25 * x[0], x[0] * x[0] - x[2]]


def traced_polynomial(x):
    return jnp.stack(polynomial(x))


@pytest.mark.long_but("jacrev-1e-14", "3-point-1e-09")
@pytest.mark.parametrize(
    ("method", "tol"), [("jacfwd", 1e-14), ("jacrev", 1e-14), ("2-point", 1e-6), ("3-point", 1e-9)]
)
def test_method_agrees_with_the_analytic_jacobian(x64, method, tol):
    x = jnp.asarray(X)
    jac = differentiate(function, method, EPS)(x, function(x))
    assert jac.shape == (4, 3)
    np.testing.assert_allclose(jac, analytic(X), rtol=tol, atol=tol)


@pytest.mark.long_but("jacfwd", "cs", "2-point")
@pytest.mark.parametrize("method", METHODS)
def test_float32_stays_float32(method):
    x = jnp.asarray(X, jnp.float32)
    jac = differentiate(function, method, np.float32(0))(x, function(x))
    assert jac.dtype == jnp.float32
    np.testing.assert_allclose(jac, analytic(X), rtol=3e-3, atol=3e-3)


def test_evaluations_per_parameter():
    assert EVALUATIONS == {"jacfwd": 0, "jacrev": 0, "cs": 0, "2-point": 1, "3-point": 2}
    assert EVALUATIONS.keys() == METHODS.keys()


def fdjac2(x, epsfcn):
    """MINPACK's forward difference of the polynomial, a column at a time."""
    x, f = np.array(x), np.array(polynomial(x))
    eps = np.sqrt(max(epsfcn, EPS))
    jac = np.empty((4, 3))
    for j in range(3):
        h = eps * abs(x[j])
        if h == 0:
            h = eps
        moved = x.copy()
        moved[j] = x[j] + h
        jac[:, j] = (np.array(polynomial(moved)) - f) / h
    return jac


def forward_difference(x, epsfcn):
    x = jnp.asarray(x)
    return np.asarray(differentiate(traced_polynomial, "2-point", epsfcn)(x, traced_polynomial(x)))


@pytest.mark.parametrize("epsfcn", [0.0, EPS, 2.0**-30, 2.0**-14])
@pytest.mark.parametrize("x", [[4.0, -0.5, 2.0], [0.0, -0.5, 2.0], [0.0, 0.0, 0.0]])
def test_forward_difference_is_fdjac2_exactly_where_the_step_is_a_power_of_two(x64, x, epsfcn):
    np.testing.assert_array_equal(forward_difference(x, epsfcn), fdjac2(x, epsfcn))


@pytest.mark.parametrize("epsfcn", [0.0, EPS, 1e-10, 1e-4])
@pytest.mark.parametrize("x", [X, [0.0, -1.3, 2.1], [0.0, 0.0, 0.0]])
def test_forward_difference_is_fdjac2_to_the_rounding_of_a_division(x64, x, epsfcn):
    # XLA multiplies by the reciprocal of the step.
    np.testing.assert_array_max_ulp(forward_difference(x, epsfcn), fdjac2(x, epsfcn), maxulp=2)


def test_forward_difference_takes_the_given_residual(x64):
    x = jnp.asarray(X)
    f = function(x)
    plain = differentiate(function, "2-point", EPS)(x, f)
    shifted = differentiate(function, "2-point", EPS)(x, f + 1.0)
    assert np.all(np.abs(np.asarray(shifted - plain)) > 1e6)


def test_central_difference_of_a_quadratic_has_no_truncation_error(x64):
    x = jnp.asarray([3.0, 0.0, -2.0])
    jac = differentiate(traced_polynomial, "3-point", 1e-3)(x, traced_polynomial(x))
    exact = [[0.0, 3, 0], [0, 0, 0], [0.25, 0, 1], [6, 0, -1]]
    np.testing.assert_allclose(jac, exact, atol=1e-13)


@pytest.mark.parametrize("xp", [np, jnp])
def test_forward_step(x64, xp):
    h = forward_step(xp.asarray([4.0, -4.0, 0.0, 1e-320]), 2.0**-20, xp)
    np.testing.assert_array_equal(h, [2.0**-18, 2.0**-18, 2.0**-20, 2.0**-20])


@pytest.mark.parametrize("xp", [np, jnp])
def test_points_of_a_difference_are_inside_the_bounds(x64, xp):
    x, h = xp.asarray([1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), xp.full(6, 0.5)
    bounds = (
        xp.asarray([0.0, 0.0, 0.9, 0.7, 1.0, -np.inf]),
        xp.asarray([2.0, 1.2, 1.2, 1.2, 1.0, np.inf]),
    )
    ahead, behind = inside(x, h, bounds, False, xp)
    np.testing.assert_array_equal(ahead, [1.5, 0.5, 1.2, 0.7, 1.0, 1.5])
    np.testing.assert_array_equal(behind, x)
    ahead, behind = inside(x, h, bounds, True, xp)
    np.testing.assert_array_equal(ahead, [1.5, 1.2, 1.2, 1.2, 1.0, 1.5])
    np.testing.assert_array_equal(behind, [0.5, 0.5, 0.9, 0.7, 1.0, 0.5])


@pytest.mark.parametrize("method", ["2-point", "3-point"])
def test_a_box_narrower_than_the_step_has_a_difference_too(x64, method):
    bounds = Bounds(jnp.array([0.0, 0.5]), jnp.array([1e-9, 0.5]))
    x = jnp.array([0.0, 0.5])

    def residual(x):
        return jnp.stack([2e9 * x[0], x[0] + x[1]])

    jac = differentiate(residual, method, EPS, bounds)(x, residual(x))
    np.testing.assert_allclose(jac, [[2e9, 0.0], [1.0, 0.0]], rtol=1e-6)


def of_scalars(a, b, c):
    return function(jnp.stack([a, b, c]))


@pytest.mark.parametrize(
    ("method", "tol"), [("jacfwd", 1e-14), ("jacrev", 1e-14), ("2-point", 1e-6), ("3-point", 1e-9)]
)
def test_linearized_gives_the_residual_and_the_columns(x64, method, tol):
    f, columns = linearized(of_scalars, method, EPS)(tuple(jnp.asarray(X)))
    np.testing.assert_allclose(f, function(jnp.asarray(X)), rtol=1e-15)
    assert [column.shape for column in columns] == [(4,)] * 3
    np.testing.assert_allclose(np.stack(columns, axis=1), analytic(X), rtol=tol, atol=tol)


@pytest.mark.long_but("jacfwd", "cs", "3-point")
@pytest.mark.parametrize("method", METHODS)
def test_linearized_in_float32_under_strict_promotion(strict, method):
    xs = tuple(jnp.asarray(X, jnp.float32))
    f, columns = linearized(of_scalars, method, np.float32(0))(xs)
    assert {v.dtype for v in (f, *columns)} == {np.dtype("float32")}
    np.testing.assert_allclose(np.stack(columns, axis=1), analytic(X), rtol=3e-3, atol=3e-3)


def test_a_column_holds_nothing_of_what_does_not_depend_on_its_parameter(x64):
    t = np.linspace(0.0, 1.0, 5)

    def peaks(height_1, place_1, height_2, place_2):
        first = height_1 * jnp.exp(-jnp.square(t - place_1))
        return first + height_2 * jnp.exp(-jnp.square(t - place_2))

    lane = linearized(peaks, "jacfwd", 0.0)
    whole = lane(tuple(jnp.asarray([2.0, 0.3, 3.0, 0.8])))[1]
    of_first = lane(tuple(jnp.asarray([2.0, 0.3, np.nan, np.nan])))[1]
    of_second = lane(tuple(jnp.asarray([np.nan, np.nan, 3.0, 0.8])))[1]
    peak = np.exp(-np.square(t - 0.3))
    np.testing.assert_allclose(whole[0], peak, rtol=1e-14)
    np.testing.assert_allclose(whole[1], 4.0 * (t - 0.3) * peak, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(of_first[:2], whole[:2])
    np.testing.assert_array_equal(of_second[2:], whole[2:])
