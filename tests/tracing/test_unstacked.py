"""Elements of a stack are the scalars that went in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import least_squares, least_squares_batch
from jaxlsq.tracing.unstack import unstacked
from tests.decays import T


@jax.custom_jvp
def tripled(v):
    return 3.0 * v


tripled.defjvp(lambda primals, tangents: (3.0 * primals[0], 7.0 * tangents[0]))


FUNCTIONS = {
    "elements": lambda p: p[0] * jnp.exp(-p[1] * T) + p[2],
    "iterated": lambda p: sum(list(p)) * T,
    "sliced": lambda p: p[1:][0] * T + p[::2][1] + p[-1],
    "whole": lambda p: jnp.sum(p) * T + p[0],
    "jit": lambda p: jax.jit(lambda q: q[0] * q[1] * T)(p) + p[2],
    "custom": lambda p: tripled(p[0]) * T + tripled(p)[1],
    "loop": lambda p: jax.lax.fori_loop(0, 3, lambda _, v: v * p[0] + p[1], T),
    "indexed": lambda p: p[jnp.argmax(p)] * T,
    "joined": lambda p: jnp.concatenate([p[2:], p[:1]])[1] * T + jnp.stack([p[0], p[1]])[0],
    "constant": lambda p: T + 1.0,
}
XS = (1.3, 0.7, 0.2)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_the_same_function(x64, name):
    def stacked(*xs):
        return FUNCTIONS[name](jnp.stack(xs))

    apart, places = unstacked(stacked), (0, 1, 2)
    np.testing.assert_array_equal(apart(*XS), stacked(*XS))
    for mode in (jax.jacfwd, jax.jacrev):
        found, expected = mode(apart, places)(*XS), mode(stacked, places)(*XS)
        np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-15)
    found, expected = (jax.vmap(f)(*(jnp.array([x, 2 * x]) for x in XS)) for f in (apart, stacked))
    np.testing.assert_array_equal(found, expected)


def test_a_derivative_computes_only_what_depends_on_its_scalar(x64):
    def stacked(*xs):
        return FUNCTIONS["elements"](jnp.stack(xs))

    def by_the_last(fun):
        slope = jax.make_jaxpr(lambda x: jax.jvp(lambda x: fun(1.0, 2.0, x), (x,), (1.0,))[1])(0.5)
        return jax.jit(jax.extend.core.jaxpr_as_fun(slope)).lower(0.5).as_text()

    assert "exponential" in by_the_last(stacked)
    assert "exponential" not in by_the_last(unstacked(stacked))


def test_an_array_that_was_closed_over_without_x64_before():
    t = np.linspace(0.0, 4.0, 30)
    y = np.exp(-t)

    def residual(p, y):
        return p[0] * jnp.exp(-p[1] * t) - y

    with jax.enable_x64(False):
        assert least_squares(residual, jnp.ones(2), args=(y,)).x.dtype == np.float32
    result = least_squares_batch(residual, [1.0, 0.5], np.stack([y, 2.0 * y]))
    np.testing.assert_allclose(result.x, [[1.0, 1.0], [2.0, 1.0]], rtol=1e-7)
