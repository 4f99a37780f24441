"""Peaks that are not symmetric."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxlsq.models.candidates import AroundPlaces, InLogarithm, Places
from jaxlsq.models.model import Model
from jaxlsq.models.peaks import UNITS, WIDTH, bell
from jaxlsq.models.sample import Sample
from jaxlsq.models.scan import Scan
from jaxlsq.models.shapes import floating, positive, reduced
from jaxlsq.models.special import erfcx

__all__ = ["ExponentialGaussian", "Lognormal", "SkewedGaussian"]

_ROOT_2PI = math.sqrt(2.0 * math.pi)


# --- lognormal ------------------------------------------------------------------------


def _lognormal_bell(x: Any, center: Any, sigma: Any):
    """``exp(-u**2 / 2)`` of the logarithm, which is zero for x that are not positive."""
    known = x > 0
    u = reduced(jnp.log(jnp.where(known, x, 1.0)), center, sigma, 50.0)
    return jnp.where(known, bell(u), 0.0)


def _lognormal(x: Any, amplitude: Any, center: Any, sigma: Any):
    x = floating(x)
    factor = amplitude / (_ROOT_2PI * positive(sigma))
    return factor * _lognormal_bell(x, center, sigma) / jnp.where(x > 0, x, 1.0)


def _lognormal_columns(x: Any, center: Any, sigma: Any):
    # One at its maximum, exp(center - sigma**2).
    scale = jnp.exp(jnp.minimum(center - 0.5 * sigma**2, 80.0))
    return (scale * _lognormal_bell(x, center, sigma) / jnp.where(x > 0, x, 1.0),)


def _lognormal_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    center, sigma = values
    scale = jnp.exp(jnp.minimum(center - 0.5 * sigma**2, 80.0))
    return {
        "amplitude": coefficients[0] * scale * sigma * _ROOT_2PI,
        "center": center,
        "sigma": sigma,
    }


def _lognormal_derived(params: dict[str, Any]) -> dict[str, Any]:
    amplitude, center, sigma = (params[name] for name in ("amplitude", "center", "sigma"))
    mode = jnp.exp(center - sigma**2)
    return {
        "mode": mode,
        "median": jnp.exp(center),
        "mean": jnp.exp(center + 0.5 * sigma**2),
        "height": amplitude / (_ROOT_2PI * positive(sigma)) * jnp.exp(0.5 * sigma**2 - center),
    }


def Lognormal(prefix: str = "") -> Model:
    r"""The log-normal density, lmfit's ``LognormalModel``.

    .. math:: f(x) = \frac{A}{x \sigma \sqrt{2 \pi}} e^{-(\ln x - c)^2 / (2 \sigma^2)}, \quad
              f = 0 \text{ for } x \le 0

    Parameters: `amplitude` A, the area, in x*y, of either sign; `center` c and `sigma`
    :math:`\sigma \ge 0`, pure numbers: mean and standard deviation of :math:`\ln x`.

    Guess: a scan over centers and widths in :math:`\ln x`, the area by linear least squares.

    Derived: `mode` :math:`e^{c - \sigma^2}`, `median` :math:`e^c`, `mean`
    :math:`e^{c + \sigma^2 / 2}`, in x, and `height` at the mode.

    Hard points: it is zero to all orders at x = 0, so that points there say nothing.

    Examples
    --------
    >>> from jaxlsq.models import Lognormal
    >>> print(f"{Lognormal()(1.0, amplitude=1.0, center=0.0, sigma=1.0):.5f}")
    0.39894
    """
    return _LOGNORMAL.prefixed(prefix)


_LOGNORMAL = Model(
    _lognormal,
    guess=Scan(
        InLogarithm(Places()),
        _lognormal_columns,
        _lognormal_assembled,
        AroundPlaces(),
        rounds=2,
    ),
    bounds=WIDTH,
    derived=_lognormal_derived,
    units={"amplitude": "x*y", "center": "", "sigma": ""},
    name="lognormal",
)


# --- exponentially modified Gaussian ----------------------------------------------------


def _tailed(x: Any, center: Any, sigma: Any, gamma: Any):
    """The convolution of a Gaussian of area one with ``exp(-gamma x)`` for x >= 0.

    With z = (gamma sigma - u) / sqrt(2) it is ``erfcx(z) exp(-u**2 / 2) / 2``, and of
    ``erfcx(z) = 2 exp(z**2) - erfcx(-z)`` where z is negative.
    """
    sigma, gamma = positive(sigma), jnp.maximum(floating(gamma), 0.0)
    distance = floating(x) - center
    both = gamma * sigma
    z = (both - reduced(x, center, sigma)) * math.sqrt(0.5)
    beside = bell(reduced(x, center, sigma, 50.0)) * erfcx(jnp.abs(z))
    tail = 2.0 * jnp.exp(jnp.minimum(0.5 * both * both - gamma * distance, 0.0))
    return 0.5 * jnp.where(z < 0, tail - beside, beside)


def _tailed_gaussian(x: Any, amplitude: Any, center: Any, sigma: Any, gamma: Any):
    return amplitude * gamma * _tailed(x, center, sigma, gamma)


def _tailed_columns(x: Any, center: Any, sigma: Any, ratio: Any):
    return (ratio * _tailed(x, center, sigma, ratio / sigma),)


def _tailed_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    center, sigma, ratio = values
    return {
        "amplitude": coefficients[0] * sigma,
        "center": center,
        "sigma": sigma,
        "gamma": ratio / sigma,
    }


def _tailed_derived(params: dict[str, Any]) -> dict[str, Any]:
    rate = positive(params["gamma"])
    return {
        "mean": params["center"] + 1.0 / rate,
        "deviation": jnp.sqrt(params["sigma"] ** 2 + 1.0 / rate**2),
        "tail": 1.0 / rate,
    }


def ExponentialGaussian(prefix: str = "") -> Model:
    r"""The exponentially modified Gaussian (EMG), lmfit's ``ExponentialGaussianModel``.

    .. math:: f(x) = \frac{A \gamma}{2} \exp\left(\gamma (c - x) + \frac{\gamma^2 \sigma^2}{2}
              \right) \operatorname{erfc}\left(\frac{c + \gamma \sigma^2 - x}{\sqrt 2 \sigma}
              \right)

    the Gaussian of center c and width :math:`\sigma`, convolved with an exponential decay.

    Parameters: `amplitude` A, the area, in x*y, of either sign; `center` c and `sigma`
    :math:`\sigma \ge 0` in x; `gamma` :math:`\gamma \ge 0`, the rate of the decay, in 1/x.

    Guess: a scan over centers, widths and three rates, the area by linear least squares.

    Derived: `mean` :math:`c + 1 / \gamma`, `deviation` :math:`\sqrt{\sigma^2 + 1 / \gamma^2}`
    and `tail` :math:`1 / \gamma`, in x.

    Hard points: the formula as it stands overflows where :math:`\gamma \sigma` is large; here
    the exponential is taken into the scaled complementary error function. For a large gamma
    it is a Gaussian, of which gamma and center are known only together.

    Source: E. Grushka, Anal. Chem. 44 (1972) 1733; E. W. McWilliam, H. C. Bolton, Anal. Chem. 41
    (1969) 1755.

    Examples
    --------
    >>> from jaxlsq.models import ExponentialGaussian
    >>> model = ExponentialGaussian()
    >>> print(f"{model(1.0, amplitude=1.0, center=0.0, sigma=1.0, gamma=1.0):.5f}")
    0.30327
    """
    return _TAILED.prefixed(prefix)


_TAILED = Model(
    _tailed_gaussian,
    guess=Scan(
        Places(((0.1, 0.5, 2.0),)),
        _tailed_columns,
        _tailed_assembled,
        AroundPlaces(((0.6, 1.0, 1.6),)),
        rounds=2,
        placed=True,
    ),
    bounds={**WIDTH, "gamma": (0.0, None)},
    derived=_tailed_derived,
    units={**UNITS, "gamma": "1/x"},
    name="exponential_gaussian",
)


# --- skewed Gaussian ------------------------------------------------------------------


def _skewed_columns(x: Any, center: Any, sigma: Any, gamma: Any):
    u = reduced(x, center, sigma, 50.0)
    return (bell(u) * (1.0 + jax.lax.erf(gamma * u * math.sqrt(0.5))),)


def _skewed(x: Any, amplitude: Any, center: Any, sigma: Any, gamma: Any):
    (shape,) = _skewed_columns(x, center, sigma, floating(gamma))
    return amplitude / (_ROOT_2PI * positive(sigma)) * shape


def _skewed_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    center, sigma, gamma = values
    return {
        "amplitude": coefficients[0] * sigma * _ROOT_2PI,
        "center": center,
        "sigma": sigma,
        "gamma": gamma,
    }


def _near_skewed(sample: Sample, number: Any, *values: Any):
    """Beside a candidate, and beside the one that has its mean and the opposite skew.

    Both are minima of a fit.
    """
    center, sigma, gamma = AroundPlaces(((0.5, 1.0, 2.0),))(sample, number, *values)
    mean = _skewed_derived({"center": center, "sigma": sigma, "gamma": gamma})["mean"]
    return (
        jnp.concatenate([center, 2.0 * mean - center]),
        jnp.concatenate([sigma, sigma]),
        jnp.concatenate([gamma, -gamma]),
    )


def _skewed_derived(params: dict[str, Any]) -> dict[str, Any]:
    sigma, gamma = params["sigma"], params["gamma"]
    delta = gamma / jnp.sqrt(1.0 + gamma**2)
    return {
        "mean": params["center"] + sigma * delta * math.sqrt(2.0 / math.pi),
        "deviation": sigma * jnp.sqrt(1.0 - 2.0 / math.pi * delta**2),
    }


def SkewedGaussian(prefix: str = "") -> Model:
    r"""A skewed Gaussian, lmfit's ``SkewedGaussianModel``.

    .. math:: f(x) = \frac{A}{\sigma \sqrt{2 \pi}} e^{-u^2 / 2}
              \left[1 + \operatorname{erf}(\gamma u / \sqrt 2)\right], \quad
              u = (x - c) / \sigma

    Parameters: `amplitude` A, the area, in x*y, of either sign; `center` c, which is not where
    the maximum is, and `sigma` :math:`\sigma \ge 0` in x; `gamma` :math:`\gamma`, a pure number,
    positive for a tail to the right.

    Guess: a scan over centers, widths and six skews, the area by linear least squares.

    Derived: `mean` :math:`c + \sigma \delta \sqrt{2 / \pi}` with
    :math:`\delta = \gamma / \sqrt{1 + \gamma^2}`, and `deviation`.

    Hard points: at gamma = 0 center and gamma move the peak alike, so that a fit that starts or
    ends there is SINGULAR_JACOBIAN, and errors near it are large; the mean is known well.

    Source: A. Azzalini, Scand. J. Stat. 12 (1985) 171.

    Examples
    --------
    >>> from jaxlsq.models import SkewedGaussian
    >>> model = SkewedGaussian()
    >>> print(f"{model(0.0, amplitude=1.0, center=0.0, sigma=1.0, gamma=3.0):.5f}")
    0.39894
    """
    return _SKEWED.prefixed(prefix)


# Not zero, where all derivatives by gamma are those by center and amplitude.
_SKEWS = ((-5.0, -2.0, -0.7, 0.7, 2.0, 5.0),)
_SKEWED = Model(
    _skewed,
    guess=Scan(
        Places(_SKEWS),
        _skewed_columns,
        _skewed_assembled,
        _near_skewed,
        rounds=5,
        placed=True,
    ),
    bounds=WIDTH,
    derived=_skewed_derived,
    units={**UNITS, "gamma": ""},
    name="skewed_gaussian",
)
