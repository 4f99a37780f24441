"""Guesses for the deviance of counts, which does not exist where the model is below zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import Status, fit
from jaxlsq.models import Constant, Gaussian, Linear

X = np.linspace(0.0, 10.0, 60)


def counts(rows, seed=1):
    """A peak on a low line."""
    rng = np.random.default_rng(seed)
    height, center, width, level, slope = (
        rng.uniform(low, high, (rows, 1))
        for low, high in ((3, 60), (2, 8), (0.3, 1.2), (0.05, 0.5), (0, 0.05))
    )
    return rng.poisson(height * np.exp(-0.5 * ((X - center) / width) ** 2) + level + slope * X)


def guesses(model, y):
    """Those of the model itself."""
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(model.guess, (None, 0)))(X, y.astype(float))
    return {name: np.asarray(found[name]) for name in model.names}


@pytest.mark.long
@pytest.mark.parametrize("model", [Gaussian() + Linear(), Gaussian() + Constant()])
def test_a_guess_is_positive_where_it_can_be(model):
    y = counts(100)
    result = fit(model, X, y, loss="poisson")
    assert not np.any(result.status == Status.NONFINITE_START)
    assert result.success.mean() > 0.85


@pytest.mark.long
@pytest.mark.parametrize("model", [Gaussian() + Linear(), Gaussian() + Constant()])
def test_by_least_squares_more_than_a_few_begin_below_zero(model):
    guessed = guesses(model, counts(100))
    least = [model(X, **{k: v[i] for k, v in guessed.items()}).min() for i in range(100)]
    assert np.mean(np.array(least) < 0) > 0.2


@pytest.mark.long
def test_a_guess_that_is_positive_stays_what_it_is():
    y = counts(20) + 50
    model = Gaussian() + Linear()
    first = fit(model, X, y, p0=guesses(model, y), loss="poisson")
    second = fit(model, X, y, loss="poisson")
    np.testing.assert_array_equal(first.nfev, second.nfev)
    np.testing.assert_allclose(first.x, second.x, rtol=1e-9)
    assert first.success.all()


def test_of_a_model_that_only_python_can_call():
    def model(x, height, rate):
        return height * np.exp(-rate * x) if rate > 0 else height * np.ones_like(x)

    y = np.random.default_rng(0).poisson(20.0 * np.exp(-0.5 * X), (2, X.size))
    result = fit(model, X, y, p0=lambda x, y: jnp.array([15.0, 0.7]), loss="poisson")
    assert result.engine.startswith("Python")
    assert result.success.all()
