"""The user's functions made jaxprs, without marks on the user's arrays.

JAX remembers, for each NumPy array that a trace closes over, the type that it had there, for as
long as anything refers to what the trace made of it.  A trace with another x64 setting than the
user's must therefore leave nothing behind: the same array would have the wrong type from then on.
And where the user's own jitted functions hold a float64 array as float32, it is float32 in a trace
of ours too: then the array itself is looked for, and put in its place.
"""

import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from jaxlsq.tracing.jaxprs import equations, inner_jaxprs
from jaxlsq.tracing.parts import opened
from jaxlsq.tracing.settings import has_64_bits
from jaxlsq.tracing.signature import Signature
from jaxlsq.tracing.tracebacks import chained, places, shows_all_frames
from jaxlsq.tracing.types import Jaxpr

__all__ = ["make_jaxpr"]


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
            # JAX gives its settings their attributes at run time.
            if jax.config.jax_check_tracer_leaks:  # pyright: ignore[reportAttributeAccessIssue]
                raise  # else its traceback, which holds what is traced, would be a leak
            raised.append(error)
            return ()

    closed, shapes = jax.make_jaxpr(guarded, return_shape=True)(*examples)
    original = _Originals(fun)
    consts = [original(c) for c in closed.consts]
    # Since JAX 0.12 a jaxpr is its own closed one: programs that are kept must not keep values.
    closed.consts[:] = [variable.aval for variable in closed.jaxpr.constvars]
    _release(closed.jaxpr, original)
    _copy_numbers(closed.jaxpr)
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
        if sys.getrefcount(base) <= 3 and has_64_bits() and base.itemsize in (4, 8):
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


def _copy_numbers(jaxpr):
    """Numbers that are arrays of the user's stand in equations themselves, and may change."""
    jaxprs = [one for eqn in equations(jaxpr) for one in inner_jaxprs(eqn)]
    results = (atom for one in (jaxpr, *jaxprs) for atom in opened(one)[0].outvars)
    for atom in (*results, *(atom for eqn in equations(jaxpr) for atom in eqn.invars)):
        if isinstance(atom, Literal) and isinstance(atom.val, np.ndarray):
            atom.val = atom.val.copy()


def _is_jax(frame):
    return frame.f_globals.get("__name__", "").split(".")[0] in ("jax", "jaxlib")


def _forget(error):
    """Free what JAX's frames hold of a trace that did not end, in a function jitted by the user.

    ``invalidate`` is what JAX itself calls at the end of a trace that comes to its end.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for place in places(error.__traceback__):
            if _is_jax(place.tb_frame):
                for value in list(place.tb_frame.f_locals.values()):
                    is_trace = isinstance(type(value).__module__, str) and hasattr(
                        type(value), "invalidate"
                    )
                    if is_trace and type(value).__module__.startswith("jax."):
                        value.invalidate()
                place.tb_frame.clear()
        error = error.__cause__ or error.__context__


def _without_jax(traceback):
    """A traceback without JAX's frames, unless JAX is asked to show them."""
    if shows_all_frames():
        return traceback
    return chained([place for place in places(traceback) if not _is_jax(place.tb_frame)])
