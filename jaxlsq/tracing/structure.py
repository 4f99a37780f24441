"""The structure of a jaxpr: what two functions share that are the same program on other data.

- Every array that a function reads, from its arguments or from its closure, is a constant of the
  jaxpr or of a ``jit`` inside it: it is *hoisted* into an argument of the compiled program.
- Every floating-point scalar is a literal, which may be hoisted too.

What is left is compared by content.  A value of a kind that is not known here has no key: what
it is in is compiled each time.
"""

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from enum import Enum
from functools import partial
from types import FunctionType
from typing import Any

import jax
import numpy as np
from jax.core import ShapedArray, Tracer
from jax.extend.core import Literal

from jaxlsq.tracing.jaxprs import called, equations, interpret
from jaxlsq.tracing.parts import opened
from jaxlsq.tracing.types import Jaxpr

__all__ = ["StructureReader", "Unkeyable", "aval_key", "has_own_derivatives", "is_scalar_literal"]

# XLA turns a power with a literal exponent into multiplications.
_KEEP_LITERALS = {"pow"}


class Unkeyable(Exception):
    """The jaxpr holds something that has no value to compare, such as a callback."""


def is_scalar_literal(atom: Any, eqn_name: str) -> bool:
    """Whether it is a literal that may be hoisted."""
    return (
        isinstance(atom, Literal)
        and np.ndim(atom.val) == 0
        # That of a literal is never the abstract one which has no dtype.
        and np.issubdtype(atom.aval.dtype, np.floating)  # pyright: ignore[reportAttributeAccessIssue]
        and eqn_name not in _KEEP_LITERALS
    )


def has_own_derivatives(jaxpr: Jaxpr) -> bool:
    """Whether a function with a derivative rule of its own, or none, is called at any depth.

    Or one whose values a reverse pass is to compute again (`jax.checkpoint`).
    """
    return any(
        eqn.primitive.name.startswith(("custom_jvp", "custom_vjp", "checkpoint", "remat"))
        or "callback" in eqn.params
        for eqn in equations(jaxpr)
    )


class StructureReader:
    """One walk over a jaxpr: its structure, and the data that are hoisted.

    Attributes
    ----------
    arrays : list
        Constants, in the order in which `jaxlsq.tracing.trace.evaluate` reads them.
    scalars : list of float
        Scalar literals, likewise.
    """

    def __init__(self, keyed: bool = True) -> None:
        self.keyed: bool = keyed
        self.arrays: list[Any] = []
        self.scalars: list[Any] = []
        self._numbers = itertools.count()

    def read(self, jaxpr: Jaxpr, consts: Sequence[Any]) -> tuple[Any, ...]:
        """The structure of a jaxpr."""
        self.arrays.extend(consts)

        def body(eqn):
            inner = called(eqn)
            if inner:
                return self.read(*inner)
            return _params(eqn) if self.keyed else ()

        return _structure(jaxpr, self._numbers, body, self._literal)

    def _literal(self, atom, eqn_name):
        if not is_scalar_literal(atom, eqn_name):
            return _literal_key(atom)
        self.scalars.append(float(atom.val))
        return ("scalar", atom.aval.dtype, atom.aval.weak_type)


def _structure(jaxpr, numbers, body, literal):
    """Equations as ``(name, operands, body)``, with variables as numbers in their order."""
    equations = [tuple(aval_key(v.aval) for v in jaxpr.invars)]

    def numbered(variables):
        return [next(numbers) for _ in variables]

    def equation(eqn, operands):
        equations.append((eqn.primitive.name, tuple(operands), body(eqn)))
        return numbered(eqn.outvars)

    consts, inputs = numbered(jaxpr.constvars), numbered(jaxpr.invars)
    outputs = interpret(jaxpr, consts, inputs, equation, literal)
    return (*equations, tuple(outputs))


def _literal_key(atom):
    value = np.asarray(atom.val)
    return ("literal", value.dtype, value.shape, value.tobytes(), atom.aval.weak_type)


def aval_key(array: Any) -> tuple[Any, ...]:
    """Shape, type, weak type and, where it was put somewhere, placement."""
    concrete = isinstance(array, jax.Array) and not isinstance(array, Tracer)
    placement = array.sharding if concrete else None
    weak = bool(getattr(array, "weak_type", False))
    return (tuple(np.shape(array)), getattr(array, "dtype", type(array)), weak, placement)


def _params(eqn):
    if eqn.effects:
        raise Unkeyable(eqn.primitive.name)
    return tuple((key, _frozen(value)) for key, value in eqn.params.items())


def _frozen(value):
    """A parameter of an equation as a hashable value that compares by content."""
    if value is None or isinstance(value, (str, bytes, bool, int, np.dtype, type, Enum)):
        return (type(value), value)
    if isinstance(value, (float, complex)):
        return (type(value), value.real.hex(), value.imag.hex())
    if isinstance(value, (tuple, list)):
        return (type(value), tuple(map(_frozen, value)))
    if isinstance(value, dict):
        return (dict, tuple((_frozen(k), _frozen(v)) for k, v in value.items()))
    if isinstance(value, (np.ndarray, np.generic)):
        value = np.asarray(value)
        return ("array", value.dtype, value.shape, value.tobytes())
    if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
        return _nested(*opened(value))
    if isinstance(value, ShapedArray):
        return ("aval", *aval_key(value))
    return _frozen_object(value)


def _frozen_object(value):
    """The same for functions, and for objects that say themselves when they are equal."""
    if isinstance(value, partial):
        return (partial, *map(_frozen, (value.func, value.args, value.keywords)))
    if isinstance(value, FunctionType):
        if _is_importable(value):
            return value
    elif _says_when_equal(value) and not _calls_back(value):
        return (type(value), value)
    elif dataclasses.is_dataclass(value):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return (type(value), *map(_frozen, fields))
    raise Unkeyable(type(value).__name__)


def _says_when_equal(value):
    """Whether it has a hash of its own, which some of JAX's objects have and refuse to give."""
    if type(value).__hash__ in (None, object.__hash__):
        return False
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _calls_back(value):
    """Whether it holds a callback, of which JAX makes a new one each time."""
    return hasattr(value, "callback") or hasattr(value, "callback_func")


def _is_importable(function):
    """True for a module's own function, of which there is one as long as the process lives."""
    module = sys.modules.get(function.__module__)
    return getattr(module, function.__qualname__, None) is function


def _nested(jaxpr, consts):
    """The structure of a jaxpr that is a loop's body or a branch: nothing is hoisted."""
    if consts:  # data inside a loop's body, where it can't be hoisted
        raise Unkeyable("constants of an inner jaxpr")

    def body(eqn):
        inner = None if eqn.effects else called(eqn)
        return _nested(*inner) if inner else _params(eqn)

    return _structure(jaxpr, itertools.count(), body, lambda atom, _: _literal_key(atom))
