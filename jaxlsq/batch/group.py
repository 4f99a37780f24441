"""Problems of one shape, solved or evaluated block by block."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.blocks import (
    BLOCK_BYTES,
    BLOCK_PROBLEMS,
    LEAST_PROBLEMS,
    LIGHT_BYTES,
    argument_of,
    padded,
    power_of_two_above,
    power_of_two_below,
    put,
    read_source,
)
from jaxlsq.batch.kept import Keeper
from jaxlsq.batch.program import compile_map, compile_task
from jaxlsq.batch.sinks import Arrays
from jaxlsq.batch.stream import BlockShape, Control, stream
from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.loss import POISSON, sum_of
from jaxlsq.numerics.state import Options
from jaxlsq.problem.data import Pieces
from jaxlsq.problem.limits import Limits
from jaxlsq.problem.multistart import MultiStart
from jaxlsq.problem.sources import Source
from jaxlsq.problem.task import Seen, Task
from jaxlsq.problem.types import Parts
from jaxlsq.schedule.devices import workers_of
from jaxlsq.schedule.queue import Ended
from jaxlsq.tracing.shapes import shapes_of

__all__ = ["Group", "Solved"]

# Guesses that are worked side by side. Of those of a whole block, XLA chooses by its size in which
# order it sums.
GUESSES_TOGETHER = 8


class Solved(NamedTuple):
    """How the problems of a group ended: total * starts of them; data sets; and by which engine."""

    ended: Ended
    seen: Seen
    engine: str


@dataclass(frozen=True)
class Group:
    """Problems that one program solves.

    Attributes
    ----------
    task : Task
    lanes : dict of Source
        Data of each problem.
    shared : dict of arrays
        Data of all.
    total : int
        Number of problems.
    dtype : dtype
        Of the computation.
    """

    task: Task
    lanes: dict[str, Source]
    shared: Parts
    total: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, pieces: Pieces, task: Task) -> Self:
        """A task for the data of `Pieces`."""
        total = math.prod(pieces.batch)
        return cls(task, pieces.lanes, pieces.shared, total, pieces.dtype)

    @property
    def wide(self) -> bool:
        """Whether it is computed in float64."""
        return self.dtype == np.float64

    @property
    def one(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of one problem's data."""
        return {k: jax.ShapeDtypeStruct(s.tail, s.dtype) for k, s in sorted(self.lanes.items())}

    @property
    def bytes_each(self) -> int:
        """Of one problem's data."""
        return sum(math.prod(s.tail) * s.dtype.itemsize for s in self.lanes.values())

    def take(self, index: NDArray[Any]) -> Self:
        """The group of some of the problems."""
        lanes = {k: replace(v, index=_compose(v.index, index)) for k, v in self.lanes.items()}
        return replace(self, lanes=lanes, total=len(index))

    def kept(self, keeper: Keeper) -> Self:
        """The same problems, as a `Keeper` keeps them."""
        return replace(
            self,
            task=keeper.function(self.task),
            lanes={k: keeper.source(argument_of(k), v) for k, v in self.lanes.items()},
            shared={k: keeper.array(argument_of(k), v) for k, v in self.shared.items()},
        )

    def in_float64(self) -> Self:
        """The same problems, computed in float64."""
        wide = np.dtype(np.float64)

        def dtype(v):
            return wide if v.dtype == np.float32 else v.dtype

        return replace(
            self,
            dtype=wide,
            lanes={k: replace(v, dtype=dtype(v)) for k, v in self.lanes.items()},
            shared={k: v.astype(dtype(v)) for k, v in self.shared.items()},
        )

    def in_type_of(self, x: NDArray[Any]) -> Self:
        """In float64 where parameters are, as those are that float64 polished."""
        return self.in_float64() if x.dtype == np.float64 and not self.wide else self

    def block(self, first: int, last: int, size: int) -> dict[str, Any]:
        """Data of some problems, the last one repeated up to `size` of them."""
        return {
            key: padded(read_source(key, source, first, last), size)
            for key, source in sorted(self.lanes.items())
        }

    def solve(
        self,
        begin: tuple[Callable[..., Any] | None, Callable[..., Any] | None],
        options: Options,
        spread: MultiStart,
        control: Control,
        limits: Limits | None = None,
    ) -> Solved:
        """Fit every problem.

        Parameters
        ----------
        begin : (start, guess)
            ``start(first, last) -> (k, n)``, and ``guess(lane, shared) -> (n,)`` for what `start`
            has not, or not finite; either may be None.
        options : Options
        spread : MultiStart
            The starts of each problem.
        control : Control
        limits : Limits, optional

        Returns
        -------
        Solved

        Raises
        ------
        KeyboardInterrupt
            When it is interrupted before any fit has begun.
        """
        (start, guess), starts, n = begin, spread.starts, self.task.layout.n
        workers = control.workers or workers_of(control.devices)
        size = self.block_size(workers, starts)
        with jax.enable_x64(self.wide), control.interrupts.at_once():
            guess = guess and self._guesses(guess, size)
            example = jax.ShapeDtypeStruct((size * starts, n), self.dtype)
            lanes = jax.tree.map(
                lambda s: jax.ShapeDtypeStruct((size, *s.tail), s.dtype),
                dict(sorted(self.lanes.items())),
            )
            bound = jax.ShapeDtypeStruct((size, n), self.dtype)
            inside = limits and self.task.evaluations  # differences are
            if inside:
                lanes["bounds"] = Bounds(bound, bound)
            examples = example, lanes, limits and Bounds(bound, bound)
            how = options, starts, control.devices
            with control.announced:
                program = compile_task(self.task, examples, self.shared, *how)

        def read(first, last):
            block = self.block(first, last, size)
            x0 = self._first_starts(start, guess, block, (first, last))
            x0 = spread.apply(np.asarray(x0, self.dtype), first, last).astype(self.dtype)
            bounds = None
            if limits:
                x0, bounds = limits.block(x0, first, last)
                bounds = Bounds(*(padded(bound, size) for bound in bounds))
                block = block | {"bounds": bounds} if inside else block
            return padded(x0.reshape(-1, n), size * starts), block, bounds

        shape = BlockShape(self.total, size, starts, n)
        sink = Arrays(shape, self.dtype)
        control = replace(control, workers=min(workers, -(-self.total // size)))
        in_memory = all(isinstance(source.array, np.ndarray) for source in self.lanes.values())
        stream(program, read, shape, sink, control, wide=self.wide, at_once=in_memory)
        return Solved(sink.rows.ended, sink.rows.seen, program.engine)

    @staticmethod
    def _first_starts(start, guess, block, ends):
        """Given starting parameters; guessed ones in the place of those that are not finite."""
        given = start(*ends) if start else np.full(1, np.nan)
        if not guess or np.all(np.isfinite(given)):
            return given
        guessed = guess(block)[: ends[1] - ends[0]]
        return np.where(np.isfinite(given), given, guessed)

    def block_size(self, workers: int, starts: int = 1) -> int:
        """How many problems are read together."""
        each = max(self.bytes_each, 1)
        least = max(LEAST_PROBLEMS, min(LIGHT_BYTES // each, 4 * LEAST_PROBLEMS))
        fair = max(self.total // (6 * workers), least // starts)
        most = min(BLOCK_PROBLEMS // starts, BLOCK_BYTES // each, fair)
        return min(power_of_two_below(max(most, 1)), power_of_two_above(self.total))

    def _guesses(self, guess, size):
        least = max(size, GUESSES_TOGETHER)
        zeros = np.zeros((least, self.task.layout.n), self.dtype)
        mapped = compile_map(
            lambda x, lane, shared: guess(lane, shared),
            (zeros, self.block(0, min(size, self.total), least)),
            self.shared,
            GUESSES_TOGETHER,
        )

        def guesses(block):
            block = jax.tree.map(lambda values: padded(values, least), block)
            return np.asarray(mapped(zeros, block))[:size]

        return guesses

    def map(
        self,
        function: Callable[..., Any],
        x: NDArray[Any],
        stop: Callable[[], bool] | None = None,
    ) -> Any:
        """``function(x, lane, shared)`` of every problem, in blocks.

        Parameters
        ----------
        function : callable
            Traceable; x is the problem's (n,) parameters.
        x : (total, n) array
        stop : callable, optional
            ``stop()`` says whether blocks that are not begun are left out; the first is not.

        Returns
        -------
        array
            With the problems in front; NaN where they were left out.
        """
        out: Any = None
        mapped = running = None
        size = self.block_size(1)
        if not self.total:
            return self._map_nothing(function, x)
        with jax.enable_x64(self.wide):
            for first in range(0, self.total, size):
                if out is not None and stop and stop():
                    break
                last = min(first + size, self.total)
                params = padded(np.asarray(x[first:last], self.dtype), size)
                block = self.block(first, last, size)
                if mapped is None:
                    mapped = compile_map(function, (params, block), self.shared)
                values = mapped(params, block)
                if out is None:
                    shape = self.total, *values.shape[1:]
                    out = np.empty(shape, values.dtype)
                    out[size if stop else self.total :] = np.nan
                if running:  # the one before, while this one is computed
                    put(out, *running)
                running = first, last, values
            if running:
                put(out, *running)
        return out

    def _map_nothing(self, function, x):
        x = jax.ShapeDtypeStruct(x.shape[1:], self.dtype)
        shape = shapes_of(function, x, self.one, self.shared, wide=self.wide)
        return np.empty((0, *shape.shape), shape.dtype)

    def residuals(self, x: NDArray[Any]) -> NDArray[Any]:
        """(total, m) residuals as they are minimized."""
        return self.map(partial(_residual, self.task), x)

    def variation(self, x: NDArray[Any]) -> NDArray[Any]:
        """(total, 2) variation of the data about the model, and about their mean."""
        return self.map(partial(_variation, self.task), x)


def _residual(task, x, lane, shared):
    if task.loss is POISSON:  # Pearson's residuals
        return task.lane(lane, shared)(tuple(x))[0][0]
    return task.residual(task.layout.from_vector(x), lane, shared)


def _variation(task, x, lane, shared):
    f = _residual(task, x, lane, shared)
    rows = task.lane(lane, shared)(tuple(x))[0] if task.loss is POISSON else (f,)
    return jnp.stack([sum_of(rows), task.residual.about_mean(task, lane, shared)])


def _compose(old, new):
    return np.asarray(new) if old is None else old[new]
