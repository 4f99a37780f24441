"""Problems from the host through pools of lanes: blocks, threads, progress, interruption."""

import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace

import jax
import numpy as np

from jaxlsq.problem.task import Seen
from jaxlsq.schedule.queue import Ended
from jaxlsq.status import Status
from jaxlsq.tracing.settings import own_settings

__all__ = ["Pace", "stream"]

POLL_S = 0.05
# What one call may take, so that a run can be stopped between two of them.
CALL_S = 0.15
FIRST_ROUNDS = 32
MOST_ROUNDS = 1 << 30
# How long a run that is to stop waits for the calls that are under way.
GRACE_S = 0.3

_COUNTS = ("status", "nfev", "njev", "nit")
# What is reported of a problem that has not ended.
_EMPTY = Ended(*(np.nan,) * 5, Status.INTERRUPTED, 0, 0, 0)
_REALS = ("x", "cost", "optimality", "fnorm", "certainty")


class Pace:
    """How many rounds a program may work in one call, by how long it took before."""

    def __init__(self):
        self.rounds = FIRST_ROUNDS

    def measure(self, rounds, time_s):
        """Take in that so many rounds took so long."""
        fair = int(min(rounds * CALL_S / max(time_s, 1e-9), MOST_ROUNDS))
        self.rounds = max(fair, 1) if time_s > CALL_S else max(fair, self.rounds)


def stream(program, read, sizes, *, workers, wide, interrupts, report=None):
    """Run every block through `program`, each worker with a pool of its own.

    A pool keeps its unfinished lanes from one block to the next, so that slow fits hold up
    nothing but the end.

    Parameters
    ----------
    program : Program
        ``program.empty()`` gives a pool and ``program.place()`` the begin of a block;
        ``program(pool, arguments, count, drain, place)`` gives the pool, `Ended`, `Seen` of
        the data sets, and the place it has come to.  ``program.pace`` is a `Pace`.
    read : callable
        ``read(first, last) -> arguments``.
    sizes : (total, block, starts, n)
        Data sets in all and in a block, problems of each, parameters.
    workers : int
        Threads.
    wide : bool
        Whether the arithmetic is float64.
    interrupts : Interruption
    report : callable, optional
        ``report(done)`` with the data sets done so far, from the calling thread.

    Returns
    -------
    ended : Ended
        Of NumPy arrays.  What an interruption left out has the status ``INTERRUPTED``.
    seen : Seen
        Of NumPy arrays (total,).
    """
    run = _Run(program, read, sizes, wide)
    executor = ThreadPoolExecutor(workers, thread_name_prefix="jaxlsq")
    waiting = []
    try:
        waiting = [executor.submit(run.work) for _ in range(workers)]
        while waiting and not interrupts.asked:
            ended, waiting = wait(waiting, timeout=POLL_S, return_when=FIRST_EXCEPTION)
            for future in ended:
                future.result()
            _tell(report, run.done // sizes[2], interrupts)
    finally:
        run.stop.set()  # the workers end with their present call
        wait(waiting, timeout=GRACE_S)
        executor.shutdown(wait=False)
    return run.close()


def _tell(report, done, interrupts):
    """Report, and take an interrupt of it for the run's."""
    if report:
        try:
            with interrupts.at_once():
                report(done)
        except KeyboardInterrupt:
            interrupts.ask()


class _Run:
    """What the workers share: the next block, and the results."""

    def __init__(self, program, read, sizes, wide):
        total, self.block, self.starts, n = sizes
        real, whole = np.float64 if wide else np.float32, np.int32
        problems = total * self.starts
        self.program, self.read, self.total, self.wide = program, read, total, wide
        self.stop = threading.Event()
        self.done = 0
        types = Ended(**dict.fromkeys(_REALS, real), **dict.fromkeys(_COUNTS, whole))
        self.ended = jax.tree.map(lambda v, t: np.full(problems, v, t), _EMPTY, types)
        self.ended = replace(self.ended, x=np.full((problems, n), np.nan, real))
        self.seen = Seen(np.zeros(total, np.int32), np.zeros(total, real))
        self._next = 0
        self._closed = False
        self._lock = threading.Lock()

    def close(self):
        """The results; a worker whose call takes longer than the run waits changes nothing."""
        with self._lock:
            self._closed = True
        return self.ended, self.seen

    def work(self):
        """Take blocks until there are none, a few rounds at a time."""
        with own_settings(), jax.enable_x64(self.wide):
            pool, block = self.program.empty(), None
            held = None  # numbers of the problems in the lanes
            while not self.stop.is_set():
                if block is None or block.is_issued:
                    block = self._following(block)
                if block is None or (not block.size and np.all(held < 0)):
                    return
                pool, held = self._advance(pool, held, block)

    def _following(self, block):
        """The next block; an empty one after the last, and None where there was none."""
        with self._lock:
            first, last = self._next, min(self._next + self.block, self.total)
            self._next = last
        if first < last:
            block = _Block(first, last, self.read(first, last))
        elif block is not None:
            block = _Block(first, last, block.arguments)
        if block is not None:
            block.place = self.program.place()
            block.is_issued = first == last
        return block

    def _advance(self, pool, held, block):
        """Work some rounds; returns the pool, and the numbers of the problems in its lanes."""
        pace, count = self.program.pace, block.size * self.starts
        # When there are no more blocks, the lanes are worked to their end.
        drain = self._next >= self.total
        begin_s, rounds = time.perf_counter(), pace.rounds
        place = replace(block.place, rounds=np.int32(rounds))
        is_first = place.issued == 0
        pool, results, seen, place = self.program(pool, block.arguments, count, drain, place)
        place = replace(place, issued=np.asarray(place.issued), rounds=np.asarray(place.rounds))
        problem, results, seen = jax.tree.map(np.asarray, (pool.problem, results, seen))
        pace.measure(rounds - int(place.rounds), time.perf_counter() - begin_s)
        block.place, block.is_issued = place, int(place.issued) >= count
        with self._lock:
            if not self._closed:
                for out, new in zip(*map(jax.tree.leaves, (self.seen, seen)), strict=True):
                    out[block.first : block.last] = new[: block.size]
                is_whole = is_first and block.is_issued
                held = self._collect((block.first, count, is_whole), held, problem, results)
        return pool, held

    def _collect(self, block, held, problem, results):
        """Store what has ended; returns the numbers of the problems that lanes still hold."""
        first, count, is_whole = block
        begin = first * self.starts
        size = len(results.status) - len(problem)
        number = np.full(len(results.status), -1)
        number[:count] = np.arange(begin, begin + count)
        if held is not None:
            number[size:] = held
        kept = np.where(problem >= 0, number[problem], -1)
        done = results.status != Status.RUNNING
        late = size + np.flatnonzero((number[size:] >= 0) & done[size:])
        unfinished = kept[kept >= 0]
        # A block that one call went through is copied as a whole, which is cheaper than to
        # choose; what has not ended is put back to how it was.
        early = slice(count) if is_whole else np.flatnonzero(done[:count])
        place = slice(begin, begin + count) if is_whole else begin + early
        for out, new, empty in zip(
            *map(jax.tree.leaves, (self.ended, results, _EMPTY)), strict=True
        ):
            out[place] = new[early]
            out[number[late]] = new[late]
            out[unfinished] = empty
        self.done += np.count_nonzero(done[:count]) + late.size
        return kept


class _Block:
    """Problems `first` to `last`, and how far they have been worked."""

    def __init__(self, first, last, arguments):
        self.first, self.last, self.arguments = first, last, arguments
        self.place, self.is_issued = None, False

    @property
    def size(self):
        return self.last - self.first
