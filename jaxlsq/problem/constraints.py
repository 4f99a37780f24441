"""Bounds and losses at the front door: what all of SciPy's spellings mean, and what is wrong."""

import jax
import numpy as np

from jaxlsq.numerics.loss import POISSON, RHOS, Robust

__all__ = ["check_box", "check_no_sigma", "check_scale", "inward", "loss_of", "not_counts", "pair"]


def pair(bounds):
    """Lower and upper bounds, from ``(lower, upper)`` or an object with `lb` and `ub`.

    Raises
    ------
    ValueError
        If there are not two of them.
    """
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        return bounds.lb, bounds.ub
    if not isinstance(bounds, (tuple, list, np.ndarray)) or len(bounds) != 2:
        raise ValueError(
            "`bounds` must contain 2 elements, the lower and the upper bounds, each a number or "
            f"one for each parameter; got {bounds!r}."
        )
    return tuple(bounds)


def check_box(lower, upper, x0, name="x0", names=None):
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


def inward(lower, upper, dtype):
    """Bounds in the type of the computation, rounded so that what is inside stays inside."""
    with np.errstate(over="ignore"):  # beyond the type's range is infinite
        low, high = np.asarray(lower).astype(dtype), np.asarray(upper).astype(dtype)
    low = np.where(low < lower, np.nextafter(low, np.array(np.inf, dtype)), low)
    high = np.where(high > upper, np.nextafter(high, np.array(-np.inf, dtype)), high)
    between = np.minimum(low, high)  # equal bounds stay equal
    return np.where(low <= high, low, between), high


def _first(bad, names):
    """The parameter of the first that is bad, and of which data set."""
    *problem, j = (int(i) for i in np.argwhere(bad)[0])
    name = f"parameter {j}" if names is None else repr(names[j])
    return f"{name} of data set {problem[0]}" if problem else name


def _at(values, bad):
    return np.broadcast_to(values, bad.shape)[bad][0]


def loss_of(loss, counts=False):
    """The `Robust`, `POISSON` or, for squares, None that a caller's `loss` stands for.

    Parameters
    ----------
    loss : str or callable
    counts : bool
        Whether there are data that may be counts.

    Raises
    ------
    ValueError
        For an unknown name, and for 'poisson' without counts.
    """
    if callable(loss):
        return Robust(loss)
    names = ["linear", *RHOS, *(["poisson"] if counts else [])]
    if not isinstance(loss, str) or loss not in names:
        hint = ""
        if isinstance(loss, str) and loss == "poisson":
            hint = " The likelihood of counts needs a model and data: use `fit`."
        raise ValueError(f"`loss` must be one of {names} or a callable, got {loss!r}.{hint}")
    if loss == "poisson":
        return POISSON
    return None if loss == "linear" else Robust(RHOS[loss])


def not_counts(values):
    """Which elements of an array are not whole numbers from zero on; NaN is none either."""
    bad = values < 0
    return bad | (values != np.rint(values)) if values.dtype.kind == "f" else bad


def check_no_sigma(sigma):
    """Raise ValueError for a sigma of counts."""
    if sigma is not None:
        raise ValueError("loss='poisson' takes no sigma: the variance of a count is its mean.")


def check_scale(f_scale):
    """Raise ValueError unless a concrete `f_scale` is positive."""
    if isinstance(f_scale, jax.core.Tracer):
        return
    values = np.asarray(f_scale)
    if values.dtype.kind not in "fiu" or not np.all((values > 0) & np.isfinite(values)):
        got = repr(f_scale) if values.ndim == 0 else "an array that holds another"
        raise ValueError(f"`f_scale` must be positive and finite, got {got}.")
