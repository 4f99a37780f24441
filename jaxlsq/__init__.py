"""Levenberg-Marquardt least squares on JAX, as MINPACK does it."""

from jaxlsq.api.scipy_compat import OptimizeWarning, curve_fit, leastsq

__all__ = ["OptimizeWarning", "curve_fit", "leastsq"]
__version__ = "0.1.0"
