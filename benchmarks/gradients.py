"""The gradient of a sum over many fits: what it costs, and how exact it is, beside Optimistix."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import RECIPES, optimistix_fit, timed
from benchmarks.workloads import WORKLOADS, data
from jaxlsq import least_squares

COUNT = 10_000
ROUNDS = 5
TIGHT = 1e-15


def ours(residual, tolerance):
    """One lane's fit (y, p0) -> params."""
    options = {} if tolerance is None else {"ftol": tolerance, "xtol": tolerance}
    return lambda y, p0: least_squares(lambda p: residual(p, y), p0, **options).x


def programs(fit, recipe, arrays):
    """Compiled: the sum over the fits of a function of the parameters, and its gradient by y."""

    def total(y, p0):
        params = RECIPES[recipe](fit)(y, p0)
        return jnp.sum(params[:, 1] ** 2 + params[:, 0] * params[:, 2])

    compiled, seconds = [], []
    for function in (total, jax.grad(total)):
        program, took = timed(lambda f=function: jax.jit(f).lower(*arrays).compile())
        compiled.append(program)
        seconds.append(took)
    return compiled, seconds


def measure(count):
    """Seconds of the forward solution and of the gradient, and errors of the gradient."""
    workload = WORKLOADS["W2"]
    with jax.enable_x64(True):
        x, *arrays = (jnp.asarray(v) for v in data(workload, count, np.dtype(np.float64)))

        def residual(params, y):
            return workload.model(x, *params, xp=jnp) - y

        entrants = {"jaxlsq": (ours(residual, None), "vmap")}
        make_fit = optimistix_fit("cholesky")
        for recipe in RECIPES if make_fit else ():
            entrants[f"optimistix {recipe}"] = (make_fit(residual, 1e-8), recipe)
        runs, rows = {}, {}
        for name, (fit, recipe) in entrants.items():
            runs[name], compile_seconds = programs(fit, recipe, arrays)
            rows[name] = {"compile_s": compile_seconds, "seconds": [[], []]}
        for _ in range(ROUNDS):
            for name, compiled in runs.items():
                for run, seconds in zip(compiled, rows[name]["seconds"], strict=True):
                    seconds.append(timed(lambda run=run: jax.block_until_ready(run(*arrays)))[1])
        (_, exact), _ = programs(ours(residual, TIGHT), "vmap", arrays)
        expected = exact(*arrays)
        sizes = jnp.max(jnp.abs(expected), axis=1)
        for name, (_, gradient) in runs.items():
            errors = jnp.max(jnp.abs(gradient(*arrays) - expected), axis=1) / sizes
            rows[name]["error"] = [float(v) for v in jnp.quantile(errors, jnp.array([0.5, 0.99]))]
            rows[name]["seconds"] = [min(v) for v in rows[name]["seconds"]]
    return {"fits": count, "solvers": rows}


def table(result):
    """As text."""
    lines = [
        f"{result['fits']:,} decays (W2, float64), one core: a sum over all fits, and its "
        "gradient by the data.",
        f"{'':<20}{'forward, ms':>12}{'gradient, ms':>14}{'compile, s':>12}{'error, median':>15}"
        f"{'99 %':>9}",
    ]
    for name, row in result["solvers"].items():
        forward, gradient = (1e3 * v for v in row["seconds"])
        lines.append(
            f"{name:<20}{forward:>12.0f}{gradient:>14.0f}{row['compile_s'][1]:>12.1f}"
            f"{row['error'][0]:>15.0e}{row['error'][1]:>9.0e}"
        )
    return "\n".join(lines)
