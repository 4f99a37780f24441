"""Loops and branches on registers: a loop goes on while any lane is in it."""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jaxlsq.lowering.elementwise import elementwise
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.lowering.structural import boxed
from jaxlsq.tracing.parts import opened, scan_counts, scan_turns

__all__ = ["LOOPS", "Carry", "selected", "whiles"]

Array: TypeAlias = NDArray[Any]

# Operations that all turns of a loop may have together to be written one after the other.
UNROLLED = 60_000


class Carry:
    """Arrays in memory, between the turns of a loop.

    Parameters
    ----------
    emitter : Emitter
    arrays : sequence of arrays
        What they are at first.
    """

    def __init__(self, emitter: Any, arrays: Sequence[Array]) -> None:
        self.emitter: Any = emitter
        self.types: list[Array] = []
        self.slots: list[Array] = []
        for array in arrays:
            places = np.empty(array.shape, object)
            types = np.empty(array.shape, object)
            for index in np.ndindex(*array.shape):
                places[index] = emitter.slot(emitter.vector(array[index].dtype))
                types[index] = array[index].dtype
                emitter.store(array[index], places[index])
            self.slots.append(places)
            self.types.append(types)

    def load(self) -> list[Array]:
        """What they are now."""
        out = []
        for places, types in zip(self.slots, self.types, strict=True):
            array = np.empty(places.shape, object)
            for index in np.ndindex(*places.shape):
                array[index] = self.emitter.load(places[index], types[index])
            out.append(array)
        return out

    def choose(self, mask: Any, arrays: Sequence[Array]) -> None:
        """Give them other values in the lanes of a mask."""
        pairs = zip(arrays, self.load(), strict=True)
        self.store([selected(self.emitter, mask, new, old) for new, old in pairs])

    def store(self, arrays: Sequence[Array]) -> None:
        """Give them other values."""
        for places, array in zip(self.slots, arrays, strict=True):
            for index in np.ndindex(*places.shape):
                self.emitter.store(array[index], places[index])


def selected(emitter: Any, mask: Any, yes: Array, no: Array) -> Array:
    """``where(mask, yes, no)`` with one mask for all elements."""
    out = np.empty(yes.shape, object)
    for index in np.ndindex(*yes.shape):
        choice = [mask, no[index], yes[index]]
        out[index] = elementwise(emitter, "select_n", {}, choice, yes[index].dtype)
    return out


def _while(lowering, params, arguments):
    return whiles(lowering, params, [arguments])[0]


def whiles(lowering: Any, params: dict[str, Any], several: Sequence[Any]) -> list[list[Array]]:
    """The results of a ``while`` for several lists of arguments, that take their turns together.

    Each turn of one waits for the one before; with others between, the processor need not.
    """
    emitter = lowering.emitter
    c, b = params["cond_nconsts"], params["body_nconsts"]
    goes, steps = opened(params["cond_jaxpr"]), opened(params["body_jaxpr"])
    carries = [Carry(emitter, arguments[c + b :]) for arguments in several]

    def enter():
        states = [carry.load() for carry in carries]
        masks = []
        for arguments, state in zip(several, states, strict=True):
            (on,) = lowering.run(*goes, [*arguments[:c], *state])
            if on.ndim:  # many loops that `vmap` made one, each with an end of its own
                raise NotLowered("loops of while side by side")
            masks.append(lowering.of_held(on[()]))
        any_on = reduce(lambda a, b: lowering.op("or", a, b, dtype=bool), masks)
        return (states, masks), emitter.any(any_on)

    def turn(present):
        for carry, arguments, state, on in zip(carries, several, *present, strict=True):
            own = lowering.within(on)  # loops inside do not wait for lanes that have left
            carry.choose(on, own.run(*steps, [*arguments[c : c + b], *state]))

    emitter.loop(enter, turn)
    return [carry.load() for carry in carries]


def _scan(lowering, params, arguments):
    """What is scanned over has a known length: written out where that is short."""
    jaxpr, inner = opened(params["jaxpr"])
    computed = sum(v.aval.size for eqn in jaxpr.eqns for v in eqn.outvars)
    if params["length"] * computed > UNROLLED:
        return _looped(lowering, params, arguments)

    def turn(given):
        return lowering.run(jaxpr, inner, given)

    carry, columns = scan_turns(params, arguments, turn, _row)
    shapes = [v.aval.shape for v in jaxpr.outvars[len(carry) :]]
    return carry + [
        np.stack(rows) if rows else np.empty((0, *shape), object)
        for rows, shape in zip(columns, shapes, strict=True)
    ]


def _looped(lowering, params, arguments):
    """A scan as a loop, whose rows are in memory."""
    emitter, (consts, carried) = lowering.emitter, scan_counts(params)
    body, length = opened(params["jaxpr"]), params["length"]
    of_all, carry = arguments[:consts], Carry(emitter, arguments[consts : consts + carried])
    given = [_Rows(emitter, length, v.aval) for v in body[0].invars[consts + carried :]]
    made = [_Rows(emitter, length, v.aval) for v in body[0].outvars[carried:]]
    for rows, x in zip(given, arguments[consts + carried :], strict=True):
        for k in range(length):
            rows.store(k, _row(x, k))

    def turn(k):
        if params["reverse"]:
            k = emitter.named(f"sub i64 {length - 1}, {k}")
        out = lowering.run(*body, [*of_all, *carry.load(), *(x.load(k) for x in given)])
        carry.store(out[:carried])
        for rows, row in zip(made, out[carried:], strict=True):
            rows.store(k, row)

    emitter.repeat("0", str(length), turn)
    return carry.load() + [np.stack([x.load(k) for k in range(length)]) for x in made]


class _Rows:
    """Arrays of one shape in memory, one after the other."""

    def __init__(self, emitter, length, aval):
        self._emitter, self._shape, self._dtype = emitter, aval.shape, aval.dtype
        self._slot = emitter.slot(emitter.vector(aval.dtype), length * max(aval.size, 1))

    def _places(self, k):
        e, size = self._emitter, math.prod(self._shape)
        for j, index in enumerate(np.ndindex(*self._shape)):
            place = e.sum(e.product(k, size), j) if isinstance(k, str) else k * size + j
            yield index, e.address(self._slot, e.vector(self._dtype), place)

    def load(self, k):
        """One of them, by a number or a scalar operand."""
        out = np.empty(self._shape, object)
        for index, place in self._places(k):
            out[index] = self._emitter.load(place, self._dtype, self._align)
        return out

    def store(self, k, array):
        """Another one in its place."""
        for index, place in self._places(k):
            self._emitter.store(array[index], place, self._align)

    @property
    def _align(self):
        return self._emitter.alignment(self._dtype)


def _row(x, k):
    return x[k] if isinstance(x[k], np.ndarray) else boxed(x[k])


def _cond(lowering, params, arguments):
    """All branches, each for its own lanes: of the others a loop in it may have no end."""
    which, *operands = arguments
    branches = [opened(branch) for branch in params["branches"]]
    last, known = len(branches) - 1, which[()].known
    if known is not None:
        return lowering.run(*branches[min(max(int(known), 0), last)], operands)
    emitter, out = lowering.emitter, []
    for k, branch in enumerate(branches):
        number = emitter.constant(k, which[()].dtype)
        word = "eq" if which[()].dtype == bool or 0 < k < last else "le" if k == 0 else "ge"
        here = elementwise(emitter, word, {}, [which[()], number], bool)
        found = lowering.within(here).run(*branch, operands)
        pairs = zip(found, out or found, strict=True)
        out = [selected(emitter, here, yes, no) for yes, no in pairs]
    return out


LOOPS: dict[str, Callable[..., list[Array]]] = {"while": _while, "scan": _scan, "cond": _cond}
