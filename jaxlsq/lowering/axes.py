"""Which axes of an equation's operands are those of the points, given which of its result are.

A *place* says where the points of a data set are in an array: for each dimension that they have (a
spectrum has one, an image two) its size and the axis along which it lies, or None where the array
is the same all along it.  Without any axis, the array has no points at all: `NOWHERE`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from jaxlsq.lowering.elementwise import ELEMENTWISE
from jaxlsq.lowering.functions import FUNCTIONS
from jaxlsq.tracing.types import Equation

__all__ = ["NOWHERE", "Place", "axes_of", "narrowed", "operand_places", "reshaped"]

# ((axis or None, size), ...)
Place: TypeAlias = tuple[tuple[int | None, int], ...]
NOWHERE: Place = ()


def axes_of(place: Place) -> tuple[int, ...]:
    """The axes that are the points'."""
    return tuple(axis for axis, _ in place if axis is not None)


def narrowed(shape: Sequence[int], place: Place) -> tuple[int, ...]:
    """The shape of one point's part of an array: one along the points' axes."""
    return tuple(1 if axis in axes_of(place) else size for axis, size in enumerate(shape))


def _placed(entries):
    """A place; `NOWHERE` if there is no axis in it."""
    place = tuple(entries)
    return place if axes_of(place) else NOWHERE


def _moved(place, axis_of):
    """A place with other axes; ``axis_of(axis)`` may be None."""
    return _placed((None if axis is None else axis_of(axis), size) for axis, size in place)


def operand_places(eqn: Equation, place: Place) -> list[Place] | None:
    """Where the points are in each operand, if they are at `place` in the result.

    Returns
    -------
    list of Place or None
        None if one point's result is made of more than that point's operands.
    """
    if place == NOWHERE:
        return [NOWHERE] * len(eqn.invars)
    name = eqn.primitive.name
    if name in ELEMENTWISE or name in FUNCTIONS:
        shape = eqn.outvars[0].aval.shape
        return [_of_operand(v.aval.shape, shape, place) for v in eqn.invars]
    rule = _RULES.get(name)
    return rule(eqn, place) if rule else None


def _of_operand(given, shape, place):
    """Of an operand that is a scalar, or as long as the result or one along each axis."""
    if not given:
        return NOWHERE
    return _moved(place, lambda axis: axis if given[axis] == shape[axis] else None)


def _broadcast(eqn, place):
    dims, given = list(eqn.params["broadcast_dimensions"]), eqn.invars[0].aval.shape
    shape = eqn.outvars[0].aval.shape

    def axis_of(axis):
        if axis not in dims:
            return None
        here = dims.index(axis)
        return here if given[here] == shape[axis] else None

    # What remains are sizes of a shape that is asked for at run time.
    return [_moved(place, axis_of), *[NOWHERE] * (len(eqn.invars) - 1)]


def reshaped(shape: Sequence[int], given: Sequence[int], place: Place) -> Place | None:
    """Where the points were before a reshape from `given` to `shape`; None if not along axes."""
    entries: list[tuple[int | None, int]] = []
    k = 0
    while k < len(place):
        axis, size = place[k]
        if axis is None:
            entries.append((None, size))
            k += 1
            continue
        before = math.prod(shape[:axis])
        # Several axes of the result may be one of the operand: all of those that follow.
        found, count = _axes_between(given, before, size), 1
        while found is None and k + count < len(place) and place[k + count][0] == axis + count:
            size *= place[k + count][1]
            count += 1
            found = _axes_between(given, before, size)
        if found is None:
            return None
        entries.extend((one, given[one]) for one in found)
        k += count
    return _placed(entries)


def _axes_between(shape, before, size):
    """The axes of a shape that hold `size` elements after `before`; None if none do."""
    start, seen = 0, 1
    while start < len(shape) and (seen < before or (shape[start] == 1 and size > 1)):
        seen *= shape[start]
        start += 1
    if seen != before:
        return None
    axes, inside = [], 1
    while start < len(shape) and inside < size:
        if shape[start] > 1:
            axes.append(start)
        inside *= shape[start]
        start += 1
    if size == 1 and start < len(shape) and shape[start] == 1:
        axes = [start]
    return axes if inside == size and axes else None


def _reshape(eqn, place):
    if eqn.params.get("dimensions") is not None:
        return None
    before = reshaped(eqn.outvars[0].aval.shape, eqn.invars[0].aval.shape, place)
    return None if before is None else [before]


def _squeeze(eqn, place):
    gone = {d % eqn.invars[0].aval.ndim for d in eqn.params["dimensions"]}
    left = [axis for axis in range(eqn.invars[0].aval.ndim) if axis not in gone]
    return [_moved(place, lambda axis: left[axis])]


def _expand_dims(eqn, place):
    ndim = eqn.outvars[0].aval.ndim
    new = {d % ndim for d in eqn.params["dimensions"]}
    left = [axis for axis in range(ndim) if axis not in new]
    if any(axis in new for axis in axes_of(place)):
        return None
    return [_moved(place, left.index)]


def _transpose(eqn, place):
    return [_moved(place, lambda axis: eqn.params["permutation"][axis])]


def _slice(eqn, place):
    p, given = eqn.params, eqn.invars[0].aval.shape
    strides = p["strides"] or (1,) * len(given)
    for axis in axes_of(place):
        if (p["start_indices"][axis], p["limit_indices"][axis], strides[axis]) != (
            0,
            given[axis],
            1,
        ):
            return None
    return [place]


def _pad(eqn, place):
    if any(eqn.params["padding_config"][axis] != (0, 0, 0) for axis in axes_of(place)):
        return None
    return [place, NOWHERE]


def _barrier(eqn, place):
    return [place] if len(eqn.invars) == 1 else None


def _beside(word):
    """For what acts along one axis, or several, and leaves the others."""

    def rule(eqn, place):
        acted = eqn.params[word]
        acted = acted if isinstance(acted, (tuple, list)) else (acted,)
        if any(axis in acted for axis in axes_of(place)):
            return None
        return [place] * len(eqn.invars)

    return rule


def _stack(eqn, place):
    new = eqn.params.get("axis", 0) % eqn.outvars[0].aval.ndim
    if new in axes_of(place):
        return None
    return [_moved(place, lambda axis: axis - (axis > new))] * len(eqn.invars)


def _unstack(eqn, place):
    gone = eqn.params.get("axis", 0) % eqn.invars[0].aval.ndim
    return [_moved(place, lambda axis: axis + (axis >= gone))]


def _reduce(eqn, place):
    left = [axis for axis in range(eqn.invars[0].aval.ndim) if axis not in eqn.params["axes"]]
    return [_moved(place, lambda axis: left[axis])]


def _dot_general(eqn, place):
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    ranks = [v.aval.ndim for v in eqn.invars]
    frees = [
        [k for k in range(rank) if k not in (*summed, *batch)]
        for rank, summed, batch in zip(
            ranks, (left_sum, right_sum), (left_batch, right_batch), strict=True
        )
    ]
    batch = len(left_batch)

    def left(axis):
        if axis < batch:
            return left_batch[axis]
        return frees[0][axis - batch] if axis - batch < len(frees[0]) else None

    def right(axis):
        if axis < batch:
            return right_batch[axis]
        k = axis - batch - len(frees[0])
        return frees[1][k] if k >= 0 else None

    return [_moved(place, left), _moved(place, right)]


_RULES: dict[str, Callable[[Any, Place], list[Place] | None]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "expand_dims": _expand_dims,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "optimization_barrier": _barrier,
    "rev": _beside("dimensions"),
    "concatenate": _beside("dimension"),
    "split": _beside("axis"),
    "cumsum": _beside("axis"),
    "cumprod": _beside("axis"),
    "cummax": _beside("axis"),
    "cummin": _beside("axis"),
    "stack": _stack,
    "unstack": _unstack,
    "dot_general": _dot_general,
    **{f"reduce_{word}": _reduce for word in ("sum", "prod", "max", "min", "and", "or")},
    "argmax": _reduce,
    "argmin": _reduce,
}
