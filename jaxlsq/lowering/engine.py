"""Which engine works a batch, and the compiled code of those that registers do."""

import contextvars
import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.lowering.evaluation import Evaluation, evaluation_text
from jaxlsq.lowering.kernel import Kernel, kernel_text
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.lowering.point_program import PointProgram
from jaxlsq.lowering.points import pointwise
from jaxlsq.lowering.target import Target, compile_text, host
from jaxlsq.lowering.unrolled import unrolled
from jaxlsq.tracing.cache import PROGRAMS
from jaxlsq.tracing.making import make_jaxpr
from jaxlsq.tracing.settings import has_64_bits
from jaxlsq.tracing.structure import StructureReader, Unkeyable
from jaxlsq.tracing.trace import Traced, evaluate

__all__ = [
    "ENGINES",
    "LANES",
    "XLA",
    "chosen",
    "compiled",
    "compiled_evaluation",
    "host_target",
    "machine_code",
    "one_point",
    "point_of",
    "target_for",
    "using",
]

LANES, XLA = "compiled lanes", "XLA"
# What the environment variable JAXLSQ_ENGINE may be.
ENGINES = {"lanes": LANES, "xla": XLA}
_CHOICE: contextvars.ContextVar[str | None] = contextvars.ContextVar("engine", default=None)
# Parameters up to which the algebra is written out in registers.
MOST_PARAMETERS = 16


@contextmanager
def using(engine: str) -> Iterator[None]:
    """Take one engine for all, as far as it can: 'lanes' or 'xla'.

    Programs that `jax.export` writes for other machines must be traced with 'xla', under a `jit`
    of their own: compiled lanes are machine code of this one.  The environment variable
    ``JAXLSQ_ENGINE`` does the same for a process.

    Parameters
    ----------
    engine : {'lanes', 'xla'}

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxlsq import least_squares, using
    >>> def rate(y):
    ...     t = jnp.arange(y.size)
    ...     return least_squares(lambda p: p[0] * jnp.exp(-p[1] * t) - y, jnp.ones(2)).x[1]
    >>> (b,) = jax.export.symbolic_shape("b")
    >>> shape = jax.ShapeDtypeStruct((b, 20), jnp.float32)
    >>> with using("xla"):
    ...     program = jax.export.export(jax.jit(jax.vmap(rate)), platforms=["cpu", "cuda"])(shape)
    >>> program.platforms
    ('cpu', 'cuda')
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {sorted(ENGINES)}, got {engine!r}.")
    token = _CHOICE.set(engine)
    try:
        yield
    finally:
        _CHOICE.reset(token)


def chosen() -> str:
    """The engine that is asked for, which programs are remembered by."""
    choice = _CHOICE.get() or os.environ.get("JAXLSQ_ENGINE", "lanes")
    if choice not in ENGINES:
        raise ValueError(f"JAXLSQ_ENGINE must be one of {sorted(ENGINES)}, got {choice!r}.")
    return choice


def target_for(n: int, dtype: Any) -> Target:
    """The processor that lanes would be compiled for.

    Raises
    ------
    NotLowered
        If they are not to be, or can't be; the message is the reason.
    """
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if jax.default_backend() != "cpu" or getattr(device, "platform", device) not in (None, "cpu"):
        raise NotLowered("the device is no CPU")
    target = host_target(n)
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise NotLowered(f"numbers of type {dtype}")
    return target


def host_target(n: int) -> Target:
    """This machine's processor, for arithmetic with n parameters.

    Raises
    ------
    NotLowered
        If it is not to be used, or can't be.
    """
    if chosen() == "xla":
        raise NotLowered("it was asked for")
    if n > MOST_PARAMETERS:
        raise NotLowered(f"more than {MOST_PARAMETERS} parameters")
    target = host()
    if target is None:
        raise NotLowered("llvmlite is not installed, or does not know this processor")
    return target


def machine_code(
    name: str, text: str, target: Target, kinds: Sequence[Any], result: Any = None, level: int = 2
) -> Callable[..., Any]:
    """A function of a module of LLVM IR, by the types of its arguments and of its result."""
    return compile_text(text, target, level).function(name, *kinds, result=result)


def one_point(traced: Traced, n: int, of_lane: Sequence[bool], outputs: int) -> PointProgram:
    """The program of one point of a traced function, whose last inputs are `read_by` it.

    Parameters
    ----------
    traced : Traced
        Of n scalars, and other inputs.
    n : int
    of_lane : sequence of bool
        Which of the other inputs each lane has its own of.
    outputs : int
        The first so many of its results are wanted.

    Raises
    ------
    NotLowered
    """
    arrays = [jax.ShapeDtypeStruct(np.shape(a), a.dtype) for a in traced.arrays]
    numbers = read_by(traced)[len(arrays) :]
    return point_of(traced, n, (arrays, numbers), of_lane, outputs)


def read_by(traced: Traced) -> list[Any]:
    """The arrays and the numbers that a function reads beside its inputs."""
    arrays, scalars = traced.data
    kind = np.float64 if has_64_bits() else np.float32
    return [*arrays, *map(kind, scalars)]


def point_of(
    traced: Traced,
    n: int,
    read: tuple[Sequence[Any], Any],
    of_lane: Sequence[bool],
    outputs: int,
) -> PointProgram:
    """The program of one point, as a function of shapes alone.

    Parameters
    ----------
    traced, n, outputs
        As for `one_point`.
    read : (arrays, scalars)
        Shapes and types of what the function reads, as `jaxlsq.tracing.trace.evaluate` takes it.
    of_lane : sequence of bool
        Of the inputs after the parameters and of what is read, in this order; all lanes share what
        is missing at the end.
    """
    arrays, scalars = read
    if any(jnp.issubdtype(a.dtype, jax.dtypes.extended) for a in arrays):
        raise NotLowered("keys of random numbers")
    inputs = [v.aval for v in traced.jaxpr.invars]

    def flat(inputs, arrays, scalars):
        return evaluate(traced, inputs, arrays, scalars)

    jaxpr, consts, _ = make_jaxpr(flat, inputs, list(arrays), scalars)
    if consts:
        raise NotLowered("data inside a loop or a branch")
    shared = [False] * (len(jaxpr.invars) - n - len(of_lane))
    return pointwise(unrolled(jaxpr), n, [*of_lane, *shared], outputs)


def compiled(kernel: Kernel, target: Target) -> Callable[..., int]:
    """The machine code of a kernel, from the cache where one of the same structure has been made.

    Returns
    -------
    callable
        ``lanes(count, points, starts, stop, order, table, scratch) -> issued``; see
        `jaxlsq.lowering.kernel`.
    """

    def compile_():
        kinds = [ctypes.c_int64] * 3 + [ctypes.c_void_p] * 4
        text, level = kernel_text(kernel, target), kernel.optimization
        return machine_code("lanes", text, target, kinds, ctypes.c_int64, level)

    return PROGRAMS.get(_key(kernel, target), compile_)


def compiled_evaluation(evaluation: Evaluation, target: Target) -> Callable[..., None]:
    """The machine code of an evaluation, in float64.

    Returns
    -------
    callable
        ``evaluate(first, last, points, table, scratch)``; see `jaxlsq.lowering.evaluation`.
    """

    def compile_():
        kinds = [ctypes.c_int64] * 3 + [ctypes.c_void_p] * 2
        text = evaluation_text(evaluation, target)
        return machine_code("evaluate", text, target, kinds, level=1)

    key = _point_key(evaluation.point)
    how = evaluation.n, evaluation.elimination, evaluation.complete
    return PROGRAMS.get(key and ("evaluation", *key, how, target), compile_)


def _key(kernel, target):
    key = _point_key(kernel.point)
    how = kernel.n, kernel.dtype, kernel.bounded, kernel.evaluations, kernel.repairs, kernel.wide
    return key and ("lanes", *key, *how, kernel.elimination, target)


def _point_key(point):
    """Of what is compiled for a program of one point; None where that can't be told."""
    reader, stage = StructureReader(), None
    try:
        structure = reader.read(point.jaxpr, ())
    except Unkeyable:
        return None
    if point.stage:
        places = tuple(one.source for one in point.inputs if one.staged)
        stage = _point_key(point.stage), places
        if stage[0] is None:
            return None
    consts = tuple(
        (np.shape(c), np.asarray(c).dtype, np.asarray(c).tobytes()) for c in point.consts
    )
    numbers = np.array(reader.scalars).tobytes()
    inputs = tuple(one.key for one in point.inputs)
    return structure, numbers, consts, inputs, point.rows, point.steady, stage
