"""Inverses of normal matrices by elimination, against those by eigenvalues."""

import numpy as np
import pytest

from jaxlsq.results import covariance
from jaxlsq.results.covariance import scaled_inverses


@pytest.mark.long_but("1-float64", "2-float32", "5-float64", "12-float32")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 12, 14])
def test_elimination_and_eigenvalues_agree(n, dtype):
    rng = np.random.default_rng(n)
    jac = rng.normal(size=(9001, n + 3, n)) * 10.0 ** rng.uniform(-5, 5, n)
    jac[::100, :, -1] = jac[::100, :, 0]  # two columns that are the same
    jac[1::100, :, -1] = jac[1::100, :, 0] * (1 + 1e-4 * rng.normal(size=(91, 1))[:90])
    jac[5], jac[7, :, 0], jac[9] = np.nan, 0.0, 1e200
    with np.errstate(over="ignore"):
        gram = np.swapaxes(jac, -1, -2) @ jac
    inverse, expected = scaled_inverses(gram, dtype), covariance._by_spectrum(gram, dtype)
    np.testing.assert_array_equal(np.isinf(inverse), np.isinf(expected))
    np.testing.assert_array_equal(np.isnan(inverse), np.isnan(expected))
    assert np.isinf(inverse[0]).any() or n == 1
    known = np.isfinite(expected).all(axis=(1, 2))
    errors = np.sqrt(np.diagonal(expected[known], axis1=1, axis2=2))
    difference = np.abs(inverse[known] - expected[known]) / errors[:, :, None] / errors[:, None, :]
    # Both have the error of the matrix' condition.
    assert np.quantile(difference, 0.99) < 1e-12
    assert difference.max() < 1e-6
    np.testing.assert_array_equal(inverse[known], np.swapaxes(inverse[known], 1, 2))


def test_shapes():
    gram = np.eye(2) * np.arange(1.0, 7.0).reshape(2, 3, 1, 1)
    np.testing.assert_allclose(scaled_inverses(gram, np.float64)[1, 2], np.eye(2) / 6.0)
    assert scaled_inverses(np.empty((0, 2, 2)), np.float64).shape == (0, 2, 2)
    np.testing.assert_allclose(scaled_inverses(np.eye(3) * 2.0, np.float64), np.eye(3) / 2.0)
