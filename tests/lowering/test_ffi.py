"""`least_squares` by compiled lanes inside XLA's programs: alone, mapped, differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import Status, least_squares
from jaxlsq.lowering.engine import using

RNG = np.random.default_rng(0)
B, M = 50, 40
X = np.linspace(0.0, 4.0, M)
TRUE = np.stack([RNG.uniform(1, 3, B), RNG.uniform(0.5, 2, B), RNG.uniform(0, 0.5, B)], 1)
Y = TRUE[:, :1] * np.exp(-TRUE[:, 1:2] * X) + TRUE[:, 2:] + 0.05 * RNG.normal(size=(B, M))
P0 = np.array([1.0, 1.0, 0.0])


def residual(p, y):
    return p[0] * jnp.exp(-p[1] * X) + p[2] - y


def solve(y, **how):
    return least_squares(residual, jnp.asarray(P0, y.dtype), args=(y,), **how)


@pytest.fixture(params=[True, False], ids=["f64", "f32"])
def y(request):
    with jax.enable_x64(request.param):
        yield jnp.asarray(Y, jnp.float64 if request.param else jnp.float32)


def tolerance(y):
    return 1e-6 if y.dtype == jnp.float64 else 2e-3


@pytest.mark.long
@pytest.mark.parametrize(
    "how",
    [{}, {"bounds": (np.array([0.0, 0.0, -0.1]), np.array([2.0, 1.2, 0.3]))}, {"loss": "soft_l1"},
     {"jac": "2-point"}],
    ids=["plain", "bounds", "loss", "differences"],
)  # fmt: skip
def test_vmap_in_jit(y, how):
    def fits():
        return jax.jit(jax.vmap(lambda y: solve(y, **how)))(y)

    lanes = fits()
    with using("xla"):
        pool = fits()
    assert len(np.unique(lanes.nfev)) > 1
    assert bool(jnp.all(lanes.success))
    np.testing.assert_allclose(lanes.x, pool.x, rtol=tolerance(y), atol=tolerance(y))
    if y.dtype == jnp.float64:
        assert np.mean(lanes.nfev == pool.nfev) > 0.95


@pytest.mark.long_but("f32")
def test_that_it_is_by_lanes(y):
    text = jax.jit(jax.vmap(solve)).lower(y).as_text()
    assert "jaxlsq_" in text
    with using("xla"):
        text = jax.jit(jax.vmap(lambda y: solve(y))).lower(y).as_text()
    assert "jaxlsq_" not in text


@pytest.mark.long
def test_one_alone_and_one_of_many(y):
    many = jax.vmap(solve)(y)
    for i in (0, 7):
        alone = solve(y[i])
        np.testing.assert_array_equal(alone.x, many.x[i])
        assert (int(alone.nfev), int(alone.status)) == (int(many.nfev[i]), int(many.status[i]))


@pytest.mark.long
def test_gradients(y):
    def total(y):
        return jnp.sum(jax.vmap(lambda y: solve(y, gtol=1e-7).x)(y) ** 2)

    lanes = jax.grad(total)(y)
    with using("xla"):
        pool = jax.grad(lambda y: total(y))(y)
    np.testing.assert_allclose(lanes, pool, rtol=tolerance(y), atol=10 * tolerance(y))


@pytest.mark.long_but("f64")
def test_impossible_bounds(y):
    lower, upper = jnp.zeros(3, y.dtype), jnp.ones(3, y.dtype)

    def fits(shift):
        return jax.vmap(lambda y, s: solve(y, bounds=(lower + s, upper)))(y[:2], shift)

    result = jax.jit(fits)(jnp.array([0.0, 2.0], y.dtype))
    assert int(result.status[1]) == Status.INFEASIBLE_BOUNDS
    assert int(result.status[0]) > 0


def test_derivatives_that_are_not_finite(x64):
    x = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 8.0])
    y = jnp.asarray(2.0 * np.sqrt(x) + 1.0)

    def hill(p, y):  # of which the derivative by the last parameter is NaN at zero
        return p[0] * jnp.power(x, p[2]) + p[1] - y

    result = jax.jit(lambda y: least_squares(hill, jnp.array([1.0, 0.5, 0.7]), args=(y,)))(y)
    assert bool(result.success)
    np.testing.assert_allclose(result.x, [2.0, 1.0, 0.5], rtol=1e-6)


@pytest.mark.long
def test_what_is_not_of_one_point(x64):
    def blurred(p, y):
        return jnp.convolve(jnp.tile(residual(p, 0.0), 120 // M), jnp.ones(3) / 3, "same") - y

    def fits(y):
        return jax.vmap(lambda y: least_squares(blurred, P0, args=(y,)))(y)

    y = jnp.tile(jnp.asarray(Y[:3]), 120 // M)
    fits = jax.jit(fits).lower(y)
    assert "jaxlsq_" not in fits.as_text()
    assert bool(jnp.all(fits.compile()(y).success))
