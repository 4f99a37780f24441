"""What decides, with every number in its data, what a Python function does."""

import builtins
import sys
import weakref
from enum import Enum
from inspect import getattr_static
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from jaxlsq.tracing.cache import ProgramCache, remembering
from jaxlsq.tracing.outside import OURS, imported, is_known, is_of_library, is_outside
from jaxlsq.tracing.signature import LIBRARIES, Signature, names_in

__all__ = ["TRACES", "Fingerprint", "TraceKey", "trace_key"]

# Arrays of so many bytes are compared; a function that reads larger ones is traced again.
MOST_BYTES = 1 << 16
MOST_VALUES = 1000

# Names by which code reaches what a module holds under other names.
_WHOLE = ("__dict__", "__getattribute__")
_PLAIN = (type(None), bool, int, str, bytes)
_NUMBERS = (*_PLAIN, float, complex, np.ndarray)
_METHODS = (FunctionType, property, classmethod, staticmethod)
_NESTED = (tuple, dict, FunctionType)
_JITTED = type(jax.jit(lambda: None))
# Of functions that are jitted, what they were when first seen.
_FIRST: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_BY_VALUE = (np.dtype, jax.tree_util.PyTreeDef, jax.ShapeDtypeStruct)
# Of a class, what is not code or data of its own.
_NOT_ITS_OWN = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__"}

# Settings of JAX that a trace depends on.
_SETTINGS = (
    *("jax_enable_x64", "jax_numpy_dtype_promotion", "jax_numpy_rank_promotion"),
    *("jax_default_matmul_precision", "jax_disable_jit", "jax_debug_nans", "jax_debug_infs"),
    *("jax_default_device", "jax_threefry_partitionable", "jax_default_prng_impl"),
    *("jax_default_dtype_bits", "jax_softmax_custom_jvp", "jax_check_tracer_leaks"),
)

# Functions by fingerprint, as they were traced.
TRACES = remembering(ProgramCache(size=128))


class TraceKey(NamedTuple):
    """A key for the trace of a function at some shapes and types.

    Attributes
    ----------
    decides : tuple
        All that decides what the trace is.
    arrays : frozenset of int
        The addresses of JAX's arrays that it may read, which belong to the caller.
    """

    decides: tuple[Any, ...]
    arrays: frozenset[int]


def trace_key(function: Any, examples: Any) -> TraceKey | None:
    """The `TraceKey` of a function; None if its trace must be made again.

    Parameters
    ----------
    function : callable, or a pytree of what holds some
    examples : pytree of arrays, or of their shapes and types
    """
    mark = Fingerprint(function)
    if not mark.complete:
        return None
    leaves, tree = jax.tree.flatten(examples)
    shapes = tuple((tuple(np.shape(v)), v.dtype, getattr(v, "weak_type", False)) for v in leaves)
    settings = tuple(getattr(jax.config, name, None) for name in _SETTINGS)
    decides = mark.key, tree, shapes, settings, jax.sharding.get_abstract_mesh()
    return TraceKey(decides, frozenset(mark.addresses))


class _Same:
    """An object that is equal to itself alone, and lives as long as what it is a key of."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self):
        return id(self.value)


class _SameArray:
    """An array of JAX, which does not change and is not kept: equal to itself while it is there."""

    def __init__(self, array):
        self._array = weakref.ref(array)
        self._hash = id(array)

    def __eq__(self, other):
        array = self._array()
        return isinstance(other, _SameArray) and array is not None and array is other._array()

    def __hash__(self):
        return self._hash


class Fingerprint(Signature):
    """A key of some functions: two with equal keys do the same on the same arguments.

    Code, defaults, and all that closures, globals, objects and partials hold, by value; of
    libraries' functions, and of JAX's arrays, which do not change, that they are the same.  It is
    not `complete` where more could decide: large arrays, clocks, objects that are not known.
    """

    def __init__(self, *values: Any) -> None:
        # Names in the code that was met; for each function that is jitted, those in its code.
        self._names: dict[str, None] = {}
        self._scopes: dict[int, dict[str, None]] = {}
        while True:
            self._alive = []  # what is told from other objects by its address
            self.addresses: list[int] = []  # of JAX's arrays
            self._modules: dict[str, ModuleType] = {}  # those of libraries
            self._jits = []
            self._meets_own_module = False
            before = self._count_names()
            super().__init__(*values)
            # A module is read by the names that code has which may be met after it.
            if not (self.complete and self._meets_own_module) or self._count_names() == before:
                break
        if self.complete:
            self.key: tuple[Any, ...] = (self.key, self._of_libraries())
        for value, inner in self._jits:
            if self.complete and _FIRST.setdefault(value, inner) != inner:
                self._unknown()

    def _count_names(self):
        return len(self._names) + sum(map(len, self._scopes.values()))

    def _kind(self, value: Any, names: Any) -> Any:
        if type(value) in _PLAIN:
            return (type(value), value)
        if isinstance(value, Enum):
            return self._member(value, names)
        if type(value) in _NESTED:
            self._alive.append(value)
            return self._nested(value, names)
        if type(value) in (float, complex):
            return (type(value), value.real.hex(), value.imag.hex())
        if isinstance(value, np.generic) and value.dtype != object:
            return (value.dtype, value.tobytes())
        if isinstance(value, (int, float, complex, str, bytes, np.generic)):
            return self._unknown()  # of a class of its own
        if isinstance(value, _BY_VALUE):
            return (type(value), value)
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, jax.Array):
            self.complete &= not isinstance(value, Tracer)
            self.addresses.append(id(value))
            return _SameArray(value)
        is_code = isinstance(value, (FunctionType, MethodType, ModuleType, type))
        if not is_code and hasattr(value, "dtype") and hasattr(value, "ndim"):
            return self._unknown()  # an array of another library
        self._alive.append(value)
        return super()._kind(value, names)

    def _array(self, value):
        if type(value) is not np.ndarray or value.dtype.hasobject or value.nbytes > MOST_BYTES:
            return self._unknown()
        return ("array", value.dtype, value.shape, value.tobytes())

    def _unknown(self):
        self.complete: bool = False
        return None

    def _compound(self, value: Any, names: Any) -> Any:
        if not self.complete:
            return None
        if is_of_library(value):
            outside = is_outside(getattr(value, "__name__", None))  # under whatever name it came
            return self._unknown() if outside else _Same(value)
        if isinstance(value, property):
            return ("property", self._kind(value.fget, names))
        if isinstance(value, type):
            return self._class(value)
        of_ours = getattr(type(value), "__dataclass_fields__", None)
        if of_ours is not None and type(value).__module__.split(".")[0] == OURS:
            return (type(value), *(self._kind(getattr(value, name), names) for name in of_ours))
        # Without a call of what may look attributes up in code of its own.
        plain = isinstance(value, (FunctionType, ModuleType, tuple, list, dict))
        if isinstance(value, _JITTED):
            return self._jitted(value)
        if not plain and getattr_static(value, "cache_clear", None) is not None:
            return self._unknown()  # it may return what it returned before a change
        if not plain and getattr_static(value, "__wrapped__", None) is not None:
            more = vars(value) if hasattr(value, "__dict__") else {}
            inner = self._kind(getattr(value, "__wrapped__", None), names)
            return (type(value), inner, self._kind(more, names))
        return super()._compound(value, names)

    def _jitted(self, value):
        """A function jitted by the caller; JAX's options do not change what it does.

        JAX keeps what it was when first called until its cache is cleared, which is not seen: what
        has been another function is not known.
        """
        outer = self._seen, self._names
        self._seen, self._names = {id(value): 0}, self._scopes.setdefault(id(value), {})
        inner = self._kind(value.__wrapped__, ())
        self._seen, self._names = outer
        self._jits.append((value, inner))
        return (_JITTED, inner)

    def _function(self, function: Any) -> Any:
        names = names_in(function.__code__)
        if any(map(is_outside, names)):
            return self._unknown()
        self._names.update(dict.fromkeys(names))
        modules = imported(function.__code__)
        if modules is None:
            return self._unknown()
        inside = (self._kind(sys.modules[name], names) for name in modules)
        return (super()._function(function), *inside)

    def _module(self, module: Any, names: Any) -> Any:
        if module.__name__.split(".")[0] in LIBRARIES:
            self._modules[module.__name__] = module
            return super()._module(module, names)
        self._meets_own_module = True
        if type(module) is not ModuleType or "__getattr__" in vars(module):
            return self._unknown()
        if any(name in self._names for name in _WHOLE):
            return self._unknown()
        # In the order of the names, which later ones would change, each with its name.
        found = vars(module)
        used = ((n, self._kind(found[n], ())) for n in sorted(self._names) if n in found)
        return (module.__name__, *used)

    def _of_libraries(self):
        """What libraries' modules hold under the names in the code, where others may put things."""
        names = sorted(set().union(self._names, *self._scopes.values()))
        modules = [builtins, *self._modules.values()]
        parts = []
        for module in modules:  # those found on the way come behind
            found = vars(module)
            for name in filter(found.__contains__, names):
                value = found[name]
                if isinstance(value, ModuleType) and is_known(value.__name__):
                    modules += [] if value in modules else [value]
                    continue
                is_own = isinstance(value, FunctionType) and not is_of_library(value)
                by_value = is_own or type(value) in _NUMBERS
                kind = self._kind(value, ()) if by_value else _Same(value)
                parts.append((module.__name__, name, kind))
        return tuple(parts)

    def _member(self, member, names):
        """A member of an enumeration, with what else it was given."""
        kind = type(member)
        if kind.__module__.split(".")[0] in (*LIBRARIES, OURS):
            return (kind, member)
        self._alive.append(member)
        if id(member) in self._seen:
            return ("again", self._seen[id(member)])
        self._seen[id(member)] = len(self._seen)
        own = {k: v for k, v in vars(member).items() if k not in ("__objclass__", "_sort_order_")}
        does = {k: v for k, v in vars(kind).copy().items() if isinstance(v, _METHODS)}
        does = {k: v for k, v in does.items() if getattr(v, "__module__", None) != Enum.__module__}
        return (kind, member.name, self._kind(own, names), self._kind(does, ()))

    def _collection(self, values: Any, names: Any) -> Any:
        kind = type(values)
        is_ours = isinstance(values, tuple) and kind.__module__.split(".")[0] == OURS
        if len(values) > MOST_VALUES or not (kind in (tuple, list, dict) or is_ours):
            return self._unknown()
        # A list: what is asked of a value may change the dict, and so may another thread.
        items = list(values.items()) if isinstance(values, dict) else values
        return (kind, *(self._pair(item, names) for item in items))

    def _pair(self, item, names):
        """A value, or a key and its value."""
        if type(item) is tuple:
            return tuple(self._kind(part, names) for part in item)
        return self._kind(item, names)

    def _class(self, kind):
        """A class of the caller's own, with those above it."""
        parts = []
        if type(kind).__module__ not in ("builtins", "abc"):
            parts.append(self._kind(type(kind), ()))
        for one in kind.__mro__:
            if one.__module__.split(".")[0] not in (*LIBRARIES, OURS):
                own = {k: v for k, v in vars(one).copy().items() if k not in _NOT_ITS_OWN}
                parts.append(self._kind(own, ()))
        return (weakref.ref(kind), *parts)

    def _object(self, value: Any, names: Any) -> Any:
        kind = type(value)
        known = kind.__module__.split(".")[0] in (*LIBRARIES, OURS)
        # What is larger than a plain object has slots, or a part that is written in C.
        if known or not hasattr(value, "__dict__") or kind.__basicsize__ > _Same.__basicsize__:
            return self._unknown()
        return (self._kind(kind, names), self._kind(vars(value), names))
