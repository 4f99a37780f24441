"""The structure of a jaxpr: what two functions share that are the same program on other data.

- Every array that a function reads, from its arguments or from its closure, is a constant of the
  jaxpr or of a ``jit`` inside it: it is *hoisted* into an argument of the compiled program.
- Every floating-point scalar is a literal, which may be hoisted too.

What is left is compared by content.  A value of a kind that is not known here has no key: what
it is in is compiled each time.
"""

import dataclasses
import sys
from enum import Enum
from functools import partial
from types import FunctionType

import jax
import numpy as np
from jax.extend.core import Literal

from jaxlsq.tracing.jaxprs import CALLS, inner_jaxprs, opened

__all__ = ["Reader", "Unkeyable", "aval_key", "has_own_derivatives", "is_scalar_literal"]

# XLA turns a power with a literal exponent into multiplications.
_KEEP_LITERALS = {"pow"}


class Unkeyable(Exception):
    """The jaxpr holds something that has no value to compare, such as a callback."""


def is_scalar_literal(atom, eqn_name):
    """Whether it is a literal that may be hoisted."""
    return (
        isinstance(atom, Literal)
        and np.ndim(atom.val) == 0
        and np.issubdtype(atom.aval.dtype, np.floating)
        and eqn_name not in _KEEP_LITERALS
    )


def has_own_derivatives(jaxpr):
    """Whether a function with a derivative rule of its own, or none, is called at any depth."""
    return any(
        eqn.primitive.name.startswith(("custom_jvp", "custom_vjp"))
        or "callback" in eqn.params
        or any(map(has_own_derivatives, inner_jaxprs(eqn)))
        for eqn in opened(jaxpr)[0].eqns
    )


class Reader:
    """One walk over a jaxpr: structure, hoisted data, dependence on the inputs.

    Attributes
    ----------
    arrays : list
        Constants, in the order in which `jaxlsq.tracing.trace.evaluate` reads them.
    scalars : list of float
        Scalar literals, likewise.
    output_depends : list of bool
        Whether each output depends on an input that varies.
    """

    def __init__(self, keyed=True):
        self.keyed = keyed
        self.arrays = []
        self.scalars = []
        self.output_depends = []
        self._count = 0

    def read(self, jaxpr, consts, inputs):
        """The structure of a jaxpr, with the inputs that vary marked by True."""
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
        structure = [tuple(aval_key(v.aval) for v in jaxpr.invars)]
        for eqn in jaxpr.eqns:
            name = eqn.primitive.name
            atoms = tuple(self._atom(atom, name, names) for atom in eqn.invars)
            if name in CALLS:
                inner, inner_consts = opened(eqn.params[CALLS[name]])
                body = self.read(inner, inner_consts, [dependent(a) for a in eqn.invars])
                results = self.output_depends
            else:
                body = _params(eqn) if self.keyed else ()
                results = [any(dependent(a) for a in eqn.invars)] * len(eqn.outvars)
            structure.append((name, atoms, body))
            define(eqn.outvars, results)
        structure.append(tuple(self._atom(atom, "return", names) for atom in jaxpr.outvars))
        self.output_depends = [dependent(atom) for atom in jaxpr.outvars]
        return tuple(structure)

    def _atom(self, atom, eqn_name, names):
        if is_scalar_literal(atom, eqn_name):
            self.scalars.append(float(atom.val))
            return ("scalar", atom.aval.dtype, atom.aval.weak_type)
        return _literal_key(atom) if isinstance(atom, Literal) else names[atom]


def _literal_key(atom):
    value = np.asarray(atom.val)
    return ("literal", value.dtype, value.shape, value.tobytes(), atom.aval.weak_type)


def aval_key(array):
    """Shape, type, weak type and, where it was put somewhere, placement."""
    concrete = isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer)
    placement = array.sharding if concrete else None
    weak = bool(getattr(array, "weak_type", False))
    return (tuple(np.shape(array)), getattr(array, "dtype", type(array)), weak, placement)


def _params(eqn):
    if eqn.effects or "callback" in eqn.params:
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
        jaxpr, consts = opened(value)
        if consts:  # data inside a loop's body, where it can't be hoisted
            raise Unkeyable("constants of an inner jaxpr")
        return _nested(jaxpr)
    return _frozen_object(value)


def _frozen_object(value):
    """The same for functions, and for objects that say themselves when they are equal."""
    if isinstance(value, partial):
        return (partial, *map(_frozen, (value.func, value.args, value.keywords)))
    if isinstance(value, FunctionType):
        if _is_importable(value):
            return value
    elif type(value).__hash__ not in (None, object.__hash__):
        return (type(value), value)
    elif dataclasses.is_dataclass(value):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return (type(value), *map(_frozen, fields))
    raise Unkeyable(type(value).__name__)


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
    structure = [tuple(aval_key(v.aval) for v in jaxpr.invars)]
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        is_call = name in CALLS and not eqn.effects
        params = _frozen(eqn.params[CALLS[name]]) if is_call else _params(eqn)
        structure.append((name, tuple(key(a) for a in eqn.invars), params))
        number(eqn.outvars)
    structure.append(tuple(key(a) for a in jaxpr.outvars))
    return tuple(structure)
