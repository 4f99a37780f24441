"""Differences on the host, with steps for the type that the function really computes in."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.numerics.jacobian import forward_step, inside
from jaxlsq.numerics.types import AnyArray

__all__ = ["EVALUATIONS", "ComplexStep", "Differences"]

# Evaluations of the residual that one Jacobian costs, per parameter.
EVALUATIONS = {"2-point": 1, "3-point": 2, "cs": 1}

# Of a parameter: so small that no error of truncation is left, of order its square.
COMPLEX_STEP = 1e-20

# A function in float32 does not move at most of its points by a step of float64's size.
_STILL = 0.25
_NARROW = float(np.finfo(np.float32).eps)
_EPS = float(np.finfo(np.float64).eps)


class Differences:
    """`jaxlsq.numerics.jacobian`'s finite differences of a Python function.

    Parameters
    ----------
    residual : callable
    method : {'2-point', '3-point'}
    epsfcn : float
        Relative error of the function.
    bounds : (lower, upper) or None

    Attributes
    ----------
    is_looking : bool
        Whether to look, at the first Jacobian, if the function rounds to float32 inside, though
        what it returns is float64.
    """

    def __init__(
        self,
        residual: Callable[..., Any],
        method: str,
        epsfcn: float,
        bounds: tuple[AnyArray, AnyArray] | None,
    ) -> None:
        self._residual, self._method = residual, method
        self._epsfcn, self._bounds = epsfcn, bounds
        self.is_looking: bool = False

    def __call__(self, x: NDArray[Any], f: NDArray[Any]) -> NDArray[Any]:
        jac = self._with(self._epsfcn, x, f)
        if self.is_looking and self._epsfcn < _NARROW:
            self.is_looking = False
            if np.count_nonzero(jac == 0) > _STILL * jac.size:
                wide = self._with(_NARROW, x, f)
                if np.linalg.norm(jac - wide) > 0.05 * np.linalg.norm(wide):
                    self._epsfcn, jac = _NARROW, wide
        return jac

    def _with(self, epsfcn, x, f):
        return difference(self._residual, self._method, epsfcn, self._bounds, x, f)


class ComplexStep:
    r"""The derivative of an analytic function, :math:`\operatorname{Im} f(x + i h e_j) / h`.

    Parameters
    ----------
    func : callable
        ``func(x) -> (m,)`` of complex parameters.

    References
    ----------
    W. Squire, G. Trapp, "Using complex variables to estimate derivatives of real functions",
    SIAM Review 40 (1998).
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        self._func = func

    def __call__(self, x: NDArray[Any], f: NDArray[Any]) -> NDArray[Any]:
        jac = np.empty((x.size, f.size)).T
        steps = COMPLEX_STEP * np.where(x == 0, 1.0, np.abs(x))
        for j, h in enumerate(steps):
            moved = x.astype(np.complex128)
            moved[j] += 1j * h
            value = np.asarray(self._func(moved))
            if value.dtype.kind != "c" or value.shape != f.shape:
                raise TypeError(
                    "jac='cs' (the complex step) needs a function that returns complex values for "
                    f"complex parameters: expected {f.size} of them, got dtype {value.dtype} and "
                    f"shape {value.shape}. Use '2-point'."
                )
            jac[:, j] = np.imag(value) / h
        return jac


def difference(
    residual: Callable[..., Any],
    method: str,
    epsfcn: float,
    bounds: tuple[AnyArray, AnyArray] | None,
    x: NDArray[Any],
    f: NDArray[Any],
) -> NDArray[Any]:
    """The Jacobian by finite differences, an evaluation at a time."""
    epsfcn = max(epsfcn, _EPS)
    if method == "2-point" and bounds is None:
        return _forward(residual, math.sqrt(epsfcn), x, f)
    central = method == "3-point"
    h = forward_step(x, np.cbrt(epsfcn) if central else np.sqrt(epsfcn), np)
    jac = np.empty((x.size, f.size)).T  # columns are contiguous
    infinite = np.full(x.size, -np.inf), np.full(x.size, np.inf)
    ahead, behind = inside(x, h, bounds or infinite, central, np)
    for j in range(x.size):
        other = residual(_moved(x, j, behind[j])) if central else f
        # MINPACK's quotient has the step itself, unless a bound changed it.
        run = h[j] if ahead[j] == x[j] + h[j] and not central else ahead[j] - behind[j]
        jac[:, j] = (residual(_moved(x, j, ahead[j])) - other) / (run or 1.0)
    return jac


def _forward(residual, relative_step, x, f):
    """`difference` of the most frequent kind, with less between two evaluations."""
    columns = np.empty((x.size, f.size))
    values = x.tolist()
    steps = [relative_step * abs(value) or relative_step for value in values]
    for j, (value, h) in enumerate(zip(values, steps, strict=True)):
        columns[j] = residual(_moved(x, j, value + h))
    columns -= f
    columns /= np.array(steps)[:, None]
    return columns.T


def _moved(x, j, value):
    x = x.copy()
    x[j] = value
    return x
