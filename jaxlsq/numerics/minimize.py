"""One fit on the device: the residual at each trial, its Jacobian where the trial was accepted."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.factor import Factor, qr
from jaxlsq.numerics.iteration import relinearize, turn
from jaxlsq.numerics.loss import Loss, sum_of, weighted
from jaxlsq.numerics.norm import norm2
from jaxlsq.numerics.repair import repaired
from jaxlsq.numerics.state import Options, State, start
from jaxlsq.numerics.types import AnyArray
from jaxlsq.status import Status

__all__ = ["Terms", "minimize"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Terms:
    """What one problem may have beyond a sum of squares.

    Attributes
    ----------
    bounds : Bounds
        (n,) arrays, infinite for none.
    extra : array
        What the loss needs.
    loss : Robust, Poisson or None
        See `jaxlsq.numerics.loss`.
    """

    bounds: Bounds
    extra: AnyArray
    loss: Loss | None = field(default=None, metadata={"static": True})

    def norm(self, f: AnyArray) -> jax.Array:
        """The square root of what is minimized."""
        if self.loss is None:
            return norm2(f)
        rows, _ = weighted(self.loss, f, (), self.extra)
        return jnp.sqrt(sum_of(rows))

    def weighted(self, jac: AnyArray, f: AnyArray) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Rows and columns for the normal equations."""
        return weighted(self.loss, f, tuple(jac.T), self.extra)

    def exact(self, jac: AnyArray, f: AnyArray) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The same with the curvature that covariances are made of."""
        return replace(self, loss=self.loss and self.loss.exact).weighted(jac, f)

    def factor(self, jac: AnyArray, f: AnyArray) -> Factor:
        """The factorization of the weighted problem."""
        rows, columns = self.weighted(jac, f)
        jac, f = jnp.stack(columns, axis=1), rows[0]
        missing = max(jac.shape[1] - jac.shape[0], 0)  # with bounds there may be few residuals
        return qr(jnp.pad(jac, ((0, missing), (0, 0))), jnp.pad(f, (0, missing)))


def minimize(
    residual: Callable[..., Any],
    jacobian: Callable[..., Any],
    begin: jax.Array | tuple[State, jax.Array],
    options: Options,
    *,
    evaluations: int | jax.Array = 0,
    terms: Terms | None = None,
    rounds: jax.Array | None = None,
) -> tuple[State, jax.Array]:
    r"""Minimize :math:`\tfrac12 \lVert f(x) \rVert^2`, for one lane.

    Parameters
    ----------
    residual : callable
        ``residual(x) -> (m,)``, traceable; m >= n unless there are bounds.
    jacobian : callable
        ``jacobian(x, f) -> (m, n)``, traceable.
    begin : (n,) array, or (State, (m,) array)
        The start; or what an earlier call returned, to go on from.
    options : Options
    evaluations : int
        Evaluations of the residual that one Jacobian takes.
    terms : Terms, optional
        Bounds and a loss.
    rounds : int, optional
        Rounds after which to stop, whether the fit has ended or not.

    Returns
    -------
    state : State
        ``state.point`` holds the parameters; its factor is that of the last
        Jacobian, which MINPACK does not evaluate again at the solution.
    f : (m,) array
        Residual at the parameters.
    """
    if not isinstance(begin, tuple):
        shape = jax.eval_shape(residual, begin)
        begin = start(begin, Factor.empty, terms is not None), jnp.zeros(shape.shape, shape.dtype)
    norm, factorize, bounds = norm2, qr, None
    if terms is not None:
        norm, factorize, bounds = terms.norm, terms.factor, terms.bounds

    def linearize(f, state):
        jac, more = jacobian(state.point.x, f), 0
        if not evaluations:
            jac, more = repaired(residual, state.point.x, f, jac, bounds)
        return relinearize(state, factorize(jac, f), options, evaluations + more, bounds)

    def one_round(carry):
        state, f = carry
        trial_f = residual(state.trial.x)

        def take_in(state):
            fresh = state.accepted & (state.status == Status.RUNNING)
            return lax.cond(fresh, partial(linearize, trial_f), lambda s: s, state)

        state = turn(state, norm(trial_f), take_in, options, bounds)
        return state, jnp.where(state.accepted | (state.njev == 0), trial_f, f)

    def is_running(carry):
        return carry[0].status == Status.RUNNING

    if rounds is None:
        return lax.while_loop(is_running, one_round, begin)
    _, end = lax.while_loop(
        lambda counted: (counted[0] < rounds) & is_running(counted[1]),
        lambda counted: (counted[0] + 1, one_round(counted[1])),
        (jnp.zeros_like(rounds), begin),
    )
    return end
