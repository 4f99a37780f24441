"""Which points of an array can be used: what is masked in it, or NaN, and what stands there."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.views import View, in_numpy

__all__ = ["Filled", "Known", "Unmasked", "filled", "known", "unmasked"]


def unmasked(values: NDArray[Any]) -> NDArray[Any]:
    """Where an array, masked or not, is not masked."""
    return ~np.ma.getmaskarray(values)


def known(values: NDArray[Any]) -> NDArray[Any]:
    """Where the points of an array, along its last axis, are not NaN; masked ones are known."""
    if np.dtype(values.dtype).kind in "iub":
        return np.ones(values.shape, bool)
    nan = np.isnan(np.ma.getdata(values))
    return ~nan | np.ma.getmaskarray(values)


def filled(values: NDArray[Any]) -> NDArray[Any]:
    """An array whose points that are masked or NaN have the value of the first that is neither.

    A model is finite there, and so are its derivatives, although they do not count.
    """
    good = unmasked(values) & known(values)
    data = np.ma.getdata(values)
    if good.all():
        return data
    first = np.argmax(good, axis=-1)[..., None]
    stand_in = np.where(good.any(axis=-1, keepdims=True), np.take_along_axis(data, first, -1), 1)
    return np.where(good, data, stand_in.astype(data.dtype))


class _Computed(View):
    """A `View` that NumPy can read whole."""

    def __getitem__(self, index: Any) -> NDArray[Any]:
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[: self.shape[0]] if self.shape else self[...], dtype)

    def _rows(self, index):
        return in_numpy(self.array[index])


class Unmasked(_Computed):
    """`unmasked` of an array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a mask."""
        return np.dtype(bool)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return unmasked(self._rows(index))


class Known(_Computed):
    """`known` of an array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a mask."""
        return np.dtype(bool)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return known(self._rows(index))


class Filled(_Computed):
    """`filled` of an array."""

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return filled(self._rows(index))
