"""Which axis of the data is that of their points."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxlsq.problem.chunks import Chunked, rows_of_chunks
from jaxlsq.problem.containers import as_array_like
from jaxlsq.problem.views import View, in_numpy

__all__ = ["axis_of", "points_last"]


@dataclass(frozen=True)
class _Moved(View):
    """An array with one of its axes last, read block by block.

    Attributes
    ----------
    axis : int
        Which one, from zero on.
    """

    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        """With the axis last."""
        shape = super().shape
        return (*shape[: self.axis], *shape[self.axis + 1 :], shape[self.axis])

    @property
    def chunks(self) -> Any:
        """Those of the array, with the axis last, or None."""
        chunks: Any = getattr(self.array, "chunks", None)
        if rows_of_chunks(self.array) is None:
            return None
        return (*chunks[: self.axis], *chunks[self.axis + 1 :], chunks[self.axis])

    def __getitem__(self, index: Any) -> Any:
        index = index if isinstance(index, tuple) else (index,)
        before, after = index[: self.axis], index[self.axis :]
        before += (slice(None),) * (self.axis - len(before))
        rows = in_numpy(self.array[(*before, slice(None), *after)])
        return np.moveaxis(rows, self.axis, -1)


def axis_of(axis: Any, ydata: Any) -> int:
    """The axis of the points, from zero on, of a number or of the name of a dim.

    The last one, which is the default, is -1.

    Raises
    ------
    ValueError, TypeError
        For an axis that `ydata` does not have.
    """
    if isinstance(axis, int) and axis == -1:
        return -1
    shape = tuple(ydata.shape) if hasattr(ydata, "shape") else np.shape(ydata)
    dims = tuple(getattr(ydata, "dims", ()))
    if axis in dims:
        return dims.index(axis)
    if isinstance(axis, str):
        have = f"has the dims {dims}" if dims else "has no named dims"
        raise ValueError(f"axis must be one of ydata's, which {have}; got {axis!r}.")
    try:
        number = range(len(shape))[axis]
    except (TypeError, IndexError):
        raise (ValueError if isinstance(axis, (int, np.integer)) else TypeError)(
            f"axis must be a number from {-len(shape)} to {len(shape) - 1}, or the name of a dim: "
            f"ydata has the shape {shape}; got {axis!r}."
        ) from None
    return number


def points_last(value: Any, axis: int, name: str, like: tuple[int, ...] | None = None) -> Any:
    """An array with an axis moved to the end, without a copy.

    Parameters
    ----------
    value : array-like
    axis : int
        From zero on.
    name : str
        For messages.
    like : tuple of int, optional
        The shape of `ydata`: what has not as many axes as that, or does not broadcast to it,
        stays as it is.
    """
    named = hasattr(value, "dims") and hasattr(value, "transpose")
    array = value if named else as_array_like(value, name)
    if like is not None and not _broadcasts(tuple(array.shape), like):
        return value
    if named:
        dims = list(value.dims)
        return value.transpose(*dims[:axis], *dims[axis + 1 :], dims[axis])
    if axis == len(array.shape) - 1:
        return array
    if isinstance(array, np.ndarray):
        return np.moveaxis(array, axis, -1)
    inner = array.array if isinstance(array, Chunked) else array
    return Chunked.of(_Moved(inner, axis))


def _broadcasts(shape, like):
    if len(shape) != len(like):
        return False
    return all(size in (1, whole) for size, whole in zip(shape, like, strict=True))
