"""What the iteration asks of a linear model: the one seam between it and the algebra.

`jaxlsq.numerics.factor.Factor` answers by a QR factorization, for one fit;
`jaxlsq.numerics.normal.Normal` by normal equations, for many side by side.
"""

from typing import NamedTuple, Protocol

import jax

__all__ = ["Box", "LinearModel", "Region", "Step"]


class Region(NamedTuple):
    """Where a trial step may lead.

    Attributes
    ----------
    scale : (n, ...) array
        D, positive; infinite for a parameter whose column counts as zero.
    fnorm : (...) array
        Norm of the residual.
    step_bound, damping : (...) arrays
        Delta, and the previous lambda.
    """

    scale: jax.Array
    fnorm: jax.Array
    step_bound: jax.Array
    damping: jax.Array


class Box(NamedTuple):
    """The ends between which a step p may be, ``low <= 0 <= high``: (n, ...) arrays."""

    low: jax.Array
    high: jax.Array


class Step(NamedTuple):
    """A trial step, and what the linear model says of it.

    Attributes
    ----------
    damping : (...) array
        The Levenberg-Marquardt parameter.
    p : (n, ...) array
        The iteration moves by -p.
    step_norm : (...) array
        ``||D p||``.
    model : (...) array
        ``(||J p|| / ||f||)^2``.
    damped : (...) array
        ``(g'p - ||J p||^2) / ||f||^2``, which is ``damping (||D p|| / ||f||)^2`` where no bound
        holds.
    rank : (...) array
        One where J determines every parameter that no bound holds, zero where not, or between
        them the reciprocal of a variance inflation.
    """

    damping: jax.Array
    p: jax.Array
    step_norm: jax.Array
    model: jax.Array
    damped: jax.Array
    rank: jax.Array


class LinearModel(Protocol):
    """A Jacobian J and a residual f at a point; arrays may have lanes last."""

    @property
    def column_norms(self) -> jax.Array:
        """Norms of J's columns (n, ...)."""
        ...

    @property
    def direction(self) -> jax.Array:
        """The gradient J'f (n, ...), but for positive factors."""
        ...

    def cosines(self, fnorm: jax.Array) -> jax.Array:
        """Between the residual and each column (n, ...); zero for a column of zeros."""
        ...

    def step(self, region: Region, idle: jax.Array | bool = False) -> Step:
        """The Levenberg-Marquardt step inside a `Region`.

        Lanes that are `idle` wait for none of it; what they get is meaningless.
        """
        ...

    def step_in_box(self, box: Box, region: Region, idle: jax.Array | bool = False) -> Step:
        """The same with p inside a box."""
        ...
