"""Costs at parameters that are given, and what a step from there would lower them by."""

import jax.numpy as jnp
import numpy as np

from jaxlsq import fit


def test_what_a_step_lowers_chi_squared_by():
    """Of a linear model it leads to the minimum, but for the part that the damping keeps back."""
    x = np.linspace(-1.0, 1.0, 21)
    y = np.array([2.0, -1.0])[:, None] + np.array([0.5, 3.0])[:, None] * x
    y = y + 0.1 * np.random.default_rng(0).normal(size=y.shape)
    result = fit(lambda x, a, b: a + b * x, x, y, [0.0, 0.0])
    places, away = np.array([1, 0, 1]), np.array([[0.3, -0.2], [0.1, 0.4], [-2.0, 0.0]])
    at, free = result.x[places] + away, np.array([[1, 1], [1, 1], [1, 0]])
    fall, variation = result.problem.left(places, at, free).T
    # The columns are orthogonal, so that what is not free does not count.
    expected = np.sum(np.square(away * [np.sqrt(21.0), np.sqrt(np.sum(x**2))]), axis=1)
    np.testing.assert_allclose(fall, expected, rtol=1e-3)
    np.testing.assert_allclose(variation, np.sum((y - y.mean(1, keepdims=True)) ** 2, 1)[places])


def test_a_step_from_where_the_model_is_not_finite_lowers_nothing():
    x = np.linspace(0.0, 1.0, 9)
    result = fit(lambda x, a, b: a * jnp.sqrt(b) + x, x, 2.0 + x, [1.0, 1.0])
    assert result.problem.left(np.array([0]), np.array([[1.0, -1.0]]), np.ones((1, 2)))[0, 0] == 0
