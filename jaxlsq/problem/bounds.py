"""Bounds at the front doors: what all of SciPy's spellings mean, and what is wrong."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.types import BoundsLike, PyTree

__all__ = ["check_box", "inward", "pair", "traced_bounds", "vectors"]


def pair(bounds: BoundsLike) -> Bounds:
    """`Bounds` as they are given: ``(lower, upper)``, or an object with `lb` and `ub`.

    Raises
    ------
    ValueError
        If there are not two of them.
    """
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        return Bounds(bounds.lb, bounds.ub)
    if not isinstance(bounds, (tuple, list, np.ndarray)) or len(bounds) != 2:
        raise ValueError(
            "`bounds` must contain 2 elements, the lower and the upper bounds, each a number or "
            f"one for each parameter; got {bounds!r}."
        )
    return Bounds(*bounds)


def check_box(
    lower: ArrayLike,
    upper: ArrayLike,
    x0: ArrayLike | None,
    name: str = "x0",
    names: Sequence[str] | None = None,
) -> None:
    """Raise ValueError where bounds are impossible, or a start is outside of them.

    Parameters
    ----------
    lower, upper : (..., n) arrays
    x0 : (..., n) array or None
        None where it is not known.
    name : str
        Of `x0`.
    names : sequence of str, optional
        Of the parameters.
    """
    lower, upper = np.asarray(lower), np.asarray(upper)
    bad = ~(lower <= upper)
    if bad.any():
        raise ValueError(
            "Each lower bound must be less than its upper bound (or equal, for a fixed "
            f"parameter): those of {_first(bad, names)} are {_at(lower, bad)} and "
            f"{_at(upper, bad)}."
        )
    if x0 is None:
        return
    outside = (x0 < lower) | (x0 > upper)
    if outside.any():
        raise ValueError(
            f"`{name}` is infeasible: {_first(outside, names)} starts at {_at(x0, outside)}, "
            f"outside of its bounds, {_at(lower, outside)} to {_at(upper, outside)}."
        )


def inward(lower: ArrayLike, upper: ArrayLike, dtype: np.dtype[Any]) -> Bounds:
    """Bounds in the type of the computation, rounded so that what is inside stays inside."""
    lower, upper = np.asarray(lower), np.asarray(upper)
    if lower.dtype == upper.dtype == dtype:
        return Bounds(lower, upper)
    with np.errstate(over="ignore"):  # beyond the type's range is infinite
        low, high = lower.astype(dtype), upper.astype(dtype)
    low = np.where(low < lower, np.nextafter(low, np.array(np.inf, dtype)), low)
    high = np.where(high > upper, np.nextafter(high, np.array(-np.inf, dtype)), high)
    between = np.minimum(low, high)  # equal bounds stay equal
    return Bounds(np.where(low <= high, low, between), high)


def _first(bad, names):
    """The parameter of the first that is bad, and of which data set."""
    *problem, j = (int(i) for i in np.argwhere(bad)[0])
    name = f"parameter {j}" if names is None else repr(names[j])
    return f"{name} of data set {problem[0]}" if problem else name


def _at(values, bad):
    return np.broadcast_to(values, bad.shape)[bad][0]


def vectors(bounds: BoundsLike, n: int) -> Bounds:
    """`Bounds` of one problem as (n,) arrays.

    Raises
    ------
    ValueError
        For another number of them.
    """
    lower, upper = (np.asarray(side, float) for side in pair(bounds))
    if not {lower.shape, upper.shape} <= {(), (1,), (n,)}:
        raise ValueError(
            f"Inconsistent shapes between bounds and `x0`: there are {n} parameters, and bounds of "
            f"shapes {lower.shape} and {upper.shape}."
        )
    return Bounds(np.broadcast_to(lower, (n,)), np.broadcast_to(upper, (n,)))


def traced_bounds(
    bounds: BoundsLike, layout: Layout, x0: PyTree, dtype: np.dtype[Any]
) -> Bounds | None:
    """Bounds inside a JAX program, traced or not, as vectors of the computation's type.

    Parameters
    ----------
    bounds : None, or as for `pair`
        Each side a number, (n,), or a pytree as `x0`.
    layout : Layout
    x0 : pytree
        Where the fit starts, which is checked where it is known.
    dtype : dtype

    Returns
    -------
    Bounds or None
        None where there is nothing that could hold a parameter.

    Raises
    ------
    ValueError
        As `pair` and `check_box`, and for another number of them.
    """
    if bounds is None:
        return None
    sides = [_side(side, layout) for side in pair(bounds)]
    traced = [any(isinstance(v, Tracer) for v in jax.tree.leaves(s)) for s in sides]
    if not any(traced):
        lower, upper = sides
        if np.all(lower == -np.inf) and np.all(upper == np.inf):
            return None
        leaves = jax.tree.leaves(x0)
        known = not any(isinstance(leaf, Tracer) for leaf in leaves)
        start = np.concatenate([np.ravel(leaf) for leaf in leaves]) if known else None
        check_box(lower, upper, start)
        sides = inward(lower, upper, dtype)
    return Bounds(*(jnp.asarray(side).astype(dtype) for side in sides))


def _side(side, layout):
    """One side's bounds as a vector of n, of NumPy unless it is traced."""
    leaves = jax.tree.leaves(side)
    xp = jnp if any(isinstance(leaf, Tracer) for leaf in leaves) else np
    if len(leaves) == 1 and np.shape(leaves[0]) in ((), (layout.n,)):
        return xp.broadcast_to(xp.asarray(leaves[0]) * 1.0, (layout.n,))
    if isinstance(side, (list, tuple)) and len(side) == layout.n == len(leaves):
        return xp.stack([xp.asarray(leaf) * 1.0 for leaf in leaves])
    try:
        return layout.pack(side, (), xp) * 1.0
    except ValueError as error:
        raise ValueError(
            "Inconsistent shapes between bounds and `x0`: each side must be a number, "
            f"{layout.n} of them, or a pytree as x0; got {side!r}."
        ) from error
