"""The arguments that a function's signature says it has."""

import inspect
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any

__all__ = ["POSITIONAL", "arguments_of", "parameters_of"]

# Kinds of parameters that are those of a fit; what comes by keyword alone is an option.
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


# Of plain functions, with what decides it: reading signatures is a tenth of a short fit.
_READ: weakref.WeakKeyDictionary[FunctionType, tuple[Any, Any, list[inspect.Parameter]]] = (
    weakref.WeakKeyDictionary()
)


def arguments_of(model: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """All arguments of a model, or None where it does not say."""
    plain = type(model) is FunctionType and not (model.__dict__ or model.__kwdefaults__)
    if plain:
        code, defaults, found = _READ.get(model, (None, None, []))
        if code is model.__code__ and defaults is model.__defaults__:
            return found
    try:
        found = list(inspect.signature(model).parameters.values())
    except (TypeError, ValueError):  # some callables have no signature
        return None
    if plain:
        _READ[model] = model.__code__, model.__defaults__, found
    return found


def parameters_of(model: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """A model's parameters after x, or None where it does not say."""
    found = arguments_of(model)
    if found and found[0].kind in POSITIONAL:
        return found[1:]
    return found
