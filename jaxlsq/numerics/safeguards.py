r"""What keeps a fit from places where nothing depends on a parameter.

Two safeguards that MINPACK does not have: a column of the Jacobian that is nothing but rounding
counts as zero, instead of giving its parameter a scale of rounding's size; and a step that lands
on a bound where columns are lost is undone, instead of ending there.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.state import State
from jaxlsq.status import Status

__all__ = ["faint_columns", "moved_start", "turned_back"]

# Columns of the Jacobian are rounded to about this many epsilons of the residual, or of another
# column, by the parameter that they belong to.
NOISE_EPS = 64.0
# How far the start is moved to see what is rounding: epsilons of each parameter, by its number.
MOVED_EPS = 4.0

# A column is lost where its norm falls to this power of epsilon of what it was.
LOST_POWER = 0.5
# How often a fit turns back from a bound where columns are lost, and what remains of the step.
TURNS = 6
TURN_SHRINK = 0.1


def faint_columns(
    state: State, norms: jax.Array, fnorm: jax.Array, bounds: Bounds | None = None
) -> jax.Array:
    r"""Norms of columns that may be nothing but rounding, and zero for the others.

    A column is faint where its parameter, changed by all of itself, would change the residual by
    no more than rounding does:

    .. math:: \lVert J_j \rVert s_j \le 64 \epsilon \max(\lVert f \rVert,
              \max_k \lVert J_k \rVert s_k), \quad s_j = |x_j| \text{ or } 1

    MINPACK would take its norm for the scale of the parameter, which then steps to
    :math:`1 / \epsilon`.  Whether it is rounding, as the angle's of an ellipse that is a circle,
    or a parameter in a small unit, is seen from the Jacobian at the start moved by a few
    epsilons: rounding changes as a whole.  What is rounding counts as zero, as MINPACK counts a
    column of zeros, until it is no longer faint.
    """
    point, eps = state.point, jnp.finfo(norms.dtype).eps
    effect = norms * jnp.where(point.x == 0, 1.0, jnp.abs(point.x))
    moving = True
    if bounds is not None:  # what is fixed, however large, is nothing to compare with
        moving = bounds[0] < bounds[1]
        effect = jnp.where(moving, effect, 0.0)
    largest = jnp.maximum(fnorm, jnp.max(effect, axis=0))
    is_small = effect <= NOISE_EPS * eps * largest
    steady = jnp.abs(norms - point.faint) <= jnp.sqrt(eps) * point.faint
    # Infinite before the first Jacobian, which is where a column may begin to be faint.
    suspect = (point.faint > 0) & ~(state.probing & steady)
    return jnp.where(is_small & suspect & moving, norms, 0.0)


def turned_back(
    state: State, taken: State, norms: jax.Array, bounds: Bounds, final: bool = True
) -> State:
    """Undo a step that landed on a bound where the residual depends on less than before.

    The floor of a time constant, say: nothing depends on the other parameters there, and no step
    leads away.  The trust region shrinks, as after any bad step.
    """
    lower, upper = bounds
    old, point = state.point, taken.point
    before = old.before
    assert before is not None  # with bounds there is one

    def at_bound(x):
        return ((x <= lower) | (x >= upper)) & (lower < upper)

    landed = jnp.any(at_bound(old.x) & ~at_bound(before.x), axis=0)
    floor = jnp.finfo(norms.dtype).eps ** LOST_POWER
    last = old.factor.column_norms
    infinite = ~jnp.isfinite(norms)
    gone = infinite | ((norms <= floor * last) & (last > 0))
    lost = jnp.any(gone & (lower < upper), axis=0)
    lost = lost if final else lost & ~jnp.any(infinite, axis=0)
    turns = jnp.isfinite(before.fnorm) & landed & lost & (before.turns < TURNS)

    def choose(turned, other):
        return jnp.where(turns, turned, other)

    factor = jax.tree.map(choose, old.factor, point.factor)
    trial = taken.trial
    shrunk = TURN_SHRINK * jnp.minimum(trial.step_bound, trial.step_norm)
    return replace(
        taken,
        point=replace(
            point,
            x=choose(before.x, point.x),
            fnorm=choose(before.fnorm, point.fnorm),
            xnorm=choose(before.xnorm, point.xnorm),
            factor=factor,
            scale=choose(old.scale, point.scale),
            gnorm=choose(old.gnorm, point.gnorm),
            faint=choose(old.faint, point.faint),
            before=replace(before, turns=before.turns + turns),
        ),
        trial=replace(
            trial,
            step_bound=choose(shrunk, trial.step_bound),
            damping=choose(trial.damping / TURN_SHRINK, trial.damping),
        ),
        nit=taken.nit - turns,
        accepted=taken.accepted & ~turns,
        status=choose(jnp.int32(Status.RUNNING), taken.status),
    )


def moved_start(x: jax.Array, bounds: Bounds | None) -> jax.Array:
    """Each parameter moved by a few of its epsilons, differently, inside the bounds."""
    n = x.shape[0]
    number = jnp.arange(1, n + 1, dtype=x.dtype).reshape(n, *(1,) * (x.ndim - 1))
    part = MOVED_EPS * jnp.finfo(x.dtype).eps * number
    if bounds is None:
        return x * (1.0 + part)
    lower, upper = bounds
    step = part * jnp.abs(x)
    return jnp.clip(jnp.where(x + step <= upper, x + step, x - step), lower, upper)
