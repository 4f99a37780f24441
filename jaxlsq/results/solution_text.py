"""What `least_squares` returns, in words."""

from collections import Counter
from dataclasses import fields
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jaxlsq.problem.parameters import Layout
from jaxlsq.results.covariance import scaled_inverses
from jaxlsq.status import Status, converged, describe

__all__ = ["text"]

MOST_NAMES = 30
ARRAYS = ("fun", "jac", "grad")


def text(result: Any) -> str:
    """Why it ended, parameters with errors, and counts; of lanes how many ended in which way.

    Of a result that has no numbers, as inside of ``jit``, the types of what it has.
    """
    name = type(result).__name__
    if result.status is None or not all(map(_has_numbers, jax.tree.leaves(result))):
        parts = (f"{field.name}={_types(getattr(result, field.name))}" for field in fields(result))
        return f"{name}({', '.join(parts)})"
    lines = _lanes(result) if np.ndim(result.status) else _one(result)
    return "\n".join([f"{name}: {lines[0]}", *(f"  {line}" for line in lines[1:])])


def _has_numbers(leaf: Any):
    if isinstance(leaf, Tracer) or not isinstance(leaf, (jax.Array, np.ndarray)):
        return False
    return not (isinstance(leaf, jax.Array) and leaf.is_deleted())


def _types(tree: Any):
    return jax.tree.map(_type, tree)


class _Word(str):
    __slots__ = ()
    __repr__ = str.__str__


def _type(leaf: Any):
    """The type of an array, as JAX writes it; anything else as it is."""
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        return leaf
    if leaf.shape == ():
        return _Word(leaf.dtype)
    return _Word(f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]")


def _one(result: Any):
    code = Status(int(result.status))
    lines = [f"{code.name}: {describe(code)}", *_parameters(result)]
    lines.append(
        f"cost {float(result.cost):.6g}, {int(result.dof)} degrees of freedom; "
        f"{int(result.nfev)} evaluations, {int(result.njev)} Jacobians; "
        f"optimality {float(result.optimality):.1e}"
    )
    return [*lines, _others(result)]


def _parameters(result: Any):
    """A line for each, with its standard error."""
    layout = Layout.of(result.x)
    x, names = layout.pack(result.x), layout.names
    errors, active = _errors(result), np.asarray(result.active_mask)
    width = max(map(len, names[:MOST_NAMES]), default=0)
    ends = {-1: "(at its lower bound)", 1: "(at its upper bound)"}
    rows = zip(names[:MOST_NAMES], x, errors, active, strict=False)
    lines = [
        f"{name:<{width}}  {value:>12.6g}  {ends.get(int(side), f'+- {error:.2g}')}"
        for name, value, error, side in rows
    ]
    more = len(names) - MOST_NAMES
    return lines + [f"... and {more} more parameters"] * (more > 0)


def _errors(result: Any):
    """Standard errors, as `LeastSquaresResult.cov` has them, without a compilation."""
    jac, free = np.asarray(result.jac, float), np.asarray(result.active_mask) == 0
    with np.errstate(all="ignore"):  # what is not finite is shown as such
        gram = np.where(free[:, None] & free, jac.T @ jac, np.eye(len(free)))
        variance = 2.0 * float(result.cost) / int(result.dof) if int(result.dof) > 0 else np.inf
        return np.sqrt(np.diagonal(scaled_inverses(gram, result.jac.dtype)) * variance)


def _others(result: Any):
    """What arrays there are."""
    arrays = ", ".join(f"{name} {_type(getattr(result, name))}" for name in ARRAYS)
    history = result.history
    return arrays + (f", history of {len(history.nfev)} points" if history is not None else "")


def _lanes(result: Any):
    status = np.asarray(result.status)
    good = int(np.count_nonzero(converged(status)))
    lines = [f"{status.size:,} fits, {good:,} converged, {status.size - good:,} did not"]
    for code, count in Counter(status.ravel().tolist()).most_common():
        lines.append(f"{count:>9,} {Status(code).name}: {describe(code).split('.')[0]}.")
    return [*lines, f"x {_types(result.x)}, {_others(result)}"]
