"""Progress bars: tqdm where it is installed, a line of text where not, or a function."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["reporter"]

INTERVAL_S = 0.1


@contextmanager
def reporter(
    progress: bool | Callable[..., Any], total: int
) -> Iterator[Callable[[int], Any] | None]:
    """What to call with the number of fits done, or None.

    Parameters
    ----------
    progress : bool or callable
        True for a bar; a callable gets ``(done, total)``.
    total : int

    Yields
    ------
    callable or None
    """
    if not progress:
        yield None
    elif callable(progress):
        yield _rarely(lambda done: progress(done, total), total)
    else:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            yield _rarely(_line(total), total)
            print(file=sys.stderr)
        else:
            with tqdm(total=total, unit="fit", unit_scale=True) as bar:
                yield lambda done: bar.update(done - bar.n)


def _rarely(call, total):
    """`call` at most ten times a second, and when all is done."""
    last = [0.0, -1]

    def report(done):
        now = time.monotonic()
        if done != last[1] and (now - last[0] > INTERVAL_S or done >= total):
            last[:] = now, done
            call(done)

    return report


def _line(total):
    begin = time.monotonic()

    def write(done):
        rate = done / max(time.monotonic() - begin, 1e-9)
        print(
            f"\r{done:,} of {total:,} fits ({done / total:.0%}), {rate:,.0f} a second",
            end="",
            file=sys.stderr,
            flush=True,
        )

    return write
