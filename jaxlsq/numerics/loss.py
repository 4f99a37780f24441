r"""Losses: what is summed in the place of squares.

A robust loss replaces :math:`f_i^2` by :math:`C^2 \rho(f_i^2 / C^2)`, and Poisson's likelihood
by the deviance.  Each gives three things per point: s, the derivative of half the loss by f; k > 0
in the place of the second derivative; and the loss itself.  The normal equations are sums of
:math:`k \, J_i^T J_i` and :math:`s \, J_i^T`.  What is made for squares takes a residual
:math:`s / \sqrt k` and a weight :math:`\sqrt k` of the Jacobian's rows.

Sources: B. Triggs et al., "Bundle Adjustment: A Modern Synthesis" (1999), section 4.3, and
``scipy.optimize.least_squares`` for the robust ones; W. Cash, ApJ 228, 939 (1979), for
Poisson's, with the expected curvature (Fisher's scoring), P. McCullagh, J. A. Nelder,
"Generalized Linear Models" (1989), section 2.5.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxlsq.numerics.types import AnyArray

__all__ = [
    "POISSON",
    "RHOS",
    "Loss",
    "Parts",
    "Poisson",
    "Robust",
    "as_rows",
    "first_factor",
    "scaled",
    "sum_of",
    "summands",
    "weighted",
]


class Parts(NamedTuple):
    """What a loss gives at points: arrays like the residual f.

    Attributes
    ----------
    slope : array
        The derivative of half the loss by f.
    curvature : array
        Positive, in the place of the second derivative.
    value : array
        The loss.
    """

    slope: jax.Array
    curvature: jax.Array
    value: jax.Array


def _soft_l1(z):
    root = jnp.sqrt(1.0 + z)
    first = 1.0 / root
    return 2.0 * z / (1.0 + root), first, -0.5 * first * first * first


def _huber(z):
    root = jnp.sqrt(jnp.maximum(z, 1.0))
    first = 1.0 / root
    is_far = (z > 1.0).astype(z.dtype)
    return jnp.minimum(z, 1.0) + 2.0 * (root - 1.0), first, -0.5 * is_far * first * first * first


def _cauchy(z):
    slope = 1.0 / (1.0 + z)
    return jnp.log1p(z), slope, -jnp.square(slope)


def _arctan(z):
    slope = 1.0 / (1.0 + z * z)
    return jnp.arctan(z), slope, -2.0 * z * jnp.square(slope)


RHOS: dict[str, Callable[..., Any]] = {
    "soft_l1": _soft_l1,
    "huber": _huber,
    "cauchy": _cauchy,
    "arctan": _arctan,
}


@dataclass(frozen=True)
class Robust:
    r""":math:`C^2 \rho(f^2 / C^2)`.

    Attributes
    ----------
    rho : callable
        ``rho(z) -> value, first, second``: the function and its derivatives.
    least : float
        The smallest curvature, by that of reweighted least squares, which is ``first``.  The
        exact one vanishes or is negative beyond an outlier's inflection, and steps that trust
        it are far too long.  (Of fits of decays and peaks with 10 % of outliers, 0.5 needed 10
        to 24 evaluations, by loss, zero 10 to 26 and one 9 to 30; with zero 12 % of arctan's did
        not converge.)
    """

    rho: Callable[..., Any]
    least: float = 0.5

    @property
    def exact(self) -> "Robust":
        """With the curvature that covariances are made of, as SciPy's."""
        return replace(self, least=0.0)

    def __call__(self, f: jax.Array, scale: AnyArray) -> Parts:
        """The parts, for the `scale` C."""
        u = f * (1.0 / scale)
        z = u * u
        value, first, second = self._derivatives(z)
        curvature = first + 2.0 * second * z
        # A floor that far points reach makes steps too short by as much: of a cauchy point at a
        # distance of 1e5 the curvature is 1e-10.  SciPy's, epsilon, is for covariances.
        floor = jnp.finfo(f.dtype).eps
        if self.least:
            curvature, floor = jnp.maximum(curvature, self.least * first), SMALLEST_CURVATURE
        curvature = jnp.maximum(curvature, floor)
        return Parts(first * f, curvature, value * scale * scale)

    def slope(self, f: jax.Array, scale: jax.Array) -> jax.Array:
        """The derivative of half the loss by the residuals."""
        _, first, _ = self._derivatives(jnp.square(f / scale))
        return first * f

    def _derivatives(self, z):
        out = self.rho(z)
        if not isinstance(out, (tuple, list)):
            out = tuple(jnp.atleast_2d(out))
        if len(out) != 3 or any(jnp.shape(v) != z.shape for v in out):
            raise ValueError(
                "a callable `loss` must return its value, first and second derivative, each of "
                f"the shape of its argument, {z.shape}."
            )
        return out


class Poisson:
    r"""The deviance of counts y at a model's :math:`\mu`, in the place of f.

    .. math:: 2 \left( \mu - y + y \ln \frac{y}{\mu} \right)

    Not a number where the model is negative, or zero and the count is not.
    """

    @property
    def exact(self) -> "Poisson":
        """Itself: the expected curvature is what covariances are made of."""
        return self

    def __call__(self, mu: jax.Array, counts: AnyArray) -> Parts:
        """The parts at a model's values; the residual is Pearson's.

        Minima and maxima stand where one would select: XLA:CPU computes what a selection
        chooses from in branches, element by element (three to eight times slower).
        """
        positive = jnp.maximum(mu, SMALLEST_MEAN)
        curvature = 1.0 / positive
        missing = jnp.sqrt(jnp.minimum(mu - SMALLEST_MEAN * jnp.minimum(counts, 1.0), 0.0))
        value = _deviance(positive, curvature, counts) + missing
        return Parts((mu - counts) * curvature, curvature, value)


POISSON = Poisson()

Loss: TypeAlias = Robust | Poisson

# For its root and reciprocal to be far from the end of float32's range.
SMALLEST_CURVATURE = 1e-30
# The model where it is zero; its reciprocal is far from the end of float32's range.
SMALLEST_MEAN = 1e-30
NEAR = 0.1


def _deviance(mu, reciprocal, counts):
    r"""Twice :math:`\mu - y + y \ln(y / \mu)`, for y = 0 or from 1 on.

    The difference is rounded as y is, which float64 can afford.  In float32, where the two are
    near: with :math:`s = (\mu - y) / (\mu + y)` the logarithm is twice the inverse hyperbolic
    tangent of s, so that it is :math:`s (\mu - y) - 2 y (s^3 / 3 + s^5 / 5 + \dots)`.
    """
    difference = mu - counts
    counted, is_wide = jnp.maximum(counts, 1.0), mu.dtype == jnp.float64
    ratio = counted * reciprocal if is_wide else counted / mu
    half = difference + counts * jnp.log(ratio)
    half = jnp.maximum(half, 0.0)  # which only rounding takes below
    if is_wide:
        return 2.0 * half
    s = difference / (mu + counts)
    square = jnp.minimum(s * s, NEAR**2)
    series = square * (1 / 3 + square * (1 / 5 + square / 7))
    near = s * (difference - 2.0 * counts * series)
    is_far = jnp.clip((s * s - NEAR**2) * (1.0 / SMALLEST_MEAN), 0.0, 1.0)
    return 2.0 * (near + is_far * (half - near))


def first_factor(loss: Loss | None) -> float:
    """The first step bound, by the norm of the scaled start: MINPACK's, and less with outliers.

    Far from the solution all points are outliers, and the first step says little.
    """
    return 1.0 if isinstance(loss, Robust) else 100.0


def weighted(
    loss: Loss | None, f: AnyArray, columns: Sequence[AnyArray], extra: AnyArray
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Rows and columns for the normal equations.

    Parameters
    ----------
    loss : Robust, Poisson or None
        None for squares.
    f : (m,) array
        Residuals, or the model's values for `Poisson`.
    columns : sequence of (m,) arrays
        Derivatives of f.
    extra : array
        The scale of a robust loss, or Poisson's counts.

    Returns
    -------
    rows : tuple
        The residual, and with a loss its values, of which the sum is what is minimized.
    columns : tuple

    Raises
    ------
    ValueError
        If there are another number of scales than residuals.
    """
    return as_rows(summands(loss, f, columns, extra), len(columns))


def summands(
    loss: Loss | None, f: AnyArray, columns: Sequence[AnyArray], extra: AnyArray
) -> tuple[Any, ...]:
    """What the sums of the normal equations are made of, without roots.

    Returns
    -------
    tuple of (m,) arrays
        Without a loss the residual and the columns; with one its `Parts`, the columns, and f.
    """
    if loss is None:
        return (f, *columns)
    if jnp.shape(extra) not in ((), (1,), f.shape):
        raise ValueError(
            f"`f_scale` must be a number or one for each of the {f.size} residuals, got shape "
            f"{jnp.shape(extra)}."
        )
    return (*loss(f, extra), *columns, f)


def as_rows(parts: Sequence[Any], n: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Rows and n columns, as `weighted` gives them, of `summands`."""
    if len(parts) == n + 1:
        return (parts[0],), tuple(parts[1:])
    slope, curvature, value = parts[:3]
    weight = jnp.sqrt(curvature)
    return (slope / weight, value), tuple(weight * column for column in parts[3 : 3 + n])


def scaled(rows: Sequence[jax.Array], factor: jax.Array) -> tuple[jax.Array, ...]:
    """Rows in another unit: the residual times a factor, the loss times its square."""
    return (rows[0] * factor, *(value * factor * factor for value in rows[1:]))


def sum_of(rows: Sequence[jax.Array]) -> jax.Array:
    """What is minimized, along the last axis."""
    return jnp.sum(rows[1] if len(rows) > 1 else rows[0] * rows[0], axis=-1)
