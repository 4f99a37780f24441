"""Elementary functions on registers: our own arithmetic, and the C library where that is rare."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.lowering.choosing import choose
from jaxlsq.lowering.elementwise import elementwise
from jaxlsq.lowering.emitter import Emitter, Value, type_name
from jaxlsq.lowering.structural import boxed
from jaxlsq.numerics import circular, elementary
from jaxlsq.numerics.digamma import digamma

__all__ = ["FUNCTIONS", "call_function"]


@dataclass(frozen=True)
class _Function:
    """How a function is computed.

    Attributes
    ----------
    plain : callable or None
        In arithmetic, of JAX scalars.
    rare : callable or None
        Where that does not do: then the C library is asked, element by element.
    library : str
        The C library's name of it, for float64.
    """

    plain: Callable[..., Any] | None
    rare: Callable[..., Any] | None = None
    library: str = ""


FUNCTIONS = {
    "exp": _Function(elementary.exp),
    "exp2": _Function(lambda x: elementary.power(jnp.full_like(x, 2), x)),
    "expm1": _Function(elementary.expm1),
    "log": _Function(elementary.log),
    "log1p": _Function(elementary.log1p),
    "logistic": _Function(elementary.logistic),
    "tanh": _Function(elementary.tanh),
    "sinh": _Function(elementary.sinh),
    "cosh": _Function(elementary.cosh),
    "sin": _Function(circular.moderate_sine, circular.is_far, "sin"),
    "cos": _Function(circular.moderate_cosine, circular.is_far, "cos"),
    "tan": _Function(circular.moderate_tangent, circular.is_far, "tan"),
    "pow": _Function(elementary.power),
    "atan": _Function(circular.atan),
    "atan2": _Function(circular.atan2),
    "asin": _Function(None, None, "asin"),
    "acos": _Function(None, None, "acos"),
    "asinh": _Function(None, None, "asinh"),
    "acosh": _Function(None, None, "acosh"),
    "atanh": _Function(None, None, "atanh"),
    "cbrt": _Function(None, None, "cbrt"),
    "erf": _Function(None, None, "erf"),
    "erfc": _Function(None, None, "erfc"),
    "lgamma": _Function(None, None, "lgamma"),
    "digamma": _Function(digamma),
}


@cache
def _jaxpr(function, count, dtype):
    """The jaxpr of a function of scalars."""
    scalar = jax.ShapeDtypeStruct((), dtype)
    with jax.enable_x64(True):
        return jax.make_jaxpr(function)(*[scalar] * count)


def call_function(
    write: Callable[..., Sequence[Any]],
    emitter: Emitter,
    name: str,
    params: Mapping[str, Any],
    arguments: Sequence[Value],
    dtype: Any,
) -> Value:
    """The result of a primitive of `FUNCTIONS`.

    Parameters
    ----------
    write : callable
        ``write(jaxpr, consts, inputs) -> outputs`` writes a jaxpr on arrays of values.
    emitter, name, params, arguments, dtype
        As for `jaxlsq.lowering.elementwise.elementwise`.
    """
    function, dtype = FUNCTIONS[name], np.dtype(dtype)
    arguments = [
        elementwise(emitter, "convert_element_type", {}, [a], dtype) if a.dtype != dtype else a
        for a in arguments
    ]
    if function.plain is None:
        return _from_library(emitter, function.library, arguments)
    value = _written(write, function.plain, arguments)
    if function.rare is None:
        return value
    far = _written(write, function.rare, arguments)
    slot = emitter.slot(emitter.vector(dtype))
    emitter.store(value, slot)
    with emitter.when(emitter.any(far), likely=False):
        exact = _from_library(emitter, function.library, arguments)
        emitter.store(choose(emitter, far, exact, value), slot)
    return emitter.load(slot, dtype)


def _written(write, function, arguments):
    """A function of JAX scalars on values."""
    closed = _jaxpr(function, len(arguments), arguments[0].dtype)
    (out,) = write(closed.jaxpr, closed.consts, [boxed(a) for a in arguments])
    return out[()]


def _from_library(emitter, name, arguments):
    """Element by element; the library's float32 functions have an f at their end."""
    dtype = arguments[0].dtype
    kind, vector = type_name(dtype), emitter.vector(dtype)
    symbol = name if dtype == np.float64 else name + "f"
    called = emitter.declare(symbol, kind, ", ".join([kind] * len(arguments)))
    result = "poison"
    for lane in range(emitter.width):
        scalars = [
            emitter.named(f"extractelement {vector} {a.name}, i64 {lane}") for a in arguments
        ]
        operands = ", ".join(f"{kind} {s}" for s in scalars)
        one = emitter.named(f"call {kind} {called}({operands})")
        result = emitter.named(f"insertelement {vector} {result}, {kind} {one}, i64 {lane}")
    return Value(result, dtype)
