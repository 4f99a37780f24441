"""Where a program of one point gets what it reads, in a kernel, and what it gives at a point."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import Literal

from jaxlsq.lowering.arrays import Lowering, listed
from jaxlsq.lowering.elementwise import elementwise
from jaxlsq.lowering.emitter import Value, type_name
from jaxlsq.lowering.point_program import Input, PointProgram

__all__ = ["Reader", "memory_type", "shared_number"]


def memory_type(dtype: Any) -> np.dtype[Any]:
    """The type of an array's elements in memory; booleans are bytes there."""
    return np.dtype(np.int8) if np.dtype(dtype).kind == "b" else np.dtype(dtype)


def shared_number(lowering: Lowering, pointer: str, place: Any, dtype: Any) -> Value:
    """A number that all lanes share, from an array."""
    e = lowering.emitter
    scalar = e.scalar(pointer, type_name(memory_type(dtype)), place)
    if np.dtype(dtype).kind == "b":
        scalar = e.named(f"icmp ne i8 {scalar}, 0")
    return e.spread(scalar, dtype)


class Reader:
    """A program of one point, where it reads its inputs.

    Parameters
    ----------
    lowering : Lowering
    program : PointProgram
    pointers : sequence of str
        Of each input: of the arrays that all lanes share, and of the registers, element by
        element, where lanes have their own.
    xs : sequence of arrays of values
        The parameters.
    """

    def __init__(
        self, lowering: Lowering, program: PointProgram, pointers: Sequence[str], xs: Sequence[Any]
    ) -> None:
        self.lowering: Lowering = lowering
        self.program: PointProgram = program
        self.pointers: Sequence[str] = pointers
        jaxpr = program.jaxpr
        consts = map(lowering.lift, program.consts)
        self._known = dict(zip(jaxpr.constvars, consts, strict=True))
        self._known.update(zip(jaxpr.invars[: len(xs)], xs, strict=True))
        self._inputs = list(zip(jaxpr.invars[len(xs) :], program.inputs, pointers, strict=True))
        for v, one, pointer in self._inputs:
            if not one.of_point:
                self._known[v] = self._whole(one, pointer)
        # What does not depend on the point is computed here, once.
        self._left = []
        for eqn in jaxpr.eqns:
            if all(isinstance(v, Literal) or v in self._known for v in eqn.invars):
                arguments = [
                    lowering.literal(v) if isinstance(v, Literal) else self._known[v]
                    for v in eqn.invars
                ]
                found = lowering.equation(eqn, arguments)
                self._known.update(zip(eqn.outvars, found, strict=True))
            else:
                self._left.append(eqn)

    def at(self, i: str) -> list[Any]:
        """The results at a point, arrays of values."""
        return [one for (one,) in self.abreast([i])]

    def abreast(self, places: Sequence[str]) -> list[Sequence[Any]]:
        """Of each result the arrays at some points, whose loops take their turns together."""
        count = len(places)
        values: dict[Any, Any] = {v: [known] * count for v, known in self._known.items()}
        for v, one, pointer in self._inputs:
            if one.of_point:
                values[v] = [self._at(one, pointer, i) for i in places]

        def value(v):
            return [self.lowering.literal(v)] * count if isinstance(v, Literal) else values[v]

        for eqn in self._left:
            found = self.lowering.abreast(eqn, [value(v) for v in eqn.invars], count)
            values.update(zip(eqn.outvars, found, strict=True))
        return [value(v) for v in self.program.jaxpr.outvars]

    def _whole(self, one: Input, pointer: str):
        """An input without points."""
        if one.of_lane:
            read = self.lowering.emitter.loads(pointer, memory_type(one.dtype), one.size)
            read = [self._typed(v, one.dtype) for v in read]
        else:
            numbers = range(one.size)
            read = [shared_number(self.lowering, pointer, j, one.dtype) for j in numbers]
        return listed(read).reshape(one.part)

    def _at(self, one: Input, pointer: str, i: str):
        """The part of an input that belongs to a point."""
        e, kind = self.lowering.emitter, memory_type(one.dtype)
        read = []
        for j in range(one.size):
            place = e.sum(i, e.product("%points", j)) if j else i
            if one.of_lane:
                address = e.address(pointer, e.vector(kind), place)
                here = e.load(address, kind, e.width * kind.itemsize)
                read.append(self._typed(here, one.dtype))
            else:
                read.append(shared_number(self.lowering, pointer, place, one.dtype))
        return listed(read).reshape(one.part)

    def _typed(self, value, dtype):
        """A value of memory in the type that it stands for."""
        if value.dtype == dtype:
            return value
        return elementwise(self.lowering.emitter, "convert_element_type", {}, [value], dtype)
