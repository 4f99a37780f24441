"""Primitives that move elements, and those that reduce them, on arrays of values."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jaxlsq.lowering.elementwise import elementwise
from jaxlsq.lowering.emitter import Value
from jaxlsq.lowering.indexing import INDEXING
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.tracing.types import Equation

__all__ = ["REDUCTIONS", "STRUCTURAL", "boxed", "reduced"]

Array: TypeAlias = NDArray[Any]


def boxed(value: Value) -> Array:
    """A value as an array without axes."""
    out = np.empty((), object)
    out[()] = value
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


def _dot_general(lowering, eqn, arguments):
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    left, right = arguments
    batch = [left.shape[k] for k in left_batch]
    left = _fronted(left, left_batch, left_sum)
    right = _fronted(right, right_batch, right_sum)
    dtype = eqn.outvars[0].aval.dtype
    if any(side.size and side.flat[0].dtype != dtype for side in (left, right)):
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
    return x.reshape(*sizes[:k], math.prod(sizes[k:r]), math.prod(sizes[r:]))


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
    **INDEXING,
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
