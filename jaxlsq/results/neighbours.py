"""Fits that lie beside each other in a batch, and what one's parameters are as another's."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.types import Batch

__all__ = ["candidate", "costs_of_rounding", "in_parts", "pairs"]

# Pairs that are looked at together: of a large image all of them at once are much memory.
MOST_PAIRS = 1 << 18
# Residuals smaller than this many epsilons of what the parameters contribute are rounding.
NEAR_EPS = 16.0


def pairs(
    batch: Batch, stride: int = 1, of: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Fits, and their neighbours along each axis at a distance, on a grid of that distance.

    Parameters
    ----------
    batch : tuple of int
    stride : int
    of : int array, optional
        Flat places of the fits; all on the grid if not given.

    Returns
    -------
    p, q : (k,) int arrays
        Flat places of fits, in their order, and of their neighbours.

    Examples
    --------
    >>> pairs((5,), 2)
    (array([0, 2, 2, 4]), array([2, 0, 4, 2]))
    """
    places: NDArray[Any] = np.arange(math.prod(batch)).reshape(batch)
    places = places[(slice(None, None, stride),) * len(batch)]
    first: list[NDArray[Any]] = []
    second: list[NDArray[Any]] = []
    for axis in range(len(batch)):
        here = np.moveaxis(places, axis, 0)
        for low, high in ((here[:-1], here[1:]), (here[1:], here[:-1])):
            low, high = low.ravel(), high.ravel()
            some = slice(None) if of is None else np.isin(low, of)
            first.append(low[some])
            second.append(high[some])
    p = np.concatenate([np.empty(0, int), *first])
    q = np.concatenate([np.empty(0, int), *second])
    order = np.lexsort((q, p))
    return p[order], q[order]


def candidate(result: Any, p: NDArray[Any], q: NDArray[Any]) -> NDArray[Any]:
    """Parameters of the fits q as those of the fits p: in their bounds, with what is fixed there.

    What fits share with others is not one's to change, as what is fixed.  All are (k,) flat
    places, and what comes back is (k, n).
    """
    n = len(result.names)
    x, held = result.x.reshape(-1, n), result.fixed.reshape(-1, n)
    if result.sharing:
        held = held | np.isin(result.names, result.sharing.names)
    lower, upper = np.moveaxis(result.problem.box(p), -1, 0)
    return np.where(held[p], x[p], np.clip(x[q], lower, upper))


def in_parts(
    function: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]], p: NDArray[Any], q: NDArray[Any]
) -> NDArray[Any]:
    """``function(p, q)``, an array (k,), of some pairs at a time."""
    parts = [slice(first, first + MOST_PAIRS) for first in range(0, len(p), MOST_PAIRS)]
    return np.concatenate([np.empty(0), *(function(p[part], q[part]) for part in parts)])


def costs_of_rounding(result: Any, p: NDArray[Any]) -> NDArray[Any]:
    """(k,) costs of the fits p below which there is only rounding."""
    x = result.x.reshape(-1, len(result.names))[p].astype(np.float64)
    size = result.problem.contributions(p, x)
    return 0.5 * np.square(NEAR_EPS * np.finfo(result.x.dtype).eps * size)
