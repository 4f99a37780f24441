r"""Quantiles of the distributions that intervals and tests are of, and tails beyond a value.

Degrees of freedom are whole numbers, for which Student's distribution is a finite sum.  Source:
M. Abramowitz, I. Stegun, "Handbook of Mathematical Functions" (1972), chapter 26.
"""

from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betainc, gammaincc
from numpy.typing import ArrayLike, NDArray

__all__ = ["beyond_chi2", "beyond_f", "joint", "normal", "student"]

# Degrees of freedom from which on five terms of an expansion are exact to 1e-13.
MANY = 1000
HALVINGS = 60


def normal(level: float) -> float:
    """z for which a standard normal number is between -z and z with a probability.

    Examples
    --------
    >>> round(normal(0.95), 6)
    1.959964
    """
    return -NormalDist().inv_cdf(0.5 * (1.0 - level))


def student(level: float, dof: ArrayLike) -> NDArray[Any]:
    """t for which Student's variable is between -t and t with a probability.

    Its square is the quantile of F with 1 and `dof` degrees of freedom.

    Parameters
    ----------
    level : float
        Between 0 and 1.
    dof : (...) int array
        inf comes back where it is not positive.

    Returns
    -------
    (...) array

    Examples
    --------
    >>> student(0.95, [1, 10, 0]).round(6)
    array([12.706205,  2.228139,       inf])
    """
    each, inverse = np.unique(np.asarray(dof), return_inverse=True)
    values = np.array([_student(level, int(number)) for number in each], float)
    return values[inverse].reshape(np.shape(dof))


def _student(level: float, dof: int) -> float:
    if dof <= 0:
        return np.inf
    if dof >= MANY:
        return _expanded(normal(level), dof)
    low, high = 0.0, 0.5 * np.pi
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _inside(middle, dof) < level else (low, middle)
    return np.sqrt(dof) * np.tan(0.5 * (low + high))


def _inside(angle: float, dof: int) -> float:
    r"""The probability of :math:`|t| < \sqrt{\nu} \tan \theta`, formulas 26.7.3 and 26.7.4."""
    cosine, sine = np.cos(angle), np.sin(angle)
    odd = dof % 2
    k = np.arange(1, (dof - 1 - odd) // 2 + 1)
    factors = (2 * k - 1 + odd) / (2 * k + odd) * cosine**2
    total = 1.0 + np.sum(np.cumprod(factors))
    if not odd:
        return sine * total
    return (angle + (sine * cosine * total if dof > 1 else 0.0)) * 2.0 / np.pi


def _expanded(z: float, dof: int) -> float:
    """Formula 26.7.5, in powers of 1 / dof."""
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / dof**k for k, term in enumerate(terms))


def joint(level: ArrayLike, dof: float | None) -> NDArray[Any]:
    r"""What two parameters may raise chi-squared by, in units of the variance.

    Twice the quantile of F with 2 and :math:`\nu` degrees of freedom,
    :math:`\nu ((1 - p)^{-2 / \nu} - 1)`; with a known variance that of chi-squared,
    :math:`-2 \ln(1 - p)`.

    Parameters
    ----------
    level : (...) array
        p, from 0 up to 1.
    dof : float or None
        None for a known variance.

    Examples
    --------
    >>> float(joint(0.95, None).round(6)), float(joint(0.95, 10).round(6))
    (5.991465, 8.205642)
    """
    tail = np.log1p(-np.asarray(level, float))
    return -2.0 * tail if dof is None else dof * np.expm1(-2.0 / dof * tail)


def beyond_f(value: ArrayLike, over: ArrayLike, dof: ArrayLike) -> NDArray[Any]:
    """The probability of a larger F, with `over` and `dof` degrees of freedom.

    Examples
    --------
    >>> float(beyond_f(4.0, 1, 10).round(6))
    0.073388
    """
    value, over, dof = np.broadcast_arrays(value, over, dof)
    part = np.where(np.isinf(value), 0.0, dof / (dof + over * np.where(np.isinf(value), 1, value)))
    return _in_float64(betainc, 0.5 * dof, 0.5 * over, part)


def beyond_chi2(value: ArrayLike, dof: ArrayLike) -> NDArray[Any]:
    """The probability of a larger chi-squared.

    Examples
    --------
    >>> float(beyond_chi2(4.0, 1).round(6))
    0.0455
    """
    value, dof = np.broadcast_arrays(value, dof)
    return _in_float64(gammaincc, 0.5 * dof, 0.5 * value)


def _in_float64(function: Any, *arguments: NDArray[Any]) -> NDArray[Any]:
    with jax.enable_x64(True):
        return np.asarray(function(*(jnp.asarray(value, jnp.float64) for value in arguments)))
