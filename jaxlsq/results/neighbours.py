"""Fits that lie beside each other in a batch, and what one's parameters are as another's."""

from typing import Any

import numpy as np

from jaxlsq.problem.types import Batch

__all__ = ["candidate", "pairs"]


def pairs(
    batch: Batch, stride: int = 1, of: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
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
    places = np.arange(np.prod(batch, dtype=int)).reshape(batch)
    places = places[(slice(None, None, stride),) * len(batch)]
    first, second = [], []
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


def candidate(result: Any, p: np.ndarray, q: np.ndarray) -> np.ndarray:
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
