"""A kernel inside programs of XLA, by its foreign function interface: no C compiler is needed.

The handler is a function of the same module.  It reads the addresses of its operands and results
from XLA's call frame, whose layout is that of ``xla/ffi/api/c_api.h``, and calls the kernel.
"""

import ctypes
import hashlib
import threading
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.lowering.inputs import ALIGNMENT
from jaxlsq.lowering.kernel import TABLE, Kernel, kernel_text, scratch_bytes
from jaxlsq.lowering.target import Code, Target, compile_text

__all__ = ["call_kernel", "registered"]

# Offsets in bytes: of the extensions, the operands and the results in a call frame; of the data and
# the lengths in a buffer; and in the extension by which XLA asks for the version of the interface.
_EXTENSION, _OPERANDS, _RESULTS = 8, 72, 112
_DATA, _DIMS = 24, 40
_KIND, _METADATA, _MAJOR, _MINOR = 8, 24, 24, 28
_METADATA_KIND = 1
# Operands before those of the table: lengths, and the order of the problems.
_BEFORE = 2

# Code that programs of XLA call, which must last as long as any of them, that is, for ever.
_REGISTERED: dict[str, Code] = {}
_LOCK = threading.Lock()


def _handler(inputs: int) -> str:
    """The handler of a kernel with so many inputs."""
    given = len(TABLE) - 2  # the others are results
    entries = len(TABLE) + inputs
    lines = [
        "define ptr @handler(ptr %frame) {",
        "entry:",
        f"  %table = alloca ptr, i64 {entries}, align 8",
        "  %stop = alloca i32, align 4",
        "  store i32 0, ptr %stop",
        *_loaded("extension", "ptr", "frame", _EXTENSION),
        "  %plain = icmp eq ptr %extension, null",
        "  br i1 %plain, label %run, label %ask",
        "ask:",
        *_loaded("kind", "i32", "extension", _KIND),
        f"  %wants = icmp eq i32 %kind, {_METADATA_KIND}",
        "  br i1 %wants, label %tell, label %run",
        "tell:",
        *_loaded("metadata", "ptr", "extension", _METADATA),
        f"  %major = getelementptr i8, ptr %metadata, i64 {_MAJOR}",
        "  store i32 0, ptr %major",
        f"  %minor = getelementptr i8, ptr %metadata, i64 {_MINOR}",
        "  store i32 1, ptr %minor",
        "  ret ptr null",
        "run:",
        *_loaded("operands", "ptr", "frame", _OPERANDS),
        *_loaded("results", "ptr", "frame", _RESULTS),
    ]

    def data(name, of, number):
        lines.extend(_loaded(f"{name}.buffer", "ptr", of, 8 * number))
        lines.extend(_loaded(name, "ptr", f"{name}.buffer", _DATA))

    def entry(number, name):
        lines.append(f"  %{name}.entry = getelementptr ptr, ptr %table, i64 {number}")
        lines.append(f"  store ptr %{name}, ptr %{name}.entry")

    data("sizes", "operands", 0)
    data("order", "operands", 1)
    for k in range(given):
        data(f"given{k}", "operands", _BEFORE + k)
        entry(k, f"given{k}")
    for k in range(2):
        data(f"result{k}", "results", k)
        entry(given + k, f"result{k}")
    for k in range(inputs):
        data(f"input{k}", "operands", _BEFORE + given + k)
        entry(len(TABLE) + k, f"input{k}")
    data("memory", "results", 2)
    lines += [
        *_loaded("lengths", "ptr", "order.buffer", _DIMS),
        "  %count = load i64, ptr %lengths",
        "  %points.short = load i32, ptr %sizes",
        "  %points = sext i32 %points.short to i64",
        "  %place = ptrtoint ptr %memory to i64",
        f"  %above = add i64 %place, {ALIGNMENT - 1}",
        f"  %aligned = and i64 %above, {-ALIGNMENT}",
        "  %scratch = inttoptr i64 %aligned to ptr",
        "  %issued = call i64 @lanes(i64 %count, i64 %points, i64 1, ptr %stop, ptr %order, "
        "ptr %table, ptr %scratch)",
        "  ret ptr null",
        "}",
    ]
    return "\n".join(lines)


def _loaded(name, kind, pointer, offset):
    """A field of a structure."""
    return [
        f"  %{name}.at = getelementptr i8, ptr %{pointer}, i64 {offset}",
        f"  %{name} = load {kind}, ptr %{name}.at",
    ]


def registered(kernel: Kernel, target: Target) -> str:
    """The name under which XLA finds a kernel: of its text, so that it is the same next time.

    Raises
    ------
    NotLowered
        If something in it can't be compiled.
    """
    text = kernel_text(kernel, target) + "\n" + _handler(len(kernel.point.given))
    name = "jaxlsq_" + hashlib.sha256(f"{target}{text}".encode()).hexdigest()[:24]
    with _LOCK:
        if name not in _REGISTERED:
            code = compile_text(text, target, kernel.optimization)
            address = ctypes.c_void_p(code.address("handler"))
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu")
            _REGISTERED[name] = code
    return name


def call_kernel(
    name: str,
    kernel: Kernel,
    target: Target,
    begin: tuple[jax.Array, Any, Any],
    inputs: Sequence[jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """A kernel's results, in a program.

    Parameters
    ----------
    name : str
        Of `registered`.
    kernel : Kernel
    target : Target
    begin : (x0, bounds, options)
        (B, n), None or two of (B, n), and `Options`.
    inputs : sequence of arrays
        Of ``kernel.point.given``, arranged.

    Returns
    -------
    reals : (B, n + 3) array
    counts : (B, 4) int32 array
        As `jaxlsq.schedule.rounds.reported`, lanes first.
    """
    (x0, bounds, o), points = begin, kernel.point.points
    (size, n), dtype = x0.shape, kernel.dtype
    numbers = [jnp.asarray(v, dtype) for v in (o.ftol, o.xtol, o.gtol, o.factor, o.epsfcn)]
    options = jnp.concatenate([jnp.stack(numbers), jnp.asarray(o.diag, dtype)])
    width = target.width(dtype)
    memory = scratch_bytes(kernel, width, points) + ALIGNMENT
    shapes = (
        jax.ShapeDtypeStruct((size, n + 3), dtype),
        jax.ShapeDtypeStruct((size, 4), np.int32),
        jax.ShapeDtypeStruct((memory,), np.uint8),
    )
    lower, upper = (x0, x0) if bounds is None else bounds
    reals, counts, _ = jax.ffi.ffi_call(name, shapes)(
        jnp.full(1, points, jnp.int32),
        jnp.arange(size, dtype=jnp.int32),
        x0,
        lower,
        upper,
        options,
        jnp.asarray(o.max_nfev, jnp.int32).reshape(1),
        *inputs,
    )
    return reals, counts
