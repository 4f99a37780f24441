"""What a round does to lanes beside a turn of the iteration; lanes last, or one lane alone."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxlsq.numerics.bounds import Bounds, blocked
from jaxlsq.numerics.iteration import final_status, relinearize
from jaxlsq.numerics.linear_model import LinearModel
from jaxlsq.numerics.state import Options, State
from jaxlsq.problem.types import PyTree
from jaxlsq.status import Status

__all__ = ["reported", "selected", "settled", "taken_in"]


def taken_in(
    final: bool,
    judged: State,
    normal: LinearModel,
    options: Options,
    bounds: Bounds | None,
    evaluations: int | jax.Array,
) -> State:
    """`relinearize` where the trial was accepted; a fit that ends with it counts no Jacobian."""
    taken = relinearize(judged, normal, options, evaluations, bounds, final)
    fresh = judged.accepted & (judged.status == Status.RUNNING)
    return replace(
        selected(judged.accepted, taken, judged),
        nfev=jnp.where(fresh, taken.nfev, judged.nfev),
        njev=jnp.where(fresh, taken.njev, judged.njev),
        status=jnp.where(fresh, taken.status, judged.status),
    )


def settled(old: State, new: State) -> State:
    """A new state, in which what had ended, or never began, keeps all that is reported of it."""
    running = old.status == Status.RUNNING
    point = replace(new.point, fnorm=jnp.where(running, new.point.fnorm, old.point.fnorm))
    counts = ("status", "nfev", "njev", "nit")
    kept = {name: jnp.where(running, getattr(new, name), getattr(old, name)) for name in counts}
    return replace(new, point=point, **kept)


def selected(mask: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    """Arrays of `new` in the lanes of `mask`."""
    return jax.tree.map(lambda a, b: jnp.where(mask, a, b), new, old)


def reported(state: State, bounds: Bounds | None) -> tuple[jax.Array, jax.Array]:
    """What is written of a lane that has ended, in the order of `jaxlsq.schedule.queue.Ended`.

    Returns
    -------
    reals : (n + 3, ...) array
        The parameters, optimality, fnorm and certainty.
    counts : (4, ...) int32 array
        Status, nfev, njev and nit.
    """
    point = state.point
    held = bounds is not None and blocked(point.x, point.factor.direction, bounds)
    # A `Normal`, and no other model, is what lanes have.
    gradient = point.factor.largest_gradient(held)  # pyright: ignore[reportAttributeAccessIssue]
    begun = jnp.isfinite(point.fnorm)
    reals = [
        point.x,
        jnp.where(begun, gradient, jnp.nan)[None],
        jnp.where(begun, point.fnorm, jnp.nan)[None],
        jnp.where(state.trial.damping > 0, 0.0, state.trial.rank)[None],
    ]
    counts = jnp.stack([final_status(state), state.nfev, state.njev, state.nit])
    return jnp.concatenate(reals), counts
