"""A fit as a step of a larger JAX program: transformations, pytrees, training loops, peers."""

import subprocess
import sys
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix
import pytest

from jaxlsq import least_squares, using
from tests.decays import T, Y

pytestmark = pytest.mark.usefixtures("x64")
TIGHT = {"ftol": 1e-15, "xtol": 1e-15}


def decay_of(y, **options):
    def residual(p):
        return p[0] * jnp.exp(-p[1] * T) - y

    return least_squares(residual, jnp.ones(2), **TIGHT, **options)


def rate(y):
    return decay_of(y).x[1]


# --- closed forms: the worst relative errors that README quotes are of these --------------------


def log_mean(y):
    """min sum (exp(p) - y)^2, with a large residual: p = log(mean(y))."""
    return least_squares(lambda p: jnp.exp(p[0]) - y, jnp.zeros(1), **TIGHT).x[0]


def weighted_root(y):
    """min sum w_i (p^2 - y_i)^2: p = sqrt(sum w y / sum w)."""
    w = jnp.arange(1.0, y.size + 1)
    return least_squares(lambda p: w * (p[0] ** 2 - y), jnp.ones(1), **TIGHT).x[0]


def quadratic(y):
    """A straight line through points: the last of its two parameters."""
    t = jnp.linspace(-1.0, 2.0, y.size)
    return least_squares(lambda p: p[0] + p[1] * t - y, jnp.zeros(2), **TIGHT).x[1] ** 2


def quadratic_closed(y):
    t = jnp.linspace(-1.0, 2.0, y.size)
    return (jnp.sum((t - t.mean()) * y) / jnp.sum((t - t.mean()) ** 2)) ** 2


def weighted_root_closed(y):
    w = jnp.arange(1.0, y.size + 1) ** 2
    return jnp.sqrt(jnp.sum(w * y) / jnp.sum(w))


CLOSED = [
    (log_mean, lambda y: jnp.log(jnp.mean(y))),
    (weighted_root, weighted_root_closed),
    (quadratic, quadratic_closed),
]


def worst(found, expected):
    return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


@pytest.mark.long
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize(("fitted", "closed"), CLOSED)
def test_first_and_second_derivatives_of_closed_forms(fitted, closed, mode):
    y = jnp.asarray(np.random.default_rng(4).uniform(0.5, 4.0, 9))
    assert worst(mode(fitted)(y), mode(closed)(y)) < 1e-9
    for other in (jax.jacfwd, jax.jacrev):
        assert worst(other(mode(fitted))(y), jax.hessian(closed)(y)) < 1e-7


@pytest.mark.long
def test_covariance_and_its_derivative():
    y = jnp.asarray(Y[0])

    def variance(y):
        return decay_of(y).cov[1, 1]

    direction = jnp.cos(5.0 * T)
    _, slope = jax.jvp(variance, (y,), (direction,))
    h = 1e-3
    near, far = (variance(y + k * h * direction) - variance(y - k * h * direction) for k in (1, 2))
    np.testing.assert_allclose(slope, (8 * near - far) / (12 * h), rtol=1e-6)
    result = decay_of(y)
    expected = np.linalg.inv(result.jac.T @ result.jac) * 2 * result.cost / (T.size - 2)
    np.testing.assert_allclose(result.cov, expected, rtol=1e-10)
    many = jax.vmap(decay_of)(jnp.asarray(Y[:3])).cov
    assert many.shape == (3, 2, 2)
    np.testing.assert_allclose(many[0], result.cov, rtol=1e-9)


def test_covariance_that_there_is_not():
    exact = least_squares(lambda p: p - 1.0, jnp.zeros(2))
    np.testing.assert_array_equal(exact.cov, np.inf)
    singular = least_squares(lambda p: (p[0] + p[1]) * T - Y[0], jnp.ones(2))
    np.testing.assert_array_equal(singular.cov, np.inf)


# --- transformations -------------------------------------------------------------------


@pytest.mark.long
def test_in_scan_and_checkpoint():
    y = jnp.asarray(Y[:4])

    def total(y, fitted):
        return jax.lax.scan(lambda carry, row: (carry + fitted(row), None), 0.0, y)[0]

    expected = jax.vmap(jax.grad(rate))(y)
    for fitted in (rate, jax.checkpoint(rate)):
        np.testing.assert_allclose(jax.grad(total)(y, fitted), expected, rtol=1e-9)
        np.testing.assert_allclose(jax.jit(jax.grad(fitted))(y[0]), expected[0], rtol=1e-9)


@pytest.mark.long
def test_mapped_over_the_predicate_of_a_cond():
    """`vmap` then makes a selection of it, and copies of all that it reads, limits too."""
    y, fitted = jnp.asarray(Y[:6]), jnp.arange(6) % 2 == 0

    def some(fitted, y):
        return jax.lax.cond(fitted, rate, lambda y: y[0], y)

    expected = np.where(fitted, jax.vmap(rate)(y), y[:, 0])
    np.testing.assert_allclose(jax.vmap(some)(fitted, y), expected, rtol=1e-12)
    slopes = jax.grad(lambda y: jnp.sum(jax.vmap(some)(fitted, y)))(y)
    np.testing.assert_allclose(slopes[0], jax.grad(rate)(y[0]), rtol=1e-9)
    np.testing.assert_array_equal(slopes[1], np.eye(y.shape[1])[0])


SHARDED = """
import jax, numpy as np, jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxlsq import least_squares, using
jax.config.update("jax_enable_x64", True)
from tests.decays import T, Y
def rate(y):
    return least_squares(lambda p: p[0] * jnp.exp(-p[1] * T) - y, jnp.ones(2)).x[1]
mesh = jax.make_mesh((2,), ("lanes",), axis_types=(jax.sharding.AxisType.Auto,))
def mapped(y):
    return jax.vmap(rate)(y)
specs = {"in_specs": P("lanes"), "out_specs": P("lanes"), "check_vma": False}
sharded = jax.shard_map(mapped, mesh=mesh, **specs)
y = jnp.asarray(Y)
out = jax.jit(sharded)(y)
assert len(out.sharding.device_set) == 2
np.testing.assert_allclose(out, mapped(y), rtol=1e-7)
grad = jax.grad(lambda y: jnp.sum(sharded(y) ** 2))(y)
np.testing.assert_allclose(grad, jax.grad(lambda y: jnp.sum(mapped(y) ** 2))(y), rtol=1e-6)
print("equal")
"""


@pytest.mark.long
def test_in_shard_map():
    """On two devices, in a process of its own since their number can't be changed later."""
    import os

    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    run = subprocess.run(
        [sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True
    )
    assert run.stdout.strip() == "equal", run.stderr


# --- pytrees ------------------------------------------------------------------------------


class Line(NamedTuple):
    slope: jax.Array
    offset: jax.Array


@jax.tree_util.register_dataclass
@dataclass
class Data:
    y: jax.Array
    weight: jax.Array


@pytest.mark.long
def test_named_tuples_dataclasses_and_nested_dicts():
    data = Data(jnp.asarray(Y[0]), jnp.linspace(1.0, 2.0, T.size, dtype=jnp.float32))

    def fitted(data):
        def residual(p, data):
            model = p["line"].slope * T + p["line"].offset + p["bend"]["t2"] * T**2
            return data.weight * (model - data.y)

        x0 = {"line": Line(0.0, jnp.float32(0.0)), "bend": {"t2": 0.0}}
        return least_squares(residual, x0, args=(data,)).x

    solution = fitted(data)
    assert isinstance(solution["line"], Line)
    assert solution["line"].offset.dtype == np.float32
    polynomial = np.polynomial.polynomial.polyfit(T, data.y, 2, w=np.asarray(data.weight, float))
    np.testing.assert_allclose(solution["line"].slope, polynomial[1], rtol=1e-5)
    np.testing.assert_allclose(solution["bend"]["t2"], polynomial[2], rtol=1e-5)
    gradient = jax.grad(lambda data: fitted(data)["line"].slope)(data)
    assert isinstance(gradient, Data)
    assert gradient.weight.dtype == np.float32
    assert np.all(np.isfinite(gradient.y))
    assert np.any(gradient.weight != 0)


# --- with others ------------------------------------------------------------------------


def test_a_training_loop_around_fits_compiles_once(compiles):
    """A shift of the axis, common to all, is learned through 1,000 warm-started inner fits."""
    rng = np.random.default_rng(0)
    truth = rng.uniform((1.0, 0.5), (3.0, 2.0), (1000, 2))
    data = truth[:, :1] * np.exp(-truth[:, 1:] * T) + 0.05 * T**2 / (1.0 + T)
    data = jnp.asarray(data + 0.001 * rng.normal(size=data.shape))
    optimizer = optax.adam(1e-2)

    def fits(shape, starts):
        def one(y, start):
            def residual(p):
                return p[0] * jnp.exp(-p[1] * T) + shape[0] * T**2 / (1.0 + shape[1] * T) - y

            solution = least_squares(residual, start)
            return solution.x, solution.cost

        return jax.vmap(one)(data, starts)

    @jax.jit
    def step(shape, starts, state):
        def loss(shape):
            x, cost = fits(shape, starts)
            return jnp.mean(cost), x

        (value, x), gradient = jax.value_and_grad(loss, has_aux=True)(shape)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(shape, updates), x, state, value

    shape, starts = jnp.array([0.0, 0.5]), jnp.ones((1000, 2))
    state = optimizer.init(shape)
    before = compiles()
    values = []
    for k in range(200):
        shape, starts, state, value = step(shape, starts, state)
        values.append(float(value))
        if k == 0:
            after_one = compiles()
            assert after_one > before
    assert compiles() == after_one
    assert values[-1] < 0.01 * values[0]
    np.testing.assert_allclose(shape[0] / (1.0 + shape[1]), 0.05 / 2.0, rtol=0.2)


@pytest.mark.long
def test_the_same_derivatives_as_optimistix():
    solver = optimistix.LevenbergMarquardt(rtol=1e-13, atol=1e-13)

    def residual(p, y):
        return p[0] * jnp.exp(-p[1] * T) - y

    def other(y):
        return optimistix.least_squares(residual, solver, jnp.ones(2), y, max_steps=500).value

    smooth = 2.0 * jnp.exp(-1.1 * T)
    for y, tolerance in ((smooth, 1e-8), (smooth + 0.2 * jnp.cos(7.0 * T), 1e-5)):
        ours = jax.jacrev(lambda y: decay_of(y).x)(y)
        np.testing.assert_allclose(ours, jax.jacrev(other)(y), rtol=tolerance, atol=tolerance)


@pytest.mark.long
def test_an_export_with_a_batch_of_any_size():
    t = np.linspace(0.0, 4.0, 40, dtype=np.float32)

    def rates(y):
        def fun(p):
            return p[0] * jnp.exp(-p[1] * t) - y

        return least_squares(fun, jnp.ones(2, jnp.float32)).x[1]

    (b,) = jax.export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((b, 40), jnp.float32)
    with using("xla"):
        program = jax.export.export(jax.jit(jax.vmap(rates)), platforms=["cpu", "cuda", "tpu"])
        data = program(shape).serialize()
    loaded = jax.export.deserialize(data)
    k = np.random.default_rng(0).uniform(0.5, 2.0, 700).astype(np.float32)
    y = 2.5 * np.exp(-k[:, None] * t)
    for size in (1, 7, 700):
        np.testing.assert_allclose(loaded.call(y[:size]), k[:size], rtol=1e-4)
