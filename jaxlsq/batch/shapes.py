"""What a user's function returns, by shapes alone."""

import jax
import numpy as np

__all__ = ["floats", "shapes_of"]


def shapes_of(function, *examples, wide):
    """``jax.eval_shape`` in the type of a computation, float64 where it is wide.

    JAX remembers of a trace with another type which one the arrays had that it closed over.

    Raises
    ------
    Exception
        Whatever the function raises when it is given tracers.
    """
    raised = []

    def guarded(*arguments):
        try:
            return function(*arguments)
        except Exception as error:  # JAX keeps what a trace has seen that ends by an exception
            raised.append(error)
            return ()

    with jax.enable_x64(wide):
        shapes = jax.eval_shape(guarded, *examples)
    if raised:
        raise raised.pop()
    return shapes


def floats(shape, wide):
    """An array of floats of a shape."""
    return jax.ShapeDtypeStruct(shape, np.dtype(np.float64 if wide else np.float32))
