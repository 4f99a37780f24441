r"""MINPACK's factorization of a Jacobian, and the step that it gives; the default for one fit.

For a Jacobian J and a residual f, an upper triangular R and a permutation P with

.. math:: J P = Q R, \qquad Q^T Q = I,

of which the step needs R, P, the first n elements of :math:`Q^T f` and the norms
of J's columns.  `jaxlsq.numerics.normal` has the other form, for many lanes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.bounds import box_steps
from jaxlsq.numerics.householder import (
    BLOCK_ROWS,
    inverse,
    pivoted_triangle,
    reduced_blocks,
    triangle,
)
from jaxlsq.numerics.linear_model import Box, Region, Step
from jaxlsq.numerics.norm import divide, norm2, power_of_two
from jaxlsq.numerics.trust_region import levenberg_parameter, norm

__all__ = ["Factor", "damped_steps", "qr"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Factor:
    """A `LinearModel` from a QR factorization of the Jacobian.

    Attributes
    ----------
    r : (n, n) array
        Upper triangular R, columns in pivoted order.
    perm : (n,) int array
        Column j of R belongs to parameter ``perm[j]``.
    qtf : (n,) array
        First n elements of Q'f.
    column_norms : (n,) array
        Norms of J's columns, in the order of the parameters.
    """

    r: jax.Array
    perm: jax.Array
    qtf: jax.Array
    column_norms: jax.Array

    @classmethod
    def empty(cls, x0: jax.Array) -> Self:
        """One of the right shapes, before the first Jacobian."""
        n, zeros = x0.shape[0], jnp.zeros_like(x0)
        return cls(jnp.zeros((n, n), x0.dtype), jnp.arange(n, dtype=jnp.int32), zeros, zeros)

    @property
    def direction(self) -> jax.Array:
        """The gradient J'f, but for a positive factor."""
        unit = power_of_two(jnp.max(jnp.abs(self.qtf)))
        return jnp.sum(self.r * (self.qtf / unit)[:, None], axis=0)[inverse(self.perm)]

    def cosines(self, fnorm: jax.Array) -> jax.Array:
        """Between the residual and each column; zero for a zero column."""
        norms = self.column_norms[self.perm]
        # J'f / (||J_j|| ||f||), from R'Q'f.
        cosines = jnp.sum(self.r * (self.qtf / fnorm)[:, None], axis=0)
        cosines = jnp.abs(cosines) / jnp.where(norms == 0, 1.0, norms)
        return jnp.where(norms == 0, 0.0, cosines)[inverse(self.perm)]

    def step(self, region: Region, idle: jax.Array | bool = False) -> Step:
        """The Levenberg-Marquardt step inside the trust region; see `LinearModel.step`."""
        # All lengths in a unit near the norm of the residual, so that no square leaves
        # the range of the type.
        unit = power_of_two(region.fnorm)
        r, scale = self._moving(region.scale)
        scale, fnorm = scale / unit, region.fnorm / unit
        size = power_of_two(scale)  # and p in units in which no column is far from one
        r, scale = r / unit / size[None, :], scale / size
        attempt, gradient = damped_steps(r, self.qtf / unit, scale)
        bound = region.step_bound / unit
        damping, p, rank = levenberg_parameter(attempt, gradient, bound, region.damping, idle)
        step_norm = jnp.sqrt(jnp.sum(jnp.square(scale * p))) * unit
        model = jnp.sum(jnp.square(jnp.sum(r * p[None, :], axis=1) / fnorm))
        damped = damping * jnp.square(step_norm / region.fnorm)
        return Step(damping, (p / size)[inverse(self.perm)], step_norm, model, damped, rank)

    def _moving(self, scale):
        """R with columns of zero where the scale is infinite, and the scale, in pivoted order."""
        scale = scale[self.perm]
        still = jnp.isinf(scale)
        return jnp.where(still[None, :], 0.0, self.r), jnp.where(still, 1.0, scale)

    def step_in_box(self, box: Box, region: Region, idle: jax.Array | bool = False) -> Step:
        """`step` with p inside a box; see `LinearModel.step_in_box`."""
        unit, back = power_of_two(region.fnorm), inverse(self.perm)
        r, scale = self._moving(region.scale)
        fnorm, scale = region.fnorm / unit, scale / unit
        triangle = TriangleBox(r / unit / scale[None, :], self.qtf / unit)
        box = Box(*(end[self.perm] * scale for end in box))
        attempt, sides = box_steps(triangle, box)
        gradient, bound = triangle.gradient, region.step_bound / unit
        damping, q, rank = levenberg_parameter(
            attempt, gradient, bound, region.damping, idle, sides
        )
        curved = jnp.sum(jnp.square(jnp.sum(triangle.r * q[None, :], axis=1)))
        damped = jnp.maximum(jnp.sum(gradient * q) - curved, 0.0) / jnp.square(fnorm)
        model = curved / jnp.square(fnorm)
        return Step(damping, (q / scale)[back], norm(q) * unit, model, damped, rank)


def qr(jac: jax.Array, f: jax.Array) -> Factor:
    """Householder QR with column pivoting of a Jacobian, applied to a residual.

    Parameters
    ----------
    jac : (m, n) array
        Jacobian, m >= n.
    f : (m,) array
        Residual.

    Returns
    -------
    Factor

    Notes
    -----
    The next column is the one with the largest norm below the rows that are
    done, as in MINPACK's ``qrfac`` (Businger and Golub, Numer. Math. 7, 269,
    1965); the norms are recomputed where MINPACK down-dates them.  Columns and
    residual are brought to a norm near one first, by powers of two, so that no
    square leaves the range of the type and nothing is rounded.  More than
    ``2 * BLOCK_ROWS`` rows are reduced, block by block and without pivoting, to
    n rows with the same R in exact arithmetic (Golub, Van Loan, "Matrix
    Computations", section 6.5 on adding rows).
    """
    n = jac.shape[1]
    if jac.shape[0] > 2 * BLOCK_ROWS:
        rows = reduced_blocks(jac.T, f)
    else:
        rows = jnp.concatenate([jac.T, f[None, :]])  # a column of J, contiguous, per row
    norms = norm2(rows)
    unit = power_of_two(norms)
    rows = rows / unit[:, None]
    reduced, diagonal, order = pivoted_triangle(rows, unit[:n])
    head = reduced[:n, :n] * unit[:n, None]
    perm = inverse(order)
    r = jnp.triu(head[perm].T, 1) + jnp.diag((diagonal * unit[:n])[perm])
    return Factor(r, perm, reduced[n, :n] * unit[n], norms[:n])


def damped_steps(
    r: jax.Array, qtf: jax.Array, scale: jax.Array
) -> tuple[Callable[..., Any], jax.Array]:
    r"""The damped problem as a function of the damping, for `levenberg_parameter`.

    Parameters
    ----------
    r : (n, n) array
        Upper triangular.
    qtf : (n,) array
        Q'f.  With r and scale in a unit in which it is near one.
    scale : (n,) array
        D in pivoted order, positive.

    Returns
    -------
    attempt : callable
        ``attempt(damping) -> (p, length, slope, rank)``, p in pivoted order.  The
        undamped p of a singular R is zero from R's first zero diagonal on.
    gradient : (n,) array
        ``D^-1 R'Q'f``.
    """
    singular = jnp.any(jnp.where(jnp.eye(qtf.shape[0], dtype=bool), r == 0, False))
    gradient = jnp.sum(r * qtf[:, None], axis=0) / scale
    rank = jnp.where(singular, jnp.zeros((), r.dtype), jnp.ones((), r.dtype))
    still = jnp.all(r == 0, axis=0)

    def attempt(damping):
        diagonal = jnp.where(still, 1.0, jnp.sqrt(damping) * scale)
        inverse, p = _damped_triangle(r, qtf, diagonal)
        p = jnp.where(still, 0.0, p)
        length = norm(scale * p)
        direction = scale * (scale * p / jnp.where(length == 0, 1.0, length))
        direction = jnp.where(still, 0.0, direction)
        return p, length, norm(jnp.sum(inverse * direction[:, None], axis=0)), rank

    return attempt, gradient


@dataclass(frozen=True)
class TriangleBox:
    """A `jaxlsq.numerics.bounds.BoxProblem` from a triangle: A is ``r' r``, g is ``r' qtf``.

    Attributes
    ----------
    r : (n, n) array
        Upper triangular, but for columns of zero.
    qtf : (n,) array
    """

    r: jax.Array
    qtf: jax.Array

    @property
    def gradient(self) -> jax.Array:
        """g."""
        return jnp.sum(self.r * self.qtf[:, None], axis=0)

    def solve(
        self, damping: jax.Array, free: jax.Array, pinned: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """By a QR factorization of the free columns, stacked on the damping."""
        still = ~free | jnp.all(self.r == 0, axis=0)
        target = self.qtf - jnp.sum(self.r * pinned[None, :], axis=1)
        diagonal = jnp.where(still, 1.0, jnp.sqrt(damping))
        inverse, q = _damped_triangle(jnp.where(still[None, :], 0.0, self.r), target, diagonal)
        q = jnp.where(free, jnp.where(still, 0.0, q), pinned)
        rest = self.qtf - jnp.sum(self.r * q[None, :], axis=1)
        multiplier = jnp.sum(self.r * rest[:, None], axis=0) - damping * q
        return jnp.where(free, q, multiplier), inverse

    def spread(self, solved: jax.Array, q: jax.Array) -> jax.Array:
        """By the inverse of the triangle."""
        return norm(jnp.sum(solved * q[:, None], axis=0))

    def rank(self, solved: jax.Array, counts: jax.Array) -> jax.Array:
        """Zero for a column of zero, or one that the columns before it span exactly."""
        unusable = jnp.all(solved == 0, axis=1) | jnp.all(self.r == 0, axis=0)
        return jnp.where(jnp.any(unusable & counts), 0.0, 1.0).astype(self.r.dtype)


def _damped_triangle(r, qtf, diagonal):
    r"""Solve the damped problem by a QR factorization of R stacked on a diagonal matrix.

    A parameter that does not move has a column of zero in R, and a one in the diagonal.

    Returns the inverse of the triangle S, and p.  With :math:`\sqrt\lambda D` for the diagonal,
    minus twice the square of ``||S^-T D D p|| / ||D p||`` is the relative slope of
    ``||D p||^2`` in the damping.
    """
    n = qtf.shape[0]
    stacked = jnp.concatenate([r.T, jnp.diag(diagonal)], axis=1)
    right = jnp.concatenate([qtf, jnp.zeros_like(qtf)])[None, :]
    reduced = triangle(jnp.concatenate([stacked, right]), n)
    return _solve_triangle(reduced[:n, :n], reduced[n, :n])


def _solve_triangle(lower, b):
    """The inverse of an upper triangular S, given transposed, and x with S x = b.

    From S's first zero diagonal element on, x is zero (MINPACK's least squares
    solution of a singular triangle), and so are the inverse's rows.
    """
    n = b.shape[0]
    index = jnp.arange(n)
    diagonal = jnp.sum(jnp.where(jnp.eye(n, dtype=bool), lower, 0.0), axis=0)
    live = index < jnp.min(jnp.where(diagonal == 0, index, n))
    divisor = jnp.where(live, diagonal, jnp.inf)

    def substitute(k, carry):
        left, x = carry
        j = n - 1 - k
        row = lax.dynamic_index_in_dim(left, j, 0, keepdims=False)
        row = divide(row, lax.dynamic_index_in_dim(divisor, j, 0, keepdims=False))
        column = lax.dynamic_index_in_dim(lower, j, 0, keepdims=False)
        return left - column[:, None] * row[None, :], jnp.where(
            (index == j)[:, None], row[None, :], x
        )

    right = jnp.column_stack([jnp.eye(n, dtype=b.dtype), b])
    solution = lax.fori_loop(0, n, substitute, (right, jnp.zeros_like(right)))[1]
    return solution[:, :n], solution[:, n]
