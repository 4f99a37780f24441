"""Sine, cosine and logarithm that vectorize on a CPU, for programs of XLA.

XLA:CPU calls the C library for each element, and again in each kernel that reads the result:
more than the rest of the fit of a sinusoid.  What `jaxlsq.numerics` has instead is not
for all arguments; where one is far, or special, the C library is asked.  The logarithm of float32
XLA vectorizes itself.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.numerics.circular import is_far, moderate_cosine, moderate_sine
from jaxlsq.numerics.elementary import moderate_logarithm, moderate_logarithm_beside_one
from jaxlsq.tracing.types import Equation

__all__ = ["is_replaced", "replacement"]


def _unusual(x):
    """Zero, negative, subnormal or not finite."""
    return jnp.logical_not((x >= jnp.finfo(x.dtype).tiny) & (x < jnp.inf))


def _fast(exact, moderate, special):
    def any_value(x):
        # Element by element, so that a special one changes no bit of the others.
        return jnp.where(special(x), exact(x), moderate(x))

    def evaluate(x):
        return lax.cond(jnp.any(special(x)), any_value, moderate, x)

    return evaluate


_REPLACEMENTS = {
    "sin": _fast(lax.sin, moderate_sine, is_far),
    "cos": _fast(lax.cos, moderate_cosine, is_far),
    "log": _fast(lax.log, moderate_logarithm, _unusual),
    "log1p": _fast(lax.log1p, moderate_logarithm_beside_one, lambda x: _unusual(1.0 + x)),
}


def is_replaced(eqn: Equation) -> bool:
    """Whether an equation of a jaxpr has a faster form here."""
    name = eqn.primitive.name
    types = (np.float64,) if name.startswith("log") else (np.float64, np.float32)
    return name in _REPLACEMENTS and eqn.invars[0].aval.dtype in types


def replacement(eqn: Equation) -> Callable[[jax.Array], jax.Array]:
    """The faster form of an equation, a function of one array."""
    return _REPLACEMENTS[eqn.primitive.name]
