"""A function of all points as a function of one: the same numbers, or a reason why not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxlsq.lowering.engine import one_point, read_by
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.tracing.trace import trace, with_fixed_literals

M = 12
RNG = np.random.default_rng(0)
TABLE = RNG.uniform(1.0, 2.0, M)
XS = (1.3, 0.7)


def both_axes(a, b, x, y):
    """An image of a separable model, flattened."""
    grid = jnp.arange(M // 4) * 1.0, jnp.arange(4) * 1.0
    return (jnp.exp(-a * grid[0])[:, None] * jnp.cos(b * grid[1])[None, :]).ravel() - y


def root(a, x, stops=True):
    """The square roots of a x by Newton's iteration, each of as many turns as it needs."""

    def turn(state):
        goes, value = state
        better = 0.5 * (value + a * x / value)
        goes_on = goes & (jnp.abs(better - value) > 1e-3)
        return goes_on, lax.select(goes, better, value) if stops else better

    begin = jnp.ones(x.shape, bool), jnp.ones_like(x)
    return lax.while_loop(lambda state: jnp.any(state[0]), turn, begin)[1]


# Functions of two parameters, x (2, M) that all lanes share, and y (M,) of each lane.
POINTWISE = {
    "plain": lambda a, b, x, y: a * jnp.exp(-b * x[0]) - y,
    "two-variables": lambda a, b, x, y: jnp.hypot(a * x[0], b * x[1]) - y,
    "matrix-product": lambda a, b, x, y: jnp.stack([a, b]) @ x - y,
    "design-matrix": lambda a, b, x, y: x.T @ jnp.array([a, b]) - y,
    "sum-of-peaks": lambda a, b, x, y: (
        jnp.sum(jnp.exp(-((x[0] - jnp.stack([a, b])[:, None]) ** 2)), axis=0) - y
    ),
    "closure": lambda a, b, x, y: a * TABLE + b - y,
    "cosine-of-x": lambda a, b, x, y: a * jnp.cos(x[0]) * jnp.exp(x[1] / 3.0) + b - y,
    "number-of-point": lambda a, b, x, y: a * jnp.arange(M) ** b - y,
    "mean-of-data": lambda a, b, x, y: a * x[0] - b * (y - jnp.mean(y)),
    "order-of-data": lambda a, b, x, y: a * jnp.sort(y) - b * jnp.cumsum(x[1]),
    "difference-of-data": lambda a, b, x, y: a * jnp.diff(y, append=0.0) - b,
    "constant": lambda a, b, x, y: jnp.full(M, a * b),
    "polynomial": lambda a, b, x, y: jnp.polyval(jnp.stack([a, b, a * b]), x[0]) - y,
    "inner-integral": lambda a, b, x, y: (
        jnp.mean(jnp.exp(-a * x[0][:, None] * jnp.linspace(0.0, 1.0, 5)), axis=1) * b - y
    ),
    "lane-scalar": lambda a, b, x, y: a * x[0] / y[0] - b,
    "image": both_axes,
    "loop-over-scalars": lambda a, b, x, y: (
        x[0] * lax.fori_loop(0, 5, lambda k, v: 0.5 * (v + a / v), 1.0) - b * y
    ),
    "loop-over-points": lambda a, b, x, y: (
        lax.fori_loop(0, 4, lambda k, v: jnp.sin(v) + b / (k + 1), a * x[0]) - y
    ),
    "loop-that-points-leave": lambda a, b, x, y: root(a, 50.0 * x[0] ** 4) - b * y,
    "loop-that-points-leave-of-several": lambda a, b, x, y: (
        jnp.exp(root(a, jnp.stack([x[0] * 9.0, y])[0]) * b) + root(b, jnp.reshape(x[1:], M)) - y
    ),
    "branch": lambda a, b, x, y: lax.cond(a > b, jnp.exp, jnp.log, a * x[0]) - y,
    "transposed": lambda a, b, x, y: (a * x.T + b)[:, 1] * x.T[:, 0] - y,
    "reshaped": lambda a, b, x, y: (a * x[0].reshape(3, 4) + b).reshape(-1) - y,
}
# And those that are not, with what the reason says.
NOT_POINTWISE = {
    "convolution": (lambda a, b, x, y: jnp.convolve(a * x[0], y, "same") - b, "conv"),
    "cumulative-sum": (lambda a, b, x, y: jnp.cumsum(a * x[0]) - b * y, "cumsum"),
    "shifted": (lambda a, b, x, y: jnp.roll(jnp.exp(a * x[0]), 1) - b * y, "along the points"),
    "concatenated": (
        lambda a, b, x, y: jnp.concatenate([a * x[0][:6], b * x[1][6:]]) - y,
        "concatenate",
    ),
    "loop-that-goes-on-for-all": (lambda a, b, x, y: root(a, x[0], False) - b * y, "while"),
    "sum-in-a-loop": (
        lambda a, b, x, y: root(a, jnp.cumsum(a * x[0])) - b * y,
        "cumsum",
    ),
    "sorted": (lambda a, b, x, y: jnp.sort(a * x[0]) - b * y, "sort"),
    "inverse": (lambda a, b, x, y: jnp.linalg.inv(jnp.eye(2) * a) @ x[:, 0] @ x - b * y, "'"),
}


def traced(function, m=M):
    x, y = jax.ShapeDtypeStruct((2, m), np.float64), jax.ShapeDtypeStruct((m,), np.float64)
    scalar = jax.ShapeDtypeStruct((), np.float64)
    return with_fixed_literals(
        trace(lambda a, b, y, x: (function(a, b, x, y),), scalar, scalar, y, x)
    )


def at_point(point, inputs, i, xs=()):
    """The results of a program of one point."""
    before = point.beforehand(*inputs) if point.beforehand else []
    staged = at_point(point.stage, inputs, i) if point.stage else []
    parts = []
    for one in point.inputs:
        if one.staged:
            parts.append(staged[one.source].reshape(one.part))
            continue
        array = one.arranged(inputs[one.source] if one.source >= 0 else before[-1 - one.source])
        parts.append((array[:, i] if one.of_point else array).reshape(one.part))
    return jax.core.eval_jaxpr(point.jaxpr, point.consts, *xs, *parts)


@pytest.mark.parametrize("name", POINTWISE)
def test_one_point_at_a_time(name, x64):
    function = POINTWISE[name]
    x, y = RNG.uniform(0.5, 2.0, (2, M)), RNG.uniform(0.5, 2.0, M)
    of = traced(function)
    point, more = one_point(of, 2, [True, False], 1), read_by(of)
    inputs = [y, x, *more]
    found = [at_point(point, inputs, i, XS)[0] for i in range(M)]
    np.testing.assert_allclose(found, function(*XS, jnp.asarray(x), jnp.asarray(y)), rtol=1e-12)


@pytest.mark.parametrize("name", NOT_POINTWISE)
def test_reasons(name, x64):
    function, reason = NOT_POINTWISE[name]
    with pytest.raises(NotLowered, match=reason):
        one_point(traced(function, 10 * M), 2, [True, False], 1)


@pytest.mark.parametrize("name", ["cumulative-sum", "shifted", "concatenated"])
def test_a_few_points_as_one(name, x64):
    function, _ = NOT_POINTWISE[name]
    x, y = RNG.uniform(0.5, 2.0, (2, M)), RNG.uniform(0.5, 2.0, M)
    of = traced(function)
    point, more = one_point(of, 2, [True, False], 1), read_by(of)
    assert (point.points, point.rows) == (1, M)
    (found,) = at_point(point, [y, x, *more], 0, XS)
    np.testing.assert_allclose(found, function(*XS, jnp.asarray(x), jnp.asarray(y)), rtol=1e-12)


def test_the_number_of_points_is_not_in_the_program(x64):
    def keys(m):
        y = jax.ShapeDtypeStruct((m,), np.float64)
        scalar = jax.ShapeDtypeStruct((), np.float64)
        of = trace(lambda a, y, x: (a * jnp.exp(x) - y,), scalar, y, y)
        point = one_point(with_fixed_literals(of), 1, [True, False], 1)
        return str(point.jaxpr), [one.key for one in point.inputs]

    assert keys(5) == keys(70)
