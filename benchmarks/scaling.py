"""What a batch's size, its slowest fits and more cores do to the speed."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.batch import ours, speed
from benchmarks.isolated import call, cores
from benchmarks.memory import AnonymousPeak
from benchmarks.peers import timed
from benchmarks.workloads import WORKLOADS, data

BLOCK = 100_000
STRAGGLING = 0.001
MAX_NFEV = 200
ROUNDS = 3


def fill(workload, y, p0):
    """Data and starts of as many lanes as the arrays have, a block at a time."""
    for seed, first in enumerate(range(0, len(y), BLOCK)):
        last = min(first + BLOCK, len(y))
        _, y[first:last], p0[first:last] = data(workload, last - first, y.dtype, seed)


def many(workload, count, dtype):
    """`workloads.data` of any number of lanes, with little memory beside the result."""
    y, p0 = np.empty((count, workload.m), dtype), np.empty((count, workload.n), dtype)
    fill(workload, y, p0)
    return workload.x.astype(dtype), y, p0


# --- in a process of their own ---------------------------------------------------


def throughput(name, dtype, count):
    """Fits per second."""
    workload = WORKLOADS[name]
    fit = ours(workload, *many(workload, count, np.dtype(dtype)))
    fit()  # compiles
    return speed(fit, count)


def straggler(count):
    """A batch with a few fits that walk on and on, beside the same batch without.

    Their data are one value at t = 0 and zeros, which the model fits ever better as the rate
    grows: each step gains the same factor, so that no test of convergence is met.
    """
    workload = WORKLOADS["W2"]
    x, y, p0 = many(workload, count, np.dtype(np.float64))
    slow = np.random.default_rng(0).choice(count, round(STRAGGLING * count), replace=False)
    spiked = y.copy()
    spiked[slow] = 0
    spiked[slow, 0] = 3
    fit = {
        "without": ours(workload, x, y, p0, max_nfev=MAX_NFEV),
        "with": ours(workload, x, spiked, p0, max_nfev=MAX_NFEV),
    }
    alone = ours(workload, x, spiked[slow], p0[slow], max_nfev=MAX_NFEV)().nfev
    nfev = {key: int(run().nfev.sum()) for key, run in fit.items()}
    seconds = {key: [] for key in fit}
    for _ in range(ROUNDS):
        for key, run in fit.items():
            seconds[key].append(timed(run)[1])
    pairs = zip(seconds["with"], seconds["without"], strict=True)
    more = nfev["with"] / nfev["without"]
    return {
        "fits": count,
        "stragglers": len(slow),
        "straggler_nfev": [int(alone.min()), int(np.median(alone))],
        "mean_nfev": nfev["without"] / count,
        "seconds": {key: min(values) for key, values in seconds.items()},
        "over_ideal": float(np.median([a / b for a, b in pairs])) / more,
    }


def from_disk(count):
    """One call on a file of `count` float32 decays; the file is deleted afterwards."""
    workload = WORKLOADS["W2"]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("y", "p0")]
        shapes = [(count, workload.m), (count, workload.n)]
        arrays = [
            np.memmap(path, np.float32, "w+", shape=shape)
            for path, shape in zip(paths, shapes, strict=True)
        ]
        fill(workload, *arrays)
        y, p0 = arrays
        y.flush()
        fit = ours(workload, workload.x.astype(np.float32), y, p0)
        with AnonymousPeak() as peak:
            result, seconds = timed(fit)
        return {
            "fits": count,
            "file_mb": y.nbytes / 1e6,
            "result_mb": sum(v.nbytes for v in vars(result).values() if hasattr(v, "nbytes")) / 1e6,
            "seconds": seconds,
            "fits_per_s": count / seconds,
            "converged": float(result.success.mean()),
            "peak_mb": None if peak.added is None else peak.added / 1e6,
        }


# --- all of it ---------------------------------------------------------------------


def measure(quick, say):
    """Everything, each in a fresh process; `say(text)` before each."""
    part = 100 if quick else 1
    say("stragglers")
    # No smaller than needed for some stragglers.
    result = {"straggler": call("scaling.straggler", 10_000 if quick else 100_000)}
    available = cores()
    sides = {"one": available[:1], "all": available}
    result["cores"] = [] if len(available) > 1 else None
    for dtype in ("float32", "float64") if len(available) > 1 else ():
        say(f"cores, {dtype}")
        rates = {key: [] for key in sides}
        for _ in range(ROUNDS):
            for key, on in sides.items():
                rates[key].append(call("scaling.throughput", "W2", dtype, 400_000 // part, on=on))
        result["cores"].append(
            {
                "dtype": dtype,
                "number": len(available),
                **{f"{key}_fits_per_s": max(values) for key, values in rates.items()},
                "ratio": max(rates["all"]) / max(rates["one"]),
            }
        )
    result["size"] = []
    for dtype in ("float32", "float64"):
        say(f"batch size, {dtype}")
        small, large = (
            call("scaling.throughput", "W2", dtype, count // part) for count in (100_000, 1_000_000)
        )
        result["size"].append({"dtype": dtype, "small": small, "large": large})
    say("from disk")
    result["disk"] = call("scaling.from_disk", 10_000_000 // part, on=available)
    return result
