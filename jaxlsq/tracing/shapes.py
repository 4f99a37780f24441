"""What a user's function returns, by shapes alone."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlsq.tracing.making import make_jaxpr

__all__ = ["floats", "shapes_of"]


def shapes_of(function: Callable[..., Any], *examples: Any, wide: bool) -> Any:
    """``jax.eval_shape`` in the type of a computation, float64 where it is wide.

    Raises
    ------
    Exception
        Whatever the function raises when it is given tracers.
    """
    with jax.enable_x64(wide):
        return make_jaxpr(function, *examples)[2]


def floats(shape: tuple[int, ...], wide: bool) -> jax.ShapeDtypeStruct:
    """An array of floats of a shape."""
    return jax.ShapeDtypeStruct(shape, np.dtype(np.float64 if wide else np.float32))
