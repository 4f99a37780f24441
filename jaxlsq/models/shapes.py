"""What many models are made of: reduced coordinates and powers that stay finite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "coordinates",
    "exponential",
    "floating",
    "log_power",
    "logarithm",
    "nonzero",
    "positive",
    "reduced",
    "sigmoid",
]

# A width or a scale below this counts as this: its square, and its square's inverse, are finite.
_FLOOR = {np.dtype(np.float64): 1e-100, np.dtype(np.float32): 1e-18}
# Reduced coordinates beyond: their fourth power is finite.
_FAR = {np.dtype(np.float64): 1e70, np.dtype(np.float32): 1e9}
# Exponents beyond: their exponential, and its product with something of size one, are finite.
_EXPONENT = {np.dtype(np.float64): 700.0, np.dtype(np.float32): 85.0}

# Its inverse is finite, and its product with something of size 100.
_LEAST = {np.dtype(np.float64): 1e-300, np.dtype(np.float32): 1e-36}
# Logarithms of what is zero or infinite in both types.
_BEYOND = 1e4


def coordinates(x: Any, count: int) -> tuple[Any, ...]:
    """The variables of points: of x as an array of shape (count, m), or as a tuple of them.

    Raises
    ------
    ValueError
        Where there are more or fewer.
    """
    several = isinstance(x, (tuple, list))
    found = len(x) if several else (np.shape(x) or (0,))[0]
    if found != count:
        wanted = f"a ({count}, m) array or a tuple of {count}" if count > 1 else "an (m,) array"
        got = f"{found} variable{'s' * (found != 1)}" if several else f"the shape {np.shape(x)}"
        raise ValueError(f"x must be {wanted}, with the coordinates of each point; got {got}.")
    return tuple(x)


def floating(value: Any) -> jax.Array:
    """A JAX array of floating-point numbers."""
    value = jnp.asarray(value)
    return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(float)


def positive(value: Any) -> jax.Array:
    """A scale, or the least one where it is smaller, zero or negative."""
    value = floating(value)
    return jnp.maximum(value, _FLOOR.get(value.dtype, 1e-4))


def nonzero(value: Any) -> jax.Array:
    """A scale of either sign, or the least positive one where it is smaller in size."""
    value = floating(value)
    least = _FLOOR.get(value.dtype, 1e-4)
    return jnp.where(jnp.abs(value) < least, jnp.full_like(value, least), value)


def reduced(x: Any, center: Any, sigma: Any, most: float | None = None) -> jax.Array:
    """``(x - center) / sigma``, no larger in size than `most`.

    Where that is not given, than what has a finite fourth power.
    """
    u = (floating(x) - center) / positive(sigma)
    most = _FAR.get(u.dtype, 100.0) if most is None else most
    return jnp.clip(u, -most, most)


def logarithm(value: Any) -> jax.Array:
    """Of what should be positive; of other numbers that of the smallest scale."""
    return jnp.log(positive(value))


def log_power(x: Any, scale: Any, power: Any) -> jax.Array:
    """The logarithm of ``(x / scale) ** power``.

    Where x or the scale is zero, or negative, the limit: so far from zero that nothing is left
    of its exponential's inverse, or of the exponential.
    """
    x, scale, power = floating(x), floating(scale), floating(power)
    known = (x > 0) & (scale > 0)
    least = _LEAST.get(scale.dtype, 1e-4)
    logarithms = [jnp.log(jnp.where(known, jnp.maximum(v, least), 1.0)) for v in (x, scale)]
    value = power * (logarithms[0] - logarithms[1])
    far = _BEYOND * jnp.sign(power)
    return jnp.where(known, value, jnp.where(x > 0, far, -far))


def exponential(value: Any) -> jax.Array:
    """``exp(value)``, of exponents no larger in size than what has a finite one."""
    value = floating(value)
    most = _EXPONENT.get(value.dtype, 10.0)
    return jnp.exp(jnp.clip(value, -most, most))


def sigmoid(value: Any) -> jax.Array:
    """``1 / (1 + exp(-value))``."""
    value = floating(value)
    most = _EXPONENT.get(value.dtype, 10.0)
    return jax.lax.logistic(jnp.clip(value, -most, most))
