"""What makes one run of fits the same as another, in another process."""

import re
import zlib
from collections.abc import Callable
from types import CodeType
from typing import Any

import jax
import numpy as np

from jaxlsq.batch.group import Group
from jaxlsq.problem.starts import Start
from jaxlsq.tracing.making import make_jaxpr
from jaxlsq.tracing.settings import own_settings
from jaxlsq.tracing.untraceable import JAX_ERRORS

__all__ = ["checksum", "checksum_of", "identity"]

_ADDRESS = re.compile(r"0x[0-9a-f]+")
SETTINGS = ("ftol", "xtol", "gtol", "x_scale", "max_nfev", "starts", "polish")


def checksum(*arrays: Any, start: int = 0) -> int:
    """A CRC-32 of arrays' types, shapes and values."""
    for array in arrays:
        array = np.ascontiguousarray(array)
        start = zlib.crc32(f"{array.dtype.str}{array.shape}".encode(), start)
        start = zlib.crc32(array.reshape(-1).view(np.uint8).data, start)
    return start


def identity(problem: Any) -> dict[str, str]:
    """What a run is of, but for the data of each fit, as texts by the caller's names.

    Parameters
    ----------
    problem : jaxlsq.batch.run.Problem
    """
    settings, limits = vars(problem.settings), problem.limits
    groups = [group for _, group in problem.groups]
    bounds = [limits.lower, limits.upper, limits.fixed] if limits else []
    model = "; ".join(_program(group, problem.layout) for group in groups)
    return {
        "model, loss or jac": f"{zlib.crc32(model.encode()):08x}",
        "parameters": ", ".join(problem.names),
        "p0": _start(problem.start, groups[0]),
        "bounds or fixed": f"{checksum(*bounds):08x}",
        "linear": ", ".join(problem.names[j] for j in problem.linear),
        "absolute_sigma": str(problem.absolute_sigma),
        "the type of the data": ", ".join(str(group.dtype) for group in groups),
        "shared data": f"{checksum_of(shared=[group.shared for group in groups]):08x}",
        "the lengths of the data": f"{checksum_of(lengths=problem.lengths):08x}",
    } | {name: _text(settings[name]) for name in SETTINGS}


def checksum_of(**trees: Any) -> int:
    """The checksum of the arrays of pytrees."""
    return checksum(*jax.tree.leaves(trees))


def _text(value):
    return repr(value) if np.ndim(value) == 0 else f"{checksum(value):08x}"


def _start(start: Start, group: Group) -> str:
    array = np.empty(0) if start.array is None else start.array
    text = f"{checksum(array):08x}"
    return text if start.guess is None else f"{text} {_traced(start.guess, group)}"


def _program(group, layout):
    """The residual, the loss and derivatives as text."""
    task = group.task
    x = [jax.ShapeDtypeStruct((), group.dtype)] * layout.n

    def residual(lane, shared, *xs):
        return task.residual(task.layout.from_scalars(xs), lane, shared)

    jac = _code(task.jac) if callable(task.jac) else task.jac
    return f"{_traced(residual, group, *x)} {jac} {task.loss and _code(task.loss)}"


def _traced(function: Callable[..., Any], group: Group, *more: Any) -> str:
    """A traced function as text; its code where JAX can't trace it."""
    try:
        with own_settings(), jax.enable_x64(group.wide):
            jaxpr, consts, _ = make_jaxpr(function, group.one, group.shared, *more)
    except JAX_ERRORS:
        return _code(group.task)
    arrays = [np.asarray(c) for c in consts]
    return f"{_ADDRESS.sub('', str(jaxpr))} {checksum(*arrays):08x}"


def _code(value: Any) -> str:
    """The code of a function, and of functions that an object of ours holds."""
    code = getattr(value, "__code__", None)
    if isinstance(code, CodeType):
        return _of_code(code)
    held = getattr(value, "__dict__", {})
    own = type(value).__call__ if callable(type(value)) else None
    inner = [_code(part) for part in held.values() if callable(part)]
    body = getattr(own, "__code__", None)
    return " ".join([type(value).__qualname__, *([_of_code(body)] if body else []), *inner])


def _of_code(code):
    consts = [_of_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_name} {zlib.crc32(code.co_code):08x} {code.co_names} {consts}"
