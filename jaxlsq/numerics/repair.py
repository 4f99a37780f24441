r"""Derivatives that are not finite where the function is, replaced by finite differences.

The exact derivative of a finite function need not be finite: that of ``1 / (1 + exp(z))`` is
zero times infinity where the exponential overflows, and that of a square root is infinite at
zero.  `repaired` takes such elements of a Jacobian from finite differences.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.jacobian import forward_step, inside
from jaxlsq.numerics.types import AnyArray

__all__ = [
    "REPAIR_EVALUATIONS",
    "difference_of",
    "repair_points",
    "repaired",
    "repaired_columns",
    "repaired_on_host",
]

# Evaluations of the residual for a column that is not finite.
REPAIR_EVALUATIONS = 2


def repair_points(
    x: AnyArray, bounds: tuple[AnyArray, AnyArray] | None, xp: ModuleType = jnp
) -> tuple[AnyArray, AnyArray]:
    """The two points of each difference that replaces a derivative, inside the bounds.

    Parameters
    ----------
    x : (n, ...) array
    bounds : Bounds or None
    xp : module
        jax.numpy or numpy.

    Returns
    -------
    ahead, behind : (n, ...) arrays
    """
    infinite = xp.full_like(x, xp.inf)
    h = forward_step(x, xp.cbrt(xp.finfo(x.dtype).eps), xp)
    return inside(x, h, bounds or (-infinite, infinite), True, xp)


def difference_of(
    values: Sequence[AnyArray], steps: tuple[AnyArray, AnyArray], xp: ModuleType = jnp
) -> AnyArray:
    """The derivative by one parameter: central, or to the side where the function is finite.

    Parameters
    ----------
    values : (behind, here, ahead)
        (..., m) arrays, the residual at three places.
    steps : (back, forward)
        (..., 1) arrays, from the middle to the others; zero where a bound leaves no room.

    Returns
    -------
    (..., m) array
        NaN where the function is finite to neither side, zero where there is no room for one.
    """
    behind, here, ahead = values
    back, forward = steps
    forth = xp.isfinite(ahead) & (forward > 0)
    backwards = xp.isfinite(behind) & (back > 0)
    high, low = xp.where(forth, ahead, here), xp.where(backwards, behind, here)
    run = xp.where(forth, forward, 0.0) + xp.where(backwards, back, 0.0)
    nowhere = xp.where((forward > 0) | (back > 0), xp.nan, 0.0)
    return xp.where(run > 0, (high - low) / xp.where(run > 0, run, 1.0), nowhere)


def repaired(
    fun: Callable[..., Any],
    x: jax.Array,
    f: jax.Array,
    jac: jax.Array,
    bounds: Bounds | None = None,
) -> tuple[jax.Array, jax.Array]:
    """A Jacobian with differences for elements that are not finite where the residual is.

    Parameters
    ----------
    fun : callable
        ``fun(x) -> (m,)``, traceable.
    x, f, jac : (n,), (m,), (m, n) arrays
    bounds : Bounds, optional
        (n,) arrays, which no difference leaves.

    Returns
    -------
    jac : (m, n) array
    evaluations : int scalar
        Of `fun`.
    """
    bad = ~jnp.isfinite(jac) & jnp.isfinite(f)[:, None]

    def by_differences():
        ahead, behind = repair_points(x, bounds)

        def column(j):
            back, forward = x[j] - behind[j], ahead[j] - x[j]
            values = fun(x.at[j].set(behind[j])), f, fun(x.at[j].set(ahead[j]))
            return difference_of(values, (back, forward))

        return jnp.where(bad, lax.map(column, jnp.arange(x.shape[0])).T, jac)

    count = REPAIR_EVALUATIONS * jnp.sum(jnp.any(bad, axis=0), dtype=jnp.int32)
    return lax.cond(count > 0, by_differences, lambda: jac), count


def repaired_columns(linear: Callable[..., Any]) -> Callable[..., Any]:
    """`repaired` for ``linear(xs) -> f, columns`` of n scalars, as `linearized` gives it."""

    def careful(xs):
        f, columns = linear(xs)
        x, jac = jnp.stack(xs), jnp.stack(columns, axis=1)
        jac, _ = repaired(lambda x: linear(tuple(x))[0], x, f, jac)
        return f, tuple(jac[:, j] for j in range(len(xs)))

    return careful


def repaired_on_host(
    fun: Callable[..., Any],
    x: NDArray[Any],
    f: NDArray[Any],
    jac: NDArray[Any],
    bounds: Bounds | None = None,
) -> tuple[NDArray[Any], int]:
    """`repaired` for a Python function of NumPy arrays."""
    bad = ~np.isfinite(jac) & np.isfinite(f)[:, None]
    columns = np.flatnonzero(bad.any(axis=0))
    if not columns.size:
        return jac, 0
    jac = np.array(jac, np.float64)
    ahead, behind = repair_points(x, bounds, np)
    for j in columns:
        values = [f, f, f]
        for k, place in ((0, behind), (2, ahead)):
            moved = x.copy()
            moved[j] = place[j]
            values[k] = fun(moved)
        steps = x[j] - behind[j], ahead[j] - x[j]
        jac[:, j] = np.where(bad[:, j], difference_of(values, steps, np), jac[:, j])
    return jac, REPAIR_EVALUATIONS * columns.size
