"""The fit that the options ask for."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from jaxlsq.api.fit import fit
from jaxlsq.cli.data import Data
from jaxlsq.cli.models import Chosen, chosen, imported
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.result import FitResult
from jaxlsq.tracing.arguments import parameters_of

__all__ = ["Job"]

# Options that `jaxlsq.fit` has under the same names.
SAME = (
    *("absolute_sigma", "nan_policy", "loss", "f_scale", "ftol", "xtol", "gtol", "max_nfev"),
    *("starts", "workers", "x_errors"),
)


@dataclass(frozen=True)
class Job:
    """A model, where its fits begin, and all else that `jaxlsq.fit` is told.

    Attributes
    ----------
    chosen : Chosen
    p0 : dict of numbers, or callable
    options : dict
    """

    chosen: Chosen
    p0: Any
    options: dict[str, Any]

    @classmethod
    def of(cls, given: Namespace) -> Self:
        """From the command line's options, checked.

        Raises
        ------
        ValueError, ImportError
            For a formula that is none, a name that is no parameter's, a missing start.
        """
        model, p0 = chosen(given.model), dict(given.p0)
        p0 = {name: p0[name] for name in model.names if name in p0} | p0
        bounds, fixed = dict(given.bounds), list(given.fixed)
        for option, names in (
            ("--p0", [name for name, _ in given.p0]),
            ("--bounds", [name for name, _ in given.bounds]),
            ("--fixed", fixed),
        ):
            model.check_names(option, names)
        model.check_start(p0, given.guess is not None)
        if given.f_scale is not None and given.loss in (None, "linear", "poisson"):
            raise ValueError("--f-scale is of a --loss such as soft_l1; give one, or leave it.")
        options = {name: getattr(given, name) for name in SAME if getattr(given, name) is not None}
        if bounds:
            options["bounds"] = bounds
        if fixed:
            options["fixed"] = fixed
        start: Any = p0
        if given.guess is not None:
            module, _, name = given.guess.partition(":")
            start = _guess(imported(module, name or "guess", "--guess"), p0)
        return cls(_by_name(model, p0), start, options)

    def run(self, data: Data, progress: bool) -> FitResult:
        """Fit the data sets; the result has their labels.

        Raises
        ------
        Interrupted
            On Ctrl-C, with what is done.
        """
        try:
            result = fit(
                self.chosen.model,
                data.x,
                data.y,
                self.p0 or None,
                sigma=data.sigma,
                xsigma=data.xsigma,
                axis=data.axis,
                progress=progress,
                **self.options,
            )
        except Interrupted as interrupt:
            raise Interrupted(replace(interrupt.result, labels=data.labels)) from None
        return replace(result, labels=data.labels)


def _guess(function: Callable[..., Any], p0: dict[str, float]) -> Callable[..., Any]:
    """A guess, with some parameters as they were given."""

    def guess(x: Any, y: Any) -> Any:
        found = function(x, y)
        if p0 and not isinstance(found, dict):
            raise ValueError("--p0 beside --guess needs a guess that returns a dict of parameters.")
        return found | p0 if p0 else found

    return guess


def _by_name(model: Chosen, p0: dict[str, float]) -> Chosen:
    """A model that takes ``*params`` as one that takes those that --p0 names, in its order."""
    found, function = parameters_of(model.model) or [], model.model
    if not p0 or not any(p.kind is p.VAR_POSITIONAL for p in found):
        return model
    return replace(model, model=lambda x, **named: function(x, *(named[name] for name in p0)))
