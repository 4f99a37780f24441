"""Jaxprs of the user's functions: made without marks on the user's arrays, and interpreted.

JAX remembers, for each NumPy array that a trace closes over, the type that it had there, for as
long as anything refers to what the trace made of it.  A trace with another x64 setting than the
user's must therefore leave nothing behind: the same array would have the wrong type from then on.
And where the user's own jitted functions hold a float64 array as float32, it is float32 in a trace
of ours too: then the array itself is looked for, and put in its place.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from jaxlsq.tracing.callbacks import exact_callback, needs_care
from jaxlsq.tracing.parts import CALLS, REMATERIALIZED, RULES, opened, scan_counts
from jaxlsq.tracing.signature import Signature
from jaxlsq.tracing.types import Equation, Jaxpr
from jaxlsq.tracing.varying import is_cast, results_that_vary, varies, without_mesh

__all__ = [
    "called",
    "depends",
    "eqn_results",
    "inner_jaxprs",
    "interpret",
    "make_jaxpr",
    "without_calls",
]

# Calls that are followed into.
_FOLLOWED = CALLS | REMATERIALIZED | RULES


def inner_jaxprs(eqn: Equation) -> Iterator[Any]:
    """Jaxprs among the parameters of an equation, open or closed."""
    for value in eqn.params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(one, "eqns") or hasattr(one, "jaxpr"):
                yield one


def make_jaxpr(fun: Callable[..., Any], *examples: Any) -> tuple[Jaxpr, list[Any], Any]:
    """Trace a function of the user's.

    Parameters
    ----------
    fun : callable
    *examples : pytrees of arrays, or of their shapes and types

    Returns
    -------
    jaxpr : Jaxpr
        Open: without its constants.
    consts : list
        Its constants; NumPy arrays are the user's own, or copies.
    shapes : pytree
        Shapes and types of what `fun` returns.

    Raises
    ------
    BaseException
        Whatever `fun` raises, with JAX's own frames left out of its traceback.
    """
    raised = []

    def guarded(*inputs):
        # JAX keeps all that a trace which ends by an exception has seen, for ever.
        try:
            return fun(*inputs)
        except BaseException as error:
            raised.append(error)
            return ()

    closed, shapes = jax.make_jaxpr(guarded, return_shape=True)(*examples)
    original = _Originals(fun)
    consts = [original(c) for c in closed.consts]
    closed.consts[:] = consts
    _release(closed.jaxpr, original)
    if raised:
        error = raised.pop()
        _forget(error)
        raise error.with_traceback(_without_jax(error.__traceback__))
    return closed.jaxpr, consts, shapes


class _Originals:
    """Constants in the place of JAX's typed views of them.

    They are views of their own: of the user's object JAX may remember another type.
    """

    def __init__(self, fun):
        self._fun = fun
        self._wide = None

    def __call__(self, const):
        """The user's array that it is a view of, the one that it was rounded from, or a copy."""
        if not isinstance(const, np.ndarray) or type(const) is np.ndarray:
            return const
        base = const.base
        if type(base) is not np.ndarray or base.dtype != const.dtype:
            return np.array(const)
        # A rounded copy is JAX's alone: referred to by the view, by `base` and by the call.
        # JAX gives its settings their attributes at run time.
        wide = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
        if sys.getrefcount(base) <= 3 and wide and base.itemsize in (4, 8):
            return self._before_rounding(base)
        same = (base.shape, base.strides) == (const.shape, const.strides)
        return base.view() if same else np.array(const)

    def _before_rounding(self, rounded):
        if self._wide is None:
            arrays = Signature(self._fun).arrays
            self._wide = [a for a in arrays if _narrow(a.dtype) != a.dtype]
        for array in self._wide:
            same = array.shape == rounded.shape and _narrow(array.dtype) == rounded.dtype
            if same and np.array_equal(array.astype(rounded.dtype), rounded, equal_nan=True):
                return array.view()
        return rounded


def _narrow(dtype):
    """The type that JAX has for it without x64."""
    narrow = {"float64": "float32", "int64": "int32", "uint64": "uint32", "complex128": "complex64"}
    return np.dtype(narrow.get(dtype.name, dtype))


def _release(jaxpr, original):
    """Constants of inner jaxprs, which JAX keeps for the user's jitted functions, as JAX arrays."""
    for eqn in jaxpr.eqns:
        for inner in inner_jaxprs(eqn):
            consts: Any = getattr(inner, "consts", None) or ()
            for i, const in enumerate(consts):
                if isinstance(const, np.ndarray):
                    with jax.ensure_compile_time_eval():
                        consts[i] = jax.device_put(np.array(original(const)))
            _release(opened(inner)[0], original)


def _is_jax(frame):
    return frame.f_globals.get("__name__", "").split(".")[0] in ("jax", "jaxlib")


def _forget(error):
    """Free what JAX's frames hold of a trace that did not end, in a function jitted by the user.

    ``invalidate`` is what JAX itself calls at the end of a trace that comes to its end.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        place = error.__traceback__
        while place is not None:
            if _is_jax(place.tb_frame):
                for value in list(place.tb_frame.f_locals.values()):
                    is_trace = isinstance(type(value).__module__, str) and hasattr(
                        type(value), "invalidate"
                    )
                    if is_trace and type(value).__module__.startswith("jax."):
                        value.invalidate()
                place.tb_frame.clear()
            place = place.tb_next
        error = error.__cause__ or error.__context__


def _without_jax(traceback):
    """A traceback without JAX's frames, unless JAX is asked to show them."""
    # JAX gives its settings their attributes at run time.
    filtering = jax.config.jax_traceback_filtering  # pyright: ignore[reportAttributeAccessIssue]
    if filtering == "off":
        return traceback
    places = []
    while traceback is not None:
        if not _is_jax(traceback.tb_frame):
            places.append(traceback)
        traceback = traceback.tb_next
    for place in reversed(places):
        traceback = TracebackType(traceback, place.tb_frame, place.tb_lasti, place.tb_lineno)
    return traceback


def eqn_results(eqn: Equation, arguments: Sequence[Any]) -> Sequence[Any]:
    """What an equation gives for other arguments."""
    if is_cast(eqn):
        return arguments
    if varies(eqn, arguments):
        return results_that_vary(eqn, arguments, _written_out, _bound)
    return _bound(eqn, arguments)


def _bound(eqn, arguments):
    if needs_care(eqn):
        return exact_callback(eqn, arguments)
    params = eqn.primitive.get_bind_params(eqn.params)
    results = eqn.primitive.bind(*arguments, **params)
    return results if eqn.primitive.multiple_results else [results]


def _literal_value(atom, eqn_name):
    """The number that a literal is."""
    return without_mesh(atom.val)


def interpret(
    jaxpr: Jaxpr,
    consts: Sequence[Any],
    inputs: Sequence[Any],
    equation: Callable[..., Any] = eqn_results,
    literal: Callable[..., Any] = _literal_value,
) -> list[Any]:
    """The outputs of a jaxpr, equation by equation, on values of any kind.

    Parameters
    ----------
    jaxpr : Jaxpr
        Open.
    consts, inputs : sequences
        Values of its constants and inputs: arrays, or what `equation` takes in their place.
    equation : callable
        ``equation(eqn, arguments)`` is a list of an equation's results.
    literal : callable
        ``literal(atom, eqn_name)`` stands for a literal, in the equation of this name, or for
        'return' among the outputs.

    Returns
    -------
    list
    """
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))

    def value(atom, name):
        return literal(atom, name) if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        arguments = [value(atom, eqn.primitive.name) for atom in eqn.invars]
        values.update(zip(eqn.outvars, equation(eqn, arguments), strict=True))
    return [value(atom, "return") for atom in jaxpr.outvars]


def called(eqn: Equation) -> tuple[Jaxpr, list[Any]] | None:
    """The jaxpr that an equation only calls, and its constants; None for any other equation."""
    name = eqn.primitive.name
    return opened(eqn.params[_FOLLOWED[name]]) if name in _FOLLOWED else None


def without_calls(eqn: Equation, arguments: Sequence[Any]) -> Sequence[Any]:
    """`eqn_results` with calls written out: for `interpret`, to make a jaxpr without any."""
    inner = called(eqn)
    return interpret(*inner, arguments, without_calls) if inner else eqn_results(eqn, arguments)


def _written_out(jaxpr, consts, inputs):
    return interpret(jaxpr, consts, inputs, without_calls)


def depends(jaxpr: Jaxpr, inputs: Sequence[bool]) -> list[bool]:
    """Whether each output depends on an input that varies.

    Parameters
    ----------
    jaxpr : Jaxpr
    inputs : sequence of bool
        Which inputs vary.

    Returns
    -------
    list of bool
    """

    def equation(eqn, moving):
        if eqn.primitive.name == "scan":
            return _depends_in_scan(eqn, moving)
        inner = called(eqn)
        return depends(inner[0], moving) if inner else [any(moving)] * len(eqn.outvars)

    still = [False] * len(jaxpr.constvars)
    return interpret(jaxpr, still, inputs, equation, lambda *_: False)


def _depends_in_scan(eqn, moving):
    """`depends` of a scan, whose carry is made of what it was in the turn before."""
    body = opened(eqn.params["jaxpr"])[0]
    first, count = scan_counts(eqn.params)
    moving = list(moving)
    while True:
        out = depends(body, moving)
        carry = [a or b for a, b in zip(moving[first : first + count], out[:count], strict=True)]
        if carry == moving[first : first + count]:
            return out
        moving[first : first + count] = carry
