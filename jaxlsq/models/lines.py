"""Polynomials."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxlsq.models.baseline import Baseline
from jaxlsq.models.model import Model
from jaxlsq.models.shapes import floating

__all__ = ["Constant", "Linear", "Polynomial", "Quadratic"]


def _constant(x: Any, c: Any):
    first = x[0] if isinstance(x, (tuple, list)) or jnp.ndim(x) > 1 else x
    return c + 0.0 * floating(first)


def _power_unit(k: Any):
    """Of the coefficient of x**k."""
    return "y" if k == 0 else "y/x" if k == 1 else f"y/x^{k}"


def Constant(prefix: str = "") -> Model:
    r"""A constant, lmfit's ``ConstantModel``; also of several variables.

    .. math:: f(x) = c

    Parameters: `c`, in the units of y.

    Guess: the mean.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxlsq.models import Constant
    >>> guess = Constant().guess(np.arange(3.0), np.array([1.0, 2.0, 6.0]))
    >>> round(float(guess["c"]), 3)
    3.0
    """
    return Model(_constant, guess=Baseline(("c",)), units={"c": "y"}, name="constant").prefixed(
        prefix
    )


def _linear(x: Any, slope: Any, intercept: Any):
    return slope * floating(x) + intercept


def Linear(prefix: str = "") -> Model:
    r"""A straight line, lmfit's ``LinearModel``.

    .. math:: f(x) = \text{slope} \, x + \text{intercept}

    Parameters: `slope` in y/x, `intercept` in y.

    Guess: the line of least squares, which is the solution.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxlsq.models import Linear
    >>> x = np.arange(3.0)
    >>> guess = Linear().guess(x, 2.0 * x + 1.0)
    >>> print({name: round(float(value), 3) for name, value in guess.items()})
    {'slope': 2.0, 'intercept': 1.0}
    """
    return Model(
        _linear,
        guess=Baseline(("intercept", "slope"), falling=True),
        units={"slope": "y/x", "intercept": "y"},
        name="linear",
    ).prefixed(prefix)


def _quadratic(x: Any, a: Any, b: Any, c: Any):
    x = floating(x)
    return (a * x + b) * x + c


def Quadratic(prefix: str = "") -> Model:
    r"""A parabola, lmfit's ``QuadraticModel``.

    .. math:: f(x) = a x^2 + b x + c

    Parameters: `a` in y/x^2, `b` in y/x, `c` in y.

    Guess: the parabola of least squares, which is the solution.

    Derived: `vertex` :math:`-b / (2 a)`, in the units of x, and the value there, `extreme`.

    Examples
    --------
    >>> from jaxlsq.models import Quadratic
    >>> Quadratic().derived({"a": 1.0, "b": -2.0, "c": 3.0})
    {'vertex': 1.0, 'extreme': 2.0}
    """
    return Model(
        _quadratic,
        guess=Baseline(("c", "b", "a"), falling=True),
        derived=_vertex,
        units={"a": "y/x^2", "b": "y/x", "c": "y"},
        name="quadratic",
    ).prefixed(prefix)


def _vertex(params: dict[str, Any]):
    place = -params["b"] / (2.0 * params["a"])
    return {"vertex": place, "extreme": params["c"] + 0.5 * params["b"] * place}


@dataclass(frozen=True)
class _Powers:
    """A polynomial, by Horner's rule."""

    degree: int

    def __call__(self, x: Any, *coefficients: Any) -> jax.Array:
        x = floating(x)
        value = coefficients[-1] + 0.0 * x
        for coefficient in reversed(coefficients[:-1]):
            value = value * x + coefficient
        return value


def _check_degree(degree: Any) -> None:
    if isinstance(degree, bool) or not isinstance(degree, int) or not 0 <= degree <= 7:
        raise ValueError(f"degree must be an integer from 0 to 7, got {degree!r}.")


def Polynomial(degree: int, prefix: str = "") -> Model:
    r"""A polynomial of a degree from 0 to 7, lmfit's ``PolynomialModel``.

    .. math:: f(x) = \sum_{k=0}^{\text{degree}} c_k x^k

    Parameters: `c0`, `c1`, ... in y, y/x, ...

    Guess: the polynomial of least squares.

    Hard points: far from x = 0 the powers are nearly the same function. Fit x less its mean, or
    the coefficients will be known only together.

    Raises
    ------
    ValueError
        For a degree that is no integer from 0 to 7.

    Examples
    --------
    >>> from jaxlsq.models import Polynomial
    >>> Polynomial(2).names
    ('c0', 'c1', 'c2')
    """
    _check_degree(degree)
    names = tuple(f"c{k}" for k in range(degree + 1))
    return Model(
        _Powers(degree),
        names=names,
        guess=Baseline(names),
        units={name: _power_unit(k) for k, name in enumerate(names)},
        name=f"polynomial{degree}",
    ).prefixed(prefix)
