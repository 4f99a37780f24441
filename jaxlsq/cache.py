"""What is remembered from fit to fit: compiled programs, and what decides if a function traces."""

import threading
from collections import OrderedDict
from types import FunctionType, MethodType, ModuleType

__all__ = ["ProgramCache", "code_signature"]


class ProgramCache:
    """Compiled programs by structure, the least recently used dropped first.

    A program refers to nothing that it was compiled from: data reach it as
    arguments, also the first time.

    Parameters
    ----------
    size : int
        Programs kept.
    """

    def __init__(self, size):
        self.size = size
        self._programs = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self):
        return len(self._programs)

    def get(self, key, compile_):
        """The program of `key`, made by ``compile_()`` if there is none.

        With None for a key, ``compile_()`` without keeping it.
        """
        if key is None:
            return compile_()
        with self._lock:
            program = self._programs.get(key)
            if program is not None:
                self._programs.move_to_end(key)
                return program
        program = compile_()  # outside the lock: other threads' fits go on
        with self._lock:
            self._programs[key] = program
            while len(self._programs) > self.size:
                self._programs.popitem(last=False)
        return program

    def clear(self):
        """Forget all programs."""
        with self._lock:
            self._programs.clear()


def code_signature(fun):
    """What decides, short of the data, whether a function is traceable.

    Its code, and what it finds in its closure and its module: modules, the code of
    functions, the types of the rest.  None where that can't be told.
    """
    if isinstance(fun, MethodType):
        return (code_signature(fun.__func__), type(fun.__self__))
    if not isinstance(fun, FunctionType):
        return None
    cells = tuple(_kind(cell.cell_contents) for cell in fun.__closure__ or ())
    names = fun.__code__.co_names
    used = tuple(_kind(fun.__globals__[name]) for name in names if name in fun.__globals__)
    return (fun.__code__, cells, used)


def _kind(value):
    if isinstance(value, FunctionType):
        inner = tuple(_kind(c.cell_contents) for c in value.__closure__ or ())
        return (value.__code__, inner)
    if isinstance(value, ModuleType):
        return value.__name__
    if callable(value):
        return (type(value), getattr(value, "__module__", None), getattr(value, "__name__", None))
    return type(value)
