"""Which models compiled lanes take, and why XLA works the others."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from benchmarks import model_guesses
from benchmarks.workloads import WORKLOADS, data
from jaxlsq import fit, least_squares_batch
from jaxlsq.datasets import NIST_NAMES, load_nist
from jaxlsq.lowering.engine import LANES
from tests.problems import mgh
from tests.tracing import test_numpy_arrays as samples

DTYPES = ("float64", "float32")
# The engine is chosen before the first evaluation: one is enough.
ONCE = {"max_nfev": 1, "polish": None}


@dataclass(frozen=True)
class Case:
    """A model with its data, in float64: which kind it is of, its name, and a call that fits it.

    `run(arrays) -> FitResult`, of the arrays in the type of the fit.
    """

    kind: str
    name: str
    run: Callable
    arrays: tuple


def _curve(kind, name, model, x, y, p0):
    def run(arrays):
        x, y, p0 = arrays
        return fit(model, x, y, p0, **ONCE)

    return Case(kind, name, run, (x, y, p0))


def _nist():
    for name in NIST_NAMES:
        one = load_nist(name)
        yield _curve("NIST", name, one.model, one.x, one.y, one.starts[0])


def _mgh():
    """Each function at each of its sizes."""
    sizes = {case.name.rpartition("-x")[0]: case for case in reversed(mgh.CASES)}
    for name, case in sorted(sizes.items()):

        def residual(x, shift, case=case):
            return case.fun(x, jnp) - shift

        def run(arrays, residual=residual):
            return least_squares_batch(residual, *arrays, **ONCE)

        m = len(case.fun(case.x0, np))
        yield Case("Moré, Garbow, Hillstrom", name, run, (case.x0, np.zeros((2, m))))


def _ready():
    for name, case in model_guesses.CASES.items():
        truth, y = model_guesses.data(case, 2, noise=0.05)
        p0 = np.stack([truth[parameter] for parameter in case.model.names], axis=1)
        yield _curve("ready models", name, case.model, case.x, y, p0)


def _workloads():
    for name, workload in WORKLOADS.items():

        def model(x, *params, workload=workload):
            return workload.model(x, *params, xp=jnp)

        yield _curve("benchmarks", name, model, *data(workload, 2))


def _samples():
    for name, model in samples.NUMPY.items():
        start = np.array([1.5, 0.7, 0.2])
        yield _curve("NumPy code", name, model, samples.X, samples.data(name), start)


def cases():
    """All models."""
    return [*_nist(), *_mgh(), *_ready(), *_workloads(), *_samples()]


def measure():
    """Kind, name and engine by type of each model."""
    rows = []
    for case in cases():
        row = {"kind": case.kind, "model": case.name}
        for dtype in DTYPES:
            row[dtype] = case.run([np.asarray(a, dtype) for a in case.arrays]).engine
        rows.append(row)
    return rows


def table(rows):
    """The share of each kind, and the reasons of the rest."""
    kinds, reasons = defaultdict(list), defaultdict(list)
    for row in rows:
        kinds[row["kind"]].append(row)
        for reason in sorted({row[dtype] for dtype in DTYPES} - {LANES}):
            reasons[reason].append(row["model"])
    lines = [
        "Models that compiled lanes take, and those that XLA works, by reason.",
        f"{'':<26}{'models':>8}" + "".join(f"{dtype:>10}" for dtype in DTYPES),
    ]
    for kind, of_kind in [*kinds.items(), ("all", rows)]:
        taken = [sum(row[dtype] == LANES for row in of_kind) for dtype in DTYPES]
        lines.append(f"{kind:<26}{len(of_kind):>8}" + "".join(f"{count:>10}" for count in taken))
    return "\n".join([*lines, "", *(f"{r}: {', '.join(names)}" for r, names in reasons.items())])
