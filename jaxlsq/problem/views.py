"""Arrays that are computed from others, block by block, and blocks as NumPy has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["View", "in_numpy", "joined"]


@dataclass(frozen=True)
class View:
    """An array-like that is computed from another, block by block, as that is read."""

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the array."""
        return np.dtype(self.array.dtype)


def in_numpy(block: Any) -> NDArray[Any]:
    """What was read, as a NumPy array, with its mask if it has one."""
    return block if isinstance(block, np.ma.MaskedArray) else np.asarray(block)


def joined(blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Blocks one after the other, with a mask if one of them has any."""
    masked = any(isinstance(block, np.ma.MaskedArray) for block in blocks)
    return (np.ma if masked else np).concatenate(blocks)
