"""Primitives that read and write elements at indices: known ones, or of one axis computed ones."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
from numpy.typing import NDArray

from jaxlsq.lowering.elementwise import elementwise
from jaxlsq.lowering.not_lowered import NotLowered

__all__ = ["INDEXING"]

Array: TypeAlias = NDArray[Any]

# Places among which a computed index may choose.
MOST_CHOICES = 32
UNKNOWN_INDEX = "an index that depends on parameters or data"


def known_numbers(array: Array) -> NDArray[Any]:
    """The numbers that an array of constants holds.

    Raises
    ------
    NotLowered
        If it holds others.
    """
    out = np.empty(array.shape, np.int64)
    for index in np.ndindex(*array.shape):
        if array[index].known is None:
            raise NotLowered(UNKNOWN_INDEX)
        out[index] = int(array[index].known)
    return out


def _dynamic_slice(lowering, eqn, arguments):
    x, *begin = arguments
    sizes = eqn.params["slice_sizes"]
    for axis, (first, size) in enumerate(zip(begin, sizes, strict=True)):
        x = _part(lowering, x, _widened(lowering, first[()]), axis, size)
    return x


def _part(lowering, x, first, axis, size):
    """So many elements of an axis, from the first on."""
    last = x.shape[axis] - size
    parts = np.moveaxis(x, axis, 0)
    if first.known is not None:
        begin = min(max(int(first.known), 0), last)
        return np.moveaxis(parts[begin : begin + size], 0, axis)
    if lowering.emitter.width == 1:
        return np.moveaxis(_loaded(lowering.emitter, parts, first, size), 0, axis)
    choices = [parts[k : k + size] for k in range(last + 1)]
    return np.moveaxis(_chosen(lowering, first, choices), 0, axis)


def _widened(lowering, index):
    """An index in a type that holds the length of any array."""
    return lowering.op("convert_element_type", index, dtype=np.int64)


def _loaded(emitter, parts, first, size):
    """`size` of some arrays, from a computed one on, of one lane: through memory."""
    dtype = parts.flat[0].dtype
    vector, inner = emitter.vector(dtype), parts.size // len(parts)
    align = emitter.alignment(dtype)
    slot = emitter.slot(vector, parts.size)
    for k, value in enumerate(parts.ravel()):
        emitter.store(value, emitter.address(slot, vector, k), align)
    limits = (emitter.constant(k, first.dtype) for k in (len(parts) - size, 0))
    begin = elementwise(emitter, "min", {}, [first, next(limits)], first.dtype)
    begin = elementwise(emitter, "max", {}, [begin, next(limits)], first.dtype)
    place = emitter.product(emitter.first(begin), inner)
    out = np.empty((size, *parts.shape[1:]), object)
    for k, index in enumerate(np.ndindex(*out.shape)):
        address = emitter.address(slot, vector, emitter.sum(place, k))
        out[index] = emitter.load(address, dtype, align)
    return out


def _chosen(lowering, index, choices):
    """One of several arrays by a computed index; one outside takes the nearest."""
    if len(choices) > MOST_CHOICES:
        raise NotLowered(UNKNOWN_INDEX)
    out = choices[-1].copy()
    for k in reversed(range(len(choices) - 1)):
        here = lowering.compare("le", index, k)
        for place in np.ndindex(*out.shape):
            out[place] = lowering.where(here, choices[k][place], out[place])
    return out


def _dynamic_update_slice(lowering, eqn, arguments):
    x, new, *begin = arguments
    first = [int(known_numbers(b)) for b in begin]
    sizes = zip(first, new.shape, x.shape, strict=True)
    first = [min(max(f, 0), size - s) for f, s, size in sizes]
    out = x.copy()
    out[tuple(slice(f, f + s) for f, s in zip(first, new.shape, strict=True))] = new
    return out


def _moved(lowering, eqn, arguments):
    """A gather or scatter whose indices are known, by what it does to the numbers of places."""
    data = [arguments[0], *arguments[2:]]
    places, offset = [], 0
    for one in data:
        places.append(np.arange(offset, offset + one.size, dtype=np.int32).reshape(one.shape))
        offset += one.size
    if any(one.known is None for one in arguments[1].flat):
        return _gathered(lowering, eqn, arguments)
    indices = known_numbers(arguments[1]).astype(np.int32)
    is_gather = "fill_value" in eqn.params
    params = eqn.primitive.get_bind_params(eqn.params | ({"fill_value": -1} if is_gather else {}))
    with jax.ensure_compile_time_eval():
        moved = np.asarray(eqn.primitive.bind(places[0], indices, *places[1:], **params))
    flat = np.concatenate([one.ravel() for one in data])
    out = np.empty(moved.shape, object)
    for index in np.ndindex(*moved.shape):
        outside = is_gather and moved[index] < 0
        out[index] = _fill(lowering, eqn) if outside else flat[moved[index]]
    return out


def _fill(lowering, eqn):
    """What a gather finds at an index outside."""
    fill, dtype = eqn.params["fill_value"], eqn.outvars[0].aval.dtype
    if fill is None:
        ends = np.iinfo(dtype) if dtype.kind in "iu" else None
        fill = np.nan if dtype.kind == "f" else True
        fill = fill if ends is None else ends.min if dtype.kind == "i" else ends.max
    return lowering.emitter.constant(fill, dtype)


def _gathered(lowering, eqn, arguments):
    """A gather by computed indices of one axis: a choice for each of them."""
    x, indices, *others = arguments
    p = eqn.params
    numbers = p.get("dimension_numbers")
    if others or numbers.operand_batching_dims or indices.shape[-1:] != (1,):
        raise NotLowered(UNKNOWN_INDEX)
    (axis,) = numbers.start_index_map
    sizes = p["slice_sizes"]
    kept = [k for k in range(x.ndim) if k not in numbers.collapsed_slice_dims]
    if any(sizes[k] != x.shape[k] for k in range(x.ndim) if k != axis):
        raise NotLowered(UNKNOWN_INDEX)
    places = indices.shape[:-1]
    rows = np.empty((*places, *(sizes[k] for k in kept)), object)
    for place in np.ndindex(*places):
        first = _widened(lowering, indices[(*place, 0)])
        part = _part(lowering, x, first, axis, sizes[axis])
        if p["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP:
            last = x.shape[axis] - sizes[axis]
            part = _filled(lowering, part, first, last, _fill(lowering, eqn))
        part = part.reshape([part.shape[k] for k in kept])
        for index in np.ndindex(*part.shape):
            rows[(*place, *index)] = part[index]
    return np.moveaxis(rows, range(len(places), rows.ndim), numbers.offset_dims)


def _filled(lowering, part, first, last, fill):
    """What an index from 0 to `last` has found, and a number to fill in for others."""
    inside = lowering.all_of(lowering.compare("ge", first, 0), lowering.compare("le", first, last))
    out = part.copy()
    for index in np.ndindex(*out.shape):
        out[index] = lowering.where(inside, part[index], fill)
    return out


INDEXING: dict[str, Callable[..., Any]] = {
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _moved,
    "scatter": _moved,
}
