"""Quantiles and tails against SciPy's distributions."""

import numpy as np
import pytest
from scipy import stats

from jaxlsq.results.quantiles import beyond_chi2, beyond_f, joint, normal, student

DOF = np.concatenate([np.arange(1, 1200, 7), [999, 1000, 1001, 10_000, 10**6]])


@pytest.mark.parametrize("level", [0.1, 0.6827, 0.95, 0.9973])
def test_students_quantiles(level):
    t = student(level, DOF)
    # SciPy's own quantiles are exact to 1e-11: what is compared is the probability beyond ours.
    error = (2 * stats.t.sf(t, DOF) - (1 - level)) / (2 * stats.t.pdf(t, DOF) * t)
    assert np.abs(error).max() < 1e-12
    np.testing.assert_allclose(t, stats.t.isf(0.5 * (1 - level), DOF), rtol=1e-10)
    np.testing.assert_allclose(normal(level), stats.norm.isf(0.5 * (1 - level)), rtol=1e-13)


def test_degrees_of_freedom_of_any_shape_and_none():
    t = student(0.95, np.array([[5, 0], [-3, 5]]))
    assert t.shape == (2, 2)
    assert np.isinf(t[0, 1])
    assert np.isinf(t[1, 0])
    assert t[0, 0] == t[1, 1] == student(0.95, 5)


@pytest.mark.parametrize("level", [0.1, 0.6827, 0.95, 0.9973])
def test_what_two_parameters_may_raise_chi_squared_by(level):
    for dof in (1, 2, 10, 500):
        np.testing.assert_allclose(joint(level, dof), 2 * stats.f.ppf(level, 2, dof), rtol=1e-10)
    np.testing.assert_allclose(joint(level, None), stats.chi2.ppf(level, 2), rtol=1e-12)


@pytest.mark.long
def test_tails():
    rng = np.random.default_rng(0)
    over, dof = rng.integers(1, 20, 300), rng.integers(1, 2000, 300)
    value = rng.gamma(2.0, 1.0, 300) * np.where(rng.random(300) < 0.3, 8, 1)
    np.testing.assert_allclose(beyond_f(value, over, dof), stats.f.sf(value, over, dof), rtol=1e-9)
    np.testing.assert_allclose(beyond_chi2(value, over), stats.chi2.sf(value, over), rtol=1e-11)
    np.testing.assert_array_equal(beyond_f([0.0, np.inf], 2, 5), [1.0, 0.0])
    assert np.isnan(beyond_f(np.nan, 2, 5))
    assert np.isnan(beyond_chi2(np.nan, 3))
