"""Data sets as the groups of a table, its rows or columns, or one array in each cell of a column.

They have keys, by which other tables with a row for each data set are brought into their order.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.containers import as_array_like, is_table
from jaxlsq.problem.indexes import first_few, places_in
from jaxlsq.problem.rows import check_rows

__all__ = [
    "as_lists",
    "cells_of",
    "check_groups",
    "in_order",
    "is_grouped",
    "keys_of",
    "points_in_order",
    "points_of",
    "series_in_order",
]


def is_grouped(value: Any) -> bool:
    """Whether a value is a table, or a column of one, that was grouped (pandas' `groupby`)."""
    return all(hasattr(value, name) for name in ("ngroups", "groups", "obj", "__iter__"))


def as_lists(value: Any, name: str) -> Any:
    """A list of arrays from the groups of a column, or from a column of arrays.

    Anything else is returned as it is.

    Raises
    ------
    TypeError
        For a grouped table of several columns, or for cells that are not all arrays.
    """
    if is_grouped(value):
        if len(value.obj.shape) != 1:
            columns = list(value.obj.columns)
            raise TypeError(
                f"{name} is a grouped table with the columns {columns}; choose one, for example "
                f"groups[{columns[-1]!r}]."
            )
        # A category without rows is no data set.
        return [group.to_numpy() for _, group in value if len(group)]
    value = cells_of(value)[0]
    if not _is_nested(value):
        return value
    cells = list(value)
    for number, cell in enumerate(cells):
        if np.ndim(cell) != 1:
            raise TypeError(f"{name} must hold an array in each cell; cell {number} has {cell!r}.")
    return [np.asarray(cell) for cell in cells]


def cells_of(value: Any) -> tuple[Any, dict[str, NDArray[Any]]]:
    """The one column of arrays of a table without an index (polars), and all others, as keys.

    Anything else is returned as it is, without keys.
    """
    if hasattr(value, "iloc") or not is_table(value):
        return value, {}
    columns = {str(name): value[name] for name in value.columns}
    nested = [name for name, column in columns.items() if _is_nested(column)]
    if len(nested) != 1:
        return value, {}
    cells = columns.pop(nested[0])
    return cells, {name: np.asarray(column) for name, column in columns.items()}


def _is_nested(value):
    """Whether it is a Series of arrays: pandas' of objects, or polars' of lists."""
    if hasattr(value, "iloc"):
        some = len(value.shape) == 1 and len(value) > 0
        return some and value.dtype == object and np.ndim(value.iloc[0]) == 1
    is_series = hasattr(value, "to_list") and hasattr(value, "dtype")
    return is_series and str(value.dtype).startswith(("List", "Array"))


# --- keys ----------------------------------------------------------------------------


def keys_of(ydata: Any, axis: int) -> Any:
    """The pandas index of data sets whose points are along an axis; None where there is none."""
    if is_grouped(ydata):
        sizes = ydata.size()
        return sizes[sizes > 0].index
    if not hasattr(ydata, "iloc"):
        return None
    if is_table(ydata):
        return ydata.index if axis in (-1, 1) else ydata.columns
    return ydata.index if ydata.dtype == object else None


def points_of(ydata: Any, axis: int) -> int | None:
    """The number of points of each data set, where they all have as many."""
    if isinstance(ydata, (list, tuple)):
        sizes = {np.size(one) for one in ydata}
        return sizes.pop() if len(sizes) == 1 else None
    shape = np.shape(ydata)
    return shape[axis] if shape else None


def check_groups(value: Any, ydata: Any, name: str) -> None:
    """Raise ValueError for groups that are not those of ydata, or in another order."""
    (_, own), (_, keys) = cells_of(value), cells_of(ydata)
    if set(own) & set(keys) and any(
        not np.array_equal(own[key], keys[key]) for key in own if key in keys
    ):
        raise ValueError(
            f"{name} has other keys than ydata, or in another order, in the columns {list(own)}. "
            "Take both from one table."
        )
    if not is_grouped(value) or not is_grouped(ydata):
        return
    own, keys = keys_of(value, -1), keys_of(ydata, -1)
    if not own.equals(keys):
        raise ValueError(
            f"{name} has the groups {_some(own)}, and ydata {_some(keys)}: they must be the same "
            "in the same order. Take both from one groupby."
        )
    check_rows(value.obj.iloc[_rows_of(value)], ydata.obj.index[_rows_of(ydata)], name)


def _rows_of(groups):
    """The numbers of the rows of all groups, one group after the other."""
    return np.concatenate([np.empty(0, int), *groups.indices.values()])


def in_order(value: Any, keys: Any, name: str) -> Any:
    """Values for each data set, in the order of their keys, where they have an index.

    Parameters
    ----------
    value : DataFrame, or dict of Series (or of pairs of them)
        With a row for each data set, and more if need be.  Anything else is returned as it is.
    keys : pandas index, or list of what would be in one, or None
    name : str
        For messages.

    Raises
    ------
    ValueError
        Where a data set has no row, or several; but as many rows that are merely counted, where
        the keys are no such numbers, are taken by position.
    """
    if keys is None:
        return value
    if isinstance(value, Mapping):
        return {key: series_in_order(part, keys, f"{name}[{key!r}]") for key, part in value.items()}
    return series_in_order(value, keys, name) if is_table(value) else value


def series_in_order(value: Any, keys: Any, name: str) -> Any:
    """`in_order` of a Series with a value for each data set, or of a pair of them."""
    if isinstance(value, (tuple, list)):  # bounds
        return type(value)(series_in_order(side, keys, name) for side in value)
    if keys is None or not hasattr(value, "iloc"):
        return value
    places = _places(value.index, keys, name)
    return value if places is None else value.iloc[places]


def points_in_order(value: Any, keys: Any, points: int | None, axis: int, name: str) -> Any:
    """`in_order` of a table shaped as ydata is, or of a Series with a value for each data set.

    Parameters
    ----------
    value : DataFrame or Series
        A Series is of the data sets if its index is theirs, or if it has as many values; one with
        a value for each point, and anything else, is returned as it is.
    keys : pandas index, or list of what would be in one, or None
    points : int or None
        Of each data set; None where they differ.
    axis : int
        Of the points.
    name : str
        For messages.

    Raises
    ------
    ValueError
        Where a data set has no row, or several; and for a Series that could be of the points.
    """
    if keys is None or not hasattr(value, "iloc"):
        return value
    rows = axis in (-1, 1)
    if not is_table(value):
        if not _of_data_sets(value, keys, points, name):
            return value
        each = as_array_like(series_in_order(value, keys, name), name)
        return each[:, None] if rows else each[None, :]
    places = _places(value.index if rows else value.columns, keys, name)
    if places is None:
        return value
    return value.iloc[places] if rows else value.iloc[:, places]


def _of_data_sets(series, keys, points, name):
    """Whether a Series has a value for each data set, and not for each point of all of them."""
    own, total = series.index, len(keys)
    if series.dtype == object and len(series) and np.ndim(series.iloc[0]):
        return False  # a column of arrays
    if own.name is not None and own.name == getattr(keys, "name", None):
        return True
    found = own.isin(keys)
    # One label that is known tells; of numbers, which may be those of points, it takes all.
    if found.any() if own.dtype.kind not in "iufM" else found.all() and not _is_counted(own):
        return True
    if len(series) != total:
        return False
    if points == total:
        raise ValueError(
            f"{name}, a Series of {total} values, can be of the {total} data sets or of their "
            f"{total} points, since its index is neither's. Pass {name}.to_numpy()[:, None] for a "
            f"value per data set, {name}.to_numpy() for one per point."
        )
    return True


def _is_counted(index):
    """Whether the rows are merely counted."""
    return index.dtype.kind in "iu" and np.array_equal(index, np.arange(len(index)))


def _places(own, keys, name):
    """Where the data sets are in another index; None where they are in order."""
    if own.equals(keys):
        return None
    places = places_in(own, keys)
    if places is not None:
        return places
    if _is_counted(own) and len(own) == len(keys):
        return None
    raise ValueError(
        f"{name} must have one row for each of ydata's {_some(keys)}, and its index is "
        f"{_some(own)}. Pass .to_numpy() to take it by position."
    )


def _some(index):
    """The first few of an index, and how many there are, for messages."""
    return f"{first_few(index)} ({len(index)})"
