"""What a trace cannot see of a function: is the program what the function is in Python?

A function may hide from JAX how it depends on its parameters, by ``float(p[0])`` inside a ``try``,
by counting its calls, by remembering what it returned.  The trace is then of another function.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.jacobian import inside

__all__ = ["agrees", "moved_start"]

# Parts of the parameters by which a start is moved; a frozen one changes the residual by as much.
_MOVES = (0.02, 0.025, 0.015)


def moved_start(problem: Any) -> NDArray[Any]:
    """Another point near the start, inside the bounds, with every parameter moved."""
    x, bounds = problem.x0, problem.terms and problem.terms.bounds
    h = np.resize(_MOVES, x.size) * np.where(x == 0, 1.0, np.abs(x))
    if bounds is None:
        bounds = Bounds(np.full(x.size, -np.inf), np.full(x.size, np.inf))
    return inside(x, h, bounds, False, np)[0]


def agrees(
    solution: Any, residual: Callable[..., Any], dtype: np.dtype[Any], scale: float = 0.0
) -> bool:
    """Whether a function in Python gives what its program gave, but for rounding.

    Parameters
    ----------
    solution : Solution
        Where a fit ended, and the residual there.
    residual : callable
        The function.
    dtype : dtype
        What it computes in.
    scale : float
        A size of residuals, beside that of these.
    """
    f = _in_python(residual, solution.x)
    if f is None:
        return True
    if f.shape != solution.f.shape:
        return False
    finite = np.isfinite(f) & np.isfinite(solution.f)
    same = (f == solution.f) | (np.isnan(f) & np.isnan(solution.f))
    size = max(scale, float(np.max(np.abs(f), initial=0.0, where=finite)))
    rounding = 100 * np.sqrt(np.finfo(dtype).eps) * size
    with np.errstate(invalid="ignore"):  # of infinite ones, which are not compared by size
        near = np.abs(f - solution.f) <= rounding
    return bool(np.all(same | (finite & near)))


def _in_python(residual, x):
    """What the function gives, an empty array where it raises, None where JAX does."""
    for convert in (np.array, jnp.asarray):  # the latter for functions that are JAX's alone
        try:
            return np.asarray(residual(convert(x)))
        except jax.errors.JaxRuntimeError:
            return None
        except Exception:  # of the user's function, which JAX could trace
            continue
    return np.empty(0)
