r"""Sine, cosine, tangent and arc tangent in plain arithmetic, as `jaxlsq.numerics.elementary`'s.

- Sine, cosine, tangent: :math:`x = k \pi / 2 + r` with r in :math:`[-\pi/4, \pi/4]`, and
  polynomials in r.  Where k has more than 20 bits (10 in float32, which then is within 1e-7, where
  there is no float64) the reduction would lose digits: `is_far` says where.
- Arc tangent: a rational function, of x, of :math:`(x - 1) / (x + 1)` or of :math:`-1/x`.

Source: W. J. Cody, W. Waite, "Software Manual for the Elementary Functions" (1980), for the
reduction; S. L. Moshier's Cephes for the arc tangent; `jaxlsq.numerics.coefficients`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.numerics.coefficients import TABLES, in_float64, polynomial
from jaxlsq.numerics.elementary import is_negative

__all__ = [
    "atan",
    "atan2",
    "is_far",
    "moderate_cosine",
    "moderate_sine",
    "moderate_tangent",
]

# --- sine, cosine, tangent ----------------------------------------------------------------

# Half of pi in three; k times one of the first two is exact, up to the largest argument.
_HALF_PI = {
    np.dtype(np.float64): (
        1.57079632673412561417,
        6.07710050630396597660e-11,
        2.02226624879595063154e-21,
    ),
    np.dtype(np.float32): (1.5703125, 4.837512969970703125e-4, 7.54978994877e-8),
}
_LARGEST = {np.dtype(np.float64): 1.6e6, np.dtype(np.float32): 1e3}


def _reduction_type(dtype):
    """Of the reduction: float64 for float32 too, of which it loses nothing, where there is one."""
    return jax.dtypes.canonicalize_dtype(np.float64) if dtype == np.float32 else dtype


def is_far(x: jax.Array) -> jax.Array:
    """Arguments for which `moderate_sine` and the like lose digits."""
    return jnp.abs(x) > _LARGEST[np.dtype(_reduction_type(x.dtype))]


def _quarters(x):
    """``x = k pi / 2 + r + rest``, where the rest is what r loses to rounding."""
    parts = _HALF_PI[x.dtype]
    k = jnp.round(x * (2.0 / jnp.pi))
    first, second = x - k * parts[0], k * parts[1]
    near = first - second
    tail = ((first - near) - second) - k * parts[2]
    r = near + tail
    return k, r, (near - r) + tail


def _quarter(x):
    """k, and sine and cosine of ``r = x - k pi / 2``."""
    table = TABLES[x.dtype]
    k, r, rest = _quarters(x.astype(_reduction_type(x.dtype)))
    k, r, rest = (v.astype(x.dtype) for v in (k, r, rest))
    z = r * r
    sine = r + (r * z * polynomial(table.sine, z) + rest)
    half = 0.5 * z
    whole = 1.0 - half
    cosine = whole + (((1.0 - whole) - half) + (z * z * polynomial(table.cosine, z) - r * rest))
    return k, sine, cosine


def _turned(x, quarters):
    """``sin(x + quarters * pi / 2)``."""
    k, sine, cosine = _quarter(x)
    k = k + quarters
    quadrant = k - 4.0 * jnp.floor(0.25 * k)
    value = jnp.where((quadrant == 1.0) | (quadrant == 3.0), cosine, sine)
    return jnp.where(quadrant >= 2.0, -value, value)


def moderate_sine(x: jax.Array) -> jax.Array:
    """The sine where x is not `is_far`."""
    return _turned(x, 0.0)


def moderate_cosine(x: jax.Array) -> jax.Array:
    """The cosine where x is not `is_far`."""
    return _turned(x, 1.0)


def moderate_tangent(x: jax.Array) -> jax.Array:
    """The tangent where x is not `is_far`."""
    k, sine, cosine = _quarter(x)
    odd = 0.5 * k != jnp.floor(0.5 * k)
    return jnp.where(odd, -cosine, sine) / jnp.where(odd, sine, cosine)


# --- arc tangent ------------------------------------------------------------------------------

_ATAN_ABOVE = (
    -8.750608600031904122785e-1,
    -1.615753718733365076637e1,
    -7.500855792314704667340e1,
    -1.228866684490136173410e2,
    -6.485021904942025371773e1,
)
_ATAN_BELOW = (
    1.0,
    2.485846490142306297962e1,
    1.650270098316988542046e2,
    4.328810604912902668951e2,
    4.853903996359136964868e2,
    1.945506571482613964425e2,
)
_MORE_OF_HALF_PI = 6.123233995736765886130e-17


@in_float64
def atan(x: jax.Array) -> jax.Array:
    """The arc tangent."""
    size = jnp.abs(x)
    big, middle = size > 2.414213562373095, size > 0.66
    above = jnp.where(big, -1.0, jnp.where(middle, size - 1.0, size))
    below = jnp.where(big, size, jnp.where(middle, size + 1.0, 1.0))
    base = jnp.where(big, jnp.pi / 2, jnp.where(middle, jnp.pi / 4, 0.0))
    more = jnp.where(big, _MORE_OF_HALF_PI, jnp.where(middle, 0.5 * _MORE_OF_HALF_PI, 0.0))
    u = above / below
    z = u * u
    value = u * (z * polynomial(_ATAN_ABOVE, z) / polynomial(_ATAN_BELOW, z)) + u
    value = base + (value + more)
    return jnp.where(x < 0, -value, value)


@in_float64
def atan2(y: jax.Array, x: jax.Array) -> jax.Array:
    """The angle of the point (x, y)."""
    a, b = jnp.abs(y), jnp.abs(x)
    infinite = (a == jnp.inf) & (b == jnp.inf)
    a, b = jnp.where(infinite, 1.0, a), jnp.where(infinite, 1.0, b)
    nowhere = (a == 0) & (b == 0)
    angle = atan(jnp.where(nowhere, 0.0, a / jnp.where(nowhere, 1.0, b)))
    flipped = jnp.pi - (angle - 2.0 * _MORE_OF_HALF_PI)
    angle = jnp.where(is_negative(x), flipped, angle)
    angle = jnp.where(is_negative(y), -angle, angle)
    return jnp.where((x == x) & (y == y), angle, x + y)
