r"""The digamma function :math:`\psi`, the derivative of :math:`\ln \Gamma`, in plain arithmetic.

From x below 10 ten steps :math:`\psi(x) = \psi(x + 1) - 1 / x` lead to where the asymptotic
series holds to the last digit; below 1/2 there is the reflection
:math:`\psi(x) = \psi(1 - x) - \pi / \tan(\pi x)`.

Source: NIST Digital Library of Mathematical Functions, 5.5.2, 5.5.4 and 5.11.2.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.numerics.circular import moderate_tangent
from jaxlsq.numerics.elementary import log

__all__ = ["digamma"]

STEPS = 10
# Bernoulli's numbers B_2k over 2 k, the last first; the next one would be below 5e-17 at 10.
SERIES = (1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12)


def digamma(x: jax.Array) -> jax.Array:
    """The digamma function: within 2e-15 of it, or 2e-15 where it is below one, in float64.

    NaN at zero and at negative integers, its poles, and where x is minus infinity.
    """
    below = x < 0.5
    positive = jnp.where(below, 1.0 - x, x)
    moved = jnp.where(positive < STEPS, positive + STEPS, positive)
    before = jnp.zeros_like(x)
    for k in range(STEPS):
        before = before + 1.0 / (positive + k)
    inverse = 1.0 / moved
    square = inverse * inverse
    series = jnp.zeros_like(x)
    for term in SERIES:
        series = (series + term) * square
    value = log(moved) - 0.5 * inverse - series
    value = jnp.where(positive < STEPS, value - before, value)
    turns = x - jnp.round(x)
    reflected = value - np.pi / moderate_tangent(np.pi * turns)
    reflected = jnp.where((turns == 0) | (x == -jnp.inf), jnp.nan, reflected)
    return jnp.where(below, reflected, value)
