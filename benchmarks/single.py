"""One fit at a time, beside SciPy, with accuracy beside speed.

Each row times the same fit by SciPy (NumPy model, MINPACK's forward differences) and by
jaxlsq with the NumPy model and with a jax.numpy model, alternating in one process; medians.
Compilation, which happens once per model and shape, is apart.  `excess` is the larger
relative excess of the two jaxlsq sums of squares over SciPy's.
"""

import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
from scipy.optimize import leastsq as scipy_leastsq

from jaxlsq import leastsq

SIZES = (50, 1_000, 10_000, 100_000, 1_000_000)


def decay(params, x, xp):
    """Exponential decay with an offset, n = 3."""
    return params[0] * xp.exp(-params[1] * x) + params[2]


def peak(params, x, xp):
    """Gaussian peak with an offset, n = 4."""
    return params[0] * xp.exp(-(((x - params[1]) / params[2]) ** 2) / 2) + params[3]


WORKLOADS = {
    "decay": (decay, np.array([2.5, 1.3, 0.5]), np.array([1.0, 1.0, 0.0]), (50,)),
    "peak": (peak, np.array([5.0, 2.2, 0.4, 1.0]), np.array([3.0, 2.0, 0.6, 0.5]), SIZES),
}


def data_sets(model, truth, m, count):
    """`count` noisy data sets of m points, seeded."""
    rng = np.random.default_rng(m)
    x = np.linspace(0, 4, m)
    clean = model(truth, x, np)
    return x, [clean + 0.1 * rng.normal(size=m) for _ in range(count)]


def timed(solve, y):
    """Seconds of a call, and its sum of squares and evaluations."""
    begin = time.perf_counter()
    _, _, info, _, ier = solve(y)
    seconds = time.perf_counter() - begin
    assert ier in (1, 2, 3, 4), ier
    return seconds, float(np.sum(info["fvec"] ** 2)), info["nfev"]


def compare(name, m):
    """One row of the table."""
    model, truth, start, _ = WORKLOADS[name]
    repeats = max(5, min(200, 1_000_000 // m))
    x, data = data_sets(model, truth, m, repeats + 1)
    # A new lambda for each data set, closing over it, as users write them.
    solvers = {
        "scipy": lambda y: scipy_leastsq(lambda p: model(p, x, np) - y, start, full_output=True),
        "numpy": lambda y: leastsq(lambda p: model(p, x, np) - y, start, full_output=True),
        "jax": lambda y: leastsq(lambda p: model(p, x, jnp) - y, start, full_output=True),
    }
    first = {key: timed(solve, data[0])[0] for key, solve in solvers.items()}
    seconds = {key: [] for key in solvers}
    excess = 0.0
    for y in data[1:]:
        results = {key: timed(solve, y) for key, solve in solvers.items()}
        for key, (elapsed, rss, _) in results.items():
            seconds[key].append(elapsed)
            excess = max(excess, rss / results["scipy"][1] - 1)
    medians = {key: float(np.median(values)) for key, values in seconds.items()}
    return {
        "workload": name,
        "m": m,
        "n": len(start),
        "scipy_ms": 1e3 * medians["scipy"],
        "numpy_ms": 1e3 * medians["numpy"],
        "jax_ms": 1e3 * medians["jax"],
        "numpy_ratio": medians["numpy"] / medians["scipy"],
        "jax_ratio": medians["jax"] / medians["scipy"],
        "compile_s": first["jax"] - medians["jax"],
        "excess": excess,
    }


def cold_start():
    """Seconds of the imports and of the first fit, each in a fresh process; best of 3."""
    code = (
        "import time; a = time.perf_counter(); import jax; b = time.perf_counter(); import jaxlsq;"
        "c = time.perf_counter(); import numpy as np, jax.numpy as jnp; x = np.linspace(0, 4, 50);"
        "y = 2.5 * np.exp(-1.3 * x) + 0.5;"
        "jaxlsq.leastsq(lambda p: p[0] * jnp.exp(-p[1] * x) + p[2] - y, [1, 1, 0]);"
        "print(b - a, c - b, time.perf_counter() - c)"
    )
    runs = [
        [float(v) for v in subprocess.check_output([sys.executable, "-c", code]).split()]
        for _ in range(3)
    ]
    return dict(
        zip(("import_jax_s", "import_jaxlsq_s", "first_fit_s"), np.min(runs, 0), strict=True)
    )


def measure():
    """Every row, and what a fresh process waits for."""
    rows = [compare(name, m) for name, (*_, sizes) in WORKLOADS.items() for m in sizes]
    return {"rows": rows, "cold_start": cold_start()}


def table(measured):
    """The rows as text."""
    lines = [
        f"{'model':<7}{'n':>3}{'m':>11}{'SciPy ms':>10}{'ours, NumPy':>13}{'ratio':>7}"
        f"{'ours, JAX':>11}{'ratio':>7}{'compile s':>11}{'excess':>9}"
    ]
    for r in measured["rows"]:
        lines.append(
            f"{r['workload']:<7}{r['n']:>3}{r['m']:>11,}{r['scipy_ms']:>10.2f}"
            f"{r['numpy_ms']:>13.2f}{r['numpy_ratio']:>7.2f}{r['jax_ms']:>11.2f}"
            f"{r['jax_ratio']:>7.2f}{r['compile_s']:>11.2f}{r['excess']:>9.0e}"
        )
    start = measured["cold_start"]
    lines.append(
        f"import jax {start['import_jax_s']:.2f} s, then jaxlsq {start['import_jaxlsq_s']:.2f} s, "
        f"then the first fit {start['first_fit_s']:.2f} s"
    )
    return "\n".join(lines)
