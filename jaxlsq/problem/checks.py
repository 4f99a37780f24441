"""Front-door checks: what comes in is normalised, what is wrong raises here.

Exception types are SciPy's; messages name the argument, what was expected and
what came.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.problem.containers import is_real, no_mask

__all__ = [
    "as_array",
    "as_jacobian",
    "as_residual",
    "as_start",
    "as_tuple",
    "check_jacobian_shape",
    "check_lengths",
    "check_options",
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


def as_tuple(args):
    """Extra arguments as a tuple; a single value stands for a tuple of one."""
    return args if isinstance(args, tuple) else (args,)


def as_start(x0):
    """Starting parameters as a new float64 vector.

    Raises
    ------
    TypeError
        If `x0` is empty, complex or not numeric.
    """
    x0 = np.asarray(no_mask(x0, "x0")).ravel()
    if x0.size == 0:
        raise TypeError(
            "Improper input parameters: x0 is empty; expected at least one starting parameter."
        )
    if np.iscomplexobj(x0):
        raise TypeError(
            f"x0 must be real, got dtype {x0.dtype}. For complex parameters, pass their real and "
            "imaginary parts as separate real ones."
        )
    if not is_real(x0.dtype):
        raise TypeError(f"x0 must be an array of real numbers, got dtype {x0.dtype}.")
    return x0.astype(np.float64)


def as_residual(value, name="func"):
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
    if array.ndim > 1:
        raise ValueError(
            f"{name} must return a 1-D array of residuals, got shape {array.shape}. "
            "Flatten it with .ravel()."
        )
    return array.reshape(-1)


def as_array(value):
    """An array, a number or a nested list of them as an array, traced if any of it is."""
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))
    return jnp.asarray(value) if traced else np.asarray(value)


def as_jacobian(value, name):
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


def check_lengths(n, m):
    """Raise TypeError unless there are at least as many residuals as parameters."""
    if n > m:
        raise TypeError(
            f"Improper input: func input vector length N={n} must not exceed func output vector "
            f"length M={m}. Pass at least as many residuals as there are parameters."
        )


def check_jacobian_shape(shape, m, n, col_deriv, name="Dfun"):
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


def check_options(n, *, ftol, xtol, gtol, factor, diag):
    """Check MINPACK's parameters; returns `diag` as a vector, zeros for None.

    Raises
    ------
    TypeError
        SciPy's type for "Improper input parameters".
    """
    for name, value in (("ftol", ftol), ("xtol", xtol), ("gtol", gtol)):
        if not value >= 0:
            raise TypeError(f"Improper input parameters: {name} must be >= 0, got {value!r}.")
    if not 0 < factor < np.inf:
        raise TypeError(
            "Improper input parameters: factor must be positive and finite, usually between 0.1 "
            f"and 100, got {factor!r}."
        )
    if diag is None:
        return np.zeros(n)
    diag = np.asarray(diag, dtype=np.float64).ravel()
    if diag.shape != (n,):
        raise TypeError(
            f"Improper input parameters: diag must have one scale per parameter, {n}, "
            f"got {diag.size}."
        )
    if not np.all((diag > 0) & np.isfinite(diag)):
        raise TypeError(
            f"Improper input parameters: diag must be positive and finite, got {diag.tolist()}."
        )
    return diag


def unknown_keyword(door, name):
    """The text of an error for a keyword that a front door does not have."""
    hint = _HINTS.get(name)
    said = f"{door} got an unexpected keyword argument {name!r}"
    return f"{said}: {hint}." if hint else f"{said}."
