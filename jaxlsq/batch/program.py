"""The compiled program of a batch: one function, any data of the same shapes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.batch.interruption import answered
from jaxlsq.batch.lanes import Lanes, compile_lanes
from jaxlsq.batch.stream import Halt, Pace
from jaxlsq.lowering.eliminating import Elimination
from jaxlsq.lowering.engine import XLA
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.numerics.state import Options
from jaxlsq.problem.separable import Reduced
from jaxlsq.problem.task import Seen, Task
from jaxlsq.problem.types import PyTree
from jaxlsq.schedule.devices import choose_width
from jaxlsq.schedule.equations import Lane
from jaxlsq.schedule.pool import Pool, advance, empty_pool
from jaxlsq.schedule.queue import Ended, Place, Queue
from jaxlsq.status import Status
from jaxlsq.tracing.cache import PROGRAMS, program_key
from jaxlsq.tracing.compiler import COMPILER_OPTIONS, POOL_OPTIONS
from jaxlsq.tracing.concrete import check_concrete
from jaxlsq.tracing.fast import with_fast_functions
from jaxlsq.tracing.fingerprint import TRACES, trace_key
from jaxlsq.tracing.settings import own_settings
from jaxlsq.tracing.trace import Traced, evaluate, remembered, trace, with_fixed_literals
from jaxlsq.tracing.untraceable import JAX_ERRORS, untraceable

__all__ = ["Program", "compile_map", "compile_task"]


class _Compiled(NamedTuple):
    """What was compiled for one device, and the pace of its calls."""

    run: Callable[..., Any]
    begin: Callable[..., Any]
    pace: Pace


@dataclass(frozen=True)
class Program:
    """A compiled block of fits, and the data that its functions close over.

    Attributes
    ----------
    compiled : tuple of _Compiled
        On each device; a worker's own is the first.
    queue : Queue
        Shapes and types of a block's.
    closure : tuple
        What the user's functions close over, hoisted.
    engine : str
        How it is computed, and why not otherwise.
    """

    compiled: tuple[_Compiled, ...]
    closure: tuple[Any, ...]
    options: Options
    shared: PyTree
    queue: Queue
    engine: str = XLA

    @property
    def pace(self) -> Pace:
        """Of this program, in all of its runs."""
        return self.compiled[0].pace

    def of_worker(self, number: int) -> "Program":
        """The program on the device of one of the workers."""
        return replace(self, compiled=(self.compiled[number % len(self.compiled)],))

    def most_work(self, _: int) -> float:
        """Not known."""
        return np.inf

    def place(self) -> Place:
        """The beginning of a block."""
        return Place.first(self.queue)

    def empty(self) -> Pool:
        """A pool without problems."""
        return self.compiled[0].begin()

    def __call__(
        self, pool: Pool, arguments: tuple[Any, ...], count: int, drain: bool, place: Place,
        halt: Halt,
    ) -> tuple[Pool, Ended, Seen, Place]:  # fmt: skip
        """Advance a pool; ``arguments`` are x0 (D * starts, n), the lanes' data, and bounds.

        A call takes so few rounds that it need not look at `halt`.
        """
        control = np.int32(count), np.bool_(drain), place
        run = self.compiled[0].run
        return run(pool, *arguments, self.shared, self.options, *control, *self.closure)


class _Sizes(NamedTuple):
    """What a block's program is made for, beside its functions."""

    starts: int
    width: int
    evaluations: int
    repairs: bool
    eliminated: int


def compile_task(
    task: Task,
    examples: tuple[Any, Any, Any],
    shared: PyTree,
    options: Options,
    starts: int,
    devices: tuple[Any, ...] = (),
) -> Program | Lanes:
    """The program of a task, from the cache where one of the same structure has been compiled.

    Parameters
    ----------
    task : Task
    examples : (x0, lanes, bounds)
        Shapes and types of a block: (D * starts, n), the data with D in front, and None or two
        of (D, n).
    shared : pytree of arrays
        Data of all problems.
    options : Options
    starts : int
        Problems of each data set.
    devices : tuple of devices
        That XLA's program is compiled for; () for JAX's own choice.

    Returns
    -------
    Program or Lanes
    """
    x0, lanes, _ = examples
    one = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), lanes)
    lane_tree = jax.tree.structure(one)
    if isinstance(task, Reduced):
        traced, (seen, elimination) = None, separated(task, one, shared)
    else:
        traced = seen = traced_task(task, one, shared, x0.dtype)
        elimination = None
    try:
        return compile_lanes(task, seen, examples, shared, (options, starts), elimination)
    except NotLowered as reason:
        engine = f"{XLA}: {reason}"
    traced = traced or traced_task(task, one, shared, x0.dtype)
    m = traced.outputs[0].shape[0]
    width = choose_width(task.layout.n, m, one, x0.dtype)
    width = min(width, x0.shape[0])
    sizes = _Sizes(starts, width, task.evaluations, task.repairs, task.eliminated)
    data = jax.tree.map(np.asarray, traced.data) if devices else traced.data
    closure, queue = (data,), _block_queue(examples, starts)
    control = np.int32(0), np.bool_(False), Place.first(queue)
    arguments = (*examples, shared, options, *control, *closure)
    statics = (task.check, lane_tree, sizes)

    def compile_():
        program = partial(_advance, traced, task.check, sizes, m)
        make = partial(_begin, sizes, examples)
        begin, pool = jax.jit(make, **POOL_OPTIONS).lower(), jax.eval_shape(make)
        run = jax.jit(program, **POOL_OPTIONS).lower(pool, *arguments)
        return _Compiled(answered(run.compile), answered(begin.compile), Pace())

    compiled = []
    for device in devices or (jax.config.jax_default_device,):  # pyright: ignore[reportAttributeAccessIssue]
        with own_settings(), jax.default_device(device):
            how = statics, arguments, POOL_OPTIONS["compiler_options"]
            compiled.append(PROGRAMS.get(program_key((traced,), "pool", *how), compile_))
    return Program(tuple(compiled), closure, options, shared, queue, engine)


def traced_task(task: Task, one: Any, shared: PyTree, dtype: Any) -> Traced:
    """The program of `Task.summands`.

    Parameters
    ----------
    task : Task
    one, shared : pytrees of arrays or of their shapes and types
        Of one data set, and of all.
    dtype : dtype
        Of the parameters.
    """
    n, tree = task.layout.n, jax.tree.structure((one, shared))
    scalars = [jax.ShapeDtypeStruct((), dtype)] * n

    def both(*flat):
        return task.summands(*jax.tree.unflatten(tree, flat[n:]))(tuple(flat[:n]))

    shapes = [jax.ShapeDtypeStruct(np.shape(v), v.dtype) for v in jax.tree.leaves((one, shared))]
    return _traced(("task", task), (scalars, one, shared), both, *scalars, *shapes)


def separated(task: Reduced, one: Any, shared: PyTree) -> tuple[Traced, Elimination]:
    """The program of all parameters of a task some of which are linear, and which those are.

    Parameters
    ----------
    task : Reduced
    one, shared : dicts of arrays or of their shapes and types
        Of one data set, and of all.
    """
    shapes = jax.tree.map(lambda v: jax.ShapeDtypeStruct(np.shape(v), v.dtype), shared)
    place = trace_key(("mixed", task), (one, shapes))
    mixed = TRACES.get(place, lambda: task.mixed(one, shapes))
    n, tree = task.full.layout.n, jax.tree.structure((one, shapes))
    scalars = [jax.ShapeDtypeStruct((), one["y"].dtype)] * n

    def function(*flat):
        lane, shared = jax.tree.unflatten(tree, flat[n:])
        return task.with_mixed(lane, shared, mixed)(*flat[:n])

    leaves = jax.tree.leaves((one, shapes))
    what = ("separated", task)
    traced = _traced(what, (scalars, one, shared), function, *scalars, *leaves)
    return traced, Elimination(n, task.linear, mixed)


def _traced(what, how, function, *examples):
    """`trace` for functions that can't be called in Python instead, remembered by `what` they are.

    `how` are arrays, shapes and types, and with `what` decides what the function does.
    """

    def make():
        try:
            traced = trace(function, *examples)
        except JAX_ERRORS as error:
            raise untraceable(error, "A function of a batch") from error
        check_concrete("fit or least_squares_batch", traced.arrays)
        return traced

    return with_fixed_literals(remembered(trace_key(what, how), make))


def _begin(sizes, examples):
    return empty_pool(_block_queue(examples, sizes.starts), sizes.width)


def _block_queue(examples, starts):
    """The shapes and types of a block's queue."""
    x0, lanes, bounds = examples
    return Queue(x0, lanes, None, None, bounds, starts)


def _advance(traced, check, sizes, m, pool, x0, lanes, bounds, *others):
    """A block's rounds; which problems are not begun, and why, is as `Lanes._status` has it."""
    shared, options, count, drain, place, arrays = others
    starts = sizes.starts
    seen, finite = check(lanes, shared, m, jnp)
    live = seen.live
    finite = jnp.repeat(finite, starts) & jnp.all(jnp.isfinite(x0), axis=1)
    n = x0.shape[1]
    varying = n if bounds is None else jnp.sum(bounds[0] < bounds[1], axis=1, dtype=jnp.int32)
    enough = jnp.repeat(live >= varying + sizes.eliminated, starts)
    status = jnp.where(
        finite, jnp.where(enough, Status.RUNNING, Status.TOO_FEW_POINTS), Status.NONFINITE_DATA
    ).astype(jnp.int32)
    nothing = jnp.repeat(live == 0, starts)
    status = jnp.where(nothing, Status.MASKED_OUT, status).astype(jnp.int32)
    x0 = jnp.where(nothing[:, None], jnp.nan, x0)
    queue = Queue(x0, lanes, status, count, bounds, starts)
    shared = jax.tree.leaves(shared)

    def evaluated(xs, data):
        return evaluate(traced, [*xs, *jax.tree.leaves(data), *shared], *arrays)

    lane = Lane.of_outputs(evaluated, sizes.evaluations, sizes.repairs)
    pool, ended, place, _ = advance(lane, pool, queue, options, drain, place)
    return pool, ended, seen, place


def compile_map(
    function: Callable[..., Any], examples: tuple[Any, Any], shared: PyTree, several: int = 0
) -> Callable[..., Any]:
    """A compiled ``vmap`` of a function of ``(x, lane, shared)``, from the cache if it is there.

    Parameters
    ----------
    function : callable
        ``function(x, lane, shared) -> array``, x (n,).
    examples : (x, lanes)
        Shapes and types of a block.
    shared : pytree of arrays
    several : int, optional
        That many are worked side by side, and then the next: the sums of each are the same in a
        block of any size. It divides the size of a block. Zero for the whole block at once.

    Returns
    -------
    callable
        ``mapped(x, lanes)``.
    """
    leaves, tree = jax.tree.flatten((*examples, shared))
    x, lanes = examples
    mapped_leaves = len(jax.tree.leaves((x, lanes)))

    def flat(*values):
        return (function(*jax.tree.unflatten(tree, values)),)

    one = [jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for v in leaves[:mapped_leaves]]
    whole = [jax.ShapeDtypeStruct(np.shape(v), v.dtype) for v in leaves[mapped_leaves:]]
    how = jax.tree.unflatten(tree, (*one, *whole))  # with the names that the function reads
    traced = _traced(("map", function), how, flat, *one, *whole)
    arguments = leaves[:mapped_leaves], leaves[mapped_leaves:], traced.data
    key = program_key((traced,), "map", (several,), arguments)

    def program(mapped, shared, arrays):
        lanes = jax.vmap(lambda *v: evaluate(traced, [*v, *shared], *arrays))
        if not several:
            return with_fast_functions(lanes)(*mapped)
        rows = [v.reshape(-1, several, *v.shape[1:]) for v in mapped]
        found = jax.lax.map(lambda row: with_fast_functions(lanes)(*row), rows)
        return [v.reshape(-1, *v.shape[2:]) for v in found]

    def compile_():
        jitted = jax.jit(program, compiler_options=COMPILER_OPTIONS)
        return answered(jitted.lower(*arguments).compile)

    with own_settings():
        compiled = PROGRAMS.get(key, compile_)

    @own_settings()
    def call(x, lanes):
        mapped = jax.tree.leaves((x, lanes))
        return compiled(mapped, leaves[mapped_leaves:], traced.data)[0]

    return call
