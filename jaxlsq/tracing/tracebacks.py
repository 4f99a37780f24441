"""Tracebacks as lists of places, of which some can be left out."""

from collections.abc import Sequence
from types import TracebackType

import jax

__all__ = ["chained", "places", "shows_all_frames"]


def places(traceback: TracebackType | None) -> list[TracebackType]:
    """The places of a traceback, from the outermost call to where the error was raised."""
    found = []
    while traceback is not None:
        found.append(traceback)
        traceback = traceback.tb_next
    return found


def chained(places: Sequence[TracebackType]) -> TracebackType | None:
    """A traceback of some of the places of another."""
    following = None
    for place in reversed(places):
        following = TracebackType(following, place.tb_frame, place.tb_lasti, place.tb_lineno)
    return following


def shows_all_frames() -> bool:
    """Whether JAX is asked to filter no tracebacks: then we do not either."""
    return getattr(jax.config, "jax_traceback_filtering", None) == "off"
