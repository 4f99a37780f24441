"""What decides, short of the numbers in its data, what a Python function does."""

import weakref
from enum import Enum
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

__all__ = ["LIBRARIES", "Signature", "names_in"]

# Looked at so many objects, a function is too large to be told from others.
_LIMIT = 500
_DEPTH = 40
_LONG = 32

# Their modules and objects do not change what they are from one call to the next.
LIBRARIES = {"builtins", "jax", "jaxlib", "math", "numpy", "pandas", "scipy", "xarray"}


class Signature:
    """A key of some functions and their arguments: equal for what differs in numbers alone.

    Attributes
    ----------
    key : tuple
        Hashable, equal for what is the same function of other numbers: code, defaults, what
        closures, globals, methods' objects and partials hold; of arrays and floats the types.
    form : tuple
        The same without integers, such as the counter of a loop, unless JAX is met anywhere: one
        may choose between functions, of which then some can be traced.
    complete : bool
        Whether all of it was seen.
    arrays : list
        The NumPy arrays that were met.
    """

    def __init__(self, *values: Any) -> None:
        self.complete: bool = True
        self.arrays: list[Any] = []
        self._seen: dict[int, Any] = {}
        self._depth = 0
        self._integers: list[Any] = []
        self._meets_jax = False
        kinds = tuple(self._kind(value, frozenset()) for value in values)
        self.key: tuple[Any, ...] = (kinds, tuple(self._integers))
        self.form: tuple[Any, ...] = self.key if self._meets_jax else (kinds,)

    def _kind(self, value, names):
        """A hashable stand-in; `names` are the attributes that the code at hand asks for."""
        if value is None or isinstance(value, (bool, str, bytes, Enum)):
            return (type(value), value)
        if isinstance(value, int):
            self._integers.append(value)
            return type(value)
        if isinstance(value, (float, complex, np.generic)):
            return type(value)
        if type(value) is np.ndarray:
            self.arrays.append(value)
            return (np.ndarray, value.dtype, value.ndim)
        module = getattr(value, "__name__" if isinstance(value, ModuleType) else "__module__", None)
        owner = module if isinstance(module, str) else type(value).__module__
        self._meets_jax = self._meets_jax or owner.split(".")[0] in ("jax", "jaxlib")
        is_code = isinstance(value, (FunctionType, MethodType, ModuleType, type))
        if isinstance(value, np.ndarray):
            self.arrays.append(value)
        if not is_code and hasattr(value, "dtype") and hasattr(value, "ndim"):
            return (type(value), str(value.dtype), value.ndim)
        return self._nested(value, names)

    def _nested(self, value, names):
        """Of what holds other things, and perhaps itself."""
        if id(value) in self._seen:
            return ("again", self._seen[id(value)])
        self._seen[id(value)] = len(self._seen)
        if len(self._seen) > _LIMIT or self._depth > _DEPTH:
            self.complete = False
            return weakref.ref(type(value))
        self._depth += 1
        kind = self._compound(value, names)
        self._depth -= 1
        return kind

    def _compound(self, value, names):
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            function = value.__func__  # a function, or any callable: one that is jitted
            plain = isinstance(function, FunctionType)
            kind = self._function(function) if plain else self._kind(function, names)
            return ("method", kind, self._kind(value.__self__, names))
        if isinstance(value, partial):
            parts = (value.func, value.args, value.keywords)
            return ("partial", *(self._kind(part, names) for part in parts))
        if isinstance(value, ModuleType):
            return self._module(value, names)
        if isinstance(value, type):
            return weakref.ref(value)
        if isinstance(value, (tuple, list, set, frozenset, dict)):
            return self._collection(value, names)
        if hasattr(value, "__wrapped__"):  # a function jitted or with a memory
            return (type(value), self._kind(value.__wrapped__, names))
        return self._object(value, names)

    def _function(self, function):
        code = function.__code__
        names = names_in(code)
        cells = tuple(self._cell(cell, names) for cell in function.__closure__ or ())
        found = function.__globals__
        used = tuple(self._kind(found[name], names) for name in names if name in found)
        defaults = self._kind(function.__defaults__, names)
        keywords = self._kind(function.__kwdefaults__, names)
        return (code, defaults, keywords, cells, used, self._kind(vars(function), names))

    def _cell(self, cell, names):
        try:
            return self._kind(cell.cell_contents, names)
        except ValueError:  # of a name that is assigned later
            return "unbound"

    def _module(self, module, names):
        if module.__name__.split(".")[0] in LIBRARIES:
            return module.__name__
        found = vars(module)
        used = [self._kind(found[name], names) for name in names if name in found]
        return (module.__name__, *used)

    def _collection(self, values, names):
        if not isinstance(values, (tuple, dict)):
            # In lists, numbers are data, and so is how many there are.
            others = [v for v in list(values) if not isinstance(v, (int, float, complex))]
            if len(others) > _LONG:
                self.complete = False
                return type(values)
            return (type(values), frozenset(self._kind(v, names) for v in others))
        if len(values) > _LONG:
            self.complete = self.complete and all(isinstance(v, (int, float)) for v in values)
            return type(values)
        if isinstance(values, dict):
            # A copy: what is asked of a value may change it, and so may another thread.
            values = dict(values)
            keys = tuple(values) if all(isinstance(k, str) for k in values) else len(values)
            return (type(values), keys, tuple(self._kind(v, names) for v in values.values()))
        return (tuple, tuple(self._kind(v, names) for v in values))

    def _object(self, value, names):
        kind = type(value)
        if kind.__module__.split(".")[0] in LIBRARIES:
            name = getattr(value, "__qualname__", getattr(value, "__name__", None))
            return (kind, getattr(value, "__module__", None), name if isinstance(name, str) else "")
        found = {}  # what its class and those above it hold under these names
        for one in reversed(kind.__mro__[:-1]):
            found.update((n, vars(one)[n]) for n in (*names, "__call__") if n in vars(one))
        of_class = tuple((n, self._kind(v, names)) for n, v in found.items())
        if not hasattr(value, "__dict__"):
            self.complete = False
            return (weakref.ref(kind), of_class)
        return (weakref.ref(kind), of_class, self._kind(vars(value), names))


def names_in(code: CodeType) -> tuple[str, ...]:
    """Global names and attributes in a function's code and in the functions inside it."""
    names = dict.fromkeys(code.co_names)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            names.update(dict.fromkeys(names_in(const)))
    return tuple(names)
