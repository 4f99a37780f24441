"""Arrays that are computed from others, block by block."""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["View"]


@dataclass(frozen=True)
class View:
    """An array-like that is computed from another, block by block, as that is read."""

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """Of the array."""
        return np.dtype(self.array.dtype)
