"""A problem with other bounds, another loss or another mask than it was fitted with."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.group import Group
from jaxlsq.batch.kept import Keeper
from jaxlsq.numerics.loss import POISSON, Loss, Robust
from jaxlsq.problem.arrangement import Arrangement
from jaxlsq.problem.contents import check_flags
from jaxlsq.problem.covariance import GOES_WITH_NO_MASK
from jaxlsq.problem.functions import Counts, ModelJacobian, ModelResidual, Predict, scale_of
from jaxlsq.problem.inputs import broadcast_source
from jaxlsq.problem.limits import Limits
from jaxlsq.problem.losses import check_no_sigma, check_scale, loss_of, not_counts
from jaxlsq.problem.model_values import bounds_of
from jaxlsq.problem.points import Filled, Known, filled, known
from jaxlsq.problem.policy import Policy, find
from jaxlsq.problem.sources import Source
from jaxlsq.problem.task import Task

__all__ = ["CHANGES", "changed", "merged"]

CHANGES = ("bounds", "fixed", "loss", "f_scale", "mask")
ROWS = 4096


def changed(problem: Any, changes: dict[str, Any]) -> Any:
    """The `jaxlsq.batch.run.Problem` of the same data with some of `CHANGES`, which are copied.

    Raises
    ------
    ValueError, TypeError
        For improper values, as `jaxlsq.fit` raises them.
    """
    if problem.sharing is not None or problem.linear:
        raise ValueError(
            f"refit does not change {', '.join(changes)} where parameters are shared or linear; "
            "call fit again."
        )
    names = {name.split(".")[0] for _, g in problem.groups for name in (*g.lanes, *g.shared)}
    if "xsigma" in names and set(changes) - {"bounds", "fixed"}:
        raise ValueError("refit changes neither loss nor mask where x has errors; call fit again.")
    keeper = Keeper()
    if {"bounds", "fixed"} & set(changes):
        limits = _limits(problem, changes)
        problem = replace(problem, limits=limits and limits.kept(keeper))
    if "mask" in changes:
        problem = _with_mask(problem, changes["mask"], keeper)
    if {"loss", "f_scale"} & set(changes):
        problem = _with_loss(problem, changes, keeper)
    return replace(problem, watched=(*(problem.watched or ()), *keeper.watched))


def merged(old: Any, new: Any, index: NDArray[Any]) -> Any:
    """A problem whose fits at some flat places are those of another of the same data."""
    if len(index) == old.total:
        return new
    is_new = np.zeros(old.total, bool)
    is_new[index] = True
    groups = []
    for (members, before), (_, after) in zip(old.groups, new.groups, strict=True):
        for which, group in ((~is_new[members], before), (is_new[members], after)):
            some = np.flatnonzero(which)
            if some.size:
                groups.append((members[some], group.take(some)))
    limits = _merged_limits(old, new, is_new)
    watched = tuple({id(one): one for one in (*(old.watched or ()), *new.watched)}.values())
    return replace(old, groups=tuple(groups), limits=limits, watched=watched)


def _merged_limits(old, new, is_new):
    if old.limits is new.limits:
        return old.limits
    n = old.layout.n
    free = Limits(np.full(n, -np.inf), np.full(n, np.inf), np.zeros(n, bool))
    before, after = (vars(p.limits or free) for p in (old, new))
    return Limits(**{k: np.where(is_new[:, None], after[k], before[k]) for k in before})


# --- bounds ---------------------------------------------------------------------------


def _arranged(problem, value, name):
    """Values for each parameter in the order of the fits."""
    if problem.arrangement is None:
        return Arrangement.lost(value, name)
    if name == "bounds":
        return problem.arrangement.bounds(value)
    return problem.arrangement.parameters(value, name)


def _limits(problem, changes):
    """With the bounds, and what is fixed, of before where they are not changed."""
    shape, n, old = problem.batch, problem.layout.n, problem.limits

    def spread(values):
        return values if values.ndim == 1 else values.reshape(*shape, n)

    bounds = fixed = None
    if old is not None:
        bounds = spread(old.lower), spread(old.upper)
        fixed = spread(old.fixed & (old.lower != old.upper))
    if "bounds" in changes:
        bounds = _arranged(problem, changes["bounds"], "bounds")
        model = problem.model.model if isinstance(problem.model, Predict) else None
        bounds = bounds if model is None else bounds_of(model, bounds)
    if "fixed" in changes:
        fixed = _arranged(problem, changes["fixed"], "fixed")
    # Where a fit has ended may be outside: it is moved inside, as other starts are.
    anywhere = replace(problem.start, array=None)
    return Limits.of(bounds, fixed, anywhere, problem.names, shape)


# --- points ---------------------------------------------------------------------------


def _of_points(problem, value, name):
    """What broadcasts to the data, with the points last."""
    if problem.arrangement is None:
        return Arrangement.lost(value, name)
    return problem.arrangement.points(value, name)


def _part(problem, members, group, value, kind):
    """What is per point of a group, of an array for all: shared, or a Source; and its name."""
    name = "mask" if kind == np.dtype(bool) else "f_scale"
    shape = (*problem.batch, group.lanes["y"].tail[-1])
    part = broadcast_source(value, shape, problem.batch, kind, name)
    if not isinstance(part, Source):
        return part
    return replace(part, index=None if len(members) == problem.total else members)


def _put(group, name, part):
    """A group with an entry of the data replaced, or without it if it is None."""
    lanes = {k: v for k, v in group.lanes.items() if k != name}
    shared = {k: v for k, v in group.shared.items() if k != name}
    if part is not None:
        (lanes if isinstance(part, Source) else shared)[name] = part
    return replace(group, lanes=lanes, shared=shared)


def _with_mask(problem, mask, keeper):
    if problem.model is None:
        raise ValueError("mask is of data that are fitted by a model: use fit.")
    if problem.lengths is not None:
        raise ValueError(
            "refit takes no mask where data sets differ in length; call fit again with it."
        )
    mask = check_flags(_of_points(problem, mask, "mask"))
    mask = keeper.array("mask", np.asarray(mask, bool))
    groups = []
    for members, group in problem.groups:
        if "whitening" in group.lanes or "whitening" in group.shared:
            raise ValueError(GOES_WITH_NO_MASK)
        group = _put(group, "mask", _part(problem, members, group, mask, np.dtype(bool)))
        policy = group.task.residual.policy
        group = group if policy.some else _with_known_x(group)
        task = _task(group.task, replace(policy, masked=True), group.task.loss)
        groups.append((members, replace(group, task=task)))
    start = problem.start
    if start.guess is not None:
        start = replace(start, guess=start.guess.masked())
    return replace(problem, groups=tuple(groups), start=start)


def _with_known_x(group: Group) -> Group:
    """A group whose x may be NaN where a point does not count."""
    m = group.lanes["y"].tail[-1]
    for name, value in [*group.lanes.items(), *group.shared.items()]:
        of_x, _, number = name.partition(".")
        tail = value.tail if isinstance(value, Source) else value.shape
        if of_x != "xdata" or value.dtype.kind != "f" or tail[-1:] != (m,):
            continue
        known_name = f"known.x.{number}"
        if isinstance(value, Source):
            array, batch, index = value.array, value.batch, value.index
            group = _put(group, name, Source(Filled(array), batch, value.dtype, index))
            is_known = Source(Known(array), batch, np.dtype(bool), index)
            group = _put(group, known_name, is_known)
        else:
            group = _put(_put(group, name, filled(value)), known_name, known(value))
    return group


def _task(task: Task, policy: Policy | None, loss: Loss | None) -> Task:
    """A task with another loss, or other points that count."""
    counts, residual, jac = loss is POISSON, task.residual, task.jac
    extra = loss and scale_of
    if policy is None or not isinstance(residual, ModelResidual):
        return replace(task, loss=loss, extra=extra)
    if isinstance(jac, ModelJacobian):
        jac = replace(jac, policy=policy)
    return replace(
        task,
        residual=replace(residual, policy=policy, counts=counts),
        jac=jac,
        check=policy,
        loss=loss,
        extra=Counts(policy) if counts else extra,
    )


# --- losses ---------------------------------------------------------------------------


def _with_loss(problem, changes, keeper):
    old, loss = problem.loss, problem.loss
    if "loss" in changes:
        loss = loss_of(changes["loss"], counts=problem.model is not None)
        loss = keeper.function(loss)
    scale = changes.get("f_scale")
    if scale is not None:
        check_scale(scale)
        if not isinstance(loss, Robust):
            raise ValueError("f_scale goes with a robust loss, such as loss='soft_l1'.")
        scale = keeper.array("f_scale", np.asarray(_of_points(problem, scale, "f_scale")))
    groups = []
    for members, group in problem.groups:
        if loss is POISSON:
            _check_counts(group)
        policy = getattr(group.task.residual, "policy", None)
        group = _with_scale(problem, members, group, loss, scale)
        groups.append((members, replace(group, task=_task(group.task, policy, loss))))
    absolute = problem.absolute_sigma
    if (loss is POISSON) != (old is POISSON):
        absolute = loss is POISSON
    return replace(problem, groups=tuple(groups), absolute_sigma=absolute)


def _with_scale(problem, members, group, loss, scale):
    """A group with a robust loss's scale: that of before if none is given, 1 without either."""
    if not isinstance(loss, Robust):
        return _put(group, "f_scale", None)
    if scale is None:
        if "f_scale" in group.lanes or "f_scale" in group.shared:
            return group
        scale = np.ones(())
    if problem.model is not None:
        return _put(group, "f_scale", _part(problem, members, group, scale, group.dtype))
    part: Any = np.asarray(scale, group.dtype)
    if part.ndim == 2:
        part = Source(part, problem.batch, group.dtype, members)
    return _put(group, "f_scale", part)


def _check_counts(group: Group) -> None:
    """Raise ValueError where the data are not counts, or have a sigma."""
    for name in ("sigma", "whitening"):
        check_no_sigma(find(name, group.lanes, group.shared))
    residual: Any = group.task.residual
    for first in range(0, group.total, ROWS):
        last = min(first + ROWS, group.total)
        lanes = group.block(first, last, last - first)
        live = residual.policy.live_of(lanes, group.shared, np)
        bad = not_counts(lanes["y"]) & ~np.isnan(lanes["y"])
        bad = bad if live is None else bad & live
        if bad.any():
            raise ValueError(
                "loss='poisson' needs counts, whole numbers from zero on; ydata has "
                f"{lanes['y'][bad].ravel()[0]!r}. Mask such points."
            )
