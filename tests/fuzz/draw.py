"""Data, weights, starts and bounds of many fits of one curve, drawn from one generator."""

from dataclasses import dataclass, replace

import numpy as np

from tests.fuzz.curves import Curve

__all__ = ["Lanes", "boxes", "draw"]


@dataclass(frozen=True)
class Lanes:
    """Fits of one curve at the same places.

    Attributes
    ----------
    curve : Curve
    x : (m,) array
    y : (size, m) array
        The data.
    weight : (size, m) array
        One over their standard deviations.
    live : (size, m) bool array
        Which points count.
    p0 : (size, n) array
        Starts.
    truth : (size, n) array
        What the data were made of.
    lower, upper : (size, n) arrays
        Bounds, infinite where there are none.
    loss : str
    """

    curve: Curve
    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    live: np.ndarray
    p0: np.ndarray
    truth: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    loss: str = "linear"

    def __len__(self) -> int:
        return len(self.y)

    @property
    def bounded(self) -> bool:
        """Whether there is any bound."""
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    @property
    def weights(self) -> np.ndarray:
        """Zero where a point does not count."""
        return np.where(self.live, self.weight, 0.0)

    def take(self, index: np.ndarray) -> "Lanes":
        """Some of them."""
        own = ["y", "weight", "live", "p0", "truth", "lower", "upper"]
        return replace(self, **{name: getattr(self, name)[index] for name in own})

    def rounded(self) -> "Lanes":
        """What float32 can hold, in float64."""
        own = ["x", "y", "weight", "p0"]
        with np.errstate(over="ignore", under="ignore"):
            small = {name: getattr(self, name).astype("f4").astype(float) for name in own}
        return replace(self, **small)


def draw(curve: Curve, rng: np.random.Generator, size: int, m: int, loss: str = "linear") -> Lanes:
    """Lanes of all kinds, most of them ordinary."""
    n = curve.n
    x = np.sort(rng.uniform(*curve.x, m)) if rng.random() < 0.5 else np.linspace(*curve.x, m)
    truth = curve.truth(rng, size)
    y = curve.values(x, truth).copy()
    spread = np.ptp(y, axis=1, keepdims=True) + 1e-3
    weight = _weights(rng, size, m, bool(rng.random() < 0.5))
    noise = rng.choice(
        [0.0, 1e-9, 1e-3, 0.03, 0.3, 1.0], (size, 1), p=[0.08, 0.07, 0.2, 0.45, 0.15, 0.05]
    )
    relative = np.median(weight, axis=1, keepdims=True) / weight
    y += noise * spread * relative * rng.standard_normal((size, m))
    far = rng.choice(
        [0.0, 1e-6, 0.05, 0.3, 1.0, 3.0], (size, 1), p=[0.03, 0.07, 0.3, 0.4, 0.15, 0.05]
    )
    p0 = truth * (1.0 + far * rng.standard_normal((size, n)))
    plain = rng.random(size) < 0.06
    p0[plain] = rng.choice([0.0, 1.0], (np.count_nonzero(plain), n))
    live = np.ones((size, m), bool)
    _spoil(rng, y, live, spread)
    nowhere = np.full((size, n), np.inf)
    return Lanes(curve, x, y, weight, live, p0, truth, -nowhere, nowhere, loss)


def _weights(rng, size, m, each):
    weight = np.ones((size, m))
    if each:
        weight *= 10.0 ** rng.uniform(-1.0, 1.0, (size, m))
        extreme = rng.random(size) < 0.03
        weight[extreme] *= 10.0 ** rng.integers(-12, 13, (np.count_nonzero(extreme), 1))
    return weight


def _spoil(rng, y, live, spread):
    """Outliers, other data, and points that are missing, in some of the lanes."""
    size, m = y.shape
    some = (rng.random(size) < 0.15)[:, None] & (rng.random((size, m)) < 0.1)
    y += np.where(some, 20.0 * spread * rng.standard_normal((size, m)), 0.0)
    what = rng.random(size)
    y[what < 0.01] = 0.0
    y[(what >= 0.01) & (what < 0.02)] = 3.0
    whole = (what >= 0.02) & (what < 0.06)
    y[whole] = np.rint(y[whole])
    scaled = (what >= 0.06) & (what < 0.1)
    y[scaled] *= 10.0 ** rng.uniform(-4.0, 4.0, (np.count_nonzero(scaled), 1))
    holes = np.flatnonzero((what >= 0.1) & (what < 0.12))
    y[holes, rng.integers(0, m, holes.size)] = rng.choice([np.nan, np.inf, -np.inf], holes.size)
    hidden = (what >= 0.12) & (what < 0.3)
    live[hidden] = rng.random((np.count_nonzero(hidden), m)) < 0.8
    few = (what >= 0.3) & (what < 0.31)
    live[few] = rng.random((np.count_nonzero(few), m)) < 0.1


def boxes(lanes: Lanes, rng: np.random.Generator) -> Lanes:
    """The same with bounds of all kinds, and starts inside of them."""
    truth, p0 = lanes.truth, lanes.p0
    size = np.maximum(np.abs(truth), 0.1)
    kind = rng.integers(0, 7, truth.shape)
    near, wide = (
        size * rng.uniform(0.01, 0.5, truth.shape),
        size * rng.uniform(1.0, 10.0, truth.shape),
    )
    left = rng.random(truth.shape) < 0.5
    lower, upper = np.full_like(truth, -np.inf), np.full_like(truth, np.inf)

    def put(of_kind, low, high):
        lower[:] = np.where(kind == of_kind, low, lower)
        upper[:] = np.where(kind == of_kind, high, upper)

    put(1, truth - wide, truth + wide)
    put(2, np.where(left, truth - wide, -np.inf), np.where(left, np.inf, truth + wide))
    put(3, np.where(left, truth + near, -np.inf), np.where(left, np.inf, truth - near))
    put(4, np.where(left, truth + near, truth - wide), np.where(left, truth + wide, truth - near))
    put(5, p0, np.where(left, p0 + near, p0 + wide))
    fixed = (kind == 6) & (rng.random(truth.shape) < 0.3)
    free = ~fixed.all(axis=1)
    fixed[~free, 0] = False
    lower, upper = np.where(fixed, p0, lower), np.where(fixed, p0, upper)
    return replace(lanes, lower=lower, upper=upper, p0=np.clip(p0, lower, upper))
