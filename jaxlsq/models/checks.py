"""What a model's function says of its parameters, and whether prefixes and ties can be."""

import inspect
from collections.abc import Callable
from typing import Any

from jaxlsq.models.compose import Defaults

__all__ = ["check_prefix", "check_tie", "defaults_of", "names_of"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def names_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """A function's parameters after x."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some callables have no signature
        raise TypeError("function has no signature; pass names=('a', 'b').") from None
    names = tuple(p.name for p in found[1:] if p.kind in _POSITIONAL)
    several = any(p.kind not in _POSITIONAL for p in found)
    if several or not names:
        raise TypeError(
            "function must be f(x, a, b, ...) with one argument for each parameter, got "
            f"{inspect.signature(function)}; pass names=('a', 'b') for *params."
        )
    return names


def defaults_of(function: Callable[..., Any], names: tuple[str, ...]) -> Defaults | None:
    """The guess that a function's defaults are, where all parameters have one."""
    try:
        found = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):
        return None
    values = [p.default for p in found if p.kind in _POSITIONAL]
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
