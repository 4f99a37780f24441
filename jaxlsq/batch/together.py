"""Fits of data sets that share parameters: one problem of many, with one trust region.

Between two trials every data set's residual and Jacobian are reduced to its normal equations,
block by block of the data; from those of all, `jaxlsq.batch.arrows` proposes the next trial.  What
is in memory is of the size of the parameters.  Problems that share nothing with each other have a
trust region each, and those that have ended are not evaluated any more.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from jaxlsq.batch.arrows import Arrows
from jaxlsq.batch.evaluation import normal_rows, packed_size
from jaxlsq.batch.interruption import Interruption
from jaxlsq.batch.progress import reporter
from jaxlsq.batch.separable import all_parameters, reduced
from jaxlsq.lowering.engine import XLA
from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.state import Options
from jaxlsq.numerics.sweep import floor_of
from jaxlsq.problem.sharing import Sharing
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.result import FitResult
from jaxlsq.results.shared import Shares
from jaxlsq.status import Status, converged

__all__ = ["solved_together"]

# Lanes of which so many have ended leave the rest with blocks of their own.
ENDED_PART = 0.5
# What is little of the sum of many data sets can be much of one.
FTOL, XTOL = 1e-12, 1e-10
# Data sets that are looked at together.
BLOCK = 8192
ENGINE = f"{XLA}: parameters are shared"


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
    if not isinstance(problem.settings.starts, int) or problem.settings.starts != 1:
        raise ValueError("starts is for fits apart; with shared there is one start, p0.")
    kept = problem.kept()
    if problem.linear:
        small = reduced(problem, kept)
    else:
        small = replace(kept, groups=_given(problem, kept))
    with Interruption() as interrupts:
        with reporter(problem.settings.progress, problem.total) as report:
            found = _Together(small).solve(interrupts, report)
        result = _Ended(kept, small, found).result()
        interrupts.settle()
        if interrupts.asked:
            raise Interrupted(result)
    return result


def _given(problem, kept):
    """Groups with tasks that were traced before."""
    pairs = zip(kept.groups, problem.groups, strict=True)
    return tuple((index, replace(group, task=given.task)) for (index, group), (_, given) in pairs)


@dataclass(frozen=True)
class _Found:
    """How data sets ended: (total, ...) arrays."""

    x: np.ndarray
    status: np.ndarray
    nfev: np.ndarray
    njev: np.ndarray
    nit: np.ndarray
    live: np.ndarray  # whether a data set is part of a fit
    points: np.ndarray

    @classmethod
    def nothing(cls, x, status, points):
        """Before the first trial."""
        zero = np.zeros(len(x), np.int32)
        live = status == Status.RUNNING
        return cls(x, status, zero, zero.copy(), zero.copy(), live, points)


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
        self.shared = [problem.names.index(name) for name in self.sharing.names]
        own = [j for j in range(problem.layout.n) if j not in self.shared]
        self.order = (*own, *self.shared)

    def solve(self, interrupts: Interruption, report: Any) -> _Found:
        """Fit all."""
        problem, sharing = self.problem, self.sharing
        x0 = sharing.medians(self._starts(), self.shared)
        starts = problem.start.array
        limits = sharing.limits(problem.limits, starts, problem.names)
        bounds = None
        if limits:
            x0, bounds = limits.block(x0[:, None], 0, len(x0))
            x0 = x0[:, 0]
        status, points = self._seen(x0)
        found = _Found.nothing(x0, status, points)
        fixed = np.zeros(x0.shape, bool)
        if bounds:
            fixed = bounds.lower == bounds.upper
        done = 0
        for arrows in Arrows.of(sharing.problems(), sharing.nodes()[0], self.order):
            done += len(arrows.sets)
            self._solve_some(arrows, found, bounds, fixed, interrupts)
            if report:
                report(done)
        return found

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
        state = arrows.begin(arrows.vectors(found.x[sets]), members, box is not None)
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
                rows = _Rows(self.problem.take(sets[active], (len(active),)))
            x = arrows.rows(np.asarray(state.trial.x))
            packed = np.zeros((len(sets), packed_size(len(self.order))))
            packed[active] = rows(x[active])
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
            state = arrows.turn(state, arrows.arranged(packed), members, options, box)
        self._put(arrows, found, state, live)

    def _begun(self, arrows, points, fixed, live):
        """Statuses of problems before their first trial."""
        counted = np.bincount(arrows.problem, points, arrows.count)
        own = [j for j in self.order if j not in self.shared]
        free = np.bincount(arrows.problem, (~fixed[:, own]).sum(axis=1) * live, arrows.count)
        varies = arrows.vectors(np.where(fixed, 0.0, 1.0))[: arrows.shared]
        free += varies.sum(axis=0)
        free += self.problem.groups[0][1].task.eliminated * np.bincount(
            arrows.problem, live, arrows.count
        )
        status = np.where(counted >= free, Status.RUNNING, Status.TOO_FEW_POINTS)
        empty = np.bincount(arrows.problem, live, arrows.count) == 0
        return np.where(empty, Status.MASKED_OUT, status).astype(np.int32)

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


class _Rows:
    """The normal equations of all data sets of a problem, at any parameters (total, n)."""

    def __init__(self, problem: Any, exact: bool = False) -> None:
        self.total, n = problem.total, problem.layout.n
        self.parts = [(index, normal_rows(group, exact)) for index, group in problem.groups]
        self.size = packed_size(n)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(total, packed_size(n))."""
        if len(self.parts) == 1:
            return self.parts[0][1](x)
        out = np.empty((self.total, self.size))
        for index, rows in self.parts:
            out[index] = rows(x[index])
        return out


class _Ended:
    """What is said of data sets whose common fits have ended.

    Parameters
    ----------
    kept : jaxlsq.batch.run.Problem
        Of all parameters.
    small : jaxlsq.batch.run.Problem
        Of those that were not eliminated.
    found : _Found
    """

    def __init__(self, kept: Any, small: Any, found: _Found) -> None:
        self.kept, self.small, self.found = kept, small, found
        self.sharing: Sharing = kept.sharing
        self.problems, self.nodes = self.sharing.problems(), self.sharing.nodes()[0]
        shared = [kept.names.index(name) for name in self.sharing.names]
        self.own = [j for j in range(kept.layout.n) if j not in shared]
        self.order = (*self.own, *shared)
        self.shared = shared

    def result(self) -> FitResult:
        """All of it."""
        kept, found = self.kept, self.found
        x = self._x()
        packed = self._packed(x)
        cost = np.where(found.live, 0.5 * packed[:, -1], np.nan)
        limits = self.sharing.limits(kept.limits, None, kept.names)
        fixed = np.zeros(x.shape, bool)
        active = np.zeros(x.shape, np.int8)
        if limits:
            fixed[:] = limits.fixed
            active[:] = limits.active(x, x.dtype)
        inverse, status = self._inverse(packed, ~fixed & (active == 0))
        dof = found.points - (~fixed[:, self.own]).sum(axis=1)
        arrays = {
            "x": x,
            "cost": cost,
            "status": status,
            "nfev": found.nfev,
            "njev": found.njev,
            "nit": found.nit,
            "optimality": self._optimality(packed, fixed | (active != 0)),
            "dof": dof.astype(np.int32),
            "agreed": np.isfinite(cost).astype(np.int32),
            "active_mask": active,
            "fixed": fixed,
            "inverse": inverse,
        }
        shaped = {k: v.reshape(*kept.batch, *v.shape[1:]) for k, v in arrays.items()}
        return FitResult(
            **shaped,
            layout=kept.layout,
            names=kept.names,
            problem=kept,
            of_counts=kept.of_counts,
            absolute_sigma=kept.absolute_sigma,
            engine=ENGINE,
            labels=kept.labels,
            sharing=self._shares(cost, dof, fixed),
        )

    def _x(self):
        """All parameters (total, n)."""
        x = self.found.x
        if not self.kept.linear:
            return x
        whole = all_parameters(self.small, x)
        whole[np.ix_(~self.found.live, [*self.kept.linear])] = np.nan
        return whole

    def _packed(self, x):
        groups = []
        for index, group in self.small.groups:
            task = getattr(group.task, "full", group.task)
            groups.append((index, replace(group, task=task).in_float64()))
        return _Rows(replace(self.kept, groups=tuple(groups)), exact=True)(x)

    def _inverse(self, packed, free):
        """The inverse's blocks (total, n, n), and statuses where it says that J is singular."""
        found, (total, n) = self.found, free.shape
        blocks, status = np.full((total, n, n), np.nan), found.status.copy()
        good = found.live & np.isfinite(packed).all(axis=1)
        for arrows in Arrows.of(self.problems, self.nodes, self.order):
            sets = arrows.sets
            members = arrows.members(good[sets])
            some = np.where(good[sets, None], packed[sets], 0.0)
            frees = arrows.vectors(free[sets].astype(float)) > 0
            inverse = arrows.inverse(arrows.arranged(some), members, frees)
            size = arrows.own + arrows.shared
            lost = ~(inverse.inflations * size * floor_of(size, np.float64) < 1.0)
            both = free[sets][:, :, None] & free[sets][:, None, :]
            either = lost[:, :, None] | lost[:, None, :]
            values = np.where(both, np.where(either, np.inf, inverse.blocks), 0.0)
            blocks[sets] = np.where(found.live[sets, None, None], values, np.nan)
            singular = converged(status[sets]) & lost.any(axis=1)
            status[sets[singular]] = Status.SINGULAR_JACOBIAN
        bad = converged(status) & ~np.isfinite(packed[:, -1])
        status[bad] = Status.NONFINITE_COST
        return blocks, status

    def _optimality(self, packed, held):
        """The largest element of the gradient of each data set's own and shared parameters."""
        n, q = len(self.order), len(self.shared)
        gradient = packed[:, -1 - n : -1][:, list(self.order)]
        gradient = np.where(self.found.live[:, None], gradient, 0.0)
        sums = np.zeros(self.nodes.max(initial=0) + 1)
        np.add.at(sums, self.nodes, gradient[:, n - q :])
        gradient[:, n - q :] = sums[self.nodes]
        gradient = np.where(held[:, list(self.order)], 0.0, np.abs(gradient))
        return np.where(self.found.live, gradient.max(axis=1), np.nan)

    def _shares(self, cost, dof, fixed):
        """Costs and degrees of freedom of common fits, for each data set."""
        live, problems = self.found.live, self.problems
        total = np.bincount(problems, np.where(live, np.nan_to_num(cost), 0.0))
        points = np.bincount(problems, np.where(live, dof, 0))
        for j, place in enumerate(self.shared):
            _, first = np.unique(self.nodes[:, j], return_index=True)
            free = ~fixed[first, place]
            points -= np.bincount(problems[first], free, len(points))
        batch = self.kept.batch
        return Shares(
            names=self.sharing.names,
            labels=self.sharing.labels,
            index=self.sharing.index.reshape(*batch, -1),
            cost=np.where(live, total[problems], np.nan).reshape(batch),
            dof=points[problems].astype(np.int64).reshape(batch),
        )
