"""What float32 can't decide goes on in float64."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.task import Seen
from jaxlsq.status import Status, converged

__all__ = ["chosen", "continued", "polished"]

# Ends that are the arithmetic's, or may be.
_UNDECIDED = (
    Status.NONFINITE_COST,
    Status.SINGULAR_JACOBIAN,
    Status.NONFINITE_STEPS,
    Status.NONFINITE_JACOBIAN,
    Status.NONFINITE_START,
    Status.FTOL_TOO_SMALL,
    Status.XTOL_TOO_SMALL,
    Status.GTOL_TOO_SMALL,
)
# Where the others span all but this part of a column, float32 has less than three digits of a step.
LEAST_CERTAINTY = 1e-4
# Residuals of fewer epsilons of the data than this are as much rounding as they are noise.
NEAR_EPS = 16.0


def chosen(polish: str | None, arrays: dict[str, NDArray[Any]], seen: Seen) -> NDArray[Any]:
    """Which fits go on in float64.

    Parameters
    ----------
    polish : {'auto', 'float64', None}
        'float64' for all; 'auto' for those whose end may be float32's: a singular Jacobian or
        one that is near it, a tolerance that could not be met, numbers that left the range,
        residuals as small as the spacing of the data, and steps that were short to the end.
    arrays : dict
        Of float32 fits, from `jaxlsq.schedule.queue.Ended`.
    seen : Seen

    Returns
    -------
    (k,) int array
        Their numbers.
    """
    status = arrays["status"]
    if polish is None:
        return np.empty(0, int)
    if polish == "float64":
        return np.arange(status.size)
    spacing = NEAR_EPS * np.finfo(np.float32).eps * seen.size
    # On a plateau short steps gain little, which is not to be at its lowest point: there the
    # certainty is zero too.
    doubtful = (arrays["certainty"] < LEAST_CERTAINTY) | (arrays["fnorm"] < spacing)
    good = converged(status)
    undecided = ~good
    undecided[undecided] = np.isin(status[undecided], _UNDECIDED)
    return np.flatnonzero(undecided | (good & doubtful))


def polished(
    arrays: dict[str, NDArray[Any]], wide: dict[str, NDArray[Any]], index: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Results of which some are replaced by those that float64 reached, with all evaluations.

    Parameters
    ----------
    arrays, wide : dict
        Of all fits, and of those at `index` in float64.
    index : (k,) int array
    """
    out = {k: v.astype(wide[k].dtype) if k in wide else v for k, v in arrays.items()}
    use = np.isfinite(wide["cost"])
    for name in ("x", "cost", "optimality", "fnorm", "status"):
        out[name][index[use]] = wide[name][use]
    for name in ("nfev", "njev", "nit"):
        out[name][index] += wide[name]
    return out


def continued(
    arrays: dict[str, NDArray[Any]], given: NDArray[Any] | None, index: NDArray[Any]
) -> NDArray[Any]:
    """Where they go on: from where they converged, or else from their start.

    Parameters
    ----------
    arrays : dict
    given : (total, n) array or None
        Starts; None where they are guessed, which is what NaN asks for.
    index : (k,) int array

    Returns
    -------
    (k, n) float64 array
    """
    x = arrays["x"][index].astype(np.float64)
    good = converged(arrays["status"][index])[:, None]
    start = np.nan if given is None else given[index]
    return np.where(good, x, start)
