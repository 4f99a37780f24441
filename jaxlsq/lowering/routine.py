"""A jaxpr of a few numbers as a function of machine code: a microsecond where XLA takes fifty."""

from typing import Any

import numpy as np

from jaxlsq.lowering.arrays import Lowering
from jaxlsq.lowering.emitter import Emitter, type_name
from jaxlsq.lowering.mode import flush_subnormals, restore_mode
from jaxlsq.lowering.target import Target

__all__ = ["routine_text"]


def routine_text(closed: Any, target: Target) -> str:
    """A module of LLVM IR with ``routine(*inputs, *results)``, of the addresses of arrays.

    Each array is contiguous.  All inputs are read before a result is written, so that they may
    overlap.  Subnormals are zero inside, as they are in XLA.

    Parameters
    ----------
    closed : ClosedJaxpr
        Of arrays so small that each element may be in a register.
    target : Target

    Raises
    ------
    NotLowered
        If there is something in it that can't be compiled.
    """
    jaxpr, emitter = closed.jaxpr, Emitter(1)
    mode = flush_subnormals(emitter, target.architecture)
    inputs = [_read(emitter, f"%in{k}", v.aval) for k, v in enumerate(jaxpr.invars)]
    results = Lowering(emitter).run(jaxpr, closed.consts, inputs)
    for k, values in enumerate(results):
        for i, value in enumerate(values.ravel()):
            emitter.put(emitter.first(value), f"%out{k}", type_name(value.dtype), i)
    restore_mode(emitter, target.architecture, mode)
    emitter.do("ret void")
    names = [f"ptr %in{k}" for k in range(len(inputs))]
    names += [f"ptr %out{k}" for k in range(len(results))]
    return emitter.module(f"void @routine({', '.join(names)})", target.cpu_attributes)


def _read(emitter, pointer, aval):
    """An array from memory."""
    out = np.empty(aval.shape, object)
    for i, index in enumerate(np.ndindex(*aval.shape)):
        one = emitter.scalar(pointer, type_name(aval.dtype), i)
        out[index] = emitter.spread(one, aval.dtype)
    return out
