"""Covariance of the parameters from the last factorization of the Jacobian."""

import numpy as np

__all__ = ["covariance"]


def covariance(r, perm):
    r""":math:`(J^T J)^{-1}` from J P = Q R.

    .. math:: (J^T J)^{-1} = P R^{-1} R^{-T} P^T

    Parameters
    ----------
    r : (n, n) array
        Upper triangular R.
    perm : (n,) int array
        Column j of R belongs to parameter ``perm[j]``.

    Returns
    -------
    (n, n) array or None
        In the units of the parameters squared by those of the residual squared.
        None if R has a zero on its diagonal.

    Notes
    -----
    ``scipy.optimize.leastsq`` computes ``cov_x`` so, and like it takes only an exact
    zero for singular; look at the condition of what comes back.
    """
    n = len(perm)
    if np.any(np.diagonal(r) == 0):
        return None
    inverse = np.empty((n, n))
    # R is triangular, so that the elimination in `solve` is pure back substitution.
    inverse[perm] = np.linalg.solve(r, np.eye(n))
    return inverse @ inverse.T
