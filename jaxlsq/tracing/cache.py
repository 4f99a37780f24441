"""Compiled programs, remembered from fit to fit."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax

from jaxlsq.tracing.structure import aval_key

__all__ = [
    "PROGRAMS",
    "Memory",
    "ProgramCache",
    "clear_cache",
    "pieces",
    "program_key",
    "remembering",
]

# Of the pieces of memory that Linux grants a process, 65,530, those that it may have before
# programs are dropped.  XLA's have some hundred each, up to a thousand; without more LLVM aborts.
MOST_PIECES = 45_000

# Settings of JAX that a program is compiled under and that are not in its arguments.
_SETTINGS = (
    *("jax_default_device", "jax_default_matmul_precision", "jax_enable_x64"),
    *("jax_threefry_partitionable", "jax_platforms"),
)


def program_key(
    traced: Sequence[Any],
    kind: str,
    statics: tuple[Any, ...],
    arguments: Any,
    options: Mapping[str, Any] | None = None,
) -> tuple[Any, ...] | None:
    """Everything that a compiled program depends on, or None if that can't be told.

    Parameters
    ----------
    traced : sequence of Traced
        The functions in it.
    kind : str
        Which program it is.
    statics : tuple
        What else it is made for, hashable.
    arguments : pytree of arrays
        What it is called with: only structure, shapes, types and placement count.
    options : dict, optional
        The compiler's.

    Returns
    -------
    tuple or None
    """
    if any(t.key is None for t in traced):
        return None
    leaves, tree = jax.tree.flatten(arguments)
    settings = tuple(getattr(jax.config, name, None) for name in _SETTINGS)
    return (
        kind,
        tuple(t.key for t in traced),
        statics,
        tree,
        tuple(map(aval_key, leaves)),
        (jax.default_backend(), settings),
        tuple(sorted((options or {}).items())),
    )


def pieces() -> int:
    """The pieces of memory that this process has; zero where the system does not say."""
    try:
        with open("/proc/self/maps", "rb") as file:
            return file.read().count(b"\n")
    except OSError:
        return 0


AnyMemory = TypeVar("AnyMemory", bound="Memory")


class Memory:
    """Values by key, the least recently used dropped first.

    Parameters
    ----------
    size : int
        Values kept.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._values = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def find(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or a default."""
        with self._lock:
            if key not in self._values:
                return default
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: Any, value: Any) -> None:
        """Remember a value."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self.size:
                self._values.popitem(last=False)

    def drop_half(self) -> None:
        """Forget those that were not used for longest."""
        with self._lock:
            for _ in range((len(self._values) + 1) // 2):
                self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()


class ProgramCache(Memory):
    """Compiled programs by structure; threads that ask for one at once compile it once.

    A program refers to nothing that it was compiled from: data reach it as
    arguments, also the first time.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._compiling = {}

    def get(self, key: Any, compile_: Callable[[], Any]) -> Any:
        """The program of `key`, made by ``compile_()`` if there is none.

        With None for a key, ``compile_()`` without keeping it.
        """
        if key is None:
            return compile_()
        program = self.find(key)
        if program is not None:
            return program
        with self._lock:
            mine = self._compiling.setdefault(key, threading.RLock())
        with mine:  # other programs' fits go on
            program = self.find(key)
            if program is None:
                try:
                    while len(self) and pieces() > MOST_PIECES:
                        self.drop_half()
                    program = compile_()
                    self.put(key, program)
                finally:
                    with self._lock:
                        self._compiling.pop(key, None)
        return program


PROGRAMS = ProgramCache(size=128)
_MEMORIES: list[Memory] = [PROGRAMS]


def remembering(memory: AnyMemory) -> AnyMemory:
    """A memory that `clear_cache` empties too."""
    _MEMORIES.append(memory)
    return memory


def clear_cache() -> None:
    """Forget all compiled programs, and what else was learnt about functions.

    Memory that JAX keeps for them is given back as far as JAX does; later fits compile again.

    Examples
    --------
    >>> import jaxlsq
    >>> jaxlsq.clear_cache()
    """
    for memory in _MEMORIES:
        memory.clear()
