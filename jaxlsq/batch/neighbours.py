"""Starts from neighbours: fits of an image tried again from what was found beside them."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.batch.group import padded
from jaxlsq.numerics.loss import sum_of
from jaxlsq.problem.multistart import NEIGHBOURS
from jaxlsq.problem.task import Task
from jaxlsq.problem.types import Batch, Parts
from jaxlsq.results.again import SAME_COST
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.neighbours import candidate, costs_of_rounding, in_parts, pairs
from jaxlsq.results.result import FitResult
from jaxlsq.status import Status

__all__ = ["check_neighbours", "contribution", "cost", "left", "solved", "values_at"]

# A fit is tried again where one step from a neighbour's parameters promises a chi-squared that is
# lower by so many times its mean per degree of freedom.  In the same minimum the model's curvature
# between the two seems to gain the noise along one direction, which has a mean of one.  (Of images
# where all was well, 1 let 8 and 18 % be tried in vain, 2 let 2 and 4 %; of waves in noise larger
# than they are, 1.8 and 3.7 % then were in a minimum that another start would have beaten.)
PROMISE = 1.0
LEAST_PROMISE = 1e-3
# Sweeps over one distance, each of which may carry a minimum on by as much.
MOST_SWEEPS = 64
# Fewer are made up to so many, so that one program does for all sweeps.
LEAST = 1024
# A part of the diagonal of the normal equations that is added to it: directions that the data
# hardly determine promise nothing.
DAMPING = 1e-4
NOT_TO_FIT = (Status.MASKED_OUT, Status.NONFINITE_DATA, Status.TOO_FEW_POINTS)


def check_neighbours(problem: Any) -> None:
    """Raise ValueError where a problem's fits have no neighbours."""
    if problem.lengths is not None or not problem.batch:
        shape = "a list of arrays" if problem.batch else "one data set"
        raise ValueError(
            f"starts={NEIGHBOURS!r} is for images and stacks, arrays whose axes before the points "
            f"say which fits are neighbours; ydata is {shape}. Give a number of starts."
        )


def solved(problem: Any) -> FitResult:
    """Fit all, and again from the parameters of neighbours where those promise a lower cost.

    First as with one start.  Then sweeps over pairs of neighbours, at a distance of many pixels
    on a coarse grid, and of one at last, each until nothing gets better.  What a neighbour's
    parameters promise is the cost after a Gauss-Newton step from them, which is one evaluation of
    the model's Jacobian: amplitudes may differ, and what counts is which minimum they lead to.

    Parameters
    ----------
    problem : jaxlsq.batch.run.Problem

    Returns
    -------
    FitResult
        `nfev`, `njev` and `nit` are those of all tries; `agreed` counts tries that ended at the
        same cost.

    Raises
    ------
    ValueError
        If its fits have no neighbours.
    Interrupted
        On Ctrl-C, with what is better already.
    """
    check_neighbours(problem)
    result = replace(problem, settings=replace(problem.settings, starts=1)).solve()
    try:
        for stride in _strides(problem.batch):
            p, q = pairs(problem.batch, stride)
            fresh = np.ones(result.status.size, bool)
            for _ in range(MOST_SWEEPS):
                result, fresh = _swept(result, p, q, fresh)
                if not fresh.any():
                    break
    except KeyboardInterrupt:
        raise Interrupted(result) from None
    return result


def _strides(batch: Batch) -> list[int]:
    """Distances: powers of two, from a quarter of the longest axis down to one."""
    most = max(max(batch) // 4, 1)
    return [1 << k for k in reversed(range(most.bit_length()))]


def _swept(result, p, q, fresh):
    """One sweep over pairs: the result, and which of its fits are better now.

    `fresh` are the fits whose parameters have not been tried yet.
    """
    flat = {name: getattr(result, name).reshape(-1) for name in ("success", "status", "cost")}
    can = ~np.isin(flat["status"], NOT_TO_FIT)
    some = np.flatnonzero(can[p] & fresh[q] & flat["success"][q])
    none = np.zeros_like(fresh)
    if not some.size:
        return result, none
    p, q = p[some], q[some]
    free = ~result.fixed.reshape(len(fresh), -1)

    def after(p, q):
        both = np.concatenate([candidate(result, p, q), free[p]], axis=1)
        return values_at(result.problem, p, both, promise)

    promised = in_parts(after, p, q)
    costs = np.where(flat["success"], flat["cost"], np.inf).astype(np.float64)
    # The best of each fit's neighbours.
    order = np.lexsort((promised, p))
    p, q, promised = p[order], q[order], promised[order]
    best = np.concatenate([[True], p[1:] != p[:-1]])
    gain = np.clip(PROMISE / np.maximum(result.dof.reshape(-1)[p], 1), LEAST_PROMISE, 0.5)
    best &= promised < (1.0 - gain) * costs[p]
    p, q = p[best], q[best]
    if p.size:  # a cost of rounding is lower by chance
        some = ~flat["success"][p] | (costs[p] > costs_of_rounding(result, p))
        p, q = p[some], q[some]
    if not p.size:
        return result, none
    better = _tried(result, p, candidate(result, p, q))
    fresh = (better.cost < (1.0 - SAME_COST) * costs.reshape(better.shape)) & better.success
    return better, fresh.ravel()


def values_at(problem: Any, p: np.ndarray, x: np.ndarray, function: Any) -> np.ndarray:
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
    x, free = jnp.split(both, 2)
    rows, columns = task.lane(lane, shared)(tuple(x))
    f = rows[0]
    jacobian = jnp.stack([jnp.broadcast_to(c, f.shape) for c in columns]) * free[:, None]
    size = jnp.sqrt(jnp.sum(jacobian * jacobian, axis=1))
    jacobian = jacobian / jnp.where(size > 0, size, 1.0)[:, None]
    gram = jnp.matmul(jacobian, jacobian.T, precision="highest")
    gradient = jnp.matmul(jacobian, f, precision="highest")
    eye = jnp.eye(x.size, dtype=x.dtype)
    step = jnp.linalg.solve(gram + eye * jnp.where(size > 0, DAMPING, 1.0), gradient)
    return 0.5 * jnp.maximum(sum_of(rows) - jnp.sum(gradient * step), 0.0)


def left(problem: Any, p: np.ndarray, x: np.ndarray, free: np.ndarray) -> np.ndarray:
    """(k, 2): by what a step would lower chi-squared, and the data's variation about their mean.

    The latter infinite where there is no model of data.
    """
    both = np.concatenate([x, free.astype(x.dtype)], axis=1)
    fall = 2.0 * (values_at(problem, p, x, cost) - values_at(problem, p, both, promise))
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


def _tried(result, index, x):
    """Fits tried again from x, and what came out better kept."""
    problem: Any = result.problem
    n, total = len(result.names), result.status.size
    starts = result.x.reshape(total, n).astype(np.promote_types(result.x.dtype, x.dtype))
    starts[index] = x
    settings = replace(problem.settings, progress=False)
    # Fits that have converged end at once, and make up what a program is compiled for.
    good = np.flatnonzero(result.success)
    good = good[~np.isin(good, index)][: max(min(LEAST, total) - len(index), 0)]
    again = problem.again(np.concatenate([index, good]), starts, None, settings)
    again = again[: len(index)]
    old = {name: result._flat(name)[index] for name in ("cost", "agreed", "nfev", "njev", "nit")}
    better = result._improved(index, again)
    same = np.abs(again.cost - old["cost"]) <= SAME_COST * old["cost"]
    same &= again.success & result.success.reshape(-1)[index]
    kept = better._flat("cost")[index] == old["cost"]
    counts = {name: better._flat(name).copy() for name in ("agreed", "nfev", "njev", "nit")}
    counts["agreed"][index] = np.where(same | kept, old["agreed"] + same, 1)
    for name in ("nfev", "njev", "nit"):
        counts[name][index] = old[name] + getattr(again, name)
    shaped = {name: values.reshape(result.shape) for name, values in counts.items()}
    return replace(better, **shaped)
