"""When a fit ends and how large its steps are: what the caller sets, checked in one place."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxlsq.numerics.loss import Loss, first_factor
from jaxlsq.numerics.state import Options

__all__ = ["batch_options", "check_limit", "check_tolerances", "parameter_scales"]

INT32_MAX = np.iinfo(np.int32).max
DEFAULT_TOLERANCE: dict[np.dtype[Any], float] = {
    np.dtype(np.float32): 1e-5,
    np.dtype(np.float64): 1.49012e-8,
}


def check_tolerances(optional: bool = True, **tolerances: Any) -> None:
    """Raise ValueError for one that is no number from zero on, nor None if it is `optional`."""
    for name, value in tolerances.items():
        if not (optional and value is None) and not _is_number(value, lambda v: v >= 0):
            raise ValueError(f"{name} must be >= 0{' or None' * optional}, got {value!r}.")


def check_limit(max_nfev: Any, name: str = "max_nfev") -> None:
    """Raise ValueError for a limit on evaluations that is neither None nor a positive integer."""
    if max_nfev is not None and not _is_number(max_nfev, lambda v: v >= 1 and v == int(v)):
        raise ValueError(f"{name} must be at least 1 or None, and whole, got {max_nfev!r}.")


def parameter_scales(values: ArrayLike, n: int, name: str) -> NDArray[Any]:
    """One number for each of n parameters, (n,), from n or one of them.

    Raises
    ------
    ValueError
        For another number of them, and for what is not positive and finite.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be positive and finite numbers, got {values!r}.")
    if array.shape not in ((), (n,)):
        raise ValueError(
            f"{name} must have one scale per parameter, {n}, got {array.size} of shape "
            f"{array.shape}."
        )
    if not np.all((array > 0) & np.isfinite(array)):
        raise ValueError(f"{name} must be positive and finite, got {values!r}.")
    return np.broadcast_to(array, (n,)).astype(np.float64)


def batch_options(
    n: int,
    dtype: np.dtype[Any],
    *,
    ftol: float | None,
    xtol: float | None,
    gtol: float | None,
    x_scale: ArrayLike | None,
    max_nfev: int | None,
    loss: Loss | None = None,
) -> Options:
    """`Options` of lanes, with defaults by dtype.

    Raises
    ------
    ValueError
        For an improper tolerance, limit or scale.
    """
    tolerances: dict[str, Any] = {"ftol": ftol, "xtol": xtol, "gtol": gtol}
    check_tolerances(**tolerances)
    check_limit(max_nfev)
    scale = np.zeros(n) if x_scale is None else 1.0 / parameter_scales(x_scale, n, "x_scale")
    filled = {k: DEFAULT_TOLERANCE[dtype] if v is None else v for k, v in tolerances.items()}
    floats = filled | {"factor": first_factor(loss), "diag": scale, "epsfcn": 0.0}
    return Options(
        max_nfev=np.int32(100 * (n + 1) if max_nfev is None else min(max_nfev, INT32_MAX)),
        **{k: np.asarray(v, dtype) for k, v in floats.items()},
    )


def _is_number(value, holds):
    """Whether a value is one real number for which something holds."""
    if type(value) is float:
        return holds(value)
    kind = np.asarray(value).dtype.kind if np.ndim(value) == 0 else ""
    return kind in set("fiu") and bool(holds(value))
