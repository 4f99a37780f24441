"""What machine code is given: arrays as it reads them, their addresses, memory to work in."""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.lowering.engine import read_by
from jaxlsq.lowering.inputs import ALIGNMENT
from jaxlsq.lowering.point_program import PointProgram
from jaxlsq.tracing.cache import PROGRAMS, program_key
from jaxlsq.tracing.compiler import COMPILER_OPTIONS
from jaxlsq.tracing.settings import has_64_bits, own_settings
from jaxlsq.tracing.trace import Traced

__all__ = ["Given", "Scratch", "addresses"]


def addresses(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """A table of pointers; the arrays have to live as long as it is used."""
    return np.array([array.ctypes.data for array in arrays], np.uintp)


class Scratch:
    """Memory to work in.

    Attributes
    ----------
    begin : c_void_p
    """

    def __init__(self, size: int) -> None:
        self._bytes = np.empty(size + ALIGNMENT, np.uint8)
        address = self._bytes.ctypes.data
        self.begin: ctypes.c_void_p = ctypes.c_void_p(address + -address % ALIGNMENT)


@dataclass(frozen=True)
class Given:
    """The inputs of a program of one point, for any lanes.

    Attributes
    ----------
    point : PointProgram
    ready : tuple of arrays or None
        What of the inputs all lanes share, arranged.
    beforehand : callable or None
        ``beforehand(leaves) -> list`` of what the lanes have of their own, computed before.
    """

    point: PointProgram
    ready: tuple[NDArray[Any] | None, ...]
    beforehand: Callable[..., Any] | None

    @classmethod
    def of(
        cls, point: PointProgram, traced: Traced, leaves: Sequence[Any], others: Sequence[Any]
    ) -> Self:
        """Of a traced function.

        Parameters
        ----------
        point : PointProgram
            Of it.
        traced : Traced
            Of parameters, a lane's leaves and the shared ones.
        leaves : sequence of arrays, or of their shapes and types
            The lanes' data.
        others : sequence of arrays
            That all lanes share.
        """
        of_all = [*others, *read_by(traced)]
        prepared, beforehand = _prepared(point, traced, leaves, of_all)
        inputs = [
            _arranged(one, of_all, prepared, len(leaves)) for one in point.inputs if not one.staged
        ]
        if point.stage:
            prepared, _ = _prepared(point.stage, traced, leaves, of_all)
            inputs += [_arranged(one, of_all, prepared, len(leaves)) for one in point.stage.inputs]
        return cls(point, tuple(inputs), beforehand)

    def arrays(self, leaves: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """What the machine code reads of lanes whose data are these."""
        before = self.beforehand(leaves) if self.beforehand else []
        out = []
        for one, ready in zip(self.point.given, self.ready, strict=True):
            if ready is None:
                given = leaves[one.source] if one.source >= 0 else before[-1 - one.source]
                ready = one.arranged(given)
            out.append(ready)
        return out


def _arranged(one, of_all, prepared, lanes):
    """An input that all lanes share; None for others."""
    if one.of_lane:
        return None
    return one.arranged(
        of_all[one.source - lanes] if one.source >= 0 else prepared[-1 - one.source]
    )


def _prepared(point, traced, leaves, of_all):
    """What is computed beforehand: of all lanes, now; and of each, a function of their leaves."""
    if point.beforehand is None:
        return [], None
    own = point.prepared_of_lane

    def shared_part(of_all):
        blank = [jnp.zeros(v.shape[1:], v.dtype) for v in leaves]
        values = point.beforehand(*blank, *of_all)
        return [None if o else v for v, o in zip(values, own, strict=True)]

    def lane_part(leaves, of_all):
        def one(*leaves):
            values = point.beforehand(*leaves, *of_all)
            return [v if o else None for v, o in zip(values, own, strict=True)]

        return jax.vmap(one)(*leaves)

    def compiled_once(kind, function, *arguments):
        key = program_key((traced,), kind, (own, point.inputs), arguments)

        def compile_():
            program = jax.jit(function, compiler_options=COMPILER_OPTIONS)
            return program.lower(*arguments).compile()

        with own_settings():
            return PROGRAMS.get(key, compile_)

    # What belongs to lanes is not read of this.
    prepared = [None] * len(own)
    if not all(own):
        prepared = compiled_once("shared", shared_part, of_all)(of_all)
    if not any(own):
        return prepared, None
    wide = has_64_bits()

    def beforehand(leaves):
        with jax.enable_x64(wide):
            call = compiled_once("own", lane_part, leaves, of_all)
            return [None if v is None else np.asarray(v) for v in call(leaves, of_all)]

    return prepared, beforehand
