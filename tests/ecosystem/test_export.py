"""`jax.export`: fits as a program for other machines, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxlsq import least_squares, using

pytest.importorskip("flatbuffers")

pytestmark = pytest.mark.ecosystem
T = np.linspace(0.0, 4.0, 30, dtype=np.float32)
RATES = np.linspace(0.5, 2.0, 40)
Y = jnp.asarray(2.0 * np.exp(-RATES[:, None] * T), jnp.float32)
PLATFORMS = ("cpu", "cuda", "tpu")


def rate(y):
    return least_squares(lambda p: p[0] * jnp.exp(-p[1] * T) - y, jnp.ones(2)).x[1]


@pytest.fixture
def rates():
    with using("xla"):
        yield jax.jit(jax.vmap(rate))


@pytest.fixture
def exported(rates):
    return export.export(rates, platforms=PLATFORMS)(jax.ShapeDtypeStruct(Y.shape, Y.dtype))


def test_a_program_for_all_platforms(rates, exported):
    assert exported.platforms == PLATFORMS
    text = exported.mlir_module()
    assert "custom_call" not in text
    assert "f64" not in text
    stored = exported.serialize()
    assert len(stored) < 1_000_000
    found = export.deserialize(stored).call(Y)
    np.testing.assert_array_equal(found, rates(Y))
    np.testing.assert_allclose(found, RATES, rtol=1e-4)


def test_its_derivatives_go_along(rates, exported):
    loaded = export.deserialize(exported.serialize(vjp_order=1))
    noisy = Y + 0.05 * jnp.cos(5.0 * T)
    slope = jax.grad(lambda y: jnp.sum(loaded.call(y) ** 2))(noisy)
    expected = jax.grad(lambda y: jnp.sum(rates(y) ** 2))(noisy)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-6)
    way = np.broadcast_to(np.sin(3.0 * T), Y.shape)
    h = 1e-4
    before, after = (total_of(np.asarray(noisy, float) + k * h * way) for k in (-1, 1))
    np.testing.assert_allclose(np.sum(slope * way), (after - before) / (2 * h), rtol=1e-3)


def total_of(decays):
    """Sum of the rates' squares, in float64 and fitted to its last digits."""
    with jax.enable_x64(True):
        t = jnp.asarray(T, float)

        def rate(y):
            options = {"ftol": 1e-15, "xtol": 1e-15}
            return least_squares(lambda p: p[0] * jnp.exp(-p[1] * t) - y, jnp.ones(2), **options).x[
                1
            ]

        return float(jnp.sum(jax.vmap(rate)(jnp.asarray(decays)) ** 2))
