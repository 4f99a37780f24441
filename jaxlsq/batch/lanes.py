"""Blocks of fits by compiled lanes, as the stream of blocks calls them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.machine import Given, Scratch, addresses
from jaxlsq.batch.stream import Halt, Pace
from jaxlsq.lowering.eliminating import Elimination
from jaxlsq.lowering.engine import LANES, compiled, one_point, target_for
from jaxlsq.lowering.kernel import TABLE, Kernel, scratch_bytes
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.numerics.state import Options
from jaxlsq.problem.task import Seen, Task
from jaxlsq.problem.types import PyTree
from jaxlsq.schedule.queue import Ended, Place
from jaxlsq.status import Status
from jaxlsq.tracing.cache import PROGRAMS
from jaxlsq.tracing.settings import has_64_bits
from jaxlsq.tracing.trace import Traced

__all__ = ["Lanes", "compile_lanes"]


class _NoPool:
    """What is carried from block to block: nothing, a block is worked to its end."""

    problem: NDArray[Any] = np.empty(0, np.int32)


@dataclass(frozen=True)
class Lanes:
    """A compiled block of fits, of data of any length.

    Attributes
    ----------
    call : callable
        The machine code.
    kernel : Kernel
    task : Task
    shared : dict of arrays
        Data of all problems.
    inputs : Given
    options : Options
    starts : int
    width : int
    pace : Pace
    engine : str
    """

    call: Callable[..., int]
    kernel: Kernel
    task: Task
    shared: PyTree
    inputs: Given
    options: Options
    starts: int
    width: int
    pace: Pace
    engine: str = LANES

    def place(self) -> Place:
        """The beginning of a block."""
        return Place(np.int32(0), np.int32(0))

    def of_worker(self, _: int) -> "Lanes":
        """The same: cores are not told apart."""
        return self

    def most_work(self, count: int) -> float:
        """Values at points that so many problems may ask for."""
        point, n = self.kernel.point, self.kernel.n
        return count * float(self.options.max_nfev) * point.points * point.rows * (n + 1)

    def empty(self) -> _NoPool:
        """Lanes without problems."""
        return _NoPool()

    def __call__(
        self, pool: _NoPool, arguments: tuple[Any, ...], count: int, drain: bool, place: Place,
        halt: Halt,
    ) -> tuple[_NoPool, Ended, Seen, Place]:  # fmt: skip
        """Work a block to its end; ``arguments`` are x0 (D * starts, n), data, and bounds."""
        done = Place(np.int32(count), np.int32(place.rounds))
        sets = -(-count // self.starts)
        x0, lanes, bounds = arguments
        x0, point = np.ascontiguousarray(x0[:count]), self.kernel.point
        lanes, bounds = jax.tree.map(lambda v: v[:sets], (lanes, bounds))
        seen, finite = self.task.check(lanes, self.shared, point.points * point.rows, np)
        status = self._status(x0, bounds, seen, finite)
        x0[np.repeat(seen.live == 0, self.starts)] = np.nan
        reals, counts = self._rows(x0, status)
        if count:
            self._work((x0, bounds), lanes, status, (reals, counts), halt)
        n = x0.shape[1]
        fnorm = reals[:, n + 1]
        with np.errstate(over="ignore"):
            cost = 0.5 * np.square(fnorm)
        ended = Ended(
            reals[:, :n],
            cost,
            reals[:, n],
            fnorm,
            reals[:, n + 2],
            *(counts[:, k] for k in range(4)),
        )
        return pool, ended, seen, done

    def _status(self, x0, bounds, seen, finite):
        """RUNNING, or why a problem is not begun; XLA's is in `jaxlsq.batch.program._advance`."""
        varying = x0.shape[1]
        if bounds is not None:
            varying = np.count_nonzero(bounds[0] < bounds[1], axis=1)
        varying = varying + self.task.eliminated
        status = np.where(seen.live >= varying, Status.RUNNING, Status.TOO_FEW_POINTS)
        status = np.where(finite, status, Status.NONFINITE_DATA)
        status = np.repeat(status, self.starts)
        status[~np.isfinite(x0).all(axis=1)] = Status.NONFINITE_DATA
        status[np.repeat(seen.live == 0, self.starts)] = Status.MASKED_OUT
        return status.astype(np.int32)

    @staticmethod
    def _rows(x0, status):
        """Rows of results of problems that are not begun."""
        size, n = x0.shape
        reals = np.full((size, n + 3), np.nan, x0.dtype)
        reals[:, :n], reals[:, n + 2] = x0, 1.0
        counts = np.zeros((size, 4), np.int32)
        counts[:, 0] = status
        return reals, counts

    def _work(self, begin, lanes, status, rows, halt):
        """Call the machine code; everything that it is given lives until it returns."""
        (x0, bounds), kernel, points = begin, self.kernel, self.kernel.point.points
        inputs = self.inputs.arrays(jax.tree.leaves(lanes))
        lower, upper = (x0, x0) if bounds is None else map(np.ascontiguousarray, bounds)
        o, dtype = self.options, kernel.dtype
        numbers = np.array([o.ftol, o.xtol, o.gtol, o.factor, o.epsfcn, *o.diag], dtype)
        limit = np.array([o.max_nfev], np.int32)
        arrays = dict(zip(TABLE, (x0, lower, upper, numbers, limit, *rows), strict=True))
        table = addresses((*arrays.values(), *inputs))
        order = np.flatnonzero(status == Status.RUNNING).astype(np.int32)
        scratch = Scratch(scratch_bytes(kernel, self.width, points))
        places = (v.ctypes.data for v in (halt.flag, order, table))
        self.call(len(order), points, self.starts, *places, scratch.begin)


def compile_lanes(
    task: Task,
    traced: Traced,
    examples: tuple[Any, Any, Any],
    shared: PyTree,
    how: tuple[Options, int],
    elimination: Elimination | None = None,
) -> Lanes:
    """The program of a task by compiled lanes.

    Parameters
    ----------
    task : Task
    traced : Traced
        Of n scalars, one lane's leaves and the shared ones: rows, columns, and more.
    examples, shared
        As for `jaxlsq.batch.program.compile_task`.
    how : (Options, int)
        Options, and problems of each data set.
    elimination : Elimination, optional
        Of linear parameters; then `traced` is of all of them, and has what that says.

    Returns
    -------
    Lanes

    Raises
    ------
    NotLowered
        If lanes can't be compiled for it; the message is the reason.
    """
    (x0, lanes, bounds), (options, starts) = examples, how
    n, dtype = task.layout.n, np.dtype(x0.dtype)
    target = target_for(n, dtype)
    if elimination is not None and (dtype == np.float32 or task.repairs):
        raise NotLowered("linear parameters are eliminated, in float32 or with differences")
    leaves, others = jax.tree.leaves(lanes), jax.tree.leaves(shared)
    of_lane = [*[True] * len(leaves), *[False] * len(others)]
    # With a loss there are its parts, and the residual, that only repairs read.
    outputs = 1 + n if task.loss is None else 3 + n + task.repairs
    count = n
    if elimination is not None:
        outputs, count = elimination.results, elimination.n
    wide = has_64_bits()
    made_for = {
        "n": n,
        "dtype": dtype,
        "bounded": bounds is not None,
        "evaluations": task.evaluations,
        "repairs": task.repairs and not task.evaluations,
        "wide": wide,
        "elimination": elimination,
    }

    def make():
        try:
            kernel = Kernel(point=one_point(traced, count, of_lane, outputs), **made_for)
            return kernel, compiled(kernel, target)
        except NotLowered as reason:
            return str(reason)

    kinds = *made_for.values(), tuple(of_lane), outputs, target
    key = traced.key and ("lanes of", traced.key, kinds)
    made = PROGRAMS.get(key, make)
    if isinstance(made, str):
        raise NotLowered(made)
    kernel, call = made
    return Lanes(
        call=call,
        kernel=kernel,
        task=task,
        shared=jax.tree.map(np.asarray, shared),
        inputs=Given.of(kernel.point, traced, leaves, others),
        options=options,
        starts=starts,
        width=target.width(dtype),
        pace=Pace(),
    )
