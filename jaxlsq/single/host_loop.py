"""The iteration for functions that JAX cannot trace: a loop on the host.

The user's function runs in Python between two calls of compiled code, which is
`jaxlsq.numerics` and is the same for all functions: see `jaxlsq.single.steps`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.numerics.minimize import Terms
from jaxlsq.numerics.norm import norm2
from jaxlsq.numerics.repair import repaired_on_host
from jaxlsq.numerics.state import Options, State
from jaxlsq.single.steps import OwnSettings, steps_from
from jaxlsq.status import Status

__all__ = ["minimize_on_host"]

RUNNING = int(Status.RUNNING)


def minimize_on_host(
    residual: Callable[..., Any],
    jacobian: Callable[..., Any],
    begin: tuple[NDArray[Any], NDArray[Any]],
    options: Options,
    evaluations: int,
    terms: Terms | None = None,
) -> tuple[State, NDArray[Any]]:
    """`jaxlsq.numerics.minimize.minimize` with Python functions.

    Parameters
    ----------
    residual : callable
        ``residual(x) -> (m,)`` float64 NumPy array.
    jacobian : callable
        ``jacobian(x, f) -> (m, n)`` float64 NumPy array.
    begin : (x0, f0)
        (n,) and (m,) float64 NumPy arrays: the start, and ``residual(x0)``.
    options : Options
    evaluations : int
        Evaluations of the residual that one Jacobian takes.
    terms : Terms, optional
        Bounds and a loss.

    Returns
    -------
    state : State
        Of NumPy arrays.
    f : (m,) NumPy array
        Residual at the parameters.
    """
    x0, f0 = begin
    bounds = terms and terms.bounds
    robust = None if terms is None or terms.loss is None else _Robust(terms)
    f = trial_f = f0
    steps = steps_from(x0, options, terms)
    while True:
        steps.judge(robust.norm(trial_f) if robust else _norm(trial_f))
        accepted = steps.accepted
        if accepted:
            f = trial_f
        if steps.status == RUNNING:
            if accepted:
                x = steps.trial_x
                jac, more = jacobian(x.copy(), f), 0
                if not evaluations:
                    jac, more = repaired_on_host(residual, x, f, jac, bounds)
                weighted = robust.weighted(jac, f) if robust else (jac, f)
                steps.take_in(*weighted, evaluations + more)
            steps.propose()
        if steps.status != RUNNING:
            return steps.state, f
        trial_f = residual(steps.trial_x)


class _Robust:
    """What a loss makes of residuals, in our settings of JAX."""

    def __init__(self, terms):
        self._terms, self._settings = terms, OwnSettings()

    def norm(self, f):
        """Half the square of which is minimized."""
        return float(self._settings(self._terms.norm, f))

    def weighted(self, jac, f):
        """The Jacobian and residual of which the normal equations are made."""
        rows, columns = self._settings(self._terms.weighted, jac, f)
        return np.stack(columns, axis=1), np.asarray(rows[0])


def _norm(f):
    """`norm2` in NumPy; nearly always the plain formula will do."""
    squares = float(np.dot(f, f))
    if 1e-200 < squares < 1e200:
        return math.sqrt(squares)
    with np.errstate(all="ignore"):
        return float(norm2(f, xp=np))
