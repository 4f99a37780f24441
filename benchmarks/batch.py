"""One workload in one precision: ours and the best recipe of each peer, in turn.

`measure` runs in a process of its own, on one core.  A ratio is the peer's seconds per fit over
ours, the median of rounds in which the two take turns, so that a machine that is slow for a
while is slow for both.  Quality is the share of fits whose cost is within 1e-4 of the best that
any solver found, on the lanes that all of them ran; pathological lanes do not count.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

import jaxlsq
from benchmarks import memory
from benchmarks.peers import PEERS, timed
from benchmarks.workloads import WORKLOADS, bad_lanes, cost, data

LIBRARIES = tuple(dict.fromkeys(name.split()[0] for name in PEERS))
TOLERANCE = 1e-4
# At least; where they are short there are more, against noise.
ROUNDS = 5
# A recipe is dropped if its library has one that is better by more than this.
QUALITY_MARGIN = 0.01
# Recipes slower than the fastest by more than this are not tried again.
CLOSE = 2.0


@dataclass(frozen=True)
class Scale:
    """Lanes of ours and the compiled peers, of the JAX peers, of SciPy; and seconds of turns."""

    lanes: int
    jax: int
    scipy: int
    seconds: float

    @classmethod
    def of(cls, name, quick):
        """The scale for a workload."""
        if quick:
            return cls(2000, 500, 100, 5.0)
        return cls({"W4": 40_000, "W5": 10_000}.get(name, 100_000), 2000, 200, 15.0)

    def of_library(self, library):
        """Lanes a peer's speed is measured on."""
        few = {"optimistix": self.jax, "jaxopt": self.jax, "scipy_loop": self.scipy}
        return few.get(library, self.lanes)


@dataclass(frozen=True)
class Entrant:
    """A peer's best recipe on a number of lanes, `run() -> Run`, and what it found."""

    recipe: str
    lanes: int
    run: Callable
    cost: np.ndarray
    compile_seconds: float


def ours(workload, x, y, p0, **options):
    """A function that fits them all."""
    model = functools.partial(workload.model, xp=jnp)
    return lambda: jaxlsq.fit(model, x, y, p0, **options)


def measure(name, dtype, quick):
    """A row of the table, as a dict."""
    workload, scale = WORKLOADS[name], Scale.of(name, quick)
    batch = data(workload, scale.lanes, np.dtype(dtype))
    fit = ours(workload, *batch)
    before = memory.resident()
    result, first = timed(fit)
    seconds = [timed(fit)[1] for _ in range(2)]
    peak = memory.peak()
    entrants = choose(workload, batch, dtype, scale)
    ratios, own, other = take_turns(fit, entrants, scale)
    seconds += own
    costs = {library: entrant.cost for library, entrant in entrants.items()}
    costs["ours"] = cost(workload, *batch[:2], result.params)[: scale.jax]
    quality = qualities(costs, bad_lanes(workload, scale.lanes))
    return {
        "workload": name,
        "dtype": dtype,
        "fits": scale.lanes,
        "fits_per_s": scale.lanes / min(seconds),
        "quality": quality["ours"],
        "compile_s": first - min(seconds),
        "peak_mb": None if peak is None else (peak - before) / 1e6,
        "peers": {
            library: {
                "recipe": entrant.recipe,
                "fits_per_s": entrant.lanes / min(other[library]),
                "ratio": float(np.median(ratios[library])),
                "quality": quality[library],
                "compile_s": entrant.compile_seconds,
            }
            for library, entrant in entrants.items()
        },
    }


def choose(workload, batch, dtype, scale):
    """An `Entrant` for each library that is there."""
    entrants = {
        library: best_recipe(library, workload, batch, dtype, scale) for library in LIBRARIES
    }
    return {library: entrant for library, entrant in entrants.items() if entrant}


def best_recipe(library, workload, batch, dtype, scale):
    """The fastest of a library's recipes that find what the best of them finds."""
    x, y, p0 = batch
    lanes = scale.of_library(library)
    # All must run the lanes by which quality is judged, even where fewer are timed.
    judged = max(lanes, scale.jax)
    recipes = [name for name in PEERS if name.split()[0] == library]
    runs = {
        recipe: functools.partial(PEERS[recipe], workload, x, y[:judged], p0[:judged], dtype)
        for recipe in recipes
    }
    tried = {recipe: run() for recipe, run in runs.items()}
    tried = {recipe: run for recipe, run in tried.items() if run is not None}
    if not tried:
        return None
    quality = qualities({k: v.cost for k, v in tried.items()}, bad_lanes(workload, len(batch[1])))
    good = [k for k in tried if quality[k] >= max(quality.values()) - QUALITY_MARGIN]
    fastest = min(tried[k].seconds for k in good)
    close = [k for k in good if tried[k].seconds <= CLOSE * fastest]
    if len(close) > 1:
        best = min(close, key=lambda k: runs[k](repeats=3).seconds)
    else:
        best = close[0]
    return Entrant(
        recipe=best,
        lanes=lanes,
        run=functools.partial(PEERS[best], workload, x, y[:lanes], p0[:lanes], dtype),
        cost=tried[best].cost[: scale.jax],
        compile_seconds=tried[best].compile_seconds,
    )


def take_turns(fit, entrants, scale):
    """Ratios by library, our seconds, and the peers' seconds by library."""
    ratios = {library: [] for library in entrants}
    own, other = [], {library: [] for library in entrants}
    begin, rounds = time.perf_counter(), 0
    while rounds < ROUNDS or time.perf_counter() - begin < scale.seconds:
        rounds += 1
        for library, entrant in entrants.items():
            own.append(timed(fit)[1])
            other[library].append(entrant.run().seconds)
            each = other[library][-1] / entrant.lanes
            ratios[library].append(each / (own[-1] / scale.lanes))
    return ratios, own, other


def qualities(costs, bad):
    """The share of each solver's costs that are as good as the best of all, without `bad` lanes."""
    costs = {solver: np.where(np.isfinite(c), c, np.inf) for solver, c in costs.items()}
    best = functools.reduce(np.minimum, costs.values())
    counted = np.isfinite(best)
    counted[bad[bad < len(best)]] = False
    return {
        solver: float(np.mean(c[counted] <= best[counted] * (1 + TOLERANCE)))
        for solver, c in costs.items()
    }


def speed(call, lanes, least=1.0):
    """Fits per second of the fastest of some calls, which take `least` seconds or are three."""
    seconds, begin = [], time.perf_counter()
    while len(seconds) < 3 or (time.perf_counter() - begin < least and len(seconds) < 100):
        seconds.append(timed(call)[1])
    return lanes / min(seconds)
