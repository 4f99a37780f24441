"""Sums that are added a tile at a time are those that are added a point at a time, to the bit."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import clear_cache, fit, least_squares_batch
from jaxlsq.lowering import sums, tiles

GRID = {m: np.linspace(0.0, 10.0, m) for m in (11, 33, 300)}


def two_peaks(x, a, b, c, d, e, f, g, h):
    one = a * jnp.exp(-0.5 * ((x - b) / c) ** 2)
    return one + d * jnp.exp(-0.5 * ((x - e) / f) ** 2) + g + h * x


TRUE = np.array([3.0, 3.0, 0.9, 2.0, 7.0, 1.1, 0.5, 0.03])


def data(m, dtype=np.float64):
    rng = np.random.default_rng(m)
    y = np.asarray(two_peaks(GRID[m], *TRUE)) + 0.05 * rng.normal(size=(37, m))
    starts = TRUE * rng.uniform(0.85, 1.15, (37, TRUE.size))
    return GRID[m].astype(dtype), y.astype(dtype), starts.astype(dtype)


def of_three_rows(p, y):
    """Three residuals of each point, which have no column in common."""
    x = np.linspace(0.0, 10.0, 20)
    angle = p[3] * x + p[4]
    rows = p[0] * jnp.exp(-p[1] * x) + p[2], p[5] * jnp.sin(angle), p[6] * jnp.cos(angle)
    return jnp.concatenate(rows) - y


def by_residual():
    rng = np.random.default_rng(1)
    true = np.array([2.0, 0.4, 0.5, 1.1, 0.3, 1.5, 1.2])
    y = np.asarray(of_three_rows(true, 0.0)) + 0.03 * rng.normal(size=(21, 60))
    return least_squares_batch(of_three_rows, true * rng.uniform(0.9, 1.1, (21, 7)), y)


def linear():
    x, y, starts = data(33)
    names = dict(zip("abcdefgh", starts.T, strict=True))
    return fit(two_peaks, x, y, names, linear=["a", "d", "g", "h"])


def masked():
    x, y, starts = data(33)
    mask = np.random.default_rng(2).random(y.shape) > 0.1
    return fit(two_peaks, x, y, starts, mask=mask, sigma=0.1 + 0.01 * x, loss="huber")


CASES = {
    **{f"{m} points": lambda m=m: fit(two_peaks, *data(m)) for m in GRID},
    "float32": lambda: fit(two_peaks, *data(300, np.float32)),
    "loss, mask": masked,
    "bounds": lambda: fit(two_peaks, *data(33), bounds=(-1.0, [9, 9, 9, 9, 9, 9, 0.6, 9])),
    "rows": by_residual,
    "linear": linear,
}


@pytest.mark.long_but("float32", "loss, mask", "linear")
@pytest.mark.parametrize("case", CASES)
def test_tiles_are_the_same_to_the_bit(case, monkeypatch):
    clear_cache()
    made = []
    real = tiles.Tiled.add
    monkeypatch.setattr(tiles.Tiled, "add", lambda *a: made.append(1) or real(*a))
    tiled = CASES[case]()
    cov = tiled.cov
    assert made
    count = len(made)
    clear_cache()
    monkeypatch.setattr(sums, "IN_REGISTERS", {16: 10**6, 32: 10**6})
    plain = CASES[case]()
    np.testing.assert_array_equal(plain.cov, cov)
    assert len(made) == count
    assert plain.engine == tiled.engine == "compiled lanes"
    assert len(np.unique(tiled.nfev)) > 1
    assert tiled.success.mean() > 0.9
    for name in ("x", "cost", "nfev", "status"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(tiled, name))
