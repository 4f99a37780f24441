"""What is kept of many samples of parameters: moments and quantiles."""

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GRID", "Reduced", "quantiles"]

_NORMAL = NormalDist()
# The probabilities at which quantiles of the samples are kept, as quantiles of the normal
# distribution: near enough to each other that a straight line between two is well within the
# samples' noise; and at the usual levels, which then are exact.
_LEVELS = [0.0005, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25]
_TAILS = [_NORMAL.inv_cdf(p) for p in _LEVELS]
GRID = np.unique([*np.round(np.arange(-40, 41) / 10, 1), *_TAILS, *(-z for z in _TAILS)])
_PROBABILITIES = np.array([_NORMAL.cdf(z) for z in GRID])


def quantiles(table: NDArray[Any], z: NDArray[Any]) -> NDArray[Any]:
    """Quantiles at probabilities that are those of the normal distribution's `z`.

    Parameters
    ----------
    table : (..., q) array
        Quantiles at those of `GRID`.
    z : (..., p) array
        NaN gives NaN; what is beyond the grid gives its end.

    Returns
    -------
    (..., p) array
    """
    place = np.clip(np.searchsorted(GRID, z) - 1, 0, GRID.size - 2)
    low, high = (np.take_along_axis(table, place + i, axis=-1) for i in (0, 1))
    part = np.clip((z - GRID[place]) / (GRID[place + 1] - GRID[place]), 0.0, 1.0)
    return low + part * (high - low)


class Reduced:
    """What is kept of the samples of many fits; NaN of those that were not taken.

    Attributes
    ----------
    mean : (total, n) array
    cov : (total, n, n) array
        With one less than the number of samples below.
    table : (total, n, q) float32 array
        Quantiles, minus the fit's own parameter, at the probabilities of `GRID`.
    below : (total, n) array
        The part of the samples below the fit's own parameter; half of those equal to it.
    failed : (total,) int array
    samples : (total, k, n) array or None
    """

    def __init__(self, total: int, n: int, k: int, keep: bool) -> None:
        self.mean: NDArray[Any] = np.full((total, n), np.nan)
        self.below: NDArray[Any] = np.full((total, n), np.nan)
        self.cov: NDArray[Any] = np.full((total, n, n), np.nan)
        self.table: NDArray[Any] = np.full((total, n, GRID.size), np.nan, np.float32)
        self.failed: NDArray[Any] = np.full(total, k)
        whole = np.full((total, k, n), np.nan) if keep else None
        self.samples: NDArray[Any] | None = whole

    def take(
        self, some: NDArray[Any], samples: NDArray[Any], good: NDArray[Any], x: NDArray[Any]
    ) -> None:
        """Take in the samples (c, k, n) of some fits with parameters x (c, n).

        `good` (c, k) says which of them count.
        """
        count = np.count_nonzero(good, axis=1)
        self.failed[some] = good.shape[1] - count
        if self.samples is not None:
            self.samples[some] = np.where(good[..., None], samples, np.nan)
        apart = np.where(good[..., None], samples - x[:, None], 0.0)
        known = np.where(count > 1, count, np.nan)[:, None]
        shift = apart.sum(axis=1) / known
        centred = np.where(good[..., None], apart - shift[:, None], 0.0)
        self.mean[some] = x + shift
        self.cov[some] = np.swapaxes(centred, 1, 2) @ centred / (known - 1)[..., None]
        lower, equal = ((good[..., None] & which).sum(axis=1) for which in (apart < 0, apart == 0))
        self.below[some] = (lower + 0.5 * equal) / known
        self.table[some] = np.swapaxes(_table(apart, good, count), 1, 2)


def _table(apart: NDArray[Any], good: NDArray[Any], count: NDArray[Any]) -> NDArray[Any]:
    """Quantiles (c, q, n) of the samples that are good, as `numpy.quantile` has them."""
    ordered = np.sort(np.where(good[..., None], apart, np.inf), axis=1)
    last = np.maximum(count - 1, 0)[:, None]
    at = _PROBABILITIES * last
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, last)
    first, second = (np.take_along_axis(ordered, i[..., None], axis=1) for i in (low, high))
    known = (count > 1)[:, None, None]
    first, second = (np.where(known, values, np.nan) for values in (first, second))
    return first + (at - low)[..., None] * (second - first)
