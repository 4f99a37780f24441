"""Front-door checks: what comes in is normalised, what is wrong raises here.

Exception types are SciPy's; messages name the argument, what was expected and
what came.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxlsq.numerics.jacobian import METHODS
from jaxlsq.numerics.types import AnyArray
from jaxlsq.problem.containers import no_mask

__all__ = [
    "as_array",
    "as_jacobian",
    "as_residual",
    "as_tuple",
    "check_callable",
    "check_jacobian_shape",
    "check_known",
    "check_lengths",
    "check_method",
    "check_one_axis",
    "jacobian_columns",
    "unknown_keyword",
]


_TOLERANCES = "the relative error of the sum of squares is ftol, that of the parameters xtol"
_HINTS = {
    **dict.fromkeys(("atol", "rtol", "tol"), _TOLERANCES),
    "Dfun": "the Jacobian is jac, for example jac='2-point'",
    "jac": "the Jacobian is Dfun, for example Dfun='2-point'",
    "max_nfev": "the limit on evaluations is maxfev",
    "bounds": "bounds are of curve_fit, least_squares and fit",
    "loss": "losses are of curve_fit with method='trf', least_squares and fit",
}


def as_tuple(args: Any) -> tuple[Any, ...]:
    """Extra arguments as a tuple; a single value stands for a tuple of one."""
    return args if isinstance(args, tuple) else (args,)


def as_residual(value: Any, name: str = "func") -> AnyArray:
    """What a residual function returned, as a 1-D real array, traced or not.

    Raises
    ------
    TypeError
        If it is None, complex or not numeric.
    ValueError
        If it has more than one axis.
    """
    if value is None:
        raise TypeError(
            f"{name} returned None; expected an array of residuals. Is a return missing?"
        )
    if isinstance(value, np.ma.MaskedArray):
        no_mask(value, f"what {name} returned")
    array = as_array(value)
    if array.dtype == object or array.dtype.kind not in "fiubV":
        detail = (
            "For complex residuals, return their real and imaginary parts, one after the other."
            if array.dtype.kind == "c"
            else "Return one array, or a list of scalars."
        )
        raise TypeError(
            f"{name} must return an array of real numbers, got dtype {array.dtype}. {detail}"
        )
    if array.ndim:
        check_one_axis(array.shape, name)
    return array.reshape(-1)


def check_one_axis(shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError unless what a residual function returned has one axis."""
    if len(shape) != 1:
        raise ValueError(
            f"{name} must return a 1-D array of residuals, got shape {shape}. Flatten it with "
            ".ravel()."
        )


def as_array(value: Any) -> AnyArray:
    """An array, a number or a nested list of them as an array, traced if any of it is."""
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))
    return jnp.asarray(value) if traced else np.asarray(value)


def as_jacobian(value: Any, name: str) -> AnyArray:
    """What a function returned for a Jacobian, as an array, traced or not.

    Raises
    ------
    TypeError
        If it is complex or not numeric.
    """
    array = as_array(value)
    if array.dtype.kind not in "fiubV":
        raise TypeError(f"{name} must return an array of real numbers, got dtype {array.dtype}.")
    return array


def check_lengths(n: int, m: int) -> None:
    """Raise TypeError unless there are at least as many residuals as parameters."""
    if n > m:
        raise TypeError(
            f"Improper input: func input vector length N={n} must not exceed func output vector "
            f"length M={m}. Pass at least as many residuals as there are parameters."
        )


def check_jacobian_shape(
    shape: tuple[int, ...], m: int, n: int, col_deriv: bool, name: str = "Dfun"
) -> None:
    """Raise TypeError unless a Jacobian has the shape that `col_deriv` says."""
    expected = (n, m) if col_deriv else (m, n)
    if tuple(shape) == expected:
        return
    hint = ""
    if tuple(shape) == expected[::-1]:
        now, then = ("True", "False") if col_deriv else ("False", "True")
        hint = (
            f" It is transposed: with col_deriv={now} pass its transpose, or set col_deriv={then}."
        )
    raise TypeError(
        f"leastsq: there is a mismatch between the input and output shape of the '{name}' "
        f"argument. Shape should be {expected} but it is {tuple(shape)}.{hint}"
    )


def jacobian_columns(rows: AnyArray, f: AnyArray, n: int) -> tuple[AnyArray, ...]:
    """The n columns of a Jacobian that the caller's `jac` gave for a residual f.

    Raises
    ------
    ValueError
        If it has another shape than (m, n).
    """
    if rows.shape != (*f.shape, n):
        raise ValueError(f"jac must return shape {(*f.shape, n)}, got {rows.shape}.")
    return tuple(rows[:, j] for j in range(n))


def check_callable(name: str, function: Any) -> None:
    """Raise TypeError unless it can be called."""
    if not callable(function):
        raise TypeError(f"{name} must be callable, got {type(function).__name__}.")


def check_known(name: str, value: Any, known: Sequence[str]) -> None:
    """Raise ValueError unless a value is one of some words."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {known}, got {value!r}.")


def check_method(
    name: str, value: Any, error: type[Exception] = ValueError, none: bool = False
) -> None:
    """Raise unless a Jacobian is a function or the name of a method (or None)."""
    if callable(value) or (isinstance(value, str) and value in METHODS) or (none and value is None):
        return
    words = "callable, None or" if none else "callable or"
    raise error(f"{name} must be {words} one of {sorted(METHODS)}, got {value!r}.")


def unknown_keyword(door: str, name: str) -> str:
    """The text of an error for a keyword that a front door does not have."""
    hint = _HINTS.get(name)
    said = f"{door} got an unexpected keyword argument {name!r}"
    return f"{said}: {hint}." if hint else f"{said}."
