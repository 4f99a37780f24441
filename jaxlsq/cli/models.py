"""What ``--model`` says: a formula, models by name, or a function in a file."""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import reduce
from operator import add
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxlsq import models
from jaxlsq.cli.formula import Formula, parse
from jaxlsq.tracing.arguments import POSITIONAL, parameters_of

__all__ = ["Chosen", "chosen", "imported"]

_FUNCTION = re.compile(r"([A-Za-z_][\w./\\-]*):([A-Za-z_][\w.]*)")
_TERM = re.compile(r"\s*([A-Za-z]\w*)\s*(?:\(\s*(\w*)\s*\)\s*)?")


@dataclass(frozen=True)
class Chosen:
    """A model, and what is known of its parameters.

    Attributes
    ----------
    model : callable
    names : tuple of str
        Of its parameters; () where it takes any.
    needed : tuple of str
        Those that the user has to start: without a guess or a default.
    said : str
        What it is.
    """

    model: Callable[..., Any]
    names: tuple[str, ...]
    needed: tuple[str, ...]
    said: str

    def check_start(self, p0: Mapping[str, float], guessed: bool) -> None:
        """Raise ValueError where parameters have no start."""
        missing = [name for name in self.needed if name not in p0]
        if not missing or guessed:
            return
        hint = ""
        if isinstance(self.model, Formula):
            hint = f" All names of a formula but functions, pi and {self.model.variable} are those "
            hint += "of parameters."
        values = " ".join(f"{name}=1" for name in missing)
        raise ValueError(
            f"--p0: where do {', '.join(missing)} of {self.said} begin? For example --p0 "
            f"{values}.{hint}"
        )

    def check_names(self, option: str, given: Sequence[str]) -> None:
        """Raise ValueError for names that are none of the parameters', or that are there twice."""
        for name in given:
            if given.count(name) > 1:
                raise ValueError(f"{option} {name} is given twice.")
            if self.names and name not in self.names:
                near = get_close_matches(name, self.names, 1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise ValueError(
                    f"{option} {name}: the parameters of {self.said} are "
                    f"{', '.join(self.names)}.{hint}"
                )


def chosen(text: str) -> Chosen:
    """The model that a text means.

    Parameters
    ----------
    text : str
        ``module:function``; names of `jaxlsq.models` in any case, with plus signs between them and
        a prefix or a degree in parentheses; or else a formula for `parse`.

    Raises
    ------
    ValueError, ImportError
        For what is none of these.
    """
    if ":" in text and (match := _FUNCTION.fullmatch(text.strip())):
        return _of_function(text.strip(), imported(match[1], match[2], "--model"))
    ready = _ready_models()
    terms = [match for term in text.split("+") if (match := _TERM.fullmatch(term))]
    strange = [term[1] for term in terms if term[1].lower() not in ready]
    if len(terms) == text.count("+") + 1 and len(strange) < len(terms):
        if strange:
            near = _near(strange[0], ready)
            raise ValueError(f"--model {text}: {strange[0]} is no model's name.{near}")
        parts = [_ready(ready[term[1].lower()], term[2]) for term in terms]
        return _of_model(reduce(add, parts), text)
    if re.fullmatch(r"\s*[A-Za-z]\w*\s*", text):
        raise ValueError(
            f"--model {text}: neither a model's name nor a formula, which has an x in it."
            f"{_near(text, ready)}"
        )
    formula = parse(text)
    return Chosen(formula, formula.names, formula.names, repr(text))


def _ready_models() -> dict[str, Callable[..., Any]]:
    """The models of `jaxlsq.models` by their names in lower case."""
    makers = {name: getattr(models, name) for name in models.__all__}
    return {
        name.lower(): make
        for name, make in makers.items()
        if callable(make) and "prefix" in inspect.signature(make).parameters and name != "Model"
    }


def _ready(make: Callable[..., Any], argument: str):
    """A model, with a prefix or a number in its parentheses."""
    if argument:
        return make(int(argument)) if argument.isdecimal() else make(prefix=argument)
    if any(p.default is p.empty for p in inspect.signature(make).parameters.values()):
        name = make.__name__.lower()
        raise ValueError(f"--model {name} needs a number in parentheses: {name}(2).")
    return make()


def _near(name: str, ready: Iterable[str]):
    near = get_close_matches(name.strip().lower(), ready, 1)
    return f" Did you mean {near[0]}?" if near else f" Models: {', '.join(ready)}."


def imported(module: str, name: str, option: str) -> Any:
    """An object of a module; modules of the current folder too.

    Raises
    ------
    ImportError, ValueError
        Where there is none.
    """
    if module.endswith(".py") or "/" in module or os.sep in module:
        better = module.removesuffix(".py").replace(os.sep, ".").replace("/", ".").strip(".")
        raise ValueError(
            f"{option} {module}:{name}: expected a module's name, not a file's: {better}:{name}."
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a module that this one imports
        raise ImportError(
            f"{option} {module}:{name}: there is no module {error.name} in {here} or installed."
        ) from None
    for part in name.split("."):
        if not hasattr(found, part):
            functions = [k for k, v in vars(found).items() if callable(v) and k[0] != "_"]
            near = get_close_matches(part, functions, 1) if isinstance(found, ModuleType) else ()
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ImportError(f"{option} {module}:{name}: {module} has no {part}.{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{option} {module}:{name}: expected a function, got {found!r:.60}.")
    return found


def _of_function(text: str, function: Callable[..., Any]):
    """A function ``f(x, a, b=1.0)``; arguments with a default begin there."""
    if isinstance(getattr(function, "names", None), tuple):
        return _of_model(function, text)
    found = [p for p in parameters_of(function) or () if p.kind in (*POSITIONAL, p.KEYWORD_ONLY)]
    names = tuple(p.name for p in found)
    needed = tuple(p.name for p in found if p.default is p.empty)
    if getattr(function, "guess", None) is not None:
        needed = ()
    some = any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters_of(function) or ())
    return Chosen(function, () if some else names, needed, text)


def _of_model(model: Any, text: str):
    guess = getattr(model, "guess", None)
    return Chosen(model, model.names, model.names if guess is None else (), text)
