r"""The normal equations of many lanes side by side, and the step that they give.

For a Jacobian J and a residual f, the step needs only :math:`J^T J`, :math:`J^T f` and
:math:`f^T f`: n (n + 1) / 2 + n + 1 sums over the data, which is all that is ever reduced.
Squaring J loses half the digits of an ill-conditioned one, where
`jaxlsq.numerics.factor` does not; the gradient is computed from J itself, so that it is
the way to the solution that suffers, and less so the solution.

Lanes are the *last* axis here, so that the algebra of size n is done for all lanes at once;
one lane alone has no such axis.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.norm import total
from jaxlsq.numerics.trust_region import levenberg_parameter, norm

__all__ = ["Normal", "normal_equations", "symmetric_inverse"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Normal:
    """What the trust-region step needs to know of a Jacobian and a residual.

    Attributes
    ----------
    gram : (n, n, ...) array
        J'J.
    gradient : (n, ...) array
        J'f.
    unit : (...) array
        The size of the residual, a power of two; both are in its square.
    sizes : (n, ...) array
        The size of each parameter, a power of two; the columns of J are over it.
    """

    gram: jax.Array
    gradient: jax.Array
    unit: jax.Array
    sizes: jax.Array

    @classmethod
    def empty(cls, x0):
        """One of the right shapes, before the first Jacobian."""
        n, lanes = x0.shape[0], x0.shape[1:]
        return cls(
            gram=jnp.zeros((n, n, *lanes), x0.dtype),
            gradient=jnp.zeros_like(x0),
            unit=jnp.ones(lanes, x0.dtype),
            sizes=jnp.ones_like(x0),
        )

    @property
    def _lengths(self):
        return jnp.sqrt(jnp.stack([self.gram[j, j] for j in range(self.gram.shape[0])]))

    @property
    def column_norms(self):
        """Norms of J's columns."""
        return self._lengths * self.unit / self.sizes

    @property
    def largest_gradient(self):
        """The largest element of the gradient."""
        return jnp.max(jnp.abs(self.gradient) * self.unit / self.sizes, axis=0) * self.unit

    def cosines(self, fnorm):
        """Between the residual and each column; zero for a zero column."""
        lengths, cosines = self._lengths, jnp.abs(self.gradient) / (fnorm / self.unit)
        return jnp.where(lengths == 0, 0.0, cosines / jnp.where(lengths == 0, 1.0, lengths))

    def step(self, scale, fnorm, step_bound, damping, idle=False):
        """The Levenberg-Marquardt step, as `jaxlsq.numerics.factor.Factor.step`.

        Lanes that are `idle` wait for none of it; what they get is meaningless.
        """
        scale = scale * self.sizes / self.unit
        gram = self.gram / scale[:, None] / scale[None, :]
        gradient = self.gradient / scale
        damping, q, full_rank = levenberg_parameter(
            _damped_steps(gram, gradient), gradient, step_bound / self.unit, damping, idle
        )
        step_norm = norm(q)
        model = _quadratic_form(gram, q) / jnp.square(fnorm / self.unit)
        return damping, q / scale * self.sizes, step_norm * self.unit, model, full_rank


def normal_equations(columns, f, unit, sizes=1.0, factors=None):
    """The normal equations, and the norm of the residual.

    Parameters
    ----------
    columns : sequence of (..., m) arrays
        The n columns of J, times `sizes` over `unit`.  Apart, since XLA then makes each sum
        over the data a vectorized kernel.  One that all lanes share may be (m,).
    f : (..., m) array
        The residual, divided by `unit`.
    unit : (...) array
        Powers of two near the norm of the residual, so that no square leaves the range of
        the type.
    sizes : (n, ...) array or 1
        Powers of two near the parameters, for the same purpose.
    factors : sequence of n (...) arrays or None, optional
        What a column is still to be multiplied with.

    Returns
    -------
    Normal
    fnorm : (...) array
    """
    n = len(columns)
    factors = factors or (None,) * n

    def product(j, v, *among):
        value = _dot(columns[j], v)
        for factor in (factors[j], *among):
            value = value if factor is None else value * factor
        return jnp.broadcast_to(value, unit.shape)

    upper = [[product(i, columns[j], factors[j]) for j in range(i, n)] for i in range(n)]
    gram = jnp.stack(
        [jnp.stack([upper[min(i, j)][abs(i - j)] for j in range(n)]) for i in range(n)]
    )
    gradient = jnp.stack([product(j, f) for j in range(n)])
    sizes = jnp.broadcast_to(jnp.asarray(sizes, f.dtype), gradient.shape)
    return Normal(gram, gradient, unit, sizes), jnp.sqrt(_dot(f, f)) * unit


def _dot(u, v):
    if u.ndim < v.ndim:
        return _dot(v, u)
    if u.ndim > v.ndim:
        return jnp.matmul(u, v, precision="highest")
    return jnp.sum(u * v, axis=-1)


def _quadratic_form(matrix, q):
    """q' M q, with M symmetric."""
    return total(total(matrix * q[:, None]) * q)


def _damped_steps(gram, gradient):
    """The damped problem as a function of the damping, for `levenberg_parameter`.

    In parameters scaled by D: minimize ``q'(A + damping) q - 2 g'q``.  All of it comes from
    one sweep of A, bordered with g: the inverse, q, and the pivots.  A pivot that is zero to
    rounding, 4 n eps of its diagonal element, belongs to a direction that the earlier
    columns span already: that parameter does not move.  (Of 32,000 fits with two parameters
    of which only the product counts, and the like, n eps let 71 pass, and 2 n eps none.)

    Sources: J. H. Goodnight, "A tutorial on the SWEEP operator", The American Statistician 33
    (1979), for the operator and its use on singular matrices; Higham, "Accuracy and Stability
    of Numerical Algorithms", sections 10.3 and 14.4.
    """
    n = gradient.shape[0]
    lanes = (1,) * (gradient.ndim - 1)
    eye = jnp.eye(n, dtype=bool).reshape(n, n, *lanes)
    floor = 4 * n * jnp.finfo(gradient.dtype).eps
    corner = jnp.zeros_like(gradient[:1])

    def attempt(damping):
        damped = jnp.where(eye, gram + damping, gram)
        bordered = jnp.concatenate(
            [
                jnp.concatenate([damped, gradient[:, None]], axis=1),
                jnp.concatenate([gradient, corner])[None],
            ]
        )
        swept = _sweep(bordered, n, floor)
        full_rank = jnp.all(jnp.stack([swept[j, j] for j in range(n)]) != 0, axis=0)
        q = swept[:n, n]
        length = norm(q)
        slope = jnp.sqrt(jnp.maximum(-_quadratic_form(swept[:n, :n], q), 0.0)) / jnp.where(
            length == 0, 1.0, length
        )
        return q, length, slope, full_rank

    return attempt


def symmetric_inverse(matrix):
    """The inverse of a symmetric matrix, by the sweep operator.

    Parameters
    ----------
    matrix : (n, n, ...) array

    Returns
    -------
    inverse : (n, n, ...) array
    definite : (...) bool array
        Whether the matrix is positive definite to working precision; if not, the inverse is
        that of a part of it.
    """
    n = matrix.shape[0]
    diagonal = jnp.stack([matrix[j, j] for j in range(n)])
    positive = diagonal > 0
    scale = jnp.sqrt(jnp.where(positive, diagonal, 1.0))
    swept = _sweep(matrix / scale[:, None] / scale[None, :], n, 4 * n * jnp.finfo(matrix.dtype).eps)
    pivots = jnp.stack([swept[j, j] for j in range(n)])
    return -swept / scale[:, None] / scale[None, :], jnp.all(positive & (pivots < 0), axis=0)


def _sweep(matrix, count, floor):
    """Sweep the first rows of a symmetric matrix; what is not usable becomes zero."""
    size = matrix.shape[0]
    lanes = (1,) * (matrix.ndim - 2)
    index = jnp.arange(size)
    diagonal = jnp.stack([matrix[j, j] for j in range(size)])

    def sweep(j, matrix):
        row = lax.dynamic_index_in_dim(matrix, j, 0, keepdims=False)
        pivot = lax.dynamic_index_in_dim(row, j, 0, keepdims=False)
        usable = pivot > floor * lax.dynamic_index_in_dim(diagonal, j, 0, keepdims=False)
        reciprocal = jnp.where(usable, 1.0 / jnp.where(usable, pivot, 1.0), 0.0)
        here = (index == j).reshape(size, *lanes)
        scaled = jnp.where(here, -reciprocal[None], row * reciprocal[None])
        rest = matrix - jnp.where(here, 0.0, row)[:, None] * scaled[None, :]
        rest = jnp.where(here[:, None], scaled[None, :], rest)
        return jnp.where(here[None, :], scaled[:, None], rest)

    return lax.fori_loop(0, count, sweep, matrix)
