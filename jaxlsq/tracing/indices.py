"""A constant index past the end, which JAX takes for that of the last one: found in the trace.

An index that is in range becomes a slice; a constant one that is not stays a start that is
computed, from constants alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import lax
from jax.core import Tracer
from numpy.typing import NDArray

from jaxlsq.tracing.jaxprs import called, interpret
from jaxlsq.tracing.types import Jaxpr

__all__ = ["check_indices"]

# What JAX does to a constant index, in NumPy.
_FOLDED = {
    "lt": lambda eqn, a, b: a < b,
    "add": lambda eqn, a, b: a + b,
    "select_n": lambda eqn, which, a, b: np.where(which, b, a),
    "convert_element_type": lambda eqn, a: a.astype(eqn.params["new_dtype"]),
    "broadcast_in_dim": lambda eqn, a: _broadcast(a, eqn.params),
}

# What leaves parameters what they are, but for shape and type.
_SAME = ("broadcast_in_dim", "convert_element_type", "copy", "reshape", "slice", "squeeze")
_JOINED = ("concatenate", "stack", "unstack")

_MOST = 10_000  # indices that are looked at
_FILLED = lax.GatherScatterMode.FILL_OR_DROP


def _broadcast(a, params):
    shape, axes = params["shape"], params["broadcast_dimensions"]
    ones = [shape[k] if k in axes else 1 for k in range(len(shape))]
    return np.broadcast_to(a.reshape(ones), shape)


def check_indices(jaxpr: Jaxpr, consts: Sequence[Any], name: str = "func") -> None:
    """Raise IndexError for a constant index past the parameters, or past an axis of an array.

    Parameters
    ----------
    jaxpr : Jaxpr
        Of a function of the parameters alone, a vector or scalars.
    consts : list
        Its constants; those that are traced themselves are data.
    name : str
        What the user calls the function.
    """
    n = sum(math.prod(v.aval.shape) for v in jaxpr.invars)
    params = [_Value(is_params=True)] * len(jaxpr.invars)
    _check(jaxpr, list(map(_known, consts)), params, n, name)


@dataclass(frozen=True)
class _Value:
    """What is known of a value: the number that it is, or that it is made of inputs alone.

    Attributes
    ----------
    number : array, optional
    is_params, is_data : bool
        Whether all of it are parameters, or data.
    """

    number: NDArray[Any] | None = None
    is_params: bool = False
    is_data: bool = False


def _known(value):
    """Of a constant: small ones of integers are kept."""
    if isinstance(value, Tracer):
        return _Value(is_data=True)
    if value is None:
        return _Value()
    dtype = getattr(value, "dtype", np.dtype(type(value)))
    few = np.size(value) <= _MOST and getattr(dtype, "kind", "O") in "iub"
    return _Value(np.asarray(value) if few else None)


def _check(jaxpr, consts, inputs, n, name):
    def equation(eqn, arguments):
        primitive, inner = eqn.primitive.name, called(eqn)
        if inner:
            return _check(inner[0], list(map(_known, inner[1])), arguments, n, name)
        if primitive in ("dynamic_slice", "gather"):
            _check_equation(eqn, arguments, n, name)
        numbers = [v.number for v in arguments]
        number = None
        if primitive in _FOLDED and all(v is not None for v in numbers):
            number = _known(_FOLDED[primitive](eqn, *numbers)).number
        same = bool(arguments) and primitive in _SAME + _JOINED
        is_params = same and all(v.is_params for v in arguments)
        is_data = same and all(v.is_data for v in arguments)
        return [_Value(number, is_params, is_data)] * len(eqn.outvars)

    return interpret(jaxpr, consts, inputs, equation, lambda atom, _: _known(atom.val))


def _check_equation(eqn, arguments, n, name):
    """Of a part that is read of an array, from a place that is computed."""
    read, *starts = arguments
    shape, sizes = eqn.invars[0].aval.shape, eqn.params["slice_sizes"]
    axes, numbers = range(len(shape)), [start.number for start in starts]
    if eqn.primitive.name == "gather":
        axes = eqn.params["dimension_numbers"].start_index_map
        index, mode = numbers[0], eqn.params["mode"]
        # What a caller asks to be clipped or filled is.
        asked = read.is_data and mode in (lax.GatherScatterMode.CLIP, _FILLED)
        if index is None or not index.ndim or asked:
            return
        numbers = list(np.moveaxis(index, -1, 0))
    for axis, number in zip(axes, numbers, strict=True):
        if number is None:
            continue
        length, last = shape[axis], shape[axis] - sizes[axis]
        outside = number[(number < 0) | (number > last)]
        if not outside.size:
            continue
        first = int(outside.flat[0])
        first = first - length if first < 0 else first
        if read.is_params and shape == (n,):
            raise IndexError(f"{name} reads parameter {first} of {n}: indices are 0 to {n - 1}.")
        # In what is computed a gather of JAX's own functions may mean to end at the last one.
        if read.is_data or eqn.primitive.name == "dynamic_slice":
            raise IndexError(
                f"{name} reads index {first} along axis {axis} of an array of shape {shape}: "
                f"indices are 0 to {length - 1}."
            )
