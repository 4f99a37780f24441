"""What a kernel's program of one point reads: where it lies, and how lanes are given it."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxlsq.lowering.arrays import Lowering
from jaxlsq.lowering.emitter import Emitter, type_name
from jaxlsq.lowering.point_program import PointProgram
from jaxlsq.lowering.reading import Reader, memory_type

__all__ = ["ALIGNMENT", "Inputs", "input_bytes", "take_numbers"]

ALIGNMENT = 64


def input_bytes(point: PointProgram, width: int, points: int) -> int:
    """Bytes of scratch memory for the lanes' data, and for what the stage computes."""
    return sum(size * points + ALIGNMENT for size in _sizes(point, width))


def _sizes(point, width):
    """Bytes for each point, of the inputs that are there."""
    own = [i for i in point.inputs if i.of_point and (i.of_lane or i.staged)]
    return [i.size * memory_type(i.dtype).itemsize * (width if i.of_lane else 1) for i in own]


def take_numbers(
    e: Emitter, source: tuple[str, str], target: tuple[str, str], kind: tuple[int, Any]
) -> None:
    """Numbers of a problem, ``source = (array, row)``, into an element of registers.

    `target` are the registers' memory and the lane, `kind` are how many numbers of which type.
    """
    (array, row), (slot, lane), (size, dtype) = source, target, kind
    name = type_name(memory_type(dtype))
    begin = e.product(row, size)
    for j in range(size):
        one = e.scalar(array, name, e.sum(begin, j))
        e.put(one, slot, name, e.sum(lane, j * e.width))


class Inputs:
    """Of a program of one point; the kernel's arguments are ``%table``, ``%scratch``, ``%points``.

    Parameters
    ----------
    lowering : Lowering
    point : PointProgram
    first : int
        Its first pointer's place in the table.

    Attributes
    ----------
    end : str
        The scratch memory behind what is here.
    """

    def __init__(self, lowering: Lowering, point: PointProgram, first: int) -> None:
        self.lowering: Lowering = lowering
        self.point: PointProgram = point
        e = lowering.emitter
        table = [
            e.read(f"load ptr, ptr {e.address('%table', 'ptr', first + k)}")
            for k in range(len(point.given))
        ]
        self._pointers: list[str] = []
        self._sources: list[Any] = []
        offset, given = "0", 0
        sizes = iter(_sizes(point, e.width))
        for one in point.inputs:
            self._sources.append(None if one.staged else table[given])
            given += not one.staged
            if one.of_point and (one.of_lane or one.staged):
                self._pointers.append(e.address("%scratch", "i8", offset))
                end = e.sum(e.sum(offset, e.product("%points", next(sizes))), ALIGNMENT - 1)
                offset = e.named(f"and i64 {end}, {-ALIGNMENT}")
            elif one.of_lane:
                self._pointers.append(e.slot(e.vector(memory_type(one.dtype)), one.size))
            else:
                self._pointers.append(self._sources[-1])
        self.end: str = e.address("%scratch", "i8", offset)
        self._of_stage = table[given:]

    def reader(self, xs: Iterable[Any]) -> Reader:
        """The program at some parameters."""
        return Reader(self.lowering, self.point, self._pointers, list(xs))

    def run_stage(self) -> None:
        """Compute what the stage does, of all points."""
        e, point = self.lowering.emitter, self.point
        if point.stage is None:
            return
        reader = Reader(self.lowering, point.stage, self._of_stage, ())
        staged = [(i, p) for i, p in zip(point.inputs, self._pointers, strict=True) if i.staged]

        def at_point(i):
            results = reader.at(i)
            for one, pointer in staged:
                kind = type_name(memory_type(one.dtype))
                for j, value in enumerate(results[one.source].ravel()):
                    if value.dtype == bool:
                        value = self.lowering.op("convert_element_type", value, dtype=np.int8)
                    e.put(
                        e.first(value), pointer, kind, e.sum(i, e.product("%points", j) if j else 0)
                    )

        e.repeat("0", "%points", at_point)

    def give(self, data: str, lane: str) -> None:
        """Give a lane the data of a data set; both are scalars of 64 bits."""
        for one, source, pointer in zip(
            self.point.inputs, self._sources, self._pointers, strict=True
        ):
            if one.of_lane and one.of_point:
                self._take_points((source, data), (pointer, lane), one)
            elif one.of_lane:
                kind = one.size, one.dtype
                take_numbers(self.lowering.emitter, (source, data), (pointer, lane), kind)

    def _take_points(self, source: tuple[str, str], target: Sequence[str], one: Any) -> None:
        """A data set's points into a lane's elements of the buffer."""
        e, (array, row), (buffer, lane) = self.lowering.emitter, source, target
        kind = type_name(memory_type(one.dtype))
        size = e.product("%points", one.size)
        begin = e.product(row, size)

        def take(i):
            scalar = e.scalar(array, kind, e.sum(begin, i))
            e.put(scalar, buffer, kind, e.sum(e.product(i, e.width), lane))

        e.repeat("0", size, take)
