"""What `least_squares` returns."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxlsq.history import History
from jaxlsq.numerics.normal import symmetric_inverse
from jaxlsq.status import describe

__all__ = ["LeastSquaresResult"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LeastSquaresResult:
    """The solution of one problem, with the field names of SciPy's `OptimizeResult`.

    A pytree: under `vmap` every field has the lanes in front.

    Attributes
    ----------
    x : pytree
        Parameters, as `x0` was given; the last good ones where the fit failed.
    cost : scalar
        Half the sum of squares.
    fun : (m,) array
        Residuals.
    jac : (m, n) array
        Jacobian; columns in the order of the leaves of `x0`.
    grad : (n,) array
        ``jac.T @ fun``.
    optimality : scalar
        The largest element of `grad`.
    active_mask : (n,) int array
        Zeros: there are no bounds yet.
    nfev, njev : int scalars
    status : int scalar
        A code of `jaxlsq.Status`.
    success : bool scalar
    history : History or None
        The last points, where `return_history` asked for them.
    """

    x: object
    cost: jax.Array
    fun: jax.Array
    jac: jax.Array
    grad: jax.Array
    optimality: jax.Array
    active_mask: jax.Array
    nfev: jax.Array
    njev: jax.Array
    status: jax.Array
    success: jax.Array
    history: History | None = None

    @property
    def message(self):
        """Why it ended; of a single concrete result."""
        return describe(int(self.status))

    @property
    def cov(self):
        r"""Covariance of the parameters, (..., n, n), with the lanes in front.

        .. math:: \frac{2\,\mathrm{cost}}{m - n} (J^T J)^{-1}

        inf where the Jacobian is singular or m = n.
        """
        m, n = self.jac.shape[-2:]
        gram = jnp.einsum("...mi,...mj->ij...", self.jac, self.jac, precision="highest")
        inverse, definite = symmetric_inverse(gram)
        variance = 2.0 * self.cost / (m - n) if m > n else jnp.full_like(self.cost, jnp.inf)
        cov = jnp.where(definite & (m > n), inverse * variance, jnp.inf)
        return jnp.moveaxis(cov, (0, 1), (-2, -1))
