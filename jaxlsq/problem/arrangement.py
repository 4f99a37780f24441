"""What comes with the data, or after them, brought into their order."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import jax
import numpy as np

from jaxlsq.problem.axis import points_last
from jaxlsq.problem.dims import Dims
from jaxlsq.problem.rows import along_points, check_rows, labels_of_points
from jaxlsq.problem.tables import in_order, points_in_order, points_of
from jaxlsq.problem.types import BoundsLike, PyTree

__all__ = ["Arrangement"]


@dataclass(frozen=True)
class Arrangement:
    """The axes and the rows of `ydata` as the caller gave it.

    Attributes
    ----------
    axis : int
        Of the points; -1 for the last.
    shape : tuple of int
        With the points where they were.
    keys : pandas index, list or None
        What the data sets are called.
    points_of_each : int or None
        Of each of them; None where they differ, or are not called anything.
    dims : Dims
        With the points last.
    labels : pandas index or None
        What the points are called.
    """

    axis: int
    shape: tuple[int, ...]
    keys: Any
    points_of_each: int | None
    dims: Dims
    labels: Any = None

    @classmethod
    def of(cls, ydata: Any, axis: int, keys: Any) -> Self:
        """Of data as they were given."""
        shape = tuple(np.shape(ydata)) if axis >= 0 else ()
        points = None if keys is None else points_of(ydata, axis)
        labels = labels_of_points(ydata, axis)
        by_position = cls(axis, shape, keys, points, Dims.of(None), labels)
        return replace(by_position, dims=Dims.of(by_position.ydata(ydata)))

    def ydata(self, ydata: Any) -> Any:
        """The data with the points last."""
        return points_last(ydata, self.axis, "ydata") if self._moves else ydata

    @property
    def _moves(self) -> bool:
        return self.axis not in (-1, len(self.shape) - 1)

    def _points_last(self, value: Any, name: str) -> Any:
        """An array with the points last, if it has the axes of the data."""
        return points_last(value, self.axis, name, self.shape) if self._moves else value

    def points(self, value: Any, name: str) -> Any:
        """What broadcasts to `ydata`, with the points last."""
        if value is None:
            return None
        value = points_in_order(value, self.keys, self.points_of_each, self.axis, name)
        return self.dims.like_ydata(self._of_points(value, name), name)

    def _of_points(self, value: Any, name: str, keys: Any = None) -> Any:
        """A table or a Series in the order of the points, with those last."""
        return self._points_last(self._along_points(value, name, keys), name)

    def _along_points(self, value: Any, name: str, keys: Any = None) -> Any:
        """A table or a Series in the order of the points, of which there may be one data set."""
        if self.keys is None:
            check_rows(value, self.labels, name)
            return value
        return along_points(value, self.labels, self.axis, keys)

    def _x(self, leaf: Any) -> Any:
        """An array of x; a table of it has a row for each data set, as ydata has."""
        keys = self.keys if hasattr(self.keys, "get_indexer") else None
        return self._of_points(leaf, "xdata", keys)

    def xdata(self, xdata: PyTree) -> PyTree:
        """The arrays of x, with the points last in those that have the axes of the data."""
        return self.dims.of_x(jax.tree.map(self._x, xdata))

    def xsigma(self, xsigma: Any, xdata: PyTree) -> Any:
        """Standard deviations of the arrays of `xdata`, likewise."""
        xsigma = points_in_order(xsigma, self.keys, self.points_of_each, self.axis, "xsigma")
        structure = jax.tree.structure(xdata)
        try:
            leaves = structure.flatten_up_to(xsigma)
        except (ValueError, TypeError):  # of another structure, which is said where both are read
            return xsigma
        leaves = [one if one is None else self._of_points(one, "xsigma") for one in leaves]
        return self.dims.of_xsigma(jax.tree.unflatten(structure, leaves))

    def bounds(self, bounds: BoundsLike) -> BoundsLike:
        """Bounds by position, or by the names of parameters."""
        if isinstance(bounds, (tuple, list)):
            bounds = type(bounds)(in_order(side, self.keys, "bounds") for side in bounds)
        return self.dims.of_bounds(in_order(bounds, self.keys, "bounds"))

    def parameters(self, value: Any, name: str) -> Any:
        """Values for each parameter by position, or by name."""
        return self.dims.of_parameters(in_order(value, self.keys, name), name)

    @staticmethod
    def lost(value: Any, name: str) -> Any:
        """A value for some of the fits, which are no longer in the order of `ydata`'s dims.

        Raises
        ------
        TypeError
            Where it has dims of its own.
        """
        parts = list(value.values()) if isinstance(value, Mapping) else [value]
        parts += [side for part in parts if isinstance(part, (tuple, list)) for side in part]
        if any(hasattr(part, "dims") and getattr(part, "ndim", 0) for part in parts):
            raise TypeError(
                f"{name} has dims, and these are some of the fits, without theirs: pass .values."
            )
        return value
