"""Arrays as users hold them: masked arrays, Series and tables, arrays with named dims.

None of the libraries that make them is imported: what counts is what an object offers.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.chunks import Chunked
from jaxlsq.problem.sources import check_open
from jaxlsq.problem.views import View

__all__ = [
    "as_array_like",
    "by_name",
    "check_one_array",
    "is_masked",
    "is_real",
    "is_table",
    "native",
    "no_mask",
    "plain",
]


def is_real(dtype: Any) -> bool:
    """Whether a NumPy dtype is of real numbers, those of `ml_dtypes` among them."""
    return np.dtype(dtype).kind in "fiub" or bool(jnp.issubdtype(dtype, jnp.floating))


def as_array_like(value: Any, name: str) -> Any:
    """What has a shape, a NumPy dtype and slices by position as it is; all else as an array.

    Raises
    ------
    TypeError, ValueError
        For what is no array of real numbers.
    """
    check_open(value, name)
    check_one_array(value, name)
    if isinstance(value, View):
        return value
    given = value
    if not _reads_by_position(value):
        value = _in_memory(value, name)
    elif not isinstance(value, (np.ndarray, jax.Array)) and value.shape and value.shape[0]:
        value = MaskedView(value) if _is_ma(value[0:1]) else Chunked.of(value)
    if not is_real(value.dtype):
        raise TypeError(f"{name} must be an array of real numbers, {_got(given, value.dtype)}")
    return value


def _got(value, dtype):
    """What came in the place of real numbers, and what to do; the end of a sentence."""
    if dtype.kind == "O" and not hasattr(value, "dtype"):
        return f"got {'None' if value is None else type(value).__name__}."
    hint = ""
    if dtype.kind == "O":
        hint = " If they are numbers, say of which type: .astype(float)."
    elif dtype.kind in "mM":
        start = " - x[0]" if dtype.kind == "M" else ""
        hint = f" Pass numbers in a unit that you choose, such as (x{start}) / timedelta64(1, 's')."
    elif dtype.kind == "c":
        hint = " Fit real and imaginary parts as two halves of ydata."
    elif dtype.kind in "SU":
        hint = " Make numbers of the texts first."
    return f"got dtype {dtype}.{hint}"


def check_one_array(value: Any, name: str) -> None:
    """Raise TypeError for a Dataset."""
    if hasattr(value, "data_vars"):
        names = [str(key) for key in value.data_vars]
        raise TypeError(f"{name} is a Dataset with the variables {names}; choose one.")


def _reads_by_position(value):
    if isinstance(value, (np.ndarray, jax.Array)):
        return True
    if not all(hasattr(value, name) for name in ("shape", "dtype", "__getitem__")):
        return False
    if hasattr(value, "iloc"):  # pandas: slices by label, perhaps
        return False
    try:
        np.dtype(value.dtype)
    except TypeError:  # polars, torch: a dtype of their own
        return False
    return True


def _in_memory(value, name):
    try:
        if isinstance(value, (list, tuple)) and any(map(_is_ma, value)):
            return np.ma.array(value)
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise type(error)(f"{name} must be an array: {reason}") from None
    to_numpy = getattr(value, "to_numpy", None)
    if array.dtype == object and to_numpy is not None:  # missing values of a Series
        if any(isinstance(cell, (str, bytes)) for cell in array.flat):
            return array
        try:
            return to_numpy(dtype=float, na_value=np.nan)
        except (TypeError, ValueError):
            return array
    return array


# --- masks -------------------------------------------------------------------


class MaskedView(View):
    """What is read in blocks that are masked arrays (a netCDF4 variable)."""

    def __getitem__(self, index: Any) -> np.ma.MaskedArray[Any, Any]:
        return np.ma.asarray(self.array[index])


def is_masked(value: Any) -> bool:
    """Whether an array, or a block of one that `as_array_like` gave, has a mask."""
    return isinstance(value, (np.ma.MaskedArray, MaskedView))


def _is_ma(value):
    return isinstance(value, np.ma.MaskedArray)


def no_mask(value: Any, name: str) -> Any:
    """Raise ValueError for a masked array with masked elements, where those mean nothing."""
    if isinstance(value, (list, tuple)) and any(map(_is_ma, value)):
        value = np.ma.array(value)
    if isinstance(value, MaskedView):
        value = value[0 : value.shape[0]]
    count = np.count_nonzero(np.ma.getmaskarray(value)) if _is_ma(value) else 0
    if count:
        raise ValueError(
            f"{name} has {count} masked elements of {np.size(value)}; fill them, "
            f"{name}.filled(value)."
        )
    return value


# --- names -------------------------------------------------------------------


def is_table(value: Any) -> bool:
    """Whether a value is a DataFrame: columns with names, and rows."""
    return hasattr(value, "columns") and hasattr(value, "__getitem__") and _ndim(value) == 2


def by_name(value: Any) -> Any:
    """A Series whose index are names, or a DataFrame whose columns are, as a dict of arrays.

    Anything else is returned as it is.
    """
    if is_table(value):
        names = list(value.columns)
        if names and all(isinstance(name, str) for name in names):
            return {name: np.asarray(value[name]) for name in names}
    elif hasattr(value, "iloc") and hasattr(value, "index") and _ndim(value) == 1:
        names = list(value.index)
        if names and all(isinstance(name, str) for name in names):
            return dict(zip(names, np.asarray(value), strict=True))
    return value


def _ndim(value):
    return len(getattr(value, "shape", ()))


# --- one value for one call of a user's function ------------------------------


def plain(value: Any) -> Any:
    """A Series, DataArray or the like of numbers as a NumPy array; anything else as it is.

    JAX takes no such objects.  Tables are left: their columns have names that a model may use.
    """
    if isinstance(value, np.ndarray):
        return native(value)
    if isinstance(value, (jax.Array, np.generic)) or is_table(value):
        return value
    if not all(hasattr(value, name) for name in ("__array__", "shape", "dtype")):
        return value
    array = _in_memory(value, "the argument")
    return array if is_real(array.dtype) else value


def native(value: Any) -> Any:
    """An array of NumPy's in a type that JAX has too; anything else as it is.

    That is not the case of the other order of bytes, as in FITS files, and of long doubles.
    """
    if not isinstance(value, (np.ndarray, np.generic)) or value.dtype.kind not in "fiu":
        return value
    dtype = value.dtype.newbyteorder("=")
    dtype = dtype if dtype.itemsize <= 8 else np.dtype(np.float64)
    return value if value.dtype == dtype else value.astype(dtype)


def for_jax(value: Any) -> Any:
    """A user's argument as JAX takes it: `plain`, and a table by its columns."""
    return Columns(value) if is_table(value) else plain(value)


@dataclass(frozen=True)
class Columns:
    """A table whose columns are arrays, and in all else itself."""

    table: Any

    def __getitem__(self, key: Any) -> Any:
        return plain(self.table[key])

    def __getattr__(self, name: str) -> Any:
        return plain(getattr(self.table, name))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.table, dtype)
