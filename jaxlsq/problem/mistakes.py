"""Errors of the caller's: their tracebacks are of the caller's code, not of ours."""

import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Any

from jaxlsq.tracing.tracebacks import chained, places, shows_all_frames

__all__ = ["brief_errors"]

OURS = str(Path(__file__).parent.parent)
# Where there is neither our code nor the caller's.
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class _BriefErrors:
    """A context that takes our own frames out of the tracebacks of errors that are not ours.

    Those are errors that the caller's functions raise, and what we raise for improper input.  With
    JAX's ``jax_traceback_filtering`` set to ``off`` all frames stay.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, traceback: TracebackType | None) -> None:
        if traceback is None or not isinstance(error, Exception):
            return
        if shows_all_frames():
            return
        inside = places(traceback.tb_next)
        callers = [place for place in inside if not _file(place).startswith((OURS, *LIBRARIES))]
        improper = isinstance(error, (ValueError, TypeError))
        if callers or (improper and inside and _file(inside[-1]).startswith(OURS)):
            # What the caller's code has called is the caller's too.
            kept = [place for place in inside if not _file(place).startswith(OURS)]
            traceback.tb_next = chained(kept) if callers else None


brief_errors: _BriefErrors = _BriefErrors()


def _file(place):
    return place.tb_frame.f_code.co_filename
