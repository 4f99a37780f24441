"""What the axes of a batch, and the data sets along them, are called."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.alignment import aligned
from jaxlsq.problem.containers import is_table
from jaxlsq.problem.tables import cells_of, keys_of
from jaxlsq.problem.types import Batch

__all__ = ["Coord", "Labels"]


class Coord(NamedTuple):
    """A coordinate of data sets: the dims along which it varies, its values, what it is in."""

    dims: tuple[str, ...]
    values: NDArray[Any]
    attrs: dict[str, Any]


@dataclass(frozen=True)
class Labels:
    """Names of a batch's axes, and coordinates along them.

    Attributes
    ----------
    dims : tuple of str
        Of each axis.
    sizes : tuple of int
    coords : dict of Coord
    places : int array, optional
        The data sets that are meant, counted through the batch in C order, in the shape in which
        they are; all of them if not given.
    """

    dims: tuple[str, ...]
    sizes: Batch
    coords: dict[str, Coord]
    places: NDArray[Any] | None = None

    @classmethod
    def of(cls, ydata: Any, axis: int = -1) -> Self | None:
        """Those of data, whose points are along an axis; None where they have no labels."""
        if hasattr(ydata, "dims") and hasattr(ydata, "coords"):
            return cls._of_named(ydata, axis)
        keys = keys_of(ydata, axis)
        if keys is not None:
            return cls._of_index(keys)
        _, columns = cells_of(ydata)
        if columns:
            size = len(next(iter(columns.values())))
            coords = {name: Coord(("fit",), values, {}) for name, values in columns.items()}
            return cls(("fit",), (size,), coords)
        if is_table(ydata) and axis == 0:  # of polars: a data set in each column
            return cls._of_names(list(ydata.columns))
        if isinstance(ydata, (list, tuple)):
            return cls._of_names([getattr(one, "name", None) for one in ydata])
        return None

    @classmethod
    def _of_named(cls, array, axis):
        """Of an xarray DataArray."""
        dims = [str(dim) for dim in array.dims]
        sizes = list(array.shape)
        del dims[axis], sizes[axis]
        coords = {
            str(name): Coord(tuple(map(str, one.dims)), np.asarray(one), dict(one.attrs))
            for name, one in array.coords.items()
            if set(map(str, one.dims)) <= set(dims)
        }
        return cls(tuple(dims), tuple(sizes), coords)

    @classmethod
    def _of_index(cls, index):
        """Of a pandas index: one axis, and a coordinate for each level."""
        names = [str(name) if name is not None else None for name in index.names]
        only = len(names) == 1
        dim = (names[0] if only else None) or "fit"
        coords = {}
        for level, name in enumerate(names):
            values = index if only else index.get_level_values(level)
            name = name or (dim if only else f"level_{level}")
            coords[name] = Coord((dim,), np.asarray(values), {})
        return cls((dim,), (len(index),), coords)

    @classmethod
    def _of_names(cls, names):
        """Of a list of Series that have a name each."""
        if not names or not all(isinstance(name, str) for name in names):
            return None
        if len(set(names)) < len(names):
            return None
        return cls(("fit",), (len(names),), {"fit": Coord(("fit",), np.array(names), {})})

    @classmethod
    def numbered(cls, sizes: Batch) -> Self:
        """Of data without labels: the axes have numbers, if there are several."""
        several = len(sizes) > 1
        return cls(tuple(f"fit_{k}" if several else "fit" for k in range(len(sizes))), sizes, {})

    @property
    def shape(self) -> Batch:
        """Of the data sets that are meant."""
        return self.sizes if self.places is None else self.places.shape

    def take(self, places: NDArray[Any]) -> Self:
        """Of some of them, by their flat places."""
        places = places if self.places is None else self.places.reshape(-1)[places]
        return replace(self, places=places)

    def of_each(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Coordinates of each data set, flat: those that say which it is, and all others.

        An axis without coordinates is counted.
        """
        every = np.arange(math.prod(self.sizes)) if self.places is None else self.places
        where = self._where(every.reshape(-1))
        keys = {}
        for dim in self.dims:
            along = [name for name, one in self.coords.items() if one.dims == (dim,)]
            names = [dim] if dim in self.coords or not along else along
            keys |= {n: self._at(self.coords[n], where) for n in names if n in self.coords}
            keys |= {dim: where[dim]} if names == [dim] and dim not in self.coords else {}
        others = {n: self._at(one, where) for n, one in self.coords.items() if n not in keys}
        return keys, others

    def keys(self) -> list[Any] | None:
        """What the data sets along one axis are called; None where they are not, or along more."""
        found, _ = self.of_each()
        if len(self.shape) != 1 or not set(found) <= set(self.coords):
            return None
        columns = [
            values.tolist() if values.dtype.kind != "M" else list(values)
            for values in found.values()
        ]
        return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))

    def of_fits(self, value: Any, name: str) -> Any:
        """A value for each fit, an xarray DataArray, as an array with the batch's axes.

        Anything else is returned as it is.

        Raises
        ------
        ValueError
            For other dims than the batch has, or other labels.
        """
        if not (hasattr(value, "dims") and hasattr(value, "indexes")) or not value.dims:
            return value
        grid, own = self.grid(), tuple(map(str, value.dims))
        if set(own) != set(grid.dims) and own != grid.dims[: len(own)]:
            raise ValueError(
                f"{name} has the dims {list(value.dims)}, and the batch {list(grid.dims)}; make "
                "them alike, or pass .values to take it by position."
            )
        import pandas as pd  # which xarray needs

        labels = {
            dim: pd.Index(grid.coords[str(dim)].values)
            for dim in value.dims
            if str(dim) in grid.coords and grid.coords[str(dim)].dims == (str(dim),)
        }
        ordered = sorted(value.dims, key=lambda dim: grid.dims.index(str(dim)))
        return np.asarray(aligned(value, labels, name).transpose(*ordered))

    def _where(self, places):
        """Positions along each of the axes."""
        if not self.dims:
            return {}
        return dict(zip(self.dims, np.unravel_index(places, self.sizes), strict=True))

    @staticmethod
    def _at(coord, where):
        if not coord.dims:
            size = next(iter(where.values())).shape if where else ()
            return np.broadcast_to(coord.values, size)
        return np.asarray(coord.values[tuple(where[dim] for dim in coord.dims)])

    def grid(self) -> Self:
        """The same with its own axes: every dim that is left, or new ones that are counted.

        An axis keeps its dim where the data sets differ along it in that dim alone.
        """
        if self.places is None:
            return self
        where = self._where(self.places)
        dims, kept = [], []
        for axis in range(self.places.ndim):
            along = [dim for dim in self.dims if _varies(where[dim], axis)]
            plain = len(along) == 1 and not any(
                _varies(where[along[0]], other)
                for other in range(self.places.ndim)
                if other != axis
            )
            dims.append(along[0] if plain else None)
            kept += along[:1] if plain else []
        free = iter([dim for dim in self.dims if dim not in kept and dim not in self._mixed(where)])
        names = self.numbered(self.places.shape).dims
        dims = tuple(
            dim or (next(free, name) if size == 1 else name)
            for dim, name, size in zip(dims, names, self.places.shape, strict=True)
        )
        coords = {}
        for name, one in self.coords.items():
            coords[name] = _along(self._at(one, where), dims, one)
        return type(self)(dims, self.places.shape, coords)

    @staticmethod
    def _mixed(where):
        """Dims along which the data sets differ in some axis."""
        return {
            dim
            for dim, positions in where.items()
            if any(_varies(positions, axis) for axis in range(positions.ndim))
        }

    @classmethod
    def joined(cls, parts: Sequence[Self | None]) -> Self | None:
        """Of batches one after the other along the first axis; None where they do not fit."""
        grids = [part and part.grid() for part in parts]
        first = grids[0]
        if first is None or any(g is None or g.dims != first.dims for g in grids):
            return None
        if any(set(g.coords) != set(first.coords) for g in grids if g is not None):
            return None
        lead, coords = first.dims[0], {}
        for name, one in first.coords.items():
            each = [g.coords[name] for g in grids if g is not None]
            if any(other.dims != one.dims for other in each):
                return None
            if lead in one.dims:
                axis = one.dims.index(lead)
                values = np.concatenate([other.values for other in each], axis=axis)
            elif all(np.array_equal(other.values, one.values) for other in each):
                values = one.values
            elif name in first.dims:
                return None
            else:
                continue
            coords[name] = Coord(one.dims, values, one.attrs)
        total = sum(g.sizes[0] for g in grids if g is not None)
        return cls(first.dims, (total, *first.sizes[1:]), coords)


def _along(values, dims, coord):
    """A coordinate with its own dims, as far as they are left, and those its values differ in."""
    keep = [axis for axis, dim in enumerate(dims) if dim in coord.dims or _varies(values, axis)]
    index = tuple(slice(None) if axis in keep else 0 for axis in range(values.ndim))
    return Coord(tuple(dims[axis] for axis in keep), values[index], coord.attrs)


def _varies(values, axis):
    """Whether values of any type differ along an axis."""
    return values.shape[axis] > 1 and bool(np.any(values != np.take(values, [0], axis=axis)))
