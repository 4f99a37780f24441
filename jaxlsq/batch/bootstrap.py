"""Bootstraps: fits of data sets that are made of fits, some at a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.group import Group
from jaxlsq.batch.progress import reporter
from jaxlsq.numerics.loss import POISSON, Robust
from jaxlsq.problem import resampling
from jaxlsq.problem.functions import Counts, ModelJacobian, ModelResidual
from jaxlsq.problem.policy import Policy
from jaxlsq.problem.resampling import FittedPoints, Plan, Replicates
from jaxlsq.problem.sources import Source
from jaxlsq.problem.task import Task
from jaxlsq.problem.types import Parts

__all__ = ["acceleration", "check_plan", "replicates"]

# Fits at a time: so many data sets, or so many bytes of what they are made of, at most.
MOST_LANES = 1 << 16
MOST_BYTES = 1 << 27


def check_plan(problem: Any, plan: Plan) -> None:
    """Raise ValueError where data sets of that kind can't be made of a problem's fits."""
    if problem.model is None:
        raise ValueError("bootstrap needs data that are fitted by a model: use fit.")
    if problem.sharing is not None:
        raise ValueError(
            "bootstrap is of fits apart, and shared ties all data sets together: make data sets of "
            "the result and fit those with shared."
        )
    if plan.kind == "residual" and problem.of_counts:
        raise ValueError(
            "kind='residual' is not for counts, whose errors differ from point to point; use "
            "'parametric', which draws counts, or 'pairs'."
        )
    _, group = problem.groups[0]
    entries = {key.split(".")[0] for key in (*group.lanes, *group.shared)}
    if "xsigma" in entries:
        raise ValueError(
            "bootstrap makes data with errors in y alone, and the fit has some in x: make data "
            "sets of the result, and fit those with xsigma."
        )
    if plan.kind == "pairs" and "whitening" in entries:
        raise ValueError(
            "kind='pairs' draws points, which are not independent where sigma is a covariance "
            "matrix; use 'residual' or 'parametric'."
        )


def replicates(
    problem: Any, places: NDArray[Any], x: NDArray[Any], spread: NDArray[Any], plan: Plan
) -> Iterator[tuple[slice, NDArray[Any], NDArray[Any]]]:
    """Fit what is made of some fits; in memory are the data sets of a few of those.

    Parameters
    ----------
    problem : jaxlsq.batch.run.Problem
    places : (f,) int array
        Which fits, flat.
    x : (f, n) array
        Their parameters, from which the new fits start.
    spread : (f,) array
        By which sigma is multiplied to be the data's standard deviation.
    plan : Plan

    Yields
    ------
    which : slice
        Of `places`.
    samples : (c, k, n) array
        Parameters.
    good : (c, k) bool array
        Which of the new fits are a success.
    """
    bytes_each = max(_bytes_each(group) for _, group in problem.groups)
    step = max(1, min(MOST_LANES // plan.k, MOST_BYTES // max(bytes_each, 1)))
    with reporter(problem.settings.progress, len(places) * plan.k) as report:
        for first in range(0, len(places), step):
            which = slice(first, first + step)
            small = problem.take(places[which], (len(places[which]),))
            big = _of_replicates(small, x[which], spread[which], plan)
            progress = report.after(first * plan.k) if report else False
            settings = replace(big.settings, starts=1, progress=progress)
            result = replace(big, settings=settings).solve()
            shape = (len(places[which]), plan.k)
            yield which, result.x.reshape(*shape, -1), result.success.reshape(shape)


def _bytes_each(group: Group) -> int:
    """Bytes of what one fit's data sets are made of: a covariance, and six values a point."""
    points = 6 * 8 * math.prod(group.lanes["y"].tail)
    return points + sum(math.prod(s.tail) * 8 for s in group.lanes.values())


def _of_replicates(small: Any, x: NDArray[Any], spread: NDArray[Any], plan: Plan) -> Any:
    """The problem of all data sets that are made of the fits of another, one after the other."""
    number = np.repeat(np.arange(len(x)), plan.k)
    big = small.take(number, (number.size,))
    groups = []
    for (members, group), (places, repeated) in zip(small.groups, big.groups, strict=True):
        points = _fitted_points(group, x[members], spread[members])
        groups.append((places, _replicated(repeated, points, plan)))
    start = replace(big.start, array=x[number].astype(np.float64), guess=None)
    return replace(big, groups=tuple(groups), start=start)


def _fitted_points(group: Group, x: NDArray[Any], spread: NDArray[Any]) -> FittedPoints:
    table = group.in_type_of(x).map(partial(_points, group.task), x)
    whitening = group.shared.get("whitening")
    if "whitening" in group.lanes:
        whitening = group.lanes["whitening"].read(0, group.total)
    factors = None if whitening is None else np.linalg.inv(np.asarray(whitening, np.float64))
    return FittedPoints.of(table, spread, factors)


def _points(task: Task, x: jax.Array, lane: Parts, shared: Parts) -> jax.Array:
    """(6, m): `FittedPoints` of one fit."""
    residual, y = task.residual, lane["y"]
    assert isinstance(residual, ModelResidual)  # since there is a model
    params, both = task.layout.from_vector(x), {**shared, **lane}
    live = residual.policy.live(lane, shared)
    live = jnp.ones(y.shape, bool) if live is None else live
    zeros = jnp.zeros(y.shape, y.dtype)
    errors = zeros if residual.counts else -residual(params, lane, shared)
    one = jnp.ones((), y.dtype)
    rows = (
        residual.predict(params, residual.x(lane, shared)),
        errors,
        jnp.where(live, both.get("sigma", one), one),
        live,
        y,
        jnp.where(live, both.get("f_scale", one), one),
    )
    return jnp.stack([jnp.broadcast_to(row, y.shape).astype(y.dtype) for row in rows])


def _replicated(group: Group, points: FittedPoints, plan: Plan) -> Group:
    """A group whose data are made of fits."""
    counts = group.task.loss is POISSON

    def source(make, rest=np.nan):
        made = Replicates(points, make, plan, group.dtype, rest)
        return Source(made, (group.total,), group.dtype)

    if plan.kind != "pairs":
        parametric = resampling.of_counts if counts else resampling.of_normal
        make = resampling.of_residuals if plan.kind == "residual" else parametric
        return replace(group, lanes={**group.lanes, "y": source(make)})
    if counts:
        made = {
            "y": source(resampling.counts_of_pairs),
            "drawn": source(resampling.multiplicities, 1.0),
        }
    else:
        made = {"sigma": source(resampling.sigma_of_pairs)}
        if isinstance(group.task.loss, Robust):
            made["f_scale"] = source(resampling.scale_of_pairs, 1.0)
    shared = {key: value for key, value in group.shared.items() if key not in made}
    return replace(group, task=_of_pairs(group.task), lanes={**group.lanes, **made}, shared=shared)


def _of_pairs(task: Task) -> Task:
    """A task in which points that were never drawn, which are NaN, do not count."""
    residual: Any = task.residual
    policy = Policy(omit=True, masked=residual.policy.masked)
    residual = replace(residual, policy=policy)
    jac = task.jac
    jac = replace(jac, policy=policy) if isinstance(jac, ModelJacobian) else jac
    if not residual.counts:
        return replace(task, residual=residual, jac=jac, check=policy)
    return replace(
        task,
        residual=_Drawn(residual),
        jac=_DrawnJacobian(jac) if callable(jac) else jac,
        check=policy,
        extra=Counts(policy),
    )


@dataclass(frozen=True)
class _Drawn:
    """A model of counts times how often each point was drawn.

    The deviance of w y at :math:`w \\mu` is w times that of y at :math:`\\mu`.
    """

    residual: ModelResidual

    def __call__(self, params: Any, lane: Parts, shared: Parts) -> jax.Array:
        values = self.residual(params, lane, shared)
        live = self.residual.policy.live(lane, shared)
        assert live is not None
        return values * jnp.where(live, lane["drawn"], jnp.ones((), values.dtype))


@dataclass(frozen=True)
class _DrawnJacobian:
    """Its Jacobian, where the caller gave one."""

    jac: Any

    def __call__(self, params: Any, lane: Parts, shared: Parts) -> jax.Array:
        return self.jac(params, lane, shared) * lane["drawn"][:, None]


# --- skewness ------------------------------------------------------------------------


def acceleration(problem: Any, x: NDArray[Any], inverse: NDArray[Any]) -> NDArray[Any]:
    r"""(..., n) accelerations of the parameters' distributions, a sixth of their skewness.

    .. math:: a = \frac{\sum_i u_i^3}{6 \left(\sum_i u_i^2\right)^{3/2}}, \quad
              u_i = -(J^T J)^{-1} J_i^T r_i

    with r model minus data, so that u is the empirical influence of each point on a parameter.
    Source: B. Efron, "Better bootstrap confidence intervals", JASA 82, 171 (1987), equation 6.6.

    Parameters
    ----------
    problem : jaxlsq.batch.run.Problem
    x : (..., n) array
    inverse : (..., n, n) array
        Of J'J.
    """
    flat = inverse.reshape(*x.shape[:-1], -1)
    both = np.concatenate([x, flat], axis=-1, dtype=np.float64)
    single = replace(problem, lengths=None)
    return single._gather(
        lambda group, both: group.in_float64().map(partial(_acceleration, group.task), both), both
    )


def _acceleration(task: Task, both: jax.Array, lane: Parts, shared: Parts) -> jax.Array:
    n = task.layout.n
    x, inverse = both[:n], both[n:].reshape(n, n)
    task = replace(task, loss=task.loss and task.loss.exact)
    rows, columns = task.lane(lane, shared)(tuple(x))
    terms = jnp.stack([jnp.broadcast_to(-c * rows[0], rows[0].shape) for c in columns])
    influence = jnp.matmul(inverse, terms, precision="highest")
    size = jnp.max(jnp.abs(influence), axis=1, keepdims=True)
    u = influence / jnp.where(size > 0, size, 1.0)
    squares = jnp.sum(u * u, axis=1)
    return jnp.sum(u * u * u, axis=1) / (6.0 * jnp.where(squares > 0, squares, 1.0) ** 1.5)
