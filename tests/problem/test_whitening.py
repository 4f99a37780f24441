"""`sigma` as covariance matrices: closed forms, SciPy, shared and per lane."""

import numpy as np
import pytest
import scipy.optimize

from jaxlsq import Status, fit
from jaxlsq.problem.covariance import is_covariance, whitening
from tests.decays import P0, B, T, Y, decay, decay_np

M = T.size
NEAR = np.exp(-np.abs(T[:, None] - T) / 0.5)
EACH = np.linspace(0.01, 0.05, B)[:, None, None] ** 2 * NEAR


def test_a_linear_model_has_the_closed_form():
    """Generalized least squares: (X' C^-1 X)^-1 X' C^-1 y."""
    result = fit(lambda t, b, c: b * t + c, T, Y, (0.0, 1.0), sigma=NEAR, absolute_sigma=True)
    rows = np.stack([T, np.ones(M)], axis=1)
    inverse = np.linalg.inv(NEAR)
    cov = np.linalg.inv(rows.T @ inverse @ rows)
    np.testing.assert_allclose(result.x, Y @ inverse @ rows @ cov, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(result.cov, np.broadcast_to(cov, (B, 2, 2)), rtol=1e-8)
    rest = Y - result.x @ rows.T
    np.testing.assert_allclose(result.chi2, np.einsum("bi,ij,bj->b", rest, inverse, rest))
    ones = np.ones(M)
    mean = (Y @ inverse @ ones) / (ones @ inverse @ ones)
    about = Y - mean[:, None]
    total = np.einsum("bi,ij,bj->b", about, inverse, about)
    np.testing.assert_allclose(result.r2, 1 - result.chi2 / total, rtol=1e-9)


@pytest.mark.parametrize("absolute", [False, True])
def test_fits_are_scipys(absolute):
    result = fit(decay, T, Y, P0, sigma=EACH, absolute_sigma=absolute)
    assert len(np.unique(result.nfev)) > 1
    for i in range(B):
        popt, pcov = scipy.optimize.curve_fit(
            decay_np, T, Y[i], P0, sigma=EACH[i], absolute_sigma=absolute, ftol=1e-12, xtol=1e-12
        )
        np.testing.assert_allclose(result.x[i], popt, rtol=1e-6)
        np.testing.assert_allclose(result.cov[i], pcov, rtol=2e-4)


def test_a_diagonal_matrix_is_a_sigma():
    sigma = np.random.default_rng(2).uniform(0.5, 2.0, M)
    matrix = fit(decay, T, Y, P0, sigma=np.diag(sigma**2))
    points = fit(decay, T, Y, P0, sigma=sigma)
    np.testing.assert_allclose(matrix.x, points.x, rtol=1e-7)
    np.testing.assert_allclose(matrix.cov, points.cov, rtol=1e-5)
    one = fit(decay, T, Y[0], P0, sigma=np.diag(sigma**2))
    np.testing.assert_allclose(one.x, points.x[0], rtol=1e-7)


def test_a_jacobian_of_the_users_is_whitened_too():
    from tests.decays import decay_jac

    given = fit(decay, T, Y, P0, sigma=NEAR, jac=decay_jac)
    np.testing.assert_allclose(given.x, fit(decay, T, Y, P0, sigma=NEAR).x, rtol=1e-8)


def test_a_matrix_that_is_not_positive_definite_ends_its_own_fit():
    sigma = EACH.copy()
    sigma[3] = -np.eye(M)
    result = fit(decay, T, Y, P0, sigma=sigma)
    assert result.status[3] == Status.NONFINITE_DATA
    others = np.arange(B) != 3
    whole = fit(decay, T, Y, P0, sigma=EACH)
    np.testing.assert_array_equal(result.x[others], whole.x[others])


def test_what_is_a_covariance():
    assert is_covariance(np.eye(5), (5,))
    assert is_covariance(np.eye(5), (7, 5))
    with pytest.raises(ValueError, match=r"sigma\[None\].*list\(sigma\)"):
        is_covariance(np.eye(5), (5, 5))  # or a sigma per point of five data sets
    assert not is_covariance(list(np.eye(5)), (5, 5))
    assert not is_covariance(np.arange(25.0).reshape(5, 5), (5, 5))
    assert is_covariance(np.eye(5)[None], (5, 5))
    assert is_covariance(np.ones((7, 5, 5)), (7, 5))
    assert not is_covariance(np.ones((7, 5)), (7, 5))
    assert not is_covariance(None, (5,))


def test_factors_whiten():
    factor = whitening(NEAR, (B, M), (B,), np.float64)
    np.testing.assert_allclose(factor @ NEAR @ factor.T, np.eye(M), atol=1e-10)
    each = whitening(EACH, (B, M), (B,), np.float32).read(2, 4)
    assert each.dtype == np.float32
    np.testing.assert_allclose(each[1] @ EACH[3] @ each[1].T, np.eye(M), atol=1e-3)
    with pytest.raises(ValueError, match="sigma, as covariance matrices, must have shape"):
        whitening(np.ones((5, M, M)), (B, M), (B,), np.float64)


def test_float32():
    y = Y.astype(np.float32)
    narrow = fit(decay, T.astype(np.float32), y, P0, sigma=NEAR)
    np.testing.assert_allclose(narrow.x, fit(decay, T, Y, P0, sigma=NEAR).x, rtol=2e-3)
