"""The pool as a function of one problem, whose `vmap` gives it more lanes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.lowering.engine import point_of, target_for
from jaxlsq.lowering.ffi import call_kernel, registered
from jaxlsq.lowering.kernel import Kernel
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.numerics.bounds import Bounds, status_of
from jaxlsq.problem.types import PyTree
from jaxlsq.schedule.devices import choose_width
from jaxlsq.schedule.equations import Lane
from jaxlsq.schedule.pool import run_pool
from jaxlsq.schedule.queue import Ended, Queue
from jaxlsq.status import Status
from jaxlsq.tracing.cache import PROGRAMS, program_key
from jaxlsq.tracing.compiler import POOL_OPTIONS, in_many_kernels
from jaxlsq.tracing.concrete import are_concrete
from jaxlsq.tracing.jaxprs import interpret, without_calls
from jaxlsq.tracing.making import make_jaxpr
from jaxlsq.tracing.settings import has_64_bits, own_settings
from jaxlsq.tracing.trace import Traced, evaluate
from jaxlsq.tracing.varying import alike, axes_of
from jaxlsq.transforms.partition import by_shards

__all__ = ["counts_of", "lane_of", "queue_of", "solver", "varied"]


def solver(traced: Traced, evaluations: int) -> Callable[..., Any]:
    """The solver of a traced problem.

    Parameters
    ----------
    traced : Traced
        ``(*rows, *columns)`` as a function of n scalars.
    evaluations : int
        Evaluations of the residual that one Jacobian takes.

    Returns
    -------
    callable
        ``solve(x0, data, options, bounds) -> x, counts``, with `data` in the place of the arrays
        that `traced` reads and, last, of its scalars; bounds are None or (lower, upper).
    """

    def solve(x0, data, options, bounds):
        nothing = (False,) * len(data)
        x0, bounds = jax.tree.map(lambda v: v[None], (x0, bounds))
        x, counts = _batched(traced, nothing, evaluations)(x0, tuple(data), bounds, options)
        return x[0], {name: value[0] for name, value in counts.items()}

    return solve


def _batched(traced, per_lane, evaluations):
    """``solve(x0 (B, n), data, bounds, options)``; data that are per lane have B in front.

    Its `vmap` flattens the new axis into B, again and again.
    """

    def run(x0, data, bounds, options):
        return _run(traced, per_lane, evaluations, (x0, data, bounds, options))

    solve = jax.custom_batching.custom_vmap(run)

    @solve.def_vmap
    def rule(size, batched, x0, data, bounds, options):
        x0_is, data_are, bounds_are, options_are = batched
        # They are plain numbers of the call: what is batched are copies of one, which is how
        # `vmap` makes a selection of a `cond` whose predicate it maps over.
        options = jax.tree.map(lambda v, many: v[0] if many else v, options, options_are)
        lanes = x0.shape[-2]

        def flat(value, is_new, is_old):
            value = value if is_new else jnp.broadcast_to(value, (size, *value.shape))
            if not is_old:
                value = jnp.broadcast_to(value[:, None], (size, lanes, *value.shape[1:]))
            return value.reshape(size * lanes, *value.shape[2:])

        now = tuple(new or old for new, old in zip(data_are, per_lane, strict=True))
        flattened = tuple(
            flat(value, new, old) if new or old else value
            for value, new, old in zip(data, data_are, per_lane, strict=True)
        )
        own = jax.tree.map(lambda v, new: flat(v, new, True), (x0, bounds), (x0_is, bounds_are))
        out = _batched(traced, now, evaluations)(own[0], flattened, own[1], options)
        out = jax.tree.map(lambda v: v.reshape(size, lanes, *v.shape[1:]), out)
        return out, jax.tree.map(lambda _: True, out)

    def run_or_trace(x0, data, bounds, options):
        # With plain values nothing is left to transform, and the program may be compiled once.
        concrete = are_concrete((x0, data, bounds))
        return (run if concrete else solve)(x0, data, bounds, options)

    return run_or_trace


def lane_of(traced: Traced, evaluations: int, all_data: Callable[..., Any], alone: bool) -> Lane:
    """A traced problem as a `Lane`.

    Parameters
    ----------
    traced, evaluations
        As for `solver`.
    all_data : callable
        ``all_data(mine)`` is all that `traced` reads, the scalars last, from one lane's own.
    alone : bool
        Whether there is one lane, whose many parameters would make one kernel very long to compile.
    """

    def evaluated(xs, mine):
        *arrays, scalars = all_data(mine)
        xs = tuple(in_many_kernels(jnp.stack(xs))) if alone else xs
        return evaluate(traced, xs, arrays, scalars)

    return Lane.of_outputs(evaluated, evaluations)


def queue_of(x0: jax.Array, data: PyTree, bounds: Bounds | None) -> Queue:
    """Problems (B, n), some of which bounds that a program computed may make impossible."""
    queue = Queue.of(x0, data, bounds)
    lanes_last = jax.tree.map(jnp.transpose, bounds)
    return replace(queue, status=status_of(lanes_last, queue.status))


def counts_of(ended: Ended) -> dict[str, jax.Array]:
    """How problems ended, by name."""
    return {"status": ended.status, "nfev": ended.nfev, "njev": ended.njev}


@own_settings()
def _run(traced, per_lane, evaluations, arguments):
    x0, _, bounds, _ = arguments
    if not x0.shape[0]:
        begun = queue_of(x0, (), bounds).status
        return x0, {"status": begun, "nfev": begun, "njev": begun}
    shapes = jax.tree.map(
        lambda v: jax.ShapeDtypeStruct(np.shape(v), jnp.result_type(v)), arguments
    )
    lanes = _lanes(traced, per_lane, evaluations, shapes)

    def pool(x0, data, bounds, options):
        own = tuple(v for v, own in zip(data, per_lane, strict=True) if own)

        def all_data(mine):
            mine = iter(mine)
            return [next(mine) if own else v for v, own in zip(data, per_lane, strict=True)]

        lane = lane_of(traced, evaluations, all_data, alone=x0.shape[0] == 1)
        one = [jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for v in own]
        width = choose_width(x0.shape[1], traced.outputs[0].shape[0], one, x0.dtype)
        ended, _ = run_pool(lane, queue_of(x0, own, bounds), options, width)
        return ended.x, counts_of(ended)

    def program(*arguments):
        if lanes is None:
            return varied(pool)(*arguments)
        cpu, others = varied(lanes), varied(pool)
        return jax.lax.platform_dependent(*arguments, cpu=cpu, default=others)

    if not are_concrete(arguments):
        return _in_shards(program, per_lane, arguments)
    # Under `grad` by a Python number that is a number without a shape.
    arguments = jax.tree.map(lambda v: v if hasattr(v, "shape") else np.asarray(v), arguments)
    statics, options = (per_lane, evaluations, lanes is None), POOL_OPTIONS["compiler_options"]
    key = program_key((traced,), "lanes", statics, arguments, options)

    def compile_():
        return jax.jit(program, **POOL_OPTIONS).lower(*arguments).compile()

    return PROGRAMS.get(key, compile_)(*arguments)


def varied(program: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """A program whose arguments may vary over the axes of a mesh, and then its results do."""

    def cast(*arguments):
        axes = axes_of(arguments)
        if not axes:
            return program(*arguments)
        shapes = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), arguments)
        jaxpr, consts, results = make_jaxpr(program, *shapes)
        leaves = alike([*consts, *jax.tree.leaves(arguments)], axes)
        consts, inputs = leaves[: len(consts)], leaves[len(consts) :]
        out = alike(interpret(jaxpr, consts, inputs, without_calls), axes)
        return jax.tree.unflatten(jax.tree.structure(results), out)

    return cast


def _in_shards(program, per_lane, arguments):
    """``program(*arguments)``, whose lanes may be sharded over devices."""
    x0, _, bounds, options = arguments
    if x0.shape[0] == 1 or jax.device_count() == 1 or axes_of(arguments):
        return program(*arguments)
    leaves, tree = jax.tree.flatten(arguments)
    of_lane = (
        True,
        per_lane,
        jax.tree.map(lambda _: True, bounds),
        jax.tree.map(lambda _: False, options),
    )

    def traced(leaves):
        shapes = [jax.ShapeDtypeStruct(np.shape(v), jnp.result_type(v)) for v in leaves]
        return make_jaxpr(lambda *leaves: program(*jax.tree.unflatten(tree, leaves)), *shapes)

    _, consts, results = traced(leaves)
    results, out_tree = jax.tree.flatten(results)

    def flat(*values):
        """The same of fewer lanes; what the program closes over comes first."""
        own, inputs = values[: len(consts)], values[len(consts) :]
        jaxpr, others, _ = traced(inputs)
        assert [np.shape(c) for c in others] == [np.shape(c) for c in consts]
        return tuple(interpret(jaxpr, own, inputs))

    given = [*map(jnp.asarray, consts), *leaves]
    flags = [*[False] * len(consts), *jax.tree.leaves(of_lane)]
    out = by_shards(flat, flags, given, results)(*given)
    return jax.tree.unflatten(out_tree, out)


def _beforehand(part, per_lane, data):
    """What a program of one point reads that is computed before, with lanes, or one, in front."""
    if part.beforehand is None:
        return []
    if not any(per_lane):
        return [v[None] for v in part.beforehand(*data)]
    return jax.vmap(part.beforehand, in_axes=tuple(0 if own else None for own in per_lane))(*data)


def _lanes(traced, per_lane, evaluations, shapes):
    """``program(x0, data, bounds, options)`` by compiled lanes; None where they can't be."""
    x0, data, bounds, _ = shapes
    n, dtype = x0.shape[1], np.dtype(x0.dtype)
    *arrays, scalars = (
        jax.ShapeDtypeStruct(v.shape[1:], v.dtype) if own else v
        for v, own in zip(data, per_lane, strict=True)
    )
    try:
        target = target_for(n, dtype)
        outputs = len(traced.outputs)
        point = point_of(traced, n, (arrays, scalars), per_lane, outputs)
        wide = has_64_bits()
        kernel = Kernel(point, n, dtype, bounds is not None, evaluations, not evaluations, wide)
        name = registered(kernel, target)
    except NotLowered:
        return None

    def program(x0, data, bounds, options):
        inputs = []
        for part in (point, point.stage):
            if part is None:
                continue
            before = _beforehand(part, per_lane, data)
            for one in part.inputs:
                if one.staged:
                    continue
                given = data[one.source] if one.source >= 0 else before[-1 - one.source]
                if one.source < 0 and not one.of_lane:
                    given = given[0]  # the same for all
                inputs.append(one.arranged(given, jnp))
        reals, counts = call_kernel(name, kernel, target, (x0, bounds, options), inputs)
        begun = queue_of(x0, data, bounds).status
        idle = begun != Status.RUNNING
        x = jnp.where(idle[:, None], x0, reals[:, :n])
        status = jnp.where(idle, begun, counts[:, 0])
        nfev, njev = (jnp.where(idle, 0, counts[:, k]) for k in (1, 2))
        return x, {"status": status, "nfev": nfev, "njev": njev}

    return program
