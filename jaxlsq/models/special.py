r"""Special functions of the models, in real arithmetic that every engine knows.

The Faddeeva function :math:`w(z) = e^{-z^2} \operatorname{erfc}(-i z)` of the upper half plane is
a series in :math:`Z = (L + i z) / (L - i z)`,

.. math:: w(z) \approx \frac{2}{(L - i z)^2} \sum_{k=0}^{31} a_k Z^k
          + \frac{1}{\sqrt\pi (L - i z)},

with an error below 1e-13 of w's largest value, one.

Source: J. A. C. Weideman, "Computation of the complex error function", SIAM J. Numer. Anal. 31
(1994) 1497-1518; J. Stirling's series for the quotient of gamma functions.
"""

import math
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["erfcx", "faddeeva", "gamma_quotient"]

_TERMS = 32
_LENGTH = math.sqrt(_TERMS / math.sqrt(2.0))
_ROOT_PI = math.sqrt(math.pi)


@cache
def _coefficients() -> tuple[float, ...]:
    """Of the series, the highest first."""
    count = 2 * _TERMS
    angles = np.arange(1 - count, count) * np.pi / count
    t = _LENGTH * np.tan(0.5 * angles)
    values = np.concatenate([[0.0], np.exp(-t * t) * (_LENGTH**2 + t * t)])
    series = np.fft.fft(np.fft.fftshift(values)).real / (2 * count)
    return tuple(float(a) for a in series[_TERMS:0:-1])


@jax.custom_jvp
def faddeeva(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Real and imaginary part of :math:`w(x + i y)`, for y that are not negative.

    Its derivative is :math:`w' = 2 i / \sqrt\pi - 2 z w`.

    Parameters
    ----------
    x, y : arrays
        Of magnitudes whose squares are finite.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from jaxlsq.models.special import faddeeva
    >>> real, imaginary = faddeeva(jnp.array(1.0), jnp.array(1.0))
    >>> print(f"{real:.5f} {imaginary:.5f}")
    0.30474 0.20822
    """
    above = _LENGTH + y  # L - i z is (L + y) - i x
    scale = 1.0 / (above * above + x * x)
    inverse, inverse_i = above * scale, x * scale
    # Z is 2 L / (L - i z) - 1.
    z, z_i = 2.0 * _LENGTH * inverse - 1.0, 2.0 * _LENGTH * inverse_i
    first, *others = _coefficients()
    p, p_i = jnp.full_like(z, first), jnp.zeros_like(z)
    for a in others:
        p, p_i = p * z - p_i * z_i + a, p * z_i + p_i * z
    # (2 p / (L - i z) + 1 / sqrt(pi)) / (L - i z)
    q = 2.0 * (p * inverse - p_i * inverse_i) + 1.0 / _ROOT_PI
    q_i = 2.0 * (p * inverse_i + p_i * inverse)
    return q * inverse - q_i * inverse_i, q * inverse_i + q_i * inverse


# From this square of z on the derivative is its asymptotic series: in its own formula, the
# difference of two numbers near 1.1, what is left of them is as small as 1 / z**2.
_FAR = {np.dtype(np.float64): 1e4, np.dtype(np.float32): 1e2}


@faddeeva.defjvp
def _faddeeva_jvp(primals: Any, tangents: Any):
    (x, y), (dx, dy) = primals, tangents
    w, w_i = faddeeva(x, y)
    size, limit = x * x + y * y, _FAR.get(w.dtype, 1e2)
    far, far_i = _far_slope(x, y, jnp.maximum(size, limit))
    slope = jnp.where(size < limit, -2.0 * (x * w - y * w_i), far)
    slope_i = jnp.where(size < limit, 2.0 / _ROOT_PI - 2.0 * (x * w_i + y * w), far_i)
    return (w, w_i), (slope * dx - slope_i * dy, slope_i * dx + slope * dy)


def _far_slope(x: Any, y: Any, size: Any) -> tuple[jax.Array, jax.Array]:
    """Four terms of w' = -i / (sqrt(pi) z^2) (1 + 3 / (2 z^2) + ...)."""
    a, b = x / size, -y / size
    q, q_i = a * a - b * b, 2.0 * a * b  # 1 / z^2
    u, v = jnp.zeros_like(q), jnp.zeros_like(q)
    for term in (105 / 8, 15 / 4, 3 / 2, 1.0):
        u = u + term
        u, v = u * q - v * q_i, u * q_i + v * q
    return v / _ROOT_PI, -u / _ROOT_PI


def erfcx(y: jax.Array) -> jax.Array:
    r""":math:`e^{y^2} \operatorname{erfc}(y)`, for y that are not negative.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from jaxlsq.models.special import erfcx
    >>> print(erfcx(jnp.array([0.0, 1.0, 100.0])).round(5))
    [1.      0.42758 0.00564]
    """
    inverse = 1.0 / (_LENGTH + y)
    z = 2.0 * _LENGTH * inverse - 1.0
    first, *others = _coefficients()
    p = jnp.full_like(z, first)
    for a in others:
        p = p * z + a
    return (2.0 * p * inverse + 1.0 / _ROOT_PI) * inverse


# (1 - 4**-n) B_2n / (n (2n - 1)) with Bernoulli's numbers B.
_STIRLING = (1 / 8, -1 / 192, 1 / 640, -17 / 14336, 31 / 18432, -691 / 180224, 5461 / 425984)
_SHIFT = 9


def gamma_quotient(z: jax.Array) -> jax.Array:
    r""":math:`\Gamma(z + 1/2) / \Gamma(z)`, for z that are not negative.

    By the recurrence up to z + 9, and there by Stirling's series of the quotient's logarithm,

    .. math:: \tfrac12 \ln z - \sum_n \frac{(1 - 4^{-n}) B_{2n}}{n (2n - 1) z^{2n-1}} .

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from jaxlsq.models.special import gamma_quotient
    >>> print(gamma_quotient(jnp.array([0.5, 1.0])).round(5))  # 1 / sqrt(pi) and sqrt(pi) / 2
    [0.56419 0.88623]
    """
    factor = jnp.ones_like(z)
    for k in range(_SHIFT):
        factor = factor * ((z + k) / (z + (k + 0.5)))
    far = z + float(_SHIFT)
    inverse = 1.0 / far
    square, series = inverse * inverse, jnp.zeros_like(z)
    for coefficient in reversed(_STIRLING):
        series = series * square + coefficient
    return factor * jnp.sqrt(far) * jnp.exp(-inverse * series)
