"""Arrays of many problems that are read a block at a time."""

import math
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.views import in_numpy, joined

__all__ = ["Source", "check_open", "converted", "rectangles"]

# Packages whose arrays several threads may read at once.  netCDF4, for one, may crash.
SAFE_PACKAGES = ("numpy", "jax", "jaxlib", "h5py", "zarr")
# Problems between two that are wanted which are read rather than left out.
GAP = 8

OURS = __name__.split(".")[0]

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Source:
    """An array with the batch in front, as a list of problems.

    Attributes
    ----------
    array : object
        Anything with `shape` and slicing along its first axes: NumPy, JAX, memmap, HDF5, zarr.
        What is not of a package that is known to be safe is read by one thread at a time.
    batch : tuple of int
        The leading axes that count problems; () for one problem.
    dtype : dtype
        What blocks are converted to.
    index : (k,) int array, optional
        The problems, counted through the batch in C order; all of them if not given.
    """

    array: Any
    batch: tuple[int, ...]
    dtype: np.dtype[Any]
    index: NDArray[Any] | None = None

    @property
    def tail(self) -> tuple[int, ...]:
        """Shape of one problem's part."""
        return tuple(self.array.shape[len(self.batch) :])

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Problems `first` to `last`, as (k, ...)."""
        if self.index is None:
            rows = self._rows(first, last)
        elif not self.batch or len(self.index[first:last]) == 0:
            rows = self._rows(0, 1)[self.index[first:last]]
        elif isinstance(self.array, np.ndarray):
            rows = self.array[np.unravel_index(self.index[first:last], self.batch)]
        else:
            rows = self._chosen(self.index[first:last])
        return np.ascontiguousarray(converted(rows, self.dtype))

    def _chosen(self, index):
        """Problems anywhere, by reading runs of those that are near each other."""
        places, inverse = np.unique(index, return_inverse=True)
        ends = np.flatnonzero(np.diff(places) > GAP) + 1
        parts = []
        for run in np.split(places, ends):
            parts.append(self._rows(run[0], run[-1] + 1)[run - run[0]])
        return joined(parts)[inverse]

    def _rows(self, first, last):
        """A range of problems, as they are stored."""
        whole = isinstance(self.array, np.ndarray) and self.array.flags.c_contiguous
        if whole and self.batch:
            return self.array.reshape(-1, *self.tail)[first:last]
        boxes = rectangles(self.batch, int(first), int(last)) if self.batch else [(slice(None),)]
        with nullcontext() if _is_safe(self.array) else _one_at_a_time:
            # Along the first axis alone where that is enough: all sources can do that.
            parts = [
                in_numpy(self.array[box[0] if len(box) == 1 else box]).reshape(-1, *self.tail)
                for box in boxes
            ]
        return parts[0] if len(parts) == 1 else joined(parts)


def rectangles(shape: tuple[int, ...], first: int, last: int) -> list[tuple[slice, ...]]:
    """Boxes that hold the elements `first` to `last` of an array, counted in C order.

    Parameters
    ----------
    shape : tuple of int
    first, last : int

    Returns
    -------
    list of tuples of slices
        Of the leading axes; those that follow are whole.  One box less than twice the number
        of axes at most, in the order of their elements.

    Examples
    --------
    >>> rectangles((3, 4), 2, 8)
    [(slice(0, 1, None), slice(2, 4, None)), (slice(1, 2, None),)]
    """
    if len(shape) == 1:
        return [(slice(first, last),)]
    inner = math.prod(shape[1:])
    (low, skipped), (high, begun) = divmod(first, inner), divmod(last, inner)

    def inside(row, first, last):
        return [(slice(row, row + 1), *box) for box in rectangles(shape[1:], first, last)]

    if low == high:
        return inside(low, skipped, begun)
    head = inside(low, skipped, inner) if skipped else []
    low += bool(skipped)
    middle = [(slice(low, high),)] if low < high else []
    return head + middle + (inside(high, 0, begun) if begun else [])


def check_open(array: Any, name: str) -> None:
    """Raise ValueError, with the argument's name, for a dataset of a closed HDF5 file."""
    array = _innermost(array)
    if _package(array) == "h5py" and not array:
        raise ValueError(
            f"{name} can't be read: its HDF5 file is closed. Keep it open while there is a "
            "question to the result, or pass an array, such as dataset[:]."
        )


def converted(array: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array in another type, without a mask: what it covers is NaN, or False."""
    if not isinstance(array, np.ma.MaskedArray):
        return np.asarray(array, dtype)
    out = np.full(array.shape, np.nan if dtype.kind == "f" else 0, dtype)
    live = ~np.ma.getmaskarray(array)
    out[live] = np.ma.getdata(array)[live]
    return out


def _package(array):
    return type(array).__module__.split(".")[0]


def _innermost(array):
    """What an array that is computed block by block (`jaxlsq.problem.views.View`) reads."""
    while _package(array) == OURS:
        array = array.array
    return array


def _is_safe(array):
    array = _innermost(array)
    return isinstance(array, (np.ndarray, jax.Array)) or _package(array) in SAFE_PACKAGES
