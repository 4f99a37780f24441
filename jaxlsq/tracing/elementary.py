r"""Sine, cosine and logarithm that vectorize on a CPU.

XLA:CPU calls the C library for each element, and again in each kernel that reads the result:
more than the rest of the fit of a sinusoid.  Here :math:`x = k \pi / 2 + r` with r in
:math:`[-\pi/4, \pi/4]`, and polynomials in r, all in plain arithmetic; the result is within one
unit in the last place of the true one (in float32 within 1e-7, which near a zero is more).  Where
k has more than 20 bits, in float32 10, the reduction would lose digits, and the C library is asked.

The logarithm, of which XLA vectorizes that of float32, is of :math:`x = 2^k m` with m between
the roots of 1/2 and 2, and a polynomial in :math:`(m - 1) / (m + 1)`.

Source: W. J. Cody, W. Waite, "Software Manual for the Elementary Functions" (1980), chapter 8,
for the reduction; coefficients are those of FDLIBM's ``__kernel_sin``, ``__kernel_cos`` and
``__ieee754_log``, in float32 those of S. L. Moshier's Cephes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.tracing.types import Equation

__all__ = ["is_replaced", "replacement"]


@dataclass(frozen=True)
class _Table:
    """What the formula needs to know of a type."""

    largest: float  # of arguments: more would lose digits
    parts: tuple[float, ...]  # half of pi in three; k times one of the first two is exact
    sine: tuple[float, ...]
    cosine: tuple[float, ...]


_TABLES = {
    np.dtype(np.float64): _Table(
        largest=1.6e6,
        parts=(1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21),
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
    ),
    np.dtype(np.float32): _Table(
        largest=1e3,
        parts=(1.5703125, 4.837512969970703125e-4, 7.54978994877e-8),
        sine=(-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1),
        cosine=(2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2),
    ),
}


def _polynomial(coefficients, z):
    value = jnp.full_like(z, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * z + coefficient
    return value


def _shifted_sine(x, quarters):
    """``sin(x + quarters * pi / 2)`` for moderate x."""
    table = _TABLES[x.dtype]
    k = jnp.round(x * (2.0 / jnp.pi))
    # r + rest, what r loses of the difference to rounding.
    first, second = x - k * table.parts[0], k * table.parts[1]
    near = first - second
    tail = ((first - near) - second) - k * table.parts[2]
    r = near + tail
    rest = (near - r) + tail
    z = r * r
    sine = r + (r * z * _polynomial(table.sine, z) + rest)
    half = 0.5 * z
    whole = 1.0 - half
    cosine = whole + (((1.0 - whole) - half) + (z * z * _polynomial(table.cosine, z) - r * rest))
    k = k + quarters
    quadrant = k - 4.0 * jnp.floor(0.25 * k)
    value = jnp.where((quadrant == 1.0) | (quadrant == 3.0), cosine, sine)
    return jnp.where(quadrant >= 2.0, -value, value)


_LOGARITHM = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
)
_LN2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)  # k times the first is exact
_ROOT_HALF = 0x3FE6A09E667F3BCD  # its bits
_ONE = 0x3FF0000000000000


def _split(x):
    """m - 1 and k of positive normal float64."""
    bits = lax.bitcast_convert_type(x, jnp.int64) + (_ONE - _ROOT_HALF)
    exponent = lax.shift_right_logical(bits, jnp.int64(52))
    m = lax.bitcast_convert_type((bits & (2**52 - 1)) + _ROOT_HALF, x.dtype)
    return m - 1.0, (exponent - 1023).astype(jnp.int32).astype(x.dtype)


def _joined(f, k):
    """``log(1 + f) + k log(2)``."""
    s, half = f / (2.0 + f), 0.5 * f * f
    z = s * s
    rest = s * (half + z * _polynomial(_LOGARITHM, z)) + k * _LN2[1]
    return k * _LN2[0] - ((half - rest) - f)


def _logarithm(x):
    """``log(x)`` for positive normal float64."""
    return _joined(*_split(x))


def _logarithm_beside_one(x):
    """``log(1 + x)``, for x above -1."""
    f, k = _split(1.0 + x)
    return _joined(jnp.where(k == 0, x, f), k)


def _unusual(x):
    """Zero, negative, subnormal or not finite."""
    return ~((x >= jnp.finfo(x.dtype).tiny) & (x < jnp.inf))


def _too_large(x):
    return jnp.abs(x) > _TABLES[x.dtype].largest


def _fast(exact, moderate, special):
    def any_value(x):
        # Element by element, so that a special one changes no bit of the others.
        return jnp.where(special(x), exact(x), moderate(x))

    def evaluate(x):
        return lax.cond(jnp.any(special(x)), any_value, moderate, x)

    return evaluate


_REPLACEMENTS = {
    "sin": _fast(lax.sin, partial(_shifted_sine, quarters=0.0), _too_large),
    "cos": _fast(lax.cos, partial(_shifted_sine, quarters=1.0), _too_large),
    "log": _fast(lax.log, _logarithm, _unusual),
    "log1p": _fast(lax.log1p, _logarithm_beside_one, lambda x: _unusual(1.0 + x)),
}


def is_replaced(eqn: Equation) -> bool:
    """Whether an equation of a jaxpr has a faster form here."""
    name = eqn.primitive.name
    types = (np.dtype(np.float64),) if name.startswith("log") else _TABLES
    return name in _REPLACEMENTS and eqn.invars[0].aval.dtype in types


def replacement(eqn: Equation) -> Callable[[jax.Array], jax.Array]:
    """The faster form of an equation, a function of one array."""
    return _REPLACEMENTS[eqn.primitive.name]
