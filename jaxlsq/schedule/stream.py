"""Problems from the host through pools of lanes: blocks, threads, progress, interruption."""

import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace

import jax
import numpy as np

from jaxlsq.schedule.pool import Ended
from jaxlsq.status import Status

__all__ = ["stream"]

POLL_S = 0.05

_COUNTS = ("status", "nfev", "njev", "nit")
# What is reported of a problem that has not ended.
_EMPTY = Ended(np.nan, np.nan, np.nan, Status.INTERRUPTED, 0, 0, 0)


def stream(program, read, sizes, *, workers, wide, report=None):
    """Run every block through `program`, each worker with a pool of its own.

    A pool keeps its unfinished lanes from one block to the next, so that slow fits hold up
    nothing but the end.

    Parameters
    ----------
    program : Program
        ``program.empty()`` gives a pool; ``program(pool, arguments, count, drain)`` gives the
        pool, `Ended` and the live points of each data set.
    read : callable
        ``read(first, last) -> arguments``.
    sizes : (total, block, starts, n)
        Data sets in all and in a block, problems of each, parameters.
    workers : int
        Threads.
    wide : bool
        Whether the arithmetic is float64.
    report : callable, optional
        ``report(done)`` with the data sets done so far, from the calling thread.

    Returns
    -------
    ended : Ended
        Of NumPy arrays.  What an interruption left out has the status ``INTERRUPTED``.
    live : (total,) int array
        Points that were fitted.
    interrupted : bool
    """
    run = _Run(program, read, sizes, wide)
    interrupted = False
    with ThreadPoolExecutor(workers) as executor:
        futures = [executor.submit(run.work) for _ in range(workers)]
        try:
            waiting = futures
            while waiting:
                done, waiting = wait(waiting, timeout=POLL_S, return_when=FIRST_EXCEPTION)
                if any(future.exception() for future in done):
                    run.stop.set()
                if report:
                    report(run.done // sizes[2])
        except KeyboardInterrupt:
            interrupted = True
        finally:
            run.stop.set()  # the workers end with their present block
    for future in futures:
        future.result()
    if report and not interrupted:
        with suppress(KeyboardInterrupt):  # everything is computed: keep it
            report(sizes[0])
    return run.ended, run.live, interrupted


class _Run:
    """What the workers share: the next block, and the results."""

    def __init__(self, program, read, sizes, wide):
        total, self.block, self.starts, n = sizes
        real, whole = np.float64 if wide else np.float32, np.int32
        problems = total * self.starts
        self.program, self.read, self.total, self.wide = program, read, total, wide
        self.stop = threading.Event()
        self.done = 0
        types = Ended(x=real, cost=real, optimality=real, **dict.fromkeys(_COUNTS, whole))
        self.ended = jax.tree.map(lambda v, t: np.full(problems, v, t), _EMPTY, types)
        self.ended = replace(self.ended, x=np.full((problems, n), np.nan, real))
        self.live = np.zeros(total, np.int32)
        self._next = 0
        self._lock = threading.Lock()

    def work(self):
        """Take blocks until there are none."""
        with jax.enable_x64(self.wide):
            pool = self.program.empty()
            held = None  # numbers of the problems in the lanes
            while not self.stop.is_set():
                with self._lock:
                    first, last = self._next, min(self._next + self.block, self.total)
                    self._next = last
                if first < last:
                    arguments = self.read(first, last)
                elif held is None or np.all(held < 0):
                    return
                # When there are no more blocks, the lanes are worked to their end.
                drain = self._next >= self.total
                count = (last - first) * self.starts
                pool, results, live = self.program(pool, arguments, count, drain)
                held = self._collect(first, last, held, pool.problem, results)
                self.live[first:last] = np.asarray(live)[: last - first]

    def _collect(self, first, last, held, problem, results):
        """Store what has ended; returns the numbers of the problems that lanes still hold."""
        problem, results = np.asarray(problem), jax.tree.map(np.asarray, results)
        begin, count = first * self.starts, (last - first) * self.starts
        size = len(results.status) - len(problem)
        number = np.full(len(results.status), -1)
        number[:count] = np.arange(begin, begin + count)
        if held is not None:
            number[size:] = held
        kept = np.where(problem >= 0, number[problem], -1)
        # The whole block is copied, which is cheaper than to choose; what has not ended is
        # put back to how it was.
        done = results.status != Status.RUNNING
        late = size + np.flatnonzero((number[size:] >= 0) & done[size:])
        unfinished = kept[kept >= 0]
        for out, new, empty in zip(
            *map(jax.tree.leaves, (self.ended, results, _EMPTY)), strict=True
        ):
            out[begin : begin + count] = new[:count]
            out[number[late]] = new[late]
            out[unfinished] = empty
        with self._lock:
            self.done += np.count_nonzero(done[:count]) + late.size
        return kept
