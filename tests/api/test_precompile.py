"""What is compiled ahead of the data is not compiled again when they come."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlsq
from jaxlsq.models import Gaussian
from tests.decays import P0, SIGMA, T, Y, decay


def smoothed(t, a, k):
    return jnp.convolve(a * jnp.exp(-k * t), jnp.ones(3) / 3, mode="same")


@pytest.mark.long_but("float64-xla", "float32-lanes")
@pytest.mark.parametrize("engine", ["lanes", "xla"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_of_shapes(engine, dtype, compiles):
    shapes = jax.ShapeDtypeStruct(T.shape, dtype), jax.ShapeDtypeStruct(Y.shape, dtype)
    with jaxlsq.using(engine):
        jaxlsq.precompile(decay, *shapes, P0, polish=None)
        before = compiles()
        result = jaxlsq.fit(decay, T.astype(dtype), Y.astype(dtype), P0, polish=None)
        assert result.success.all()
        assert np.isfinite(result.stderr).all()
    assert compiles() == before > 0


def test_of_a_sample_with_a_guess_bounds_and_errors(compiles):
    x = np.linspace(0.0, 10.0, 60)
    rng = np.random.default_rng(3)
    y = 3.0 * np.exp(-0.5 * (x - rng.uniform(3, 7, (40, 1))) ** 2)
    y += 0.05 * rng.normal(size=y.shape)
    options = {"sigma": 0.05, "bounds": {"center": (0.0, 10.0)}, "loss": "huber"}
    jaxlsq.precompile(Gaussian(), x, y, **options)
    before = compiles()
    result = jaxlsq.fit(Gaussian(), x, y[::-1].copy(), **options)
    assert result.success.all()
    assert np.isfinite(result.cov).all()
    assert np.unique(result.nfev).size > 1
    assert compiles() == before > 0


def test_one_data_set_stands_for_any_number_and_length(compiles):
    def model(t, a, k):
        return a / jnp.cosh(k * t)

    jaxlsq.precompile(model, T[:5], Y[0, :5], P0)
    before = compiles()
    result = jaxlsq.fit(model, T, Y, P0)
    assert np.unique(result.nfev).size > 1
    assert np.isfinite(result.stderr).all()
    assert compiles() == before > 0


@pytest.mark.long
def test_of_a_model_for_the_pool(compiles):
    y = 2.0 * np.exp(-np.linspace(0.5, 2.0, 16)[:, None] * T)
    jaxlsq.precompile(smoothed, T, jax.ShapeDtypeStruct(y.shape, y.dtype), [1.0, 1.0])
    before = compiles()
    result = jaxlsq.fit(smoothed, T, y, [1.0, 1.0])
    assert "XLA" in result.engine
    assert np.isfinite(result.stderr).all()
    assert compiles() == before > 0


def test_what_is_improper_is_said_as_fit_says_it():
    shape = jax.ShapeDtypeStruct((3, T.size + 1), np.float64)
    with pytest.raises(ValueError, match="shape"):
        jaxlsq.precompile(decay, T, shape, P0)
    with pytest.raises(TypeError, match="takes no out"):
        jaxlsq.precompile(decay, T, Y, P0, out="results.zarr")
    jaxlsq.precompile(decay, T, Y, P0, sigma=SIGMA)
