"""Progress bars: tqdm where it is installed, a line of text where not, or a function."""

import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["Report", "reporter"]

INTERVAL_S = 0.1
# A compilation that takes longer is announced.
SOON_S = 1.0
COMPILING = "compiling the model"


@dataclass(frozen=True)
class Report:
    """What is told of a run's progress.

    Attributes
    ----------
    tell : callable
        ``tell(done)``, the fits done so far.
    announced : callable
        A context in which a program is compiled.
    first : int
        Fits that were done before.
    """

    tell: Callable[[int], Any]
    announced: Callable[[], AbstractContextManager[Any]] = nullcontext
    first: int = 0

    def __call__(self, done: int, _: int = 0) -> None:
        self.tell(self.first + done)

    def after(self, first: int) -> "Report":
        """The report of a part of the run, after so many fits."""
        return replace(self, first=self.first + first)


@contextmanager
def reporter(progress: bool | Callable[..., Any], total: int) -> Iterator[Report | None]:
    """What to call with the number of fits done, or None.

    Parameters
    ----------
    progress : bool or callable
        True for a bar; a callable gets ``(done, total)``, and may be another run's `Report`.
    total : int

    Yields
    ------
    Report or None
    """
    if not progress:
        yield None
    elif isinstance(progress, Report):
        yield progress
    elif callable(progress):
        yield Report(_rarely(lambda done: progress(done, total), total))
    else:
        bar = _bar(total)
        if bar is None:
            line = _Line(total)
            try:
                yield Report(_rarely(line.write, total), line.compiling)
            finally:
                line.close()
        else:
            with bar:
                yield Report(lambda done: bar.update(done - bar.n), lambda: _of_bar(bar))


def _bar(total):
    """tqdm's bar, or None without tqdm."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # in a notebook without widgets there is a bar of text
            from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit="fit", unit_scale=True)


@contextmanager
def _of_bar(bar):
    """A bar says that a program is compiled, and leaves the time out of its rate."""

    def say(words):
        bar.set_description_str(words)

    with _soon(say):
        yield
    bar.unpause()


@contextmanager
def _soon(say):
    """Say what takes time when it has taken some, from another thread; and nothing at its end."""
    over, lock = False, threading.Lock()

    def late():
        with lock:
            if not over:
                say(COMPILING)

    timer = threading.Timer(SOON_S, late)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            over = True
        say("")


def _rarely(call, total):
    """`call` at most ten times a second, and when all is done."""
    last = [0.0, -1]

    def report(done):
        now = time.monotonic()
        if done != last[1] and (now - last[0] > INTERVAL_S or done >= total):
            last[:] = now, done
            call(done)

    return report


class _Line:
    """A line of text that is written again and again."""

    def __init__(self, total):
        self.total, self.width = total, 0
        self.begin_s = time.monotonic()

    def write(self, done):
        took_s = max(time.monotonic() - self.begin_s, 1e-9)
        words = f"{done:,} of {self.total:,} fits ({done / self.total:.0%})"
        if done:
            words += f", {done / took_s:,.0f} a second"
        if 0 < done < self.total:
            words += f", {_in_words(took_s * (self.total - done) / done)} left"
        self._put(words)

    @contextmanager
    def compiling(self):
        before_s = time.monotonic()
        with _soon(self._put):
            yield
        self.begin_s += time.monotonic() - before_s

    def _put(self, words):
        print(f"\r{words:<{self.width}}", end="", file=sys.stderr, flush=True)
        self.width = len(words)

    def close(self):
        print(file=sys.stderr)


def _in_words(time_s):
    """A span of time, to a second or a minute."""
    if time_s < 99.5:
        return f"{time_s:.0f} s"
    minutes = round(time_s / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
