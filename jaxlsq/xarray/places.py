"""Which dims of an array are those of the points, and what the model is given there."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import xarray as xr

from jaxlsq.problem.alignment import aligned, indexes_of

__all__ = ["as_dims", "check_dims", "numbers", "over_points"]


def as_dims(value: Any) -> list[Hashable]:
    """A dim, several or none, as a list."""
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value]
    return list(value)


def numbers(coord: xr.DataArray) -> xr.DataArray:
    """A coordinate as numbers.

    Raises
    ------
    TypeError
        For dates and time spans, whose unit is the caller's to choose, and for text.
    """
    if coord.dtype.kind in "mM":
        name = coord.name or "x"
        start = f" - {name}[0]" if coord.dtype.kind == "M" else ""
        raise TypeError(
            f"{name!r} has the type {coord.dtype}; say in which unit the model is to have it, for "
            f"example x=({name}{start}) / np.timedelta64(1, 's')."
        )
    if coord.dtype.kind not in "fiub":
        raise TypeError(f"{coord.name!r} must be of real numbers, got dtype {coord.dtype}.")
    return coord


def over_points(
    value: xr.DataArray, data: xr.DataArray, dims: Sequence[Hashable], name: str
) -> xr.DataArray:
    """A value at each point: with all the dims of the points, and those of its own.

    Along the points it is in the data's order; along the others xarray compares the labels.

    Raises
    ------
    ValueError
        For other labels of the points than the data's.
    """
    labels = {dim: index for dim, index in indexes_of(data).items() if dim in dims}
    value = aligned(value, labels, name)
    missing = [dim for dim in dims if dim not in value.dims]
    # Of `data.isel(time=0) > level` a number of that name is left.
    value = value.drop_vars([dim for dim in missing if dim in value.coords])
    value = value.expand_dims({dim: data.sizes[dim] for dim in missing})
    others = [dim for dim in value.dims if dim not in dims]
    return value.transpose(*others, *dims)


def check_dims(value: Any, allowed: Iterable[Hashable], message: str) -> None:
    """Raise ValueError for a DataArray with other dims; `message` has the place for them."""
    if not isinstance(value, xr.DataArray):
        return
    allowed = list(allowed)
    unexpected = tuple(dim for dim in value.dims if dim not in allowed)
    if unexpected:
        raise ValueError(message.format(unexpected=unexpected, allowed=allowed))
