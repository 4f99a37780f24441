"""Ctrl-C while a batch runs: a request to stop, which loses nothing that is computed."""

import _thread
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import jax

from jaxlsq.tracing.settings import has_64_bits

__all__ = ["Interruption", "answered", "in_time", "waited"]

_T = TypeVar("_T")

# Presses that follow each other faster are one.
QUIET_S = 0.15
POLL_S = 0.05
# After so long an exception that was raised has left its part, if Python has not ignored it.
AGAIN_S = 0.1
# What may be made of what is done after a press, before it is answered.
TELL_S = 0.1


def answered(call: Callable[[], _T]) -> _T:
    """``call()``, which may be one long call of a library: Ctrl-C ends the wait for it."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    wide = has_64_bits()

    def work():
        with jax.enable_x64(wide):
            return call()

    executor = ThreadPoolExecutor(1)
    try:
        future = executor.submit(work)
        waited([future])
        return future.result()
    finally:
        executor.shutdown(wait=False)


def waited(futures: Sequence[Future[Any]]) -> None:
    """Wait for all of them; Ctrl-C, which may reach another thread, ends the wait."""
    while wait(futures, POLL_S).not_done:
        pass


def in_time(call: Callable[[Callable[[], bool]], _T]) -> _T | None:
    """``call(stop)`` after a press, where ``stop()`` is true soon; None if it takes longer."""
    until_s = time.monotonic() + TELL_S
    executor = ThreadPoolExecutor(1)
    try:
        future = executor.submit(call, lambda: time.monotonic() > until_s)
        return future.result() if wait([future], 2 * TELL_S).done else None
    finally:
        executor.shutdown(wait=False)


class Interruption:
    """What takes the place of KeyboardInterrupt between ``__enter__`` and ``__exit__``.

    An exception can come at any place, the one where results are put away too.  Here
    whatever raises KeyboardInterrupt on SIGINT only sets `asked`, but in a part that is
    `at_once`.  A handler of the caller's that does not raise goes on as it does.  Signals
    reach the main thread alone: in another one nothing is exchanged.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._at_once = self._leaving = self._repeated = False
        self._repeating = threading.Lock()
        self._last_s = 0.0
        self._previous: Callable[..., Any] | None = None

    @property
    def asked(self) -> bool:
        """Whether the run is to stop."""
        return self._event.is_set()

    def ask(self) -> None:
        """Ask the run to stop."""
        self._last_s = time.monotonic()
        self._event.set()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):
                self._previous = previous
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number, frame):
        if self._repeated:
            self._repeated = False
            self._leave(frame)
            return
        try:
            if self._previous is not None:
                self._previous(number, frame)
        except KeyboardInterrupt:
            self.ask()
            if self._at_once:
                self._at_once, self._leaving = False, True
            self._leave(frame)

    def _leave(self, frame):
        """Raise KeyboardInterrupt in a part that is left, and again while it goes on.

        Python ignores what is raised while it collects garbage, as JAX's callback has it done in
        the middle of a trace, or while it finalizes an object.
        """
        if self._leaving:
            collects = _collects(frame)
            later = threading.Timer(POLL_S if collects else AGAIN_S, self._repeat)
            later.daemon = True
            later.start()
            if not collects:
                raise KeyboardInterrupt

    def _repeat(self):
        with self._repeating:
            if self._leaving and signal.getsignal(signal.SIGINT) == self._handle:
                self._repeated = True
                _thread.interrupt_main(signal.SIGINT)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A part that KeyboardInterrupt may leave anywhere, since nothing is lost there."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = self._leaving = False
            with self._repeating:  # what is repeated now is heard here, and not by the caller
                pass

    def unless_asked(self, call: Callable[..., _T], *arguments: Any) -> _T | None:
        """``call(*arguments)``, left at once on Ctrl-C; None then, and where it came before."""
        if self.asked:
            return None
        try:
            with self.at_once():
                return call(*arguments)
        except KeyboardInterrupt:
            self.ask()
            return None

    def settle(self) -> None:
        """Wait for the last press of a row of them, which else would meet the caller's code."""
        while self.asked and (left := self._last_s + QUIET_S - time.monotonic()) > 0:
            time.sleep(left)


def _collects(frame):
    """Whether a frame is that of a callback of the garbage collection, or called by one."""
    codes = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None and frame.f_code not in codes:
        frame = frame.f_back
    return frame is not None
