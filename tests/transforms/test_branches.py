"""Derivatives of fits whose functions have branches and loops, against those of one without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxlsq import least_squares

pytestmark = pytest.mark.usefixtures("x64")

T = np.linspace(0.0, 3.0, 12)
RATES = np.array([1.3, 0.7, 0.4])
Y = 2.0 * np.exp(-RATES[:, None] * T) + 0.02 * np.cos(np.arange(36.0).reshape(3, 12) ** 2)
STEPS = np.diff(T, prepend=0.0)
TIGHT = {"ftol": 1e-15, "xtol": 1e-15}


def decay(p):
    return p[0] * jnp.exp(-p[1] * T)


def undefined(p):
    """A branch that is never chosen, and whose value and derivatives are NaN."""
    return jnp.sqrt(-1.0 - p[0]) * jnp.log(-p[1]) * T


def by_cond(p):
    return lax.cond(p[0] > 0.0, decay, undefined, p)


def by_switch(p):
    return lax.switch(jnp.int32(p[0] > 0.0) + 1, [undefined, undefined, decay], p)


def by_scan(p):
    def step(value, dt):
        falls = value > -1.0
        value = lax.cond(
            falls, lambda v: v * jnp.exp(-p[1] * dt), lambda v: jnp.log(v - 9.0), value
        )
        return value, value

    return lax.scan(step, p[0], STEPS)[1]


def turn(p):
    return lambda _, value: value * jnp.exp(-p[1] * T / 3.0)


MODELS = {
    "cond": by_cond,
    "switch": by_switch,
    "cond in scan": by_scan,
    "cond in jit and checkpoint": lambda p: jax.jit(jax.checkpoint(by_cond))(p),
    "where": lambda p: jnp.where(p[0] > 0.0, decay(p), jnp.cos(p[1] * T)),
    "fori_loop": lambda p: lax.fori_loop(0, 3, turn(p), p[0] * jnp.ones(T.size)),
}
EVERY = pytest.mark.parametrize("name", MODELS)


def fitted(model, y, **options):
    return least_squares(lambda p: model(p) - y, jnp.ones(2), **TIGHT, **options)


def total(model, attribute="x", **options):
    """A number of many fits, each with a weight of its own, as a function of their data."""

    def of_one(y):
        value = getattr(fitted(model, y, **options), attribute)
        return jnp.sum(jnp.sin(value + np.arange(value.size).reshape(value.shape)))

    return lambda ys: jnp.sum(jnp.arange(1.0, 4.0) * jax.vmap(of_one)(ys))


@pytest.mark.long
@EVERY
def test_reverse_mode_of_many(name):
    expected = jax.grad(total(decay))(Y)
    h, place = 1e-3, np.eye(36)[17].reshape(3, 12)
    near, far = (total(decay)(Y + k * h * place) - total(decay)(Y - k * h * place) for k in (1, 2))
    np.testing.assert_allclose(expected[1, 5], (8 * near - far) / (12 * h), rtol=1e-6)
    for gradient in (jax.grad(total(MODELS[name])), jax.jit(jax.grad(total(MODELS[name])))):
        np.testing.assert_allclose(gradient(Y), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("attribute", ["fun", "jac", "grad"])
@pytest.mark.parametrize("name", ["cond", "cond in scan"])
def test_reverse_mode_of_what_else_a_result_has(name, attribute):
    expected = jax.grad(total(decay, attribute))(Y)
    got = jax.jit(jax.grad(total(MODELS[name], attribute)))(Y)
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.long
@pytest.mark.parametrize("name", ["cond", "switch", "cond in scan"])
def test_other_orders_of_transformations(name):
    model = MODELS[name]
    expected = jax.grad(total(decay))(Y)
    np.testing.assert_allclose(jax.jacfwd(total(model))(Y), expected, rtol=1e-8, atol=1e-9)
    fast = {"hessian": "gauss-newton"}
    np.testing.assert_allclose(
        jax.grad(total(model, **fast))(Y), jax.grad(total(decay, **fast))(Y), rtol=1e-8, atol=1e-9
    )

    def second(model):
        curve = jax.grad(total(model))
        return jax.jit(jax.grad(lambda ys: jnp.sum(jnp.cos(ys) * curve(ys))))(Y)

    np.testing.assert_allclose(second(model), second(decay), rtol=1e-6, atol=1e-9)


@pytest.mark.long
def test_a_loss_with_a_branch():
    """Huber's, written with a branch for each residual."""

    def rho(z):
        def of_one(z):
            far = (2.0 * jnp.sqrt(z) - 1.0, z**-0.5, -0.5 * z**-1.5)
            return lax.cond(z > 1.0, lambda: far, lambda: (z, 1.0 + 0 * z, 0 * z))

        return jax.vmap(of_one)(z)

    def rho_of_all(z):
        return lax.cond(jnp.all(jnp.isfinite(z)), rho, lambda z: (z, z, z), z)

    expected = jax.grad(total(decay, loss="huber", f_scale=0.02))(Y)
    got = jax.grad(total(decay, loss=rho_of_all, f_scale=0.02))(Y)
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.long
def test_a_loop_without_reverse_mode():
    def looped(p):
        def goes_on(state):
            return state[0] < 3

        def again(state):
            return state[0] + 1, turn(p)(None, state[1])

        return lax.while_loop(goes_on, again, (0, p[0] * jnp.ones(T.size)))[1]

    for transform in (jax.grad, jax.jacfwd):
        with pytest.raises(ValueError, match=r"fun's in reverse mode, .* as a lax.scan"):
            jax.eval_shape(transform(total(looped)), Y)
    got = jax.jacfwd(total(looped, hessian="gauss-newton"))(Y)
    expected = jax.jacfwd(total(decay, hessian="gauss-newton"))(Y)
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9)
