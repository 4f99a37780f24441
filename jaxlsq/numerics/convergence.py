"""MINPACK's stopping rules, each with its exact inequality.

Source: J. J. More, B. S. Garbow, K. E. Hillstrom, "User Guide for MINPACK-1",
ANL-80-74 (1980), and the code of ``lmder``.  MINPACK tests them in this order:
``gtol`` after each factorization; then, after each trial, ``ftol``, ``xtol``,
the evaluation limit and the three tests at machine precision.  A later test
that holds overwrites the code of an earlier one within a group.
"""

import jax
import jax.numpy as jnp

from jaxlsq.numerics.state import Options
from jaxlsq.numerics.types import AnyArray
from jaxlsq.status import Status

__all__ = ["after_factorization", "after_trial", "reduction_test", "step_test"]


def reduction_test(
    actual: jax.Array, predicted: jax.Array, ratio: jax.Array, tol: AnyArray
) -> jax.Array:
    r"""True if the sum of squares can't be reduced by more than a fraction `tol`.

    .. math:: |\mathrm{actual}| \le tol,\quad \mathrm{predicted} \le tol,\quad
              \tfrac12\,\mathrm{ratio} \le 1

    Parameters
    ----------
    actual, predicted : scalar
        Relative reductions of the sum of squares, no units.
    ratio : scalar
        ``actual / predicted``.
    tol : scalar
        ``ftol``, or the machine epsilon for MINPACK's exit 6.
    """
    return (jnp.abs(actual) <= tol) & (predicted <= tol) & (0.5 * ratio <= 1.0)


def step_test(step_bound: jax.Array, xnorm: jax.Array, tol: AnyArray) -> jax.Array:
    r"""True if the step bound is at most `tol` times the scaled parameters.

    .. math:: \Delta \le tol \, \lVert D x \rVert

    Parameters
    ----------
    step_bound, xnorm : scalar
        Delta and ``||D x||`` at the accepted point, in the units of the residual.
    tol : scalar
        ``xtol``, or the machine epsilon for MINPACK's exit 7.
    """
    return step_bound <= tol * xnorm


def after_factorization(gnorm: jax.Array, gtol: AnyArray) -> jax.Array:
    r"""Status after a new Jacobian: exit 4 if :math:`gnorm \le gtol`.

    Parameters
    ----------
    gnorm : scalar
        :math:`\max_j |J_j^T r| / (\lVert J_j \rVert \lVert r \rVert)`, the largest
        cosine between the residual and a column of the Jacobian.
    gtol : scalar
    """
    return jnp.where(gnorm <= gtol, Status.GTOL, Status.RUNNING).astype(jnp.int32)


def after_trial(
    reductions: tuple[jax.Array, jax.Array, jax.Array],
    bound: tuple[jax.Array, jax.Array],
    gnorm: jax.Array,
    nfev: jax.Array,
    options: Options,
) -> jax.Array:
    """Status after a trial step: exits 1, 2, 3, then 5, 6, 7, 8.

    Parameters
    ----------
    reductions : (actual, predicted, ratio)
        As in `reduction_test`.
    bound : (step_bound, xnorm)
        As in `step_test`, both after the trial was judged.
    gnorm : scalar
        As in `after_factorization`, of the last Jacobian.
    nfev : int
        Function evaluations so far.
    options : Options
        Its ``ftol``, ``xtol`` and ``max_nfev`` are used.
    """
    ftol_holds = reduction_test(*reductions, options.ftol)
    xtol_holds = step_test(*bound, options.xtol)
    eps = jnp.finfo(gnorm.dtype).eps
    status = jnp.int32(Status.RUNNING)
    for holds, code in (  # a later one overrides an earlier one
        (nfev >= options.max_nfev, Status.MAX_NFEV),
        (reduction_test(*reductions, eps), Status.FTOL_TOO_SMALL),
        (step_test(*bound, eps), Status.XTOL_TOO_SMALL),
        (gnorm <= eps, Status.GTOL_TOO_SMALL),
        (ftol_holds, Status.FTOL),
        (xtol_holds, Status.XTOL),
        (ftol_holds & xtol_holds, Status.FTOL_AND_XTOL),
    ):
        status = jnp.where(holds, jnp.int32(code), status)
    return status
