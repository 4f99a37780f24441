"""Levenberg-Marquardt least squares on JAX, as MINPACK does it."""

from jaxlsq import models as models
from jaxlsq.api.curve_fit import OptimizeWarning, curve_fit
from jaxlsq.api.fit import fit
from jaxlsq.api.least_squares import least_squares
from jaxlsq.api.least_squares_batch import least_squares_batch
from jaxlsq.api.leastsq import leastsq
from jaxlsq.lowering.engine import using
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
    "curve_fit",
    "fit",
    "least_squares",
    "least_squares_batch",
    "leastsq",
    "using",
]
__version__ = "0.1.0"
