"""Lanes and their neighbours: to the bit, with bounds and losses, in any company."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import fit

T = np.linspace(0.1, 4, 24)
FIELDS = ("x", "cost", "status", "nfev", "njev", "nit", "optimality", "active_mask")


def decay(t, a, k, c):
    """An exponential decay with an offset."""
    return a * jnp.exp(-k * t) + c


def healthy(count, seed):
    """Decays with noise, and starts up to 30 % off."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform([2, 0.5, 0], [5, 2, 1], (count, 3))
    y = truth[:, :1] * np.exp(-truth[:, 1:2] * T) + truth[:, 2:]
    return y + 0.05 * rng.normal(size=y.shape), truth * rng.uniform(0.7, 1.3, truth.shape)


def hostile(count, seed):
    """NaN, infinities, huge and tiny numbers, zeros, and starts far away."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(count, T.size)) * 10.0 ** rng.integers(-30, 30, (count, 1))
    y[::7, 3] = np.nan
    y[1::7, 5] = np.inf
    y[2::7] = 0.0
    y[3::7] = 1e308
    start = rng.normal(size=(count, 3)) * 10.0 ** rng.integers(-6, 6, (count, 3))
    return y, start


def mixed(good, bad, seed):
    """Both kinds, shuffled; and where the good ones are."""
    y = np.concatenate([good[0], bad[0]])
    start = np.concatenate([good[1], bad[1]])
    order = np.random.default_rng(seed).permutation(len(y))
    place = np.argsort(order)[: len(good[0])]
    return y[order], start[order], place


def same(one, other, place):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name)[place], name)


OPTIONS = {
    "plain": {},
    "bounds": {"bounds": ([0.0, 0.6, 0.0], [4.0, 1.8, 0.8])},
    "loss": {"loss": "huber", "f_scale": 0.05},
    "both": {"bounds": ([0.0, 0.6, 0.0], [4.0, 1.8, 0.8]), "loss": "soft_l1"},
}


@pytest.mark.long_but("float64-both", "float32-both")
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_lane_is_the_same_in_any_company(name, dtype):
    options = dict(OPTIONS[name])
    good, bad = healthy(300, seed=1), hostile(1500, seed=2)
    with np.errstate(over="ignore"):
        y, start, place = mixed(good, [v.astype(dtype).astype(float) for v in bad], seed=3)
        y, alone = y.astype(dtype), good[0].astype(dtype)
    if "bounds" in options:
        start = np.clip(start, *options["bounds"])
    t = T.astype(dtype)
    together = fit(decay, t, y, start, polish=None, **options)
    apart = fit(decay, t, alone, start[place], polish=None, **options)
    same(apart, together, place)
    assert np.ptp(apart.nfev) > 1
    assert len(set(together.status.tolist())) > 3


@pytest.mark.long
@pytest.mark.parametrize("name", OPTIONS)
def test_a_hundred_thousand_lanes(name):
    options = dict(OPTIONS[name])
    good, bad = healthy(50_000, seed=4), hostile(50_000, seed=5)
    y, start, place = mixed(good, bad, seed=6)
    if "bounds" in options:
        start = np.clip(start, *options["bounds"])
    together = fit(decay, T, y, start, max_nfev=200, **options)
    apart = fit(decay, T, good[0], start[place], max_nfev=200, **options)
    same(apart, together, place)
