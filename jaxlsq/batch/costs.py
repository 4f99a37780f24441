"""Costs of fits at parameters that are given, and what one step from there would lower them to."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.blocks import padded
from jaxlsq.numerics.loss import sum_of
from jaxlsq.problem.task import Task
from jaxlsq.problem.types import Parts

__all__ = ["LEAST", "contribution", "cost", "left", "promise", "values_at"]

# Fewer fits are made up to so many, so that one program does for all.
LEAST = 1024
# A part of the diagonal of the normal equations that is added to it: directions that the data
# hardly determine promise nothing.
DAMPING = 1e-4


def values_at(problem: Any, p: NDArray[Any], x: NDArray[Any], function: Any) -> NDArray[Any]:
    """(k,) values of ``function(task, x, lane, shared)`` of the fits p; inf where not finite."""
    size = len(p)
    p, x = padded(p, LEAST), padded(x, LEAST)
    single = replace(problem.take(p, (len(p),)), lengths=None)
    values = single._gather(
        lambda group, x: group.in_type_of(x).map(partial(function, group.task), x), x
    )[:size].astype(np.float64)
    return np.where(np.isfinite(values), values, np.inf)


def promise(task: Task, both: jax.Array, lane: Parts, shared: Parts) -> jax.Array:
    r"""The cost that one Gauss-Newton step leads to, :math:`\frac12 (r^T r - g^T A^{-1} g)`.

    `both` are the parameters, and one for those that are free.
    """
    now, fall = _now_and_fall(task, both, lane, shared)
    return 0.5 * (now - fall)


def _now_and_fall(task, both, lane, shared):
    """Chi-squared, and by what one Gauss-Newton step lowers it."""
    x, free = jnp.split(both, 2)
    rows, columns = task.lane(lane, shared)(tuple(x))
    f = rows[0]
    jacobian = jnp.stack([jnp.broadcast_to(c, f.shape) for c in columns]) * free[:, None]
    size = jnp.sqrt(jnp.sum(jacobian * jacobian, axis=1))
    jacobian = jacobian / jnp.where(size > 0, size, 1.0)[:, None]
    gram = jnp.matmul(jacobian, jacobian.T, precision="highest")
    gradient = jnp.matmul(jacobian, f, precision="highest")
    eye = jnp.eye(x.size, dtype=x.dtype)
    damping = eye * jnp.where(size > 0, DAMPING, 1.0)[:, None]
    step = jnp.linalg.solve(gram + damping, gradient)
    now = sum_of(rows)
    return now, jnp.minimum(jnp.sum(gradient * step), now)


def _fall(task, both, lane, shared):
    return _now_and_fall(task, both, lane, shared)[1]


def left(problem: Any, p: NDArray[Any], x: NDArray[Any], free: NDArray[Any]) -> NDArray[Any]:
    """(k, 2): by what a step would lower chi-squared, and the data's variation about their mean.

    The first is none where it is not finite, the second infinite where there is no model of data.
    """
    both = np.concatenate([x, free.astype(x.dtype)], axis=1)
    fall = values_at(problem, p, both, _fall)
    fall[np.isinf(fall)] = 0.0
    variation = np.full(len(p), np.inf)
    if problem.model is not None:
        variation = problem.take(p, (len(p),)).variation(x)[:, 1]
    return np.stack([fall, variation], axis=1)


def cost(task: Task, x: jax.Array, lane: Parts, shared: Parts) -> jax.Array:
    """Half of what is minimized."""
    rows, _ = task.lane(lane, shared)(tuple(x))
    return 0.5 * sum_of(rows)


def contribution(task: Task, x: jax.Array, lane: Parts, shared: Parts) -> jax.Array:
    r"""What parameters contribute to the residual, :math:`\sum_j |x_j| \lVert J_j \rVert`.

    Times the spacing of their type it is about how large a residual of rounding is.
    """
    rows, columns = task.lane(lane, shared)(tuple(x))
    norms = [jnp.sqrt(jnp.sum(jnp.square(jnp.broadcast_to(c, rows[0].shape)))) for c in columns]
    return jnp.sum(jnp.abs(x) * jnp.stack(norms))
