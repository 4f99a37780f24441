"""Roots of many rising functions at once, each of which is known where it was evaluated.

A function is zero at the distance zero and near a straight line.  Its root, where it reaches its
goal, is found by interpolation of the inverse, inside a bracket where there is one.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["End", "Roots"]

# A root is known near a point where interpolations of two orders differ by less, relative to its
# distance, and would do so if the function had this bend; the error of the higher order is a part
# of that.
EXACT, NEAR, BEND = 1e-7, 0.05, 0.1
# How many times as far the next point may be, and that while the value is still below a part of
# the goal; how far a root may be, in first steps.
GROWTH, FASTER, LITTLE, FARTHEST = 4.0, 16.0, 0.1, 1e9
# Rise over a step of nearly GROWTH, as a part of what is missing, up to which a function has
# stopped to rise, if it is above that part of the goal.
FAR, FLAT = 2.9, 1e-3
# Relative width, and distance in first steps, of a gap before a point that could not be evaluated.
GAP, LEAST = 1e-6, 1e-6
# Functions are continuous: a rise by this part of the goal over this relative width is the fault of
# the value above, which is forgotten, as is a point that could not be evaluated so near to one that
# could; so many times, and the next point is so much farther out.
JUMP, WIDTH, JUMPS, OUT = 0.5, 1e-3, 2, 1.25
# Points; and after how many of them a bracket is halved every other time.
MOST, PATIENCE = 100, 6


class End(IntEnum):
    """How the search of a root ended, or that of an end of an interval."""

    FOUND = 0
    BOUND = 1
    OPEN = 2
    FIXED = 3
    NOT_FITTED = -1
    NOT_FOUND = -2
    SEARCHED = -100


@dataclass(frozen=True)
class Roots:
    """Roots that are looked for.

    Attributes
    ----------
    goal : (L,) array
        The value of a function at its root.
    reach : (L,) array
        The farthest distance at which it may be evaluated.
    slope : (L,) array
        Of the distance over the value at zero.
    first, trial : (L,) arrays
        Distances of the first point, and of the next one.
    d, z : (L, 3) arrays
        Distances and values of the last three points, the last one last; the first of all is the
        minimum, and before that they are NaN.
    low, high, broken : (L,) arrays
        Distances of the farthest point below the goal, the nearest one above it, and the nearest
        one that could not be evaluated; zero, and inf, where there is none.
    z_low, z_high : (L,) arrays
        The values there.
    count, jumps : (L,) int arrays
        Points so far, and how often a value above was forgotten.
    doubted : (L,) bool array
        Whether the last value was forgotten, or there was none.
    """

    goal: NDArray[Any]
    reach: NDArray[Any]
    slope: NDArray[Any]
    first: NDArray[Any]
    trial: NDArray[Any]
    d: NDArray[Any]
    z: NDArray[Any]
    low: NDArray[Any]
    high: NDArray[Any]
    broken: NDArray[Any]
    z_low: NDArray[Any]
    z_high: NDArray[Any]
    count: NDArray[Any]
    jumps: NDArray[Any]
    doubted: NDArray[Any]

    @classmethod
    def begin(
        cls, goal: NDArray[Any], reach: NDArray[Any], slope: NDArray[Any], first: NDArray[Any]
    ) -> Self:
        """Before the first point, which is at `first` or, if that is nearer, at `reach`."""
        none = np.where(np.arange(3) < 2, np.nan, np.zeros((goal.size, 3)))
        zero, far = np.zeros(goal.size), np.full(goal.size, np.inf)
        count, no = np.zeros(goal.size, int), np.zeros(goal.size, bool)
        known = goal, reach, slope, first, np.minimum(first, reach)
        return cls(*known, none, none, zero, far, far, zero, far, count, count, no)

    def take(self, rows: NDArray[Any]) -> Self:
        """Some of them, by their indices."""
        return type(self)(**{k: values.take(rows, axis=0) for k, values in vars(self).items()})

    def joined(self, others: Self) -> Self:
        """These and others."""
        mine, theirs = vars(self), vars(others)
        return type(self)(**{name: np.concatenate([mine[name], theirs[name]]) for name in mine})

    def moved(self, z: NDArray[Any], good: NDArray[Any]) -> tuple[Self, NDArray[Any], NDArray[Any]]:
        """After the values at the trial distances.

        Parameters
        ----------
        z : (L,) array
        good : (L,) bool array
            Which could be evaluated.

        Returns
        -------
        Roots
            With the next trial distances.
        ends : (L,) int8 array
            Codes of `End`: SEARCHED where there is to be another point.
        distances : (L,) array
            Of roots: inf for OPEN, NaN where there is none.
        """
        seen = self._seen(z, good)
        estimate, simpler = seen._estimates()
        ends, distances = seen._ended(estimate, simpler, good)
        return replace(seen, trial=seen._next(estimate)), ends, distances

    def _seen(self, z: NDArray[Any], good: NDArray[Any]):
        """With the values at the trial distances."""
        d, shift = self.trial, good[:, None]
        lower = good & (z < self.goal) & (d > self.low)
        upper = good & (z >= self.goal) & (d < self.high)
        seen = replace(
            self,
            d=np.where(shift, np.column_stack([self.d[:, 1:], d]), self.d),
            z=np.where(shift, np.column_stack([self.z[:, 1:], z]), self.z),
            low=np.where(lower, d, self.low),
            z_low=np.where(lower, z, self.z_low),
            high=np.where(upper, d, self.high),
            z_high=np.where(upper, z, self.z_high),
            broken=np.where(good, self.broken, np.minimum(self.broken, d)),
            count=self.count + 1,
        )
        return seen._without_jumps(good)

    def _without_jumps(self, good: NDArray[Any]):
        """Without values above that are out of line with one just below, and gaps beside one."""
        with np.errstate(invalid="ignore"):
            steep = self.high - self.low <= WIDTH * np.where(np.isinf(self.high), 0.0, self.high)
            steep &= self.z_high - self.z_low > JUMP * self.goal
            gap = self.broken - self.low <= WIDTH * np.where(np.isinf(self.broken), 0, self.broken)
        again = (self.low > 0) & (self.jumps < JUMPS)
        jump, gap = steep & again, gap & again
        return replace(
            self,
            high=np.where(jump, np.inf, self.high),
            z_high=np.where(jump, np.inf, self.z_high),
            broken=np.where(gap, np.inf, self.broken),
            jumps=self.jumps + (jump | gap),
            doubted=jump | gap | ~good,
        )

    def _estimates(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Distances of the root: on a parabola through the last three points, and of an order less.

        After one point, through the minimum with the slope there; NaN where a value repeats itself.
        """
        (d0, d1, d2), (z0, z1, z2), q = self.d.T, self.z.T, self.goal
        with np.errstate(all="ignore"):
            secant = (d2 - d1) / (z2 - z1)
            before = np.where(np.isnan(z0), self.slope, (d1 - d0) / (z1 - z0))
            bend = (secant - before) / (z2 - np.where(np.isnan(z0), z1, z0))
            line = d2 + secant * (q - z2)
            return line + bend * (q - z2) * (q - z1), line

    def _ended(self, estimate: NDArray[Any], simpler: NDArray[Any], good: NDArray[Any]):
        """Codes of `End`, and distances."""
        (_, d1, d2), (_, z1, z2), d = self.d.T, self.z.T, self.trial
        top = np.minimum(self.high, self.broken)
        missing = self.goal - z2
        with np.errstate(invalid="ignore"):
            inside = (estimate >= self.low * (1 - EXACT)) & (estimate <= top * (1 + EXACT))
            found = good & inside & (np.abs(missing) <= NEAR * self.goal)
            found &= np.abs(estimate - simpler) <= EXACT * estimate
            found &= BEND * np.abs(missing * (self.goal - z1)) <= EXACT * self.goal**2
            narrow = np.isfinite(self.high) & (self.high - self.low <= EXACT * self.high)
            bound = good & (missing >= 0) & (d >= self.reach) | found & (estimate >= self.reach)
            flat = (z1 > LITTLE * self.goal) & (d2 >= FAR * d1) & (z2 - z1 <= FLAT * missing)
            is_open = good & np.isinf(top) & (flat | (d2 >= FARTHEST * self.first))
            gap = np.isfinite(self.broken)
            gap &= self.broken - self.low <= np.maximum(GAP * self.broken, LEAST * self.first)
        lost = (gap & ~(self.high < self.broken)) | (self.count >= MOST)
        cases = (
            (bound, End.BOUND, self.reach),
            (found, End.FOUND, estimate),
            (narrow, End.FOUND, 0.5 * (self.low + self.high)),
            (is_open, End.OPEN, np.inf),
            (lost, End.NOT_FOUND, np.nan),
        )
        conditions = [case[0] for case in cases]
        ends = np.select(conditions, [case[1] for case in cases], End.SEARCHED)
        return ends.astype(np.int8), np.select(conditions, [case[2] for case in cases], np.nan)

    def _next(self, estimate: NDArray[Any]):
        """The next trial distance."""
        top = np.minimum(self.high, self.broken)
        bracketed = np.isfinite(top)
        middle = 0.5 * (self.low + np.where(bracketed, top, self.low))
        with np.errstate(invalid="ignore"):
            inside = (estimate > self.low) & (estimate < top)
            inside &= (self.count < PATIENCE) | (self.count % 2 == 0)
            near = (estimate > self.low) & (estimate < GROWTH * self.low)
        growth = np.where(self.z_low < LITTLE * self.goal, FASTER, GROWTH)
        outward = np.where(near, estimate, growth * self.low)
        outward = np.where(self.doubted, OUT * self.low, outward)
        return np.minimum(
            np.where(bracketed, np.where(inside, estimate, middle), outward), self.reach
        )
