"""Other solvers on the same batches.

A peer is a function `(workload, x, y, p0, dtype, repeats=1) -> Run`, or None where it is not
installed.  Compilation is apart, and happens once; `seconds` is the shortest of `repeats` runs
on data that are already where they are needed.  `PEERS` has one entry for each recipe.
"""

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import native
from benchmarks.workloads import cost

MAX_STEPS = 256
CHUNK = 100
TOLERANCES = {"float64": 1e-8, "float32": 1e-4}
OPTIMISTIX_SOLVERS = ("qr", "cholesky")
JAXOPT_SOLVERS = ("cholesky", "lu")


class Run(NamedTuple):
    """Parameters (B, n), half sums of squares in float64 (B,), seconds to run and to compile."""

    params: np.ndarray
    cost: np.ndarray
    seconds: float
    compile_seconds: float


def timed(call, repeats=1):
    """The last result, and the shortest of the times."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - begin)
    return result, min(times)


def scipy_loop(workload, x, y, p0, dtype, repeats=1):
    """scipy.optimize.leastsq on one lane after another, in float64, with a NumPy residual."""
    from scipy.optimize import leastsq

    x, y, p0 = (np.asarray(v, np.float64) for v in (x, y, p0))

    def residual(params, data):
        return workload.model(x, *params) - data

    def run():
        with np.errstate(all="ignore"):
            pairs = zip(p0, y, strict=True)
            return np.array(
                [leastsq(residual, p, args=(d,), full_output=True)[0] for p, d in pairs]
            )

    params, seconds = timed(run, repeats)
    return Run(params, cost(workload, x, y, params), seconds, 0.0)


def native_driver(workload, x, y, p0, dtype, repeats=1, *, driver, fast_math=False):
    """A C or C++ library on one lane after another, in float64, with hand-written derivatives."""
    library = native.load(driver, fast_math)
    if library is None:
        return None
    x, y, p0 = (np.ascontiguousarray(v, np.float64) for v in (x, y, p0))
    (params, *_), seconds = timed(lambda: native.fit(library, workload, x, y, p0), repeats)
    return Run(params, cost(workload, x, y, params), seconds, 0.0)


minpack_c = functools.partial(native_driver, driver="minpack")
ceres_tiny = functools.partial(native_driver, driver="tinysolver")

# One lane's fit (y, p0) -> params, to all lanes' fits.
RECIPES = {
    "vmap": jax.vmap,
    "chunks": lambda fit: lambda y, p0: jax.lax.map(lambda a: fit(*a), (y, p0), batch_size=CHUNK),
    "map": lambda fit: lambda y, p0: jax.lax.map(lambda a: fit(*a), (y, p0)),
}


def _run_jax(make_fit, recipe, workload, x, y, p0, dtype, repeats):
    """Compile the recipe for one lane's fit, and time it."""
    dtype = np.dtype(dtype)
    with jax.enable_x64(dtype == np.float64):
        arrays = tuple(jnp.asarray(v, dtype) for v in (x, y, p0))
        shapes = tuple(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in arrays)
        compiled, compile_seconds = _compiled(make_fit, recipe, workload.model, shapes)
        params, seconds = timed(lambda: jax.block_until_ready(compiled(*arrays)), repeats)
    return Run(np.asarray(params), cost(workload, x, y, params), seconds, compile_seconds)


# Kept, so that a batch can be timed again and again in turn with others.
@functools.cache
def _compiled(make_fit, recipe, model, shapes):
    """The recipe compiled for arguments of these shapes, and the seconds that took."""

    def run(x, y, p0):
        def residual(params, data):
            return model(x, *params, xp=jnp) - data

        return RECIPES[recipe](make_fit(residual, TOLERANCES[y.dtype.name]))(y, p0)

    begin = time.perf_counter()
    compiled = jax.jit(run).lower(*shapes).compile()
    return compiled, time.perf_counter() - begin


def optimistix(workload, x, y, p0, dtype, repeats=1, *, recipe="vmap", solver="qr"):
    """Optimistix' LevenbergMarquardt; `solver` is "qr" or "cholesky" (normal equations)."""
    make_fit = optimistix_fit(solver)
    return make_fit and _run_jax(make_fit, recipe, workload, x, y, p0, dtype, repeats)


@functools.cache
def optimistix_fit(solver):
    """`(residual, tolerance) -> fit` of one lane, or None."""
    try:
        import lineax
        import optimistix as optx
    except ImportError:
        return None
    linear = lineax.QR() if solver == "qr" else lineax.Normal(lineax.Cholesky())

    def make_fit(residual, tolerance):
        method = optx.LevenbergMarquardt(tolerance, tolerance, linear_solver=linear)

        def fit(data, start):
            return optx.least_squares(
                residual, method, start, args=data, max_steps=MAX_STEPS, throw=False
            ).value

        return fit

    return make_fit


def jaxopt(workload, x, y, p0, dtype, repeats=1, *, recipe="vmap", solver="cholesky"):
    """JAXopt's LevenbergMarquardt; `solver` is "cholesky" or "lu"."""
    make_fit = _jaxopt_fit(solver)
    return make_fit and _run_jax(make_fit, recipe, workload, x, y, p0, dtype, repeats)


@functools.cache
def _jaxopt_fit(solver):
    """`(residual, tolerance) -> fit` of one lane, or None."""
    try:
        from jaxopt import LevenbergMarquardt
    except ImportError:
        return None

    def make_fit(residual, tolerance):
        method = LevenbergMarquardt(
            residual,
            maxiter=MAX_STEPS,
            stop_criterion="madsen-nielsen",
            xtol=tolerance,
            gtol=0.0,
            solver=solver,
            materialize_jac=True,
            implicit_diff=False,
        )

        def fit(data, start):
            return method.run(start, data).params

        return fit

    return make_fit


PEERS = {
    "scipy_loop": scipy_loop,
    "minpack_c": minpack_c,
    "ceres_tiny": ceres_tiny,
    **{
        f"{function.__name__} {recipe} {solver}": functools.partial(
            function, recipe=recipe, solver=solver
        )
        for function, solvers in ((optimistix, OPTIMISTIX_SOLVERS), (jaxopt, JAXOPT_SOLVERS))
        for recipe in RECIPES
        for solver in solvers
    },
}
