"""Derivatives of a solution: closed forms, finite differences, unrolled Gauss-Newton."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlsq import least_squares

T = np.linspace(0.0, 3.0, 12)
TIGHT = {"ftol": 1e-15, "xtol": 1e-15}
pytestmark = pytest.mark.usefixtures("x64")


def data_sets(count, noise=0.1, seed=0):
    """Noisy, so that the residual at the solution is far from zero."""
    rng = np.random.default_rng(seed)
    rate = rng.uniform(0.4, 1.5, count)
    return jnp.asarray(2.0 * np.exp(-rate[:, None] * T) + noise * rng.normal(size=(count, T.size)))


def solve(y, start=None):
    start = jnp.ones(2) if start is None else start
    return least_squares(lambda p: p[0] * jnp.exp(-p[1] * T) - y, start, **TIGHT).x


def linear_problem():
    rng = np.random.default_rng(1)
    a, b = jnp.asarray(rng.normal(size=(8, 3))), jnp.asarray(rng.normal(size=8))

    def fitted(a, b):
        return least_squares(lambda x: a @ x - b, jnp.zeros(3), **TIGHT).x

    def closed(a, b):
        return jnp.linalg.solve(a.T @ a, a.T @ b)

    return a, b, fitted, closed


def test_linear_problem_has_the_derivative_of_the_normal_equations():
    a, b, fitted, closed = linear_problem()
    for mode in (jax.jacfwd, jax.jacrev):
        expected, found = (mode(function, (0, 1))(a, b) for function in (closed, fitted))
        for by_argument, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(by_argument, other, rtol=1e-9, atol=1e-12)


@pytest.mark.long
def test_linear_problem_has_the_second_derivative_of_the_normal_equations():
    a, b, fitted, closed = linear_problem()
    expected = jax.hessian(lambda a: closed(a, b)[0])(a)
    np.testing.assert_allclose(
        jax.hessian(lambda a: fitted(a, b)[0])(a), expected, rtol=1e-7, atol=1e-9
    )


def unrolled(y):
    """200 full Gauss-Newton steps, differentiated through."""

    def residual(p):
        return p[0] * jnp.exp(-p[1] * T) - y

    def step(_, p):
        jac, r = jax.jacfwd(residual)(p), residual(p)
        return p - jnp.linalg.solve(jac.T @ jac, jac.T @ r)

    return jax.lax.fori_loop(0, 200, step, solve(y) + 1e-3)


@pytest.mark.long
def test_equals_unrolled_gauss_newton():
    for y in data_sets(3):
        np.testing.assert_allclose(
            jax.jacrev(solve)(y), jax.jacfwd(unrolled)(y), rtol=1e-7, atol=1e-12
        )


@pytest.mark.long
def test_gauss_newtons_derivative_would_be_wrong():
    """With a large residual, the second derivatives of the model count."""
    y = data_sets(1, noise=0.3)[0]
    p = solve(y)
    jac = jax.jacfwd(lambda p: p[0] * jnp.exp(-p[1] * T))(p)
    approximate = jnp.linalg.solve(jac.T @ jac, jac.T)
    assert np.max(np.abs(approximate - jax.jacfwd(solve)(y))) > 0.01


@pytest.mark.parametrize("seed", range(3))
def test_central_differences(seed):
    y = data_sets(1, seed=seed)[0]
    direction = jnp.asarray(np.random.default_rng(9).normal(size=T.size))
    _, forward = jax.jvp(solve, (y,), (direction,))
    # Five points: the solutions are exact to about 1e-9, which a small step would enlarge.
    h = 1e-2
    near, far = (solve(y + k * h * direction) - solve(y - k * h * direction) for k in (1, 2))
    np.testing.assert_allclose(forward, (8 * near - far) / (12 * h), rtol=1e-6)


@pytest.mark.long
def test_both_modes_to_second_order():
    check_grads(solve, (data_sets(1)[0],), order=2, modes=("fwd", "rev"), rtol=1e-4)


@pytest.mark.long
def test_forward_over_reverse_and_reverse_over_forward_agree():
    y = data_sets(1)[0]
    first = jax.jacfwd(jax.jacrev(lambda y: solve(y)[1]))(y)
    second = jax.jacrev(jax.jacfwd(lambda y: solve(y)[1]))(y)
    np.testing.assert_allclose(first, second, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(first, first.T, rtol=1e-6, atol=1e-10)


@pytest.mark.long
def test_grad_of_vmap_equals_vmap_of_grad():
    y = data_sets(7)

    def value(row):
        return solve(row)[1] ** 2

    together = jax.grad(lambda y: jnp.sum(jax.vmap(value)(y)))(y)
    apart = jax.vmap(jax.grad(value))(y)
    one = jnp.stack([jax.grad(value)(row) for row in y])
    np.testing.assert_allclose(together, apart, rtol=1e-12)
    np.testing.assert_allclose(together, one, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(value)))(y), one, rtol=1e-9)


def test_derivative_by_the_start_is_zero():
    y = data_sets(1)[0]
    np.testing.assert_array_equal(
        jax.jacrev(lambda x0: solve(y, x0))(jnp.ones(2)), np.zeros((2, 2))
    )


def test_cost_and_residual_are_differentiated():
    y = data_sets(1)[0]

    def cost(y):
        return least_squares(lambda p: p[0] * jnp.exp(-p[1] * T) - y, jnp.ones(2), **TIGHT).cost

    # The envelope theorem: at a minimum, only the explicit dependence on y is left.
    p = solve(y)
    np.testing.assert_allclose(jax.grad(cost)(y), y - p[0] * jnp.exp(-p[1] * T), atol=1e-9)


def test_hyperparameters_pytrees_and_a_mask():
    y = data_sets(1)[0]
    mask = jnp.arange(T.size) % 3 != 0

    def fitted(hyper):
        def residual(p):
            r = (p["a"] * jnp.exp(-p["k"] * (T - hyper["shift"])) - y) / hyper["sigma"]
            return jnp.where(mask, r, 0.0)

        return least_squares(residual, {"a": 1.0, "k": 1.0}, **TIGHT).x["k"]

    hyper = {"shift": jnp.array(0.1), "sigma": jnp.linspace(0.5, 1.5, T.size)}
    gradient = jax.grad(fitted)(hyper)
    np.testing.assert_allclose(gradient["shift"], 0.0, atol=1e-8)  # the amplitude absorbs it
    np.testing.assert_array_equal(gradient["sigma"][~mask], 0.0)
    h = 1e-5
    moved = [fitted(hyper | {"sigma": hyper["sigma"].at[1].add(sign * h)}) for sign in (1, -1)]
    np.testing.assert_allclose(gradient["sigma"][1], (moved[0] - moved[1]) / (2 * h), rtol=1e-5)


def test_integers_in_the_closure():
    y, power = data_sets(1)[0], jnp.arange(T.size) % 2
    gradient = jax.grad(
        lambda y: least_squares(lambda p: p[0] * T**power + p[1] - y, jnp.ones(2), **TIGHT).x[0]
    )(y)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient != 0)


@pytest.mark.long
def test_memory_of_reverse_mode_does_not_grow_with_the_iterations():
    y = data_sets(64)

    def temporary_bytes(max_nfev):
        def loss(y):
            def one(row):
                fun = lambda p: p[0] * jnp.exp(-p[1] * T) - row  # noqa: E731
                return least_squares(fun, jnp.ones(2), max_nfev=max_nfev).x[1]

            return jnp.sum(jax.vmap(one)(y))

        compiled = jax.jit(jax.grad(loss)).lower(y).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(10) == temporary_bytes(10_000)
