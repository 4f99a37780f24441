"""Arrays of many problems that are read a block at a time."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Source", "converted"]


@dataclass(frozen=True)
class Source:
    """An array with the batch in front, as a list of problems.

    Attributes
    ----------
    array : object
        Anything with `shape` and slicing along its first axis: NumPy, JAX, memmap, HDF5, zarr.
    batch : tuple of int
        The leading axes that count problems; () for one problem.
    dtype : dtype
        What blocks are converted to.
    index : (k,) int array, optional
        The problems, counted through the batch in C order; all of them if not given.
    """

    array: object
    batch: tuple
    dtype: np.dtype
    index: np.ndarray | None = None

    @property
    def tail(self):
        """Shape of one problem's part."""
        return tuple(self.array.shape[len(self.batch) :])

    def read(self, first, last):
        """Problems `first` to `last`, as (k, ...)."""
        if self.index is not None:
            rows = [self._read(i, i + 1)[0] for i in self.index[first:last]]
            rows = np.array(rows) if rows else np.empty(0)
            return converted(rows, self.dtype).reshape(len(rows), *self.tail)
        return self._read(first, last)

    def _read(self, first, last):
        if not self.batch:
            return converted(self._rows(slice(None)), self.dtype)[None]
        inner = int(np.prod(self.batch[1:]))
        low, high = first // inner, -(-last // inner)
        rows = self._rows(slice(low, high))
        flat = rows.reshape(-1, *self.tail)[first - low * inner : last - low * inner]
        return np.ascontiguousarray(converted(flat, self.dtype))

    def _rows(self, index):
        rows = self.array[index]
        return rows if isinstance(rows, np.ma.MaskedArray) else np.asarray(rows)


def converted(array, dtype):
    """An array in another type, without a mask: what it covers is NaN, or False."""
    if not isinstance(array, np.ma.MaskedArray):
        return np.asarray(array, dtype)
    out = np.full(array.shape, np.nan if dtype.kind == "f" else 0, dtype)
    live = ~np.ma.getmaskarray(array)
    out[live] = np.ma.getdata(array)[live]
    return out
