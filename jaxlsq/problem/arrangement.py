"""How what comes after the data is brought into their order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from jaxlsq.problem.axis import points_last
from jaxlsq.problem.dims import Dims
from jaxlsq.problem.tables import in_order, points_in_order, points_of
from jaxlsq.problem.types import BoundsLike

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
    """

    axis: int
    shape: tuple[int, ...]
    keys: Any
    points_of_each: int | None
    dims: Dims

    @classmethod
    def of(cls, raw: Any, arranged: Any, axis: int, keys: Any) -> Self:
        """Of data as they were given, and with the points last."""
        shape = tuple(np.shape(raw)) if axis >= 0 else ()
        points = None if keys is None else points_of(raw, axis)
        return cls(axis, shape, keys, points, Dims.of(arranged))

    def points(self, value: Any, name: str) -> Any:
        """What broadcasts to `ydata`, with the points last."""
        if value is None:
            return None
        value = points_in_order(value, self.keys, self.points_of_each, self.axis, name)
        if self.axis not in (-1, len(self.shape) - 1):
            value = points_last(value, self.axis, name, self.shape)
        return self.dims.like_ydata(value, name)

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
