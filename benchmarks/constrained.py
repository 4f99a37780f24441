"""Bounds, losses and counts: speed beside plain least squares, costs beside SciPy's."""

import warnings

import jax.numpy as jnp
import numpy as np
import scipy.optimize

from benchmarks.peers import timed
from benchmarks.workloads import WORKLOADS, data
from jaxlsq import fit

COUNT = 100_000
CHECKED = 100
ROUNDS = 4
DTYPES = ("float64", "float32")
SCALE = 0.3
COUNTS = 100.0  # of a peak of height one


def cases(workload, x, y, p0):
    """Name: data, start and options of `fit`, all of one peak each."""
    ranges = np.array([(3, 10), (3, 7), (0.5, 1.5), (0, 2)], float)
    width = ranges[:, 1] - ranges[:, 0]
    wide = tuple((ranges + np.outer(width, (-1, 1))).T)
    tight = tuple((ranges + np.outer(width, (0.1, -0.1))).T)
    rng = np.random.default_rng(0)
    unit = np.array([COUNTS, 1, 1, COUNTS])
    start = np.abs(p0) * unit
    rough = fit(lambda x, *p: workload.model(x, *p, xp=jnp), x, y, p0)
    mean = np.maximum(workload.model(x, *(rough.x * unit).T[:, :, None]), 0.5)
    counts = rng.poisson(mean).astype(y.dtype)
    return {
        "least squares": (y, p0, {}),
        "bounds that do not hold": (y, np.clip(p0, *wide), {"bounds": wide}),
        "bounds that often hold": (y, np.clip(p0, *tight), {"bounds": tight}),
        "fixed width": (y, p0, {"fixed": [False, False, True, False]}),
        "soft_l1": (y, p0, {"loss": "soft_l1", "f_scale": SCALE}),
        "huber": (y, p0, {"loss": "huber", "f_scale": SCALE}),
        "cauchy": (y, p0, {"loss": "cauchy", "f_scale": SCALE}),
        "counts, least squares": (counts, start, {}),
        "counts, poisson": (counts, start, {"loss": "poisson"}),
    }


def reference(workload, x, y, p0, options):
    """SciPy's cost of one fit, the better of two starts; NaN where it has no such thing."""
    model = workload.model
    if options.get("loss") == "poisson":

        def half(p):
            mu = model(x, *p)
            some = y > 0
            terms = mu - y + np.where(some, y * np.log(np.where(some, y, 1) / mu), 0)
            return np.sum(terms) if np.all(mu > 0) else np.inf

        with np.errstate(all="ignore"):
            close = {"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000, "maxfev": 8000}
            return scipy.optimize.minimize(half, p0, method="Nelder-Mead", options=close).fun
    if "fixed" in options:
        free = ~np.array(options["fixed"])

        def full(q):
            p = p0.copy()
            p[free] = q
            return model(x, *p) - y

        return scipy.optimize.least_squares(full, p0[free], xtol=1e-12, ftol=1e-12).cost
    known = {k: v for k, v in options.items() if k != "fixed"}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return scipy.optimize.least_squares(
            lambda p: model(x, *p) - y, p0, xtol=1e-12, ftol=1e-12, **known
        ).cost


def measure(count, dtype):
    """Fits a second, and how many of some are as good as SciPy's, of each case."""
    workload = WORKLOADS["W1"]
    x, y, p0 = data(workload, count, np.dtype(dtype))
    p0 = np.asarray(p0, float)

    def model(x, a, c, w, o):
        return workload.model(x, a, c, w, o, xp=jnp)

    todo = cases(workload, x, y, p0)
    rows = {}
    for name, (values, start, options) in todo.items():
        result, first = timed(lambda v=values, s=start, o=options: fit(model, x, v, s, **o))
        slack = 1e-6 if dtype == "float64" else 1e-3
        expected = [
            reference(workload, x.astype(float), values[i].astype(float), start[i], options)
            for i in range(CHECKED)
        ]
        good = np.mean(result.cost[:CHECKED] <= np.array(expected) * (1 + slack) + 1e-9)
        held = float(np.mean(np.any(result.active_mask != 0, axis=-1)))
        rows[name] = {
            "first_s": first,
            "nfev": float(result.nfev.mean()),
            "converged": float(result.success.mean()),
            "as_scipy": float(good),
            "held": held,
            "seconds": [],
        }
    for _ in range(ROUNDS):
        for name, (values, start, options) in todo.items():
            _, seconds = timed(lambda v=values, s=start, o=options: fit(model, x, v, s, **o))
            rows[name]["seconds"].append(seconds)
    for row in rows.values():
        row["seconds"] = min(row["seconds"])
    return {"fits": count, "dtype": dtype, "cases": rows}


def table(results):
    """As text."""
    lines = []
    for result in results:
        rows = result["cases"]
        plain = rows["least squares"]["seconds"]
        lines += [
            f"{result['fits']:,} Gaussian peaks (W1, {result['dtype']}): speed beside plain least "
            f"squares, and the share of {CHECKED} fits whose cost is SciPy's or lower.",
            f"{'':<26}{'fits/s':>10}{'speed':>8}{'evaluations':>13}{'converged':>11}"
            f"{'at a bound':>12}{'as SciPy':>10}{'first, s':>10}",
        ]
        for name, row in rows.items():
            lines.append(
                f"{name:<26}{result['fits'] / row['seconds']:>10,.0f}"
                f"{plain / row['seconds']:>8.2f}{row['nfev']:>13.1f}{row['converged']:>11.1%}"
                f"{row['held']:>12.0%}{row['as_scipy']:>10.0%}{row['first_s']:>10.1f}"
            )
    return "\n".join(lines)
