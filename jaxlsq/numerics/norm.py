"""The Euclidean norm that neither overflows nor underflows."""

from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.numerics.types import AnyArray

__all__ = ["divide", "norm2", "power_of_two", "total"]

# Terms that are added one by one: more would make a kernel that compiles slowly.
UNROLLED_TERMS = 32


def norm2(v: AnyArray, axis: int = -1, xp: ModuleType = jnp) -> AnyArray:
    r"""Euclidean norm :math:`\sqrt{\sum_i v_i^2}` along `axis`.

    Components are divided by the largest one only where their squares would
    leave the range of the type; otherwise by one, so that there the result
    is the plain formula's to the last bit.

    Parameters
    ----------
    v : (..., k) array
        Any units.
    axis : int
        The axis that is summed.
    xp : module
        jax.numpy or numpy.

    Returns
    -------
    (...) array
        In the units of `v`.  NaN if a component is NaN, inf if one is infinite.

    Notes
    -----
    MINPACK's ``enorm`` keeps three partial sums for the same purpose.
    """
    info = jnp.finfo(v.dtype)
    # 2**(+-maxexp / 4): squares of what lies between stay far inside the range,
    # also when there are many of them.
    high = 2.0 ** (info.maxexp // 4)
    largest = xp.max(xp.abs(v), axis=axis, keepdims=True, initial=0.0)
    extreme = (largest > high) | (largest < 1.0 / high)
    unit = xp.where(extreme & (largest > 0) & xp.isfinite(largest), largest, 1.0)
    return xp.squeeze(unit, axis) * xp.sqrt(xp.sum(xp.square(v / unit), axis=axis))


def power_of_two(v: AnyArray) -> jax.Array:
    """The power of two in (v, 2 v], to divide by which rounds nothing.

    Parameters
    ----------
    v : array
        Not negative.

    Returns
    -------
    array
        One where v is zero or not finite; at most a quarter of the range's end, so
        that its reciprocal is a normal number.
    """
    v = jnp.asarray(v)
    info, integer = jnp.finfo(v.dtype), {4: np.int32, 8: np.int64}[v.dtype.itemsize]
    # The bits of the exponent alone are the power of two below.
    exponent = integer((1 << info.nexp) - 1 << info.nmant)
    power = lax.bitcast_convert_type(lax.bitcast_convert_type(v, integer) & exponent, v.dtype)
    usable = (v >= info.tiny) & jnp.isfinite(v)
    return jnp.where(usable, jnp.minimum(2.0 * power, 2.0 ** (info.maxexp - 2)), 1.0)


def divide(v: AnyArray, divisor: AnyArray) -> jax.Array:
    """``v / divisor``, rounded once, with a scalar divisor.

    XLA would multiply by the reciprocal, which rounds twice: a number divided by
    itself would not always be one.
    """
    return v / lax.optimization_barrier(jnp.broadcast_to(divisor, v.shape))


def total(v: jax.Array) -> jax.Array:
    """Sum along the first, short axis.

    With lanes behind it, term by term: XLA:CPU vectorizes that over the lanes, and not a
    reduction of a leading axis.
    """
    if v.ndim == 1 or v.shape[0] > UNROLLED_TERMS:
        return jnp.sum(v, axis=0)
    return sum(v[1:], start=v[0])
