"""Posteriors through fits: NumPyro and BlackJAX with a likelihood that is profiled.

Decays share a life time; each has its own amplitude and offset, which `least_squares` finds for
any life time the sampler tries. Those two are linear, so that the profile has a closed form too:
with the prior and a sum over a grid it gives the posterior's mean and deviation to many digits.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import least_squares

pytest.importorskip("numpyro")
pytest.importorskip("blackjax")
import blackjax
import numpyro
from numpyro import distributions as dist
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

pytestmark = [pytest.mark.ecosystem, pytest.mark.usefixtures("x64")]
T = np.linspace(0.0, 4.0, 25)
SIGMA = 0.05
RNG = np.random.default_rng(2)
DECAYS = RNG.uniform(1.0, 2.0, (6, 1)) * np.exp(-T / 1.3) + RNG.uniform(0.0, 0.5, (6, 1))
DECAYS += SIGMA * RNG.normal(size=DECAYS.shape)


def profiled(log_life):
    """Minus the logarithm of the likelihood, at each decay's best amplitude and offset."""

    def cost(y):
        def residual(p):
            return (p[0] * jnp.exp(-T * jnp.exp(-log_life)) + p[1] - y) / SIGMA

        return least_squares(residual, jnp.ones(2)).cost

    return jnp.sum(jax.vmap(cost)(jnp.asarray(DECAYS)))


def profiled_in_closed_form(log_life):
    basis = np.stack([np.exp(-T * np.exp(-log_life)), np.ones_like(T)], axis=1)
    orthonormal, _ = np.linalg.qr(basis)
    apart = DECAYS - DECAYS @ orthonormal @ orthonormal.T
    return 0.5 * np.sum(apart**2) / SIGMA**2


@pytest.fixture(scope="module")
def posterior():
    """Mean and deviation of the life time's logarithm, whose prior is standard normal."""
    grid = np.linspace(-0.3, 0.9, 4001)
    logs = np.array([-profiled_in_closed_form(value) for value in grid]) - 0.5 * grid**2
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    assert weights[0] + weights[-1] < 1e-12
    mean = np.sum(weights * grid)
    return mean, np.sqrt(np.sum(weights * (grid - mean) ** 2))


def model():
    log_life = numpyro.sample("log_life", dist.Normal(0.0, 1.0))
    numpyro.factor("profile", -profiled(log_life))


def test_the_profile_and_its_gradient():
    for value in (0.1, 0.26, 0.5):
        expected = profiled_in_closed_form(value)
        np.testing.assert_allclose(profiled(value), expected, rtol=1e-9)
        h = 1e-5
        slope = profiled_in_closed_form(value + h) - profiled_in_closed_form(value - h)
        np.testing.assert_allclose(jax.grad(profiled)(value), slope / (2 * h), rtol=1e-5, atol=1e-4)


def check(draws, posterior):
    """Draws of some hundred independent ones at least."""
    mean, deviation = posterior
    draws = np.asarray(draws).ravel()
    assert abs(draws.mean() - mean) < 4 * deviation / np.sqrt(300)
    assert draws.std() == pytest.approx(deviation, rel=0.15)


def test_numpyro_nuts(posterior):
    sampler = MCMC(
        NUTS(model),
        num_warmup=200,
        num_samples=400,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    sampler.run(jax.random.key(0))
    check(sampler.get_samples()["log_life"], posterior)
    assert sampler.get_extra_fields()["diverging"].sum() == 0


def test_numpyro_variational_inference(posterior):
    guide = AutoNormal(model)
    optimizer = numpyro.optim.Adam(lambda step: 0.05 * 0.997**step)
    steps = SVI(model, guide, optimizer, Trace_ELBO(num_particles=8))
    found = steps.run(jax.random.key(1), 1500, progress_bar=False).params
    mean, deviation = posterior
    assert abs(found["log_life_auto_loc"] - mean) < 0.2 * deviation
    assert found["log_life_auto_scale"] == pytest.approx(deviation, rel=0.1)


def test_blackjax_nuts(posterior):
    def density(log_life):
        return -profiled(log_life) - 0.5 * log_life**2

    warmup, sampling = jax.random.split(jax.random.key(2))
    adaptation = blackjax.window_adaptation(blackjax.nuts, density)
    (state, parameters), _ = adaptation.run(warmup, jnp.array(0.0), num_steps=300)
    kernel = blackjax.nuts(density, **parameters).step

    def step(state, key):
        state, _ = kernel(key, state)
        return state, state.position

    _, draws = jax.jit(lambda s, k: jax.lax.scan(step, s, k))(
        state, jax.random.split(sampling, 1200)
    )
    check(draws, posterior)
