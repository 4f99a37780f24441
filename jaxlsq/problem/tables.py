"""Data sets as the groups of a table, or as one array in each cell of a column."""

from typing import Any

import numpy as np

__all__ = ["as_lists", "is_grouped"]


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
    if not _is_nested(value):
        return value
    cells = list(value)
    for number, cell in enumerate(cells):
        if np.ndim(cell) != 1:
            raise TypeError(f"{name} must hold an array in each cell; cell {number} has {cell!r}.")
    return [np.asarray(cell) for cell in cells]


def _is_nested(value):
    """Whether it is a Series of arrays: pandas' of objects, or polars' of lists."""
    if hasattr(value, "iloc"):
        some = len(value.shape) == 1 and len(value) > 0
        return some and value.dtype == object and np.ndim(value.iloc[0]) == 1
    is_series = hasattr(value, "to_list") and hasattr(value, "dtype")
    return is_series and str(value.dtype).startswith(("List", "Array"))
