"""An index past the parameters, which JAX takes for that of the last one: found in the trace.

An index that is in range becomes a slice; a constant one that is not stays a start that is
computed, from constants alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
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


def _broadcast(a, params):
    shape, axes = params["shape"], params["broadcast_dimensions"]
    ones = [shape[k] if k in axes else 1 for k in range(len(shape))]
    return np.broadcast_to(a.reshape(ones), shape)


def check_indices(jaxpr: Jaxpr, consts: Sequence[Any], name: str = "func") -> None:
    """Raise IndexError for a constant index past the parameters.

    Parameters
    ----------
    jaxpr : Jaxpr
        Of a function of the parameters alone, a vector or scalars.
    consts : list
        Its constants.
    name : str
        What the user calls the function.
    """
    n = sum(math.prod(v.aval.shape) for v in jaxpr.invars)
    _check(jaxpr, list(map(_known, consts)), [_Value(is_params=True)] * len(jaxpr.invars), n, name)


@dataclass(frozen=True)
class _Value:
    """What is known of a value: the number that it is, or that it is made of parameters alone."""

    number: NDArray[Any] | None = None
    is_params: bool = False


def _known(value):
    """Of a constant: small ones of integers are kept."""
    if value is None or isinstance(value, Tracer):
        return _Value()
    dtype = getattr(value, "dtype", np.dtype(type(value)))
    few = np.size(value) <= _MOST and getattr(dtype, "kind", "O") in "iub"
    return _Value(np.asarray(value) if few else None)


def _check(jaxpr, consts, inputs, n, name):
    def equation(eqn, arguments):
        primitive, inner = eqn.primitive.name, called(eqn)
        if inner:
            return _check(inner[0], list(map(_known, inner[1])), arguments, n, name)
        is_params = bool(arguments) and all(v.is_params for v in arguments)
        if primitive in ("dynamic_slice", "gather") and arguments[0].is_params:
            vector = eqn.invars[0].aval
            if vector.shape == (n,):
                _check_index(arguments[1].number, eqn.params["slice_sizes"][0], n, name)
        numbers = [v.number for v in arguments]
        number = None
        if primitive in _FOLDED and all(v is not None for v in numbers):
            number = _known(_FOLDED[primitive](eqn, *numbers)).number
        joined = is_params and primitive in _SAME + _JOINED
        return [_Value(number, joined)] * len(eqn.outvars)

    return interpret(jaxpr, consts, inputs, equation, lambda atom, _: _known(atom.val))


def _check_index(index, size, n, name):
    outside = np.empty(0, int) if index is None else index[(index < 0) | (index > n - size)]
    if len(outside):
        first = int(outside.flat[0])
        raise IndexError(
            f"{name} reads parameter {first - n if first < 0 else first} of {n}: indices are 0 to "
            f"{n - 1}."
        )
