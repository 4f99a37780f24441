"""The lane pool: many fits on few lanes, where a lane that has ended takes the next problem.

A batch in lockstep runs until its slowest fit ends: `vmap` of a loop works on all lanes as long
as any of them is busy.  Here the cost follows the sum of iterations.  A pool has W lanes, some
hundreds on a CPU, and a queue of B problems.  Each turn of its one loop is a *round*::

    lane 0   problem 4: trial 3      round:  evaluate residual and Jacobian at every trial,
    lane 1   problem 1: trial 9              judge, relinearize, propose     (`numerics`)
    lane 2   problem 7: start        then:   write out lanes that have ended (`_write`)
    lane 3   (free)                          give their places to the queue  (`_refill`)

    queue    8 9 10 11 ...           results  row 2, row 0, row 3, ...  in the order of ending

A lane that begins needs no code of its own: its first trial is its start, judged against an
infinite cost.  All of it is one ``while_loop``, so that it works under `jit` and on any device.
It stops where the queue is empty (its lanes then wait for the next block of problems), where all
lanes have ended if that is asked for, or after some rounds, so that the host hears Ctrl-C.

What makes a lane equal to the single fit, whoever its neighbours are: every sum is over the lane's
own data or parameters; a loop inside a round (for the damping, for a box) goes on for its last
lane, and one that is done keeps what it has; and a lane that is idle computes something that
nobody reads.

Residual and Jacobian are taken together, though a rejected trial needs no Jacobian: lanes accept
and reject independently, and most trials are accepted.

Arrays of the size of the data have lanes first, as `vmap` leaves them; the algebra of the size of
the parameters has lanes last (`jaxlsq.numerics.normal`), so that each of its many small operations
runs over all lanes at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.iteration import turn
from jaxlsq.numerics.norm import power_of_two
from jaxlsq.numerics.normal import Normal
from jaxlsq.numerics.state import Options, State, start
from jaxlsq.problem.types import PyTree
from jaxlsq.schedule.equations import Equations, Lane, squares_are_safe
from jaxlsq.schedule.queue import Ended, Place, Queue
from jaxlsq.schedule.rounds import reported, selected, settled, taken_in
from jaxlsq.status import Status

__all__ = ["Observer", "Pool", "advance", "empty_pool", "run_pool", "sizes_of"]


# A start of 1e-30 is a zero rather than the size of its parameter.
FARTHEST_SIZE = 1e15


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pool:
    """The lanes between two rounds."""

    state: State
    data: PyTree  # (W, ...) each
    unit: jax.Array  # (W,) powers of two, near the size of the residual
    sizes: jax.Array  # (n, W) powers of two, near the sizes of the parameters
    problem: jax.Array  # (W,) number of the problem, -1 for none
    bounds: Bounds | None = None  # (n, W) each


@dataclass(frozen=True)
class Observer:
    """Something that sees each round of a pool.

    Attributes
    ----------
    begun : pytree of arrays
        What it knows before the first.
    see : callable
        ``see(known, before, after) -> known``, of the states before and after a round.
    """

    begun: PyTree
    see: Callable[..., Any]


_NOBODY = Observer((), lambda known, before, after: known)


def run_pool(
    lane: Lane, queue: Queue, options: Options, width: int, observer: Observer = _NOBODY
) -> tuple[Ended, PyTree]:
    """Fit every problem, `width` at a time.

    Parameters
    ----------
    lane : Lane
    queue : Queue
    options : Options
        For all problems.
    width : int
        Lanes.
    observer : Observer, optional

    Returns
    -------
    Ended
    known : pytree
        What the observer knows at the end.

    Notes
    -----
    A lane's arithmetic does not depend on its neighbours.
    """
    size = queue.x0.shape[0]
    pool = empty_pool(queue, min(width, size) if isinstance(size, int) else width)
    place = Place.first(queue)
    _, results, _, known = advance(lane, pool, queue, options, True, place, observer)
    return jax.tree.map(lambda v: v[:size], results), known


def empty_pool(queue: Queue, width: int) -> Pool:
    """A pool whose lanes have no problem yet.

    Parameters
    ----------
    queue : Queue
        Only shapes and types are read.
    width : int

    Returns
    -------
    Pool
    """
    n, dtype = queue.x0.shape[1], queue.x0.dtype
    data = jax.tree.map(lambda v: jnp.zeros((width, *v.shape[1:]), v.dtype), queue.data)
    state = start(jnp.zeros((n, width), dtype), Normal.empty, queue.bounds is not None)
    nowhere = jnp.zeros((n, width), dtype)
    return Pool(
        state=replace(state, status=jnp.full(width, Status.INTERRUPTED, jnp.int32)),
        data=data,
        unit=jnp.ones(width, dtype),
        sizes=jnp.ones((n, width), dtype),
        problem=jnp.full(width, -1, jnp.int32),
        bounds=queue.bounds and Bounds(nowhere, nowhere),
    )


def advance(
    lane: Lane,
    pool: Pool,
    queue: Queue,
    options: Options,
    drain: jax.Array | bool,
    place: Place,
    observer: Observer = _NOBODY,
) -> tuple[Pool, Ended, Place, PyTree]:
    """Work until the queue is empty, and if asked to until the lanes are, or for some rounds.

    Parameters
    ----------
    lane, options, observer
        As for `run_pool`.
    pool : Pool
    queue : Queue
        B problems.
    drain : bool array
        Whether to go on until every lane has ended.
    place : Place
        Where in the queue to begin, and how many rounds to work.

    Returns
    -------
    pool : Pool
        ``pool.problem`` has the row of `results` that each lane's problem has, or -1.
    results : Ended
        B + W rows: the queue's problems, then what the lanes held before, in their order.
        Rows of problems that have not ended, or ended in an earlier call, have the status
        ``RUNNING``.
    place : Place
        Where the next call goes on, with the same queue.
    known : pytree
        What the observer knows.
    """
    # Shapes are lined up by their first axis here, which strict rank promotion forbids.
    with jax.numpy_rank_promotion("allow"):
        (size, n), width = queue.x0.shape, pool.problem.shape[0]
        options = replace(options, diag=options.diag[:, None])
        old = jnp.where(pool.problem >= 0, size + jnp.arange(width, dtype=jnp.int32), -1)
        one = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), queue.data)
        equations = Equations.of(lane, n, queue.x0.dtype, one)
        units = _units(lane, queue, equations, place)
        rows = size + width
        results = (
            jnp.zeros((rows, n + 3), queue.x0.dtype),
            jnp.full((rows, 4), Status.RUNNING, jnp.int32),
        )

        def unfinished(carry):
            pool, _, issued, rounds, _ = carry
            more = (issued < queue.count) | (drain & jnp.any(pool.problem >= 0))
            return more & (rounds > 0)

        def body(carry):
            pool, results, issued, rounds, known = carry
            state = _round(equations, pool, options, unfinished(carry))
            known = observer.see(known, pool.state, state)
            pool = replace(pool, state=state)
            results = _write(pool, results)
            pool, issued = _refill(pool, queue, units, issued)
            return pool, results, issued, rounds - 1, known

        begun = replace(pool, problem=old), results, place.issued, place.rounds, observer.begun
        carry = lax.while_loop(unfinished, body, begun)
        pool, (reals, counts), issued, rounds, known = carry
    optimality, fnorm, certainty = (reals[:, n + j] for j in range(3))
    cost = 0.5 * jnp.square(fnorm)
    scalars = cost, optimality, fnorm, certainty
    ended = Ended(reals[:, :n], *scalars, *(counts[:, j] for j in range(4)))
    return pool, ended, Place(issued, rounds, place.units and units), known


def _units(lane, queue, equations, place):
    """Powers of two near the largest residual at each start, and near each parameter; or ones.

    A model's derivative by a parameter is of the size of the model over the parameter's, so
    that with both units neither data nor parameters need be near one.
    """
    x0 = queue.x0
    if squares_are_safe(x0.dtype):
        return jnp.ones(x0.shape[0], x0.dtype), jnp.ones_like(x0)

    def largest(x, i):
        rows, _ = lane.equations(tuple(x), _take(queue.data, i // queue.starts))
        largest = jnp.max(jnp.abs(rows[-1]), initial=0.0)
        return largest if len(rows) == 1 else jnp.sqrt(largest)

    def made():
        rows = jnp.arange(x0.shape[0], dtype=jnp.int32)
        sizes = sizes_of(x0)
        unit = power_of_two(jax.vmap(largest)(x0, rows))
        return unit, equations.fitting_sizes(sizes, unit)

    return lax.cond(place.issued == 0, made, lambda: place.units)


def sizes_of(x0: jax.Array) -> jax.Array:
    """Powers of two near parameters, and one for zero."""
    magnitudes = jnp.clip(jnp.abs(x0), 1.0 / FARTHEST_SIZE, FARTHEST_SIZE)
    return jnp.where(x0 == 0, 1.0, power_of_two(magnitudes))


def _take(tree, index):
    return jax.tree.map(lambda v: v.at[index].get(mode="promise_in_bounds"), tree)


def _begin(x0, status, old):
    """States at their starting points; a factor is not read before the first Jacobian."""
    fresh = start(x0.T, lambda _: old.point.factor, old.point.before is not None)
    return replace(fresh, status=status)


def _stage(go, function, otherwise, *arguments):
    """``function(*arguments)``, stored.

    A branch that is always taken: what a branch returns is stored, where XLA:CPU would
    otherwise compute it again in every kernel that reads it.
    """
    if otherwise is None:
        shapes = jax.eval_shape(function, *arguments)
        otherwise = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return lax.cond(go, lambda _, *a: function(*a), lambda old, *_: old, otherwise, *arguments)


def _round(equations, pool, options, go):
    """Take in residual and Jacobian at the trial points, and propose the next ones."""
    stage = partial(_stage, go)
    normal, trial_norm, evaluations = equations(pool, stage)
    final = equations.plain is not None or bool(equations.evaluations)

    def take_in(judged):
        arguments = normal, options, pool.bounds, evaluations
        return stage(partial(taken_in, final), judged, judged, *arguments)

    state = turn(pool.state, trial_norm, take_in, options, pool.bounds, stage)
    return settled(pool.state, state)


def _write(pool, results):
    """Write out the lanes that have ended: a row each of real numbers, and of counts."""
    reals, counts = results
    state = pool.state
    lanes = jnp.arange(pool.problem.shape[0], dtype=jnp.int32)
    ended = (state.status != Status.RUNNING) & (pool.problem >= 0)
    target = jnp.where(ended, pool.problem, reals.shape[0] + lanes)  # else out of bounds
    new_reals, new_counts = reported(state, pool.bounds)

    def put(out, new):
        return out.at[target].set(new, mode="drop", unique_indices=True)

    return put(reals, new_reals.T), put(counts, new_counts.T)


def _refill(pool, queue, units, issued):
    """Give the free lanes to the next problems."""
    free = pool.state.status != Status.RUNNING
    place = jnp.cumsum(free, dtype=jnp.int32)
    following = issued + place - 1
    fill = free & (following < queue.count)
    index = jnp.where(fill, following, 0)

    def rows(new, old):
        return jnp.where(fill.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

    status = _take(queue.status, index)
    fresh = _begin(_take(queue.x0, index), status, pool.state)
    pool = replace(
        pool,
        state=selected(fill, fresh, pool.state),
        data=jax.tree.map(rows, _take(queue.data, index // queue.starts), pool.data),
        unit=rows(_take(units[0], index), pool.unit),
        sizes=jnp.where(fill, _take(units[1], index).T, pool.sizes),
        problem=jnp.where(fill, following, jnp.where(free, -1, pool.problem)),
        bounds=jax.tree.map(
            lambda new, old: jnp.where(fill, _take(new, index // queue.starts).T, old),
            queue.bounds,
            pool.bounds,
        ),
    )
    return pool, jnp.minimum(issued + place[-1], queue.count)
