r"""Elementary functions in plain arithmetic, which vectorizes where a call of the C library can't.

Each is within two units in the last place (those that are made of one another; the others within
one), for float64 and float32.  Subnormal arguments count as zero, and subnormal results are zero.

- Exponential: :math:`x = k \ln 2 + r` and a polynomial in r.
- Sine, cosine, tangent: :math:`x = k \pi / 2 + r` with r in :math:`[-\pi/4, \pi/4]`, and
  polynomials in r.  Where k has more than 20 bits (10 in float32, which then is within 1e-7, where
  there is no float64) the reduction would lose digits: `is_far` says where.
- Logarithm: :math:`x = 2^k m` with m between the roots of 1/2 and 2, and a polynomial in
  :math:`s = (m - 1) / (m + 1)`.
- Power: the logarithm in two parts, so that y times it is exact to 60 bits, and the exponential.
- Arc tangent: a rational function, of x, of :math:`(x - 1) / (x + 1)` or of :math:`-1/x`.

Source: W. J. Cody, W. Waite, "Software Manual for the Elementary Functions" (1980), for the
reductions; coefficients are those of FDLIBM's ``__kernel_sin``, ``__kernel_cos``,
``__ieee754_log`` and ``__ieee754_logf``, of S. L. Moshier's Cephes (``atan``; sine and cosine of
float32), and, for the exponential, interpolation of :math:`(e^r - 1 - r) / r^2` at Chebyshev's
points.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.numerics.types import AnyArray

__all__ = [
    "atan",
    "atan2",
    "cos",
    "cosh",
    "exp",
    "expm1",
    "is_far",
    "log",
    "log1p",
    "logistic",
    "moderate_cosine",
    "moderate_logarithm",
    "moderate_logarithm_beside_one",
    "moderate_sine",
    "power",
    "sinh",
    "tan",
    "tanh",
]


@dataclass(frozen=True)
class _Table:
    """What the formulas need to know of a type."""

    mantissa: int  # its bits
    bias: int  # of the exponent
    integer: Any  # of the same size
    least: float  # exp of less is zero
    most: float  # exp of more is infinite
    ln2: tuple[float, float]  # k times the first is exact
    exponential: tuple[float, ...]
    sine: tuple[float, ...]
    cosine: tuple[float, ...]
    root_half: int  # the bits of the root of 1/2
    logarithm: tuple[float, ...]


_TABLES = {
    np.dtype(np.float64): _Table(
        mantissa=52,
        bias=1023,
        integer=np.int64,
        least=-708.5,
        most=709.782712893384,
        ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
        exponential=(
            2.5100424157005066788e-8,
            2.7620138719733995569e-7,
            2.7557268378684192873e-6,
            2.4801521190217727651e-5,
            1.9841269863105968748e-4,
            1.3888888917281793308e-3,
            8.3333333333300513464e-3,
            4.1666666666623991516e-2,
            1.6666666666666667456e-1,
            0.5,
        ),
        sine=(
            1.58969099521155010221e-10,
            -2.50507602534068634195e-08,
            2.75573137070700676789e-06,
            -1.98412698298579493134e-04,
            8.33333333332248946124e-03,
            -1.66666666666666324348e-01,
        ),
        cosine=(
            -1.13596475577881948265e-11,
            2.08757232129817482790e-09,
            -2.75573143513906633035e-07,
            2.48015872894767294178e-05,
            -1.38888888888741095749e-03,
            4.16666666666666019037e-02,
        ),
        root_half=0x3FE6A09E667F3BCD,
        logarithm=(
            1.479819860511658591e-01,
            1.531383769920937332e-01,
            1.818357216161805012e-01,
            2.222219843214978396e-01,
            2.857142874366239149e-01,
            3.999999999940941908e-01,
            6.666666666666735130e-01,
        ),
    ),
    np.dtype(np.float32): _Table(
        mantissa=23,
        bias=127,
        integer=np.int32,
        least=-87.6,
        most=88.72283,
        ln2=(0.693359375, -2.12194440054690583e-4),
        exponential=(
            1.3926213466332443e-3,
            8.3632029715758549e-3,
            4.1666554437685939e-2,
            1.6666576845993976e-1,
            0.5,
        ),
        sine=(-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1),
        cosine=(2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2),
        root_half=0x3F3504F3,
        logarithm=(0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693),
    ),
}


def _polynomial(coefficients: Sequence[float], z: jax.Array) -> jax.Array:
    value = jnp.full_like(z, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * z + coefficient
    return value


def _in_float64(function):
    """A function of float64 for float32 too, of which then no digit is lost."""

    def either(*arguments):
        wide = (x.astype(jnp.float64) for x in arguments)
        return function(*wide).astype(arguments[0].dtype)

    either.__doc__ = function.__doc__
    return either


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
    table = _TABLES[x.dtype]
    # Above the upper end the product is infinite.
    ends = table.least, table.most + 1e-3
    half_power, r = _reduced(jnp.minimum(jnp.maximum(x, ends[0]), ends[1]), table)
    return _exponential_of_rest(r, table, 2.0) * half_power


def _exponential_of_rest(r, table, factor=1.0):
    """A factor times ``exp(r)``."""
    coefficients = tuple(factor * c for c in (*table.exponential, 1.0, 1.0))
    return _polynomial(coefficients, r)


def _half_exponential(x: jax.Array, rest: AnyArray | None = None) -> jax.Array:
    """``exp(x + rest) / 2`` for x that is not too large, and a rest far below one."""
    table = _TABLES[x.dtype]
    half_power, r = _reduced(jnp.maximum(x, table.least), table)
    return _exponential_of_rest(r if rest is None else r + rest, table) * half_power


def expm1(x: jax.Array) -> jax.Array:
    """``exp(x) - 1``."""
    table = _TABLES[x.dtype]
    # Below this it is -1 to the last bit.
    half_power, r = _reduced(jnp.maximum(x, -2.0 * table.mantissa), table)
    small = r + r * r * _polynomial(table.exponential, r)
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
    small = size + size * (z * _polynomial(_TANH_ABOVE, z) / _polynomial(_TANH_BELOW, z))
    value = 1.0 - 1.0 / (_half_exponential(size + size) + 0.5)
    value = jnp.where(size < 0.625, small, value)
    value = jnp.where(x < 0, -value, value)
    return jnp.where(x == x, value, x)


def sinh(x: jax.Array) -> jax.Array:
    """The hyperbolic sine."""
    size = jnp.abs(x)
    half = _exponential_of_size(size)
    z = jnp.minimum(size, 1.0) ** 2
    small = size + size * (z * _polynomial(_SINH, z))
    value = jnp.where(size < 1.0, small, half - 0.25 / half)
    return jnp.where(x < 0, -value, value)


def cosh(x: jax.Array) -> jax.Array:
    """The hyperbolic cosine."""
    half = _exponential_of_size(jnp.abs(x))
    return half + 0.25 / half


def _exponential_of_size(size):
    """``exp(size) / 2``, which reaches further than the exponential."""
    most = _TABLES[size.dtype].most
    return jnp.where(size > most + math.log(2.0), jnp.inf, _half_exponential(size))


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
    table = _TABLES[x.dtype]
    k, r, rest = _quarters(x.astype(_reduction_type(x.dtype)))
    k, r, rest = (v.astype(x.dtype) for v in (k, r, rest))
    z = r * r
    sine = r + (r * z * _polynomial(table.sine, z) + rest)
    half = 0.5 * z
    whole = 1.0 - half
    cosine = whole + (((1.0 - whole) - half) + (z * z * _polynomial(table.cosine, z) - r * rest))
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


sin: Callable[[jax.Array], jax.Array] = moderate_sine
cos: Callable[[jax.Array], jax.Array] = moderate_cosine
tan: Callable[[jax.Array], jax.Array] = moderate_tangent


# --- logarithm, power ---------------------------------------------------------------------


def _split(x):
    """m - 1 and k of positive normal numbers."""
    table = _TABLES[x.dtype]
    integer = table.integer
    one = integer(table.bias << table.mantissa)
    bits = lax.bitcast_convert_type(x, table.integer) + (one - integer(table.root_half))
    exponent = lax.shift_right_logical(bits, integer(table.mantissa))
    m = (bits & integer((1 << table.mantissa) - 1)) + integer(table.root_half)
    k = (exponent - integer(table.bias)).astype(jnp.int32).astype(x.dtype)
    return lax.bitcast_convert_type(m, x.dtype) - 1.0, k


def _joined(f: jax.Array, k: jax.Array, more: AnyArray = 0.0) -> jax.Array:
    """``log(1 + f) + k log(2) + more``, with little more."""
    table = _TABLES[f.dtype]
    s, half = f / (2.0 + f), 0.5 * f * f
    z = s * s
    rest = s * (half + z * _polynomial(table.logarithm, z)) + (k * table.ln2[1] + more)
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
    table = _TABLES[x.dtype]
    f, k = _split(x)
    below = 2.0 + f
    s = f / below
    z = s * s
    first, short = _shortened(s), _shortened(below)
    left = (f - first * short) - first * (f - (short - 2.0))
    rest = 2.0 * (left / below) + (s * z * _polynomial(table.logarithm, z) + k * table.ln2[1])
    a, b = k * table.ln2[0], 2.0 * first
    main = a + b
    rest = ((a - main) + b) + rest
    total = main + rest
    return total, (main - total) + rest


@_in_float64
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
    value = jnp.where(logarithm + rest > _TABLES[x.dtype].most, jnp.inf, value)
    whole = jnp.floor(y) == y
    odd = whole & (jnp.floor(0.5 * y) != 0.5 * y)
    value = jnp.where(_is_negative(x) & odd, -value, value)
    value = jnp.where((x < 0) & ~whole & (size < jnp.inf), jnp.nan, value)
    certain = (y == 0) | (x == 1.0) | ((x == -1.0) & (jnp.abs(y) == jnp.inf))
    return jnp.where(certain, 1.0, value)


def _is_negative(x):
    """Also of a negative zero."""
    return (x < 0) | ((x == 0) & (1.0 / x < 0))


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


@_in_float64
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
    value = u * (z * _polynomial(_ATAN_ABOVE, z) / _polynomial(_ATAN_BELOW, z)) + u
    value = base + (value + more)
    return jnp.where(x < 0, -value, value)


@_in_float64
def atan2(y: jax.Array, x: jax.Array) -> jax.Array:
    """The angle of the point (x, y)."""
    a, b = jnp.abs(y), jnp.abs(x)
    infinite = (a == jnp.inf) & (b == jnp.inf)
    a, b = jnp.where(infinite, 1.0, a), jnp.where(infinite, 1.0, b)
    nowhere = (a == 0) & (b == 0)
    angle = atan(jnp.where(nowhere, 0.0, a / jnp.where(nowhere, 1.0, b)))
    flipped = jnp.pi - (angle - 2.0 * _MORE_OF_HALF_PI)
    angle = jnp.where(_is_negative(x), flipped, angle)
    angle = jnp.where(_is_negative(y), -angle, angle)
    return jnp.where((x == x) & (y == y), angle, x + y)
