"""Names of parameters: those of a model's signature, and how values that have names fit them."""

import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from jaxlsq.tracing.arguments import POSITIONAL, parameters_of

__all__ = ["check_count", "check_order", "in_order", "names_of", "unknown_name"]


def names_of(model: Callable[..., Any], n: int) -> tuple[str, ...] | None:
    """The model's names of its first n parameters after x, or None.

    It has none for as many if it takes any number of them, or if more have no default.
    """
    found = parameters_of(model) or []
    positional = [p for p in found if p.kind in POSITIONAL]
    needed = sum(p.default is p.empty for p in positional)
    return tuple(p.name for p in positional[:n]) if needed <= n <= len(positional) else None


def check_count(
    model: Callable[..., Any], n: int, keys: Sequence[str] = (), what: str = "p0"
) -> None:
    """Raise TypeError where a model does not take n parameters, or ones of these names.

    Parameters
    ----------
    model : callable
    n : int
    keys : sequence of str
        Of parameters that are passed by name.
    what : str
        What has them, for messages.
    """
    found = parameters_of(model)
    if found is None:
        return
    positional = [p for p in found if p.kind in POSITIONAL]
    if keys:
        _check_names(found, keys, what)
        return
    needed = [p.name for p in positional if p.default is p.empty]
    some = any(p.kind is p.VAR_POSITIONAL for p in found)
    if len(needed) <= n and (some or n <= len(positional)):
        return
    names = [p.name for p in positional]
    takes = f"{len(names)}: {', '.join(names)}" if names else "none (a ready one is Gaussian())"
    hint = ""
    if len(names) == 1 and n > 1 and not some:
        hint = (
            f" Parameters come one by one; for a vector pass lambda x, *{names[0]}: model(x, ...)."
        )
    values = "value" if n == 1 else "values"
    raise TypeError(f"{what} has {n} {values}, the model takes {takes}.{hint}")


def _check_names(found, keys, what):
    named = [p for p in found if p.kind in (*POSITIONAL[1:], inspect.Parameter.KEYWORD_ONLY)]
    names = [p.name for p in named]
    missing = [p.name for p in named if p.default is p.empty and p.name not in keys]
    surplus = [key for key in keys if key not in names]
    if any(p.kind is p.VAR_KEYWORD for p in found):
        surplus = []
    if surplus or missing:
        near = get_close_matches(surplus[0], missing or names, 1) if surplus else ()
        hint = f" Did you mean {near[0]!r}?" if near else ""
        said = [f"names {surplus}, which the model does not take"] if surplus else []
        said += [f"lacks {missing}"] if missing else []
        raise TypeError(f"{what} {' and '.join(said)}: its parameters are {names}.{hint}")


def check_order(
    keys: tuple[str, ...], model: Callable[..., Any], jac: str | Callable[..., Any]
) -> None:
    """Raise ValueError where a Jacobian's columns could be meant in another order than p0's.

    Parameters
    ----------
    keys : tuple of str
        Names of the parameters in p0's order, or ().
    model : callable
    jac : str or callable
    """
    if not keys or not callable(jac):
        return
    for function, name in ((model, "model"), (jac, "jac")):
        order = tuple(p.name for p in parameters_of(function) or () if p.name in keys)
        if len(order) == len(keys) and order != tuple(keys):
            raise ValueError(
                f"p0 has its parameters in the order {tuple(keys)}, {name} takes {order}: in which "
                "of the two are jac's columns? Give p0 in the order of the model."
            )


def in_order(values: dict[str, Any], names: Sequence[str], what: str) -> list[Any]:
    """The values of a dict in the order of names.

    Raises
    ------
    ValueError
        For other names.
    """
    for name in values:
        if name not in names:
            raise ValueError(unknown_name(name, names, what))
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(f"{what} lacks {missing}: the parameters are {tuple(names)}.")
    return [values[name] for name in names]


def unknown_name(name: Any, names: Sequence[Any], what: str) -> str:
    """The text of an error for a name that is none of the parameters'."""
    near = get_close_matches(str(name), map(str, names), 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{what} names {name!r}, but the parameters are {tuple(names)}.{hint}"
