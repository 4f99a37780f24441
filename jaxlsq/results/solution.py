"""What `least_squares` returns."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxlsq.numerics.sweep import symmetric_inverse
from jaxlsq.problem.types import PyTree
from jaxlsq.results import solution_text
from jaxlsq.status import describe
from jaxlsq.tracing.settings import own_settings

__all__ = ["History", "LeastSquaresResult"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class History:
    """The last k accepted points of a fit, the newest last.

    Rows before the start are NaN, and zero in `nfev`.

    Attributes
    ----------
    x : pytree of (k, ...) arrays
        Parameters.
    cost : (k,) array
        Half the sum of squares.
    step_bound, damping : (k,) arrays
        Radius of the trust region, in scaled parameters, and the Levenberg-Marquardt parameter
        with which the next trial was found.
    nfev : (k,) int array
        Evaluations of the residual until then: where it rises by more than one, trials were
        rejected.
    """

    x: PyTree
    cost: jax.Array
    step_bound: jax.Array
    damping: jax.Array
    nfev: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class LeastSquaresResult:
    """The solution of one problem, with the field names of SciPy's `OptimizeResult`.

    A pytree: under `vmap` every field has the lanes in front.

    Attributes
    ----------
    x : pytree
        Parameters, as `x0` was given; the last good ones where the fit failed.
    cost : scalar
        Half the sum of squares, or of the loss.
    fun : (m,) array
        Residuals.
    jac : (m, n) array
        Jacobian; columns in the order of the leaves of `x0`.  With a loss its rows are weighted,
        so that ``jac.T @ jac`` is the Gauss-Newton matrix of the cost.
    grad : (n,) array
        Of the cost; without a loss ``jac.T @ fun``.
    optimality : scalar
        The largest element of `grad`, but for those that a bound holds.
    active_mask : (n,) int array
        -1 and 1 for parameters at their lower and upper bound (-1 where those are equal).
    dof : int scalar
        Residuals minus parameters whose bounds differ.
    nfev, njev : int scalars
    status : int scalar
        A code of `jaxlsq.Status`.
    success : bool scalar
    history : History or None
        The last points, where `return_history` asked for them.
    """

    x: PyTree
    cost: jax.Array
    fun: jax.Array
    jac: jax.Array
    grad: jax.Array
    optimality: jax.Array
    active_mask: jax.Array
    dof: jax.Array
    nfev: jax.Array
    njev: jax.Array
    status: jax.Array
    success: jax.Array
    history: History | None = None

    def __repr__(self) -> str:
        return solution_text.text(self)

    @property
    def message(self) -> str:
        """Why it ended; of a single concrete result."""
        return describe(int(self.status))

    @property
    @own_settings()
    def cov(self) -> jax.Array:
        r"""Covariance of the parameters, (..., n, n), with the lanes in front.

        .. math:: \frac{2\,\mathrm{cost}}{\mathrm{dof}} (J^T J)^{-1}

        of the parameters that are at no bound, with zeros for the others; inf where the Jacobian
        is singular or `dof` is zero.
        """
        return _covariance(self.jac, self.active_mask == 0, self.cost, self.dof)


@jax.jit
def _covariance(jac: Any, free: Any, cost: Any, dof: Any) -> jax.Array:
    """`LeastSquaresResult.cov` of the parameters that are free."""
    gram = jnp.einsum("...mi,...mj->ij...", jac, jac, precision="highest")
    free = jnp.moveaxis(free, -1, 0)
    both = free[:, None] & free[None, :]
    eye = jnp.eye(len(free), dtype=gram.dtype).reshape(both.shape[:2] + (1,) * (both.ndim - 2))
    inverse, definite = symmetric_inverse(jnp.where(both, gram, eye))
    some = dof > 0
    cov = jnp.where(definite & some, inverse * (2.0 * cost / jnp.where(some, dof, 1)), jnp.inf)
    return jnp.moveaxis(jnp.where(both, cov, 0.0), (0, 1), (-2, -1))
