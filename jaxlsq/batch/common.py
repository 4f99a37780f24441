"""What is said of data sets whose common fits have ended."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.arrows import Arrows
from jaxlsq.batch.evaluation import NormalRows, packed_size
from jaxlsq.batch.interruption import in_time
from jaxlsq.batch.separable import all_parameters
from jaxlsq.lowering.engine import XLA
from jaxlsq.numerics.sweep import least_rank
from jaxlsq.problem.sharing import Sharing
from jaxlsq.results.result import FitResult
from jaxlsq.results.shared import Shares
from jaxlsq.status import Status, converged

__all__ = ["Found", "told"]


@dataclass(frozen=True)
class Found:
    """How data sets ended: (total, ...) arrays.

    Attributes
    ----------
    x : (total, n) array
        Of the parameters that were not eliminated.
    status, nfev, njev, nit : (total,) int32 arrays
    live : (total,) bool array
        Whether a data set is part of a fit.
    points : (total,) int array
        That count.
    """

    x: NDArray[Any]
    status: NDArray[Any]
    nfev: NDArray[Any]
    njev: NDArray[Any]
    nit: NDArray[Any]
    live: NDArray[Any]
    points: NDArray[Any]

    @classmethod
    def nothing(cls, x: NDArray[Any], status: NDArray[Any], points: NDArray[Any]) -> Self:
        """Before the first trial."""
        zero = np.zeros(len(x), np.int32)
        live = status == Status.RUNNING
        return cls(x, status, zero, zero.copy(), zero.copy(), live, points)

    @classmethod
    def interrupted(cls, total: int, n: int) -> Self:
        """Before there is so much as a start."""
        status = np.full(total, Status.INTERRUPTED, np.int32)
        return cls.nothing(np.full((total, n), np.nan), status, np.zeros(total, int))


def told(kept: Any, small: Any, found: Found) -> FitResult:
    """The `FitResult` of all parameters, with what the common fit says of their errors.

    Parameters
    ----------
    kept : jaxlsq.batch.run.Problem
        Of all parameters.
    small : jaxlsq.batch.run.Problem
        Of those that were not eliminated.
    found : Found
    """
    return _Told(kept, small, found).result()


class _Told:
    """How `told` finds it."""

    def __init__(self, kept: Any, small: Any, found: Found) -> None:
        self.kept, self.small, self.found = kept, small, found
        self.sharing: Sharing = kept.sharing
        self.problems, self.nodes = self.sharing.problems, self.sharing.nodes[0]
        self.own, self.shared = self.sharing.order(kept.names)
        self.order = (*self.own, *self.shared)

    def result(self) -> FitResult:
        """All of it."""
        kept, found = self.kept, self.found
        x = self._x()
        packed, engine = self._packed(x)
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
            "inverse": inverse,
        }
        result = kept.result_of([(np.arange(kept.total), arrays)], engine)
        return replace(result, sharing=self._shares(cost, dof, fixed))

    def _x(self):
        """All parameters (total, n)."""
        x = self.found.x
        if not self.kept.linear:
            return x
        whole, _ = all_parameters(self.small, x, np.zeros(x.shape, bool), self.found.status)
        whole[np.ix_(~self.found.live, [*self.kept.linear])] = np.nan
        return whole

    def _packed(self, x):
        """Normal equations at x, and the engine that made them.

        After an interrupt of fits that have ended, as far as there is time; NaN for the others.
        """
        groups = []
        for index, group in self.small.groups:
            task = getattr(group.task, "full", group.task)
            groups.append((index, replace(group, task=task).in_float64()))
        full, status = replace(self.kept, groups=tuple(groups), lengths=None), self.found.status
        packed = np.full((len(x), packed_size(len(self.order))), np.nan)
        done = np.flatnonzero(status != Status.INTERRUPTED)
        if not len(done):
            return packed, f"{XLA} for what is shared"
        if len(done) == len(x):
            rows = NormalRows(full, exact=True)
            return rows(x), f"{rows.engine}, and {XLA} for what is shared"
        full = full.take(done, (len(done),))
        some = in_time(lambda stop: NormalRows(full, exact=True)(x[done], stop))
        packed[done] = np.nan if some is None else some
        # A common fit is done if all its data sets are.
        live = self.found.live
        late = live & (np.isnan(packed).all(axis=1) | (status == Status.INTERRUPTED))
        status[live & np.isin(self.problems, self.problems[late])] = Status.INTERRUPTED
        return packed, f"{XLA} for what is shared"

    def _inverse(self, packed, free):
        """The inverse's blocks (total, n, n), and statuses where it says that J is singular."""
        found, (total, n) = self.found, free.shape
        blocks, status = np.full((total, n, n), np.nan), found.status.copy()
        good = found.live & np.isfinite(packed).all(axis=1)
        for arrows in Arrows.of(self.problems, self.nodes, self.order):
            sets = arrows.sets
            if np.all(status[sets] == Status.INTERRUPTED):
                continue
            members = arrows.members(good[sets])
            some = np.where(good[sets, None], packed[sets], 0.0)
            frees = arrows.vectors(free[sets].astype(float)) > 0
            inverse = arrows.inverse(arrows.arranged(some), members, frees)
            size = arrows.own + arrows.shared
            lost = ~(inverse.inflations * least_rank(size, np.float64) < 1.0)
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
