r"""Exponentials, logarithms and powers in plain arithmetic.

It vectorizes where a call of the C library can't.  Each function is within two units in the last
place (those that are made of one another; the others within one), for float64 and float32.
Subnormal arguments count as zero, and subnormal results are zero.  Sines and arc tangents are in
`jaxlsq.numerics.circular`.

- Exponential: :math:`x = k \ln 2 + r` and a polynomial in r.
- Logarithm: :math:`x = 2^k m` with m between the roots of 1/2 and 2, and a polynomial in
  :math:`s = (m - 1) / (m + 1)`.
- Power: the logarithm in two parts, so that y times it is exact to 60 bits, and the exponential.

Source: W. J. Cody, W. Waite, "Software Manual for the Elementary Functions" (1980), for the
reductions; S. L. Moshier's Cephes for the hyperbolic tangent; `jaxlsq.numerics.coefficients`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.numerics.coefficients import TABLES, in_float64, polynomial
from jaxlsq.numerics.types import AnyArray

__all__ = [
    "cosh",
    "exp",
    "expm1",
    "is_negative",
    "log",
    "log1p",
    "logistic",
    "moderate_logarithm",
    "moderate_logarithm_beside_one",
    "power",
    "sinh",
    "tanh",
]


# --- exponential ------------------------------------------------------------------------


def _reduced(x, table):
    """``k - 1`` as bits of an exponent, k, and r of ``x = k log(2) + r``."""
    # A sum with this has the integer in its last bits, and the bias of a power of two.
    shift = 1.5 * 2.0**table.mantissa + (table.bias - 1)
    shifted = x * (1.0 / math.log(2.0)) + shift
    k = shifted - shift
    bits = lax.bitcast_convert_type(shifted, table.integer)
    half_power = lax.bitcast_convert_type(
        lax.shift_left(bits, table.integer(table.mantissa)), x.dtype
    )
    return half_power, (x - k * table.ln2[0]) - k * table.ln2[1]


def exp(x: jax.Array) -> jax.Array:
    """The exponential; zero already within half an octave of the smallest normal number."""
    table = TABLES[x.dtype]
    # Above the upper end the product is infinite.
    ends = table.least, table.most + 1e-3
    half_power, r = _reduced(jnp.minimum(jnp.maximum(x, ends[0]), ends[1]), table)
    return _exponential_of_rest(r, table, 2.0) * half_power


def _exponential_of_rest(r, table, factor=1.0):
    """A factor times ``exp(r)``."""
    coefficients = tuple(factor * c for c in (*table.exponential, 1.0, 1.0))
    return polynomial(coefficients, r)


def _half_exponential(x: jax.Array, rest: AnyArray | None = None) -> jax.Array:
    """``exp(x + rest) / 2`` for x that is not too large, and a rest far below one."""
    table = TABLES[x.dtype]
    half_power, r = _reduced(jnp.maximum(x, table.least), table)
    return _exponential_of_rest(r if rest is None else r + rest, table) * half_power


def expm1(x: jax.Array) -> jax.Array:
    """``exp(x) - 1``."""
    table = TABLES[x.dtype]
    # Below this it is -1 to the last bit.
    half_power, r = _reduced(jnp.maximum(x, -2.0 * table.mantissa), table)
    small = r + r * r * polynomial(table.exponential, r)
    value = 2.0 * (half_power * small + (half_power - 0.5))
    return jnp.where(x > table.most, jnp.inf, value)


def logistic(x: jax.Array) -> jax.Array:
    """``1 / (1 + exp(-x))``."""
    return 1.0 / (1.0 + exp(-x))


# Of sinh(x) - x, over x ** 3.
_SINH = tuple(1.0 / math.factorial(k) for k in range(19, 1, -2))
_TANH_ABOVE = (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
_TANH_BELOW = (1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3)


def tanh(x: jax.Array) -> jax.Array:
    """The hyperbolic tangent."""
    size = jnp.minimum(jnp.abs(x), 22.0)  # where it is one
    z = jnp.minimum(size, 0.625) ** 2
    small = size + size * (z * polynomial(_TANH_ABOVE, z) / polynomial(_TANH_BELOW, z))
    value = 1.0 - 1.0 / (_half_exponential(size + size) + 0.5)
    value = jnp.where(size < 0.625, small, value)
    value = jnp.where(x < 0, -value, value)
    return jnp.where(x == x, value, x)


def sinh(x: jax.Array) -> jax.Array:
    """The hyperbolic sine."""
    size = jnp.abs(x)
    half = _exponential_of_size(size)
    z = jnp.minimum(size, 1.0) ** 2
    small = size + size * (z * polynomial(_SINH, z))
    value = jnp.where(size < 1.0, small, half - 0.25 / half)
    return jnp.where(x < 0, -value, value)


def cosh(x: jax.Array) -> jax.Array:
    """The hyperbolic cosine."""
    half = _exponential_of_size(jnp.abs(x))
    return half + 0.25 / half


def _exponential_of_size(size):
    """``exp(size) / 2``, which reaches further than the exponential."""
    most = TABLES[size.dtype].most
    return jnp.where(size > most + math.log(2.0), jnp.inf, _half_exponential(size))


# --- logarithm, power ---------------------------------------------------------------------


def _split(x):
    """m - 1 and k of positive normal numbers."""
    table = TABLES[x.dtype]
    integer = table.integer
    one = integer(table.bias << table.mantissa)
    bits = lax.bitcast_convert_type(x, table.integer) + (one - integer(table.root_half))
    exponent = lax.shift_right_logical(bits, integer(table.mantissa))
    m = (bits & integer((1 << table.mantissa) - 1)) + integer(table.root_half)
    k = (exponent - integer(table.bias)).astype(jnp.int32).astype(x.dtype)
    return lax.bitcast_convert_type(m, x.dtype) - 1.0, k


def _joined(f: jax.Array, k: jax.Array, more: AnyArray = 0.0) -> jax.Array:
    """``log(1 + f) + k log(2) + more``, with little more."""
    table = TABLES[f.dtype]
    s, half = f / (2.0 + f), 0.5 * f * f
    z = s * s
    rest = s * (half + z * polynomial(table.logarithm, z)) + (k * table.ln2[1] + more)
    return k * table.ln2[0] - ((half - rest) - f)


def moderate_logarithm(x: jax.Array) -> jax.Array:
    """``log(x)`` for positive normal numbers."""
    return _joined(*_split(x))


def moderate_logarithm_beside_one(x: jax.Array) -> jax.Array:
    """``log(1 + x)``, for x above -1."""
    u = 1.0 + x
    f, k = _split(u)
    lost = jnp.where(k == 0, 0.0, (x - (u - 1.0)) / u)
    return _joined(jnp.where(k == 0, x, f), k, lost)


def _with_ends(value, x):
    """A logarithm of x, also where x is zero, negative or not finite."""
    tiny = jnp.finfo(x.dtype).tiny
    value = jnp.where(x < jnp.inf, value, x)
    return jnp.where(x < tiny, jnp.where(x > -tiny, -jnp.inf, jnp.nan), value)


def log(x: jax.Array) -> jax.Array:
    """The natural logarithm."""
    return _with_ends(moderate_logarithm(x), x)


def log1p(x: jax.Array) -> jax.Array:
    """``log(1 + x)``."""
    return _with_ends(moderate_logarithm_beside_one(x), 1.0 + x)


def _shortened(x):
    """The first 26 bits of float64."""
    bits = lax.bitcast_convert_type(x, jnp.int64) & np.int64(-1 << 27)
    return lax.bitcast_convert_type(bits, x.dtype)


def _logarithm_parts(x):
    """``log(x)`` of positive normal float64 as a sum of two."""
    table = TABLES[x.dtype]
    f, k = _split(x)
    below = 2.0 + f
    s = f / below
    z = s * s
    first, short = _shortened(s), _shortened(below)
    left = (f - first * short) - first * (f - (short - 2.0))
    rest = 2.0 * (left / below) + (s * z * polynomial(table.logarithm, z) + k * table.ln2[1])
    a, b = k * table.ln2[0], 2.0 * first
    main = a + b
    rest = ((a - main) + b) + rest
    total = main + rest
    return total, (main - total) + rest


@in_float64
def power(x: jax.Array, y: jax.Array) -> jax.Array:
    """``x ** y``; not a number for a negative x and a y that is no integer."""
    size, tiny = jnp.abs(x), jnp.finfo(x.dtype).tiny
    high, low = _logarithm_parts(jnp.where((size >= tiny) & (size < jnp.inf), size, 1.0))
    y_1, high_1 = _shortened(y), _shortened(high)
    product = y_1 * high_1  # exactly
    rest = y_1 * (high - high_1) + (y - y_1) * high + y * low
    # Beyond these the power is zero or infinite, as it is of a zero or an infinity.
    near = (jnp.abs(product) < 1e3) & (size >= tiny) & (size < jnp.inf)
    logarithm = jnp.where(near, product, y * log(size))
    rest = jnp.where(near, rest, 0.0)
    value = 2.0 * _half_exponential(logarithm, rest)
    value = jnp.where(logarithm + rest > TABLES[x.dtype].most, jnp.inf, value)
    whole = jnp.floor(y) == y
    odd = whole & (jnp.floor(0.5 * y) != 0.5 * y)
    value = jnp.where(is_negative(x) & odd, -value, value)
    value = jnp.where((x < 0) & ~whole & (size < jnp.inf), jnp.nan, value)
    certain = (y == 0) | (x == 1.0) | ((x == -1.0) & (jnp.abs(y) == jnp.inf))
    return jnp.where(certain, 1.0, value)


def is_negative(x: jax.Array) -> jax.Array:
    """Numbers below zero, and the negative zero."""
    return (x < 0) | ((x == 0) & (1.0 / x < 0))
