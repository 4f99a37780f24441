"""Results that were written as they were computed, and are read in parts."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.labels import Labels
from jaxlsq.problem.types import Batch
from jaxlsq.results import storage
from jaxlsq.results.grid import Grid
from jaxlsq.results.result import FitResult
from jaxlsq.results.stores import ENCODED, Store, open_store
from jaxlsq.status import Status, converged, describe

__all__ = ["StoredResult"]


@dataclass(frozen=True, repr=False)
class StoredResult:
    """Results of a batch in a zarr group or a folder, as ``fit(..., out=path)`` writes them.

    Attributes
    ----------
    path : str
    store : Store
    """

    path: str
    store: Store

    @classmethod
    def open(cls, path: Any) -> Self:
        """What is at a path, complete or not.

        Raises
        ------
        FileNotFoundError, ValueError
            If there are no results.
        """
        return cls(str(path), open_store(path))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters."""
        return tuple(self.store.description["names"])

    @property
    def shape(self) -> Batch:
        """Of the batch."""
        return tuple(self.store.description["batch"])

    @property
    def engine(self) -> str:
        """What worked the fits that are there, as `FitResult.engine` says it."""
        done = self.store.done()
        found = [str(self.store.engine(box)) for box in self.grid if box.number in done]
        return "; ".join(dict.fromkeys(found))

    @property
    def grid(self) -> Grid:
        """The blocks."""
        return Grid(self.shape, tuple(self.store.description["block"]))

    @property
    def complete(self) -> bool:
        """Whether every block is there."""
        return len(self.store.done()) == len(self.grid)

    def __len__(self) -> int:
        return self.shape[0]

    def blocks(self) -> Iterator[tuple[tuple[slice, ...], FitResult]]:
        """The blocks that are there: their places along the axes of the batch, and their fits."""
        done = self.store.done()
        for box in self.grid:
            if box.number in done:
                yield box.slices, self._result(self.store.read(box), box.slices)

    def load(self, first: int = 0, last: int | None = None) -> FitResult:
        """The fits `first` to `last` along the first axis, in memory.

        Those of blocks that are not there have the status INTERRUPTED, and NaN for parameters.
        """
        first, last, _ = slice(first, last).indices(self.shape[0])
        last = max(first, last)
        done, arrays, engines = self.store.done(), {}, []
        for box in self.grid:
            rows = box.slices[0]
            low, high = max(rows.start, first), min(rows.stop, last)
            if box.number not in done or low >= high:
                continue
            part = self.store.read(box)
            arrays = arrays or self._empty(last - first)
            engines.append(str(part.pop("engine")))
            places = (slice(low - first, high - first), *box.slices[1:])
            for name, values in part.items():
                if name in arrays:
                    arrays[name][places] = values[low - rows.start : high - rows.start]
        places = (slice(first, last), *(slice(0, size) for size in self.shape[1:]))
        arrays = arrays or self._empty(last - first)
        engine = np.array("; ".join(dict.fromkeys(engines)))
        return self._result(arrays | {"engine": engine}, places)

    def _empty(self, size: int):
        """Arrays of fits that are not there."""
        n, batch = len(self.names), (size, *self.shape[1:])
        nan, whole = np.float64, np.int32
        kinds = dict.fromkeys(storage.ARRAYS, (batch, whole))
        kinds |= dict.fromkeys(("cost", "optimality"), (batch, nan))
        kinds |= {"x": ((*batch, n), nan), "inverse": ((*batch, n, n), nan)}
        kinds |= {"active_mask": ((*batch, n), np.int8), "fixed": ((*batch, n), np.bool_)}
        arrays = {k: np.zeros(shape, kind) for k, (shape, kind) in kinds.items()}
        for values in arrays.values():
            if values.dtype == np.float64:
                values[...] = np.nan
        arrays["status"][...] = Status.INTERRUPTED
        return arrays

    def _result(self, arrays: dict[str, NDArray[Any]], slices: tuple[slice, ...]):
        labels = self._labels
        if labels is not None:
            places = np.arange(math.prod(self.shape)).reshape(self.shape)[slices]
            labels = labels.take(places)
        return FitResult(**storage.from_arrays(arrays, self.store.description), labels=labels)

    @cached_property
    def _labels(self) -> Labels | None:
        return self.store.labels()

    def counts(self) -> dict[Status, int]:
        """How many fits ended with each status, the most frequent first."""
        found: Counter[int] = Counter()
        done = self.store.done()
        for box in self.grid:
            if box.number in done:
                found.update(self.store.read(box)["status"].ravel().tolist())
            else:
                found[int(Status.INTERRUPTED)] += box.last - box.first
        return {Status(code): count for code, count in found.most_common()}

    def to_dataset(self) -> Any:
        """The same as an xarray Dataset that is read when it is used; of a zarr group alone.

        Raises
        ------
        ValueError
            For a folder of ``.npz`` files.
        """
        if not self.path.endswith(".zarr"):
            raise ValueError("to_dataset is of zarr groups; take load().to_dataset() here.")
        import xarray as xr

        out = xr.open_zarr(self.path, consolidated=False)
        success = converged(out.status) & np.isfinite(out.cost)
        for name in self.store.description["variables"]:
            success = success & np.isfinite(out[name])
        for coord in out.coords.values():
            coord.attrs.pop(ENCODED, None)
        return out.assign(success=success)

    def __repr__(self) -> str:
        counts = self.counts()
        good = sum(count for code, count in counts.items() if converged(code))
        total = math.prod(self.shape)
        shape = " x ".join(f"{size:,}" for size in self.shape)
        lines = [f"StoredResult: {shape} fits in {self.path}, {good:,} of {total:,} converged"]
        words = {code: describe(code) for code in counts}
        words[Status.INTERRUPTED] = "They are not there; the same call of fit goes on with them."
        lines += [f"{n:>11,} {code.name}: {words[code]}" for code, n in counts.items()]
        return "\n".join(lines)
