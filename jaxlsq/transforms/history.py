"""One fit that remembers its last points, for plots of how it converged."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxlsq.results.solution import History
from jaxlsq.schedule.pool import Observer, run_pool
from jaxlsq.status import Status
from jaxlsq.tracing.settings import own_settings
from jaxlsq.tracing.trace import Traced
from jaxlsq.transforms.vmap import counts_of, lane_of, queue_of, varied

__all__ = ["with_history"]


def with_history(traced: Traced, evaluations: int, length: int) -> Callable[..., Any]:
    """A solver as `jaxlsq.transforms.vmap.solver`, whose counts hold a `History` of vectors."""

    def pool(x0, data, options, bounds):
        lane = lane_of(traced, evaluations, lambda _: data, alone=True)
        x0, bounds = jax.tree.map(lambda v: v[None], (x0, bounds))
        queue = queue_of(x0, (), bounds)
        observer = Observer(_empty(x0[0], length), _see)
        ended, history = run_pool(lane, queue, options, 1, observer)
        counts = {name: value[0] for name, value in counts_of(ended).items()}
        return ended.x[0], counts | {"history": history}

    return own_settings()(varied(pool))


def _empty(x0, length):
    nothing = jnp.full(length, jnp.nan, x0.dtype)
    x = jnp.full((length, x0.size), jnp.nan, x0.dtype)
    return History(x, nothing, nothing, nothing, jnp.zeros(length, jnp.int32))


def _see(history, before, after):
    """The history with the point of the one lane, if the round accepted it."""
    point, trial = after.point, after.trial
    cost = 0.5 * jnp.square(point.fnorm)
    new = History(point.x[:, 0], cost[0], trial.step_bound[0], trial.damping[0], after.nfev[0])
    accepted = (after.accepted & (before.status == Status.RUNNING))[0]
    return jax.tree.map(
        lambda old, row: jnp.where(accepted, jnp.concatenate([old[1:], row[None]]), old),
        history,
        new,
    )
