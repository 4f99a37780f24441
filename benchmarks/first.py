"""What a fresh process waits for its first result, with JAX's cache on disk and without."""

import tempfile
import time
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.isolated import call
from benchmarks.workloads import peaks
from jaxlsq import fit, using
from jaxlsq.models import Gaussian, Linear

ENGINES = "compiled lanes", "XLA"
REPEATS = 3
# True parameters, and how far from them the fits begin; a ready model guesses.
CASES = {
    "decay, n=3": ([2.0, 0.7, 0.5], 0.2),
    "four peaks, n=14": (
        [2.0, 1.5, 0.5, 3.0, 4.0, 0.4, 2.0, 6.0, 0.5, 4.0, 8.0, 0.6, 1.0, 0.1],
        0.02,
    ),
    "peak and line, guessed": ([5.0, 4.0, 0.8, 0.1, 1.0], None),
}


def decay(t, a, k, c):
    """A decay on an offset."""
    return a * jnp.exp(-k * t) + c


def four(x, *params):
    """Four peaks on a line."""
    return peaks(x, *params, xp=jnp)


MODELS = dict(zip(CASES, (decay, four, Gaussian() + Linear()), strict=True))


def first(case, engine, folder):
    """Seconds of the first fit of 1,000 data sets and their errors, and the largest error."""
    if folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    x = np.linspace(0.0, 10.0, 64)
    model, (true, away) = MODELS[case], CASES[case]
    p0 = None if away is None else np.multiply(true, 1 + away)
    y = np.asarray(model(x, *true)) + 0.01 * np.random.default_rng(0).normal(size=(1000, x.size))
    begin = time.perf_counter()
    with using("xla") if engine == "XLA" else nullcontext():
        result = fit(model, x, y, p0)
        errors = np.sqrt(np.diagonal(result.cov, axis1=-2, axis2=-1))
    elapsed = time.perf_counter() - begin
    off = np.abs(result.x.mean(axis=0) - true) / (errors.mean(axis=0) / np.sqrt(len(y)))
    return elapsed, float(off.max())


def measure():
    """A row for each kind of fit and engine."""
    rows = []
    for case in CASES:
        for engine in ENGINES:
            row = {"case": case, "engine": engine}
            with tempfile.TemporaryDirectory() as folder:
                call("first.first", case, engine, folder)  # fills it
                for name, where in (("alone_s", None), ("cached_s", folder)):
                    runs = [call("first.first", case, engine, where) for _ in range(REPEATS)]
                    row[name] = min(elapsed for elapsed, _ in runs)
                    row["sigmas"] = max(row.get("sigmas", 0.0), *(off for _, off in runs))
            rows.append(row)
    return rows


def table(rows):
    """The rows as text."""
    lines = [
        "The first fit of a process: 1,000 data sets and their errors, after the imports.",
        f"{'':<24}{'engine':<16}{'alone, s':>10}{'cache on disk, s':>18}{'mean off by':>14}",
    ]
    for r in rows:
        lines.append(
            f"{r['case']:<24}{r['engine']:<16}{r['alone_s']:>10.2f}{r['cached_s']:>18.2f}"
            f"{r['sigmas']:>8.1f} sigma"
        )
    return "\n".join(lines)
