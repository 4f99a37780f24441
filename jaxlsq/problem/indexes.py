"""Labels in the indexes of pandas and xarray: where they are in another index, and in words."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["first_few", "places_in"]


def places_in(own: Any, labels: Any) -> NDArray[np.intp] | None:
    """Where each of some labels is in an index.

    Parameters
    ----------
    own : pandas index
    labels : pandas index, or list of what would be in one

    Returns
    -------
    array of int, shape (len(labels),), or None
        None where one is missing, or where the index has labels twice or of other levels.
    """
    if not own.is_unique or own.nlevels != getattr(labels, "nlevels", own.nlevels):
        return None
    places = own.get_indexer(labels)
    return places if np.all(places >= 0) else None


def first_few(index: Any, word: Callable[[Any], str] = repr) -> str:
    """The first few labels of an index, for messages; `word` writes one."""
    words = [word(key) for key in list(index[:3])]
    return f"[{', '.join(words)}{', ...' if len(index) > 3 else ''}]"
