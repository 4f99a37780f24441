"""The one table of status codes: code, name, message, what to try.

Codes 0 to 8 are MINPACK's ``info`` and keep its meaning.  What MINPACK has no
word for is negative.  `SCIPY_MESSAGES` holds the texts that
``scipy.optimize.leastsq`` returns for MINPACK's codes, for the drop-in fronts.
"""

from enum import IntEnum
from typing import Any

__all__ = ["SUCCESS", "Status", "converged", "describe", "scipy_message"]


class Status(IntEnum):
    """Why a lane ended (or that it has not)."""

    RUNNING = -100
    NONFINITE_COST = -10
    MASKED_OUT = -9
    INFEASIBLE_BOUNDS = -8
    INTERRUPTED = -7
    SINGULAR_JACOBIAN = -6
    TOO_FEW_POINTS = -5
    NONFINITE_DATA = -4
    NONFINITE_STEPS = -3
    NONFINITE_JACOBIAN = -2
    NONFINITE_START = -1
    IMPROPER_INPUT = 0
    FTOL = 1
    XTOL = 2
    FTOL_AND_XTOL = 3
    GTOL = 4
    MAX_NFEV = 5
    FTOL_TOO_SMALL = 6
    XTOL_TOO_SMALL = 7
    GTOL_TOO_SMALL = 8

    def __repr__(self) -> str:
        return f"Status.{self.name}"  # short, for dicts such as `FitResult.counts`


SUCCESS = frozenset({Status.FTOL, Status.XTOL, Status.FTOL_AND_XTOL, Status.GTOL})


def converged(status: Any) -> Any:
    """Which of an array of codes, of NumPy or JAX, are of `SUCCESS`."""
    return (status >= min(SUCCESS)) & (status <= max(SUCCESS))


# status: (what happened, what to try).  Keys of the format are a front door's own arguments.
_TABLE = {
    Status.RUNNING: ("The fit has not ended.", ""),
    Status.MASKED_OUT: (
        "No point of this data set counts: all are masked or, with nan_policy='omit', NaN; its "
        "parameters are NaN.",
        "",
    ),
    Status.INTERRUPTED: (
        "The fit was interrupted before it ended; its parameters are NaN, or those it had come to.",
        "Run it with result.refit(where=result.status == Status.INTERRUPTED).",
    ),
    Status.INFEASIBLE_BOUNDS: (
        "A lower bound is above its upper bound, or one is NaN; the starting parameters are "
        "returned.",
        "Correct the bounds of this problem.",
    ),
    Status.SINGULAR_JACOBIAN: (
        "The fit converged, but the Jacobian there is singular to working precision: the data do "
        "not determine every parameter.",
        "Fix a parameter, or look for two that do the same; in float32, try float64.",
    ),
    Status.TOO_FEW_POINTS: (
        "There are fewer points, without those that are masked or NaN, than parameters; the "
        "starting parameters are returned.",
        "Fit fewer parameters, or leave this data set out.",
    ),
    Status.NONFINITE_DATA: (
        "The data (xdata, ydata, sigma, xsigma) or the starting parameters have a NaN or an "
        "infinity, or a sigma is zero or negative, or an xsigma negative; the starting parameters "
        "are returned.",
        "Mask the point, or pass nan_policy='omit' for NaN in xdata, ydata, sigma or xsigma.",
    ),
    Status.NONFINITE_STEPS: (
        "Every step down to the smallest led to where the function returns a NaN or an infinity; "
        "the last good parameters are returned, and need not be a minimum.",
        "Start elsewhere, or write the model so that it is finite around its solution (with "
        "loss='poisson': positive).",
    ),
    Status.NONFINITE_JACOBIAN: (
        "The Jacobian has a NaN or an infinity at the last accepted parameters, which are "
        "returned.",
        "Look for a square root, logarithm, power or norm whose derivative is undefined there, or "
        "an exponential that overflows (beyond 88 in float32, 709 in float64: try float64); or "
        "use finite differences ({jac}='2-point').",
    ),
    Status.NONFINITE_START: (
        "The function returned a NaN or an infinity at the starting parameters.",
        "Check the data for NaN and inf, and start where the model is finite (with "
        "loss='poisson': positive).",
    ),
    Status.NONFINITE_COST: (
        "The fit ended where its cost is beyond the range of the floating-point type.",
        "Scale the data, or in float32 use float64; or start closer.",
    ),
    Status.IMPROPER_INPUT: ("Improper input parameters.", "Read the error's text."),
    Status.FTOL: ("The relative reduction of the sum of squares is at most ftol.", ""),
    Status.XTOL: ("The relative size of the next step is at most xtol.", ""),
    Status.FTOL_AND_XTOL: ("Both the ftol and the xtol test hold.", ""),
    Status.GTOL: (
        "The cosine of the angle between the residual and every column of the Jacobian "
        "is at most gtol.",
        "",
    ),
    Status.MAX_NFEV: (
        "The limit on function evaluations was reached.",
        "Raise {limit}, start closer, or rescale parameters of very different size.",
    ),
    Status.FTOL_TOO_SMALL: (
        "ftol is too small: the sum of squares can't be reduced further.",
        "The result is at the limit of the arithmetic; take it, or raise ftol.",
    ),
    Status.XTOL_TOO_SMALL: (
        "xtol is too small: the parameters can't be improved further.",
        "The result is at the limit of the arithmetic; take it, or raise xtol.",
    ),
    Status.GTOL_TOO_SMALL: (
        "gtol is too small: the residual is orthogonal to the Jacobian to machine precision.",
        "The result is at the limit of the arithmetic; take it, or raise gtol.",
    ),
}

# MINPACK's code: SciPy's text.  Keys of the format are leastsq's arguments.
_SCIPY = {
    Status.IMPROPER_INPUT: "Improper input parameters.",
    Status.FTOL: "Both actual and predicted relative reductions in the sum of squares\n"
    "  are at most {ftol:f}",
    Status.XTOL: "The relative error between two consecutive iterates is at most {xtol:f}",
    Status.FTOL_AND_XTOL: "Both actual and predicted relative reductions in the sum of squares\n"
    "  are at most {ftol:f} and the relative error between two consecutive iterates is at \n"
    "  most {xtol:f}",
    Status.GTOL: "The cosine of the angle between func(x) and any column of the\n"
    "  Jacobian is at most {gtol:f} in absolute value",
    Status.MAX_NFEV: "Number of calls to function has reached maxfev = {maxfev:d}.",
    Status.FTOL_TOO_SMALL: "ftol={ftol:f} is too small, no further reduction in the sum of "
    "squares\n  is possible.",
    Status.XTOL_TOO_SMALL: "xtol={xtol:f} is too small, no further improvement in the "
    "approximate\n  solution is possible.",
    Status.GTOL_TOO_SMALL: "gtol={gtol:f} is too small, func(x) is orthogonal to the columns "
    "of\n  the Jacobian to machine precision.",
}


def describe(status: int, jac: str = "jac", limit: str = "max_nfev") -> str:
    """What happened and, where there is something, what to try.

    Parameters
    ----------
    status : int
        A code of `Status`.
    jac, limit : str
        What a front door calls the Jacobian, and the limit on evaluations.

    Returns
    -------
    str

    Examples
    --------
    >>> from jaxlsq.status import describe
    >>> describe(-1).split(".")[0]
    'The function returned a NaN or an infinity at the starting parameters'
    """
    happened, advice = _TABLE[Status(status)]
    return f"{happened} {advice.format(jac=jac, limit=limit)}".rstrip()


def scipy_message(status: int, **arguments: Any) -> str:
    """SciPy's text for a MINPACK code, `describe`'s in `leastsq`'s words for the others.

    Parameters
    ----------
    status : int
        A code of `Status`.
    **arguments
        ``ftol``, ``xtol``, ``gtol`` and ``maxfev`` as given to the solver.
    """
    status = Status(status)
    if status in _SCIPY:
        return _SCIPY[status].format(**arguments)
    return describe(status, jac="Dfun", limit="maxfev")
