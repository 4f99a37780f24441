"""Fits of xarray's arrays: `curvefit`, and the accessor ``lsq``, which this import registers."""

from jaxlsq.xarray.accessor import LeastSquaresAccessor
from jaxlsq.xarray.curvefit import curvefit

__all__ = ["LeastSquaresAccessor", "curvefit"]
