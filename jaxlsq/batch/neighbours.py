"""Starts from neighbours: fits of an image tried again from what was found beside them."""

from dataclasses import replace
from typing import Any

import numpy as np

from jaxlsq.batch.costs import LEAST, promise, values_at
from jaxlsq.batch.interruption import Interruption
from jaxlsq.problem.multistart import NEIGHBOURS
from jaxlsq.problem.types import Batch
from jaxlsq.results.again import SAME_COST
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.neighbours import candidate, costs_of_rounding, in_parts, pairs
from jaxlsq.results.result import FitResult
from jaxlsq.status import Status

__all__ = ["solved"]

# A fit is tried again where one step from a neighbour's parameters promises a chi-squared that is
# lower by so many times its mean per degree of freedom.  In the same minimum the model's curvature
# between the two seems to gain the noise along one direction, which has a mean of one.  (Of images
# where all was well, 1 let 8 and 18 % be tried in vain, 2 let 2 and 4 %; of waves in noise larger
# than they are, 1.8 and 3.7 % then were in a minimum that another start would have beaten.)
PROMISE = 1.0
LEAST_PROMISE = 1e-3
# Sweeps over one distance, each of which may carry a minimum on by as much.
MOST_SWEEPS = 64
NOT_TO_FIT = (Status.MASKED_OUT, Status.NONFINITE_DATA, Status.TOO_FEW_POINTS)


def _check(problem: Any) -> None:
    """Raise ValueError where a problem's fits have no neighbours."""
    if problem.lengths is not None or not problem.batch:
        shape = "a list of arrays" if problem.batch else "one data set"
        raise ValueError(
            f"starts={NEIGHBOURS!r} is for images and stacks, arrays whose axes before the points "
            f"say which fits are neighbours; ydata is {shape}. Give a number of starts."
        )


def solved(problem: Any) -> FitResult:
    """Fit all, and again from the parameters of neighbours where those promise a lower cost.

    First as with one start.  Then sweeps over pairs of neighbours, at a distance of many pixels
    on a coarse grid, and of one at last, each until nothing gets better.  What a neighbour's
    parameters promise is the cost after a Gauss-Newton step from them, which is one evaluation of
    the model's Jacobian: amplitudes may differ, and what counts is which minimum they lead to.

    Parameters
    ----------
    problem : jaxlsq.batch.run.Problem

    Returns
    -------
    FitResult
        `nfev`, `njev` and `nit` are those of all tries; `agreed` counts tries that ended at the
        same cost.

    Raises
    ------
    ValueError
        If its fits have no neighbours.
    Interrupted
        On Ctrl-C, with what is better already.
    """
    _check(problem)
    result = replace(problem, settings=replace(problem.settings, starts=1)).solve()
    with Interruption() as interrupts:
        for stride in _strides(problem.batch):
            p, q = pairs(problem.batch, stride)
            fresh = np.ones(result.status.size, bool)
            for _ in range(MOST_SWEEPS):
                swept = interrupts.unless_asked(_swept, result, p, q, fresh)
                if swept is None:
                    break
                result, fresh = swept
                if not fresh.any():
                    break
        interrupts.settle()
        if interrupts.asked:
            raise Interrupted(result)
    return result


def _strides(batch: Batch) -> list[int]:
    """Distances: powers of two, from a quarter of the longest axis down to one."""
    most = max(max(batch) // 4, 1)
    return [1 << k for k in reversed(range(most.bit_length()))]


def _swept(result, p, q, fresh):
    """One sweep over pairs: the result, and which of its fits are better now.

    `fresh` are the fits whose parameters have not been tried yet.
    """
    flat = {name: getattr(result, name).reshape(-1) for name in ("success", "status", "cost")}
    can = ~np.isin(flat["status"], NOT_TO_FIT)
    some = np.flatnonzero(can[p] & fresh[q] & flat["success"][q])
    none = np.zeros_like(fresh)
    if not some.size:
        return result, none
    p, q = p[some], q[some]
    free = ~result.fixed.reshape(len(fresh), -1)

    def after(p, q):
        both = np.concatenate([candidate(result, p, q), free[p]], axis=1)
        return values_at(result.problem, p, both, promise)

    promised = in_parts(after, p, q)
    costs = np.where(flat["success"], flat["cost"], np.inf).astype(np.float64)
    # The best of each fit's neighbours.
    order = np.lexsort((promised, p))
    p, q, promised = p[order], q[order], promised[order]
    best = np.concatenate([[True], p[1:] != p[:-1]])
    gain = np.clip(PROMISE / np.maximum(result.dof.reshape(-1)[p], 1), LEAST_PROMISE, 0.5)
    best &= promised < (1.0 - gain) * costs[p]
    p, q = p[best], q[best]
    if p.size:  # a cost of rounding is lower by chance
        some = ~flat["success"][p] | (costs[p] > costs_of_rounding(result, p))
        p, q = p[some], q[some]
    if not p.size:
        return result, none
    better = _tried(result, p, candidate(result, p, q))
    fresh = (better.cost < (1.0 - SAME_COST) * costs.reshape(better.shape)) & better.success
    return better, fresh.ravel()


def _tried(result, index, x):
    """Fits tried again from x, and what came out better kept."""
    problem: Any = result.problem
    n, total = len(result.names), result.status.size
    starts = result.x.reshape(total, n).astype(np.promote_types(result.x.dtype, x.dtype))
    starts[index] = x
    settings = replace(problem.settings, progress=False)
    # Fits that have converged end at once, and make up what a program is compiled for.
    good = np.flatnonzero(result.success)
    good = good[~np.isin(good, index)][: max(min(LEAST, total) - len(index), 0)]
    again = problem.again(np.concatenate([index, good]), starts, None, settings)
    again = again[: len(index)]
    old = {name: result._flat(name)[index] for name in ("cost", "agreed", "nfev", "njev", "nit")}
    better = result._improved(index, again)
    same = np.abs(again.cost - old["cost"]) <= SAME_COST * old["cost"]
    same &= again.success & result.success.reshape(-1)[index]
    kept = better._flat("cost")[index] == old["cost"]
    counts = {name: better._flat(name).copy() for name in ("agreed", "nfev", "njev", "nit")}
    counts["agreed"][index] = np.where(same | kept, old["agreed"] + same, 1)
    for name in ("nfev", "njev", "nit"):
        counts[name][index] = old[name] + getattr(again, name)
    shaped = {name: values.reshape(result.shape) for name, values in counts.items()}
    return replace(better, **shaped)
