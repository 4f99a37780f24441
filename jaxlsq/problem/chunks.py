"""Arrays that are stored in chunks: read so that few chunks are read twice."""

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxlsq.problem.views import View, in_numpy, joined

__all__ = ["Chunked", "rows_of_chunks"]

# What is held of one array, in two slabs.
SLAB_BYTES = 1 << 27
SLABS = 2


def rows_of_chunks(array: Any) -> int | None:
    """How far a chunk reaches along the first axis; None for an array that is not in chunks."""
    chunks = getattr(array, "chunks", None)
    if not isinstance(chunks, tuple) or len(chunks) != len(array.shape) or not chunks:
        return None
    first = chunks[0]
    if isinstance(first, tuple):  # Dask's, of which the last may be smaller
        return int(first[0]) if first and all(size == first[0] for size in first[:-1]) else None
    return int(first) if isinstance(first, (int, np.integer)) and first > 0 else None


@dataclass(frozen=True, eq=False)
class Chunked(View):
    """An array of which whole chunks are read, and held until others are.

    A chunk that holds part of many problems (a plane of an image stack) would be read, and
    decompressed, for each block of them.

    Attributes
    ----------
    rows : int
        How far a slab reaches along the first axis.
    """

    rows: int = 1
    held: Any = field(default_factory=OrderedDict, repr=False)
    lock: Any = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(cls, array: Any) -> Any:
        """The array in slabs of its chunks, or itself if it has none."""
        rows = rows_of_chunks(array)
        if rows is None or not all(array.shape):
            return array
        row_bytes = math.prod(array.shape[1:]) * np.dtype(array.dtype).itemsize
        rows = min(rows, max(SLAB_BYTES // max(row_bytes, 1), 1))
        return cls(array, rows) if rows > 1 else array

    def __getitem__(self, index: Any) -> Any:
        index = index if isinstance(index, tuple) else (index,)
        if not index or not isinstance(index[0], slice) or index[0].step not in (None, 1):
            return self.array[index]
        first, last, _ = index[0].indices(self.shape[0])
        begin = first // self.rows * self.rows
        if last - first >= self.rows or last <= first:  # as large as a slab, or nothing
            return self.array[index]
        parts = []
        for start in range(begin, last, self.rows):
            slab = self._slab(start)
            low, high = max(first - start, 0), min(last - start, self.rows)
            parts.append(slab[(slice(low, high), *index[1:])])
        return parts[0] if len(parts) == 1 else joined(parts)

    def _slab(self, start):
        with self.lock:
            slab = self.held.get(start)
            if slab is None:
                slab = self.held[start] = in_numpy(self.array[start : start + self.rows])
                while len(self.held) > SLABS:
                    self.held.popitem(last=False)
            else:
                self.held.move_to_end(start)
        return slab
