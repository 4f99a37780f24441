"""A jaxpr on registers: its arrays are NumPy arrays whose elements are values of an emitter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jaxlsq.lowering.control import LOOPS, whiles
from jaxlsq.lowering.elementwise import ELEMENTWISE, elementwise
from jaxlsq.lowering.emitter import Emitter, Value
from jaxlsq.lowering.functions import FUNCTIONS, call_function
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.lowering.structural import REDUCTIONS, STRUCTURAL, reduced
from jaxlsq.tracing.jaxprs import called, interpret
from jaxlsq.tracing.types import Equation, Jaxpr

__all__ = ["Lowering", "is_lowered", "listed"]

Array: TypeAlias = NDArray[Any]


def is_lowered(eqn: Equation) -> bool:
    """Whether there is an instruction, or something that stands for one, for an equation."""
    name = eqn.primitive.name
    tables = ELEMENTWISE, FUNCTIONS, STRUCTURAL, REDUCTIONS, LOOPS
    return any(name in table for table in tables) or called(eqn) is not None


@dataclass
class Lowering:
    """Writes jaxprs with an emitter.

    Attributes
    ----------
    emitter : Emitter
    held : Value or None
        The lanes that have a problem, while the user's model is written: none of its loops waits
        for the others, for whose numbers it may have no end.  None for all lanes.
    """

    emitter: Emitter
    held: Value | None = None
    # The arrays of literals and constants, by their content.
    _lifted: dict[Any, Array] = field(default_factory=dict)

    def lift(self, number: Any) -> Array:
        """An array of numbers that are known."""
        number = np.asarray(number)
        key = number.dtype, number.shape, number.tobytes()
        if key not in self._lifted:
            out = np.empty(number.shape, object)
            for index in np.ndindex(*number.shape):
                out[index] = self.emitter.constant(number[index], number.dtype)
            self._lifted[key] = out
        return self._lifted[key]

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Array]) -> list[Array]:
        """The outputs of an open jaxpr; constants are numbers."""
        lifted = [c if _is_lifted(c) else self.lift(c) for c in consts]
        return interpret(jaxpr, lifted, inputs, self.equation, lambda atom, _: self.literal(atom))

    def literal(self, atom: Any) -> Array:
        """A literal of a jaxpr, in the type that it has there."""
        return self.lift(np.asarray(atom.val, atom.aval.dtype))

    def equation(self, eqn: Equation, arguments: Sequence[Array]) -> list[Array]:
        """The results of an equation."""
        inner = called(eqn)
        if inner:
            return self.run(*inner, arguments)
        name, params = eqn.primitive.name, eqn.params
        if name in LOOPS:
            return LOOPS[name](self, params, arguments)
        if not eqn.outvars:  # the rows of an array that has none
            return []
        out = eqn.outvars[0].aval
        if name in STRUCTURAL:
            results = STRUCTURAL[name](self, eqn, arguments)
            return results if isinstance(results, list) else [results]
        if name in REDUCTIONS:
            return [reduced(self, eqn, arguments[0])]
        if name in ELEMENTWISE:
            write: Callable[..., Value] = elementwise
        elif name in FUNCTIONS:
            write = partial(call_function, self.run)
        else:
            raise NotLowered(f"the operation {name!r}")
        return [self.each(write, name, params, arguments, (out.shape, out.dtype))]

    def abreast(
        self, eqn: Equation, arguments: Sequence[Sequence[Array]], count: int
    ) -> list[Sequence[Array]]:
        """The results of an equation at several points, whose loops take their turns together.

        Parameters
        ----------
        eqn
        arguments : sequence
            Of each operand `count` arrays, one for each point; so are results.
        count : int
        """
        points = [[operand[k] for operand in arguments] for k in range(count)]
        if eqn.primitive.name == "while":
            found = whiles(self, eqn.params, points)
        else:
            found = [self.equation(eqn, point) for point in points]
        return list(zip(*found, strict=True))

    def each(
        self,
        write: Callable[..., Value],
        name: str,
        params: dict[str, Any],
        arguments: Sequence[Array],
        kind: tuple[tuple[int, ...], Any],
    ) -> Array:
        """A function of elements on arrays, of which some may be scalars."""
        shape, dtype = kind
        out = np.empty(shape, object)
        arguments = [a if a.shape == shape else np.broadcast_to(a, shape) for a in arguments]
        for index in np.ndindex(*shape):
            out[index] = write(self.emitter, name, params, [a[index] for a in arguments], dtype)
        return out

    # --- elements -----------------------------------------------------------------

    def op(self, name: str, *arguments: Value, dtype: Any = None) -> Value:
        """An elementwise primitive, of the type of its first argument if no other is given."""
        return elementwise(self.emitter, name, {}, arguments, dtype or arguments[0].dtype)

    def where(self, mask: Value, yes: Value, no: Value) -> Value:
        """One of two."""
        return self.op("select_n", mask, no, yes, dtype=yes.dtype)

    def all_of(self, *masks: Value) -> Value:
        """Where all masks are on."""
        return reduce(lambda a, b: self.op("and", a, b, dtype=bool), masks)

    def of_held(self, mask: Value) -> Value:
        """The part of a mask that is of lanes with a problem."""
        return mask if self.held is None else self.all_of(mask, self.held)

    def within(self, mask: Value) -> "Lowering":
        """The same for some of the lanes, in which alone loops go on."""
        return replace(self, held=self.of_held(mask))

    def invert(self, mask: Value) -> Value:
        """Where a mask is off."""
        return self.op("not", mask, dtype=bool)

    def compare(self, name: str, value: Value, number: Any) -> Value:
        """A comparison with a number."""
        return self.op(name, value, self.emitter.constant(number, value.dtype), dtype=bool)


def listed(values: Sequence[Value]) -> Array:
    """Values as an array."""
    out = np.empty(len(values), object)
    out[:] = values
    return out


def _is_lifted(value):
    return isinstance(value, np.ndarray) and value.dtype == object
