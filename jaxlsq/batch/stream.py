"""Problems from the host through pools of lanes: blocks, threads, progress, interruption."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.interruption import Interruption
from jaxlsq.batch.progress import Report
from jaxlsq.batch.sinks import NOT_ENDED, Rows, Sink
from jaxlsq.status import Status
from jaxlsq.tracing.settings import own_settings

__all__ = ["BlockShape", "Control", "Halt", "Pace", "stream"]

AnyArrays = TypeVar("AnyArrays")

POLL_S = 0.05
# What one call may take, so that a run can be stopped between two of them.
CALL_S = 0.15
FIRST_ROUNDS = 32
MOST_ROUNDS = 1 << 30
# How long a run that is to stop waits for the calls that are under way.
GRACE_S = 0.3
# Values of the model at points and their derivatives, at most, of a run that takes less than an
# interrupt may wait: a thread of its own would take as long.
AT_ONCE = 5e7


class BlockShape(NamedTuple):
    """Data sets in all and in a block, problems of each (its starts), and parameters."""

    total: int
    block: int
    starts: int
    n: int


@dataclass(frozen=True)
class Control:
    """How a run is watched and stopped, and by how many threads it is worked.

    Attributes
    ----------
    interrupts : Interruption
    report : Report, optional
        ``report(done)`` with the data sets done so far, from the calling thread.
    workers : int, optional
        None for the cores that the process may use.
    devices : tuple of devices
        Over which workers are dealt; () for JAX's own choice.
    """

    interrupts: Interruption
    report: Report | None = None
    workers: int | None = None
    devices: tuple[Any, ...] = ()

    @property
    def announced(self) -> AbstractContextManager[Any]:
        """A context in which a program is compiled."""
        return self.report.announced() if self.report else nullcontext()


class Halt:
    """A request to stop, which threads and machine code look at.

    Attributes
    ----------
    flag : (1,) int32 array
        One where it was made.
    """

    def __init__(self) -> None:
        self.flag: NDArray[Any] = np.zeros(1, np.int32)

    def set(self) -> None:
        """Make it."""
        self.flag[0] = 1

    def is_set(self) -> bool:
        """Whether it was made."""
        return bool(self.flag[0])


class Pace:
    """How many rounds a program may work in one call, by how long it took before."""

    def __init__(self) -> None:
        self.rounds: int = FIRST_ROUNDS

    def measure(self, rounds: int, time_s: float) -> None:
        """Take in that so many rounds took so long."""
        fair = int(min(rounds * CALL_S / max(time_s, 1e-9), MOST_ROUNDS))
        self.rounds = max(fair, 1) if time_s > CALL_S else max(fair, self.rounds)


def stream(
    program: Any,
    read: Callable[[int, int], Any],
    shape: BlockShape,
    sink: Sink,
    control: Control,
    *,
    wide: bool,
    at_once: bool = False,
) -> None:
    """Run every block through `program`, each worker with a pool of its own.

    A pool keeps its unfinished lanes from one block to the next, so that slow fits hold up
    nothing but the end.  A block is done when the last of its fits has ended, which takes no more
    rounds after it was taken up than its fits may take evaluations; then it is written.

    Parameters
    ----------
    program : Program
        ``program.empty()`` gives a pool and ``program.place()`` the beginning of a block;
        ``program(pool, arguments, count, drain, place, halt)`` gives the pool, `Ended`, `Seen`
        of the data sets, and the place it has come to.  ``program.pace`` is a `Pace`, and
        ``program.of_worker(number)`` the program on the device of one of the workers;
        ``program.most_work(count)`` bounds what so many problems may take, as `AT_ONCE` is.
    read : callable
        ``read(first, last) -> arguments``.
    shape : BlockShape
    sink : Sink
        Where blocks go.  After an interruption those that were begun are written too, and what
        they lack has the status ``INTERRUPTED``.
    control : Control
        Its `workers` is a number.
    wide : bool
        Whether the arithmetic is float64.
    at_once : bool
        Whether `read` takes no time to speak of, so that a short run needs no thread.
    """
    run = _Run(program, read, shape, sink, wide)
    interrupts, workers = control.interrupts, control.workers or 1
    if at_once and workers == 1 and program.most_work(shape.total * shape.starts) <= AT_ONCE:
        try:
            run.work(0)
            _tell(control.report, run.done // shape.starts, interrupts)
        finally:
            run.close()
        return
    executor = ThreadPoolExecutor(workers, thread_name_prefix="jaxlsq")
    waiting = []
    try:
        waiting = [executor.submit(run.work, number) for number in range(workers)]
        while waiting and not interrupts.asked:
            ended, waiting = wait(waiting, timeout=POLL_S, return_when=FIRST_EXCEPTION)
            for future in ended:
                future.result()
            _tell(control.report, run.done // shape.starts, interrupts)
    finally:
        run.stop.set()  # the workers end with their present call
        wait(waiting, timeout=GRACE_S)
        executor.shutdown(wait=False)
        run.close()


def _tell(report, done, interrupts):
    """Report, and take an interrupt of it for the run's."""
    if report:
        try:
            with interrupts.at_once():
                report(done)
        except KeyboardInterrupt:
            interrupts.ask()


class _Run:
    """What the workers share: the next block, and those that are not done."""

    def __init__(self, program, read, shape, sink, wide):
        self.program, self.read, self.shape = program, read, shape
        self.sink, self.wide = sink, wide
        self.stop = Halt()
        self.done = 0
        self._next = 0
        self._begun = {}  # by their numbers
        self._closed = False
        self._lock = threading.Lock()

    def close(self):
        """Write what was begun; a worker whose call takes longer than the run changes nothing."""
        with self._lock:
            self._closed = True
            for block in self._begun.values():
                if block.rows:
                    self.sink.write(block.first, block.last, block.rows)

    def work(self, number):
        """Take blocks until there are none, a few rounds at a time."""
        program = self.program.of_worker(number)
        with own_settings(), jax.enable_x64(self.wide):
            pool, block = program.empty(), None
            held = None  # numbers of the problems in the lanes
            while not self.stop.is_set():
                if block is None or block.is_issued:
                    block = self._following(block)
                if block is None or (not block.size and (held is None or np.all(held < 0))):
                    return
                pool, held = self._advance(program, pool, held, block)

    def _following(self, block):
        """The next block; an empty one after the last, and None where there was none."""
        with self._lock:
            first, last = self._next, min(self._next + self.shape.block, self.shape.total)
            self._next = last
        if first < last:
            block = _Block(first, last, self.read(first, last))
        elif block is not None:
            block = _Block(first, last, block.arguments)
        if block is not None:
            block.place = self.program.place()
            block.is_issued = first == last
            if block.size:
                block.left = block.size * self.shape.starts
                with self._lock:
                    self._begun[first // self.shape.block] = block
        return block

    def _advance(self, program, pool, held, block):
        """Work some rounds; returns the pool, and the numbers of the problems in its lanes."""
        pace, count = program.pace, block.size * self.shape.starts
        # When there are no more blocks, the lanes are worked to their end.
        drain = self._next >= self.shape.total
        begin_s, rounds = time.perf_counter(), pace.rounds
        place = replace(block.place, rounds=np.int32(rounds))
        how = count, drain, place, self.stop
        pool, results, seen, place = program(pool, block.arguments, *how)
        place = replace(place, issued=np.asarray(place.issued), rounds=np.asarray(place.rounds))
        problem = np.asarray(pool.problem)
        results, seen = _each(results, np.asarray), _each(seen, np.asarray)
        pace.measure(rounds - int(place.rounds), time.perf_counter() - begin_s)
        block.place, block.is_issued = place, int(place.issued) >= count
        with self._lock:
            if not self._closed:
                held = self._collect(block, held, problem, results, seen)
        return pool, held

    def _collect(self, block, held, problem, results, seen):
        """Put away what has ended; returns the numbers of the problems that lanes still hold.

        The results are those of the block's own problems, then of those that lanes held before.
        """
        starts, count = self.shape.starts, block.size * self.shape.starts
        begin, size = block.first * starts, len(results.status) - len(problem)
        number = np.full(len(results.status), -1)
        number[:count] = np.arange(begin, begin + count)
        if held is not None:
            number[size:] = held
        done = (results.status != Status.RUNNING) & (number >= 0)
        if block.size:
            block.begin(results, seen, done[:count])
            self._put(block, np.count_nonzero(done[:count]))
        late = size + np.flatnonzero(done[size:])
        keys = number[late] // (self.shape.block * starts)
        for key in np.unique(keys) if late.size else ():
            other, some = self._begun[key], late[keys == key]
            other.take(number[some] - other.first * starts, some, results)
            self._put(other, some.size)
        return np.where(problem >= 0, number[problem], -1)

    def _put(self, block, ended):
        """Count what has ended of a block, and write it if it is done."""
        self.done += ended
        block.left -= ended
        if not block.left:
            self.sink.write(block.first, block.last, block.rows)
            del self._begun[block.first // self.shape.block]


def _each(arrays: AnyArrays, function: Callable[[Any], Any]) -> AnyArrays:
    """Of a dataclass of arrays, one of what a function makes of each."""
    return type(arrays)(**{name: function(array) for name, array in vars(arrays).items()})


class _Block:
    """Data sets `first` to `last`, how far they have been worked, and what has ended of them."""

    def __init__(self, first, last, arguments):
        self.first, self.last, self.arguments = first, last, arguments
        self.place, self.is_issued = None, False
        self.rows, self.left = None, 0

    @property
    def size(self):
        return self.last - self.first

    def begin(self, results, seen, done):
        """Take in a call's results of the block's own problems, some of which have ended."""
        seen = _each(seen, lambda new: new[: self.size])
        if self.rows is None:
            ended = _each(results, lambda new: new[: done.size])
            if not done.all():
                # Copied as a whole, which is cheaper than to choose: few have not ended.
                ended = _each(ended, np.copy)
                for out, empty in zip(vars(ended).values(), vars(NOT_ENDED).values(), strict=True):
                    out[~done] = empty
            self.rows = Rows(ended, seen)
        else:
            self.rows = replace(self.rows, seen=seen)
            some = np.flatnonzero(done)
            self.take(some, some, results)

    def take(self, places, some, results):
        """Take in some of a call's results."""
        assert self.rows is not None  # since it was begun
        for out, new in zip(*map(jax.tree.leaves, (self.rows.ended, results)), strict=True):
            out[places] = new[some]
