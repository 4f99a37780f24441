r"""Ends of profile likelihood intervals, of all fits, parameters and sides at once.

Each end is a lane: the root of

.. math:: z(\theta) = \sqrt{(\chi^2(\theta) - \chi^2_{min}) / s^2}

with :math:`\chi^2(\theta)` the least there is with the one parameter held at :math:`\theta`.  It is
near a straight line, of slope one over the standard error, so that a few waves of fits, which go on
from one another, find where it is at its limit.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jaxlsq.results.roots import End, Roots
from jaxlsq.status import Status, converged

__all__ = ["Minima", "Search", "usable"]

# What another minimum is lower by, in units of the variance: less is the rounding of the same one.
LOWER = 1e-6
# Minima that the profiles of one fit may lead to.
MOST_MINIMA = 5
# How many times as far the others are extrapolated along a profile, and up to how many times the
# goal a point is one to go on from.
EXTRAPOLATED, TRUSTED = 1.5, 2.0
# Spacings of a parameter's value that an interval has to have for its ends to be told apart.
SPACINGS = 4.0 * np.finfo(float).eps

_AT_THE_LIMIT = (Status.FTOL_TOO_SMALL, Status.XTOL_TOO_SMALL, Status.GTOL_TOO_SMALL)


def usable(status: NDArray[Any]) -> NDArray[Any]:
    """Which fits ended at a minimum, be it flat or at the limit of the arithmetic."""
    return converged(status) | np.isin(status, (*_AT_THE_LIMIT, Status.SINGULAR_JACOBIAN))


@dataclass(frozen=True)
class Minima:
    """The fits whose profiles are looked for.

    Attributes
    ----------
    number : (N,) int array
        Their places in the batch, flat.
    x : (N, n) array
    chi2, variance : (N,) arrays
    tangent : (N, n, n) array
        In row j, what the parameters change by along the profile of parameter j, for one of its.
    unit, slope : (N, n) arrays
        Standard errors, of a parameter at a bound as if it were free; and of the free ones alone.
    """

    number: NDArray[Any]
    x: NDArray[Any]
    chi2: NDArray[Any]
    variance: NDArray[Any]
    tangent: NDArray[Any]
    unit: NDArray[Any]
    slope: NDArray[Any]

    def take(self, rows: NDArray[Any]) -> Self:
        """Some of them."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def put(self, rows: NDArray[Any], others: Self) -> None:
        """Take other minima for those of some fits."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(others, field.name)


# The lowest minima of fits by their numbers, from x: with which are good, and evaluations.
MinimaFrom: TypeAlias = Callable[
    [NDArray[Any], NDArray[Any]], tuple[Minima, NDArray[Any], NDArray[Any]]
]

_ARRAYS = ("fit", "which", "side", "x", "x_low")


@dataclass(frozen=True)
class _Lanes:
    """Ends that are looked for.

    Attributes
    ----------
    fit, which, side : (L,) int arrays
        Row of the minimum, parameter, and -1 or 1.
    x : (L, 2, n) array
        Parameters at the last two points.
    x_low : (L, n) array
        Those at the farthest point below the goal; of the minimum where there is none.
    roots : Roots
        Whose distances are from the minimum.
    """

    fit: NDArray[Any]
    which: NDArray[Any]
    side: NDArray[Any]
    x: NDArray[Any]
    x_low: NDArray[Any]
    roots: Roots

    @property
    def places(self) -> tuple[NDArray[Any], ...]:
        """Indices in (N, n, 2) arrays of ends."""
        return self.fit, self.which, (self.side + 1) // 2

    def take(self, rows: NDArray[Any]) -> Self:
        """Some of them, by their indices."""
        arrays = {name: getattr(self, name).take(rows, axis=0) for name in _ARRAYS}
        return type(self)(**arrays, roots=self.roots.take(rows))

    def joined(self, others: Self) -> Self:
        """These and others."""
        mine, theirs = vars(self), vars(others)
        arrays = {name: np.concatenate([mine[name], theirs[name]]) for name in _ARRAYS}
        return type(self)(**arrays, roots=self.roots.joined(others.roots))


class Search:
    """The search of the ends of profiles.

    Parameters
    ----------
    minima : Minima
        Rows of which are exchanged where a lower one is met.
    goal : (N,) array
        What z is at the ends.
    wanted : (N, n) bool array
        Which parameters' profiles.
    bounds : (N, n, 2) array
    solve : callable
        ``solve(number, x, hold)``, see `jaxlsq.results.evaluator.Evaluator.held`.
    minima_from : callable
        ``minima_from(number, x) -> Minima, good, nfev``: where fits from x end, which of them do,
        and their evaluations.

    Attributes
    ----------
    values : (N, n, 2) array
        The ends.
    ends : (N, n, 2) int8 array
        Codes of `End`.
    nfev : (N,) int array
        Evaluations.
    """

    def __init__(
        self,
        minima: Minima,
        goal: NDArray[Any],
        wanted: NDArray[Any],
        bounds: NDArray[Any],
        solve: Callable[..., dict[str, NDArray[Any]]],
        minima_from: MinimaFrom,
    ) -> None:
        self.minima: Minima = minima
        self.goal: NDArray[Any] = goal
        self.wanted: NDArray[Any] = wanted
        self.bounds: NDArray[Any] = bounds
        self.solve: Callable[..., dict[str, NDArray[Any]]] = solve
        self.minima_from: MinimaFrom = minima_from
        self.values: NDArray[Any] = np.full(bounds.shape, np.nan)
        self.ends: NDArray[Any] = np.full(bounds.shape, End.NOT_FOUND, np.int8)
        self.nfev: NDArray[Any] = np.zeros(len(goal), int)
        self._found = np.ones(len(goal), int)

    def run(self) -> None:
        """Find all ends."""
        lanes = self._begun(np.arange(len(self.goal)))
        while lanes.fit.size:
            lanes = self._wave(lanes)

    def _begun(self, rows: NDArray[Any]):
        """Lanes of some fits, but for those whose end is known."""
        m = self.minima
        k, which = np.nonzero(self.wanted[rows])
        fit, side = np.repeat(rows[k], 2), np.tile([-1, 1], k.size)
        which = np.repeat(which, 2)
        at, goal = m.x[fit, which], self.goal[fit]
        reach = side * (self.bounds[fit, which, (side + 1) // 2] - at)
        first = goal * m.unit[fit, which]
        narrow = first <= SPACINGS * np.abs(at)
        roots = Roots.begin(goal, reach, m.slope[fit, which], first)
        none = np.full((fit.size, 2, m.x.shape[1]), np.nan)
        lanes = _Lanes(fit, which, side, none, m.x[fit], roots)
        at_once = np.where(reach <= 0, End.BOUND, np.where(narrow, End.FOUND, End.SEARCHED))
        return self._without(lanes, at_once, np.minimum(first, reach))

    def _without(self, lanes: _Lanes, ends: NDArray[Any], distances: NDArray[Any]):
        """Lanes but for those that ended, whose values are put in their places."""
        searched = ends == End.SEARCHED
        done = np.flatnonzero(~searched)
        if not done.size:
            return lanes
        some, codes = lanes.take(done), ends[done]
        at = self.minima.x[some.fit, some.which] + some.side * distances[done]
        self.values[some.places] = np.where(codes == End.BOUND, self.bounds[some.places], at)
        self.ends[some.places] = codes
        return lanes.take(np.flatnonzero(searched))

    def _wave(self, lanes: _Lanes):
        """All lanes one point further."""
        m, trial = self.minima, lanes.roots.trial
        hold = np.arange(m.x.shape[1]) == lanes.which[:, None]
        theta = m.x[lanes.fit, lanes.which] + lanes.side * trial
        x = np.where(hold, theta[:, None], self._others(lanes))
        fitted = self.solve(m.number[lanes.fit], x, hold)
        self.nfev += np.bincount(lanes.fit, fitted["nfev"], self.nfev.size).astype(int)
        good = usable(fitted["status"]) & np.isfinite(fitted["cost"])
        with np.errstate(invalid="ignore"):  # of fits that are exact, or have failed
            rise = (2.0 * fitted["cost"] - m.chi2[lanes.fit]) / m.variance[lanes.fit]
        lower = good & (rise < -LOWER)
        fresh, found = None, fitted["x"]
        if lower.any():
            fresh = self._from_lower(lanes.fit[lower], rise[lower], found[lower])
            stays = np.flatnonzero(~np.isin(lanes.fit, lanes.fit[lower]))
            lanes, rise, good, found = lanes.take(stays), rise[stays], good[stays], found[stays]
        z = np.sqrt(np.maximum(rise, 0.0))
        trial, (roots, ends, distances) = lanes.roots.trial, lanes.roots.moved(z, good)
        points = np.stack([lanes.x[:, 1], found], axis=1)
        if not good.all():
            points = np.where(good[:, None, None], points, lanes.x)
        lowest = np.where((good & (roots.low == trial))[:, None], found, lanes.x_low)
        lanes = _Lanes(lanes.fit, lanes.which, lanes.side, points, lowest, roots)
        lanes = self._without(lanes, ends, distances)
        return lanes if fresh is None else lanes.joined(fresh)

    def _from_lower(self, fit: NDArray[Any], rise: NDArray[Any], x: NDArray[Any]):
        """Lanes of fits with a lower minimum than was known, from there."""
        order = np.lexsort((rise, fit))
        rows, first = np.unique(fit[order], return_index=True)
        self.ends[rows] = np.where(self.wanted[rows][..., None], End.NOT_FOUND, self.ends[rows])
        self.values[rows] = np.nan
        self._found[rows] += 1
        minima, good, nfev = self.minima_from(self.minima.number[rows], x[order][first])
        self.nfev[rows] += nfev
        good &= self._found[rows] <= MOST_MINIMA
        self.minima.put(rows[good], minima.take(good))
        return self._begun(rows[good])

    def _others(self, lanes: _Lanes):
        """Parameters at the trial distances: along the last two points, or from the tangent.

        A parabola through the minimum, with its tangent, and the last point, where that is alone.
        What is far above the goal may be of another valley, and is not gone on from.
        """
        m, roots = self.minima, lanes.roots
        at, tangent = m.x[lanes.fit], m.tangent[lanes.fit, lanes.which]
        sides = lanes.side[:, None]
        t, t1, t2 = (sides * v[:, None] for v in (roots.trial, roots.d[:, 1], roots.d[:, 2]))
        others = at + tangent * t
        if not roots.count.any():
            return others
        below = roots.low > 0
        others = np.where(below[:, None], lanes.x_low, others)
        near = roots.z[:, 1:] <= TRUSTED * roots.goal[:, None]
        with np.errstate(invalid="ignore"):
            near[:, 1] &= np.abs(t - t2)[:, 0] <= (EXTRAPOLATED - 1.0) * np.abs(t2)[:, 0]
        left = near[:, 1] & ~(roots.doubted & below)

        def put(rows: NDArray[Any], values: NDArray[Any]):
            finite = np.isfinite(values).all(axis=1)
            others[rows[finite]] = values[finite]
            left[rows[finite]] = False

        with np.errstate(all="ignore"):
            rows = np.flatnonzero(left & near[:, 0])
            x1, x2 = lanes.x[rows, 0], lanes.x[rows, 1]
            put(rows, x2 + (x2 - x1) / (t2 - t1)[rows] * (t - t2)[rows])
            rows = np.flatnonzero(left)
            at, tangent, t, t2 = at[rows], tangent[rows], t[rows], t2[rows]
            bend = ((lanes.x[rows, 1] - at) / t2 - tangent) / t2
            put(rows, at + tangent * t + bend * t**2)
        return others
