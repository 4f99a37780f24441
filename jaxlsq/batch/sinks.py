"""Where the results of blocks go."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import numpy as np

from jaxlsq.problem.task import Seen
from jaxlsq.schedule.queue import Ended
from jaxlsq.status import Status

__all__ = ["NOT_ENDED", "Arrays", "Rows", "Sink"]

_COUNTS = ("status", "nfev", "njev", "nit")
_REALS = ("x", "cost", "optimality", "fnorm", "certainty")

# What is reported of a problem that has not ended.
NOT_ENDED = Ended(np.nan, np.nan, np.nan, np.nan, np.nan, Status.INTERRUPTED, 0, 0, 0)


@dataclass(frozen=True)
class Rows:
    """What became of some data sets.

    Attributes
    ----------
    ended : Ended
        NumPy arrays with each data set's starts in a row; see `NOT_ENDED`.
    seen : Seen
        NumPy arrays with the data sets in front.
    """

    ended: Ended
    seen: Seen


class Sink(Protocol):
    """Where blocks are written as they are done, in no order, one call at a time."""

    def write(self, first: int, last: int, rows: Rows) -> None:
        """Take the rows of data sets `first` to `last`."""
        ...


class Arrays:
    """A sink in memory.

    Attributes
    ----------
    rows : Rows
        Of all data sets.
    """

    def __init__(self, shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> None:
        total, _, starts, n = shape
        problems = total * starts
        types = Ended(**dict.fromkeys(_REALS, dtype), **dict.fromkeys(_COUNTS, np.int32))
        ended = jax.tree.map(lambda v, t: np.full(problems, v, t), NOT_ENDED, types)
        ended = replace(ended, x=np.full((problems, n), np.nan, dtype))
        self.starts = starts
        self.rows: Rows = Rows(ended, Seen(np.zeros(total, np.int32), np.zeros(total, dtype)))

    def write(self, first: int, last: int, rows: Rows) -> None:
        """As a `Sink`."""
        for whole, part, each in (
            (self.rows.ended, rows.ended, self.starts),
            (self.rows.seen, rows.seen, 1),
        ):
            for out, new in zip(*map(jax.tree.leaves, (whole, part)), strict=True):
                out[first * each : last * each] = new
