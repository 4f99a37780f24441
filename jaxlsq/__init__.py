"""Levenberg-Marquardt least squares on JAX, as MINPACK does it."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxlsq.api.curve_fit import OptimizeWarning, curve_fit
from jaxlsq.api.fit import fit
from jaxlsq.api.least_squares import least_squares
from jaxlsq.api.least_squares_batch import least_squares_batch
from jaxlsq.api.leastsq import leastsq
from jaxlsq.lowering.engine import using
from jaxlsq.results.comparison import compare
from jaxlsq.results.distribution import Distribution
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.result import FitResult
from jaxlsq.results.solution import LeastSquaresResult
from jaxlsq.results.stored import StoredResult
from jaxlsq.status import Status
from jaxlsq.tracing.cache import clear_cache

if TYPE_CHECKING:
    from jaxlsq import models as models

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
    "using",
]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """The room `jaxlsq.models`, which is read when it is first used."""
    if name == "models":
        return importlib.import_module("jaxlsq.models")
    raise AttributeError(f"module 'jaxlsq' has no attribute {name!r}")
