r"""Convolutions along one axis that are fast on a CPU for many short pairs.

Under `vmap` a convolution of a data set with a kernel of its own is XLA's grouped one, which on a
CPU is hundreds of times slower than NumPy's loop.  Here it is the sum over the taps,

.. math:: y_t = \sum_k x_{t + k - p} \, r_k

of shifted products, some at a time: all of them vectorize, and zeros stay exact zeros, which a
Fourier transform would not leave.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.tracing.types import Equation

__all__ = ["convolve", "is_slow"]

# Taps of one kernel: fewer pass over the data more often, more compile longer.
TAPS = 8


def is_slow(eqn: Equation, least_groups: int = 2) -> bool:
    """Whether an equation is a convolution of pairs, of real numbers and along one axis.

    Parameters
    ----------
    eqn : JaxprEqn
    least_groups : int
        How many pairs there must be.
    """
    if eqn.primitive.name != "conv_general_dilated":
        return False
    left, right = (atom.aval for atom in eqn.invars)
    if left.ndim != 3 or left.dtype != right.dtype or left.dtype not in (np.float32, np.float64):
        return False
    params, numbers = eqn.params, eqn.params["dimension_numbers"]
    plain = all(
        set(params[name]) == {1} for name in ("window_strides", "lhs_dilation", "rhs_dilation")
    )
    groups = params["feature_group_count"]
    pairs = left.shape[numbers.lhs_spec[1]] == right.shape[numbers.rhs_spec[0]] == groups
    one_each = right.shape[numbers.rhs_spec[1]] == 1 and params["batch_group_count"] == 1
    return plain and pairs and one_each and groups >= least_groups


def convolve(
    left: jax.Array, right: jax.Array, *, dimension_numbers: Any, padding: Any, **_: Any
) -> jax.Array:
    """The convolution of an equation that `is_slow`, of its operands and parameters."""
    (before, after), numbers = padding[0], dimension_numbers
    x = jnp.transpose(left, numbers.lhs_spec)
    front = x.shape[:2]
    x = x.reshape(-1, x.shape[2])
    taps = jnp.transpose(right, numbers.rhs_spec)
    taps = jnp.broadcast_to(taps[:, 0], (front[0], *taps[:, 0].shape)).reshape(x.shape[0], -1)
    size = x.shape[1] + before + after - taps.shape[1] + 1
    if size > x.shape[1]:
        out = _spread(x, taps, before, size)
    else:
        out = _gathered(_padded(x, before, after), taps, size)
    return jnp.transpose(out.reshape(*front, size), np.argsort(numbers.out_spec).tolist())


def _padded(rows, before, after):
    """Rows with zeros, or with less where that is negative."""
    zero = jnp.zeros((), rows.dtype)
    return lax.pad(rows, zero, ((0, 0, 0), (before, after, 0)))


def _blocks(taps):
    """Taps in blocks of equal length, zeros in the last one, and how long they are."""
    count = taps.shape[1]
    length = min(count, TAPS)
    return _padded(taps, 0, -count % length), length


def _gathered(x, taps, size):
    """``y_t`` for t below `size`, from padded x: a window of x for each block of taps."""
    taps, length = _blocks(taps)
    x = _padded(x, 0, taps.shape[1])

    def add(i, out):
        window = lax.dynamic_slice_in_dim(x, i * length, size + length - 1, 1)
        return out + _products(window, taps, i, length, size)

    out = jnp.zeros((x.shape[0], size), x.dtype)
    return lax.fori_loop(0, taps.shape[1] // length, add, out)


def _spread(x, taps, before, size):
    """The same where there are more results than points: each block adds to those it reaches."""
    taps, length = _blocks(taps)
    reach = x.shape[1] + length - 1
    blocks = taps.shape[1] // length
    x = _padded(x, length - 1, length - 1)

    def add(i, out):
        first = (blocks - 1 - i) * length
        reached = lax.dynamic_slice_in_dim(out, first, reach, 1)
        reached = reached + _products(x, taps, i, length, reach)
        return lax.dynamic_update_slice_in_dim(out, reached, first, 1)

    out = jnp.zeros((x.shape[0], reach + (blocks - 1) * length), x.dtype)
    out = lax.fori_loop(0, blocks, add, out)
    # The first place of `out` is that of the last tap on the first point.
    begin = taps.shape[1] - 1 - before
    return _padded(out, -begin, begin + size - out.shape[1])


def _products(window, taps, i, length, size):
    """The sum over the i-th block of taps of ``window[t + k] taps[k]``."""
    taps = lax.dynamic_slice_in_dim(taps, i * length, length, 1)
    products = (
        lax.slice_in_dim(window, k, k + size, axis=1) * taps[:, k, None] for k in range(length)
    )
    return sum(products, jnp.zeros((), window.dtype))
