"""A JAX function of scalars on arrays, through the lowering: a vector of elements at a time."""

import ctypes

import jax
import numpy as np

from jaxlsq.lowering.arrays import Lowering
from jaxlsq.lowering.elementwise import elementwise
from jaxlsq.lowering.emitter import Emitter
from jaxlsq.lowering.structural import boxed
from jaxlsq.lowering.target import compile_text, host


def mapped(function, *types):
    """``function`` of scalars of some types, as a function of arrays."""
    types, target = [np.dtype(t) for t in types], host()
    with jax.enable_x64(True):
        scalars = [jax.ShapeDtypeStruct((), t) for t in types]
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*scalars)
    width = target.width(types[0])
    emitter = Emitter(width)
    pointers = [f"%p{k}" for k in range(len(types) + 1)]
    is_bool = shape.dtype.kind == "b"
    stored = np.dtype(np.int8) if is_bool else shape.dtype

    def body(i):
        inputs = []
        for pointer, dtype in zip(pointers, types, strict=False):
            place = emitter.address(pointer, emitter.vector(dtype), i)
            inputs.append(boxed(emitter.load(place, dtype, dtype.itemsize)))
        (out,) = Lowering(emitter).run(closed.jaxpr, closed.consts, inputs)
        value = out[()]
        if is_bool:
            value = elementwise(emitter, "convert_element_type", {}, [value], stored)
        place = emitter.address(pointers[-1], emitter.vector(stored), i)
        emitter.store(value, place, stored.itemsize)

    emitter.repeat("0", "%count", body)
    emitter.do("ret void")
    names = ", ".join(f"ptr noalias {p}" for p in pointers)
    text = emitter.function(f"void @mapped({names}, i64 %count) #0")
    attributes = f"attributes #0 = {{ {target.cpu_attributes} }}"
    text = "\n".join([*emitter.declared.values(), text, attributes])
    kinds = *[ctypes.c_void_p] * len(pointers), ctypes.c_int64
    call = compile_text(text, target).function("mapped", *kinds)

    def run(*arrays):
        size = np.size(arrays[0])
        groups = -(-size // width)
        inputs = [
            np.resize(a, groups * width).astype(t) for a, t in zip(arrays, types, strict=True)
        ]
        out = np.zeros(groups * width, stored)
        call(*(a.ctypes.data for a in (*inputs, out)), groups)
        return out[:size].astype(shape.dtype)

    return run
