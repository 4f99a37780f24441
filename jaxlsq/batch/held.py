"""Fits of a batch with some of their parameters held, each as often as is asked."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.blocks import BLOCK_BYTES, LEAST_PROBLEMS
from jaxlsq.problem.limits import Limits

__all__ = ["box", "held"]

# Costs are compared with one another, so that each is to be that of the minimum.
TOLERANCE = 1e-12
# So that few sizes of a block are compiled for, what is less than one is filled up to these.
SIZES = (32, LEAST_PROBLEMS)


def held(
    problem: Any, index: NDArray[Any], x: NDArray[Any], hold: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Fits of some data sets in float64, with parameters held at values.

    Parameters
    ----------
    problem : Problem
    index : (k,) int array
        Places of the data sets, flat; some may come often.
    x : (k, n) array
        Where to start, and the values that are held.
    hold : (k, n) bool array
        Parameters that are held.

    Returns
    -------
    dict of (k, ...) arrays
        ``x cost status nfev``.

    Raises
    ------
    Interrupted
        On Ctrl-C.
    """
    k, n = x.shape
    size = _filled_up(problem, k)
    more = size - k
    index = np.concatenate([index, np.full(more, index[0])])
    x = np.concatenate([x, np.tile(x[:1], (more, 1))])
    hold = np.concatenate([hold, np.ones((more, n), bool)])  # so that they end where they begin
    part = problem.take(index, (size,))
    part = replace(
        part,
        groups=tuple((members, group.in_float64()) for members, group in part.groups),
        start=replace(part.start, array=x, guess=None),
        limits=_limits(part.limits, hold),
        linear=(),  # what is held is not eliminated
        goes_on=True,
        settings=replace(
            part.settings,
            ftol=TOLERANCE,
            xtol=TOLERANCE,
            gtol=0.0,
            max_nfev=None,
            starts=1,
            polish=None,
            progress=False,
        ),
    )
    result = part.solve()
    return {name: getattr(result, name)[:k] for name in ("x", "cost", "status", "nfev")}


def _filled_up(problem, k):
    """The number of fits that are to be, of a block in which k are wanted."""
    if len(problem.groups) > 1:
        return k
    _, group = problem.groups[0]
    most = BLOCK_BYTES // max(group.bytes_each, 1)
    return next((size for size in SIZES if k <= size <= most), k)


def _limits(limits, hold):
    """The problem's own, with more that is held."""
    if limits is None:
        infinite = np.full(hold.shape, np.inf)
        return Limits(-infinite, infinite, hold)
    lower = np.broadcast_to(limits.lower, hold.shape)
    return Limits(lower, np.broadcast_to(limits.upper, hold.shape), limits.fixed | hold)


def box(problem: Any, index: NDArray[Any]) -> NDArray[Any]:
    """(k, n, 2) lower and upper bounds of some fits, infinite where there are none."""
    limits, shape = problem.limits and problem.limits.take(index), (len(index), problem.layout.n)
    sides = (limits.lower, limits.upper) if limits else (-np.inf, np.inf)
    return np.stack([np.broadcast_to(side, shape) for side in sides], axis=-1)
