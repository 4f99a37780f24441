"""`least_squares` under JAX's transformations, nested in each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import Status, least_squares

pytestmark = pytest.mark.usefixtures("x64")

T = np.linspace(0.0, 3.0, 12)
RATES = np.array([0.5, 0.8, 1.2, 1.7])
Y = 2.0 * np.exp(-RATES[:, None] * T) + 0.01 * np.cos(7.0 * T)
STARTS = np.array([[1.0, 1.0], [1.5, 0.7], [2.5, 1.4]])


def decay(p, y, shift=0.0):
    return p[0] * jnp.exp(-p[1] * T) + shift - y


def solve(y, x0=(1.0, 1.0), shift=0.0):
    options = {"args": (y,), "kwargs": {"shift": shift}, "ftol": 1e-14, "xtol": 1e-14}
    return least_squares(decay, jnp.asarray(x0), **options)


def rate(y, x0=(1.0, 1.0), shift=0.0):
    return solve(y, x0, shift).x[1]


@pytest.fixture(scope="module")
def expected():
    with jax.enable_x64(True):
        return np.stack([rate(row) for row in Y])


@pytest.fixture(scope="module")
def slopes():
    """(4, 12) derivatives of each rate by its data."""
    with jax.enable_x64(True):
        return np.stack([jax.grad(rate)(row) for row in Y])


@pytest.mark.long
def test_starts_data_and_keywords(expected):
    np.testing.assert_allclose(jax.vmap(rate, (None, 0))(Y[0], STARTS), expected[0], rtol=1e-7)
    np.testing.assert_allclose(jax.vmap(rate)(Y), expected, rtol=1e-7)
    shifts = np.array([0.0, 0.3])
    moved = jax.vmap(lambda s: rate(Y[1] + s, shift=s))(shifts)
    np.testing.assert_allclose(moved, expected[1], rtol=1e-7)


@pytest.mark.long
def test_vmap_of_vmap_of_starts_and_data(expected):
    got = jax.jit(jax.vmap(jax.vmap(rate, (None, 0)), (0, None)))(Y, STARTS)
    np.testing.assert_allclose(got, np.repeat(expected[:, None], 3, axis=1), rtol=1e-6)
    got = jax.jit(jax.vmap(jax.vmap(rate, (0, None)), (None, 0)))(Y, STARTS)
    np.testing.assert_allclose(got, np.repeat(expected[None], 3, axis=0), rtol=1e-6)


@pytest.mark.long_but("vmap(grad)", "scan")
@pytest.mark.parametrize(
    "derivative",
    [
        lambda y: jax.jit(jax.vmap(jax.grad(rate)))(y),
        lambda y: jax.grad(lambda y: jax.vmap(rate)(y).sum())(y),
        lambda y: jax.vmap(jax.jacfwd(rate))(y),
        lambda y: jax.vmap(jax.grad(jax.checkpoint(rate)))(y),
        lambda y: jax.grad(lambda y: jax.lax.map(rate, y).sum())(y),
        lambda y: jax.grad(lambda y: jax.lax.scan(lambda c, v: (c + rate(v), v), 0.0, y)[0])(y),
    ],
    ids=["vmap(grad)", "grad(vmap)", "jacfwd", "checkpoint", "map", "scan"],
)
def test_first_derivatives(slopes, derivative):
    np.testing.assert_allclose(derivative(jnp.asarray(Y)), slopes, rtol=1e-6, atol=1e-9)


@pytest.mark.long
def test_hessian_is_the_difference_of_gradients():
    change = 1e-4 * np.sin(3.0 * T)
    gradient = jax.jit(jax.grad(rate))
    expected = (gradient(Y[1] + change) - gradient(Y[1] - change)) / 2
    np.testing.assert_allclose(
        jax.jit(jax.hessian(rate))(Y[1]) @ change, expected, rtol=1e-4, atol=1e-10
    )


@pytest.mark.long
def test_cond_and_while(expected):
    @jax.jit
    def either(flag, y):
        return jax.lax.cond(flag, lambda y: rate(y), lambda y: 0.0 * y[0], y)

    assert either(False, Y[0]) == 0.0
    np.testing.assert_allclose(either(True, Y[0]), expected[0], rtol=1e-7)

    def again(carry):
        count, x = carry
        return count + 1, solve(Y[2], x).x

    _, x = jax.jit(lambda x: jax.lax.while_loop(lambda c: c[0] < 3, again, (0, x)))(jnp.ones(2))
    np.testing.assert_allclose(x[1], expected[2], rtol=1e-7)


def test_forms_of_the_start():
    assert least_squares(lambda p: p - jnp.arange(3.0), 5.0).x == pytest.approx(1.0)
    tree = {"a": (jnp.ones(()), None), "b": [jnp.ones((1, 1))]}
    x = least_squares(lambda p: decay((p["a"][0], p["b"][0][0, 0]), Y[0]), tree).x
    assert jax.tree.structure(x) == jax.tree.structure(tree)
    np.testing.assert_allclose(x["b"][0][0, 0], rate(Y[0]), rtol=1e-6)
    square = least_squares(lambda p: jnp.stack([p[0] - 3.0, p[0] * p[1] - 6.0]), jnp.ones(2))
    np.testing.assert_allclose(square.x, [3.0, 2.0], rtol=1e-7)
    assert square.dof == 0
    with pytest.raises(ValueError, match="fewer than the 2 parameters"):
        least_squares(lambda p: p[:1], jnp.ones(2))


def test_a_lane_of_nan_changes_no_bit_of_the_others():
    spoiled = Y.copy()
    spoiled[2, 3] = np.nan
    clean, spoiled = (jax.vmap(solve)(y) for y in (Y, spoiled))
    assert spoiled.status[2] == Status.NONFINITE_START
    others = np.array([0, 1, 3])
    for name in ("x", "cost", "fun", "nfev", "status"):
        one, other = (np.asarray(getattr(r, name))[others] for r in (clean, spoiled))
        np.testing.assert_array_equal(one, other)
