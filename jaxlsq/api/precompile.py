"""`precompile`: what `fit` compiles, ahead of the data."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlsq.api.fit import fit
from jaxlsq.problem.types import PyTree

__all__ = ["precompile"]

# Evaluations of each fit of data that are not there yet.
FEW = 3


def precompile(
    model: Callable[..., Any],
    xdata: PyTree,
    ydata: Any,
    p0: Any = None,
    **options: Any,
) -> None:
    r"""Compile what `fit` takes for such data, and what their standard errors take.

    A service whose first answer must not wait calls it when it begins.  Programs are kept as
    those of `fit` are: in this process, until `jaxlsq.clear_cache`; those of XLA also on disk,
    where JAX's own cache is turned on (``jax_compilation_cache_dir``).

    Compiled lanes are for any number of data sets and of points, so that one short data set
    stands for all.  Programs of XLA are for one number of points, and for batches of one size,
    rounded up to a power of two, of up to some thousands: give the shape that will come.  Those
    are all guesses, and the fits of which `FitResult.engine` says so.

    Parameters
    ----------
    model, p0
        As for `fit`.
    xdata : (m,), (d, m) or (..., m) array, or pytree of those
        As for `fit`; an array may be a `jax.ShapeDtypeStruct`.
    ydata : (..., m) array or jax.ShapeDtypeStruct
        A sample of the data, which is fitted; or their shape and type, of which a few evaluations
        are made where all values are one.
    **options
        As for `fit`, but for `out`.

    Raises
    ------
    ValueError, TypeError
        As `fit` does.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import jaxlsq
    >>> def decay(t, a, k):
    ...     return a * jnp.exp(-k * t)
    >>> t = np.linspace(0, 4, 50)
    >>> jaxlsq.precompile(decay, t, jax.ShapeDtypeStruct((1000, 50), np.float64), [1.0, 1.0])
    >>> result = jaxlsq.fit(decay, t, np.ones((1000, 50)), [1.0, 1.0])  # compiles nothing
    """
    if "out" in options:
        raise TypeError("precompile keeps no results: it takes no out.")
    if _is_shape(ydata):
        options.setdefault("max_nfev", FEW)
    xdata = jax.tree.map(_places, xdata, is_leaf=_is_shape)
    ydata = np.broadcast_to(np.ones((), ydata.dtype), ydata.shape) if _is_shape(ydata) else ydata
    _ = fit(model, xdata, ydata, p0, **options).stderr


def _is_shape(value: Any) -> bool:
    return isinstance(value, jax.ShapeDtypeStruct)


def _places(value: Any):
    """An array of a shape and a type: rising, as x does, and nowhere zero."""
    if not _is_shape(value):
        return value
    m = value.shape[-1] if value.shape else 1
    return np.broadcast_to(np.linspace(1.0, 2.0, m), value.shape).astype(value.dtype)
