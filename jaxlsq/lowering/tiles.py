"""Many sums of products over the points, some of them at a time.

With n parameters a point adds to some n^2 / 2 sums.  Where these are more than a processor has
registers, each has to be read from memory and written back at every point, which takes longer than
to add.  So a few points are computed first, and what is multiplied is kept; then a tile of sums
stays in registers while all of these points are added to it, and the next one.  Each sum adds its
points in their order, and rounds as it would without.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxlsq.lowering.arrays import Lowering, listed
from jaxlsq.lowering.control import Carry
from jaxlsq.lowering.emitter import Emitter, Value

__all__ = ["Step", "Terms", "Tiled", "registers", "with_terms"]

# Rows that are kept at a time: those of so many points, if each has one.
KEPT_ROWS = 16
# By a processor's registers, how many values are multiplied with how many in one tile.
SIDES = {16: 3, 32: 4}

# Of each row of a point a list, of one or two values: to be added, or multiplied and added.
Terms = Sequence[Sequence[Sequence[Value]]]


def registers(emitter: Emitter, dtype: Any) -> int:
    """How many a processor has for vectors: of 32 bytes 16, as x86 without AVX-512, else 32."""
    return 16 if emitter.width * np.dtype(dtype).itemsize == 32 else 32


def with_terms(
    lowering: Lowering, terms: Sequence[Sequence[Value]], sums: Sequence[Value]
) -> list[Value]:
    """Sums with one more term each."""

    def one(term, total):
        if len(term) == 2:
            return lowering.emitter.intrinsic("fma", *term, total)
        return lowering.op("add", *term, total)

    return [one(term, total) for term, total in zip(terms, sums, strict=True)]


@dataclass(frozen=True)
class Step:
    """How many points are computed before they are added, and how many rows each has."""

    rows: int
    points: int = 1

    def places(self, e: Emitter, i: str) -> list[str]:
        """The points from i on; the last one of all stands for those behind it."""
        more = range(1, self.points)
        last = e.named("sub i64 %points, 1") if more else ""
        return [i, *(e.lesser(e.sum(i, k), last) for k in more)]


@dataclass(frozen=True)
class _Plan:
    """Where the operands of terms are kept, and which terms are added together.

    Attributes
    ----------
    operands : list of tuples
        Of each term one or two: a `Value` that is a constant, or a place.
    size : int
        Places of a row.
    """

    operands: list[tuple[Any, ...]]
    size: int

    @classmethod
    def of(cls, terms: Terms) -> "_Plan":
        """What is the same value in all rows has one place."""
        places: dict[tuple[str, ...], int] = {}

        def operand(values):
            names = tuple(value.name for value in values)
            if values[0].known is not None and len(set(names)) == 1:
                return values[0]
            return places.setdefault(names, len(places))

        operands = [
            tuple(operand(values) for values in zip(*several, strict=True))
            for several in zip(*terms, strict=True)
        ]
        return cls(operands, len(places))

    def kept(self, row: Sequence[Sequence[Value]]) -> dict[int, Value]:
        """Of one row's terms, what is kept at each place."""
        pairs = zip(self.operands, row, strict=True)
        found = [pair for places, values in pairs for pair in zip(places, values, strict=True)]
        return {place: value for place, value in found if isinstance(place, int)}

    def tiles(self, side: int) -> list[list[int]]:
        """Terms of about side by side operands, by their numbers."""
        sides: tuple[dict[Any, int], ...] = ({}, {})
        tiles: dict[Any, list[int]] = {}
        for number, operands in enumerate(self.operands):
            key = tuple(
                seen.setdefault(operand if isinstance(operand, int) else None, len(seen)) // side
                for operand, seen in zip(operands, sides, strict=False)
            )
            tiles.setdefault(key, []).append(number)
        return list(tiles.values())


class Tiled:
    """Sums of `count` terms, in memory.

    Parameters
    ----------
    lowering : Lowering
    count : int
    dtype : dtype
    """

    def __init__(self, lowering: Lowering, count: int, dtype: Any) -> None:
        e = lowering.emitter
        self._lowering, self._dtype = lowering, np.dtype(dtype)
        self._kind = e.vector(dtype)
        memory = e.slot(self._kind, count)
        # Else LLVM has a variable for each of them, and no register for most.
        e.do(f"store volatile ptr {memory}, ptr {e.slot('ptr')}")
        self._places = [e.address(memory, self._kind, k) for k in range(count)]

    def load(self) -> Any:
        """The sums, (count,) values."""
        e = self._lowering.emitter
        return listed([e.load(place, self._dtype) for place in self._places])

    def store(self, sums: Sequence[Value]) -> None:
        """Give them other values."""
        for place, value in zip(self._places, sums, strict=True):
            self._lowering.emitter.store(value, place)

    def add(self, first: str, end: str, step: Step, terms: Callable[[list[str]], Terms]) -> None:
        """Add the points from `first` below `end`, of which ``terms(places)`` has the rows."""
        e, rows = self._lowering.emitter, step.rows
        points = step.points * max(1, KEPT_ROWS // (rows * step.points))

        def of_few(begin):
            stop = e.lesser(e.sum(begin, points), end)
            made = []

            def keep(i):
                found = terms(step.places(e, i))
                plan = _Plan.of(found)
                memory = e.slot(self._kind, points * rows * plan.size)
                kept = _Kept(e, memory, begin, rows, plan, self._dtype)
                for number, row in enumerate(found):
                    kept.store(i, number, row)
                made.append(kept)

            e.repeat(begin, stop, keep, step.points)
            (kept,) = made
            for tile in kept.plan.tiles(SIDES[registers(e, self._dtype)]):
                self._add_tile(tile, kept, begin, stop)

        e.repeat(first, end, of_few, points)

    def _add_tile(self, tile, kept, begin, stop):
        """Add points that are kept to the sums of some terms."""
        e, dtype = self._lowering.emitter, self._dtype
        places = [self._places[number] for number in tile]
        own = Carry(e, [listed([e.load(place, dtype) for place in places])])

        def add(i):
            sums: Any = own.load()[0]
            for number in range(kept.rows):
                sums = with_terms(self._lowering, kept.load(i, number, tile), sums)
            own.store([listed(sums)])

        e.repeat(begin, stop, add)
        for total, place in zip(own.load()[0], places, strict=True):
            e.store(total, place)


@dataclass(frozen=True)
class _Kept:
    """Operands of some points in memory, from point `begin` on."""

    emitter: Emitter
    memory: str
    begin: str
    rows: int
    plan: _Plan
    dtype: np.dtype[Any]

    def _address(self, i, row, place):
        e = self.emitter
        first = e.sum(e.product(e.named(f"sub nsw i64 {i}, {self.begin}"), self.rows), row)
        index = e.sum(e.product(first, self.plan.size), place)
        return e.address(self.memory, e.vector(self.dtype), index)

    def store(self, i, row, terms):
        """Keep those of a row's terms."""
        for place, value in self.plan.kept(terms).items():
            self.emitter.store(value, self._address(i, row, place))

    def load(self, i, row, numbers):
        """Some terms of a row."""
        read = {}

        def value(operand):
            if not isinstance(operand, int):
                return operand
            if operand not in read:
                read[operand] = self.emitter.load(self._address(i, row, operand), self.dtype)
            return read[operand]

        return [[value(operand) for operand in self.plan.operands[k]] for k in numbers]
