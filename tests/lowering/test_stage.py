"""Models that differ only in what is computed once for all fits are different programs."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import clear_cache, fit, least_squares_batch
from jaxlsq.lowering.engine import LANES

X = np.linspace(0.1, 4.0, 30)
Y = np.stack([2.0 * np.exp(-X) + 0.3, 1.0 - np.sin(X)]) + 0.01 * np.random.default_rng(0).normal(
    size=(2, 30)
)

# Each with the curves that its parameters multiply.
ONE = {
    "exp": lambda x, a: a * jnp.exp(-x),
    "sin": lambda x, a: a * jnp.sin(x),
    "power": lambda x, a: a * x**1.5,
    "log": lambda x, a: a * jnp.log(x),
}
TWO = {
    "exp, sin": lambda x, a, b: a * jnp.exp(-x) + b * jnp.sin(x),
    "sin, exp": lambda x, a, b: a * jnp.sin(x) + b * jnp.exp(-x),
    "exp, cos": lambda x, a, b: a * jnp.exp(-x) + b * jnp.cos(x),
}


def solved(model, n):
    """Parameters and standard errors of a model that is linear in both."""
    curves = np.stack([np.asarray(model(jnp.asarray(X), *one)) for one in np.eye(n)], axis=1)
    params = np.linalg.lstsq(curves, Y.T, rcond=None)[0].T
    chi2 = np.sum((Y - params @ curves.T) ** 2, axis=1)
    inverse = np.linalg.inv(curves.T @ curves)
    return params, np.sqrt(chi2[:, None] / (X.size - n) * np.diag(inverse))


def check(model, n):
    params, stderr = solved(model, n)
    result = fit(model, X, Y, np.ones(n))
    assert result.engine == LANES
    assert result.success.all()
    np.testing.assert_allclose(result.x, params, rtol=1e-5)
    np.testing.assert_allclose(result.stderr, stderr, rtol=1e-4)
    again = least_squares_batch(lambda p, y: model(X, *p) - y, np.ones(n), Y)
    assert again.success.all()
    np.testing.assert_allclose(again.x, params, rtol=1e-5)


@pytest.mark.long_but("models1-2")
@pytest.mark.parametrize(("models", "n"), [(ONE, 1), (TWO, 2)])
def test_models_one_after_the_other(models, n):
    clear_cache()
    for model in models.values():
        check(model, n)


@pytest.mark.long_but("order1")
@pytest.mark.parametrize("order", [(0.5, 1.0, 2.0), (2.0, 0.5, 2.0)])
def test_numbers_that_a_model_closes_over(order):
    """As in a loop over fixed rates: the first is in the program, others are among its data."""
    clear_cache()
    for rate in order:
        check(lambda x, a, rate=rate: a * jnp.exp(-rate * x), 1)
        check(lambda x, a, b, rate=rate: a * jnp.exp(-rate * x) + b, 2)
