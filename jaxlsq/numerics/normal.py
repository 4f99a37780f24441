r"""The normal equations of many lanes side by side, and the step that they give.

For a Jacobian J and a residual f, the step needs only :math:`J^T J`, :math:`J^T f` and
:math:`f^T f`: n (n + 1) / 2 + n + 1 sums over the data, which is all that is ever reduced.
Squaring J loses half the digits of an ill-conditioned one, where
`jaxlsq.numerics.factor` does not; the gradient is computed from J itself, so that it is
the way to the solution that suffers, and less so the solution.

Lanes are the *last* axis here, so that the algebra of size n is done for all lanes at once;
one lane alone has no such axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp

from jaxlsq.numerics.bounds import GramBox, box_steps
from jaxlsq.numerics.linear_model import Box, Region, Step
from jaxlsq.numerics.loss import sum_of
from jaxlsq.numerics.norm import total
from jaxlsq.numerics.sweep import (
    bordered,
    diagonal_of,
    floor_of,
    inflation,
    quadratic_form,
    sweep,
)
from jaxlsq.numerics.trust_region import levenberg_parameter, norm

__all__ = ["Normal", "normal_equations"]


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
    def empty(cls, x0: jax.Array) -> Self:
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
        return jnp.sqrt(diagonal_of(self.gram))

    @property
    def column_norms(self) -> jax.Array:
        """Norms of J's columns."""
        return self._lengths * self.unit / self.sizes

    @property
    def direction(self) -> jax.Array:
        """The gradient J'f, but for positive factors."""
        return self.gradient

    def largest_gradient(self, held: jax.Array | bool) -> jax.Array:
        """The largest element of the gradient, but for parameters that are held."""
        gradient = jnp.where(held, 0.0, jnp.abs(self.gradient)) * self.unit / self.sizes
        return jnp.max(gradient, axis=0) * self.unit

    def cosines(self, fnorm: jax.Array) -> jax.Array:
        """Between the residual and each column; zero for a zero column."""
        lengths, cosines = self._lengths, jnp.abs(self.gradient) / (fnorm / self.unit)
        return jnp.where(lengths == 0, 0.0, cosines / jnp.where(lengths == 0, 1.0, lengths))

    def step(self, region: Region, idle: jax.Array | bool = False) -> Step:
        """The Levenberg-Marquardt step; see `LinearModel.step`.

        A parameter of infinite scale has a column of zero.
        """
        scale, gram, gradient = self._scaled(region.scale)
        bound = region.step_bound / self.unit
        damping, q, rank = levenberg_parameter(
            _damped_steps(gram, gradient), gradient, bound, region.damping, idle
        )
        step_norm = norm(q) * self.unit
        model = quadratic_form(gram, q) / jnp.square(region.fnorm / self.unit)
        damped = damping * jnp.square(step_norm / region.fnorm)
        return Step(damping, q / scale * self.sizes, step_norm, model, damped, rank)

    def step_in_box(self, box: Box, region: Region, idle: jax.Array | bool = False) -> Step:
        """`step` with p inside a box; see `LinearModel.step_in_box`."""
        scale, gram, gradient = self._scaled(region.scale)
        finite = jnp.where(jnp.isinf(scale), 1.0, scale)
        box = Box(*(end / self.sizes * finite for end in box))
        problem = GramBox(gram, gradient)
        attempt, sides = box_steps(problem, box, problem.doubt)
        damping, q, rank = levenberg_parameter(
            attempt, gradient, region.step_bound / self.unit, region.damping, idle, sides
        )
        squared = jnp.square(region.fnorm / self.unit)
        curved = quadratic_form(gram, q)
        damped = jnp.maximum(total(gradient * q) - curved, 0.0) / squared
        p = q / scale * self.sizes
        return Step(damping, p, norm(q) * self.unit, curved / squared, damped, rank)

    def _scaled(self, scale):
        """The scale in our units, and the problem in parameters over it."""
        scale = scale * self.sizes / self.unit
        gram = self.gram / scale[:, None] / scale[None, :]
        return scale, gram, self.gradient / scale


# Columns whose products are each a sum of its own; those of more take XLA long to compile, and are
# no faster than a matrix product.
MOST_APART = 16


def normal_equations(
    columns: Sequence[jax.Array],
    rows: Sequence[jax.Array],
    unit: jax.Array,
    sizes: jax.Array | float = 1.0,
    factors: Sequence[jax.Array | None] | None = None,
) -> tuple[Normal, jax.Array]:
    """The normal equations, and the norm of the residual.

    Parameters
    ----------
    columns : sequence of (..., m) arrays
        The n columns of J, times `sizes` over `unit`.  Apart, since XLA then makes each sum
        over the data a vectorized kernel.  One that all lanes share may be (m,).
    rows : tuple of (..., m) arrays
        The residual, divided by `unit`; and with a loss its values, divided by the square.
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
    n, f = len(columns), rows[0]
    products = _apart if n <= MOST_APART else _together
    gram, gradient = products(columns, factors or (None,) * n, f, unit.shape)
    sizes = jnp.broadcast_to(jnp.asarray(sizes, f.dtype), gradient.shape)
    return Normal(gram, gradient, unit, sizes), jnp.sqrt(sum_of(rows)) * unit


def _apart(columns, factors, f, batch):
    """J'J (n, n, ...) and J'f (n, ...), a sum each."""
    n = len(columns)

    def product(j, v, *among):
        value = _dot(columns[j], v)
        for factor in (factors[j], *among):
            value = value if factor is None else value * factor
        return jnp.broadcast_to(value, batch)

    upper = [[product(i, columns[j], factors[j]) for j in range(i, n)] for i in range(n)]
    gram = jnp.stack(
        [jnp.stack([upper[min(i, j)][abs(i - j)] for j in range(n)]) for i in range(n)]
    )
    return gram, jnp.stack([product(j, f) for j in range(n)])


def _together(columns, factors, f, batch):
    """The same by matrix products."""
    whole = [
        jnp.broadcast_to(
            column if factor is None else column * factor[..., None], (*batch, f.shape[-1])
        )
        for column, factor in zip([*columns, f], [*factors, None], strict=True)
    ]
    jac = jnp.stack(whole, axis=-2)
    gram = jnp.matmul(jac, jnp.swapaxes(jac, -1, -2), precision="highest")
    gram = jnp.moveaxis(gram, (-2, -1), (0, 1))
    return gram[:-1, :-1], gram[:-1, -1]


def _dot(u, v):
    if u.ndim < v.ndim:
        return _dot(v, u)
    if u.ndim > v.ndim:
        return jnp.matmul(u, v, precision="highest")
    return jnp.sum(u * v, axis=-1)


def _damped_steps(gram, gradient):
    """The damped problem as a function of the damping, for `levenberg_parameter`.

    In parameters scaled by D: minimize ``q'(A + damping) q - 2 g'q``.  All of it comes from
    one sweep of A, bordered with g: the inverse, q, and the pivots.  A pivot that is zero to
    rounding belongs to a direction that the earlier columns span already: that parameter does
    not move.
    """
    n = gradient.shape[0]
    lanes = (1,) * (gradient.ndim - 1)
    eye = jnp.eye(n, dtype=bool).reshape(n, n, *lanes)
    floor = floor_of(n, gradient.dtype)
    diagonal = diagonal_of(gram)

    def attempt(damping):
        damped = jnp.where(eye, gram + damping, gram)
        swept = sweep(bordered(damped, gradient), n, floor)
        q = swept[:n, n]
        length = norm(q)
        slope = jnp.sqrt(jnp.maximum(-quadratic_form(swept[:n, :n], q), 0.0)) / jnp.where(
            length == 0, 1.0, length
        )
        return q, length, slope, 1.0 / inflation(swept[:n, :n], diagonal)

    return attempt
