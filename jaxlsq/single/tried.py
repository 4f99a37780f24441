"""A problem tried on JAX: whether it is traceable, and what is remembered if it is not."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import jax
import numpy as np

from jaxlsq.numerics.jacobian import EVALUATIONS
from jaxlsq.numerics.types import AnyArray
from jaxlsq.problem.checks import as_jacobian, as_residual
from jaxlsq.problem.losses import traced_loss
from jaxlsq.tracing.cache import Memory, remembering
from jaxlsq.tracing.fingerprint import TraceKey, trace_key
from jaxlsq.tracing.indices import check_indices
from jaxlsq.tracing.signature import Signature
from jaxlsq.tracing.structure import has_own_derivatives
from jaxlsq.tracing.trace import Traced, trace
from jaxlsq.tracing.tracebacks import places

__all__ = ["UNTRACEABLE", "Tried", "in_float64", "remember_untraceable", "residual_of", "try_trace"]

# Signatures of functions that have to be called in Python, so that a loop over data sets does
# not pay for a trace that fails each time; and whether JAX could at least call them.
UNTRACEABLE = remembering(Memory(size=1024))

# Problems as JAX saw them, by all that decides it: what is fitted again is not traced again.
_SEEN = remembering(Memory(size=64))

_DERIVATIVES = {"jacfwd": jax.jacfwd, "cs": jax.jacfwd, "jacrev": jax.jacrev}

# Ours that call a function of the user's and say what is wrong with what it returns.
_FRONTS = ("jaxlsq.problem.checks", "jaxlsq.api.curve_fit")


@dataclass(frozen=True)
class Tried:
    """A problem as JAX sees it.

    Attributes
    ----------
    signature : Signature
    callable : bool
        Whether JAX can call the function, and so whether it belongs in float64.
    traced : Traced or None
        The residual, and the Jacobian where the user gave it or derivative rules of its own;
        None where it has to be called in Python.
    dtype : dtype
        What the residual is computed in.
    loss : Traced or None
        A loss of the user's.
    """

    signature: Signature
    callable: bool
    traced: Traced | None = None
    dtype: np.dtype[Any] | None = None
    loss: Traced | None = None

    def kept(self, place: TraceKey) -> Self:
        """`Traced.kept` of its functions, and nothing of the signature, which has the arrays."""
        traced, loss = self.traced and self.traced.kept(place), self.loss and self.loss.kept(place)
        return replace(self, signature=Signature(), traced=traced, loss=loss)

    def again(self, signature: Signature) -> Self | None:
        """Of what was `kept`, the same for an equal problem; None if an array is no more."""
        traced, loss = self.traced and self.traced.alive, self.loss and self.loss.alive
        if traced is None or (self.loss and loss is None):
            return None
        return replace(self, signature=signature, traced=traced, loss=loss)


def try_trace(problem: Any) -> Tried:
    """The `Tried` problem."""
    signature = problem.signature
    asked = problem.jac in ("jacfwd", "jacrev")
    known = UNTRACEABLE.find((signature.form, problem.x0.size))
    if not asked and known is not None:
        return Tried(signature, known)
    loss = problem.terms and problem.terms.loss
    place = trace_key((problem.func, problem.jac, problem.args, loss), problem.x0)
    seen = None if place is None else _SEEN.find(place)
    again = seen and seen.again(signature)
    if again:
        return again
    dtypes, cause = [], None
    try:
        with jax.enable_x64(True):
            traced = _trace(problem, partial(residual_of, problem, dtypes))
            check_indices(traced.jaxpr, traced.arrays[: len(traced.jaxpr.constvars)])
            # One that does not depend on x when traced has hidden it from JAX, in an
            # `except` that catches the tracer's error for example.
            if traced.depends[0]:
                loss = problem.terms and traced_loss(problem.terms.loss, traced.outputs[0])
                tried = Tried(signature, True, traced, dtypes[0], loss)
                if place is not None:
                    _SEEN.put(place, tried.kept(place))
                return tried
    except Exception as error:  # the user's code may fail on a tracer in any way
        if not _is_users(error):
            raise
        cause = error
    if asked:
        residual_of(problem, [], problem.x0)  # an error of the function's own comes first
        raise TypeError(
            f"Dfun={problem.jac!r} needs a function that JAX can trace, and this one is not: "
            "write it with jax.numpy, or use Dfun=None or '2-point'."
        ) from cause
    return Tried(signature, bool(dtypes))


def in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that JAX can call, in float64 whatever JAX's settings are."""

    def call(*arguments):
        with jax.enable_x64(True):
            return function(*arguments)

    call.__name__ = getattr(function, "__name__", type(function).__name__)
    return call


def _trace(problem, residual):
    """The residual, and what its Jacobian can't be made of it from: see `_with_jacobian`."""
    if not callable(problem.jac):
        traced = trace(lambda x: (residual(x),), problem.x0)
        if not has_own_derivatives(traced.jaxpr) or EVALUATIONS.get(problem.jac):
            return traced
    return trace(partial(_with_jacobian, problem, residual), problem.x0)


def remember_untraceable(problem: Any, tried: Tried) -> None:
    """To be called once the function has worked in Python: then tracing was what failed."""
    if tried.traced is None and tried.signature.complete:
        UNTRACEABLE.put((tried.signature.form, problem.x0.size), tried.callable)


def residual_of(problem: Any, dtypes: list[np.dtype[Any]], x: AnyArray) -> AnyArray:
    """The residual at x in float64; its own type is appended to `dtypes`."""
    value = problem.func(x, *problem.args)
    if type(value) is np.ndarray and value.dtype == np.float64 and value.ndim == 1:
        dtypes.append(value.dtype)
        return value.copy()  # the function may use its array again
    value = as_residual(value)
    dtypes.append(value.dtype if value.dtype.kind == "f" else np.dtype(np.float64))
    return value.astype(np.float64)


def _with_jacobian(problem, residual, x):
    """What is traced: the residual and, unless by finite differences, its Jacobian."""
    method = problem.jac or "jacfwd"
    if callable(method):
        f = residual(x)  # first: whether JAX can call it is known where `method` can't be traced
        name = getattr(method, "__name__", type(method).__name__)
        return f, as_jacobian(method(x, *problem.args), name).astype(np.float64)

    def twice(x):
        f = residual(x)
        return f, f

    jac, f = _DERIVATIVES[method](twice, has_aux=True)(x)
    return f, jac


def _is_users(error):
    """Whether an error of a trace is one of the user's function, which may do in Python."""
    if isinstance(error, (jax.errors.JAXTypeError, jax.errors.JAXIndexError)):
        return True
    frames = [place.tb_frame for place in places(error.__traceback__)]
    modules = [frame.f_globals.get("__name__", "") for frame in frames]
    outside = [name for name in modules if name.split(".")[0] not in ("jaxlsq", "jax", "jaxlib")]
    return bool(outside) or modules[-1] in _FRONTS
