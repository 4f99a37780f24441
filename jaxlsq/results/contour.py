"""Joint confidence regions of two parameters of one fit."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.results.evaluator import Evaluator
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.profile import check_apart, minima_of
from jaxlsq.results.quantiles import joint
from jaxlsq.results.roots import End
from jaxlsq.results.search import LOWER, Minima, Search, usable
from jaxlsq.results.surface import Surface, surface

__all__ = ["SIGMAS", "Contour", "contour_of", "region"]

# Probabilities of one, two and three standard deviations of a normal variable.
SIGMAS = (0.6827, 0.9545, 0.9973)
# Part of a region's width that is shown around it.
MARGIN = 0.08
MOST_MINIMA = 5
# Of a grid along the ridge: its least half width in standard errors of b, and how often the width
# is measured.
LEAST_WIDTH, WIDTHS = 1e-6, 6
# By how much a frame that a region runs off is made wider where its end is not known, how often.
WIDER, MOST_WIDER = 3.0, 5


@dataclass(frozen=True)
class Contour:
    """The profile likelihood of two parameters on a grid.

    Attributes
    ----------
    names : (str, str)
        Of the two parameters.
    a, b : arrays
        Their values along the axes of the grid; of a grid along the ridge, at each place of it.
    minimum : (2,) array
        Where the fit is.
    rise : (b.size, a.size) array
        The least :math:`\\chi^2` for each pair of values, above that of the fit; NaN where a fit
        with the pair failed.
    level : (b.size, a.size) array
        The probability of the joint confidence region that ends there.
    levels, limits : tuples of float
        Probabilities that are to be drawn, and the rises there.
    open : tuple of str
        Where the region of the largest one does not close, in words; a bound closes it.
    """

    names: tuple[str, str]
    a: NDArray[Any]
    b: NDArray[Any]
    minimum: NDArray[Any]
    rise: NDArray[Any]
    level: NDArray[Any]
    levels: tuple[float, ...]
    limits: tuple[float, ...]
    open: tuple[str, ...] = ()

    def __repr__(self) -> str:
        one, other = self.names
        lines = [
            f"Contour of {one} and {other}, {self.rise.shape[1]} x {self.rise.shape[0]} places, "
            f"around {self.minimum[0]:.6g} and {self.minimum[1]:.6g}"
        ]
        places = np.broadcast_arrays(self.a, self.b if self.b.ndim > 1 else self.b[:, None])
        for level, limit in zip(self.levels, self.limits, strict=True):
            inner = self.rise <= limit
            found = [
                f"{name} {at[inner].min():.5g} to {at[inner].max():.5g}"
                for name, at in zip(self.names, places, strict=True)
                if inner.any()
            ]
            lines.append(f"  {100 * level:6.4g} %  {', '.join(found) or 'narrower than the grid'}")
        lines += [f"  open {words}" for words in self.open]
        return "\n".join(lines)


def contour_of(
    one: Any,
    numbers: list[int],
    levels: Sequence[float],
    sizes: tuple[int, ...],
    ridge: bool = False,
) -> Contour:
    """The `Contour` of two parameters of one fit; see `FitResult.contour`.

    On a rectangular grid, or on one along the ridge where b is the best for each a: of parameters
    that are strongly correlated a region is so narrow that a rectangle has few places in it.
    """
    check_apart(one, "a contour")
    problem, names = one._with_data("a contour"), [one.names[j] for j in numbers]
    if not usable(one.status) or not (one.absolute_sigma or one.dof > 0):
        raise ValueError(f"a contour needs a fit that ended at a minimum: {one.message()}")
    held = [name for name, j in zip(names, numbers, strict=True) if one.fixed[j]]
    if held:
        raise ValueError(f"a contour is of parameters that are fitted, and {held[0]!r} is fixed.")
    with problem.interruption() as interrupts:
        done = interrupts.unless_asked(_found, one, problem, numbers, max(levels), sizes, ridge)
        interrupts.settle()
    if interrupts.asked:
        raise Interrupted(one)
    found, values, minima, sides = done
    chi2, variance = minima.chi2[0], minima.variance[0]
    if chi2 < one.chi2 - max(1e-3 * variance, 1e-4 * one.chi2 * (one.x.dtype == np.float32)):
        warnings.warn(
            f"this fit has a lower minimum, of chi2 {chi2:.6g} in the place of {one.chi2:.6g}, "
            "around which the contour is: profile().result has it, or refit from there.",
            RuntimeWarning,
            stacklevel=3,
        )
    rise = np.maximum(found.chi2 - chi2, 0.0).T
    dof = None if one.absolute_sigma else int(one.dof)
    opened = _in_words(sides, names, values)
    if opened:
        warnings.warn(
            f"the region of {100 * max(levels):.4g} % does not close: it goes on {opened[0]}"
            f"{''.join(f', and {words}' for words in opened[1:])}. The frame ends "
            "there; bounds close it.",
            RuntimeWarning,
            stacklevel=3,
        )
    return Contour(
        names=(names[0], names[1]),
        a=values[..., 0].T if ridge else values[:, 0, 0],
        b=values[..., 1].T if ridge else values[0, :, 1],
        minimum=minima.x[0, numbers],
        rise=rise,
        level=inside(rise / variance, dof),
        levels=tuple(sorted(levels)),
        limits=tuple(variance * float(joint(level, dof)) for level in sorted(levels)),
        open=opened,
    )


def inside(rise: NDArray[Any], dof: int | None) -> NDArray[Any]:
    """The probability of a region of two parameters that ends at a rise; `joint` inverted."""
    return -np.expm1(-0.5 * (rise if dof is None else dof * np.log1p(rise / dof)))


def _found(
    one: Any, problem: Evaluator, numbers: list[int], level: float, sizes: Any, ridge: bool
) -> tuple[Surface, NDArray[Any], Minima, NDArray[Any]]:
    """The `Surface`, its places, and the minimum, which may be a lower one than that of the fit.

    And at which sides (2, 2), below and above of each parameter, the region does not close.
    """
    dof = None if one.absolute_sigma else int(one.dof)
    goal, x, bounds = (
        float(joint(level, dof)) ** 0.5,
        one.x.astype(float),
        problem.box(np.zeros(1, int))[0],
    )
    for _ in range(MOST_MINIMA):
        search = _searched(one, problem, numbers, x, goal)
        minima, reach = search.minima, np.ones((2, 2))
        x = minima.x[0]
        free = ~one.fixed & (x > bounds[:, 0]) & (x < bounds[:, 1])
        for number in range(MOST_WIDER + 1):
            axes = [_axis(search, *which) for which in zip(numbers, sizes, reach, strict=True)]
            if ridge:
                values = _along_ridge(problem, minima, numbers, axes, free, goal)
            else:
                values = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
            found = surface(problem, x, numbers, values, free)
            lowest = np.min(found.chi2, initial=np.inf, where=~np.isnan(found.chi2))
            if lowest < minima.chi2[0] - LOWER * minima.variance[0]:
                x = found.x.reshape(-1, x.size)[np.nanargmin(found.chi2)]
                break
            inner = found.chi2 - minima.chi2[0] <= goal**2 * minima.variance[0]
            sides = _open_sides(inner, values, bounds[numbers])
            unknown = sides & (search.ends[0, numbers] == End.NOT_FOUND)
            if number == MOST_WIDER or not unknown.any():
                return found, values, minima, sides
            reach = np.where(unknown, WIDER * reach, reach)
    raise ValueError("no contour was found: fits around the minimum lead to ever lower ones.")


def _open_sides(inner: NDArray[Any], values: NDArray[Any], bounds: NDArray[Any]) -> NDArray[Any]:
    """At which sides (2, 2) of a grid places are in the region that are not at a bound."""
    out = np.zeros((2, 2), bool)
    for j in range(2):
        for side, edge in enumerate((0, -1)):
            away = np.take(values[..., j], edge, axis=j) != bounds[j, side]
            out[j, side] = np.any(np.take(inner, edge, axis=j) & away)
    return out


def _in_words(sides: NDArray[Any], names: list[str], values: NDArray[Any]) -> tuple[str, ...]:
    """Where a region does not close."""
    pairs = [(names[j], values[..., j], above) for j in range(2) for above in range(2)]
    return tuple(
        f"{'above' if above else 'below'} {name} = {at.max() if above else at.min():.4g}"
        for (name, at, above), is_open in zip(pairs, sides.ravel(), strict=True)
        if is_open
    )


def _along_ridge(
    problem: Evaluator,
    minima: Minima,
    numbers: list[int],
    axes: list[NDArray[Any]],
    free: NDArray[Any],
    goal: float,
) -> NDArray[Any]:
    """(a.size, b.size, 2) pairs, those of b on both sides of the best one for each a."""
    i, j = numbers
    x: NDArray[Any] = minima.x[0]
    ridge = surface(problem, x, [i], axes[0][:, None], free)
    good = np.isfinite(ridge.x).all(axis=1, keepdims=True)
    start = np.where(good, ridge.x, x)
    best, (low, high) = start[:, j, None], axes[1][[0, -1]]
    unit_a, unit_b = minima.unit[0, [i, j]]
    # The standard error of b for a known a.
    apart = unit_b**2 - (minima.tangent[0, i, j] * unit_a) ** 2
    width = np.full((len(start), 2), goal * np.sqrt(max(apart, (LEAST_WIDTH * unit_b) ** 2)))
    hold = np.broadcast_to(np.isin(np.arange(x.size), numbers), (width.size, x.size))
    sides, enough = np.repeat(start, 2, axis=0), np.full(width.shape, np.inf)
    sides[:, i] = np.repeat(axes[0], 2)
    for _ in range(WIDTHS):
        ends = np.clip(best + width * (-1.0, 1.0), low, high)
        width, sides[:, j] = np.abs(ends - best), ends.ravel()
        fitted = problem.held(np.zeros(width.size, int), sides, hold)
        chi2 = np.where(usable(fitted["status"]), 2.0 * fitted["cost"], np.nan)
        with np.errstate(all="ignore"):
            rise = (chi2.reshape(width.shape) - ridge.chi2[:, None]) / minima.variance[0]
            more = goal / np.sqrt(np.maximum(rise, 0.0))
        enough = np.where(more <= 1.0, np.minimum(width, enough), enough)
        width = width * np.clip(np.where(np.isnan(more), 0.5, 1.02 * more), 0.2, 5.0)
    width = np.where(np.isfinite(enough), enough, width)
    steps = np.linspace(-1.0 - MARGIN, 1.0 + MARGIN, axes[1].size)
    b = np.clip(best + steps * np.where(steps < 0, width[:, :1], width[:, 1:]), low, high)
    return np.stack(np.broadcast_arrays(axes[0][:, None], b), axis=-1)


def region(
    one: Any, problem: Evaluator, numbers: list[int], x: NDArray[Any], goal: float, sizes: Any
) -> tuple[list[NDArray[Any]], Minima]:
    """Axes that reach a little beyond where the profiles of parameters are at a goal.

    Parameters
    ----------
    one : FitResult
        One fit.
    problem : Evaluator
    numbers : list of int
        The parameters.
    x : (n,) array
        Where to look for the minimum.
    goal : float
        In standard errors.
    sizes : sequence of int
        Of the axes.

    Returns
    -------
    axes : list of arrays
    minima : Minima
        Of the one fit: the lowest minimum that was met.
    """
    search = _searched(one, problem, numbers, x, goal)
    axes = [_axis(search, j, size) for j, size in zip(numbers, sizes, strict=True)]
    return axes, search.minima


def _searched(
    one: Any, problem: Evaluator, numbers: list[int], x: NDArray[Any], goal: float
) -> Search:
    """The `Search` of the profiles' ends of some parameters, from x, after it."""

    def from_there(number: NDArray[Any], x: NDArray[Any]):
        return minima_of(one, problem, number, x)

    minima, good, _ = from_there(np.zeros(1, int), x[None])
    if not good[0]:
        raise ValueError("the fit does not end at a minimum in float64, with tight tolerances.")
    wanted = np.isin(np.arange(x.size), numbers)[None]
    bounds = problem.box(np.zeros(1, int))
    search = Search(minima, np.array([goal]), wanted, bounds, problem.held, from_there)
    search.run()
    return search


def _axis(search: Search, j: int, size: int, reach: Any = 1.0) -> NDArray[Any]:
    """Values of a parameter, from beyond one end of its region to beyond the other.

    An end that is not known is taken to be where standard errors say, times `reach`.
    """
    minima, bounds = search.minima, search.bounds[0, j]
    at = minima.x[0, j]
    usual = at + np.array([-1.0, 1.0]) * search.goal[0] * minima.unit[0, j] * reach
    known = np.isin(search.ends[0, j], (End.FOUND, End.BOUND))
    low, high = np.clip(np.where(known, search.values[0, j], usual), *bounds)
    margin = MARGIN * (high - low)
    low, high = np.clip([low - margin, high + margin], *bounds)
    return np.linspace(low, high, size)
