"""One fit that remembers its last points, for plots of how it converged."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.bounds import status_of
from jaxlsq.numerics.iteration import final_status, judge, propose, relinearize, start
from jaxlsq.numerics.jacobian import repaired
from jaxlsq.numerics.loss import scaled
from jaxlsq.numerics.norm import power_of_two
from jaxlsq.numerics.normal import Normal, normal_equations
from jaxlsq.results.solution import History
from jaxlsq.schedule.equations import lane_of_outputs
from jaxlsq.status import Status
from jaxlsq.tracing.compiler import in_many_kernels
from jaxlsq.tracing.settings import own_settings
from jaxlsq.tracing.trace import evaluate

__all__ = ["remembering"]


def remembering(traced, evaluations, length):
    """A solver as `jaxlsq.transforms.vmap.solver`, whose counts hold a `History` of vectors."""

    @own_settings()
    def solve(x0, data, bounds, options):
        n, dtype = x0.shape[0], x0.dtype

        def evaluated(xs, data):
            return evaluate(traced, tuple(in_many_kernels(jnp.stack(xs))), data[:-1], data[-1])

        of_lane, plain = lane_of_outputs(evaluated)

        def finite(x, rows, columns):
            """Columns with differences for what is not finite."""
            f, weight = plain(tuple(x), data)
            jac = jnp.stack(columns, axis=1)
            fun = lambda x: plain(tuple(x), data)[0]  # noqa: E731
            weights = weight[:, None]
            raw, _ = repaired(fun, x, f, jac / jnp.where(weights == 0, 1.0, weights), bounds)
            jac = jnp.where(jnp.isfinite(jac), jac, raw * weights)
            return tuple(jac[:, j] for j in range(n))

        def lane(x):
            rows, columns = of_lane(tuple(x), data)
            columns = columns if evaluations else finite(x, rows, columns)
            unit = power_of_two(
                jnp.sqrt(jnp.max(rows[1])) if rows[1:] else jnp.max(jnp.abs(rows[0]))
            )
            return normal_equations([c / unit for c in columns], scaled(rows, 1.0 / unit), unit)

        def round_(carry):
            state, history = carry
            normal, norm = lane(state.trial.x)
            state = judge(state, norm, options)
            accepted, nfev = state.accepted, state.nfev
            state = lax.cond(
                accepted & (state.status == Status.RUNNING),
                lambda s: relinearize(s, normal, options, evaluations, bounds),
                lambda s: s,
                state,
            )
            state = propose(state, bounds)
            return state, _push(history, state, accepted, nfev)

        empty = jnp.full(length, jnp.nan, dtype)
        history = History(
            jnp.full((length, n), jnp.nan, dtype), empty, empty, empty, jnp.zeros(length, jnp.int32)
        )
        begun = start(x0, Normal.empty, bounds is not None)
        begun = replace(begun, status=status_of(bounds, begun.status))
        state, history = lax.while_loop(
            lambda carry: carry[0].status == Status.RUNNING, round_, (begun, history)
        )
        counts = {"status": final_status(state), "nfev": state.nfev, "njev": state.njev}
        return state.point.x, counts | {"history": history}

    return solve


def _push(history, state, accepted, nfev):
    point, trial = state.point, state.trial
    new = History(point.x, 0.5 * jnp.square(point.fnorm), trial.step_bound, trial.damping, nfev)
    return jax.tree.map(
        lambda old, row: jnp.where(accepted, jnp.concatenate([old[1:], row[None]]), old),
        history,
        new,
    )
