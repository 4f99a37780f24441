"""Whether two batches of fits are of the same data."""

from typing import Any

import numpy as np

from jaxlsq.numerics.loss import Robust

__all__ = ["differs"]

# Parts of the data that the cost is of, by the first word of their keys, as the caller calls them.
PARTS = {
    "y": "ydata",
    "sigma": "sigma",
    "whitening": "sigma",
    "xsigma": "xsigma",
    "mask": "mask",
    "f_scale": "f_scale",
}
# Data sets that are read at once.
STEP = 1024


def differs(problem: Any, other: Any) -> str | None:
    """What two problems of one shape have not in common.

    Parameters
    ----------
    problem, other : Problem

    Returns
    -------
    str or None
        ``'loss'``, or the argument of `fit`; None where nothing is found.
    """
    if not _same_loss(problem.loss, other.loss):
        return "loss"
    if len(problem.groups) != len(other.groups):
        return "mask or ydata"
    for (index, group), (places, beside) in zip(problem.groups, other.groups, strict=True):
        if not np.array_equal(index, places):
            return "ydata"
        if type(group.task.residual) is not type(beside.task.residual):
            return "xsigma or x_errors"
        both = (group.lanes, group.shared, beside.lanes, beside.shared)
        for key in sorted({key for part in both for key in part}):
            name = PARTS.get(key.split(".")[0])
            if name and not _same_part(group, beside, key):
                return name
    return None


def _same_loss(loss, other):
    if loss == other or not (isinstance(loss, Robust) and isinstance(other, Robust)):
        return loss == other
    code = getattr(loss.rho, "__code__", None)  # a result has a copy of the caller's function
    return code is not None and code == getattr(other.rho, "__code__", None)


def _same_part(group, other, key):
    """Whether a part of the data has the same values in two groups."""
    for first in range(0, group.total, STEP):
        last = min(first + STEP, group.total)
        mine, theirs = (_rows(one, key, first, last) for one in (group, other))
        if mine is None or theirs is None:
            return False
        if np.float32 in (mine.dtype, theirs.dtype):  # the model of one may need float64
            mine, theirs = mine.astype(np.float32), theirs.astype(np.float32)
        if not np.all((mine == theirs) | (mine != mine) & (theirs != theirs)):
            return False
    return True


def _rows(group, key, first, last):
    """A part of some problems; None where there is none, and a mask that leaves nothing out."""
    if key in group.lanes:
        return group.lanes[key].read(first, last)
    return group.shared.get(key, np.array(True) if key.startswith("mask") else None)
