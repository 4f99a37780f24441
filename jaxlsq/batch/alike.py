"""Whether two batches of fits are of the same data."""

from typing import Any

import jax
import numpy as np

from jaxlsq.numerics.loss import Robust
from jaxlsq.problem.losses import traced_loss
from jaxlsq.tracing.settings import own_settings

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
    if not _same_loss(problem, other):
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


def _same_loss(problem, other):
    """Whether two losses are one, or the same program of the same numbers."""
    losses = problem.loss, other.loss
    if losses[0] == losses[1] or not all(isinstance(loss, Robust) for loss in losses):
        return losses[0] == losses[1]
    group = problem.groups[0][1]
    of_none = group.take(np.arange(0)).residuals(np.empty((0, problem.layout.n)))
    f = jax.ShapeDtypeStruct(of_none.shape[1:], group.dtype)
    with own_settings(), jax.enable_x64(group.wide):
        try:
            one, two = (traced_loss(loss, f) for loss in losses)
        except (ValueError, TypeError):  # of numbers of one length, which the other data have not
            return False
    if one is None or two is None or one.key is None or one.key != two.key:
        return False  # one is ours; or it calls what can't be compared
    pairs = zip(one.flat_data, two.flat_data, strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


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
