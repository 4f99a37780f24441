"""What the axes of a plot are called: what data and model say of themselves."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from jaxlsq.tracing.arguments import arguments_of

__all__ = ["Captions", "caption", "units_of"]


@dataclass(frozen=True)
class Captions:
    """Of the axes of a plot, and the units of parameters; "" where nothing is said.

    Attributes
    ----------
    x : tuple of str
        Of each coordinate of a point.
    y : str
    units : dict of str
        Of the parameters whose units follow from those of x and y, by their names.
    """

    x: tuple[str, ...] = ()
    y: str = ""
    units: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Callable[..., Any], xdata: Any, ydata: Any) -> Self:
        """From a model and the data as the caller gave them."""
        parts = _coordinates(xdata)
        x = [caption(part, key) for key, part in parts]
        if len(x) == 1 and not x[0]:
            x = [_first_argument(model)]
        pair = [str(_attrs(of).get("units", "")) for of in (parts[0][1] if parts else None, ydata)]
        return cls(tuple(x), caption(ydata), units_of(model, *pair))


def caption(values: Any, otherwise: str = "") -> str:
    """A name, or what attributes call it, and units: ``"echo time [ms]"``.

    Parameters
    ----------
    values : DataArray, Series, group of a DataFrame, or anything else, which has none
    otherwise : str
        What it is called if it does not say.
    """
    if type(values) in (list, tuple):
        names = {caption(one) for one in values[:100]}
        return names.pop() if len(names) == 1 else otherwise
    attrs = _attrs(values)
    # A column that was grouped has its name in `obj`.
    names = (getattr(of, "name", None) for of in (values, getattr(values, "obj", None)))
    known = [attrs.get("long_name"), attrs.get("standard_name"), *names, otherwise]
    name = next((word for word in known if isinstance(word, str) and word), "")
    units = attrs.get("units")
    return f"{name} [{units}]".lstrip() if isinstance(units, str) and units else name


def units_of(model: Callable[..., Any], x: str, y: str) -> dict[str, str]:
    """Units of parameters, where the model says how they follow from those of x and y.

    Parameters
    ----------
    model : callable
        Its `units` are a dict of expressions such as ``"y/x"`` by name, if it has some.
    x, y : str
        Units, "" where they are not known.
    """
    said = getattr(model, "units", None)
    own, out = {"x": x, "y": y}, {}
    for name, words in said.items() if isinstance(said, dict) else ():
        used = set(re.findall(r"[xy]", words or ""))
        if used and all(own[one] for one in used):
            out[name] = re.sub(r"[xy]", lambda found: own[found[0]], words)
    return out


def _coordinates(xdata):
    """The coordinates of a point, with what they are called where they have keys."""
    if isinstance(xdata, Mapping):
        return [(str(key), part) for key, part in xdata.items()]
    if isinstance(xdata, tuple):
        return [("", part) for part in xdata]
    return [("", xdata)]


def _attrs(values):
    attrs = getattr(values, "attrs", None)
    return attrs if isinstance(attrs, Mapping) else {}


def _first_argument(model):
    found = arguments_of(model)
    return found[0].name if found else ""
