"""Fits of data sets that share parameters: one problem of many, with one trust region.

Between two trials every data set's residual and Jacobian are reduced to its normal equations,
block by block of the data; from those of all, `jaxlsq.batch.arrows` proposes the next trial.  What
is in memory is of the size of the parameters.  Problems that share nothing with each other have a
trust region each, and those that have ended are not evaluated any more.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from jaxlsq.batch.arrows import Arrows
from jaxlsq.batch.common import Found, told
from jaxlsq.batch.evaluation import NormalRows, packed_size
from jaxlsq.batch.interruption import Interruption
from jaxlsq.batch.progress import reporter
from jaxlsq.batch.separable import reduced
from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.state import Options
from jaxlsq.problem.sharing import Sharing
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.result import FitResult
from jaxlsq.status import Status

__all__ = ["solved_together"]

# Lanes of which so many have ended leave the rest with blocks of their own.
ENDED_PART = 0.5
# What is little of the sum of many data sets can be much of one.
FTOL, XTOL = 1e-12, 1e-10
# Data sets that are looked at together.
BLOCK = 8192


def solved_together(problem: Any) -> FitResult:
    """Fit a `jaxlsq.batch.run.Problem` whose data sets share parameters.

    Raises
    ------
    ValueError
        Where what is shared is given different bounds or values, or for what is meant for fits
        apart.
    Interrupted
        On Ctrl-C, with what is done.
    """
    _check(problem)
    kept = problem.kept()
    if problem.linear:
        small = reduced(problem, kept)
    else:
        small = replace(kept, groups=_given(problem, kept))
    with Interruption() as interrupts:
        with reporter(problem.settings.progress, problem.total) as report:
            found = _Together(small).solve(interrupts, report)
        asked = interrupts.asked
        result = interrupts.unless_asked(told, kept, small, found)
        if result is None:
            if not asked:  # it was left in the middle, and would take as long again
                found.status[found.live] = Status.INTERRUPTED
            result = told(kept, small, found)
        interrupts.settle()
        if interrupts.asked:
            raise Interrupted(result)
    return result


def _check(problem):
    """Raise ValueError for what is meant for fits apart."""
    if not isinstance(problem.settings.starts, int) or problem.settings.starts != 1:
        raise ValueError("starts is for fits apart; with shared there is one start, p0.")
    if problem.groups[0][1].task.evaluations:
        raise ValueError(
            "jac by differences is for fits apart; with shared leave jac out, or give a function."
        )


def _given(problem, kept):
    """Groups with tasks that were traced before."""
    pairs = zip(kept.groups, problem.groups, strict=True)
    return tuple((index, replace(group, task=given.task)) for (index, group), (_, given) in pairs)


class _Together:
    """The fits of a problem, whose tasks are of the parameters that are fitted.

    Parameters
    ----------
    problem : jaxlsq.batch.run.Problem
        With `sharing`.
    """

    def __init__(self, problem: Any) -> None:
        groups = tuple((index, group.in_float64()) for index, group in problem.groups)
        self.problem = replace(problem, groups=groups, lengths=None)
        self.sharing: Sharing = problem.sharing
        self.own, self.shared = self.sharing.order(problem.names)
        self.order = (*self.own, *self.shared)

    def solve(self, interrupts: Interruption, report: Any) -> Found:
        """Fit all."""
        sharing = self.sharing
        begun = interrupts.unless_asked(self._begin)
        if begun is None:
            return Found.interrupted(self.problem.total, self.problem.layout.n)
        x0, bounds, found = begun
        fixed = np.zeros(x0.shape, bool)
        if bounds:
            fixed = bounds.lower == bounds.upper
        done = 0
        for arrows in Arrows.of(sharing.problems, sharing.nodes[0], self.order):
            if interrupts.asked:
                break
            done += len(arrows.sets)
            self._solve_some(arrows, found, bounds, fixed, interrupts)
            if report:
                report(done)
        found.status[found.status == Status.RUNNING] = Status.INTERRUPTED
        return found

    def _begin(self):
        """Starts, their bounds, and what is found before the first trial."""
        problem, sharing = self.problem, self.sharing
        x0 = sharing.medians(self._starts(), self.shared)
        limits = sharing.limits(problem.limits, problem.start.array, problem.names)
        bounds = None
        if limits:
            x0, bounds = limits.block(x0[:, None], 0, len(x0))
            x0 = x0[:, 0]
        return x0, bounds, Found.nothing(x0, *self._seen(x0))

    def _starts(self):
        """(total, n)."""
        problem, n = self.problem, self.problem.layout.n
        start, total = problem.start, problem.total
        x0 = np.full((total, n), np.nan)
        if start.array is not None:
            x0[:] = start.array
        if start.guess is not None and not np.all(np.isfinite(x0)):
            guessed = np.empty_like(x0)
            for index, group in problem.groups:
                nothing = np.zeros((len(index), n))
                guessed[index] = group.map(partial(_guess, start.guess), nothing)
            x0 = np.where(np.isfinite(x0), x0, guessed)
        return x0

    def _seen(self, x0):
        """The status of each data set before its fit, and how many of its points count."""
        problem = self.problem
        points, good = np.zeros(problem.total, int), np.ones(problem.total, bool)
        for index, group in problem.groups:
            for first in range(0, group.total, BLOCK):
                last = min(first + BLOCK, group.total)
                lanes = group.block(first, last, last - first)
                m = lanes["y"].shape[-1]
                seen, finite = group.task.check(lanes, group.shared, m, np)
                points[index[first:last]] = seen.live
                good[index[first:last]] = finite
        good &= np.isfinite(x0).all(axis=1)
        status = np.where(good, Status.RUNNING, Status.NONFINITE_DATA)
        return np.where(points == 0, Status.MASKED_OUT, status).astype(np.int32), points

    def _solve_some(self, arrows, found, bounds, fixed, interrupts):
        """Fit the problems of one size, and put how they ended into `found`."""
        sets = arrows.sets
        live = found.live[sets]
        members = arrows.members(live)
        box = bounds and Bounds(*(arrows.vectors(side[sets]) for side in bounds))
        x0 = arrows.vectors(found.x[sets])
        state = interrupts.unless_asked(arrows.begin, x0, members, box is not None)
        if state is None:
            return
        begun = self._begun(arrows, found.points[sets] * live, fixed[sets], live)
        state = replace(state, status=begun)
        options = self._options(arrows)
        active: Any = None
        rows: Any = None
        first = True
        while np.any(np.asarray(state.status) == Status.RUNNING) and not interrupts.asked:
            running = (np.asarray(state.status) == Status.RUNNING)[arrows.problem] & live
            if active is None or running.sum() < ENDED_PART * len(active):
                active = np.flatnonzero(running)
                some = self.problem.take(sets[active], (len(active),))
                rows = interrupts.unless_asked(NormalRows, some)
            x = arrows.rows(np.asarray(state.trial.x))
            of_active = interrupts.unless_asked(rows, x[active])
            if of_active is None:
                break
            packed = np.zeros((len(sets), packed_size(len(self.order))))
            packed[active] = of_active
            if first:
                bad = live & ~np.isfinite(packed[:, -1])
                found.status[sets[bad]] = Status.NONFINITE_START
                live = live & ~bad
                members, first = arrows.members(live), False
                lost = np.bincount(arrows.problem, live, arrows.count) == 0
                lost &= np.asarray(state.status) == Status.RUNNING
                state = replace(
                    state, status=np.where(lost, Status.NONFINITE_START, begun).astype(np.int32)
                )
            turned = arrows.arranged(packed), members, options, box
            state = interrupts.unless_asked(arrows.turn, state, *turned) or state
        self._put(arrows, found, state, live)

    def _begun(self, arrows, points, fixed, live):
        """Statuses of problems before their first trial."""

        def summed(values):
            return np.bincount(arrows.problem, values, arrows.count)

        own = (~fixed[:, self.own]).sum(axis=1) + self.problem.groups[0][1].task.eliminated
        shared = arrows.vectors(np.where(fixed, 0.0, 1.0))[: arrows.shared].sum(axis=0)
        enough = summed(points) >= summed(own * live) + shared
        status = np.where(enough, Status.RUNNING, Status.TOO_FEW_POINTS)
        return np.where(summed(live) == 0, Status.MASKED_OUT, status).astype(np.int32)

    def _options(self, arrows: Arrows) -> Options:
        settings, options = self.problem.settings, self.problem.options(np.dtype(np.float64))
        diag = np.broadcast_to(options.diag, (len(arrows.sets), len(self.order)))
        return replace(
            options,
            ftol=np.float64(FTOL) if settings.ftol is None else options.ftol,
            xtol=np.float64(XTOL) if settings.xtol is None else options.xtol,
            diag=arrows.vectors(diag),
        )

    def _put(self, arrows, found, state, live):
        point, sets, of = state.point, arrows.sets, arrows.problem
        begun = np.isfinite(np.asarray(point.fnorm))[of]
        x = arrows.rows(np.asarray(point.x))
        found.x[sets] = np.where(begun[:, None], x, found.x[sets])
        status = np.asarray(state.status)[of]
        status = np.where(status == Status.RUNNING, Status.INTERRUPTED, status)
        found.status[sets] = np.where(live, status, found.status[sets])
        found.live[sets] = live
        for name in ("nfev", "njev", "nit"):
            getattr(found, name)[sets] = np.where(live, np.asarray(getattr(state, name))[of], 0)


def _guess(guess, x, lane, shared):
    return guess(lane, shared)
