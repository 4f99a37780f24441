"""``jaxlsq``, and ``python -m jaxlsq.cli``."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack

from jaxlsq.cli import drawing, info, writing
from jaxlsq.cli.arguments import parser
from jaxlsq.cli.columns import failures, table
from jaxlsq.cli.data import Wanted
from jaxlsq.cli.fitting import Job
from jaxlsq.cli.places import in_name
from jaxlsq.cli.reading import read
from jaxlsq.cli.text import Style
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.result import FitResult
from jaxlsq.status import Status

__all__ = ["main"]

CONVERGED, SOME_FAILED, IMPROPER, LOST, INTERRUPTED = 0, 1, 2, 3, 130
# Fits up to which each has a line on the screen, and failures up to which they are named.
MOST_LINES, MOST_NAMED = 20, 5
# What is said in a line instead of a traceback: of the input, of files, and of what is not there.
ERRORS = (ValueError, TypeError, OSError, ImportError, RuntimeError, MemoryError)
# The same of what a model or a guess of the user's raises, with where to look.
MODEL_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    SyntaxError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the process's exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process if not given.

    Raises
    ------
    SystemExit
        After ``--help``, and for options that are not right.
    """
    given = parser().parse_args(argv)
    if given.command == "info":
        print(json.dumps(info.facts(), indent=2) if given.json else info.text())
        return CONVERGED
    try:
        return _fit(given)
    except writing.Lost as lost:
        return _complain(str(lost), LOST)
    except KeyboardInterrupt:
        return _complain("interrupted.", INTERRUPTED)
    except (*ERRORS, *MODEL_ERRORS) as error:
        if given.debug:
            raise
        return _complain(_in_words(error), IMPROPER)


def _fit(given: Namespace) -> int:
    """``jaxlsq fit``."""
    with ExitStack() as files:
        _check_output(given)
        job = Job.of(given)
        style = Style(given.delimiter, given.decimal, given.header)
        signals = given.x, given.y, given.sigma
        wanted = Wanted(*signals, given.group, given.rows, style, given.xsigma)
        data, notes = read(given.data, wanted, files)
        _say(given, f"{data}.")
        for note in notes:
            print(f"jaxlsq: note: {note}", file=sys.stderr)
        data = data.in_float32() if given.float32 else data
        bar = sys.stderr.isatty() and not given.quiet if given.progress is None else given.progress
        try:
            result, interrupted = job.run(data, bar), False
        except Interrupted as interrupt:
            result, interrupted = interrupt.result, True
            # Errors of what is done are computed yet, and files written.
            print("jaxlsq: interrupted; what is done is kept.", file=sys.stderr, flush=True)
        return _finish(given, result, interrupted)


def _check_output(given: Namespace):
    """Raise for what can't be written, before anything is computed."""
    names = given.data, given.x, given.sigma, given.xsigma
    inputs = [in_name(name)[0] for name in names if name]
    if given.out:
        writing.check(given.out, inputs, writing.SUFFIXES)
    if given.plot:
        drawing.check_matplotlib()
        writing.check(given.plot, inputs, drawing.SUFFIXES)


def _finish(given: Namespace, result: FitResult, interrupted: bool) -> int:
    """Write and say what was found; the results first, which then are safe."""
    size = result.status.size
    if given.out:
        writing.keep(result, given.out)
    if not given.quiet:  # which saves its evaluations
        _say(given, f"{result.summary()}\n  engine: {result.engine}")
    if interrupted:
        done = size - result.counts().get(Status.INTERRUPTED, 0)
        where = f" are in {given.out}" if given.out else "; with --out they would be in a file"
        return _complain(f"interrupted: {done:,} of {size:,} fits{where}.", INTERRUPTED)
    if size <= MOST_LINES:
        _say(given, table(result))
    elif result.failed.any():
        _say(given, f"  not converged: {'; '.join(failures(result, MOST_NAMED))}")
    if given.out:
        _say(given, f"Wrote {given.out}: a row for each of {size:,} fits.")
    elif size > MOST_LINES:
        _say(given, "  --out fits.csv writes a row for each of them.")
    if given.plot:
        _say(given, drawing.draw(result, given.plot_which, given.plot))
    return SOME_FAILED if result.failed.any() else CONVERGED


def _say(given: Namespace, text: str):
    if given.quiet:
        return
    try:
        print(text, flush=True)
    except BrokenPipeError:  # as with ``| head``: nobody listens, and the files are still wanted
        given.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str, code: int):
    print(f"jaxlsq: {text}", file=sys.stderr)
    return code


def _in_words(error: BaseException) -> str:
    """An error in a line or a few; one that has no words, by its name."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, MODEL_ERRORS):
        return f"{type(error).__name__}: {error}. With --debug you see where it comes from."
    return str(error) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
