"""The numbers that elementary functions are made of, for float64 and float32.

Source: FDLIBM's ``__kernel_sin``, ``__kernel_cos``, ``__ieee754_log`` and ``__ieee754_logf``;
S. L. Moshier's Cephes for sine and cosine of float32; and, for the exponential, interpolation of
:math:`(e^r - 1 - r) / r^2` at Chebyshev's points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["TABLES", "Table", "in_float64", "polynomial"]


@dataclass(frozen=True)
class Table:
    """What the formulas need to know of a floating-point type."""

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


TABLES: dict[np.dtype[Any], Table] = {
    np.dtype(np.float64): Table(
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
    np.dtype(np.float32): Table(
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


def polynomial(coefficients: Sequence[float], z: jax.Array) -> jax.Array:
    """A polynomial in z; the coefficient of the highest power is the first."""
    value = jnp.full_like(z, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * z + coefficient
    return value


def in_float64(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A function of float64 for float32 too, of which then no digit is lost."""

    def either(*arguments):
        wide = (x.astype(jnp.float64) for x in arguments)
        return function(*wide).astype(arguments[0].dtype)

    either.__doc__ = function.__doc__
    return either
