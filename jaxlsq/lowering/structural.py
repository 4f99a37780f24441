"""Primitives that move elements, and those that reduce them, on arrays of values."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxlsq.lowering.elementwise import NotLowered, elementwise
from jaxlsq.lowering.emitter import Value
from jaxlsq.tracing.types import Equation

__all__ = ["REDUCTIONS", "STRUCTURAL", "boxed", "known_numbers", "reduced"]

Array = np.ndarray

# Places among which a computed index may choose.
MOST_CHOICES = 32
UNKNOWN_INDEX = "an index that depends on parameters or data"


def boxed(value: Value) -> Array:
    """A value as an array without axes."""
    out = np.empty((), object)
    out[()] = value
    return out


def known_numbers(array: Array) -> np.ndarray:
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


def _shape(eqn):
    return eqn.outvars[0].aval.shape


def _broadcast(lowering, eqn, arguments):
    x, shape, axes = arguments[0], _shape(eqn), eqn.params["broadcast_dimensions"]
    between = [1] * len(shape)
    for size, axis in zip(x.shape, axes, strict=True):
        between[int(axis)] = size
    return np.broadcast_to(x.reshape(between), shape)


def _reshape(lowering, eqn, arguments):
    return arguments[0].reshape(_shape(eqn))


def _slice(lowering, eqn, arguments):
    p = eqn.params
    strides = p["strides"] or (1,) * arguments[0].ndim
    ends = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
    return arguments[0][tuple(slice(*end) for end in ends)]


def _iota(lowering, eqn, arguments):
    p, shape = eqn.params, _shape(eqn)
    axis = p["dimension"]
    numbers = np.arange(shape[axis]).reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return lowering.lift(np.broadcast_to(numbers, shape).astype(p["dtype"]))


def _unstack(lowering, eqn, arguments):
    axis = eqn.params.get("axis", 0)
    rows = np.moveaxis(arguments[0], axis, 0)
    return [_as_array(row) for row in rows]


def _as_array(row):
    return row if isinstance(row, np.ndarray) else boxed(row)


def _split(lowering, eqn, arguments):
    ends = np.cumsum(eqn.params["sizes"])[:-1]
    return list(np.split(arguments[0], ends, axis=eqn.params["axis"]))


def _pad(lowering, eqn, arguments):
    x, filler = arguments
    out = np.empty(_shape(eqn), object)
    for index in np.ndindex(*out.shape):
        out[index] = filler[()]
    config = eqn.params["padding_config"]
    if any(low < 0 or high < 0 for low, high, _ in config):
        raise NotLowered("a negative padding")
    places = (
        slice(low, size - high, inner + 1)
        for (low, high, inner), size in zip(config, out.shape, strict=True)
    )
    out[tuple(places)] = x
    return out


def _dynamic_slice(lowering, eqn, arguments):
    x, *begin = arguments
    sizes = eqn.params["slice_sizes"]
    for axis, (first, size) in enumerate(zip(begin, sizes, strict=True)):
        x = _part(lowering, x, first[()], axis, size)
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
    begin = elementwise(emitter, "convert_element_type", {}, [begin], np.int64)
    place = emitter.named(f"extractelement {emitter.vector(np.int64)} {begin.name}, i64 0")
    place = emitter.product(place, inner)
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
    params = eqn.params | ({"fill_value": -1} if "fill_value" in eqn.params else {})
    params = eqn.primitive.get_bind_params(params)
    with jax.ensure_compile_time_eval():
        moved = np.asarray(eqn.primitive.bind(places[0], indices, *places[1:], **params))
    flat = np.concatenate([one.ravel() for one in data])
    out = np.empty(moved.shape, object)
    zero = lowering.emitter.constant(0, eqn.outvars[0].aval.dtype)
    for index in np.ndindex(*moved.shape):
        out[index] = flat[moved[index]] if 0 <= moved[index] < flat.size else zero
    return out


def _gathered(lowering, eqn, arguments):
    """A gather by computed indices of one axis: a choice for each of them."""
    x, indices, *others = arguments
    p = eqn.params
    numbers = p.get("dimension_numbers")
    if others or numbers.operand_batching_dims or indices.shape[-1:] != (1,):
        raise NotLowered(UNKNOWN_INDEX)
    (axis,) = numbers.start_index_map
    sizes, kept = (
        p["slice_sizes"],
        [k for k in range(x.ndim) if k not in numbers.collapsed_slice_dims],
    )
    if any(sizes[k] != x.shape[k] for k in range(x.ndim) if k != axis):
        raise NotLowered(UNKNOWN_INDEX)
    places = indices.shape[:-1]
    rows = np.empty((*places, *(sizes[k] for k in kept)), object)
    for place in np.ndindex(*places):
        first = indices[(*place, 0)]
        part = _part(lowering, x, first, axis, sizes[axis])
        if p["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP:
            part = _filled(lowering, part, first, x.shape[axis] - sizes[axis], p["fill_value"])
        part = part.reshape([part.shape[k] for k in kept])
        for index in np.ndindex(*part.shape):
            rows[(*place, *index)] = part[index]
    return np.moveaxis(rows, range(len(places), rows.ndim), numbers.offset_dims)


def _filled(lowering, part, first, last, fill):
    """What an index from 0 to `last` has found, and a number to fill in for others."""
    inside = (lowering.compare("ge", first, 0), lowering.compare("le", first, last))
    inside, dtype = lowering.all_of(*inside), part.flat[0].dtype
    if fill is None:
        fill = np.nan if dtype.kind == "f" else np.iinfo(dtype).min if dtype.kind == "i" else True
    fill, out = lowering.emitter.constant(fill, dtype), part.copy()
    for index in np.ndindex(*out.shape):
        out[index] = lowering.where(inside, part[index], fill)
    return out


def _dot_general(lowering, eqn, arguments):
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    left, right = arguments
    batch = [left.shape[k] for k in left_batch]
    left = _fronted(left, left_batch, left_sum)
    right = _fronted(right, right_batch, right_sum)
    dtype = eqn.outvars[0].aval.dtype
    if left[0].dtype != dtype if left.size and isinstance(left[0], Value) else False:
        raise NotLowered("a matrix product of mixed types")
    out = np.empty((*batch, left.shape[len(batch)], right.shape[len(batch)]), object)
    zero = lowering.emitter.constant(0, dtype)
    for index in np.ndindex(*out.shape):
        b, i, j = index[:-2], index[-2], index[-1]
        total = None
        for x, y in zip(left[(*b, i)], right[(*b, j)], strict=True):
            term = lowering.op("mul", x, y)
            total = term if total is None else lowering.op("add", total, term)
        out[index] = zero if total is None else total
    return out.reshape(_shape(eqn))


def _fronted(x, batch, summed):
    """(*batch, rest, summed)"""
    rest = [k for k in range(x.ndim) if k not in (*batch, *summed)]
    x = x.transpose(*batch, *rest, *summed)
    sizes = x.shape
    k, r = len(batch), len(batch) + len(rest)
    return x.reshape(*sizes[:k], int(np.prod(sizes[k:r])), int(np.prod(sizes[r:])))


def _barrier(lowering, eqn, arguments):
    """What hides a number that is to be divided by exactly (`jaxlsq.numerics.norm.divide`)."""
    out = [x.copy() for x in arguments]
    for x in out:
        for index in np.ndindex(*x.shape):
            x[index] = replace(x[index], is_exact=True)
    return out


def _cumulative(word):
    def write(lowering, eqn, arguments):
        axis, back = eqn.params["axis"], eqn.params["reverse"]
        rows = np.moveaxis(arguments[0], axis, 0)
        rows = rows[::-1] if back else rows
        out = rows.copy()
        for k in range(1, len(rows)):
            for index in np.ndindex(*rows.shape[1:]):
                out[(k, *index)] = lowering.op(word, out[(k - 1, *index)], rows[(k, *index)])
        return np.moveaxis(out[::-1] if back else out, 0, axis)

    return write


STRUCTURAL: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "slice": _slice,
    "concatenate": lambda low, eqn, a: np.concatenate(a, axis=eqn.params["dimension"]),
    "stack": lambda low, eqn, a: np.stack(a, axis=eqn.params.get("axis", 0)),
    "unstack": _unstack,
    "split": _split,
    "transpose": lambda low, eqn, a: a[0].transpose(eqn.params["permutation"]),
    "rev": lambda low, eqn, a: np.flip(a[0], eqn.params["dimensions"]),
    "iota": _iota,
    "pad": _pad,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _moved,
    "scatter": _moved,
    "dot_general": _dot_general,
    "cumsum": _cumulative("add"),
    "cumprod": _cumulative("mul"),
    "cummax": _cumulative("max"),
    "cummin": _cumulative("min"),
    "optimization_barrier": _barrier,
}

REDUCTIONS = {
    "reduce_sum": "add",
    "reduce_prod": "mul",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_and": "and",
    "reduce_or": "or",
    "argmax": "gt",
    "argmin": "lt",
}
_EMPTY = {"reduce_sum": 0, "reduce_prod": 1, "reduce_and": True, "reduce_or": False}


def reduced(lowering: Any, eqn: Equation, x: Array) -> Array:
    """The result of a primitive of `REDUCTIONS`, in the order of the elements."""
    name, axes, dtype = eqn.primitive.name, eqn.params["axes"], eqn.outvars[0].aval.dtype
    keep = [k for k in range(x.ndim) if k not in axes]
    x = x.transpose(*keep, *axes).reshape(*(x.shape[k] for k in keep), -1)
    out = np.empty(x.shape[:-1], object)
    for index in np.ndindex(*out.shape):
        terms: Sequence[Value] = x[index]
        if name.startswith("arg"):
            out[index] = _place(lowering, REDUCTIONS[name], terms, dtype)
        elif len(terms):
            total = terms[0]
            for term in terms[1:]:
                total = lowering.op(REDUCTIONS[name], total, term)
            out[index] = total
        elif name in _EMPTY:
            out[index] = lowering.emitter.constant(_EMPTY[name], dtype)
        else:
            raise NotLowered("an extreme of nothing")
    return out


def _place(lowering, word, terms, dtype):
    """Of the first extreme; of the first NaN, if there is one."""
    emitter = lowering.emitter
    place, best = emitter.constant(0, dtype), terms[0]
    for k, term in enumerate(terms[1:], 1):
        better = elementwise(emitter, word, {}, [term, best], bool)
        if term.dtype.kind == "f":
            new = elementwise(emitter, "ne", {}, [term, term], bool)
            known = elementwise(emitter, "eq", {}, [best, best], bool)
            new = elementwise(emitter, "and", {}, [new, known], bool)
            better = elementwise(emitter, "or", {}, [better, new], bool)
        place = elementwise(
            emitter, "select_n", {}, [better, place, emitter.constant(k, dtype)], dtype
        )
        best = elementwise(emitter, "select_n", {}, [better, best, term], best.dtype)
    return place
