"""Arrays with labels along their dims (xarray's), brought into the order of others' labels."""

from collections.abc import Hashable, Mapping
from typing import Any

from jaxlsq.problem.indexes import first_few, places_in

__all__ = ["aligned", "indexes_of"]


def indexes_of(value: Any) -> Mapping[Hashable, Any]:
    """The labels along each dim that has some, as pandas indexes; none of what has no dims."""
    return dict(getattr(value, "indexes", {})) if hasattr(value, "dims") else {}


def aligned(value: Any, indexes: Mapping[Hashable, Any], name: str) -> Any:
    """A labelled array in the order of other labels, along the dims that both have.

    Parameters
    ----------
    value : DataArray
    indexes : dict of pandas indexes
        By dim; along one without, or where `value` has none, it is taken by position.
    name : str
        For messages.

    Raises
    ------
    ValueError
        Where its labels are others.
    """
    for dim, own in indexes_of(value).items():
        labels = indexes.get(dim)
        if labels is None or len(own) != len(labels) or own.equals(labels):
            continue  # of another length it is refused by its shape
        places = places_in(own, labels) if labels.is_unique else None
        if places is None:
            raise ValueError(
                f"{name} has other labels than ydata along {dim!r}: "
                f"{first_few(own, str)}, not {first_few(labels, str)}. Select the same ones, or "
                "pass .values to take it by position."
            )
        value = value.isel({dim: places})
    return value
