"""Fits of exponential decays in the lane pool, which need from few to many rounds."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.numerics.jacobian import linearized
from jaxlsq.numerics.state import Options
from jaxlsq.schedule.equations import Lane
from jaxlsq.schedule.pool import run_pool
from jaxlsq.schedule.queue import Queue
from jaxlsq.tracing.compiler import POOL_OPTIONS

T = np.linspace(0.0, 4.0, 20)
WIDTH = 8
SIZE = 2 * WIDTH + 1
TOL = 1.49012e-8


def options(n=3, dtype=np.float64, **changes):
    """SciPy's defaults."""
    values = {"ftol": TOL, "xtol": TOL, "gtol": 0.0, "factor": 100.0, "epsfcn": 0.0}
    values |= {"max_nfev": 100 * (n + 1), "diag": np.zeros(n)} | changes
    count = np.int32(values.pop("max_nfev"))
    return Options(max_nfev=count, **{k: np.asarray(v, dtype) for k, v in values.items()})


def decay(a, b, c, y):
    """Residual of ``a exp(-b t) + c``, in the type of y."""
    return a * jnp.exp(-b * jnp.asarray(T, y.dtype)) + c - y


def problems(seed=5, size=SIZE):
    """Starts (size, 3) and data (size, 20)."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 3.0, (size, 3))
    x0 = truth * rng.uniform(0.3, 3.0, (size, 3))
    y = truth[:, :1] * np.exp(-truth[:, 1:2] * T) + truth[:, 2:]
    return x0, y + 0.02 * rng.standard_normal((size, 20))


def lane_of(residual, method="jacfwd", evaluations=0):
    """The pool's `Lane` of ``residual(*xs, data)``."""

    def lane(xs, data):
        f, columns = linearized(lambda *x: residual(*x, data), method, 0.0)(xs)
        return (f,), columns

    return Lane(lane, None, evaluations)


def compiled(residual, method="jacfwd", width=WIDTH, evaluations=0):
    """`run_pool` of a residual, compiled as `jaxlsq` compiles it."""
    lane = lane_of(residual, method, evaluations)

    def run(x0, data, options):
        return run_pool(lane, Queue.of(x0, data), options, width)[0]

    return jax.jit(run, **POOL_OPTIONS)


RUNS = cache(partial(compiled, decay, "jacfwd"))


def fit(x0, y, width=WIDTH, **changes):
    """Fits of decays in the type of y, as NumPy arrays."""
    ended = RUNS(width)(np.asarray(x0, y.dtype), y, options(dtype=y.dtype, **changes))
    return jax.tree.map(np.asarray, ended)
