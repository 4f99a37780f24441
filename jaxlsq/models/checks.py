"""What a model's function says of its parameters, and whether prefixes and ties can be."""

import inspect
from collections.abc import Callable
from typing import Any

from jaxlsq.models.compose import Defaults
from jaxlsq.tracing.arguments import POSITIONAL, arguments_of

__all__ = ["check_prefix", "check_tie", "defaults_of", "names_of"]


def names_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """A function's parameters after x."""
    found = arguments_of(function)
    if found is None:
        raise TypeError("function has no signature; pass names=('a', 'b').")
    names = tuple(p.name for p in found[1:] if p.kind in POSITIONAL)
    # What comes by keyword alone and has a default is an option, as for `fit`.
    others = [p for p in found if p.kind not in POSITIONAL]
    several = any(p.kind is not p.KEYWORD_ONLY or p.default is p.empty for p in others)
    if several or not names:
        raise TypeError(
            "function must be f(x, a, b, ...) with one argument for each parameter, got "
            f"{inspect.Signature(found)}; pass names=('a', 'b') for *params."
        )
    return names


def defaults_of(function: Callable[..., Any], names: tuple[str, ...]) -> Defaults | None:
    """The guess that a function's defaults are, where all parameters have one."""
    values = [p.default for p in (arguments_of(function) or [])[1:] if p.kind in POSITIONAL]
    numbers = len(values) == len(names) and all(isinstance(v, (int, float)) for v in values)
    return Defaults(tuple(zip(names, map(float, values), strict=True))) if numbers else None


def check_prefix(prefix: Any) -> None:
    """Raise for what can't begin a name."""
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a string such as 'p1_', got {prefix!r}.")
    if not (prefix + "x").isidentifier():
        raise ValueError(f"prefix must begin a name of Python's, such as 'p1_', got {prefix!r}.")


def check_tie(name: str, source: Any, free: tuple[str, ...]) -> None:
    """Raise for a tie of a parameter that is none, or to none of those that are left."""
    if not callable(source) and not isinstance(source, str):
        raise TypeError(
            f"tied({name}=...) must be a parameter's name or a function of the others' dict, got "
            f"{source!r}. For a constant pass fit(..., fixed=[{name!r}])."
        )
    if isinstance(source, str) and source not in free:
        raise ValueError(
            f"tied({name}={source!r}): {source!r} is none of the parameters that are left, {free}."
        )
