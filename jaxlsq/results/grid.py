"""The blocks of a batch: boxes whose fits follow each other in C order."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from jaxlsq.problem.types import Batch

__all__ = ["Box", "Grid"]


@dataclass(frozen=True)
class Box:
    """One block.

    Attributes
    ----------
    number : int
    first, last : int
        Its fits, counted through the batch in C order.
    slices : tuple of slice
        The same along each axis.
    """

    number: int
    first: int
    last: int
    slices: tuple[slice, ...]

    @property
    def shape(self) -> Batch:
        """Of its part of the batch."""
        return tuple(s.stop - s.start for s in self.slices)


@dataclass(frozen=True)
class Grid:
    """A batch in blocks of one shape, smaller at its ends.

    Attributes
    ----------
    batch, block : tuple of int
    """

    batch: Batch
    block: Batch

    @classmethod
    def of(cls, batch: Batch, most: int) -> Self:
        """Blocks of so many fits at most, whole along the last axes as far as that goes.

        Examples
        --------
        >>> Grid.of((100, 50), 1000).block
        (20, 50)
        >>> Grid.of((100, 5000), 1000).block
        (1, 1000)
        """
        block = [1] * len(batch)
        for axis, size in enumerate(batch):
            inner = math.prod(batch[axis + 1 :])
            if inner <= most or axis == len(batch) - 1:
                block[axis] = max(min(size, most // max(inner, 1)), 1)
                block[axis + 1 :] = batch[axis + 1 :]
                break
        return cls(tuple(batch), tuple(block))

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks along each axis."""
        return tuple(-(-n // max(k, 1)) for n, k in zip(self.batch, self.block, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __iter__(self) -> Iterator[Box]:
        first = 0
        for number, place in enumerate(np.ndindex(*self.counts)):
            slices = tuple(
                slice(i * k, min((i + 1) * k, n))
                for i, k, n in zip(place, self.block, self.batch, strict=True)
            )
            last = first + math.prod([s.stop - s.start for s in slices])
            yield Box(number, first, last, slices)
            first = last
