"""`curve_fit` with bounds or a loss: what SciPy's does by its `least_squares`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.loss import POISSON, Loss, first_factor
from jaxlsq.numerics.minimize import Terms
from jaxlsq.problem.bounds import check_box
from jaxlsq.problem.checks import check_method
from jaxlsq.problem.losses import check_scale, loss_of
from jaxlsq.problem.tolerances import check_limit, check_tolerances, parameter_scales
from jaxlsq.single.problem import Problem, Solution
from jaxlsq.single.solve import solve
from jaxlsq.status import Status, describe

__all__ = ["Bounded", "bounded_fit", "feasible_start"]

# Ours: SciPy's code and text.
_ENDS: dict[int, tuple[int, str]] = {
    Status.FTOL: (2, "`ftol` termination condition is satisfied."),
    Status.XTOL: (3, "`xtol` termination condition is satisfied."),
    Status.FTOL_AND_XTOL: (4, "Both `ftol` and `xtol` termination conditions are satisfied."),
    Status.GTOL: (1, "`gtol` termination condition is satisfied."),
}
# At the limit of the arithmetic the tolerance is met too.
_LIMITS: dict[int, Status] = {
    Status.FTOL_TOO_SMALL: Status.FTOL,
    Status.XTOL_TOO_SMALL: Status.XTOL,
    Status.GTOL_TOO_SMALL: Status.GTOL,
}


@dataclass(frozen=True)
class Bounded:
    """What SciPy's ``method='trf'`` takes in `curve_fit`, under its names."""

    ftol: float = 1e-8
    xtol: float = 1e-8
    gtol: float = 0.0
    max_nfev: int | None = None
    x_scale: ArrayLike | None = None
    loss: Loss | None = None  # of `jaxlsq.numerics.loss`
    f_scale: Any = 1.0

    @classmethod
    def of(cls, kwargs: dict[str, Any]) -> Self:
        """From `curve_fit`'s keyword arguments; `maxfev` is another name of `max_nfev`.

        Raises
        ------
        TypeError
            For one that is unknown here.
        ValueError
            For an improper loss or scale.
        """
        kwargs = dict(kwargs)
        if "max_nfev" not in kwargs:
            kwargs["max_nfev"] = kwargs.pop("maxfev", None)
        unknown = sorted(set(kwargs) - set(cls.__dataclass_fields__))
        if unknown:
            raise TypeError(
                f"curve_fit with bounds, a loss or method='trf' does not take {unknown}; what it "
                f"takes is {sorted(cls.__dataclass_fields__)}."
            )
        loss = loss_of(kwargs.pop("loss", "linear"), counts=True)
        given = cls(**kwargs, loss=loss)
        check_scale(given.f_scale)
        return given

    def settings(self, n: int) -> dict[str, Any]:
        """For `solve`.

        Raises
        ------
        ValueError
            For an improper tolerance, limit or scale.
        """
        tolerances = {name: getattr(self, name) for name in ("ftol", "xtol", "gtol")}
        check_tolerances(**tolerances)
        check_limit(self.max_nfev)
        scale = self.x_scale
        if scale is None or (isinstance(scale, str) and scale == "jac"):
            diag = np.zeros(n)
        else:
            diag = 1.0 / parameter_scales(scale, n, "x_scale")
        return {
            **{name: 0.0 if value is None else value for name, value in tolerances.items()},
            "factor": first_factor(self.loss),
            "diag": diag,
            "max_nfev": int(self.max_nfev or 0),
            "epsfcn": None,
        }


def feasible_start(lower: NDArray[Any], upper: NDArray[Any]) -> NDArray[Any]:
    """SciPy's start between bounds: the middle, one from the only end, or one."""
    low, high = np.isfinite(lower), np.isfinite(upper)
    start = np.ones_like(lower)
    start[low & high] = 0.5 * (lower[low & high] + upper[low & high])
    start[low & ~high] = lower[low & ~high] + 1.0
    start[~low & high] = upper[~low & high] - 1.0
    return start


def bounded_fit(
    functions: tuple[Callable[..., Any], str | Callable[..., Any] | None],
    start: tuple[NDArray[Any], tuple[str, ...] | None],
    bounds: Bounds,
    counts: NDArray[Any],
    given: Bounded,
) -> tuple[Solution, NDArray[Any], str, int]:
    """Fit inside bounds.

    Parameters
    ----------
    functions : (residual, jac)
        ``residual(params) -> (m,)``, for 'poisson' the model; and what `leastsq` takes for
        ``Dfun``.
    start : (p0, names)
        (n,) arrays; the names may be None.
    bounds : Bounds
        Of (n,) arrays.
    counts : (m,) array
        The data, for 'poisson'.
    given : Bounded

    Returns
    -------
    solution : Solution
    inverse : (n, n) array
        Of the Gauss-Newton matrix, without its zero singular values.
    message, ier
        SciPy's.

    Raises
    ------
    RuntimeError
        If the fit fails.
    """
    (residual, jac), (p0, names) = functions, start
    check_box(*bounds, p0, "p0", names)
    p0 = np.asarray(p0, float)
    check_method("jac", jac, none=True)
    scale = np.asarray(given.f_scale, float)
    if scale.shape not in ((), counts.shape):
        raise ValueError(
            f"`f_scale` must be a number or have ydata's shape {counts.shape}, got {scale.shape}."
        )
    terms = Terms(bounds, counts if given.loss is POISSON else scale, given.loss)
    problem = Problem(residual, p0, (), jac, False, terms)
    solution = solve(problem, given.settings(p0.size))
    status = _LIMITS.get(solution.status, solution.status)
    if status not in _ENDS:
        raise RuntimeError("Optimal parameters not found: " + describe(status))
    ier, message = _ENDS[status]
    # As SciPy's, but for bounds that are equal, which it does not take.
    free = bounds[0] < bounds[1]
    return solution, _pseudoinverse(solution.jac * free), message, ier


def _pseudoinverse(jac):
    """:math:`(J^T J)^+`, of columns of unit length: parameters may be of any size."""
    norms = np.linalg.norm(jac, axis=0)
    norms = np.where((norms > 0) & np.isfinite(norms), norms, 1.0)
    _, s, rows = np.linalg.svd(jac / norms, full_matrices=False)
    kept = s > np.finfo(float).eps * max(jac.shape) * s[0]
    return (rows[kept].T / s[kept] ** 2) @ rows[kept] / np.outer(norms, norms)
