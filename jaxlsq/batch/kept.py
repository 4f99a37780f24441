"""What a result keeps of data and model, so that it answers for those that were fitted.

What is small is copied.  Of what is large, or in a file, a few values are remembered, and a
question to the result raises where they have changed.
"""

import builtins
import math
from dataclasses import dataclass, field, is_dataclass, replace
from functools import partial
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
)
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.chunks import Chunked
from jaxlsq.problem.sources import Source, check_open
from jaxlsq.problem.views import View

__all__ = ["Keeper"]

# Arrays of at most this size are copied.
COPIED_BYTES = 1 << 21
# Values of a larger one that are remembered; a prime, of which no row's length is a multiple.
SAMPLES = 4093
# Of one that is mapped from a file, each of them may be a read of the disk.
MAPPED_SAMPLES = 61
# Problems that are remembered of what is read from files.
PROBLEMS = 16
# Things that a model's functions refer to which are looked at.
MOST_THINGS = 10_000
OURS = __name__.split(".")[0]
# Packages whose arrays are in files.
FILES = ("h5py", "zarr")
# Set of classes that Python code defines, in their `__flags__`: Py_TPFLAGS_HEAPTYPE.
HEAP_TYPE = 1 << 9
JIT: type[Any] = type(jax.jit(len))
# Of what can't change, or is shared.
AS_THEY_ARE: set[type[Any]] = {
    *(bool, int, float, complex, str, bytes),
    *(type, ModuleType, BuiltinFunctionType),
}


@dataclass(frozen=True)
class Watched:
    """An array that is not copied, and a hash of a sample of its values."""

    name: str
    array: NDArray[Any]
    seen: int

    def check(self) -> None:
        """Raise RuntimeError if it has changed."""
        if _digest(self.array) != self.seen:
            raise _changed(self.name)


@dataclass(frozen=True)
class Recorded(Source):
    """A source that remembers some problems of what a fit reads: the ends of its blocks."""

    name: str = ""
    seen: dict[tuple[int, np.dtype[Any]], int] = field(default_factory=dict)

    def read(self, first: int, last: int) -> NDArray[Any]:
        """As a `Source`."""
        rows = super().read(first, last)
        if self.index is None and len(self.seen) < PROBLEMS:
            for place in (first, last - 1):
                self.seen.setdefault((place, self.dtype), _digest(rows[place - first]))
        return rows

    def check(self) -> None:
        """Raise RuntimeError if what was read is different now."""
        check_open(self.array, self.name)
        for (place, dtype), seen in list(self.seen.items()):
            again = Source(self.array, self.batch, dtype).read(place, place + 1)[0]
            if _digest(again) != seen:
                raise _changed(self.name)


def _changed(name):
    return RuntimeError(
        f"{name} has changed since the fit, so that the result can't answer for the data it was "
        "fitted to. Pass a copy to the fit, or ask before changing it."
    )


def _digest(array):
    """A hash of shape, type and some values."""
    count = min(MAPPED_SAMPLES if _is_mapped(array) else SAMPLES, array.size)
    step = np.linspace(0, array.size - 1, count).astype(np.intp)
    return hash((array.shape, array.dtype, array.flat[step].tobytes()))


def _is_mapped(array):
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


class Keeper:
    """Makes copies of data and functions, and lists what it does not copy.

    Attributes
    ----------
    watched : list
        Each with a method `check`.
    """

    def __init__(self) -> None:
        self.watched: list[Any] = []
        self._made: dict[int, Any] = {}  # by identity, with the original, so that it lives
        self._left = MOST_THINGS

    def array(self, name: str, value: Any) -> Any:
        """An array: a copy, or the array itself, watched; JAX's do not change."""
        if not isinstance(value, np.ndarray) or value.dtype == object:
            return value
        if value.nbytes <= COPIED_BYTES:
            return value.copy() if isinstance(value, np.ma.MaskedArray) else np.array(value)
        self.watched.append(Watched(name, value, _digest(value)))
        return value

    def source(self, name: str, source: Source) -> Source:
        """A source with its array kept: copied, read where it is small, or watched."""
        array = source.array
        # Of a DataArray in memory. NumPy's own is a buffer, which types of ml_dtypes have not.
        inside = None if isinstance(array, np.ndarray) else getattr(array, "data", None)
        if isinstance(inside, np.ndarray):
            array = inside
        small = math.prod(array.shape) * np.dtype(array.dtype).itemsize <= COPIED_BYTES
        if isinstance(array, View):
            batch = tuple(array.array.shape[: len(source.batch)])
            inner = self.source(name, Source(array.array, batch, source.dtype))
            if not isinstance(inner, Recorded):
                is_read = isinstance(array, Chunked)
                view = inner.array if is_read else replace(array, array=inner.array)
                return replace(source, array=view)
            self.watched.pop()
        if isinstance(array, jax.Array):
            # It does not change, unless it was made of a NumPy array without a copy.
            return replace(source, array=np.array(array)) if small else source
        if isinstance(array, np.ndarray) and (small or not _is_mapped(array)):
            return replace(source, array=self.array(name, array))
        if small and type(array).__module__.split(".")[0] in FILES:
            raw = Source(array, source.batch, np.dtype(array.dtype))
            whole = raw.read(0, math.prod(source.batch)).reshape(array.shape)
            return replace(source, array=whole)
        source = Recorded(**vars(source), name=name)
        self.watched.append(source)
        return source

    def function(self, value: Any) -> Any:
        """A function, or what holds some, with what it reads as it is at present.

        Globals of the function's own module, closures, defaults, and in them arrays, containers
        and plain objects of classes of that module are copied; all else is shared.
        """
        return self._kept(value, None)

    def _kept(self, value: Any, module: str | None) -> Any:
        self._left -= 1
        if value is None or type(value) in AS_THEY_ARE:
            return value
        known = self._made.get(id(value))
        if known is not None or self._left < 0:
            return known[1] if known else value
        if isinstance(value, np.ndarray):
            made = self.array("an array that the model reads", value)
        elif isinstance(value, FunctionType):
            return self._function(value, module)
        elif type(value) is JIT and module is None:
            made = jax.jit(self._kept(value.__wrapped__, module))
        elif isinstance(value, MethodType):
            owner = self._object(value.__self__, value.__func__.__module__)
            made = MethodType(self._kept(value.__func__, module), owner)
        elif type(value) is partial:
            parts = (value.func, value.args, value.keywords)
            function, args, keywords = (self._kept(part, module) for part in parts)
            made = partial(function, *args, **keywords)
        elif type(value) in (list, tuple, dict):
            return self._all(value, module)
        elif is_dataclass(value) and type(value).__module__.startswith(OURS):
            made = self._dataclass(value, module)
        else:
            return self._object(value, module)
        self._made[id(value)] = value, made
        return made

    def _all(self, values, module):
        """A container with what it holds; one may hold itself."""
        if len(values) > self._left:
            return values
        made: Any = {} if isinstance(values, dict) else []
        if type(values) is not tuple:
            self._made[id(values)] = values, made
        if isinstance(values, dict):
            items = list(values.items())  # another thread may add to it
            made.update((key, self._kept(value, module)) for key, value in items)
        else:
            made.extend(self._kept(value, module) for value in values)
        return tuple(made) if type(values) is tuple else made

    def _dataclass(self, value, module):
        """One of our own: the same object where nothing in it is copied."""
        after = {}
        for name in type(value).__dataclass_fields__:
            part = getattr(value, name)
            kept = self._kept(part, module)
            if kept is not part:
                after[name] = kept
        return replace(value, **after) if after else value

    def _function(self, fun, module):
        """A function with a closure and globals of its own."""
        if (fun.__module__ or "").split(".")[0] == OURS or module not in (None, fun.__module__):
            return fun
        names = [name for name in _names(fun.__code__) if name in fun.__globals__]
        found = _Globals(fun.__globals__)
        cells = tuple(CellType() for _ in fun.__closure__ or ())
        made = FunctionType(fun.__code__, found, fun.__name__, None, cells)
        self._made[id(fun)] = fun, made  # first, since it may call itself
        made.__dict__.update(fun.__dict__)
        made.__qualname__, made.__module__ = fun.__qualname__, fun.__module__
        made.__defaults__ = self._kept(fun.__defaults__, fun.__module__)
        made.__kwdefaults__ = self._kept(fun.__kwdefaults__, fun.__module__)
        found.update((k, self._kept(fun.__globals__[k], fun.__module__)) for k in names)
        for old, new in zip(fun.__closure__ or (), cells, strict=True):
            try:
                new.cell_contents = self._kept(old.cell_contents, fun.__module__)
            except ValueError:  # a name that is not bound yet
                continue
        return made

    def _object(self, value, module):
        """A plain object of a class of the caller's own, with what it holds."""
        kind = type(value)
        is_plain = (
            kind.__module__ == (module or kind.__module__)
            and kind.__module__.split(".")[0] != OURS
            and hasattr(value, "__dict__")
            and kind.__new__ is object.__new__
            and kind.__flags__ & HEAP_TYPE
            and not hasattr(kind, "__del__")
            and not hasattr(kind, "__slots__")
        )
        if not is_plain:
            return value
        made = object.__new__(kind)
        self._made[id(value)] = value, made
        made.__dict__.update(self._all(vars(value), kind.__module__))
        return made


class _Globals(dict):
    """Names that a function reads; those that are not kept are looked up where they were."""

    def __init__(self, module):
        super().__init__(__builtins__=module.get("__builtins__", builtins))
        self._module = module

    def __missing__(self, name):
        return self._module[name]


def _names(code):
    """Names that a function's code, and the functions in it, look up."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names
