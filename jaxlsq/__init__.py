"""Levenberg-Marquardt least squares on JAX, as MINPACK does it."""

from jaxlsq.api.curve_fit import OptimizeWarning, curve_fit
from jaxlsq.api.leastsq import leastsq

__all__ = ["OptimizeWarning", "curve_fit", "leastsq"]
__version__ = "0.1.0"
