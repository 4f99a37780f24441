"""Fits as what they are compared by: each for itself, or all that share parameters as one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.sharing import Sharing
from jaxlsq.status import Status

__all__ = ["Whole", "wholes"]


class Whole(NamedTuple):
    """Of the fits of one result, or of each sum of fits: (...) arrays."""

    success: NDArray[Any]
    chi2: NDArray[Any]
    dof: NDArray[Any]
    varying: NDArray[Any]


def wholes(results: Sequence[Any]) -> list[Whole]:
    """What results of the same data have fit by fit; or, where one of them has common fits, in sum.

    The sums are over data sets that share a parameter in any of the results, with each other or
    with one that is between them: for these, fits apart too are one model, of parameters that
    differ.  A sum is a success where all its data sets with points are.

    Parameters
    ----------
    results : sequence of FitResult
        Of one batch's shape.

    Returns
    -------
    list of Whole
        Arrays of the batch's shape; or, of sums, (sums,), and scalars where there is one.

    Raises
    ------
    ValueError
        Where a result has a part of a common fit only.
    """
    common = [result.sharing for result in results if result.sharing]
    if not common:
        return [Whole(r.success, r.chi2, r.dof, r.varying) for r in results]
    index = np.concatenate([s.index.reshape(-1, len(s.names)) for s in common], axis=1)
    unit = _problems(index)
    parts = [_summed(result, unit, number) for number, result in enumerate(results)]
    if unit.max(initial=0) > 0:
        return parts
    return [Whole(*(values[0] for values in part)) for part in parts]


def _problems(index: NDArray[Any]) -> NDArray[Any]:
    """The number of the problem that each data set is part of, by its groups (total, q)."""
    q = index.shape[1]
    return Sharing(("",) * q, index, (None,) * q).problems


def _summed(result: Any, unit: NDArray[Any], number: int) -> Whole:
    """The `Whole` of sums of a result's data sets, by the number of each one's sum."""
    status, n = result.status.ravel(), len(result.names)
    fitted = status != Status.MASKED_OUT
    count = int(unit.max(initial=0)) + 1

    def summed(values: NDArray[Any]) -> NDArray[Any]:
        return np.bincount(unit, np.where(fitted, np.ravel(values), 0), count)

    points = summed(result.points)
    free = ~result.fixed.reshape(-1, n)
    varying = summed(result._own_varying)
    if result.sharing:
        varying += _shared(result, unit, fitted, free, count)
        _check_whole(result, fitted, free, number)
    good = summed(~result.success) == 0
    return Whole(
        success=good & (summed(np.ones(unit.size)) > 0),
        chi2=summed(result.chi2.astype(np.float64)),
        dof=(points - varying).astype(np.int64),
        varying=varying.astype(np.int64),
    )


def _shared(result: Any, unit: NDArray[Any], fitted: NDArray[Any], free: NDArray[Any], count: int):
    """How many shared parameters were fitted in each sum, each counted once."""
    index = result.sharing.index.reshape(len(unit), -1)
    out = np.zeros(count)
    for j, name in enumerate(result.sharing.names):
        some = np.flatnonzero(fitted & free[:, result.names.index(name)])
        _, first = np.unique(index[some, j], return_index=True)
        out += np.bincount(unit[some[first]], minlength=count)
    return out


def _check_whole(result: Any, fitted: NDArray[Any], free: NDArray[Any], number: int):
    """Raise ValueError where data sets of a common fit are missing."""
    own = _problems(result.sharing.index.reshape(len(fitted), -1))
    count = int(own.max(initial=0)) + 1
    good = fitted & result.success.ravel()
    dof = np.bincount(own, np.where(good, result.dof.ravel(), 0), count)
    dof -= _shared(result, own, good, free, count)
    apart = good & (dof[own] != result.sharing.dof.ravel())
    if apart.any():
        raise ValueError(
            f"result {number} has only some of the fits that share parameters, whose chi-squared "
            "is that of all: compare the whole results."
        )
