"""The batched workloads: models that run in NumPy and in jax.numpy, and seeded synthetic data."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Workload:
    """A model, its grid, and how truths and starts are drawn.

    `model(x, *params, xp=numpy)` broadcasts: parameters of shape (B, 1) give (B, m).
    `draw(rng, B)` gives true parameters and starts, both (B, n).  `noise` is the standard
    deviation of the normal errors relative to the first amplitude.  `kernel` names the native
    drivers' version of the model.
    """

    name: str
    title: str
    model: Callable
    x: np.ndarray
    n: int
    draw: Callable
    noise: float
    kernel: str
    bad: float = 0.0

    @property
    def m(self):
        """Points per fit."""
        return self.x.shape[-1]


def peak(x, amplitude, centre, width, offset, *, xp=np):
    """Gaussian peak with an offset."""
    return amplitude * xp.exp(-0.5 * ((x - centre) / width) ** 2) + offset


def decay(x, amplitude, rate, offset, *, xp=np):
    """Exponential decay with an offset."""
    return amplitude * xp.exp(-rate * x) + offset


def sinusoid(x, amplitude, frequency, phase, *, xp=np):
    """Sine wave of an angular frequency."""
    return amplitude * xp.sin(frequency * x + phase)


def spot(x, amplitude, x0, y0, sigma, offset, *, xp=np):
    """Round Gaussian spot in an image; `x` is (2, m)."""
    r2 = (x[0] - x0) ** 2 + (x[1] - y0) ** 2
    return amplitude * xp.exp(-0.5 * r2 / sigma**2) + offset


def peaks(x, *params, xp=np):
    """Gaussian peaks, (amplitude, centre, width) each, on a line: intercept, slope."""
    *triples, intercept, slope = params
    total = intercept + slope * x
    for amplitude, centre, width in zip(*[iter(triples)] * 3, strict=True):
        total = total + amplitude * xp.exp(-0.5 * ((x - centre) / width) ** 2)
    return total


def _columns(rng, count, *ranges):
    """Uniform draws, one column for each (low, high)."""
    low, high = np.array(ranges, float).T
    return rng.uniform(low, high, (count, len(ranges)))


def _draw_peak(rng, count):
    """A peak inside the grid; starts up to 30 % off, the centre up to 0.7 widths."""
    truth = _columns(rng, count, (3, 10), (3, 7), (0.5, 1.5), (0, 2))
    a, c, w, o = truth.T
    u = rng.uniform(-1, 1, truth.shape).T
    return truth, np.column_stack(
        [a * (1 + 0.3 * u[0]), c + 0.7 * w * u[1], w * (1 + 0.3 * u[2]), o + 0.1 * a * u[3]]
    )


def _draw_decay(rng, count):
    """Half to eight lifetimes in the grid; starts up to 30 % off."""
    truth = _columns(rng, count, (2, 5), (0.5, 2), (0, 1))
    return truth, truth * rng.uniform(0.7, 1.3, truth.shape)


def _draw_sinusoid(rng, count):
    """Two to five periods; the frequency starts up to 25 % off, past the basin of the best fit."""
    truth = _columns(rng, count, (1, 3), (1.5, 3), (-np.pi, np.pi))
    a, f, p = truth.T
    u = rng.uniform(-1, 1, truth.shape).T
    return truth, np.column_stack([a * (1 + 0.5 * u[0]), f * (1 + 0.25 * u[1]), p + 1.5 * u[2]])


def _draw_spot(rng, count):
    """A spot near the middle of the image; starts up to 30 % off, up to 0.7 pixels aside."""
    truth = _columns(rng, count, (500, 1500), (5, 9), (5, 9), (1, 2), (50, 150))
    u = rng.uniform(-1, 1, truth.shape)
    scaled = truth * (1 + 0.3 * u)
    scaled[:, 1:3] = truth[:, 1:3] + 0.7 * u[:, 1:3]
    return truth, scaled


def _draw_peaks(rng, count):
    """Four peaks, neighbours overlapping a little; starts up to 30 % off, on a flat line."""
    one = [((2, 6), (c - 0.5, c + 0.5), (0.5, 1.2)) for c in (4, 8, 11.5, 16)]
    truth = _columns(rng, count, *[r for triple in one for r in triple], (0, 1), (-0.05, 0.05))
    u = rng.uniform(-1, 1, truth.shape)
    start = truth * (1 + 0.3 * u)
    start[:, 1:12:3] = truth[:, 1:12:3] + 0.4 * u[:, 1:12:3]
    start[:, -2] = truth[:, -2] + 0.3 * u[:, -2]
    start[:, -1] = 0
    return truth, start


_PIXELS = np.stack(np.meshgrid(np.arange(15.0), np.arange(15.0))).reshape(2, -1)
_TIMES = np.linspace(0, 4, 50)

WORKLOADS = {
    w.name: w
    for w in (
        Workload("W1", "Gaussian peak", peak, np.linspace(0, 10, 64), 4, _draw_peak, 0.03, "peak"),
        Workload("W2", "exponential decay", decay, _TIMES, 3, _draw_decay, 0.03, "decay"),
        Workload(
            "W3",
            "sinusoid, poor start",
            sinusoid,
            np.linspace(0, 10, 100),
            3,
            _draw_sinusoid,
            0.05,
            "sinusoid",
        ),
        Workload("W4", "2-D Gaussian spot", spot, _PIXELS, 5, _draw_spot, 0.03, "spot"),
        Workload(
            "W5",
            "four Gaussians on a line",
            peaks,
            np.linspace(0, 20, 200),
            14,
            _draw_peaks,
            0.03,
            "peaks",
        ),
        Workload(
            "W7", "decay, 1 % bad lanes", decay, _TIMES, 3, _draw_decay, 0.03, "decay", bad=0.01
        ),
    )
}


def bad_lanes(workload, count, seed=0):
    """Indices of the pathological lanes, at least four where there are any."""
    number = min(count, max(4, round(workload.bad * count))) if workload.bad else 0
    return np.random.default_rng([seed, 7]).choice(count, number, replace=False)


def _spoil(y, start, lanes):
    """In turn: a NaN, zeros, an infinity, and a start where the model is some 1e17 too large."""
    nan, zero, infinite, wild = (lanes[k::4] for k in range(4))
    y[nan, 7] = np.nan
    y[zero] = 0
    y[infinite, 7] = np.inf
    start[wild, 1] = -10


def data(workload, count, dtype=np.float64, seed=0):
    """x, noisy y (count, m) and starts (count, n), in `dtype`."""
    rng = np.random.default_rng(seed)
    truth, start = workload.draw(rng, count)
    y = workload.model(workload.x, *truth.T[:, :, None])
    y += workload.noise * truth[:, :1] * rng.normal(size=y.shape)
    _spoil(y, start, bad_lanes(workload, count, seed))
    return workload.x.astype(dtype), y.astype(dtype), start.astype(dtype)


def cost(workload, x, y, params, block=4096):
    """Half the sums of squares (count,), in float64 whatever the inputs' precision."""
    x, y, params = (np.asarray(v, np.float64) for v in (x, y, params))
    result = np.empty(len(y))
    with np.errstate(all="ignore"):
        for begin in range(0, len(y), block):
            lanes = slice(begin, begin + block)
            residual = workload.model(x, *params[lanes].T[:, :, None]) - y[lanes]
            result[lanes] = 0.5 * np.einsum("ij,ij->i", residual, residual)
    return result
