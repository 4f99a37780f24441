"""Data sets of files, and what the user said of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jaxlsq.cli.text import Style
from jaxlsq.problem.containers import View
from jaxlsq.problem.labels import Coord, Labels

__all__ = ["Data", "Wanted", "labelled"]


@dataclass(frozen=True)
class Wanted:
    """What was said of the data; what is None was not.

    Attributes
    ----------
    x, y, sigma, xsigma : str, optional
        Names in the file or, but for y, values from elsewhere.
    group : tuple of str, optional
        Columns with the labels of data sets below each other.
    rows : bool, optional
        Whether rows are data sets, or columns.
    style : Style
        Of text files.
    """

    x: str | None = None
    y: str | None = None
    sigma: str | None = None
    group: tuple[str, ...] | None = None
    rows: bool | None = None
    style: Style = field(default_factory=Style)
    xsigma: str | None = None


@dataclass(frozen=True)
class Data:
    """Data sets as `jaxlsq.fit` takes them, and their labels.

    Attributes
    ----------
    name : str
        Of the file.
    x : array, or list of arrays
    y : array-like (..., m), or list of arrays
    sigma, xsigma : float, array, list of arrays or None
    labels : Labels, optional
        What the data sets are called.
    said : tuple of str
        How the file was understood.
    axis : int
        The axis of the points.
    """

    name: str
    x: Any
    y: Any
    sigma: Any
    labels: Labels | None
    said: tuple[str, ...]
    axis: int = -1
    xsigma: Any = None

    def __str__(self) -> str:
        sizes = {len(part) for part in self.y} if self.ragged else {self.y.shape[self.axis]}
        count = len(self.y) if self.ragged else math.prod(self.y.shape) // max(*sizes, 1)
        low, high = min(sizes), max(sizes)
        points = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        sets = "data set" if count == 1 else "data sets"
        return f"{self.name}: {count:,} {sets} of {points} points, {'; '.join(self.said)}"

    @property
    def ragged(self) -> bool:
        """Whether the data sets have different lengths."""
        return isinstance(self.y, list)

    def checked(self) -> Self:
        """The same, if x has as many points as the data.

        Raises
        ------
        ValueError
        """
        if self.ragged:
            return self
        m, shape = self.y.shape[self.axis], np.shape(self.x)
        if not math.prod(self.y.shape):
            raise ValueError(f"{self.name} has no data in it, of the shape {self.y.shape}.")
        if shape[-1:] != (m,) and shape != self.y.shape:
            other = " The other way round? --rows and --columns say which are the data sets."
            hint = other if shape[-1:] in (self.y.shape[:1], self.y.shape[-1:]) else ""
            raise ValueError(f"{self}; but x has the shape {shape}, not {m:,} points.{hint}")
        return self

    def in_float32(self) -> Self:
        """The same in single precision."""
        names = "x", "y", "sigma", "xsigma"
        return replace(self, **{name: _narrow(getattr(self, name)) for name in names})


def labelled(columns: dict[str, Sequence[str]]) -> Labels:
    """Labels along one axis, of one column or more."""
    dim = next(iter(columns)) if len(columns) == 1 else "fit"
    coords = {name: Coord((dim,), np.array(values), {}) for name, values in columns.items()}
    return Labels((dim,), (len(next(iter(columns.values()))),), coords)


class _Narrow(View):
    """An array in a file, in single precision."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.asarray(self.array[index], np.float32)


def _narrow(values: Any) -> Any:
    if values is None or isinstance(values, float):
        return values
    if isinstance(values, list):
        return [part.astype(np.float32) for part in values]
    in_memory = isinstance(values, np.ndarray) and not isinstance(values, np.memmap)
    return values.astype(np.float32) if in_memory else _Narrow(values)
