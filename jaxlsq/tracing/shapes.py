"""What a user's function returns, by shapes alone."""

import jax
import numpy as np

from jaxlsq.tracing.jaxprs import make_jaxpr

__all__ = ["floats", "shapes_of"]


def shapes_of(function, *examples, wide):
    """``jax.eval_shape`` in the type of a computation, float64 where it is wide.

    Raises
    ------
    Exception
        Whatever the function raises when it is given tracers.
    """
    with jax.enable_x64(wide):
        return make_jaxpr(function, *examples)[2]


def floats(shape, wide):
    """An array of floats of a shape."""
    return jax.ShapeDtypeStruct(shape, np.dtype(np.float64 if wide else np.float32))
