"""Covariance matrices of the data: the factors that make residuals independent."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.containers import no_mask
from jaxlsq.problem.sources import Source, check_open
from jaxlsq.problem.types import Batch
from jaxlsq.tracing.settings import own_settings

__all__ = ["GOES_WITH_NO_MASK", "is_covariance", "whitening"]

GOES_WITH_NO_MASK = (
    "a covariance matrix as sigma goes with neither mask nor nan_policy='omit': leave the points "
    "out of xdata, ydata and sigma, or give them a large variance."
)
BLOCK = 1024


def is_covariance(sigma: Any, shape: tuple[int, ...]) -> bool:
    """Whether a `sigma` is matrices (..., m, m) and not what broadcasts to `shape`, (..., m).

    Raises
    ------
    ValueError
        If it could be either.
    """
    check_open(sigma, "sigma")
    if sigma is None or np.ndim(sigma) < 2:
        return False
    m, of_sigma = shape[-1], np.shape(sigma)
    if of_sigma[-2:] != (m, m) or of_sigma == (1, 1):
        return False
    if len(of_sigma) > 2:
        return len(of_sigma) == len(shape) + 1
    if len(shape) == 1 or shape[-2] != m:
        return True
    if isinstance(sigma, (list, tuple)) and all(isinstance(row, np.ndarray) for row in sigma):
        return False
    matrix = np.asarray(sigma)
    if np.allclose(matrix, matrix.T, rtol=1e-8):
        raise ValueError(
            f"sigma of shape {of_sigma} is a covariance matrix or one standard deviation per "
            f"point of {m} data sets. For a covariance pass sigma[None]; for standard deviations "
            "a list of arrays, list(sigma)."
        )
    return False


def whitening(
    sigma: Any, shape: tuple[int, ...], batch: Batch, dtype: np.dtype[Any]
) -> NDArray[Any] | Source:
    r"""Inverses of the Cholesky factors of covariances, shared (m, m) or a `Source`.

    .. math:: W = L^{-1}, \quad C = L L^T, \quad \lVert W r \rVert^2 = r^T C^{-1} r

    A matrix of one problem that is not positive definite gives NaN, which ends that fit alone.

    Parameters
    ----------
    sigma : (m, m) or (..., m, m) array
        With axes of length one in front, or none, it is shared.
    shape, batch : tuple of int
        Of `ydata`, and of its leading axes.
    dtype : dtype

    Raises
    ------
    ValueError
        If a shared one is not symmetric and positive definite, or the shape is wrong.
    """
    sigma, m = np.asarray(no_mask(sigma, "sigma"), np.float64), shape[-1]
    front = sigma.shape[:-2]
    if all(size == 1 for size in front):
        return _factor(sigma.reshape(m, m)).astype(dtype)
    try:
        matrices = np.broadcast_to(sigma, (*batch, m, m)).reshape(-1, m, m)
    except ValueError:
        raise ValueError(
            f"sigma, as covariance matrices, must have shape ({m}, {m}) or {(*batch, m, m)}, got "
            f"{sigma.shape}."
        ) from None
    factors = np.empty(matrices.shape, dtype)
    for first in range(0, len(matrices), BLOCK):
        factors[first : first + BLOCK] = _factors(matrices[first : first + BLOCK])
    return Source(factors.reshape(*batch, m, m), batch, dtype)


def _factor(matrix):
    message = "`sigma` must be positive definite, and symmetric."
    if not np.allclose(matrix, matrix.T, rtol=1e-8):
        raise ValueError(message)
    try:
        return np.linalg.solve(np.linalg.cholesky(matrix), np.eye(len(matrix)))
    except np.linalg.LinAlgError as error:
        raise ValueError(message) from error


def _factors(matrices):
    with own_settings(), jax.enable_x64(True):
        lower = jnp.linalg.cholesky(jnp.asarray(matrices))
        eye = jnp.broadcast_to(jnp.eye(matrices.shape[-1]), matrices.shape)
        return np.asarray(jax.scipy.linalg.solve_triangular(lower, eye, lower=True))
