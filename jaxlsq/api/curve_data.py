"""Data of `curve_fit`: without what is masked, and as JAX or a function in Python takes them."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.core import Tracer
from numpy.typing import NDArray

from jaxlsq.problem.bounds import pair
from jaxlsq.problem.checks import unknown_keyword
from jaxlsq.problem.containers import by_name, for_jax, is_table, no_mask, plain
from jaxlsq.problem.dims import Dims
from jaxlsq.problem.names import in_order
from jaxlsq.problem.readings import Leaf
from jaxlsq.problem.types import BoundsLike
from jaxlsq.single.bounded import Bounded

__all__ = ["Places", "as_data", "by_names", "check_keywords", "check_model_shape", "unchanged"]

# What `leastsq` takes as well.
_LM = ("ftol", "xtol", "gtol", "maxfev", "epsfcn", "factor", "diag", "col_deriv", "warning")


@dataclass(frozen=True)
class Places:
    """The independent variable.

    Attributes
    ----------
    array : object
        For JAX: an array, a pytree of them, `Columns`, or any other object.
    labelled : object, optional
        What the user gave, with its labels, for a function that is called in Python.
    """

    array: Any
    labelled: Any = None

    @property
    def axes(self) -> int:
        """Number of axes of an array, 0 of other objects."""
        return self.array.ndim if isinstance(self.array, np.ndarray) else 0

    def call(self, f: Callable[..., Any], params: Any) -> Any:
        """``f(x, *params)``."""
        if self.labelled is None or isinstance(params, Tracer):
            return f(self.array, *params)
        try:
            return f(self.labelled, *params)
        except TypeError:  # a function of jax.numpy, which takes arrays alone
            return f(self.array, *params)


# x, y and sigma.
_Given: TypeAlias = tuple[Places, NDArray[Any], NDArray[Any] | None]


@contextmanager
def unchanged(xdata: Places) -> Generator[None, None, None]:
    """Raise ValueError if a function that is called meanwhile changes x in place."""
    array = xdata.array
    before = array.copy() if isinstance(array, np.ndarray) and array.dtype.kind in "fiub" else None
    yield
    if before is not None and not np.array_equal(before, array, equal_nan=True):
        raise ValueError(
            "f or jac changed xdata in place (as x *= 2 does), so that each call was of other "
            "data. Let it make a new array: x = 2 * x."
        )


def by_names(
    names: Sequence[str] | None, p0: Any, bounds: BoundsLike
) -> tuple[Any, tuple[Any, ...]]:
    """Starting parameters and bounds in the model's order, where they have names.

    Raises
    ------
    ValueError
        For names that the model does not have.
    """
    p0 = _vector(names, no_mask(p0, "p0"), "p0")
    return p0, tuple(_vector(names, no_mask(side, "bounds"), "bounds") for side in pair(bounds))


def _vector(names: Sequence[str] | None, values: NDArray[Any], what: str):
    values = by_name(values)
    if not isinstance(values, dict):
        return plain(values)
    if names is None:
        raise ValueError(
            f"{what} has names, {list(values)}, and the model does not name as many parameters; "
            "pass an array."
        )
    return np.array(in_order(values, names, what))


def check_keywords(kwargs: dict[str, Any], with_terms: bool) -> None:
    """Raise TypeError for a keyword of another method or another name, and say which is meant.

    Raises
    ------
    ValueError
        For 'args', as SciPy's.
    """
    if "args" in kwargs:
        raise ValueError("'args' is not a supported keyword argument of curve_fit.")
    for name in kwargs:
        known = name in Bounded.__dataclass_fields__
        if known and not with_terms and name not in _LM:
            raise TypeError(
                f"curve_fit takes {name}= with method='trf' (or with bounds): pass that too, or "
                f"leave {name} out."
            )
        if not known and name not in _LM:
            raise TypeError(unknown_keyword("curve_fit", name))


def check_model_shape(shape: tuple[int, ...], expected: tuple[int, ...], axes: int) -> None:
    """Raise ValueError unless a model's values go with ydata, as NumPy broadcasts them.

    Parameters
    ----------
    shape, expected : tuple of int
        Of the values, and of ydata.
    axes : int
        Of xdata: a model of several variables has one value per point.
    """
    if shape == expected or expected in ((), (1,)) or (shape in ((), (1,)) and axes <= 1):
        return
    raise ValueError(
        f"f(xdata, ...) must have ydata's shape {expected}, got {shape}. "
        "Do xdata and ydata have the same length?"
    )


def as_data(
    xdata: Any, ydata: Any, sigma: Any, check_finite: bool | None, nan_policy: str | None
) -> _Given:
    """Data in float64 without masked points, checked for NaN as asked.

    Returns
    -------
    xdata : Places
    ydata : array
    sigma : array or None

    Raises
    ------
    ValueError, TypeError
        For no data, complex ones, and NaN where they are not allowed.
    """
    if check_finite is None:
        check_finite = nan_policy is None
    dims = Dims.of(ydata)
    leaf, sigma = dims.of_x(xdata), dims.like_ydata(sigma, "sigma")
    places = _places(leaf.array if isinstance(leaf, Leaf) else leaf)
    ydata, sigma = _floats(ydata, "ydata"), None if sigma is None else _floats(sigma, "sigma")
    if ydata.size == 0:
        raise ValueError("`ydata` must not be empty!")
    data = _cut(places, ydata, sigma, ~_masked(places, ydata, sigma), "are masked")
    if check_finite:
        for name, values in (("xdata", data[0].array), ("ydata", data[1])):
            if isinstance(values, np.ndarray):
                _check_finite(name, values)
    elif nan_policy is not None:
        return _apply_nan_policy(*data, nan_policy)
    return data


def _floats(value: Any, name: str) -> Any:
    """Numbers as a float64 array, with its mask if it has one."""
    if isinstance(value, (list, tuple)) and any(isinstance(v, np.ma.MaskedArray) for v in value):
        value = np.ma.array(value)
    array = plain(value)
    array = array if isinstance(array, np.ma.MaskedArray) else np.asarray(array)
    if array.dtype.kind == "c" and name != "xdata":
        raise TypeError(
            f"{name} must be real, got dtype {array.dtype}. Fit real and imaginary parts as two "
            "halves: np.concatenate([z.real, z.imag]), of the model's values too."
        )
    return array if array.dtype.kind == "c" else array.astype(float, copy=False)


def _places(xdata: Any) -> Places:
    if isinstance(xdata, (list, tuple, np.ndarray, jax.Array)):
        return Places(_floats(xdata, "xdata"))
    if is_table(xdata):
        return Places(for_jax(xdata), xdata)
    array = plain(xdata)
    if array is xdata:
        return Places(xdata)
    return Places(
        _floats(array, "xdata"), xdata.astype(float) if hasattr(xdata, "astype") else None
    )


def _masked(places: Places, ydata: NDArray[Any], sigma: NDArray[Any] | None) -> NDArray[Any]:
    """Which points are masked in anything that is given."""
    bad: NDArray[Any] = np.ma.getmaskarray(ydata)
    if sigma is not None and sigma.shape == ydata.shape:
        bad = bad | np.ma.getmaskarray(sigma)
    if isinstance(places.array, np.ma.MaskedArray):
        bad = bad | _any_variable(np.ma.getmaskarray(places.array), ydata.shape)
    return bad


def _any_variable(bad: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Points, along the last axis, of which one variable is bad."""
    if bad.shape[-1:] != shape:
        if bad.any():
            raise ValueError(
                f"xdata of shape {bad.shape} has masked or NaN elements; which of ydata's points "
                f"{shape} they are can't be told. Its last axis must be that of the points."
            )
        return np.zeros(shape, bool)
    return np.asarray(bad.any(axis=tuple(range(bad.ndim - 1))))


def _cut(
    places: Places, ydata: NDArray[Any], sigma: NDArray[Any] | None, keep: NDArray[Any], why: str
) -> _Given:
    """The data at some points, as plain arrays."""
    x = places.array
    masks = any(isinstance(v, np.ma.MaskedArray) for v in (x, ydata, sigma))
    if not masks and keep.all():
        return places, ydata, sigma
    if not keep.any():
        raise ValueError(f"`ydata` must not be empty: all of its points {why}.")
    if keep.all():
        cut = Places(np.ma.getdata(x) if isinstance(x, np.ndarray) else x, places.labelled)
    elif isinstance(x, np.ndarray) and x.shape[-1:] == keep.shape:
        cut = Places(np.ma.getdata(x)[..., keep])
    elif is_table(places.labelled):
        cut = _places(places.labelled[keep])
    else:
        raise ValueError(
            f"points {why}, and xdata is no array with these as its last axis: leave them out of "
            "xdata, ydata and sigma yourself."
        )
    if sigma is not None:
        whole = no_mask(sigma, "sigma") if sigma.shape != keep.shape else sigma
        values: NDArray[Any] = np.ma.getdata(whole)
        for axis in range(values.ndim):
            if values.shape[axis] == keep.size:
                values = np.compress(keep, values, axis=axis)
        sigma = values
    return cut, np.ma.getdata(ydata)[keep], sigma


def _check_finite(name: str, values: NDArray[Any]) -> None:
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise ValueError(
            f"array must not contain infs or NaNs: {name} has {bad} of {values.size}. Remove them, "
            "or pass check_finite=False with nan_policy='omit'."
        )


def _apply_nan_policy(
    places: Places, ydata: NDArray[Any], sigma: NDArray[Any] | None, nan_policy: str
) -> _Given:
    if nan_policy == "propagate":
        raise ValueError("`nan_policy='propagate'` is not supported by this function.")
    if nan_policy not in ("raise", "omit"):
        raise ValueError(f"nan_policy must be one of {{None, 'raise', 'omit'}}, got {nan_policy!r}")
    bad = np.isnan(ydata)
    if isinstance(places.array, np.ndarray):
        bad = bad | _any_variable(np.isnan(places.array), ydata.shape)
    if not bad.any():
        return places, ydata, sigma
    if nan_policy == "raise":
        raise ValueError("The input contains nan values")
    return _cut(places, ydata, sigma, ~bad, "are NaN")
