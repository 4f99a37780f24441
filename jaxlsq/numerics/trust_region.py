r"""The Levenberg-Marquardt step and the rule that sizes the trust region.

Source: J. J. More, "The Levenberg-Marquardt algorithm: implementation and
theory", Lecture Notes in Mathematics 630 (1978), sections 4 and 5, and
MINPACK's ``lmpar``, ``qrsolv`` and ``lmder``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.norm import total

__all__ = ["levenberg_parameter", "norm", "reductions", "resize"]

# The step's scaled length is found to within 10 % of the bound, in 10 tries.
LENGTH_TOLERANCE = 0.1
MAX_TRIES = 10
# Where a box has no solution that is found, the damping grows by this.
RAISE = 1024.0


def levenberg_parameter(
    attempt: Callable[..., Any],
    gradient: jax.Array,
    step_bound: jax.Array,
    damping: jax.Array,
    idle: jax.Array | bool = False,
    sides: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""The damping whose step is as long as the trust region allows.

    Finds :math:`\lambda \ge 0` such that the minimizer p of
    :math:`\lVert J p - f \rVert^2 + \lambda \lVert D p \rVert^2` has
    :math:`\lambda = 0` and :math:`\lVert D p \rVert \le 1.1 \Delta`, or
    :math:`|\lVert D p \rVert - \Delta| \le 0.1 \Delta`.

    Parameters
    ----------
    attempt : callable
        ``attempt(damping) -> (p, length, slope, rank)``: the minimizer (n, ...), its
        scaled length ``||D p||``, the square root of minus the relative derivative of that
        length in the damping, and a number that is zero where the problem does not determine
        every parameter.
    gradient : (n, ...) array
        ``D^-1 J'f``, in a unit in which it is near one.
    step_bound : (...) array
        Delta, positive, in the same unit.
    damping : (...) array
        The previous lambda, where the search starts.
    idle : (...) bool array
        Lanes whose result nobody reads.
    sides : (n, ...) array, optional
        For a step in a box: which parameters are at an end of it.  Then it is
        ``attempt(damping, sides, idle) -> (p, length, slope, rank, sides)``, with those to try
        first next time; and the length is only piecewise smooth in the damping, so that
        Newton's corrections bound nothing.  An infinite length says that there is no p; more
        damping makes it easier to find.

    Returns
    -------
    damping : (...) array
    p : (n, ...) array
        The iteration moves by -p.
    rank : (...) array
        What `attempt` says of the undamped problem; for idle lanes too.

    Notes
    -----
    MINPACK's ``lmpar`` solves the undamped problem apart; here it is the first
    pass of the one loop.  A problem that is singular there gives no lower bound of
    lambda.  Trailing axes are lanes: the loop goes on for the last of them, and a
    lane that is done keeps its damping, and with it its step.
    """
    tiny = jnp.finfo(gradient.dtype).tiny
    given = damping
    size = norm(gradient)
    highest = size / step_bound
    highest = jnp.where(highest == 0, tiny / jnp.minimum(step_bound, LENGTH_TOLERANCE), highest)

    boxed = sides is not None

    def try_(carry):
        """One pass.  `search` is the damping, between a lower and an upper bound, and by how much
        the last p was longer than the step bound."""
        tries, search, last_p, last_sides, first_rank, ended = carry
        damping, lower, upper, last_excess = search
        first = tries == 0
        vanished = (damping == 0) & ~first & ~ended
        damping = jnp.where(vanished, jnp.maximum(tiny, 0.001 * upper), damping)
        if boxed:
            p, length, slope, rank, sides = attempt(damping, last_sides, ended)
            # A lane that is done is tried again with its neighbours: nothing of it may move.
            lost = length == jnp.inf
            p = jnp.where(lost | (ended & ~first), last_p, p)
            sides = jnp.where(ended & ~first, last_sides, sides)
        else:
            p, length, slope, rank = attempt(damping)
            sides, lost = last_sides, jnp.zeros_like(ended)
        excess = length - step_bound
        newton = ((excess / step_bound) / slope) / slope
        fits = jnp.where(first, excess, jnp.abs(excess)) <= LENGTH_TOLERANCE * step_bound
        shrinking = (lower == 0) & (excess <= last_excess) & (last_excess < 0)
        done = ended | fits | (~first & (shrinking | (tries == MAX_TRIES)))
        if boxed:  # after some for which there was no p, the first that is short enough
            done = done | ((last_excess == jnp.inf) & (excess <= LENGTH_TOLERANCE * step_bound))

        # First pass: a lower bound of lambda, and the start below the upper one.
        newton_0 = jnp.where(rank > 0, newton, 0.0)
        start = jnp.minimum(jnp.maximum(given, newton_0), upper)
        lower_0 = jnp.zeros_like(newton_0) if boxed else newton_0
        start = jnp.where(start == 0, size / length, start)
        start = jnp.where(lost, upper, start) if boxed else start
        # Later passes: tighter bounds, and Newton's correction.
        lower_k = jnp.where(excess > 0, jnp.maximum(lower, damping), lower)
        upper_k = jnp.where(excess < 0, jnp.minimum(upper, damping), upper)
        corrected = jnp.maximum(lower_k, damping + newton)
        if boxed:  # bisect, on a scale of logarithms, where Newton leaves the bounds
            between = jnp.maximum(0.001 * upper_k, jnp.sqrt(lower_k * upper_k))
            corrected = jnp.where(corrected < upper_k, corrected, between)
            raised = lost & (damping >= upper)
            corrected = jnp.where(raised, RAISE * damping, corrected)
            upper_k = jnp.where(raised, corrected, upper_k)

        following = jnp.where(done, damping, jnp.where(first, start, corrected))
        lower, upper = jnp.where(first, lower_0, lower_k), jnp.where(first, upper, upper_k)
        search = jnp.stack([following, lower, upper, excess])
        return tries + 1, search, p, sides, jnp.where(first, rank, first_rank), done

    zero, idle = jnp.zeros_like(step_bound), jnp.broadcast_to(idle, step_bound.shape)
    search = jnp.stack([zero, zero, highest, zero])
    begun = jnp.int32(0), search, jnp.zeros_like(gradient), sides, jnp.ones_like(step_bound), idle
    _, search, p, _, rank, _ = lax.while_loop(
        lambda carry: (carry[0] == 0) | ~jnp.all(carry[-1]), try_, begun
    )
    return search[0], p, rank


def norm(v: jax.Array) -> jax.Array:
    """Plain Euclidean norm along the first axis, for vectors in a unit of their size."""
    return jnp.sqrt(total(v * v))


def reductions(
    relative_norm: jax.Array, model: jax.Array, damped: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""Actual and predicted relative reduction of the sum of squares, and their ratio.

    .. math::
        a = 1 - \left(\frac{\lVert f_+ \rVert}{\lVert f \rVert}\right)^2, \quad
        q = \frac{\lVert J p \rVert^2 + 2 \lambda \lVert D p \rVert^2}{\lVert f \rVert^2}, \quad
        \rho = a / q

    with a = -1 where the trial norm is 10 times the old one or more, or not
    finite, and :math:`\rho = 0` where q = 0.

    Parameters
    ----------
    relative_norm : scalar
        Norm of the residual at the trial point by that at the accepted point.
    model, damped : scalar
        ``||J p||^2`` and ``damping ||D p||^2`` of the trial step, by ``||f||^2``.

    Returns
    -------
    actual, predicted, ratio : scalars
    """
    near = 0.1 * relative_norm < 1.0  # False for a NaN
    actual = jnp.where(near, 1.0 - jnp.square(jnp.where(near, relative_norm, 1.0)), -1.0)
    predicted = model + 2.0 * damped
    ratio = jnp.where(predicted == 0, 0.0, actual / jnp.where(predicted == 0, 1.0, predicted))
    return actual, predicted, ratio


def resize(
    step_bound: jax.Array,
    damping: jax.Array,
    step_norm: jax.Array,
    reduction: tuple[jax.Array, jax.Array, jax.Array],
    relative_norm: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    r"""New step bound and damping after a trial.

    - :math:`\rho \le 1/4`: the bound shrinks by the minimizer of a quadratic
      through what is known along the step, kept in [0.1, 0.5]; the damping grows
      by the same factor;
    - :math:`\rho \ge 3/4`, or no damping: the bound becomes twice the step, the
      damping halves;
    - otherwise both stay.

    Parameters
    ----------
    step_bound, damping, step_norm : scalar
        Delta, lambda and ``||D p||``.
    reduction : (actual, ratio, slope)
        From `reductions`; `slope` is ``-(model + damped)``, half the relative
        derivative of the sum of squares along the step.
    relative_norm : scalar
        As for `reductions`; the shrinkage is 0.1 where it is 10 or more, or NaN.

    Returns
    -------
    step_bound, damping : scalars
    """
    actual, ratio, slope = reduction
    interpolated = 0.5 * slope / (slope + 0.5 * actual)
    near = 0.1 * relative_norm < 1.0
    shrink = jnp.where(actual >= 0, 0.5, jnp.where(near, jnp.maximum(interpolated, 0.1), 0.1))
    poor = ratio <= 0.25
    good = (damping == 0) | (ratio >= 0.75)
    smaller = shrink * jnp.minimum(step_bound, step_norm / 0.1)
    new_bound = jnp.where(poor, smaller, jnp.where(good, step_norm / 0.5, step_bound))
    return new_bound, jnp.where(poor, damping / shrink, jnp.where(good, 0.5 * damping, damping))
