"""Fits of one group, apart from each other; again in float64 or with differences if need be."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch import polish
from jaxlsq.batch.exact_first import has_errors_in_x, solved_from_exact
from jaxlsq.batch.group import Group
from jaxlsq.batch.interruption import Interruption
from jaxlsq.batch.stream import Control
from jaxlsq.problem.multistart import MultiStart
from jaxlsq.results.again import SAME_COST
from jaxlsq.schedule.queue import Ended
from jaxlsq.status import Status, converged

__all__ = ["not_begun", "solved_apart", "unless_asked"]


def solved_apart(
    problem: Any, index: NDArray[Any], group: Group, spread: MultiStart, control: Control
) -> tuple[dict[str, NDArray[Any]], str]:
    """Fit the data sets of one group of a `jaxlsq.batch.run.Problem`.

    Parameters
    ----------
    problem : jaxlsq.batch.run.Problem
    index : int array
        Their places in its batch, flat.
    group : Group
    spread : MultiStart
    control : Control

    Returns
    -------
    arrays : dict
        By name, as a `FitResult` has them.
    engine : str
        That worked them.
    """
    n, settings = problem.layout.n, problem.settings
    if not len(index):
        return not_begun(0, n, group.dtype), ""
    options = problem.options(group.dtype)
    start = None
    if problem.start.array is not None:
        rows, several = problem.start.array, len(problem.groups) > 1
        rows = rows[index] if several and rows.ndim > 1 else rows

        def read(first, last):
            return replace(problem.start, array=rows).read(first, last)

        start = read

    given = spread.given
    if given is not None and given.ndim == 3:
        spread = replace(spread, given=given[index])
    limits = problem.limits and problem.limits.take(index)
    begin = start, problem.start.guess
    solve = _solved
    if has_errors_in_x(group) and not problem.goes_on:
        solve = partial(solved_from_exact, _solved)
    ended, seen, engine = solve(group, begin, options, spread, control, limits)
    arrays = _best(ended, spread.starts)
    if not group.wide:
        some = polish.chosen(settings.polish, arrays, seen)
        if some.size:
            given = start and start(0, len(index))
            again = _in_float64(problem, group, arrays, some, given, control)
            arrays = polish.polished(arrays, again, some) if again else arrays
    arrays = {k: v for k, v in arrays.items() if k not in ("fnorm", "certainty")}
    arrays["dof"] = seen.live - (limits.varying() if limits else n)
    nothing = np.broadcast_to(np.int8(0), arrays["x"].shape)
    active = limits.active(arrays["x"], group.dtype) if limits else nothing
    arrays["active_mask"] = active
    return arrays, engine


def _in_float64(problem, group, arrays, some, given, control):
    """Arrays of some of a group's fits, gone on with in float64; None if interrupted."""
    wide, n = group.take(some).in_float64(), problem.layout.n
    limits = problem.limits and problem.limits.take(some)
    x = polish.continued(arrays, given, some)
    if limits and given is not None:  # what is fixed, as it was given
        x = np.where(limits.fixed & np.isfinite(given[some]), given[some], x)
    begin = (lambda first, last: x[first:last]), problem.start.guess
    options, spread = problem.options(wide.dtype, True), MultiStart.of(1, n, problem.batch)
    control = replace(control, report=None)
    how = options, spread, control, limits
    again = unless_asked(control.interrupts, _solved, wide, begin, *how)
    return again and _best(again.ended, 1)


def unless_asked(interrupts: Interruption, call: Callable[..., Any], *arguments: Any) -> Any:
    """``call(*arguments)``, and None where an interrupt came before it had anything."""
    if interrupts.asked:
        return None
    try:
        return call(*arguments)
    except KeyboardInterrupt:
        interrupts.ask()
        return None


def not_begun(size: int, n: int, dtype: np.dtype[Any]) -> dict[str, NDArray[Any]]:
    """Arrays of fits that an interruption left out."""
    real, whole = np.full(size, np.nan), np.zeros(size, np.int32)
    status = np.full(size, Status.INTERRUPTED, np.int32)
    counts = dict.fromkeys(("nfev", "njev", "nit", "dof", "agreed"), whole)
    x = np.full((size, n), np.nan, dtype)
    reals = {"x": x, "cost": real, "optimality": real.astype(dtype)}
    return reals | counts | {"status": status, "active_mask": np.zeros((size, n), np.int8)}


def _solved(group, begin, options, spread, control, limits):
    """`Group.solve`, and again with differences what ended for want of a finite derivative."""
    solved = group.solve(begin, options, spread, control, limits)
    ended = solved.ended
    (start, guess), starts = begin, spread.starts
    stuck = ended.status.reshape(-1, starts) == Status.NONFINITE_JACOBIAN
    some = np.flatnonzero(stuck.any(axis=1))
    if not some.size or group.task.evaluations:
        return solved
    again = group.take(some)
    again = replace(again, task=replace(again.task, repairs=True))
    rows = start and start(0, group.total)[some]
    begin = start and (lambda first, last: rows[first:last]), guess
    if spread.given is not None and spread.given.ndim == 3:
        spread = replace(spread, given=spread.given[some])
    control, limits = replace(control, report=None), limits and limits.take(some)
    how = options, spread, control, limits
    repaired = unless_asked(control.interrupts, again.solve, begin, *how)
    places = (some[:, None] * starts + np.arange(starts)).ravel()
    if repaired:
        new = vars(repaired.ended)
    else:
        new = not_begun(len(places), ended.x.shape[1], ended.x.dtype)
    arrays = {name: values.copy() for name, values in vars(ended).items()}
    for name, values in arrays.items():
        values[places] = new.get(name, np.nan)
    return solved._replace(ended=Ended(**arrays))


def _best(ended: Ended, starts):
    """Of each problem's starts the best one: converged before not, then the smallest cost."""
    arrays = vars(ended).copy()
    # In float64: the square of what float32 holds may leave its range.
    arrays["cost"] = 0.5 * np.square(arrays["fnorm"].astype(np.float64))
    if starts == 1:
        return arrays | {"agreed": np.isfinite(arrays["cost"]).astype(np.int32)}
    cost, status = (arrays[k].reshape(-1, starts) for k in ("cost", "status"))
    rank = np.where(np.isnan(cost), np.inf, cost)
    good = converged(status)
    some = good.any(axis=1, keepdims=True)
    rank = np.where(good | ~some, rank, np.inf)
    best = np.argmin(rank, axis=1)
    lowest = np.take_along_axis(rank, best[:, None], axis=1)
    with np.errstate(invalid="ignore"):
        agreed = np.count_nonzero(rank <= lowest * (1 + SAME_COST), axis=1)
    rows = np.arange(len(best)) * starts + best
    arrays = {name: values[rows] for name, values in arrays.items()}
    return arrays | {"agreed": np.where(np.isfinite(lowest[:, 0]), agreed, 0).astype(np.int32)}
