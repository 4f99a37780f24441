"""MINPACK's outer and inner loop as one loop over trials.

`judge` takes the residual at a trial point, accepts or rejects it and applies
the stopping rules; `relinearize` takes in a new linear model after an accepted
trial; `propose` finds the next trial point.  `turn` is the three in a row, the
body of every loop on the device; the loop on the host calls them one by one.

The first trial is the starting point, judged against an infinite cost, so that
starting a lane needs no code of its own.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxlsq.numerics import convergence
from jaxlsq.numerics.bounds import Bounds, blocked
from jaxlsq.numerics.linear_model import Box, LinearModel, Region
from jaxlsq.numerics.norm import total
from jaxlsq.numerics.safeguards import faint_columns, moved_start, turned_back
from jaxlsq.numerics.state import Before, Options, State, Trial
from jaxlsq.numerics.sweep import least_rank
from jaxlsq.numerics.trust_region import reductions, resize
from jaxlsq.status import Status, converged

__all__ = ["final_status", "judge", "propose", "relinearize", "turn"]

ACCEPTED_RATIO = 1e-4


def judge(state: State, trial_norm: jax.Array, options: Options) -> State:
    r"""Accept or reject the trial, resize the trust region, test for convergence.

    A trial is accepted if :math:`\rho \ge 10^{-4}`, the first one if it is
    finite.  A trial that is not finite is rejected, and ends the fit with
    NONFINITE_STEPS if it shrinks the step bound to where xtol would hold.

    Parameters
    ----------
    state : State
    trial_norm : scalar
        Norm of the residual at ``state.trial.x``.
    options : Options

    Returns
    -------
    State
    """
    point, trial = state.point, state.trial
    begins = state.nfev == 0
    # The start, and the start moved by little, are judged against nothing.
    first = begins | state.probing
    nfev = state.nfev + 1
    finite = jnp.isfinite(trial_norm)
    fnorm = jnp.where(first, 1.0, point.fnorm)
    relative_norm = trial_norm / fnorm
    actual, predicted, ratio = reductions(relative_norm, trial.model, trial.damped)
    bound, damping = resize(
        trial.step_bound,
        trial.damping,
        trial.step_norm,
        (actual, ratio, -(trial.model + trial.damped)),
        relative_norm,
    )
    accepted = jnp.where(first, finite, ratio >= ACCEPTED_RATIO)
    x = jnp.where(accepted, trial.x, point.x)
    xnorm = jnp.where(accepted, _parameters_norm(point.scale, trial.x, fnorm), point.xnorm)

    started = jnp.where(finite | ~begins, Status.RUNNING, Status.NONFINITE_START)
    started = started.astype(jnp.int32)
    tested = convergence.after_trial(
        (actual, predicted, ratio), (bound, xnorm), point.gnorm, nfev, options
    )
    # A step bound that shrank to nothing before a NaN is no sign of convergence.
    shrunk = (tested == Status.XTOL) | (tested == Status.XTOL_TOO_SMALL)
    tested = jnp.where(shrunk & ~finite, jnp.int32(Status.NONFINITE_STEPS), tested)
    return replace(
        state,
        point=replace(
            point,
            x=x,
            xnorm=xnorm,
            fnorm=jnp.where(accepted, trial_norm, point.fnorm),
            before=_remembered(point, accepted),
        ),
        trial=replace(
            trial,
            step_bound=jnp.where(first, trial.step_bound, bound),
            damping=jnp.where(first, trial.damping, damping),
        ),
        nfev=nfev,
        nit=state.nit + (accepted & ~first).astype(jnp.int32),
        accepted=accepted,
        probing=state.probing & finite,
        status=jnp.where(first, started, tested),
    )


def _remembered(point, accepted):
    """The point as it was, where a trial replaces it."""
    before = point.before
    if before is None:
        return None
    last = Before(point.x, point.fnorm, point.xnorm, before.turns)
    return jax.tree.map(lambda new, old: jnp.where(accepted, new, old), last, before)


def relinearize(
    state: State,
    factor: LinearModel,
    options: Options,
    evaluations: int | jax.Array,
    bounds: Bounds | None = None,
    final: bool = True,
) -> State:
    r"""Take in the linear model at an accepted point, and apply the gtol test.

    The scale of a parameter is the largest norm that its column of the Jacobian
    has had (More 1978, section 5), unless `options.diag` gives one; infinite where
    bounds are equal, which fix it.

    Parameters
    ----------
    state : State
        As `judge` left it after accepting.
    factor : LinearModel
        Of the Jacobian and residual at ``state.point.x``.
    options : Options
    evaluations : int
        Evaluations of the residual that the Jacobian took.
    bounds : Bounds, optional
        Of the parameters; then the gtol test leaves out what a bound holds.
    final : bool
        Whether derivatives that are not finite stay so.  If not, the fit ends with them, to be
        begun again with differences in their place.

    Returns
    -------
    State
    """
    point, trial = state.point, state.trial
    begins = state.njev == 0
    first = begins | state.probing
    norms = factor.column_norms
    safe_fnorm = jnp.where(point.fnorm == 0, 1.0, point.fnorm)
    faint = faint_columns(state, norms, point.fnorm, bounds)
    blank = jnp.where(begins, norms == 0, faint > 0)
    adaptive = jnp.where(blank, 1.0, jnp.maximum(point.scale, norms))
    scale = jnp.where(options.diag > 0, options.diag, adaptive)
    if bounds is not None:
        scale = jnp.where(bounds[0] < bounds[1], scale, jnp.inf)
    xnorm = jnp.where(first, _parameters_norm(scale, point.x, safe_fnorm), point.xnorm)
    bound = jnp.where(xnorm == 0, options.factor, options.factor * xnorm)

    cosines = factor.cosines(safe_fnorm)
    if bounds is not None:
        cosines = jnp.where(blocked(point.x, factor.direction, bounds), 0.0, cosines)
    gnorm = jnp.where(point.fnorm == 0, 0.0, jnp.max(cosines, axis=0))
    finite = jnp.all(jnp.isfinite(norms), axis=0)
    status = jnp.where(
        finite,
        convergence.after_factorization(gnorm, options.gtol),
        jnp.int32(Status.NONFINITE_JACOBIAN),
    )
    taken = replace(
        state,
        point=replace(point, factor=factor, scale=scale, xnorm=xnorm, gnorm=gnorm, faint=faint),
        trial=replace(trial, step_bound=jnp.where(first, bound, trial.step_bound)),
        nfev=state.nfev + evaluations,
        njev=state.njev + 1,
        probing=begins & jnp.any(faint > 0, axis=0),
        status=status,
    )
    return taken if bounds is None else turned_back(state, taken, norms, bounds, final)


def _parameters_norm(scale, x, unit):
    """||D x||, of the size of `unit` to within the square root of the range.

    A parameter of infinite scale is fixed: its size is none of what moves, and does not make a
    step a short one.
    """
    v = jnp.where(jnp.isinf(scale), 0.0, scale) * x
    return unit * jnp.sqrt(total(jnp.square(v / unit)))


def propose(state: State, bounds: Bounds | None = None) -> State:
    """Find the next trial point inside the trust region, and the bounds if there are any.

    Parameters
    ----------
    state : State
        After `judge`, and `relinearize` where the trial was accepted.
    bounds : Bounds, optional
        (n, ...) arrays; the parameters are between them.

    Returns
    -------
    State
    """
    point, trial = state.point, state.trial
    # Columns that are rounding count as zero.
    scale = jnp.where(point.faint > 0, jnp.inf, point.scale)
    region = Region(scale, point.fnorm, trial.step_bound, trial.damping)
    idle = state.status != Status.RUNNING
    if bounds is None:
        step = point.factor.step(region, idle)
        x = point.x - step.p
    else:
        lower, upper = bounds
        box = Box(point.x - upper, point.x - lower)
        step = point.factor.step_in_box(box, region, idle)
        # What is pinned to a bound lands on it, to the last digit.
        nearly = 1.0 - 8.0 * jnp.finfo(step.p.dtype).eps
        x = jnp.where(step.p >= nearly * box.high, lower, point.x - step.p)
        x = jnp.clip(jnp.where(step.p <= nearly * box.low, upper, x), lower, upper)
    x = jnp.where(state.probing, moved_start(point.x, bounds), x)
    # The first step bound is a guess, which the first steps correct downwards.
    shorter = jnp.minimum(trial.step_bound, step.step_norm)
    return replace(
        state,
        trial=Trial(
            x=x,
            step_bound=jnp.where(state.nit == 0, shorter, trial.step_bound),
            damping=jnp.where(idle, trial.damping, step.damping),
            step_norm=step.step_norm,
            model=step.model,
            damped=step.damped,
            rank=step.rank,
        ),
    )


def _at_once(function, otherwise, *arguments):
    """A `stage` that keeps nothing."""
    return function(*arguments)


def turn(
    state: State,
    trial_norm: jax.Array,
    take_in: Callable[[State], State],
    options: Options,
    bounds: Bounds | None = None,
    stage: Callable[..., Any] = _at_once,
) -> State:
    """One trial: judge it, take in the linear model where it was accepted, propose the next.

    Parameters
    ----------
    state : State
    trial_norm : scalar
        Norm of the residual at ``state.trial.x``.
    take_in : callable
        ``take_in(state)`` is `relinearize` where the trial was accepted and the fit goes on, and
        the state as it is elsewhere.
    options : Options
    bounds : Bounds, optional
    stage : callable
        ``stage(function, otherwise, *arguments)`` calls a function; it may keep what it returns
        from being computed again.

    Returns
    -------
    State
    """
    state = stage(judge, state, state, trial_norm, options)
    return propose(take_in(state), bounds)


def final_status(state: State) -> jax.Array:
    """The status of a lane that has ended: success is finite and determined.

    One that converged where J is singular, or where its cost overflows, says so.
    """
    success = converged(state.status)
    singular = success & (
        state.trial.rank <= least_rank(state.point.x.shape[0], state.trial.rank.dtype)
    )
    fnorm = state.point.fnorm
    # The cost of a float32 fit is kept in float64.
    overflow = success & ~jnp.isfinite(fnorm if fnorm.dtype == jnp.float32 else fnorm * fnorm)
    status = jnp.where(singular, jnp.int32(Status.SINGULAR_JACOBIAN), state.status)
    return jnp.where(overflow, jnp.int32(Status.NONFINITE_COST), status)
