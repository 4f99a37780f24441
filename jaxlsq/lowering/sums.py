"""Sums over the points: J'J, J'f and f'f of each lane, and the largest of what is summed."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from jaxlsq.lowering.algebra import triangle
from jaxlsq.lowering.arrays import Lowering, listed
from jaxlsq.lowering.control import Carry
from jaxlsq.lowering.emitter import Value
from jaxlsq.lowering.reading import Reader
from jaxlsq.lowering.tiles import Step, Terms, Tiled, registers, with_terms

__all__ = [
    "Factors",
    "Sums",
    "accumulated",
    "largest_elements",
    "row_count",
    "summed",
    "sums_of",
]

# By a processor's registers, sums that it keeps in them as fast as in tiles: with more, tiles are
# up to 1.4 times as fast (six parameters: 1.2 times).
IN_REGISTERS = {16: 14, 32: 21}
# Points of one partial sum, so that rounding grows with the root of their number.
BLOCK = 128


class Sums(NamedTuple):
    """One half of J'J, J'f, and f'f, which with a loss is the sum of its values."""

    half: Any
    gradient: Any
    square: Any

    def times(self, lowering: Lowering, factors: "Factors") -> "Sums":
        """The sums of rows and columns times factors."""
        op, (row, columns) = lowering.op, factors
        half = [
            op("mul", op("mul", s, columns[i]), columns[j])
            for s, (i, j) in zip(self.half, triangle(len(columns)), strict=True)
        ]
        gradient = [
            op("mul", op("mul", s, c), row) for s, c in zip(self.gradient, columns, strict=True)
        ]
        square = op("mul", op("mul", self.square[()], row), row)
        return Sums(listed(half), listed(gradient), listed([square]).reshape(()))


class Factors(NamedTuple):
    """What rows and columns are multiplied with."""

    row: Value
    columns: Sequence[Value]

    def applied(self, lowering: Lowering, rows: Sequence[Value], columns: Sequence[Value]) -> Any:
        """Rows (the residual, or slope, curvature and value of a loss) and columns with them."""
        op = lowering.op
        scaled = [op("mul", rows[0], self.row)]
        if len(rows) > 1:
            scaled += [rows[1], op("mul", op("mul", rows[2], self.row), self.row)]
        return scaled, [op("mul", c, k) for c, k in zip(columns, self.columns, strict=True)]


def row_count(results: int, n: int) -> int:
    """Of so many results of a point, how many come before the n columns: `summands`."""
    return 1 if results == n + 1 else 3


def rows_and_columns(
    reader: Reader, n: int, places: Sequence[str]
) -> list[tuple[list[Value], list[Value]]]:
    """Of each residual of some points, its rows and its columns."""
    found = []
    for results in zip(*reader.abreast(places), strict=True):
        out = [v.ravel() for v in results]
        rows = row_count(len(out), n)
        found += [
            ([v[k] for v in out[:rows]], [v[k] for v in out[rows : rows + n]])
            for k in range(reader.program.rows)
        ]
    return found


def sums_of(lowering: Lowering, reader: Reader, n: int, factors: Factors | None = None) -> Sums:
    """The sums over all points.

    Parameters
    ----------
    lowering : Lowering
    reader : Reader
        Of a program whose results are rows, n columns, and more.
    n : int
        Parameters.
    factors : Factors, optional
    """

    def at_points(places):
        pairs = rows_and_columns(reader, n, places)
        return pairs if factors is None else [factors.applied(lowering, *pair) for pair in pairs]

    program = reader.program
    dtype = program.jaxpr.outvars[0].aval.dtype
    return accumulated(lowering, at_points, n, dtype, Step(program.rows, program.abreast))


def accumulated(
    lowering: Lowering, at_points: Callable[[Sequence[str]], Any], n: int, dtype: Any, step: Step
) -> Sums:
    """The sums of all pairs ``rows, columns`` of ``at_points(places)``, as `summed` takes them."""
    pairs = triangle(n)

    def terms(places):
        out = []
        for rows, columns in at_points(places):
            weighted = columns
            if len(rows) > 1:
                weighted = [lowering.op("mul", rows[1], c) for c in columns]
            products = [(weighted[a], columns[b]) for a, b in pairs]
            square = (rows[0], rows[0]) if len(rows) == 1 else (rows[2],)
            out.append([*products, *((c, rows[0]) for c in columns), square])
        return out

    sums = summed(lowering, terms, len(pairs) + n + 1, dtype, step)
    return Sums(sums[: len(pairs)], sums[len(pairs) : -1], sums[-1:].reshape(()))


def summed(
    lowering: Lowering, terms: Callable[[list[str]], Terms], count: int, dtype: Any, step: Step
) -> Any:
    """The sums over all points, and over a point's rows, of `count` terms.

    Parameters
    ----------
    lowering : Lowering
    terms : callable
        ``terms(places)`` is a list for each row of these points, in their order: of two values
        that are multiplied, or one.
    count : int
    dtype : dtype
    step : Step

    Returns
    -------
    (count,) array of values
    """
    e = lowering.emitter
    zeros: Any = listed([e.constant(0, dtype)] * count)
    kind = _InRegisters if count <= IN_REGISTERS[registers(e, dtype)] else Tiled
    whole, part = kind(lowering, count, dtype), kind(lowering, count, dtype)
    whole.store(zeros)

    def of_block(first):
        part.store(zeros)
        part.add(first, e.lesser(e.sum(first, BLOCK), "%points"), step, terms)
        pairs = zip(whole.load(), part.load(), strict=True)
        sums: Any = listed([lowering.op("add", old, more) for old, more in pairs])
        whole.store(sums)

    e.repeat("0", "%points", of_block, BLOCK)
    return whole.load()


class _InRegisters:
    """Sums of `count` terms as variables, which LLVM has registers for."""

    def __init__(self, lowering, count, dtype):
        self._lowering = lowering
        self._carry = Carry(lowering.emitter, [lowering.lift(np.zeros(count, dtype))])

    def load(self):
        return self._carry.load()[0]

    def store(self, sums):
        self._carry.store([sums])

    def add(self, first, end, step, terms):
        e = self._lowering.emitter

        def add(i):
            found, rows = terms(step.places(e, i)), step.rows
            for number in range(step.points):
                # The last point may be alone.
                there = e.named(f"icmp slt i64 {e.sum(i, number)}, {end}") if number else ""
                with e.when(there) if there else nullcontext():
                    sums: Any = self.load()
                    for row in found[number * rows : (number + 1) * rows]:
                        sums = with_terms(self._lowering, row, sums)
                    self.store(listed(sums))

        e.repeat(first, end, add, step.points)


def largest_elements(lowering: Lowering, reader: Reader, n: int) -> Any:
    """The largest of what is summed, by its size, and of each column: (1 + n,) values."""
    e = lowering.emitter
    dtype = reader.program.jaxpr.outvars[0].aval.dtype
    carry = Carry(e, [lowering.lift(np.zeros(1 + n, dtype))])
    op: Callable[..., Value] = lowering.op

    def at_point(i):
        largest: Any = carry.load()[0]
        for rows, columns in rows_and_columns(reader, n, [i]):
            sizes = [op("abs", v) for v in (rows[-1], *columns)]
            if len(rows) > 1:
                root = op("sqrt", rows[1])
                sizes[1:] = [op("mul", v, root) for v in sizes[1:]]
            largest = [op("max", a, b) for a, b in zip(largest, sizes, strict=True)]
        carry.store([listed(largest)])

    e.repeat("0", "%points", at_point)
    return carry.load()[0]
