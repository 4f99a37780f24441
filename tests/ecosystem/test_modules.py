"""Modules of Equinox and Flax NNX that are learned through fits, with optax.

A detector answers z where the light was z + bend z^2. The light decays exponentially, so that with
the right bend the fits leave nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlsq import least_squares

eqx = pytest.importorskip("equinox")
nnx = pytest.importorskip("flax.nnx")

pytestmark = [pytest.mark.ecosystem, pytest.mark.usefixtures("x64")]
T = np.linspace(0.0, 4.0, 30)
BEND = 0.12
RATES = np.linspace(0.5, 2.0, 20)
LIGHT = 2.0 * np.exp(-RATES[:, None] * T)
MEASURED = (np.sqrt(1.0 + 4.0 * BEND * LIGHT) - 1.0) / (2.0 * BEND)


def fits(light):
    """Solutions of all decays."""

    def one(y):
        return least_squares(lambda p: p[0] * jnp.exp(-p[1] * T) - y, jnp.ones(2))

    return jax.vmap(one)(light)


class Detector(eqx.Module):
    """With a field that is no array, as modules have them."""

    bend: jax.Array
    name: str = eqx.field(static=True)

    def __call__(self, measured):
        return measured + self.bend * measured**2


def loss_of(detector):
    return jnp.mean(fits(detector(jnp.asarray(MEASURED))).cost)


def check_slope(slope, bend):
    h = 1e-4
    near = [loss_of(Detector(jnp.array(bend + k * h), "")) for k in (-2, -1, 1, 2)]
    expected = (near[0] - 8 * near[1] + 8 * near[2] - near[3]) / (12 * h)
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


def test_an_equinox_module():
    detector = Detector(jnp.array(0.0), "left")
    value, slope = eqx.filter_value_and_grad(loss_of)(detector)
    assert isinstance(slope, Detector)
    check_slope(slope.bend, 0.0)
    optimizer = optax.adam(0.01)
    state = optimizer.init(eqx.filter(detector, eqx.is_array))

    @eqx.filter_jit
    def step(detector, state):
        loss, slope = eqx.filter_value_and_grad(loss_of)(detector)
        updates, state = optimizer.update(slope, state)
        return eqx.apply_updates(detector, updates), state, loss

    for _ in range(150):
        detector, state, last = step(detector, state)
    assert last < 1e-4 * value
    np.testing.assert_allclose(detector.bend, BEND, rtol=0.02)
    rates = fits(detector(jnp.asarray(MEASURED))).x[:, 1]
    np.testing.assert_allclose(rates, RATES, rtol=0.01)


def test_an_equinox_module_of_parameters():
    class Decay(eqx.Module):
        amplitude: jax.Array
        rate: jax.Array

        def __call__(self, t):
            return self.amplitude * jnp.exp(-self.rate * t)

    start = Decay(jnp.array(1.0), jnp.array(1.0))
    found = least_squares(lambda decay: decay(T) - LIGHT[3], start).x
    assert isinstance(found, Decay)
    np.testing.assert_allclose((found.amplitude, found.rate), (2.0, RATES[3]), rtol=1e-8)


def test_a_flax_module():
    class FlaxDetector(nnx.Module):
        def __init__(self):
            self.bend = nnx.Param(jnp.array(0.05))

        def __call__(self, measured):
            return measured + self.bend[...] * measured**2

    detector = FlaxDetector()
    slope = nnx.grad(loss_of)(detector)
    check_slope(slope["bend"][...], 0.05)
    optimizer = nnx.Optimizer(detector, optax.adam(0.01), wrt=nnx.Param)

    @nnx.jit
    def step(detector, optimizer):
        loss, slope = nnx.value_and_grad(loss_of)(detector)
        optimizer.update(detector, slope)
        return loss

    first = step(detector, optimizer)
    for _ in range(150):
        last = step(detector, optimizer)
    assert last < 1e-3 * first
    np.testing.assert_allclose(detector.bend[...], BEND, rtol=0.02)
