"""Fits with errors in x, begun where x is taken for exact.

Far from the data the nearest place on a curve can be on another branch of it, where the distances
then have a minimum of their own.  So the first fit is one without errors in x; by the same program,
whose `xsigma` are zero.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from jaxlsq.batch.group import Group, Solved
from jaxlsq.numerics.state import Options
from jaxlsq.problem.multistart import MultiStart
from jaxlsq.problem.shifted import ShiftedResidual
from jaxlsq.problem.sources import Source
from jaxlsq.schedule.queue import Ended

__all__ = ["going_on", "has_errors_in_x", "roughly", "with_counts_of", "with_exact_x"]

# Of the sum of squares and of the parameters, relatively.
ROUGH = 1e-3


def has_errors_in_x(group: Group) -> bool:
    """Whether a group's x are uncertain."""
    return isinstance(group.task.residual, ShiftedResidual)


def with_exact_x(group: Group) -> Group:
    """The same problems with standard deviations of x that are zero."""

    def exact(part: Any) -> Any:
        if not isinstance(part, Source):
            return np.zeros_like(part)
        nothing = np.broadcast_to(np.zeros((), part.dtype), (*part.batch, *part.tail))
        return replace(part, array=nothing)

    def parts(entries: dict[str, Any]) -> dict[str, Any]:
        return {k: exact(v) if k.startswith("xsigma.") else v for k, v in entries.items()}

    return replace(group, lanes=parts(group.lanes), shared=parts(group.shared))


def roughly(options: Options) -> Options:
    """Tolerances for a fit that is only the start of another."""
    larger = {k: np.maximum(getattr(options, k), ROUGH) for k in ("ftol", "xtol")}
    return replace(options, **{k: v.astype(getattr(options, k).dtype) for k, v in larger.items()})


def going_on(first: Ended, spread: MultiStart) -> tuple[Callable[..., Any], MultiStart]:
    """Where the fits that were begun go on: ``start(first, last)``, and the others of each."""
    rows = np.asarray(first.x).reshape(-1, spread.starts, first.x.shape[-1])
    more = rows[:, 1:] if spread.starts > 1 else None
    return lambda begin, end: rows[begin:end, 0], replace(spread, given=more)


def with_counts_of(solved: Solved, first: Ended) -> Solved:
    """With the evaluations of the fits before."""
    names = ("nfev", "njev", "nit")
    sums = {name: getattr(solved.ended, name) + getattr(first, name) for name in names}
    return solved._replace(ended=replace(solved.ended, **sums))
