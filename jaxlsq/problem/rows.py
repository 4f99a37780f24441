"""Points that are rows of a table (pandas'): paired by their labels, or refused."""

from typing import Any

from jaxlsq.problem.containers import is_table
from jaxlsq.problem.indexes import first_few, places_in

__all__ = ["along_points", "check_lists", "check_rows", "labels_of_points"]


def labels_of_points(ydata: Any, axis: int) -> Any:
    """The pandas index of the points, which are along an axis; None where there is none."""
    if not hasattr(ydata, "iloc") or (ydata.ndim == 1 and ydata.dtype == object):
        return None
    return ydata.columns if is_table(ydata) and axis in (-1, 1) else ydata.index


def along_points(value: Any, labels: Any, axis: int, keys: Any = None) -> Any:
    """A Series or a table in the order of the points' labels, where it has the same ones.

    Anything else is returned as it is: other names than ydata has say nothing of an order.

    Parameters
    ----------
    value : Series or DataFrame
    labels : pandas index or None
        Of the points of ydata.
    axis : int
        Of the points.
    keys : pandas index or None
        Of the data sets, by which a table is brought into their order likewise.
    """
    if labels is None or not hasattr(value, "iloc"):
        return value
    if not is_table(value):
        places = _turned(value.index, labels)
        return value if places is None else value.iloc[places]
    rows, columns = (keys, labels) if axis in (-1, 1) else (labels, keys)
    places = _turned(value.index, rows), _turned(value.columns, columns)
    if all(one is None for one in places):
        return value
    return value.iloc[tuple(slice(None) if one is None else one for one in places)]


def _turned(own, labels):
    """Where labels are in an index that has the same ones in another order; else None."""
    if labels is None or len(own) != len(labels) or own.equals(labels) or not labels.is_unique:
        return None
    return places_in(own, labels)


def check_rows(value: Any, labels: Any, name: str) -> None:
    """Raise ValueError for rows of a table that are those of ydata in another order.

    Of one data set that may be meant, by position, or be a mistake: only the caller knows.

    Parameters
    ----------
    value : Series or DataFrame
        Anything else is good.
    labels : pandas index or None
        Of ydata.
    name : str
        For messages.
    """
    if hasattr(value, "iloc") and _turned(value.index, labels) is not None:
        own, others = map(first_few, (value.index, labels))
        raise ValueError(
            f"{name} has the rows of ydata in another order: {own}, not {others}. Take both from "
            "one table, or pass .to_numpy() of both to pair them by position."
        )


def check_lists(values: Any, ydata: Any, name: str) -> None:
    """`check_rows` of each of a list of data sets."""
    if isinstance(values, (list, tuple)) and isinstance(ydata, (list, tuple)):
        for value, one in zip(values, ydata, strict=False):
            if hasattr(one, "iloc"):
                check_rows(value, one.index, name)
