"""Batches of which some parameters are linear: fits of the others, and the linear ones after."""

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.evaluation import compiled_rows
from jaxlsq.batch.interruption import Interruption, in_time
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.numerics.normal import normal_equations
from jaxlsq.numerics.sweep import certainty, least_rank
from jaxlsq.problem.limits import Limits
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.separable import Reduced
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.result import FitResult
from jaxlsq.status import Status, converged
from jaxlsq.tracing.fingerprint import TRACES, trace_key
from jaxlsq.tracing.untraceable import JAX_ERRORS, untraceable

__all__ = ["all_parameters", "reduced", "solved_reduced", "with_linear"]


@dataclass(frozen=True)
class _Some:
    """Some of the parameters that a guess gives."""

    guess: Any
    places: tuple[int, ...]

    def __call__(self, lane, shared):
        return self.guess(lane, shared)[jnp.array(self.places)]


def solved_reduced(problem: Any) -> FitResult:
    """Fit a `jaxlsq.batch.run.Problem` some of whose parameters are `linear`.

    Raises
    ------
    ValueError
        Where the model is not linear in them.
    Interrupted
        On Ctrl-C, with what is done.
    """
    kept = problem.kept()
    small = reduced(problem, kept)
    for _, group in small.groups:  # compiled now, so that Ctrl-C has not to wait for it
        with suppress(NotLowered):
            compiled_rows(group, True)
    try:
        result, asked = small.solve(), False
    except Interrupted as interrupt:
        result, asked = interrupt.result, True
    with Interruption() as interrupts:
        if asked:
            interrupts.ask()
        whole = interrupts.unless_asked(with_linear, kept, small, result)
        if whole is None:
            if not asked:  # it was left in the middle, and would take as long again
                result = replace(result, status=np.full_like(result.status, Status.INTERRUPTED))
            whole = with_linear(kept, small, result)
        interrupts.settle()
        if interrupts.asked:
            raise Interrupted(whole)
    return whole


def reduced(problem: Any, kept: Any) -> Any:
    """The problem of the parameters that are not linear.

    Parameters
    ----------
    problem : jaxlsq.batch.run.Problem
    kept : jaxlsq.batch.run.Problem
        The same, as a result keeps it.
    """
    groups = []
    for (index, group), (_, given) in zip(kept.groups, problem.groups, strict=True):
        task = Reduced.of(given.task, problem.linear)
        groups.append((index, replace(group, task=task)))
        _check_linear(group, task, problem.names)
    others = list(groups[0][1].task.others)
    start, limits, settings = kept.start, kept.limits, kept.settings
    layout = Layout.of(np.zeros(len(others)))
    start = replace(
        start,
        layout=layout,
        array=None if start.array is None else start.array[..., others],
        guess=start.guess and _Some(start.guess, tuple(others)),
    )
    some = {
        name: np.asarray(getattr(settings, name))[..., others]
        for name in ("x_scale", "starts")
        if np.ndim(getattr(settings, name)) > 0
    }
    return replace(
        kept,
        groups=tuple(groups),
        start=start,
        layout=layout,
        names=tuple(problem.names[j] for j in others),
        limits=limits and _limits_of(limits, others),
        settings=replace(settings, **some),
        linear=(),
    )


def _limits_of(limits, places):
    """Of some of the parameters; None where nothing is held."""
    some = Limits(**{name: values[..., places] for name, values in vars(limits).items()})
    held = np.any(some.fixed) or np.any(some.lower > -np.inf) or np.any(some.upper < np.inf)
    return some if held else None


def _check_linear(group, task, names):
    """`Reduced.check_linear`, once for a model."""
    lane = group.one
    shared = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in sorted(group.shared.items())}

    def check():
        try:
            with jax.enable_x64(group.wide):
                task.check_linear(lane, shared, names)
        except JAX_ERRORS as error:
            raise untraceable(error, "A model with linear parameters") from error
        return True

    TRACES.get(trace_key(("linear", task), (lane, shared)), check)


def with_linear(kept: Any, small: Any, result: FitResult) -> FitResult:
    """The result of all parameters, from that of those that are not linear.

    Parameters
    ----------
    kept : jaxlsq.batch.run.Problem
        Of all.
    small : jaxlsq.batch.run.Problem
        As `reduced` made it.
    result : FitResult
        Of `small`.
    """
    n, size = kept.layout.n, kept.total
    status = result.status.copy().reshape(size)
    whole, rank = all_parameters(small, result.x.reshape(size, -1), result.fixed, status)
    least = least_rank(n, whole.dtype)
    never = np.isnan(result.cost.reshape(size))
    whole[np.ix_(never, [*kept.linear])] = np.nan
    with np.errstate(invalid="ignore"):
        lost = converged(status) & ~(rank > least)
    status[lost] = Status.SINGULAR_JACOBIAN

    others = list(small.groups[0][1].task.others)

    def spread(values):
        out = np.zeros((*kept.batch, n), values.dtype)
        out[..., others] = values
        return out

    return replace(
        result,
        x=whole.reshape(*kept.batch, n),
        status=status.reshape(kept.batch),
        dof=result.dof - len(kept.linear),
        active_mask=spread(result.active_mask),
        fixed=spread(result.fixed),
        layout=kept.layout,
        names=kept.names,
        problem=kept,
    )


def all_parameters(
    small: Any, x: NDArray[Any], fixed: NDArray[Any], status: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """All parameters (total, n) of those that are not linear, and how well J determines them.

    Parameters
    ----------
    small : jaxlsq.batch.run.Problem
        As `reduced` made it.
    x : (total, k) array
    fixed : array of total * k bool
    status : (total,) int array
        If some are INTERRUPTED, those are left out, and set so in it are the others for which
        there is no time.

    Returns
    -------
    whole : (total, n) array
    certainty : (total,) array
        As of `jaxlsq.numerics.sweep`, of the parameters that are not fixed.
    """
    done = np.flatnonzero(status != Status.INTERRUPTED)
    rows = np.concatenate([x, ~fixed.reshape(x.shape)], axis=1, dtype=x.dtype)
    if len(done) == len(x):
        found = _completed(small, rows, None)
        return found[:, :-1], found[:, -1]
    found = np.full((len(x), small.groups[0][1].task.full.layout.n + 1), np.nan, x.dtype)
    if len(done):
        some = small.take(done, (len(done),))
        told = in_time(lambda stop: _completed(some, rows[done], stop))
        found[done] = np.nan if told is None else told
    others = list(small.groups[0][1].task.others)
    late = np.isnan(found[:, others]).any(axis=1) & np.isfinite(x).all(axis=1)
    status[late] = Status.INTERRUPTED
    found[np.ix_(late, others)] = x[late]
    return found[:, :-1], found[:, -1]


def _completed(small, rows, stop):
    """All parameters of fits, and their certainty."""
    out = np.empty((len(rows), small.groups[0][1].task.full.layout.n + 1), rows.dtype)
    for index, group in small.groups:
        group = group.in_type_of(rows)
        try:
            out[index] = compiled_rows(group, True)(rows[index], stop)
        except NotLowered:
            out[index] = group.map(partial(_all_and_certainty, group.task), rows[index], stop)
    return out


def _all_and_certainty(task, both, lane, shared):
    """All parameters of a fit, and how well the Jacobian determines those that are free."""
    k = len(task.others)
    x = task.coefficients(both[:k], lane, shared)
    free = jnp.ones(x.shape, bool).at[jnp.array(task.others)].set(both[k:] > 0)
    rows, columns = task.full.lane(lane, shared)(tuple(x))
    units = [jnp.max(jnp.abs(column)) for column in columns]
    columns = [c / jnp.where(u > 0, u, 1.0) for c, u in zip(columns, units, strict=True)]
    gram = normal_equations(columns, rows, jnp.ones((), x.dtype))[0].gram
    found = certainty(gram, free)
    return jnp.append(x, jnp.where(jnp.all(jnp.isfinite(gram)), found, jnp.nan))
