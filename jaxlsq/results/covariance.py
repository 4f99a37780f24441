"""Covariance of the parameters from the last factorization of the Jacobian."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["covariance", "scaled_inverses"]

# Squared part that a parameter has in the undetermined directions, from which on it is one.
PART = 1e-8
# Matrices that are inverted together, as many as a cache holds; parameters up to which that is
# faster than a library's eigenvalues.
BLOCK, MOST_SWEPT = 4096, 12
# How far above the threshold for a zero the bound of the smallest eigenvalue is to be.
TRUST = 100.0


def covariance(r: NDArray[Any], perm: NDArray[Any]) -> NDArray[Any] | None:
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
    if not r.diagonal().all():
        return None
    inverse = np.empty_like(r)
    # R is triangular, so that the elimination in `inv` is pure back substitution.
    inverse[perm] = np.linalg.inv(r)
    return inverse @ inverse.T


def scaled_inverses(gram: NDArray[Any], dtype: Any) -> NDArray[Any]:
    r"""Inverses of many normal matrices, with columns scaled to the length one.

    Parameters
    ----------
    gram : (..., n, n) array
        J'J.
    dtype : dtype
        Of the computation that it comes from.

    Returns
    -------
    (..., n, n) float64 array
        inf in the rows and columns of parameters that have a part in a direction in which the
        residual does not change, NaN where `gram` is not finite.
    """
    gram = np.asarray(gram, np.float64)
    n = gram.shape[-1]
    flat = gram.reshape(-1, n, n)
    if n > MOST_SWEPT:
        return _by_spectrum(flat, dtype).reshape(gram.shape)
    out = np.empty_like(flat)
    for first in range(0, len(flat), BLOCK):
        block = flat[first : first + BLOCK]
        inverse, good = _swept(block, dtype)
        if not good.all():
            inverse[~good] = _by_spectrum(block[~good], dtype)
        out[first : first + BLOCK] = inverse
    return out.reshape(gram.shape)


def _swept(gram: NDArray[Any], dtype: Any):
    r"""Inverses by Gauss-Jordan elimination, and of which matrices they are to be trusted.

    Of a matrix S with ones on its diagonal, :math:`\lambda_{min} \ge \det S\,
    ((n - 1) / n)^{n - 1} > \det S / e` (the product of the others is at most that of their mean,
    which is below :math:`n / (n - 1)`), and the determinant is the product of the pivots: where
    that is large enough, no direction is undetermined.
    """
    n = gram.shape[-1]
    with np.errstate(all="ignore"):  # what is not finite, or singular, is not trusted
        unit = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1).T)
        rows = np.ascontiguousarray(np.moveaxis(gram, 0, -1))  # (n, n, matrices)
        rows = rows / unit[:, None] / unit[None, :]
        determinant = np.ones(len(gram))
        for k in range(n):
            pivot = rows[k, k].copy()
            determinant = determinant * np.where(pivot > 0, pivot, np.nan)
            row, column = rows[k] / pivot, rows[:, k].copy()
            rows -= column[:, None] * row[None, :]
            rows[:, k] = -column / pivot
            rows[k] = row
            rows[k, k] = 1.0 / pivot
        good = determinant > TRUST * n**2 * np.finfo(dtype).eps
        rows = rows / (unit[:, None] * unit[None, :])
        inverse = np.moveaxis(0.5 * (rows + np.swapaxes(rows, 0, 1)), -1, 0)
        good &= np.isfinite(inverse).all(axis=(-2, -1))
    return np.ascontiguousarray(inverse), good


def _by_spectrum(gram: NDArray[Any], dtype: Any):
    """The same of any matrices, by their eigenvalues."""
    finite, unit, values, vectors, null = _spectrum(gram, dtype)
    safe = np.where(null, np.inf, values)
    inverse = (vectors / safe[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    inverse = 0.5 * (inverse + np.swapaxes(inverse, -1, -2))  # but for rounding it is
    inverse = inverse / (unit[..., :, None] * unit[..., None, :])
    known = np.sum(np.where(null[..., None, :], vectors**2, 0.0), axis=-1) < PART
    inverse = np.where(known[..., :, None] & known[..., None, :], inverse, np.inf)
    return np.where(finite[..., None, None], inverse, np.nan)


def _spectrum(gram: NDArray[Any], dtype: Any):
    """Whether it is finite, the columns' lengths, eigenvalues, vectors, and which are zero."""
    n = gram.shape[-1]
    finite = np.all(np.isfinite(gram), axis=(-2, -1))
    lengths = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1))
    unit = np.where(finite[..., None] & (lengths > 0), lengths, 1.0)
    scaled = np.where(finite[..., None, None], gram, np.eye(n))
    scaled = scaled / unit[..., :, None] / unit[..., None, :]
    values, vectors = np.linalg.eigh(scaled)
    return finite, unit, values, vectors, values <= n * np.finfo(dtype).eps * values[..., -1:]
