"""Comparisons of two values, and choices between two, as instructions."""

import math
from collections.abc import Callable

from jaxlsq.lowering.emitter import Emitter, Value

__all__ = ["choose", "comparison", "extreme", "is_float"]


def is_float(value: Value) -> bool:
    """Whether a value is of floating point."""
    return value.dtype.kind == "f"


def comparison(word: str) -> Callable[..., Value]:
    """What writes a comparison: lt, le, gt, ge, eq or ne."""

    def write(emitter, params, arguments, dtype):
        a, b = arguments
        kind = emitter.vector(a.dtype)
        if is_float(a):  # only "not equal" is true of a NaN
            text = f"fcmp {'une' if word == 'ne' else 'o' + word}"
        elif word in ("eq", "ne"):
            text = f"icmp {word}"
        else:
            text = f"icmp {'s' if a.dtype.kind == 'i' else 'u'}{word}"
        return emitter.value(f"{text} {kind} {a.name}, {b.name}", bool)

    return write


def choose(emitter: Emitter, mask: Value, yes: Value, no: Value) -> Value:
    """``where(mask, yes, no)``."""
    if mask.known is not None:
        return yes if mask.known else no
    if yes.name == no.name:
        return yes
    kind = emitter.vector(yes.dtype)
    text = f"select {emitter.vector(bool)} {mask.name}, {kind} {yes.name}, {kind} {no.name}"
    return emitter.value(text, yes.dtype)


def extreme(word: str) -> Callable[..., Value]:
    """What writes the larger (gt) or the smaller (lt) of two; a NaN if there is one."""

    def write(emitter, params, arguments, dtype):
        a, b = arguments
        kind = emitter.vector(dtype)
        if not is_float(a):
            sign = "s" if dtype.kind == "i" else "u"
            mask = emitter.value(f"icmp {sign}{word} {kind} {a.name}, {b.name}", bool)
            return choose(emitter, mask, a, b)
        if b.known is not None:  # then one comparison does
            a, b = b, a
        mask = emitter.value(f"fcmp o{word} {kind} {a.name}, {b.name}", bool)
        larger = choose(emitter, mask, a, b)  # b where either is NaN
        if a.known is not None and not math.isnan(a.known):
            return larger
        unknown = emitter.value(f"fcmp uno {kind} {a.name}, {a.name}", bool)
        return choose(emitter, unknown, a, larger)

    return write
