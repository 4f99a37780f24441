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
from jaxlsq.batch.stream import Control
from jaxlsq.numerics.state import Options
from jaxlsq.problem.limits import Limits
from jaxlsq.problem.multistart import MultiStart
from jaxlsq.problem.shifted import ShiftedResidual
from jaxlsq.problem.sources import Source
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.result import FitResult
from jaxlsq.status import Status

__all__ = ["has_errors_in_x", "solved_from_exact", "together_from_exact", "with_exact_x"]

# Of the sum of squares and of the parameters, relatively.
ROUGH = 1e-3
COUNTS = ("nfev", "njev", "nit")


def has_errors_in_x(group: Group) -> bool:
    """Whether a group's x are uncertain."""
    return isinstance(group.task.residual, ShiftedResidual)


def with_exact_x(group: Group) -> Group:
    """The same problems with standard deviations of x that are zero."""

    def exact(part: Any) -> Any:
        if not isinstance(part, Source):
            return np.zeros_like(part)
        nothing = np.broadcast_to(np.zeros((), part.dtype), (*part.batch, *part.tail))
        return Source(nothing, part.batch, part.dtype, part.index)

    def parts(entries: dict[str, Any]) -> dict[str, Any]:
        return {k: exact(v) if k.startswith("xsigma.") else v for k, v in entries.items()}

    return replace(group, lanes=parts(group.lanes), shared=parts(group.shared))


def solved_from_exact(
    solve: Callable[..., Solved],
    group: Group,
    begin: tuple[Any, Any],
    options: Options,
    spread: MultiStart,
    control: Control,
    limits: Limits | None,
) -> Solved:
    """How the fits of a group end that go on from where those with exact x do.

    Parameters
    ----------
    solve : callable
        ``solve(group, begin, options, spread, control, limits)``, as `Group.solve`.
    group, begin, options, spread, control, limits
        Of it.

    Returns
    -------
    Solved
        With the evaluations of both.

    Raises
    ------
    KeyboardInterrupt
        When it is interrupted before the second fits.
    """
    quiet = replace(control, report=None)
    first = solve(with_exact_x(group), begin, _roughly(options), spread, quiet, limits).ended
    if control.interrupts.asked:
        raise KeyboardInterrupt
    rows = np.asarray(first.x).reshape(-1, spread.starts, first.x.shape[-1])
    spread = replace(spread, given=rows[:, 1:] if spread.starts > 1 else None)
    begin = (lambda begin, end: rows[begin:end, 0]), begin[1]
    solved = solve(group, begin, options, spread, control, limits)
    sums = {name: getattr(solved.ended, name) + getattr(first, name) for name in COUNTS}
    return solved._replace(ended=replace(solved.ended, **sums))


def together_from_exact(solve: Callable[[Any], FitResult], problem: Any) -> FitResult:
    """The same of a `jaxlsq.batch.run.Problem` whose data sets share parameters.

    Parameters
    ----------
    solve : callable
        ``solve(problem)``, as `jaxlsq.batch.together.solved_together`.
    problem : jaxlsq.batch.run.Problem

    Raises
    ------
    Interrupted
        On Ctrl-C, with what is done.
    """
    groups = tuple((index, with_exact_x(group)) for index, group in problem.groups)
    settings = replace(problem.settings, ftol=ROUGH, xtol=ROUGH, progress=False)
    try:
        first = solve(replace(problem, groups=groups, settings=settings))
    except Interrupted as interrupt:
        status = np.full_like(interrupt.result.status, Status.INTERRUPTED)
        raise Interrupted(replace(interrupt.result, status=status)) from None
    rows = first.x.reshape(problem.total, -1)
    start = replace(problem.start, array=rows, guess=None)
    result = solve(replace(problem, start=start))
    return replace(
        result, **{name: getattr(result, name) + getattr(first, name) for name in COUNTS}
    )


def _roughly(options):
    """Tolerances for a fit that is only the start of another."""
    larger = {k: np.maximum(getattr(options, k), ROUGH) for k in ("ftol", "xtol")}
    return replace(options, **{k: v.astype(getattr(options, k).dtype) for k, v in larger.items()})
