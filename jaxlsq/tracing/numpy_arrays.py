"""NumPy functions traced by JAX: arguments that send NumPy's functions to `jax.numpy`.

``numpy.exp(x)`` asks x for ``__array_ufunc__``, and ``numpy.where(x > 0, a, b)`` for
``__array_function__`` (NEP 13 and 18).  An array that answers with JAX's function of the same name
makes most models that were written for NumPy and SciPy traceable as they are.  What has no such
name, or needs a number where there is none yet, raises as it does without.
"""

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
from jax.core import Tracer
from numpy.typing import NDArray

from jaxlsq.tracing.untraceable import JAX_ERRORS

__all__ = ["NoCounterpart", "as_numpy_would"]


class NoCounterpart(TypeError):
    """A function of NumPy or SciPy that JAX does not have, or not in this form."""


def as_numpy_would(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """``function(*arguments, **named)``, also where it is written with NumPy and traced by JAX.

    First with JAX's arrays as they are; where that fails for want of a value, with arrays that
    NumPy's functions accept.

    Raises
    ------
    Exception
        What the first attempt raised, where the second fails too.
    """
    try:
        return function(*arguments, **named)
    except JAX_ERRORS as first:
        if not any(isinstance(v, Tracer) for v in jax.tree.leaves((arguments, named))):
            raise
        wrapped, wrapped_names = jax.tree.map(_wrapped, (arguments, named))
        try:
            return _bare(function(*wrapped, **wrapped_names))
        except (*JAX_ERRORS, NoCounterpart):
            raise first from None


def _wrapped(value):
    """A JAX array as one that NumPy's functions take; anything else as it is."""
    return Array(value) if isinstance(value, jax.Array) else value


def _bare(value: Any) -> Any:
    """What a result or an argument of NumPy's is to JAX."""
    if isinstance(value, Array):
        return value.value
    if isinstance(value, (tuple, list)):
        return type(value)(map(_bare, value)) if type(value) in (tuple, list) else value
    if isinstance(value, dict):
        return {key: _bare(one) for key, one in value.items()}
    if callable(value) and not isinstance(value, (type, np.dtype)):
        return lambda *arguments, **named: _bare(value(*map(_wrapped, arguments), **named))
    return value


def _results(value):
    """What JAX returns, for a function of NumPy's."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(_results, value)) if type(value) in (tuple, list) else value
    return _wrapped(value)


@cache
def _ufunc(ufunc):
    """JAX's function of a name of one of NumPy's or SciPy's, which may have several."""
    for theirs, ours in ((np, jnp), (sys.modules.get("scipy.special"), jax.scipy.special)):
        # A copy: another thread may import what is a part of NumPy.
        for name, value in vars(theirs).copy().items() if theirs else ():
            if value is ufunc and hasattr(ours, name):
                return getattr(ours, name)
    raise NoCounterpart(f"jax.numpy and jax.scipy.special have no {ufunc.__name__}")


def _function(function):
    """JAX's function of the name and the module of one of NumPy's."""
    place = jnp
    for part in (function.__module__ or "").split(".")[1:]:
        place = getattr(place, part, None)
    found = getattr(place, function.__name__, None)
    if found is None:
        raise NoCounterpart(f"jax.numpy has no {function.__name__}")
    return found


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """A JAX array that NumPy's functions take, and that can be written to as NumPy's can.

    Parameters
    ----------
    value : jax.Array
    """

    __array_priority__ = 1000
    __hash__ = None

    def __init__(self, value: jax.Array) -> None:
        self.value: jax.Array = value

    # --- NumPy's protocols ----------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **named: Any) -> Any:
        out = named.pop("out", None)
        where, dtype = named.pop("where", True), named.pop("dtype", None)
        function = _ufunc(ufunc)
        if method != "__call__":
            function = getattr(function, method, None)
            named |= {} if dtype is None else {"dtype": dtype}
        if function is None or where is not True:
            raise NoCounterpart(f"numpy.{ufunc.__name__}.{method} in this form")
        result = function(*map(_bare, inputs), **named)
        if method == "__call__" and dtype is not None:
            result = jax.tree.map(lambda v: v.astype(dtype), result)
        if out is None:
            return _results(result)
        (target,) = out
        if not isinstance(target, Array):
            raise NoCounterpart("out= of a NumPy array")
        target.value = jnp.broadcast_to(result, target.shape).astype(target.dtype)
        return target

    def __array_function__(self, function: Any, types: Any, arguments: Any, named: Any) -> Any:
        named = {k: _bare(v) for k, v in named.items() if k not in ("like", "subok")}
        if named.pop("out", None) is not None:
            raise NoCounterpart("out= of a NumPy function")
        return _results(_function(function)(*map(_bare, arguments), **named))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.value)  # raises while it is traced

    # --- an array's own -----------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """As NumPy's."""
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """As NumPy's."""
        return self.value.dtype

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.value, name)
        if callable(found) and not isinstance(found, jax.Array):
            return lambda *arguments, **named: _results(
                found(*map(_bare, arguments), **{k: _bare(v) for k, v in named.items()})
            )
        return _results(found)

    def __getitem__(self, index: Any) -> Any:
        return Array(self.value[_bare(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.value = self.value.at[_bare(index)].set(_bare(value))

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Any:
        return map(Array, iter(self.value))

    def __bool__(self) -> bool:
        return bool(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __complex__(self) -> complex:
        return complex(self.value)

    def __index__(self) -> int:
        return self.value.__index__()
