"""LLVM IR as text: vector instructions in which each element belongs to another lane.

Text is all that LLVM needs, and its own parser and verifier read it (`jaxlsq.lowering.target`).
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxlsq.lowering.not_lowered import NotLowered

__all__ = ["Emitter", "Value", "literal", "type_name"]

_TYPES = {"float32": "float", "float64": "double", "bool": "i1"}


def type_name(dtype: Any) -> str:
    """LLVM's name of a NumPy type; booleans are one bit.

    Raises
    ------
    NotLowered
        For a type that has no arithmetic here: half precision, complex, and those of `ml_dtypes`,
        which NumPy takes for bytes of no kind.
    """
    dtype = np.dtype(dtype)
    if dtype.name in _TYPES:
        return _TYPES[dtype.name]
    if dtype.kind not in "iu":
        raise NotLowered(f"numbers of type {dtype}")
    return f"i{8 * dtype.itemsize}"


def literal(number: Any, dtype: Any) -> str:
    """A number as LLVM writes it; real numbers by the bits of their double."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return f"0x{struct.unpack('<Q', struct.pack('<d', dtype.type(number)))[0]:016X}"
    if dtype.kind == "b":
        return "true" if number else "false"
    return str(int(number))


@dataclass(frozen=True, slots=True)
class Value:
    """One number of each lane.

    Attributes
    ----------
    name : str
        LLVM's operand.
    dtype : dtype
    known : number or None
        Where it is a constant.
    is_exact : bool
        Whether a division by it is to be rounded once.
    """

    name: str
    dtype: np.dtype[Any]
    known: Any = None
    is_exact: bool = False


class Emitter:
    """Writes one LLVM function, instruction by instruction.

    What is computed twice is written once: an instruction without effects is known by its text,
    as long as the block that it is in dominates the present one (see `scope`).

    Parameters
    ----------
    width : int
        Lanes.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.declared: dict[str, str] = {}
        self._entry: list[str] = []
        self._lines: list[str] = []
        self._count = 0
        self._known: list[dict[Any, Any]] = [{}]

    # --- names and types ----------------------------------------------------------

    def vector(self, dtype: Any) -> str:
        """The type of a value."""
        return f"<{self.width} x {type_name(dtype)}>"

    def constant(self, number: Any, dtype: Any) -> Value:
        """The same number in all lanes."""
        dtype = np.dtype(dtype)
        number = dtype.type(number)
        text = f"splat ({type_name(dtype)} {literal(number, dtype)})"
        return Value(text, dtype, number)

    def fresh(self, prefix: str = "v") -> str:
        """A name that has not been used."""
        self._count += 1
        return f"{prefix}{self._count}"

    # --- instructions ---------------------------------------------------------------

    def named(self, text: str) -> str:
        """An instruction with a result and no effect; returns the operand that is its result."""
        for known in reversed(self._known):
            if text in known:
                return known[text]
        name = "%" + self.fresh()
        self._lines.append(f"  {name} = {text}")
        self._known[-1][text] = name
        return name

    def value(self, text: str, dtype: Any) -> Value:
        """An instruction whose result is a number of each lane."""
        return Value(self.named(text), np.dtype(dtype))

    def read(self, text: str) -> str:
        """An instruction with a result that may be another one next time: a load."""
        name = "%" + self.fresh()
        self._lines.append(f"  {name} = {text}")
        return name

    def scalar(self, pointer: str, kind: str, index: Any) -> str:
        """An element of an array, as a scalar operand."""
        return self.read(f"load {kind}, ptr {self.address(pointer, kind, index)}")

    def put(self, scalar: str, pointer: str, kind: str, index: Any) -> None:
        """A scalar operand to an element of an array."""
        self.do(f"store {kind} {scalar}, ptr {self.address(pointer, kind, index)}")

    def do(self, text: str) -> None:
        """An instruction with an effect and no result."""
        self._lines.append(f"  {text}")

    def declare(self, name: str, result: str, arguments: str) -> str:
        """A function from elsewhere, declared once."""
        self.declared[name] = f"declare {result} @{name}({arguments})"
        return f"@{name}"

    def intrinsic(self, name: str, *arguments: Value) -> Value:
        """One of LLVM's functions of vectors, of arguments and a result of one type."""
        dtype = arguments[0].dtype
        vector = self.vector(dtype)
        kind = f"f{8 * dtype.itemsize}" if dtype.kind == "f" else type_name(dtype)
        called = f"llvm.{name}.v{self.width}{kind}"
        self.declare(called, vector, ", ".join([vector] * len(arguments)))
        operands = ", ".join(f"{vector} {a.name}" for a in arguments)
        return self.value(f"call {vector} @{called}({operands})", dtype)

    # --- memory -----------------------------------------------------------------------

    def slot(self, kind: str, count: int = 1) -> str:
        """Memory of this call of the function, as a pointer."""
        name = "%" + self.fresh("slot")
        self._entry.append(f"  {name} = alloca {kind}, i64 {count}, align 64")
        return name

    def alignment(self, dtype: Any) -> int:
        """Of a value in an array of such; booleans are packed."""
        dtype = np.dtype(dtype)
        return 1 if dtype.kind == "b" else self.width * dtype.itemsize

    def address(self, pointer: str, kind: str, index: Any) -> str:
        """Of an element of an array."""
        return self.named(f"getelementptr {kind}, ptr {pointer}, i64 {index}")

    def loads(self, pointer: str, dtype: Any, count: int) -> list[Value]:
        """Several values from memory."""
        kind = self.vector(dtype)
        return [self.load(self.address(pointer, kind, k), dtype) for k in range(count)]

    def load(self, pointer: str, dtype: Any, align: int = 64) -> Value:
        """A value from memory."""
        vector = self.vector(dtype)
        return Value(self.read(f"load {vector}, ptr {pointer}, align {align}"), np.dtype(dtype))

    def store(self, value: Value, pointer: str, align: int = 64) -> None:
        """A value to memory."""
        self.do(f"store {self.vector(value.dtype)} {value.name}, ptr {pointer}, align {align}")

    def first(self, value: Value) -> str:
        """The number of the first lane, as a scalar operand."""
        return self.named(f"extractelement {self.vector(value.dtype)} {value.name}, i64 0")

    def spread(self, scalar: str, dtype: Any) -> Value:
        """A scalar operand in all lanes."""
        kind, vector = type_name(dtype), self.vector(dtype)
        one = self.named(f"insertelement {vector} poison, {kind} {scalar}, i64 0")
        zeros = f"<{self.width} x i32> zeroinitializer"
        return self.value(f"shufflevector {vector} {one}, {vector} poison, {zeros}", dtype)

    # --- scalars of 64 bits: places and numbers of problems --------------------------

    def product(self, i: Any, j: Any) -> str:
        """``i * j``."""
        return str(j) if i == 1 else str(i) if j == 1 else self.named(f"mul nsw i64 {i}, {j}")

    def sum(self, i: Any, j: Any) -> str:
        """``i + j``."""
        return str(i) if j in (0, "0") else self.named(f"add nsw i64 {i}, {j}")

    def lesser(self, i: str, j: str) -> str:
        """The smaller one of two."""
        return self.named(f"select i1 {self.named(f'icmp slt i64 {i}, {j}')}, i64 {i}, i64 {j}")

    # --- control ----------------------------------------------------------------------

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is written inside is not known outside: it may not have been executed."""
        self._known.append({})
        try:
            yield
        finally:
            self._known.pop()

    def begin(self, label: str) -> None:
        """Begin a block, to which control has been given by a branch."""
        self._lines.append(f"{label}:")

    def go(self, label: str) -> None:
        """End a block with a jump."""
        self.do(f"br label %{label}")

    def fork(self, condition: str, then: str, otherwise: str, likely: bool | None = None) -> None:
        """End a block with a choice."""
        weight = "" if likely is None else f", !prof !{0 if likely else 1}"
        self.do(f"br i1 {condition}, label %{then}, label %{otherwise}{weight}")

    def any(self, mask: Value) -> str:
        """Whether any lane of a mask is on, as a scalar."""
        bits = self.named(f"bitcast {self.vector(bool)} {mask.name} to i{self.width}")
        return self.named(f"icmp ne i{self.width} {bits}, 0")

    @contextmanager
    def when(self, condition: str, likely: bool | None = None) -> Iterator[None]:
        """What is written inside is executed where a scalar condition holds."""
        then, after = self.fresh("then"), self.fresh("after")
        self.fork(condition, then, after, likely)
        self.begin(then)
        with self.scope():
            yield
        self.go(after)
        self.begin(after)

    def loop(self, enter: Callable[[], tuple[Any, str]], body: Callable[[Any], None]) -> None:
        """``body(state)`` while the condition of ``state, condition = enter()`` holds, a scalar."""
        head, inside, after = (self.fresh(name) for name in ("head", "inside", "after"))
        self.go(head)
        self.begin(head)
        with self.scope():
            state, condition = enter()
            self.fork(condition, inside, after)
            self.begin(inside)
            body(state)
            self.go(head)
        self.begin(after)

    def repeat(self, first: str, end: str, body: Callable[[str], None], step: int = 1) -> None:
        """``body(i)`` for a counter from `first` below `end`, scalars of 64 bits."""
        counter = self.slot("i64")
        self.do(f"store i64 {first}, ptr {counter}")

        def enter():
            i = self.read(f"load i64, ptr {counter}")
            return i, self.named(f"icmp slt i64 {i}, {end}")

        def turn(i):
            body(i)
            self.do(f"store i64 {self.named(f'add nsw i64 {i}, {step}')}, ptr {counter}")

        self.loop(enter, turn)

    # --- the whole ----------------------------------------------------------------------

    def function(self, signature: str) -> str:
        """The text of the function, of which `signature` is ``result @name(arguments)``."""
        lines = [f"define {signature} {{", "entry:", *self._entry, *self._lines, "}"]
        return "\n".join(lines)

    def module(self, signature: str, attributes: str) -> str:
        """The text of a module with the function, which is marked with `attributes`."""
        function = self.function(f"{signature} #0")
        declared = sorted(self.declared.values())
        return "\n".join([*declared, function, f"attributes #0 = {{ {attributes} }}"])
