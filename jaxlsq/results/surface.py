"""The least chi-squared of one fit over a grid of some of its parameters."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.results.evaluator import Evaluator
from jaxlsq.results.search import usable

__all__ = ["Surface", "surface"]


@dataclass(frozen=True)
class Surface:
    """Fits with k parameters held at each place of a grid, which has k axes.

    Attributes
    ----------
    chi2 : (...) array
        NaN where a fit failed.
    x : (..., n) array
        Parameters.
    nfev : int
        Evaluations of all.
    """

    chi2: NDArray[Any]
    x: NDArray[Any]
    nfev: int


def surface(
    problem: Evaluator,
    x: NDArray[Any],
    numbers: list[int],
    values: NDArray[Any],
    free: NDArray[Any],
) -> Surface:
    """The `Surface` around a minimum.

    Fits go outwards in rings, each of which begins where its neighbour inward has ended, moved
    along the tangent of the minimum.

    Parameters
    ----------
    problem : Evaluator
        Of one fit.
    x : (n,) array
        The minimum.
    numbers : list of k int
        The parameters that are held.
    values : (..., k) array
        Their values at each place of the grid.
    free : (n,) bool array
        Parameters that are neither fixed nor at a bound.
    """
    shape, n = values.shape[:-1], x.size
    cells = np.indices(shape).reshape(len(shape), -1).T
    values = values.reshape(len(cells), -1)
    widths = np.ptp(values, axis=0)
    far = (values - x[numbers]) / np.where(widths > 0, widths, 1.0)
    apart = cells - cells[np.argmin(np.sum(far**2, axis=1))]
    ring = np.max(np.abs(apart), axis=1)
    inward = np.asarray(np.ravel_multi_index(tuple((cells - np.sign(apart)).T), shape))
    tangent = _tangent(problem.gram(x), numbers, free)
    hold = np.isin(np.arange(n), numbers)
    chi2, found, nfev = np.full(len(cells), np.nan), np.full((len(cells), n), np.nan), 0
    for number in np.unique(ring).tolist():
        rows = np.flatnonzero(ring == number)
        before = found[inward[rows]]
        before = np.where(np.isfinite(before).all(axis=1, keepdims=True), before, x)
        start = before + (values[rows] - before[:, numbers]) @ tangent
        start[:, numbers] = values[rows]
        held = np.broadcast_to(hold, start.shape)
        fitted = problem.held(np.zeros(len(rows), int), start, held)
        good = usable(fitted["status"]) & np.isfinite(fitted["cost"])
        chi2[rows[good]], found[rows[good]] = 2.0 * fitted["cost"][good], fitted["x"][good]
        nfev += int(fitted["nfev"].sum())
    return Surface(chi2.reshape(shape), found.reshape(*shape, n), nfev)


def _tangent(gram: NDArray[Any], numbers: list[int], free: NDArray[Any]) -> NDArray[Any]:
    """(k, n) what the others change by, for one of each that is held, where chi-squared is least.

    Of a quadratic form G that is :math:`-G_{oo}^{-1} G_{oh}`, of others o and those that are held.
    """
    out = np.zeros((len(numbers), len(gram)))
    others = np.flatnonzero(free & ~np.isin(np.arange(len(gram)), numbers))
    if np.isfinite(gram).all() and others.size:
        inside, across = gram[np.ix_(others, others)], gram[np.ix_(others, np.asarray(numbers))]
        out[:, others] = -np.linalg.lstsq(inside, across, rcond=None)[0].T
    return out
