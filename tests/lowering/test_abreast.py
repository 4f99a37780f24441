"""Points that take the turns of a loop side by side give the sums of one point after another."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxlsq import clear_cache, fit
from jaxlsq.lowering import points
from jaxlsq.lowering.arrays import Lowering

LENGTHS = 2, 50, 129, 258  # the last points of a block, or of all, are fewer than three


def decay(t, a, k):
    return a * jnp.exp(-k * t)


def peak(x, a, b, c, d):
    return a * jnp.exp(-0.5 * ((x - b) / c) ** 2) + d


def anomaly(t, e, k, begin, scale):
    """The sine of an orbit's eccentric anomaly, by Newton's iteration of Kepler's equation."""
    mean, e = k * t + begin, jnp.clip(e, 0.0, 0.8)

    def turn(state):
        goes, angle = state
        step = (angle - e * jnp.sin(angle) - mean) / (1.0 - e * jnp.cos(angle))
        goes_on = goes & (jnp.abs(step) > 1e-4)
        return goes_on, lax.select(goes, angle - step, angle)

    begun = jnp.ones(t.shape, bool), mean
    angle = lax.while_loop(lambda state: jnp.any(state[0]), turn, begun)[1]
    return scale * jnp.sin(lax.stop_gradient(angle) + (mean - lax.stop_gradient(mean)))


def fitted(model, true, m, **more):
    rng = np.random.default_rng(m)
    x = np.linspace(0.2, 5.0, m)
    y = np.asarray(model(jnp.asarray(x), *true)) + 0.02 * rng.normal(size=(13, m))
    starts = true * rng.uniform(0.7, 1.3, (13, len(true)))
    return fit(model, x, y, starts, **more)


ERRORS = {"sigma": 0.02, "xsigma": 0.01}
CASES = {
    **{f"{m} points": lambda m=m: fitted(decay, [2.0, 0.8], m, **ERRORS) for m in LENGTHS},
    "tiles": lambda: fitted(peak, [2.0, 2.5, 0.8, 0.3], 129, **ERRORS),
    "mask": lambda: fitted(decay, [2.0, 0.8], 50, mask=np.arange(50) % 7 > 0, **ERRORS),
    "loss": lambda: fitted(anomaly, [0.4, 1.1, 0.2, 1.5], 50, loss="huber", f_scale=0.03),
    "linear": lambda: fitted(anomaly, [0.4, 1.1, 0.2, 1.5], 50, linear=["scale"]),
}


def result(case):
    clear_cache()
    return CASES[case]()


@pytest.mark.long_but("mask")
@pytest.mark.parametrize("case", CASES)
def test_points_abreast_are_the_same_to_the_bit(case, monkeypatch):
    counts = set()
    real = Lowering.abreast
    monkeypatch.setattr(Lowering, "abreast", lambda *a: counts.add(a[-1]) or real(*a))
    abreast = result(case)
    cov = abreast.cov
    assert points.ABREAST in counts
    monkeypatch.setattr(points, "ABREAST", 1)
    counts.clear()
    one = result(case)
    np.testing.assert_array_equal(one.cov, cov)
    assert counts == {1}
    assert one.engine == abreast.engine == "compiled lanes"
    assert len(np.unique(one.nfev)) > 1
    for name in ("x", "cost", "nfev", "status"):
        np.testing.assert_array_equal(getattr(one, name), getattr(abreast, name))
