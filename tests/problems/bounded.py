"""More, Garbow and Hillstrom's functions in boxes: corners, starts on bounds, half-open, wide."""

from dataclasses import dataclass

import numpy as np

from tests.problems.mgh import CASES


@dataclass(frozen=True)
class Bounded:
    """A case of `tests.problems.mgh` in a box."""

    name: str
    fun: object
    x0: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def _box(kind, x0, rng):
    """Bounds about a start, some of which hold at the solution."""
    size = np.maximum(np.abs(x0), 0.5)
    near, far = (size * rng.uniform(*ends, x0.size) for ends in ((0.02, 0.3), (1.0, 10.0)))
    left = rng.random(x0.size) < 0.5
    if kind == "narrow":
        return x0 - near, x0 + near
    if kind == "corner":  # the start is in a corner
        return np.where(left, x0, x0 - far), np.where(left, x0 + far, x0)
    if kind == "half-open":
        return np.where(left, x0 - near, -np.inf), np.where(left, np.inf, x0 + near)
    some = rng.random(x0.size) < 0.5  # "mixed": some free, some narrow, some wide
    lower = np.where(some, -np.inf, x0 - np.where(left, near, far))
    return lower, np.where(some & left, np.inf, x0 + np.where(left, far, near))


def problems(seed=7):
    """Each function, from its standard start, in four boxes."""
    rng = np.random.default_rng(seed)
    first = {}
    for case in CASES:
        first.setdefault(case.name.split("-")[0], case)
    out = []
    for case in first.values():
        for kind in ("narrow", "corner", "half-open", "mixed"):
            x0 = np.asarray(case.x0, float)
            out.append(Bounded(f"{case.name} {kind}", case.fun, x0, *_box(kind, x0, rng)))
    return out
