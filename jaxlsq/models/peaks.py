"""Symmetric peaks."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.models.candidates import AroundPlaces, Places
from jaxlsq.models.model import Model
from jaxlsq.models.sample import Sample
from jaxlsq.models.scan import Scan
from jaxlsq.models.shapes import floating, positive, reduced
from jaxlsq.models.special import faddeeva

__all__ = [
    "Gaussian",
    "Lorentzian",
    "PseudoVoigt",
    "Voigt",
    "bell",
]

_ROOT_2PI = math.sqrt(2.0 * math.pi)
_GAUSSIAN_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))
UNITS = {"amplitude": "x*y", "center": "x", "sigma": "x"}
WIDTH = {"sigma": (0.0, None)}


def bell(u: Any) -> jax.Array:
    """``exp(-u**2 / 2)`` of what `reduced` made, no larger than 50."""
    return jnp.exp(-0.5 * u * u)


def _gaussian(x: Any, amplitude: Any, center: Any, sigma: Any):
    return amplitude / (_ROOT_2PI * positive(sigma)) * bell(reduced(x, center, sigma, 50.0))


def _gaussian_columns(x: Any, center: Any, sigma: Any):
    return (bell(reduced(x, center, sigma, 50.0)),)


def _gaussian_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    center, sigma = values
    return {
        "amplitude": coefficients[0] * sigma * _ROOT_2PI,
        "center": center,
        "sigma": sigma,
    }


def _gaussian_derived(params: dict[str, Any]) -> dict[str, Any]:
    sigma = params["sigma"]
    return {
        "fwhm": _GAUSSIAN_FWHM * sigma,
        "height": params["amplitude"] / (_ROOT_2PI * positive(sigma)),
    }


def Gaussian(prefix: str = "") -> Model:
    r"""A Gaussian peak, lmfit's ``GaussianModel``.

    .. math:: f(x) = \frac{A}{\sigma \sqrt{2 \pi}} e^{-(x - c)^2 / (2 \sigma^2)}

    Parameters: `amplitude` A, the area, in x*y, of either sign; `center` c and `sigma`
    :math:`\sigma \ge 0`, in x.

    Guess: a scan over centers and widths, the area by linear least squares.

    Derived: `fwhm` :math:`2 \sqrt{2 \ln 2} \, \sigma` and `height`.

    Hard points: a peak narrower than the spacing of x has no width that the data know.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxlsq import fit
    >>> from jaxlsq.models import Gaussian
    >>> x = np.linspace(0.0, 10.0, 101)
    >>> y = 3.0 * np.exp(-0.5 * ((x - 4.0) / 0.5) ** 2)
    >>> model = Gaussian()
    >>> result = fit(model, x, y, p0=model.guess)
    >>> height, error = result.derived(lambda p: model.derived(p)["height"])
    >>> print(round(float(result.params["center"]), 6), round(float(height), 6))
    4.0 3.0
    """
    return _GAUSSIAN.prefixed(prefix)


_GAUSSIAN = Model(
    _gaussian,
    guess=Scan(Places(), _gaussian_columns, _gaussian_assembled, AroundPlaces(), placed=True),
    bounds=WIDTH,
    derived=_gaussian_derived,
    units=UNITS,
    name="gaussian",
)


# --- Lorentzian -----------------------------------------------------------------------


def _lorentzian(x: Any, amplitude: Any, center: Any, sigma: Any):
    x = floating(x)
    # sigma (1 + u**2), which is not of sigma's size where u is large.
    return amplitude / (math.pi * (positive(sigma) + (x - center) * reduced(x, center, sigma)))


def _lorentzian_columns(x: Any, center: Any, sigma: Any):
    return (1.0 / (1.0 + reduced(x, center, sigma) ** 2),)


def _lorentzian_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    center, sigma = values
    return {"amplitude": coefficients[0] * sigma * math.pi, "center": center, "sigma": sigma}


def _lorentzian_derived(params: dict[str, Any]) -> dict[str, Any]:
    sigma = params["sigma"]
    return {"fwhm": 2.0 * sigma, "height": params["amplitude"] / (math.pi * positive(sigma))}


def Lorentzian(prefix: str = "") -> Model:
    r"""A Lorentzian peak, or Cauchy's density, lmfit's ``LorentzianModel``.

    .. math:: f(x) = \frac{A}{\pi \sigma} \frac{1}{1 + ((x - c) / \sigma)^2}

    Parameters: `amplitude` A, the area, in x*y, of either sign; `center` c and `sigma`
    :math:`\sigma \ge 0`, half the width at half the height, in x.

    Guess: a scan over centers and widths, the area by linear least squares.

    Derived: `fwhm` :math:`2 \sigma` and `height` :math:`A / (\pi \sigma)`.

    Hard points: its wings carry much of the area. A baseline beside it, and an area from data
    that end within a few widths, are known only together.

    Examples
    --------
    >>> from jaxlsq.models import Lorentzian
    >>> print(Lorentzian()(1.0, amplitude=3.141592653589793, center=0.0, sigma=1.0))
    0.5
    """
    return _LORENTZIAN.prefixed(prefix)


_LORENTZIAN = Model(
    _lorentzian,
    guess=Scan(Places(), _lorentzian_columns, _lorentzian_assembled, AroundPlaces(), placed=True),
    bounds=WIDTH,
    derived=_lorentzian_derived,
    units=UNITS,
    name="lorentzian",
)


# --- Voigt and what stands for it -----------------------------------------------------

# Below this part of gamma, a sigma changes nothing that the type can hold.
_NEGLIGIBLE = {np.dtype(np.float64): 1e-8, np.dtype(np.float32): 3e-4}


def _voigt(x: Any, amplitude: Any, center: Any, sigma: Any, gamma: Any):
    gamma = jnp.maximum(floating(gamma), 0.0)
    least = _NEGLIGIBLE.get(gamma.dtype, 1e-2) * gamma
    sigma = jnp.maximum(positive(sigma), least)
    scale = 1.0 / (math.sqrt(2.0) * sigma)
    u = reduced(x, center, sigma) * math.sqrt(0.5)
    return amplitude * scale / math.sqrt(math.pi) * faddeeva(u, gamma * scale)[0]


def _mixed_columns(x: Any, center: Any, half: Any):
    """A Gaussian and a Lorentzian of the same half width at half the height."""
    u = reduced(x, center, half)
    return bell(jnp.clip(u, -40.0, 40.0) * _GAUSSIAN_FWHM / 2.0), 1.0 / (1.0 + u * u)


def _mixed(values: Any, coefficients: Any):
    """Area, center, half width, and the Lorentzian's part of the area."""
    center, half = values
    areas = (
        coefficients[0] * half * _ROOT_2PI * 2.0 / _GAUSSIAN_FWHM,
        coefficients[1] * half * math.pi,
    )
    total = areas[0] + areas[1]
    part = areas[1] / jnp.where(total == 0, 1.0, total)
    return total, center, half, jnp.clip(part, 0.0, 1.0)


def _voigt_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    total, center, half, part = _mixed(values, coefficients)
    part = jnp.clip(part, 0.1, 0.9)
    # The widths whose Voigt profile has this one, see `_voigt_derived`.
    gamma = part * half
    rest = (half - 0.5346 * gamma) ** 2 - 0.2166 * gamma**2
    return {
        "amplitude": total,
        "center": center,
        "sigma": jnp.sqrt(rest) * 2.0 / _GAUSSIAN_FWHM,
        "gamma": gamma,
    }


def _voigt_derived(params: dict[str, Any]) -> dict[str, Any]:
    amplitude, sigma, gamma = (params[name] for name in ("amplitude", "sigma", "gamma"))
    lorentzian, gaussian = 2.0 * gamma, _GAUSSIAN_FWHM * sigma
    fwhm = 0.5346 * lorentzian + jnp.sqrt(0.2166 * lorentzian**2 + gaussian**2)
    return {"fwhm": fwhm, "height": _voigt(0.0, amplitude, 0.0, sigma, gamma)}


def Voigt(prefix: str = "") -> Model:
    r"""A Voigt peak, a Gaussian convolved with a Lorentzian, lmfit's ``VoigtModel``.

    .. math:: f(x) = \frac{A}{\sigma \sqrt{2 \pi}} \operatorname{Re} w(z), \quad
              z = \frac{x - c + i \gamma}{\sigma \sqrt 2}

    Parameters: `amplitude` A, the area, in x*y, of either sign; `center` c, the Gaussian's `sigma`
    :math:`\sigma \ge 0` and the Lorentzian's `gamma` :math:`\gamma \ge 0`, in x. Here gamma is
    fitted; ``Voigt().tied(gamma="sigma")`` is lmfit's default.

    Guess: a scan over centers and widths with a Gaussian and a Lorentzian by linear least squares,
    whose areas say how much of the width is whose.

    Derived: `fwhm`, within 0.02 % (Olivero and Longbothum), and `height`.

    Hard points: sigma and gamma are known together much better than each alone; one of them
    often ends at zero. For sigma = 0 it is the Lorentzian.

    Source: w as in `jaxlsq.models.special`. J. J. Olivero, R. L. Longbothum, J. Quant.
    Spectrosc. Radiat. Transf. 17 (1977) 233.

    Examples
    --------
    >>> from jaxlsq.models import Voigt
    >>> print(f"{Voigt()(0.0, amplitude=1.0, center=0.0, sigma=1.0, gamma=1.0):.5f}")
    0.20871
    """
    return _VOIGT.prefixed(prefix)


_VOIGT = Model(
    _voigt,
    guess=Scan(Places(), _mixed_columns, _voigt_assembled, AroundPlaces(), placed=True),
    bounds={**WIDTH, "gamma": (0.0, None)},
    derived=_voigt_derived,
    units={**UNITS, "gamma": "x"},
    name="voigt",
)


def _pseudo_voigt(x: Any, amplitude: Any, center: Any, sigma: Any, fraction: Any):
    gaussian = _gaussian(x, 1.0, center, sigma * (2.0 / _GAUSSIAN_FWHM))
    return amplitude * ((1.0 - fraction) * gaussian + fraction * _lorentzian(x, 1.0, center, sigma))


def _pseudo_voigt_assembled(sample: Any, values: Any, coefficients: Any) -> dict[str, Any]:
    names = ("amplitude", "center", "sigma", "fraction")
    return dict(zip(names, _mixed(values, coefficients), strict=True))


def _pseudo_voigt_derived(params: dict[str, Any]) -> dict[str, Any]:
    amplitude, sigma, fraction = (params[name] for name in ("amplitude", "sigma", "fraction"))
    return {"fwhm": 2.0 * sigma, "height": _pseudo_voigt(0.0, amplitude, 0.0, sigma, fraction)}


def PseudoVoigt(prefix: str = "") -> Model:
    r"""A mixture of a Gaussian and a Lorentzian of equal width, lmfit's ``PseudoVoigtModel``.

    .. math:: f(x) = A \left[(1 - \alpha) \, G(x; c, \sigma / \sqrt{2 \ln 2})
              + \alpha \, L(x; c, \sigma)\right]

    with G and L of area one.

    Parameters: `amplitude` A, the area, in x*y, of either sign; `center` c and `sigma`
    :math:`\sigma \ge 0`, half the width at half the height, in x; `fraction` :math:`\alpha` of
    the Lorentzian, from 0 to 1.

    Guess: a scan over centers and widths, both areas by linear least squares.

    Derived: `fwhm` :math:`2 \sigma` and `height`.

    Hard points: fraction often ends at 0 or 1, where its standard error is zero.

    Source: G. K. Wertheim et al., Rev. Sci. Instrum. 45 (1974) 1369.

    Examples
    --------
    >>> from jaxlsq.models import PseudoVoigt
    >>> model = PseudoVoigt()
    >>> print(f"{model(0.0, amplitude=1.0, center=0.0, sigma=1.0, fraction=1.0):.5f}")
    0.31831
    """
    return _PSEUDO_VOIGT.prefixed(prefix)


_PSEUDO_VOIGT = Model(
    _pseudo_voigt,
    guess=Scan(Places(), _mixed_columns, _pseudo_voigt_assembled, AroundPlaces(), placed=True),
    bounds={**WIDTH, "fraction": (0.0, 1.0)},
    derived=_pseudo_voigt_derived,
    units={**UNITS, "fraction": ""},
    name="pseudo_voigt",
)
