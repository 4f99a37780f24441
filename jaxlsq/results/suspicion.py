"""Fits that converged, and yet are to be looked at; and why."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.types import Batch
from jaxlsq.results.evaluator import Evaluator
from jaxlsq.results.neighbours import candidate, costs_of_rounding, in_parts, pairs
from jaxlsq.results.quantiles import beyond_chi2
from jaxlsq.results.shared import Shares
from jaxlsq.status import Status

__all__ = ["Suspicions"]

# A chi-squared that one of a million data sets reaches.
LEAST_PROBABILITY = 1e-6
# A chi-squared of less than so many times the root of its degrees of freedom above them, four
# standard deviations, has more than that.
FAR = 4.0 * np.sqrt(2.0)
# The mean of a count's deviance, and half its variance, are at most so much: at a mean of 1.34 (and
# below a chi-squared's of one degree where counts are small).  So the deviance over it is no larger
# than a chi-squared.
DEVIANCE = 1.1605
# What chi-squared may rise by at a distance of one standard error, by what it rises by where the
# model is linear.  (Two decays of rates 1 and 1.5 in 4 % of noise: all with errors larger than a
# rate or an amplitude are found; peaks of three times the noise, with an offset of zero: none.)
LEAST_RISE, MOST_RISE = 0.25, 4.0
# A cost that is lower by this part is another minimum's.
SAME_COST = 1e-4

# Squares of the standard errors, and part of the data's variation, by which a step lowers the
# chi-squared of a fit that XTOL ended short of its minimum; of data without noise the latter is
# rounding's.
SHORT, SEEN = 0.25, 1e-10

# In words, for summaries.
REASONS = {
    "dof": "no degrees of freedom",
    "bound": "a parameter at a bound",
    "undetermined": "parameters that the data do not determine",
    "errors": "errors that say nothing",
    "chi2": "chi-squared too large",
    "short": "xtol short of the minimum",
    "neighbour": "a neighbour whose parameters fit better",
}


@dataclass
class _Found:
    """What was found at some places.

    Attributes
    ----------
    reasons : dict of (k,) bool arrays
        By the names in `REASONS`.
    which : dict of (k, n) bool arrays
        For the reasons that are parameters', of which.
    beside, cost : (k,) arrays, optional
        Flat places of the neighbours whose parameters fit best, and the cost with those.
    """

    reasons: dict[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    which: dict[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    beside: NDArray[Any] | None = None
    cost: NDArray[Any] | None = None


class Suspicions:
    """What a `FitResult` says of fits whose status is a success, and that may be wrong."""

    x: NDArray[Any]
    cost: NDArray[Any]
    dof: NDArray[Any]
    status: NDArray[Any]
    optimality: NDArray[Any]
    active_mask: NDArray[Any]
    fixed: NDArray[Any]
    names: tuple[str, ...]
    of_counts: bool
    absolute_sigma: bool
    inverse: NDArray[Any] | None
    problem: Evaluator | None
    sharing: Shares | None

    if TYPE_CHECKING:  # what the rest of a `FitResult` has

        @property
        def success(self) -> NDArray[Any]: ...
        @property
        def shape(self) -> Batch: ...
        @property
        def free(self) -> NDArray[Any]: ...
        @property
        def redchi(self) -> NDArray[Any]: ...
        @property
        def chi2(self) -> NDArray[Any]: ...
        @cached_property
        def inverse_gram(self) -> NDArray[Any]: ...
        def _with_data(self, what: str) -> Evaluator: ...
        def _one(self, index: Any, what: str) -> Any: ...

    @property
    def at_bound(self) -> NDArray[Any]:
        """Which fits ended with a parameter at a bound, (...); `active_mask` says which one."""
        return np.any(self.active_mask != 0, axis=-1)

    @cached_property
    def suspect(self) -> NDArray[Any]:
        r"""Which fits converged and yet are to be looked at, (...) bool.

        - No degrees of freedom are left: the model goes through all points.
        - A parameter ended at a bound: there the data would have it elsewhere.
        - The data do not determine a parameter, whose error is infinite.
        - An error is larger than its parameter, and within one such error the model is not what
          it is taken for: with the others moved along, the cost there does not rise by half a
          unit of chi-squared, but by less than a quarter of that or more than four times, or is
          not finite; or both ends are out of bounds.  (An offset near zero has a large relative
          error too, and nothing is wrong with it.)
        - With ``absolute_sigma`` and of counts: chi-squared is beyond what one of a million data
          sets has; of counts the deviance over 1.16, which is no larger than a chi-squared.
        - It ended with XTOL, and a step would lower chi-squared by more than a quarter of a unit:
          what is short beside a large parameter, a date say, is not so beside the others.
        - The parameters of a fit beside it in the batch have a lower cost with its data: it is in
          a wrong minimum.

        Of a result without data, what can be told without: not the third if its covariance is not
        known either, nor the fourth and the last two.  See `suspicions` for words.
        """
        found = self._found(np.arange(self.status.size), True)
        return _any(found).reshape(self.shape)

    def suspicions(self, index: int | tuple[Any, ...] = ()) -> tuple[str, ...]:
        """Why one fit is `suspect`, in words.

        Parameters
        ----------
        index : int or tuple
            Which one.

        Returns
        -------
        tuple of str
            Empty if it is not.
        """
        return self._suspicions(self._one(index, "suspicions"), index)

    def _suspicions(self, one: Any, index: Any):
        """`suspicions` of one fit of the batch, at an index."""
        place = np.arange(self.status.size).reshape(self.shape)[index].reshape(())
        found = self._found(np.array([place]), True, one)
        return tuple(self._sentence(name, found, place) for name in REASONS if _has(found, name))

    def _suspicion_counts(self, thorough: bool) -> tuple[int, dict[str, int]]:
        """How many fits are suspect, and how many for each reason, in words."""
        found = self._found(np.arange(self.status.size), thorough)
        counts = {name: np.count_nonzero(which) for name, which in found.reasons.items()}
        some = {REASONS[name]: int(counts[name]) for name in REASONS if counts.get(name)}
        return int(np.count_nonzero(_any(found))), some

    def _sentence(self, name: str, found: _Found, place: Any) -> str:
        params = " and ".join(
            one
            for one, blamed in zip(self.names, found.which.get(name, [[]])[0], strict=False)
            if blamed
        )
        chi2, dof = self.chi2.reshape(-1)[place], int(self.dof.reshape(-1)[place])
        cost = self.cost.reshape(-1)[place]
        if name == "dof":
            return "no degrees of freedom are left: neither errors nor chi-squared say anything"
        if name == "bound":
            return f"{params} ended at a bound"
        if name == "undetermined":
            return f"the data do not determine {params}"
        if name == "errors":
            return (
                f"the error of {params} is larger than the value, and says nothing: within it the "
                "model is not linear"
            )
        if name == "chi2":
            what = "deviance" if self.of_counts else "chi-squared"
            return (
                f"a {what} of {chi2:.4g} with {dof} degrees of freedom: less than one of a million "
                "data sets has that, if model and sigma are right"
            )
        if name == "short":
            return (
                "xtol ended it short of its minimum: give a smaller one (1e-15 leaves the end to "
                "ftol), or subtract a constant from what is large (a date)"
            )
        assert found.beside is not None
        assert found.cost is not None
        beside = np.unravel_index(int(found.beside[0]), self.shape)
        beside = beside[0] if len(beside) == 1 else tuple(map(int, beside))
        return (
            f"the parameters of its neighbour {beside} fit it better: a cost of "
            f"{found.cost[0]:.5g} and not {cost:.5g}"
        )

    def _found(self, places: NDArray[Any], thorough: bool, part: Any = None):
        """What is suspicious at flat places; at once, or with what the data say too.

        `part` are the fits there, if not all.
        """
        n = len(self.names)
        good = self.success.reshape(-1)[places]
        dof, chi2 = (v.reshape(-1)[places] for v in (self.dof, self.chi2))
        active = self.active_mask.reshape(-1, n)[places] != 0
        found = _Found()
        left = self.sharing.dof.reshape(-1)[places] if self.sharing else dof
        found.reasons["dof"] = good & (left <= 0)
        found.which["bound"] = good[:, None] & active
        if self.absolute_sigma:
            chi2 = chi2.astype(np.float64) / (DEVIANCE if self.of_counts else 1.0)
            # Most are not above four standard deviations, and need no function of their own.
            most = dof + FAR * np.sqrt(np.maximum(dof, 0))
            beyond = found.reasons["chi2"] = good & (dof > 0) & (chi2 > most)
            if beyond.any():
                beyond[beyond] = beyond_chi2(chi2[beyond], dof[beyond]) < LEAST_PROBABILITY
        if thorough:
            self._add_of_errors(found, places, self if part is None else part)
            if self.problem is not None:
                self._add_of_neighbours(found, places)
        for name, which in found.which.items():
            found.reasons[name] = np.asarray(which.any(axis=-1))
        return found

    def _add_of_errors(self, found: _Found, places: NDArray[Any], part: Any):
        if self.problem is None and self.inverse is None:
            return
        good, n = part.success.reshape(-1), len(self.names)
        inverse = part.inverse_gram.reshape(-1, n, n)
        diagonal = np.diagonal(inverse, axis1=1, axis2=2)
        found.which["undetermined"] = good[:, None] & np.isinf(diagonal)
        if self.problem is None or self.sharing:  # of all that share they are, not of one
            return
        redchi = part.redchi.reshape(-1)
        variance = np.ones(len(places)) if self.absolute_sigma else redchi.astype(np.float64)
        with np.errstate(invalid="ignore"):
            errors = np.sqrt(diagonal * variance[:, None])
        x = part.x.reshape(-1, n).astype(np.float64)
        usable = good & np.isfinite(inverse).all(axis=(1, 2)) & np.isfinite(variance)
        found.reasons["short"] = self._short(places, part, usable, inverse, variance)
        large = usable[:, None] & (errors > np.abs(x))
        which, j = np.nonzero(large)
        found.which["errors"] = np.zeros_like(large)
        if which.size:  # of data without noise an error is rounding's
            cost = self.cost.reshape(-1)[places[which]]
            above = cost > costs_of_rounding(self, places[which])
            which, j = which[above], j[above]
        if not which.size:
            return
        step = inverse[which, :, j] / np.sqrt(diagonal[which, j])[:, None]
        step = step * np.sqrt(variance[which])[:, None]
        problem = self._with_data("suspect")
        near = problem.costs(places[which], x[which])
        lower, upper = np.moveaxis(problem.box(places[which]), -1, 0)
        outside, strange = np.ones(which.size, bool), np.zeros(which.size, bool)
        for side in (1.0, -1.0):
            end = x[which] + side * step
            inside = np.all((end >= lower) & (end <= upper), axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                rise = (problem.costs(places[which], end) - near) / (0.5 * variance[which])
            strange |= inside & ~((rise > LEAST_RISE) & (rise < MOST_RISE))
            outside &= ~inside
        found.which["errors"][which, j] = outside | strange

    def _short(
        self,
        places: NDArray[Any],
        part: Any,
        usable: NDArray[Any],
        inverse: NDArray[Any],
        variance: NDArray[Any],
    ):
        """Which fits XTOL ended where a step would lower chi-squared by more than is noise."""
        short = usable & (part.status.reshape(-1) == Status.XTOL)
        gradient = part.optimality.reshape(-1).astype(np.float64)  # the largest element's size
        gradient[~short] = 0.0  # may be infinite where a fit failed
        size = np.abs(np.where(short[:, None, None], inverse, 0.0)).sum(axis=(1, 2))
        short &= gradient**2 * size > SHORT * variance
        some = np.flatnonzero(short)
        if not some.size:
            return short
        n, problem = len(self.names), self._with_data("suspect")
        x, free = part.x.reshape(-1, n)[some].astype(np.float64), part.free.reshape(-1, n)[some]
        fall, variation = problem.left(places[some], x, free).T
        short[some] = (fall > SHORT * variance[some]) & (fall > SEEN * variation)
        return short

    def _add_of_neighbours(self, found: _Found, places: NDArray[Any]):
        good = self.success.reshape(-1)
        p, q = pairs(self.shape, of=None if len(places) == good.size else places)
        some = good[p] & good[q]
        p, q = p[some], q[some]
        found.beside, found.cost = np.zeros(len(places), int), np.full(len(places), np.inf)
        better = found.reasons["neighbour"] = np.zeros(len(places), bool)
        if not p.size:
            return
        problem = self._with_data("suspect")

        def costs(p: NDArray[Any], q: NDArray[Any]):
            return problem.costs(p, candidate(self, p, q).astype(np.float64))

        cost = in_parts(costs, p, q)
        order = np.lexsort((cost, p))
        p, q, cost = p[order], q[order], cost[order]
        best = np.concatenate([[True], p[1:] != p[:-1]])
        best &= cost < (1.0 - SAME_COST) * self.cost.reshape(-1)[p]
        p, q, cost = p[best], q[best], cost[best]
        if not p.size:
            return
        above = self.cost.reshape(-1)[p] > costs_of_rounding(self, p)
        p, q, cost = p[above], q[above], cost[above]
        at = np.searchsorted(places, p)
        better[at], found.beside[at], found.cost[at] = True, q, cost


def _any(found: _Found):
    return np.any([*found.reasons.values()], axis=0)


def _has(found: _Found, name: str):
    return name in found.reasons and bool(found.reasons[name][0])
