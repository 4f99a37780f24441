"""Levenberg-Marquardt least squares on JAX, as MINPACK does it."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxlsq import models as models
    from jaxlsq.api.curve_fit import OptimizeWarning, curve_fit
    from jaxlsq.api.fit import fit
    from jaxlsq.api.least_squares import least_squares
    from jaxlsq.api.least_squares_batch import least_squares_batch
    from jaxlsq.api.leastsq import leastsq
    from jaxlsq.api.precompile import precompile
    from jaxlsq.lowering.engine import using
    from jaxlsq.results.comparison import compare
    from jaxlsq.results.distribution import Distribution
    from jaxlsq.results.interrupted import Interrupted
    from jaxlsq.results.result import FitResult
    from jaxlsq.results.solution import LeastSquaresResult
    from jaxlsq.results.stored import StoredResult
    from jaxlsq.status import Status
    from jaxlsq.tracing.cache import clear_cache

__all__ = [
    "Distribution",
    "FitResult",
    "Interrupted",
    "LeastSquaresResult",
    "OptimizeWarning",
    "Status",
    "StoredResult",
    "clear_cache",
    "compare",
    "curve_fit",
    "fit",
    "least_squares",
    "least_squares_batch",
    "leastsq",
    "precompile",
    "using",
]
__version__ = "0.2.0"

# It watches for forks, so it may not wait until something is used, perhaps in a child.
importlib.import_module("jaxlsq.tracing.forked")

# The file of each name, which is read when the name is first used: those behind `fit` are 200.
_FILES = {
    "Distribution": "jaxlsq.results.distribution",
    "FitResult": "jaxlsq.results.result",
    "Interrupted": "jaxlsq.results.interrupted",
    "LeastSquaresResult": "jaxlsq.results.solution",
    "OptimizeWarning": "jaxlsq.api.curve_fit",
    "Status": "jaxlsq.status",
    "StoredResult": "jaxlsq.results.stored",
    "clear_cache": "jaxlsq.tracing.cache",
    "compare": "jaxlsq.results.comparison",
    "curve_fit": "jaxlsq.api.curve_fit",
    "fit": "jaxlsq.api.fit",
    "least_squares": "jaxlsq.api.least_squares",
    "least_squares_batch": "jaxlsq.api.least_squares_batch",
    "leastsq": "jaxlsq.api.leastsq",
    "precompile": "jaxlsq.api.precompile",
    "using": "jaxlsq.lowering.engine",
}


def __getattr__(name: str) -> Any:
    """A public name, or the room `jaxlsq.models`, read when it is first used."""
    if name == "models":
        return importlib.import_module("jaxlsq.models")
    if name not in _FILES:
        raise AttributeError(f"module 'jaxlsq' has no attribute {name!r}")
    value = getattr(importlib.import_module(_FILES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_FILES, "models"})
