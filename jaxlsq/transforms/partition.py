"""Lanes that are sharded over devices: each device works its own, and none waits for another."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

__all__ = ["by_shards"]


def by_shards(
    program: Callable[..., tuple[jax.Array, ...]],
    of_lane: Sequence[bool],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> Callable[..., tuple[jax.Array, ...]]:
    """A program of lanes as one that keeps their sharding.

    XLA's partitioner does not know that lanes have nothing to do with each other: it would gather
    the data of all, or ask all devices in every round whether they are done.

    Parameters
    ----------
    program : callable
        ``program(*arrays) -> tuple of arrays``, each with the lanes in front.
    of_lane : sequence of bool
        Which of the inputs have the lanes in front; the others are the same for all.
    inputs, outputs : sequences of shapes and types

    Returns
    -------
    callable
    """
    sharded = custom_partitioning(program)

    def placed(mesh, axis, value, is_of_lane):
        spec = [axis] + [None] * (len(value.shape) - 1) if is_of_lane else []
        return NamedSharding(mesh, PartitionSpec(*spec))

    def axis_of(arguments):
        """The mesh axes over which the lanes are."""
        for value, is_of_lane in zip(arguments, of_lane, strict=True):
            spec: Any = getattr(value.sharding, "spec", ())
            if is_of_lane and len(spec) and spec[0] is not None:
                return spec[0]
        return None

    def inferred(mesh, arguments, results):
        axis = axis_of(arguments)
        return tuple(placed(mesh, axis, value, True) for value in results)

    def partition(mesh, arguments, results):
        axis = axis_of(arguments)
        given = [placed(mesh, axis, v, own) for v, own in zip(arguments, of_lane, strict=True)]
        made = tuple(placed(mesh, axis, value, True) for value in results)
        return mesh, program, made, tuple(given)

    rule, others = _rule(of_lane, inputs, outputs)
    sharded.def_partition(
        partition=partition,
        infer_sharding_from_operands=inferred,
        sharding_rule=rule,
        need_replication_factors=others,
    )
    return sharded


def _rule(of_lane, inputs, outputs):
    """Which axes are the lanes, as Shardy's rules are written, and the names of all others."""
    others = []

    def axes(value, is_of_lane):
        names = ["lanes"] if is_of_lane else []
        for _ in range(len(value.shape) - len(names)):
            others.append(f"i{len(others)}")
            names.append(others[-1])
        return " ".join(names)

    left = ", ".join(axes(v, own) for v, own in zip(inputs, of_lane, strict=True))
    right = ", ".join(axes(value, True) for value in outputs)
    return f"{left} -> {right}", tuple(others)
