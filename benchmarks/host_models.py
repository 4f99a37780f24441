"""Models in NumPy, and models that only Python can call, beside a loop over SciPy's curve_fit."""

import math

import numpy as np
import scipy.optimize

from benchmarks.peers import timed
from jaxlsq import fit

COUNTS = (300, 3_000)
ROUNDS = 3
START = (1.5, 0.7, 0.2)


def numpy(x, a, b, c):
    """Traced."""
    return a * np.exp(-b * x) + c


def several(x, a, b, c):
    """Not traced, since ``np.array`` asks for numbers; several lanes at once."""
    return np.array(a * np.exp(-b * x) + c)


def decides(x, a, b, c):
    """Not traced, and for one lane only."""
    return a * np.exp(-b * x) + c if b > 0 else a * np.exp(b * x) + c


def scalar(x, a, b, c):
    """Not traced, for one lane only, with a function of Python's."""
    return a * np.exp(-math.exp(b) * x) + c


MODELS = {
    "NumPy": numpy,
    "np.array of a parameter": several,
    "if on a parameter": decides,
    "math.exp of a parameter": scalar,
}


def measure(quick):
    """Seconds of both, and by how much, relatively, our sums of squares exceed SciPy's at most."""
    x, rows = np.linspace(0.1, 4.0, 50), []
    for count in COUNTS[: 1 if quick else None]:
        rng = np.random.default_rng(count)
        truth = rng.uniform((1.0, 0.5, 0.1), (2.0, 1.0, 0.3), (count, 3))
        for name, model in MODELS.items():
            y = np.stack([model(x, *p) for p in truth]) + 0.02 * rng.normal(size=(count, x.size))

            def loop(model=model, y=y):
                return np.array([scipy.optimize.curve_fit(model, x, v, START)[0] for v in y])

            def ours(model=model, y=y):
                return fit(model, x, y, START)

            result, first = timed(ours)
            theirs = loop()
            cost = np.array(
                [0.5 * np.sum((model(x, *p) - v) ** 2) for p, v in zip(theirs, y, strict=True)]
            )
            rows.append(
                {
                    "model": name,
                    "fits": count,
                    "first_s": first,
                    "seconds": min(timed(ours)[1] for _ in range(ROUNDS)),
                    "scipy_s": min(timed(loop)[1] for _ in range(ROUNDS)),
                    "excess": float(np.max(result.cost / cost - 1.0)),
                    "engine": result.engine.split(":")[0],
                }
            )
    return rows


def table(rows):
    """As text."""
    lines = [
        f"{'model':<26}{'fits':>7}{'first, s':>10}{'again, s':>10}{'SciPy, s':>10}{'ratio':>8}"
        f"{'excess':>10}  engine"
    ]
    lines += [
        f"{r['model']:<26}{r['fits']:>7,}{r['first_s']:>10.2f}{r['seconds']:>10.3f}"
        f"{r['scipy_s']:>10.3f}{r['scipy_s'] / r['seconds']:>8.2f}{r['excess']:>10.0e}"
        f"  {r['engine']}"
        for r in rows
    ]
    return "\n".join(lines)
