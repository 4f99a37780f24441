"""MINPACK's outer and inner loop as one loop over trials.

`judge` takes the residual at a trial point, accepts or rejects it and applies
the stopping rules; `relinearize` takes in a new factorization after an accepted
trial; `propose` finds the next trial point.  `minimize` runs them in a
``while_loop``; a driver on the host may call them one by one.

The first trial is the starting point, judged against an infinite cost, so that
starting a lane needs no code of its own.
"""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics import convergence
from jaxlsq.numerics.bounds import blocked
from jaxlsq.numerics.factor import Factor, qr
from jaxlsq.numerics.jacobian import repaired
from jaxlsq.numerics.loss import sum_of, weighted
from jaxlsq.numerics.norm import norm2, total
from jaxlsq.numerics.normal import Normal
from jaxlsq.numerics.safeguards import faint_columns, moved_start, turned_back
from jaxlsq.numerics.sweep import floor_of
from jaxlsq.numerics.trust_region import reductions, resize
from jaxlsq.status import Status

__all__ = [
    "Options",
    "State",
    "Terms",
    "final_status",
    "judge",
    "minimize",
    "propose",
    "relinearize",
    "start",
]

ACCEPTED_RATIO = 1e-4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Options:
    """What the caller may set; numbers only, so that no change recompiles.

    Attributes
    ----------
    ftol, xtol, gtol : scalar
        Tolerances, see `jaxlsq.numerics.convergence`.
    max_nfev : int
        Limit on evaluations of the residual.
    factor : scalar
        The first step bound is `factor` times the norm of the scaled start.
    diag : (n,) array
        Scale of each parameter; zero asks for MINPACK's own, the largest norm
        that its column of the Jacobian has had.
    epsfcn : scalar
        Relative error of the residual, for finite differences.
    """

    ftol: jax.Array
    xtol: jax.Array
    gtol: jax.Array
    max_nfev: jax.Array
    factor: jax.Array
    diag: jax.Array
    epsfcn: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Terms:
    """What one problem may have beyond a sum of squares.

    Attributes
    ----------
    bounds : (lower, upper)
        (n,) arrays, infinite for none.
    extra : array
        What the loss needs.
    loss : Robust, Poisson or None
        See `jaxlsq.numerics.loss`.
    """

    bounds: tuple
    extra: jax.Array
    loss: object = field(default=None, metadata={"static": True})

    def norm(self, f):
        """The square root of what is minimized."""
        if self.loss is None:
            return norm2(f)
        rows, _ = weighted(self.loss, f, (), self.extra)
        return jnp.sqrt(sum_of(rows))

    def weighted(self, jac, f):
        """Rows and columns for the normal equations."""
        return weighted(self.loss, f, tuple(jac.T), self.extra)

    def exact(self, jac, f):
        """The same with the curvature that covariances are made of."""
        return replace(self, loss=self.loss and self.loss.exact).weighted(jac, f)

    def factor(self, jac, f):
        """The factorization of the weighted problem."""
        rows, columns = self.weighted(jac, f)
        jac, f = jnp.stack(columns, axis=1), rows[0]
        missing = max(jac.shape[1] - jac.shape[0], 0)  # with bounds there may be few residuals
        return qr(jnp.pad(jac, ((0, missing), (0, 0))), jnp.pad(f, (0, missing)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Before:
    """Where a fit with bounds was before its last accepted trial."""

    x: jax.Array
    fnorm: jax.Array
    xnorm: jax.Array
    turns: jax.Array  # how often it went back there


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Point:
    """What changes when a trial is accepted."""

    x: jax.Array  # (n,) parameters
    fnorm: jax.Array  # norm of the residual there
    xnorm: jax.Array  # ||D x||
    factor: Factor | Normal  # of the Jacobian and residual there
    scale: jax.Array  # (n,) D
    gnorm: jax.Array  # largest cosine between the residual and a column of J
    # (n,) norms of columns that are rounding, as far as is known, zero for the others, and
    # infinite before the first Jacobian
    faint: jax.Array
    before: Before | None  # with bounds


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trial:
    """What changes with every trial."""

    x: jax.Array  # (n,) the point to evaluate
    step_bound: jax.Array  # Delta
    damping: jax.Array  # lambda
    step_norm: jax.Array  # ||D p||
    model: jax.Array  # (||J p|| / ||f||)^2
    damped: jax.Array  # lambda (||D p|| / ||f||)^2
    rank: jax.Array  # zero where the last Jacobian does not determine every parameter


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """One lane between two trials.  Nothing of it is as long as the data.

    Every array may have one more axis at its end: as many lanes, side by side.
    """

    point: Point
    trial: Trial
    nfev: jax.Array  # evaluations of the residual
    njev: jax.Array  # evaluations of the Jacobian
    nit: jax.Array  # accepted steps
    accepted: jax.Array  # was the last trial accepted?
    probing: jax.Array  # is the trial the start, moved by little?
    status: jax.Array  # a code of `Status`


def start(x0, empty=Factor.empty, bounded=False):
    """The state whose first trial is the starting point.

    Parameters
    ----------
    x0 : (n, ...) array
    empty : callable
        ``Factor.empty`` or ``Normal.empty``.
    bounded : bool
        Whether there are bounds.

    Returns
    -------
    State
    """
    lanes = x0.shape[1:]
    zero, zeros = jnp.zeros(lanes, x0.dtype), jnp.zeros_like(x0)
    count, no = jnp.zeros(lanes, jnp.int32), jnp.zeros(lanes, bool)
    infinite, unknown = jnp.full_like(zero, jnp.inf), jnp.full_like(zeros, jnp.inf)
    before = Before(x0, infinite, zero, count) if bounded else None
    return State(
        point=Point(x0, infinite, zero, empty(x0), zeros, zero, unknown, before),
        trial=Trial(x0, zero, zero, zero, zero, zero, jnp.ones_like(zero)),
        nfev=count,
        njev=count,
        nit=count,
        accepted=no,
        probing=no,
        status=jnp.full(lanes, Status.RUNNING, jnp.int32),
    )


def judge(state, trial_norm, options):
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
    xnorm = jnp.where(accepted, _scaled_norm(point.scale * trial.x, fnorm), point.xnorm)

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


def relinearize(state, factor, options, evaluations, bounds=None):
    r"""Take in the factorization at an accepted point, and apply the gtol test.

    The scale of a parameter is the largest norm that its column of the Jacobian
    has had (More 1978, section 5), unless `options.diag` gives one.

    Parameters
    ----------
    state : State
        As `judge` left it after accepting.
    factor : Factor or Normal
        Of the Jacobian and residual at ``state.point.x``.
    options : Options
    evaluations : int
        Evaluations of the residual that the Jacobian took.
    bounds : (lower, upper), optional
        Of the parameters; then `factor` is a `Normal`, and the gtol test leaves out what a bound
        holds.

    Returns
    -------
    State
    """
    point, trial = state.point, state.trial
    begins = state.njev == 0
    first = begins | state.probing
    norms = factor.column_norms
    safe_fnorm = jnp.where(point.fnorm == 0, 1.0, point.fnorm)
    faint = faint_columns(state, norms, safe_fnorm)
    blank = jnp.where(begins, norms == 0, faint > 0)
    adaptive = jnp.where(blank, 1.0, jnp.maximum(point.scale, norms))
    scale = jnp.where(options.diag > 0, options.diag, adaptive)
    xnorm = jnp.where(first, _scaled_norm(scale * point.x, safe_fnorm), point.xnorm)
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
    return taken if bounds is None else turned_back(state, taken, norms, bounds)


def _scaled_norm(v, unit):
    """Norm of v, which is of the size of `unit` to within the square root of the range."""
    return unit * jnp.sqrt(total(jnp.square(v / unit)))


def propose(state, bounds=None):
    """Find the next trial point inside the trust region, and the bounds if there are any.

    Parameters
    ----------
    state : State
        After `judge`, and `relinearize` where the trial was accepted.
    bounds : (lower, upper), optional
        (n, ...) arrays; the parameters are between them.

    Returns
    -------
    State
    """
    point, trial = state.point, state.trial
    # Columns that are rounding count as zero.
    scale = jnp.where(point.faint > 0, jnp.inf, point.scale)
    region = scale, point.fnorm, trial.step_bound, trial.damping
    idle = state.status != Status.RUNNING
    if bounds is None:
        damping, p, step_norm, model, rank = point.factor.step(*region, idle)
        damped = damping * jnp.square(step_norm / point.fnorm)
        x = point.x - p
    else:
        lower, upper = bounds
        box = point.x - upper, point.x - lower
        damping, p, step_norm, model, damped, rank = point.factor.step_in_box(box, *region, idle)
        # What is pinned to a bound lands on it, to the last digit.
        nearly = 1.0 - 8.0 * jnp.finfo(p.dtype).eps
        x = jnp.where(p >= nearly * box[1], lower, point.x - p)
        x = jnp.clip(jnp.where(p <= nearly * box[0], upper, x), lower, upper)
    x = jnp.where(state.probing, moved_start(point.x, bounds), x)
    # The first step bound is a guess, which the first steps correct downwards.
    shorter = jnp.minimum(trial.step_bound, step_norm)
    return replace(
        state,
        trial=Trial(
            x=x,
            step_bound=jnp.where(state.nit == 0, shorter, trial.step_bound),
            damping=jnp.where(idle, trial.damping, damping),
            step_norm=step_norm,
            model=model,
            damped=damped,
            rank=rank,
        ),
    )


def final_status(state):
    """The status of a lane that has ended: success is finite and determined.

    One that converged where J is singular, or where its cost overflows, says so.
    """
    success = (state.status >= Status.FTOL) & (state.status <= Status.GTOL)
    singular = success & (state.trial.rank <= least_rank(state.trial.rank.dtype, state.point.x))
    fnorm = state.point.fnorm
    # The cost of a float32 fit is kept in float64.
    overflow = success & ~jnp.isfinite(fnorm if fnorm.dtype == jnp.float32 else fnorm * fnorm)
    status = jnp.where(singular, jnp.int32(Status.SINGULAR_JACOBIAN), state.status)
    return jnp.where(overflow, jnp.int32(Status.NONFINITE_COST), status)


def least_rank(dtype, x):
    """How small the reciprocal of `jaxlsq.numerics.sweep.inflation` is of a singular matrix.

    n times the pivots' floor: of which covariances, from eigenvalues, have all finite.
    """
    return x.shape[0] * floor_of(x.shape[0], dtype)


def minimize(residual, jacobian, begin, options, *, evaluations=0, terms=None, rounds=None):
    r"""Minimize :math:`\tfrac12 \lVert f(x) \rVert^2` from `x0`, for one lane.

    Parameters
    ----------
    residual : callable
        ``residual(x) -> (m,)``, traceable, m >= n.
    jacobian : callable
        ``jacobian(x, f) -> (m, n)``, traceable.
    begin : (n,) array, or State and (m,) array
        The start; or where an earlier call has come to.
    options : Options
    evaluations : int
        Evaluations of the residual that one Jacobian takes.
    terms : Terms, optional
        Bounds and a loss.
    rounds : int, optional
        Rounds after which to stop, whether the fit has ended or not.

    Returns
    -------
    state : State
        ``state.point`` holds the parameters; its factor is that of the last
        Jacobian, which MINPACK does not evaluate again at the solution.
    f : (m,) array
        Residual at the parameters.
    """
    if not isinstance(begin, tuple):
        shape = jax.eval_shape(residual, begin)
        begin = start(begin, bounded=terms is not None), jnp.zeros(shape.shape, shape.dtype)
    norm, factorize, bounds = norm2, qr, None
    if terms is not None:
        norm, factorize, bounds = terms.norm, terms.factor, terms.bounds

    def linearize(state, f):
        jac, more = jacobian(state.point.x, f), 0
        if not evaluations:
            jac, more = repaired(residual, state.point.x, f, jac, bounds)
        return relinearize(state, factorize(jac, f), options, evaluations + more, bounds)

    def round_(carry):
        state, f = carry
        trial_f = residual(state.trial.x)
        state = judge(state, norm(trial_f), options)
        fresh = state.accepted & (state.status == Status.RUNNING)
        state = lax.cond(fresh, lambda s: linearize(s, trial_f), lambda s: s, state)
        f = jnp.where(state.accepted | (state.njev == 0), trial_f, f)
        return propose(state, bounds), f

    def is_running(carry):
        return carry[0].status == Status.RUNNING

    if rounds is None:
        return lax.while_loop(is_running, round_, begin)
    _, end = lax.while_loop(
        lambda counted: (counted[0] < rounds) & is_running(counted[1]),
        lambda counted: (counted[0] + 1, round_(counted[1])),
        (jnp.zeros_like(rounds), begin),
    )
    return end
