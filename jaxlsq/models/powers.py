"""Peaks that are powers of a Lorentzian."""

import math
from typing import Any

import jax.numpy as jnp

from jaxlsq.models.candidates import AroundPlaces, Places
from jaxlsq.models.model import Model
from jaxlsq.models.sample import Sample
from jaxlsq.models.scan import Scan
from jaxlsq.models.shapes import positive, reduced
from jaxlsq.models.special import gamma_quotient

__all__ = ["Moffat", "PearsonVII"]

_ROOT_PI = math.sqrt(math.pi)
# Of guesses, which then are nearly Lorentzian to nearly Gaussian.
_EXPONENTS = (0.8, 1.5, 5.0)


def _power(x: Any, center: Any, sigma: Any, exponent: Any):
    """``(1 + u**2) ** -exponent``."""
    u = reduced(x, center, sigma)
    return jnp.exp(-exponent * jnp.log1p(u * u))


def _half_width(exponent: Any):
    """At half the height, in units of sigma."""
    exponent = jnp.maximum(jnp.asarray(exponent), 1e-2)
    return jnp.sqrt(jnp.expm1(math.log(2.0) / exponent))


def _columns(x: Any, center: Any, half: Any, exponent: Any):
    return (_power(x, center, half / _half_width(exponent), exponent),)


_AROUND = AroundPlaces(factors=((0.7, 1.0, 1.4),))


def _moffat(x: Any, amplitude: Any, center: Any, sigma: Any, beta: Any):
    return amplitude * _power(x, center, sigma, beta)


def _moffat_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    center, half, beta = values
    sigma = half / _half_width(beta)
    return {"amplitude": coefficients[0], "center": center, "sigma": sigma, "beta": beta}


def _moffat_derived(params: dict[str, Any]) -> dict[str, Any]:
    return {
        "fwhm": 2.0 * params["sigma"] * _half_width(params["beta"]),
        "height": params["amplitude"],
    }


def Moffat(prefix: str = "") -> Model:
    r"""Moffat's peak, the image of a star behind the atmosphere, lmfit's ``MoffatModel``.

    .. math:: f(x) = A \left[1 + ((x - c) / \sigma)^2\right]^{-\beta}

    Parameters: `amplitude` A, here the height, in y, of either sign; `center` c and `sigma`
    :math:`\sigma \ge 0` in x; `beta` :math:`\beta \ge 0`.

    Guess: a scan over centers, half widths and three values of beta, the height by linear least
    squares.

    Derived: `fwhm` :math:`2 \sigma \sqrt{2^{1/\beta} - 1}` and `height`.

    Hard points: a large beta is a Gaussian of width :math:`\sigma / \sqrt{2 \beta}`, of which
    sigma and beta are known only together.

    Source: A. F. J. Moffat, Astron. Astrophys. 3 (1969) 455.

    Examples
    --------
    >>> from jaxlsq.models import Moffat
    >>> print(Moffat()(1.0, amplitude=4.0, center=0.0, sigma=1.0, beta=2.0).round(6))
    1.0
    """
    return _MOFFAT.prefixed(prefix)


_MOFFAT = Model(
    _moffat,
    guess=Scan(Places((_EXPONENTS,)), _columns, _moffat_assembled, _AROUND, placed=True),
    bounds={"sigma": (0.0, None), "beta": (0.0, None)},
    derived=_moffat_derived,
    units={"amplitude": "y", "center": "x", "sigma": "x", "beta": ""},
    name="moffat",
)


def _height(amplitude: Any, sigma: Any, expon: Any):
    """Of Pearson's peak of an area."""
    return amplitude / positive(sigma) * gamma_quotient(jnp.maximum(expon - 0.5, 0.0)) / _ROOT_PI


def _pearson(x: Any, amplitude: Any, center: Any, sigma: Any, expon: Any):
    return _height(amplitude, sigma, expon) * _power(x, center, sigma, expon)


def _pearson_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    center, half, expon = values
    sigma = half / _half_width(expon)
    area = coefficients[0] / _height(1.0, sigma, expon)
    return {"amplitude": area, "center": center, "sigma": sigma, "expon": expon}


def _pearson_derived(params: dict[str, Any]) -> dict[str, Any]:
    return {
        "fwhm": 2.0 * params["sigma"] * _half_width(params["expon"]),
        "height": _height(params["amplitude"], params["sigma"], params["expon"]),
    }


def PearsonVII(prefix: str = "") -> Model:
    r"""Pearson's type VII, from a Lorentzian to a Gaussian, lmfit's ``Pearson7Model``.

    .. math:: f(x) = \frac{A}{\sigma B(m - 1/2, 1/2)}
              \left[1 + ((x - c) / \sigma)^2\right]^{-m}

    Parameters: `amplitude` A, the area, in x*y, of either sign; `center` c and `sigma`
    :math:`\sigma \ge 0` in x; `expon` m > 1/2.

    Guess: a scan over centers, half widths and three exponents, the area by linear least squares.

    Derived: `fwhm` :math:`2 \sigma \sqrt{2^{1/m} - 1}` and `height`.

    Hard points: for m toward 1/2 the area is all in the wings, and f is zero at m = 1/2; a
    large m is a Gaussian of width :math:`\sigma / \sqrt{2 m}`, of which sigma and m are known
    only together.

    Source: M. M. Hall et al., J. Appl. Cryst. 10 (1977) 66.

    Examples
    --------
    >>> from jaxlsq.models import PearsonVII
    >>> print(f"{PearsonVII()(0.0, amplitude=1.0, center=0.0, sigma=1.0, expon=1.0):.5f}")
    0.31831
    """
    return _PEARSON.prefixed(prefix)


_PEARSON = Model(
    _pearson,
    guess=Scan(Places((_EXPONENTS,)), _columns, _pearson_assembled, _AROUND, placed=True),
    bounds={"sigma": (0.0, None), "expon": (0.5, None)},
    derived=_pearson_derived,
    units={"amplitude": "x*y", "center": "x", "sigma": "x", "expon": ""},
    name="pearson7",
)
