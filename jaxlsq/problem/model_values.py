"""What a model says of its own parameters: starting values, a guess, bounds."""

import inspect
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from jaxlsq.problem.containers import by_name
from jaxlsq.problem.names import check_count
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.starts import Start
from jaxlsq.problem.types import BoundsLike
from jaxlsq.tracing.arguments import POSITIONAL, parameters_of

__all__ = ["Begin", "begin_of", "bounds_of", "in_models_order"]


# For who passes Gaussian in the place of Gaussian().
_MADE = " (a ready one is called first, Gaussian())"


class Begin(NamedTuple):
    """Where fits begin.

    `p0` are numbers, NaN for what is guessed, or None where all is; `guess` is a function of
    ``(x, y)``, or None where nothing is.
    """

    p0: Any
    guess: Any


def begin_of(model: Callable[..., Any], p0: Any, linear: Any = None) -> Begin:
    """Starting values as the caller gave them, and the model's own in the place of others.

    Parameters
    ----------
    model : callable
        Its own are ``model.guess(x, y)``, if it has that, or else the defaults of its arguments.
    p0 : None, callable, dict or array_like
        None for the model's own; a dict for some by name.
    linear : str or sequence of str, optional
        Parameters that need no starting values.

    Raises
    ------
    TypeError
        If p0 is None and the model has no guess and not a default for each.
    """
    if callable(p0):
        return Begin(None, p0)
    guess = getattr(model, "guess", None)
    if p0 is None and guess is not None:
        return Begin(None, guess)
    unneeded = _unneeded(model, linear)
    own = _own(model) | unneeded
    if p0 is None:
        return Begin(_defaults(model, own), None)
    p0 = by_name(p0)
    if not isinstance(p0, dict):
        return Begin(p0, None)
    missing = [name for name in own if name not in p0]
    # Of linear parameters alone a guess, which takes long to compile, would be of no use.
    if linear is not None and missing and (guess is None or unneeded.keys() >= set(missing)):
        p0 = {name: p0.get(name, own.get(name)) for name in {**own, **p0}}
        return Begin({name: value for name, value in p0.items() if value is not None}, None)
    if not missing:
        return Begin(p0, None)
    # In the model's order, since p0 says none of all.
    if guess is None:
        known = {name: value for name, value in own.items() if value is not None or name in p0}
        return Begin(known | p0 if p0 else p0, None)
    everything = dict.fromkeys(own, np.nan) | p0
    check_count(model, len(everything), tuple(everything))
    return Begin(everything, guess)


def in_models_order(start: Start, model: Callable[..., Any]) -> Start:
    """Starting parameters of a model's own guess, in the order of the model."""
    keys, names = start.layout.keys, tuple(_own(model))
    if keys == names or set(keys) != set(names) or start.layout.n != len(names):
        return start
    return start.in_order_of(Layout.of(dict.fromkeys(names, np.zeros(()))))


def bounds_of(model: Callable[..., Any], bounds: BoundsLike) -> BoundsLike:
    """Bounds as the caller gave them, and the model's own for parameters that they don't name."""
    own = getattr(model, "bounds", None)
    if not isinstance(own, dict) or not own:
        return bounds
    if bounds is None:
        return dict(own)
    return own | bounds if isinstance(bounds, dict) else bounds


def _own(model):
    """The model's parameters by name, and their defaults that are numbers, or None."""
    found = [p for p in parameters_of(model) or () if p.kind in POSITIONAL]
    return {p.name: p.default if _is_number(p.default) else None for p in found}


def _unneeded(model, linear):
    """Any value for parameters that need none: those that are linear."""
    names = [linear] if isinstance(linear, str) else list(linear or ())
    return {name: 1.0 for name in _own(model) if name in names}


def _defaults(model, own):
    """The defaults of all parameters, by name where they can be passed so."""
    without = [name for name, value in own.items() if value is None]
    if without or not own:
        lacks = f"has no default for {without}" if own else f"does not name its parameters{_MADE}"
        raise TypeError(
            f"p0 is None, and the model {lacks}; pass one starting value per parameter, for "
            "example [1.0, 1.0]."
        )
    kinds = {p.kind for p in parameters_of(model) or ()}
    unnamed = inspect.Parameter.POSITIONAL_ONLY in kinds
    return np.array(list(own.values()), float) if unnamed else own


def _is_number(value):
    return isinstance(value, (Real, np.number)) and not isinstance(value, (bool, np.bool))
