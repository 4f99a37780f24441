"""Twenty models as users have them, each fitted by both engines: what differs, and why.

``python -m tests.lowering.twenty`` prints the table of the documentation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc, gammaln

from jaxlsq import fit, using
from jaxlsq.lowering.engine import LANES
from jaxlsq.models import Voigt

X = np.linspace(0.05, 10.0, 60)
Y, Z = (v.ravel() for v in np.meshgrid(np.arange(9.0), np.arange(8.0)))


@dataclass(frozen=True)
class Case:
    """A model, where it is measured, from where to where its parameters are drawn, and how starts.

    A start is the truth times a factor that is drawn from ``1 - spread`` to ``1 + spread``.
    """

    model: Callable[..., Any]
    x: np.ndarray
    low: tuple[float, ...]
    high: tuple[float, ...]
    spread: float = 0.3
    noise: float = 0.03

    def data(self, count, seed=0):
        """Noisy data and starts; noise is a part of each data set's range."""
        rng = np.random.default_rng(seed)
        truth = rng.uniform(self.low, self.high, (count, len(self.low)))
        with jax.enable_x64(True):
            clean = jax.vmap(lambda p: self.model(jnp.asarray(self.x), *p))(truth)
        clean = np.asarray(clean)
        size = np.ptp(clean, axis=1, keepdims=True)
        y = clean + self.noise * size * rng.normal(size=clean.shape)
        return y, truth * rng.uniform(1 - self.spread, 1 + self.spread, truth.shape)


def split_peak(x, a, c, left, right):
    """A Gaussian of two widths."""
    return a * jnp.exp(-0.5 * ((x - c) / jnp.where(x < c, left, right)) ** 2)


def three_peaks(x, a1, c1, a2, c2, a3, c3, w, slope, base):
    """Lorentzians of one width on a line."""
    pairs = (a1, c1), (a2, c2), (a3, c3)
    return sum(a / (1.0 + ((x - c) / w) ** 2) for a, c in pairs) + slope * x + base


def after_a_flash(x, a, k, begin, width):
    """An exponential decay convolved with a Gaussian."""
    shift = x - begin
    rise = jnp.minimum(k * (0.5 * k * width**2 - shift), 300.0)
    return 0.5 * a * jnp.exp(rise) * erfc((k * width**2 - shift) / (np.sqrt(2) * width))


def two_decays(x, a, fast, b, slow):
    """Exponentials."""
    return a * jnp.exp(-fast * x) + b * jnp.exp(-slow * x)


def damped_sine(x, a, k, w, phase, base):
    """An oscillation that dies away."""
    return a * jnp.exp(-k * x) * jnp.sin(w * x + phase) + base


def logistic(x, top, rate, middle):
    """Growth to a limit."""
    return top / (1.0 + jnp.exp(-rate * (x - middle)))


def hill(x, bottom, top, ec50, n):
    """A dose and its response."""
    return bottom + (top - bottom) * x**n / (ec50**n + x**n)


def power_law(x, a, p, base):
    """A power, and an offset."""
    return a * x**p + base


def gamma_density(x, a, shape, scale):
    """The gamma distribution's density."""
    return a * jnp.exp((shape - 1) * jnp.log(x / scale) - x / scale - gammaln(shape))


def rotated_spot(x, a, cx, cy, sx, sy, turn):
    """A Gaussian in an image, turned."""
    u, v = x[0] - cx, x[1] - cy
    p, q = u * jnp.cos(turn) + v * jnp.sin(turn), v * jnp.cos(turn) - u * jnp.sin(turn)
    return a * jnp.exp(-0.5 * ((p / sx) ** 2 + (q / sy) ** 2))


def phase(x, w, width, delay):
    """The phase of a resonance behind a cable."""
    return jnp.arctan2(width * x, w**2 - x**2) - delay * x


def broken_line(x, level, slope, kink, other):
    """Two lines that meet."""
    return jnp.where(x < kink, level + slope * x, level + slope * kink + other * (x - kink))


def of_groups(x, k, a, b, c):
    """A decay whose height is looked up: points of three groups."""
    heights = jnp.stack([a, b, c])
    return heights[np.arange(X.size) % 3] * jnp.exp(-k * x)


def chain(x, a, k, gap):
    """What is between two first-order reactions, in closed form."""
    return a * k / gap * (jnp.exp(-k * x) - jnp.exp(-(k + gap) * x))


def predators(x, birth, eaten, death):
    """Lotka's and Volterra's equations, by Heun's method."""

    def rate(state):
        prey, hunters = state
        return jnp.stack([birth * prey - eaten * prey * hunters, prey * hunters - death * hunters])

    def step(state, h):
        first = rate(state)
        state = state + 0.5 * h * (first + rate(state + h * first))
        return state, state[0]

    start = jnp.stack([1.0 + 0.0 * birth, 0.5 + 0.0 * birth])
    return jax.lax.scan(step, start, jnp.diff(x, prepend=0.0))[1]


def dose_so_far(x, a, k, base):
    """A sum over all points before."""
    return jnp.cumsum(a * jnp.exp(-k * x)) * (X[1] - X[0]) + base


def ratio(x, a, b, c, d):
    """Of a quadratic and a line."""
    return (a + b * x + c * x**2) / (1.0 + d * x)


def black_body(x, a, t):
    """Planck's law."""
    return a * x**3 / jnp.expm1(x / t)


def tight_binding(x, top, kd, sites):
    """A root of a quadratic equation."""
    total = x + kd + sites
    return top * (total - jnp.sqrt(total**2 - 4.0 * x * sites)) / (2.0 * sites)


CASES = {
    "peak of two widths": Case(split_peak, X, (1, 3, 0.5, 0.5), (5, 7, 2, 2)),
    "three peaks on a line": Case(
        three_peaks,
        X,
        (1, 1.5, 1, 4.5, 1, 7.5, 0.3, -0.1, 0),
        (5, 2.5, 5, 5.5, 5, 8.5, 0.8, 0.1, 1),
        0.1,
    ),
    "decay after a flash": Case(after_a_flash, X, (1, 0.2, 1, 0.2), (5, 1.5, 3, 1)),
    "two decays": Case(two_decays, X, (1, 1, 1, 0.1), (5, 3, 5, 0.4), 0.3, 0.003),
    "damped sine": Case(damped_sine, X, (1, 0.05, 1, -2, 0), (5, 0.3, 3, 2, 1), 0.15),
    "logistic": Case(logistic, X, (1, 0.5, 3), (5, 3, 7)),
    "Hill": Case(hill, X, (0, 3, 1, 1), (1, 9, 6, 4)),
    "power and offset": Case(power_law, X, (0.5, -1, 0), (5, 2.5, 2)),
    "gamma density": Case(gamma_density, X, (1, 1.5, 0.5), (5, 5, 2)),
    "Voigt": Case(Voigt(), X, (1, 3, 0.3, 0.2), (5, 7, 1, 1)),
    "spot, turned": Case(
        rotated_spot, np.stack([Y, Z]), (1, 3, 3, 1, 2, 0.2), (9, 5, 5, 1.6, 3, 1.3), 0.2
    ),
    "phase": Case(phase, X, (2, 0.3, 0), (8, 2, 0.3), 0.2),
    "two lines that meet": Case(broken_line, X, (0, -1, 3, -2), (2, 1, 7, 2), 0.2),
    "heights by group": Case(of_groups, X, (0.1, 1, 1, 1), (1, 5, 5, 5)),
    "chain of reactions": Case(chain, X, (1, 0.2, 0.3), (5, 1, 2)),
    "Lotka and Volterra": Case(predators, X[::2], (0.5, 0.5, 0.5), (1, 1, 1), 0.1),
    "cumulative sum": Case(dose_so_far, X, (1, 0.2, 0), (5, 1, 1)),
    "ratio of polynomials": Case(ratio, X, (0.5, -1, 0.1, 0.1), (2, 1, 1, 1)),
    "black body": Case(black_body, X, (0.5, 0.5), (5, 2)),
    "tight binding": Case(tight_binding, X, (1, 0.1, 1), (5, 1, 5)),
}


@dataclass(frozen=True)
class Compared:
    """Fits of one model by both engines; (B,) bool arrays.

    Attributes
    ----------
    engines : (str, str)
    status, nfev : array
        Which have the same.
    both, one : array
        Which converged in both, and in one alone.
    cost : array
        Whose costs are the same to 1e-12 of them.
    params : array
        Whose parameters are, to 1e-6 of each, or of its standard error where that is larger.
    tolerance : array
        Whose costs are the same to twice `ftol`, the largest gain that a fit may leave.
    """

    engines: tuple[str, str]
    status: np.ndarray
    nfev: np.ndarray
    both: np.ndarray
    one: np.ndarray
    cost: np.ndarray
    params: np.ndarray
    tolerance: np.ndarray

    @property
    def end(self):
        """Which end alike: in the same status, or both by convergence at the same cost."""
        return self.status | (self.both & self.cost)


def compare(case, count, seed=0):
    """Both engines on the same noisy data and starts, in float64."""
    y, p0 = case.data(count, seed)
    lanes = fit(case.model, case.x, y, p0)
    with using("xla"):
        pool = fit(case.model, case.x, y, p0)
    size = np.fmax(np.abs(pool.x), pool.stderr)
    gap = np.abs(lanes.cost - pool.cost)
    return Compared(
        (lanes.engine, pool.engine),
        lanes.status == pool.status,
        lanes.nfev == pool.nfev,
        lanes.success & pool.success,
        lanes.success != pool.success,
        gap <= 1e-12 * pool.cost,
        np.all(np.abs(lanes.x - pool.x) <= 1e-6 * size, axis=1),
        gap <= 3e-8 * pool.cost,
    )


def shares(found):
    """Of all fits the same status, ends, evaluations; of those that converged costs, parameters."""
    both = found.both
    return {
        "status": found.status.mean(),
        "end": found.end.mean(),
        "nfev": found.nfev.mean(),
        "cost": found.cost[both].mean(),
        "params": found.params[both].mean(),
    }


def main():
    """The table, of 5,000 fits of each model."""
    sums = []
    for name, case in CASES.items():
        found = compare(case, 5000)
        assert found.engines == (LANES, "XLA: it was asked for"), found.engines
        assert np.mean(found.one) < 0.001, name
        sums.append(shares(found))
        print(row(name, sums[-1]), flush=True)
    print(row("all", {key: np.mean([one[key] for one in sums]) for key in sums[0]}))


def row(name, values):
    """A line of a table in Markdown."""
    texts = (f"{100 * min(v, 1 if v == 1 else 0.9999):.4g}" for v in values.values())
    return f"| {name} | {' | '.join(texts)} |"


if __name__ == "__main__":
    main()
