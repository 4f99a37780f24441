"""Intervals of the profile likelihood of a result's fits."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.results.covariance import scaled_inverses
from jaxlsq.results.evaluator import Evaluator
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.quantiles import normal, student
from jaxlsq.results.roots import End
from jaxlsq.results.search import Minima, Search, usable

__all__ = ["Profile", "check_apart", "minima_of", "profiled", "times"]

# A minimum that is lower by this, in units of the variance, is another one than that of the fit;
# and by this part of a cost of float32, which is not exact.
BETTER, NARROW = 1e-3, 1e-4
# Fits whose ends are looked for at once.
PORTION = 1 << 16
WORDS = {
    End.FOUND: "found",
    End.BOUND: "at a bound",
    End.OPEN: "infinite: the cost stays below its limit",
    End.FIXED: "of fixed parameters",
    End.NOT_FITTED: "NaN: the fit did not end at a minimum",
    End.NOT_FOUND: "NaN: fits on the way failed, or led to ever lower minima",
}


@dataclass(frozen=True, repr=False)
class Profile:
    """Intervals of the profile likelihood.

    Attributes
    ----------
    interval : (..., k, 2) float64 array
        The ends.
    ends : (..., k, 2) int8 array
        What each end is: 0, where the cost is at its limit; 1, a bound of the parameter, where it
        is not; 2, infinite, since it never is; 3, the value of a fixed parameter.  NaN are -1,
        where the fit did not end at a minimum, and -2, where no end was found.
    names : tuple of str
        Of the k parameters.
    level : float
    better : (...) bool array
        Fits of which a lower minimum was met on the way, around which the intervals are.
    result : FitResult
        The fits, with what is better.
    nfev : (...) int array
        Evaluations of the residual that it took.
    """

    interval: NDArray[Any]
    ends: NDArray[Any]
    names: tuple[str, ...]
    level: float
    better: NDArray[Any]
    result: Any
    nfev: NDArray[Any]

    def __repr__(self) -> str:
        lines = [f"Profile: intervals of {100 * self.level:g} % for {', '.join(self.names)}"]
        codes, counts = np.unique(self.ends, return_counts=True)
        for code, count in zip(codes, counts, strict=True):
            lines.append(f"  {count:>9,} ends {WORDS[End(code)]}")
        if self.better.any():
            lines.append(f"  {self.better.sum():>9,} fits with a lower minimum, in `result`")
        if not self.better.ndim:
            pairs = zip(self.names, self.interval, strict=True)
            lines += [f"  {name:<12}{low:<14.7g}{high:.7g}" for name, (low, high) in pairs]
        return "\n".join(lines)


def times(result: Any, level: float) -> NDArray[Any]:
    """Standard errors from a fit's value to the ends of an interval, (...)."""
    if result.absolute_sigma:
        return np.full(result.shape, normal(level))
    return student(level, result.sharing.dof if result.sharing else result.dof)


def check_apart(result: Any, what: str) -> None:
    """Raise ValueError where fits share parameters, so that none can be refitted for itself."""
    if result.sharing is not None:
        raise ValueError(
            f"{what} is of fits apart, and these share {', '.join(result.sharing.names)}: use "
            "interval(method='wald'), whose errors are of the common fit."
        )


def profiled(result: Any, numbers: list[int], level: float) -> Profile:
    """The `Profile` of some parameters of all fits; see `FitResult.profile`."""
    check_apart(result, "a profile")
    problem = result._with_data("a profile")
    shape, total, n = result.shape, result.status.size, len(result.names)
    values, ends = np.full((total, n, 2), np.nan), np.full((total, n, 2), End.NOT_FITTED, np.int8)
    x, nfev = result.x.reshape(total, n).astype(float), np.zeros(total, int)
    better = np.zeros(total, bool)
    can = usable(result.status).ravel()
    values[can], ends[can] = (-np.inf, np.inf), End.OPEN  # without degrees of freedom
    fits = np.flatnonzero(can & (result.absolute_sigma | (result.dof > 0)).ravel())

    def searched():
        for first in range(0, fits.size, PORTION):
            number = fits[first : first + PORTION]
            search = _searched(result, problem, numbers, level, number)
            values[number], ends[number] = search.values, search.ends
            nfev[number], better[number] = search.nfev, _better(result, search.minima)
            x[number] = search.minima.x
        return _with_better(result, problem, x, np.flatnonzero(better))

    with problem.interruption() as interrupts:
        kept = interrupts.unless_asked(searched)
        interrupts.settle()
    if interrupts.asked:
        raise Interrupted(result)
    fixed = result.fixed.reshape(total, n) & can[:, None]
    values[fixed], ends[fixed] = result.x.reshape(total, n)[fixed][:, None], End.FIXED
    _warn(better, ends[:, numbers])
    return Profile(
        interval=values[:, numbers].reshape(*shape, len(numbers), 2),
        ends=ends[:, numbers].reshape(*shape, len(numbers), 2),
        names=tuple(result.names[j] for j in numbers),
        level=level,
        better=better.reshape(shape),
        result=kept,
        nfev=nfev.reshape(shape),
    )


def _searched(
    result: Any, problem: Any, numbers: Sequence[int], level: float, number: NDArray[Any]
):
    """The `Search` of the ends of some fits, after it."""
    total, n = result.status.size, len(result.names)

    def from_there(number: NDArray[Any], x: NDArray[Any]):
        return minima_of(result, problem, number, x)

    goal = times(result, level).ravel()[number]
    minima, good, nfev = from_there(number, result.x.reshape(total, n)[number].astype(float))
    wanted = ~result.fixed.reshape(total, n)[number] & good[:, None]
    wanted &= np.isin(np.arange(n), numbers)
    search = Search(minima, goal, wanted, problem.box(number), problem.held, from_there)
    search.nfev += nfev
    search.run()
    return search


def minima_of(
    result: Any, problem: Evaluator, number: NDArray[Any], x: NDArray[Any]
) -> tuple[Minima, NDArray[Any], NDArray[Any]]:
    """Minima of some fits in float64, from x on; which of them are; and the evaluations it took."""
    total, n = result.status.size, len(result.names)
    fitted = problem.held(number, x, np.zeros(x.shape, bool))
    x, chi2, good = fitted["x"], 2.0 * fitted["cost"], usable(fitted["status"])
    gram = problem.take(number, number.shape).gram(x)
    varies = ~result.fixed.reshape(total, n)[number]
    bounds = problem.box(number)
    free = varies & (x > bounds[..., 0]) & (x < bounds[..., 1])
    inverse = _inverse(gram, free)
    variance = np.ones(len(number))
    if not result.absolute_sigma:
        variance = chi2 / result.dof.ravel()[number]
    diagonal = np.where(free, np.diagonal(inverse, axis1=1, axis2=2), np.inf)
    with np.errstate(all="ignore"):
        tangent = inverse / diagonal[..., None]
        alone = 1.0 / np.diagonal(gram, axis1=1, axis2=2)  # as if the others were known
        best = np.where(np.isfinite(diagonal), diagonal, alone)
        unit = np.sqrt(variance[:, None] * best)
    unit = np.where(np.isfinite(unit), unit, np.maximum(np.abs(x), 1.0))
    tangent = np.where(np.isfinite(tangent), tangent, 0.0)
    slope = np.where(free, unit, 0.0)
    return Minima(number, x, chi2, variance, tangent, unit, slope), good, fitted["nfev"]


def _inverse(gram: NDArray[Any], free: NDArray[Any]):
    """Inverses of normal matrices of the parameters that are free, with zeros for the others."""
    both = free[:, :, None] & free[:, None, :]
    matrices = np.where(both, gram, np.eye(gram.shape[-1]))
    return np.where(both, scaled_inverses(matrices, np.float64), 0.0)


def _better(result: Any, minima: Minima):
    """Whose minimum is lower than that of the fit."""
    chi2 = result.chi2.ravel()[minima.number].astype(float)
    slack = BETTER * minima.variance
    if result.problem.is_narrow:
        slack = np.maximum(slack, NARROW * chi2)
    return minima.chi2 < chi2 - slack


def _with_better(result: Any, problem: Any, x: NDArray[Any], index: NDArray[Any]):
    """The result with the fits of which there is a lower minimum, at x (total, n)."""
    if not index.size:
        return result
    settings = problem.changed_settings({"starts": 1, "progress": False})
    again = problem.again(index, x.reshape(result.x.shape), None, settings)
    return result._improved(index, again)


def _warn(better: NDArray[Any], ends: NDArray[Any]) -> None:
    """Say what is not as the fit had it, and what was not found."""
    texts: list[str] = []
    if better.any():
        texts.append(
            f"{better.sum():,} of {better.size:,} fits have a lower minimum than theirs, which "
            "their profiles met: these intervals are around it, and profile().result has it."
        )
    lost = np.count_nonzero(ends == End.NOT_FOUND)
    if lost:
        texts.append(
            f"{lost:,} of {ends.size:,} ends were not found, and are NaN: the model is not finite "
            "on the way to them, or its fits fail. Bounds keep a parameter where the model is."
        )
    if texts:
        warnings.warn(" ".join(texts), RuntimeWarning, stacklevel=4)
