"""Derivatives by everything that a user's functions close over, against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import least_squares

pytestmark = pytest.mark.usefixtures("x64")

T = np.linspace(0.0, 3.0, 14)
Y = 2.0 * np.exp(-0.8 * T) + 0.05 * np.cos(7.0 * T)
Y[3] += 1.0
TIGHT = {"ftol": 1e-15, "xtol": 1e-15}


def decay(p, rate=1.0):
    return p[0] * jnp.exp(-rate * p[1] * T) - Y


def cauchy_of(a):
    return lambda z: (jnp.log1p(a * z) / a, 1 / (1 + a * z), -a / (1 + a * z) ** 2)


def table_of(a):
    """One array of three rows, and a sum of two losses."""

    def rho(z):
        value, first, second = cauchy_of(a[0])(z)
        return jnp.stack([a[1] * z + value, a[1] + first, second])

    return lambda z: rho(z)


def slopes_of(p, a):
    e = jnp.exp(-a * p[1] * T)
    return jnp.stack([e, -a * p[0] * T * e], axis=1)


def fitted(fun, **options):
    return least_squares(fun, jnp.array([1.0, 1.0]), **(TIGHT | options)).x


def nested(a):
    """A fit with a loss whose residual is of another fit with a loss."""

    def residual(q):
        inner = fitted(lambda p: decay(p, q[0]), loss=cauchy_of(a))
        return jnp.stack([inner[1] - a, 0.3 * (q[0] - 1.0)])

    return least_squares(residual, jnp.ones(1), loss=cauchy_of(0.3 * a), **TIGHT).x


CLOSED_OVER = {
    "fun": lambda a: fitted(lambda p: decay(p, a)),
    "args": lambda a: fitted(decay, args=(a,)),
    "kwargs": lambda a: fitted(decay, kwargs={"rate": a}),
    "loss": lambda a: fitted(decay, loss=cauchy_of(a)),
    "loss of a table": lambda a: fitted(decay, loss=table_of(jnp.stack([a, 0.1 * a]))),
    "loss and its scale": lambda a: fitted(decay, loss=cauchy_of(a), f_scale=0.2 * a),
    "loss, scales and fun": lambda a: fitted(
        lambda p: decay(p, jnp.sqrt(a)), loss=cauchy_of(a), f_scale=0.2 * a + 0.1 * T
    ),
    "f_scale": lambda a: fitted(decay, loss="huber", f_scale=0.1 * a),
    "f_scale of arctan": lambda a: fitted(decay, loss="arctan", f_scale=0.5 * a),
    "a bound that holds": lambda a: fitted(decay, bounds=(0.0, jnp.stack([1.5 * a, 5.0]))),
    "bounds and loss": lambda a: fitted(
        decay, bounds=(0.0, jnp.stack([1.5 * a, 5.0])), loss=cauchy_of(a)
    ),
    "jac": lambda a: fitted(lambda p: decay(p, a), jac=lambda p: slopes_of(p, a)),
    "jac and loss": lambda a: fitted(
        lambda p: decay(p, a), jac=lambda p: slopes_of(p, a), loss=cauchy_of(a)
    ),
    "differences and loss": lambda a: fitted(decay, jac="3-point", loss=cauchy_of(a)),
    "nested": nested,
}
# Each compiles for some seconds; what the others are made of runs always.
ALWAYS = (
    "nested",
    "loss",
    "loss and its scale",
    "bounds and loss",
    "f_scale",
    "args",
    "jac and loss",
)
EVERY = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ALWAYS else pytest.mark.long) for n in CLOSED_OVER],
)


def differences(fun, a, h=2e-2):
    """Of fourth order, so that steps may be far above what the iteration leaves of x."""
    one, two = (fun(a + k * h) - fun(a - k * h) for k in (1, 2))
    return (8 * one - two) / (12 * h)


@pytest.mark.long_but("args", "loss and its scale")
@EVERY
def test_reverse_mode_is_the_difference(name):
    solve = jax.jit(CLOSED_OVER[name])
    expected = differences(solve, 1.1)
    assert np.max(np.abs(expected)) > 1e-4
    np.testing.assert_allclose(jax.jacrev(solve)(1.1), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.long_but("bounds and loss")
@pytest.mark.parametrize("name", ["loss", "loss, scales and fun", "bounds and loss"])
def test_forward_mode_vmap_and_without_jit(name):
    solve = CLOSED_OVER[name]
    points = jnp.array([0.9, 1.1, 1.3])
    compiled = jax.jit(solve)
    expected = np.stack([differences(compiled, a) for a in points])
    got = jax.jit(jax.vmap(jax.jacfwd(solve)))(points)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jacrev(solve)(1.1), expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", ["loss", "loss, scales and fun", "bounds and loss"])
def test_reverse_mode_vmap(name):
    solve = CLOSED_OVER[name]
    points = jnp.array([0.9, 1.1, 1.3])
    compiled = jax.jit(solve)
    expected = np.stack([differences(compiled, a) for a in points])
    np.testing.assert_allclose(
        jax.jit(jax.vmap(jax.jacrev(solve)))(points), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.long
def test_second_derivative():
    solve = jax.jit(CLOSED_OVER["loss"])
    expected = differences(jax.jit(jax.jacrev(solve)), 1.1)
    np.testing.assert_allclose(jax.jacfwd(jax.jacrev(solve))(1.1), expected, rtol=1e-5)


def test_gauss_newton_where_the_jacobian_is_constant():
    def solve(a):
        return fitted(
            lambda p: p[0] + p[1] * T - Y, loss=cauchy_of(a), f_scale=10.0, hessian="gauss-newton"
        )

    solve = jax.jit(solve)
    np.testing.assert_allclose(jax.jacrev(solve)(1.1), differences(solve, 1.1), rtol=1e-5)


def test_cost_and_residual_follow_the_loss():
    def both(a):
        result = least_squares(decay, jnp.ones(2), loss=cauchy_of(a), **TIGHT)
        return jnp.append(result.fun, result.cost)

    both = jax.jit(both)
    np.testing.assert_allclose(jax.jacrev(both)(1.1), differences(both, 1.1), rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_where_a_fit_failed_the_derivative_by_the_loss_is_zero_or_nan():
    def solve(a, policy):
        return fitted(lambda p: decay(p) * jnp.nan, loss=cauchy_of(a), on_singular=policy)

    assert np.all(jax.jacrev(lambda a: solve(a, "zero"))(1.0) == 0.0)
    assert np.all(np.isnan(jax.jacrev(lambda a: solve(a, "nan"))(1.0)))
