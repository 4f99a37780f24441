"""Is a residual traceable, what does it close over, and was it compiled before?

A residual is traced once, together with its Jacobian, with its parameters (and in a
batch one lane's data) as the only variables.  In the jaxpr that comes out

- every array that the residual reads, from its arguments or from its closure, is
  a constant of the jaxpr or of a ``jit`` inside it: it is *hoisted* into an
  argument of the compiled program;
- every floating-point scalar is a literal: it is hoisted too, into one vector;
- custom derivative rules are already applied, so that what they do is in the text.

What is left, the *structure*, is the key of the cache.  Two residuals with the
same structure are the same program on other numbers, whatever Python made them.
"""

import sys
from dataclasses import dataclass
from enum import Enum
from types import FunctionType

import jax
import numpy as np
from jax.extend.core import Literal

__all__ = ["Traced", "evaluate", "trace", "typed"]

# Primitives that only call a jaxpr; they are looked through, so that what the
# called function closes over is hoisted as well.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}

# XLA turns a power with a literal exponent into multiplications.
_KEEP_LITERALS = {"pow"}


class _Unkeyable(Exception):
    """The jaxpr holds something that has no value to compare, such as a callback."""


@dataclass(frozen=True)
class Traced:
    """A traced function.

    Attributes
    ----------
    jaxpr
        Its jaxpr.  Refers to user data: not to be kept.
    outputs : list
        Shape and dtype of each output.
    depends : list of bool
        Whether each output depends on an input at all.
    key : tuple or None
        The structure, hashable; None if the program must not be cached.
    arrays : tuple
        The hoisted arrays, in the order in which `evaluate` reads them.
    scalars : (k,) float64 array
        The hoisted scalars, likewise.
    hoist_literals : bool
        Whether there are any.
    """

    jaxpr: object
    outputs: list
    depends: list
    key: tuple | None
    arrays: tuple
    scalars: np.ndarray
    hoist_literals: bool


def trace(fun, *examples, hoist_literals=True):
    """Trace ``fun(*inputs)`` at the shapes and types of the examples.

    Parameters
    ----------
    fun : callable
        ``fun(*inputs) -> tuple of arrays``.
    *examples : arrays, or their shapes and types
    hoist_literals : bool
        Whether floating-point literals become data.  If not they are part of the structure,
        and XLA can simplify with them.

    Returns
    -------
    Traced

    Raises
    ------
    Exception
        Whatever `fun` raises when it is given tracers.
    """
    jaxpr = jax.make_jaxpr(fun)(*examples)
    reader = _Reader(hoist_literals)
    try:
        structure = reader.read(*_opened(jaxpr), inputs=[True] * len(examples))
        key = (structure, tuple(_aval_key(a) for a in reader.arrays), jax.default_backend())
    except _Unkeyable:
        reader = _Reader(hoist_literals, keyed=False)
        reader.read(*_opened(jaxpr), inputs=[True] * len(examples))
        key = None
    return Traced(
        jaxpr=jaxpr,
        outputs=list(jaxpr.out_avals),
        depends=reader.output_depends,
        key=key,
        arrays=tuple(reader.arrays),
        scalars=np.array(reader.scalars, np.float64),
        hoist_literals=hoist_literals,
    )


def _opened(jaxpr):
    """A jaxpr and its constants, whether it is closed over them or has none."""
    return getattr(jaxpr, "jaxpr", jaxpr), list(getattr(jaxpr, "consts", ()))


def _is_hoisted_literal(atom, eqn_name):
    return (
        isinstance(atom, Literal)
        and np.ndim(atom.val) == 0
        and np.issubdtype(atom.aval.dtype, np.floating)
        and eqn_name not in _KEEP_LITERALS
    )


class _Reader:
    """One walk over a jaxpr: structure, hoisted data, dependence on the input."""

    def __init__(self, hoist_literals, keyed=True):
        self.hoist_literals = hoist_literals
        self.keyed = keyed
        self.arrays = []
        self.scalars = []
        self.output_depends = []
        self._count = 0

    def read(self, jaxpr, consts, inputs):
        names, depends = {}, {}

        def define(variables, dependent):
            for variable, is_dependent in zip(variables, dependent, strict=True):
                names[variable] = self._count
                depends[variable] = is_dependent
                self._count += 1

        def dependent(atom):
            return not isinstance(atom, Literal) and depends[atom]

        self.arrays.extend(consts)
        define(jaxpr.constvars, [False] * len(consts))
        define(jaxpr.invars, inputs)
        structure = [tuple(_aval_key(v.aval) for v in jaxpr.invars)]
        for eqn in jaxpr.eqns:
            name = eqn.primitive.name
            atoms = tuple(self._atom(atom, name, names) for atom in eqn.invars)
            if name in _CALLS:
                inner, inner_consts = _opened(eqn.params[_CALLS[name]])
                body = self.read(inner, inner_consts, [dependent(a) for a in eqn.invars])
                results = self.output_depends
            else:
                body = self._params(eqn) if self.keyed else ()
                results = [any(dependent(a) for a in eqn.invars)] * len(eqn.outvars)
            structure.append((name, atoms, body))
            define(eqn.outvars, results)
        structure.append(tuple(self._atom(atom, "return", names) for atom in jaxpr.outvars))
        self.output_depends = [dependent(atom) for atom in jaxpr.outvars]
        return tuple(structure)

    def _atom(self, atom, eqn_name, names):
        if self.hoist_literals and _is_hoisted_literal(atom, eqn_name):
            self.scalars.append(float(atom.val))
            return ("scalar", atom.aval.dtype)
        return _literal_key(atom) if isinstance(atom, Literal) else names[atom]

    def _params(self, eqn):
        if eqn.effects or "callback" in eqn.params:
            raise _Unkeyable(eqn.primitive.name)
        return tuple((key, _frozen(value)) for key, value in eqn.params.items())


def _literal_key(atom):
    value = np.asarray(atom.val)
    return ("literal", value.dtype, value.shape, value.tobytes())


def _aval_key(array):
    """Shape, type and, where it is not the default device, placement."""
    concrete = isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer)
    placement = array.sharding if concrete else None
    return (tuple(array.shape), array.dtype, placement)


def _frozen(value):
    """A parameter of an equation as a hashable value that compares by content."""
    if value is None or isinstance(value, (str, bytes, bool, int, np.dtype, type, Enum)):
        return (type(value), value)
    if isinstance(value, float):
        return (float, value.hex())
    if isinstance(value, (tuple, list)):
        return (type(value), tuple(_frozen(v) for v in value))
    if isinstance(value, dict):
        return (dict, tuple((k, _frozen(v)) for k, v in value.items()))
    if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
        jaxpr, consts = _opened(value)
        if consts:  # data inside a loop's body, where it can't be hoisted
            raise _Unkeyable("constants of an inner jaxpr")
        return _nested(jaxpr)
    if isinstance(value, FunctionType):
        if _is_importable(value):
            return value
    elif type(value).__hash__ not in (None, object.__hash__):
        return (type(value), value)
    elif hasattr(value, "__dict__"):
        return (type(value), _frozen(vars(value)))
    raise _Unkeyable(type(value).__name__)


def _is_importable(function):
    """True for a module's own function, of which there is one as long as the process lives."""
    module = sys.modules.get(function.__module__)
    return getattr(module, function.__qualname__, None) is function


def _nested(jaxpr):
    """The structure of a jaxpr that is a loop's body or a branch: nothing is hoisted."""
    names = {}

    def number(variables):
        for variable in variables:
            names[variable] = len(names)

    def key(atom):
        return _literal_key(atom) if isinstance(atom, Literal) else names[atom]

    number(jaxpr.invars)
    structure = [tuple(_aval_key(v.aval) for v in jaxpr.invars)]
    for eqn in jaxpr.eqns:
        if eqn.effects or "callback" in eqn.params:
            raise _Unkeyable(eqn.primitive.name)
        name = eqn.primitive.name
        if name in _CALLS:
            params = _frozen(eqn.params[_CALLS[name]])
        else:
            params = tuple((k, _frozen(v)) for k, v in eqn.params.items())
        structure.append((name, tuple(key(a) for a in eqn.invars), params))
        number(eqn.outvars)
    structure.append(tuple(key(a) for a in jaxpr.outvars))
    return tuple(structure)


def evaluate(traced, inputs, arrays, scalars=None):
    """The traced function on other data of the same structure.

    Parameters
    ----------
    traced : Traced
    inputs : sequence of arrays
    arrays, scalars
        As `Traced.arrays` and, where literals are hoisted, `Traced.scalars`, in their order.

    Returns
    -------
    list of arrays
    """
    indices = iter(range(len(traced.scalars))) if traced.hoist_literals else None
    data = iter(arrays), indices
    return _run(*_opened(traced.jaxpr), inputs, data, scalars)


def typed(array, dtype):
    """A hoisted array in the type that its trace saw: a float64 one is float32 without x64.

    JAX may remember a closed-over NumPy array from a trace with x64, and say float64 of it in
    a jaxpr whose equations are of float32.
    """
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    array = array if hasattr(array, "shape") else np.asarray(array, dtype)
    return array if array.dtype == dtype else jax.lax.convert_element_type(array, dtype)


def _run(jaxpr, consts, inputs, data, scalars):
    arrays, scalar_index = data
    values = {
        variable: typed(next(arrays), variable.aval.dtype)
        for variable, _ in zip(jaxpr.constvars, consts, strict=True)
    }
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def value(atom, eqn_name):
        if scalar_index is not None and _is_hoisted_literal(atom, eqn_name):
            return scalars[next(scalar_index)].astype(atom.aval.dtype)
        return atom.val if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        arguments = [value(atom, name) for atom in eqn.invars]
        if name in _CALLS:
            inner, inner_consts = _opened(eqn.params[_CALLS[name]])
            results = _run(inner, inner_consts, arguments, data, scalars)
        else:
            results = eqn.primitive.bind(*arguments, **eqn.params)
            results = results if eqn.primitive.multiple_results else [results]
        values.update(zip(eqn.outvars, results, strict=True))
    return [value(atom, "return") for atom in jaxpr.outvars]
