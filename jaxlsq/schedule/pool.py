"""The lane pool: many fits on few lanes, where a lane that has ended takes the next problem.

A batch in lockstep runs until its slowest fit ends.  Here the cost follows the sum of
iterations: after each round the results of lanes that have ended are written out, and their
places are handed to problems that wait.  All of it is one ``while_loop``, so that it works
under `jit` and on any device.

Arrays of the size of the data have lanes first, as `vmap` leaves them; the algebra of the
size of the parameters has lanes last (`jaxlsq.numerics.normal`).
"""

from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.numerics.bounds import blocked
from jaxlsq.numerics.iteration import State, final_status, judge, propose, relinearize, start
from jaxlsq.numerics.norm import power_of_two
from jaxlsq.numerics.normal import Normal
from jaxlsq.schedule.equations import Equations, squares_are_safe
from jaxlsq.status import Status

__all__ = ["Ended", "Place", "Pool", "Queue", "advance", "empty_pool", "run_pool"]


ALL_ROUNDS = jnp.iinfo(jnp.int32).max
# A start of 1e-30 is a zero rather than the size of its parameter.
FARTHEST_SIZE = 1e15


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ended:
    """How each problem ended; every array has the problems first.

    Attributes
    ----------
    x : (B, n) array
        The last good parameters.
    cost : (B,) array
        Half the sum of squares there; NaN where the residual was never finite.
    optimality : (B,) array
        The largest element of the gradient J'f there, but for those that a bound holds.
    fnorm : (B,) array
        The square root of twice the cost, which does not leave the range of the type.
    certainty : (B,) array
        The reciprocal of `jaxlsq.numerics.sweep.inflation` at the last Jacobian; zero where that
        is singular, or where the trust region kept the last step short.
    status, nfev, njev, nit : (B,) int32 arrays
    """

    x: jax.Array
    cost: jax.Array
    optimality: jax.Array
    fnorm: jax.Array
    certainty: jax.Array
    status: jax.Array
    nfev: jax.Array
    njev: jax.Array
    nit: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pool:
    """The lanes between two rounds."""

    state: State
    data: object  # (W, ...) each
    unit: jax.Array  # (W,) powers of two, near the size of the residual
    sizes: jax.Array  # (n, W) powers of two, near the sizes of the parameters
    problem: jax.Array  # (W,) number of the problem, -1 for none
    bounds: tuple | None = None  # (n, W) each


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Queue:
    """Problems that wait.

    Attributes
    ----------
    x0 : (B, n) array
        Starting parameters.
    data : pytree of (B / starts, ...) arrays
        Problem i gets ``data[i // starts]``.
    bounds : (lower, upper) or None
        (B / starts, n) each.
    status : (B,) int32 array
        Problems whose code is not ``RUNNING`` are not begun, and keep it.
    count : scalar int32 array
        Only the first `count` problems are real.
    starts : int
        Problems in a row that share their data.
    """

    x0: jax.Array
    data: object
    status: jax.Array
    count: jax.Array
    bounds: tuple | None = None
    starts: int = field(default=1, metadata={"static": True})

    @classmethod
    def of(cls, x0, data, bounds=None):
        """Problems that all wait."""
        size = x0.shape[0]
        running = jnp.full(size, Status.RUNNING, jnp.int32)
        return cls(x0, data, running, jnp.int32(size), bounds)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Place:
    """How far a queue has been worked.

    Attributes
    ----------
    issued : scalar int32 array
        Problems that lanes have taken.
    rounds : scalar int32 array
        Rounds that are left.
    units : tuple of arrays or None
        Units of the queue's residuals (B,) and parameters (B, n), made where nothing is issued.
    """

    issued: jax.Array
    rounds: jax.Array
    units: tuple | None = None

    @classmethod
    def first(cls, queue, rounds=ALL_ROUNDS):
        """The begin of a queue, of which only shapes and types are read."""
        (size, n), dtype = queue.x0.shape, queue.x0.dtype
        units = (
            None if squares_are_safe(dtype) else (np.ones(size, dtype), np.ones((size, n), dtype))
        )
        return cls(np.int32(0), np.int32(rounds), units)


def run_pool(lane, queue, options, width, evaluations=0, plain=None):
    """Fit every problem, `width` at a time.

    Parameters
    ----------
    lane : callable
        ``lane(xs, data_of_one) -> rows, columns``, with xs a tuple of n scalars, rows the
        residual (m,), and with a loss its values (m,), and columns a sequence of the n columns
        (m,) of the Jacobian; traceable.  See `jaxlsq.numerics.loss.weighted`.
    queue : Queue
    options : Options
        For all problems.
    width : int
        Lanes.
    evaluations : int
        Evaluations of the residual that one Jacobian takes.
    plain : callable, optional
        ``plain(xs, data_of_one) -> f, weight``: the residual (m,), of which `lane`'s columns are
        derivatives but for the weight.  With it, derivatives that are not finite where f is are
        taken by differences.

    Returns
    -------
    Ended

    Notes
    -----
    A lane's arithmetic does not depend on its neighbours.
    """
    size = queue.x0.shape[0]
    pool = empty_pool(lane, queue, min(width, size))
    place = Place.first(queue)
    _, results, _ = advance(lane, pool, queue, options, True, place, evaluations, plain)
    return jax.tree.map(lambda v: v[:size], results)


def empty_pool(lane, queue, width):
    """A pool whose lanes have no problem yet.

    Parameters
    ----------
    lane : callable
        As for `run_pool`.
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
        bounds=queue.bounds and (nowhere, nowhere),
    )


def advance(lane, pool, queue, options, drain, place, evaluations=0, plain=None):
    """Work until the queue is empty, and if asked to until the lanes are, or for some rounds.

    Parameters
    ----------
    lane, options, plain
        As for `run_pool`.
    pool : Pool
    queue : Queue
        B problems.
    drain : bool array
        Whether to go on until every lane has ended.
    place : Place
        Where in the queue to begin, and how many rounds to work.
    evaluations : int
        Evaluations of the residual that one Jacobian takes.

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
    """
    # Shapes are lined up by their first axis here, which strict rank promotion forbids.
    with jax.numpy_rank_promotion("allow"):
        (size, n), width = queue.x0.shape, pool.problem.shape[0]
        options = replace(options, diag=options.diag[:, None])
        old = jnp.where(pool.problem >= 0, size + jnp.arange(width, dtype=jnp.int32), -1)
        one = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), queue.data)
        equations = Equations.of(lane, n, queue.x0.dtype, one, plain)
        units = _units(lane, queue, equations, place)
        rows = size + width
        results = (
            jnp.zeros((rows, n + 3), queue.x0.dtype),
            jnp.full((rows, 4), Status.RUNNING, jnp.int32),
        )

        def unfinished(carry):
            pool, _, issued, rounds = carry
            more = (issued < queue.count) | (drain & jnp.any(pool.problem >= 0))
            return more & (rounds > 0)

        def body(carry):
            pool, results, issued, rounds = carry
            state = _round(equations, pool, options, evaluations, unfinished(carry))
            pool = replace(pool, state=state)
            results = _write(pool, results)
            pool, issued = _refill(pool, queue, units, issued)
            return pool, results, issued, rounds - 1

        carry = replace(pool, problem=old), results, place.issued, place.rounds
        carry = lax.while_loop(unfinished, body, carry)
        pool, (reals, counts), issued, rounds = carry
    optimality, fnorm, certainty = (reals[:, n + j] for j in range(3))
    cost = 0.5 * jnp.square(fnorm)
    scalars = cost, optimality, fnorm, certainty
    ended = Ended(reals[:, :n], *scalars, *(counts[:, j] for j in range(4)))
    return pool, ended, Place(issued, rounds, place.units and units)


def _units(lane, queue, equations, place):
    """Powers of two near the largest residual at each start, and near each parameter; or ones.

    A model's derivative by a parameter is of the size of the model over the parameter's, so
    that with both units neither data nor parameters need be near one.
    """
    x0 = queue.x0
    if squares_are_safe(x0.dtype):
        return jnp.ones(x0.shape[0], x0.dtype), jnp.ones_like(x0)

    def largest(x, i):
        rows, _ = lane(tuple(x), _take(queue.data, i // queue.starts))
        largest = jnp.max(jnp.abs(rows[-1]), initial=0.0)
        return largest if len(rows) == 1 else jnp.sqrt(largest)

    def made():
        rows = jnp.arange(x0.shape[0], dtype=jnp.int32)
        magnitudes = jnp.clip(jnp.abs(x0), 1.0 / FARTHEST_SIZE, FARTHEST_SIZE)
        sizes = jnp.where(x0 == 0, 1.0, power_of_two(magnitudes))
        unit = power_of_two(jax.vmap(largest)(x0, rows))
        return unit, equations.fitting_sizes(sizes, unit)

    return lax.cond(place.issued == 0, made, lambda: place.units)


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


def _round(equations, pool, options, evaluations, go):
    """Take in residual and Jacobian at the trial points, and propose the next ones."""
    stage = partial(_stage, go)
    normal, trial_norm, more = equations(pool, stage)
    state = pool.state
    running = state.status == Status.RUNNING
    state = stage(judge, state, state, trial_norm, options)
    count = evaluations + more
    state = stage(_take_in, state, state, normal, options, pool.bounds, count)
    state = propose(state, pool.bounds)
    # What ended, or never began, stays as it is in all that is reported of it.
    old = pool.state
    point = replace(state.point, fnorm=jnp.where(running, state.point.fnorm, old.point.fnorm))
    counts = ("status", "nfev", "njev", "nit")
    kept = {name: jnp.where(running, getattr(state, name), getattr(old, name)) for name in counts}
    return replace(state, point=point, **kept)


def _take_in(judged, normal, options, bounds, evaluations):
    """`relinearize` where the trial was accepted; a fit that ends with it counts no Jacobian."""
    taken = relinearize(judged, normal, options, evaluations, bounds)
    fresh = judged.accepted & (judged.status == Status.RUNNING)
    return replace(
        _select(judged.accepted, taken, judged),
        nfev=jnp.where(fresh, taken.nfev, judged.nfev),
        njev=jnp.where(fresh, taken.njev, judged.njev),
        status=jnp.where(fresh, taken.status, judged.status),
    )


def _select(mask, new, old):
    """Fields of `new` in the lanes of `mask`, lanes last."""
    return jax.tree.map(lambda a, b: jnp.where(mask, a, b), new, old)


def _write(pool, results):
    """Write out the lanes that have ended: a row each of real numbers, and of counts."""
    reals, counts = results
    state = pool.state
    factor = state.point.factor
    held = pool.bounds is not None and blocked(state.point.x, factor.direction, pool.bounds)
    lanes = jnp.arange(pool.problem.shape[0], dtype=jnp.int32)
    ended = (state.status != Status.RUNNING) & (pool.problem >= 0)
    target = jnp.where(ended, pool.problem, reals.shape[0] + lanes)  # else out of bounds
    fnorm = state.point.fnorm
    begun = jnp.isfinite(fnorm)
    new_reals = [
        state.point.x,
        jnp.where(begun, factor.largest_gradient(held), jnp.nan)[None],
        jnp.where(begun, fnorm, jnp.nan)[None],
        jnp.where(state.trial.damping > 0, 0.0, state.trial.rank)[None],
    ]
    new_counts = jnp.stack([final_status(state), state.nfev, state.njev, state.nit], axis=1)

    def put(out, new):
        return out.at[target].set(new, mode="drop", unique_indices=True)

    return put(reals, jnp.concatenate(new_reals).T), put(counts, new_counts)


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
        state=_select(fill, fresh, pool.state),
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
