"""Doses and their effects: saturation and sigmoids."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.models.candidates import InLogarithm, near_rates
from jaxlsq.models.model import Model
from jaxlsq.models.sample import Sample, spread
from jaxlsq.models.scan import Scan
from jaxlsq.models.shapes import exponential, floating, log_power, positive, sigmoid

__all__ = ["FivePL", "FourPL", "Hill", "MichaelisMenten"]

_LN2 = math.log(2.0)


# --- Michaelis-Menten -----------------------------------------------------------------


def _saturation(x: Any, vmax: Any, km: Any):
    x = floating(x)
    return vmax * x / (positive(km) + x)


def _saturation_columns(x: Any, km: Any):
    return (_saturation(x, 1.0, km),)


def _half_saturations(sample: Sample):
    row = jnp.asarray(np.geomspace(1e-3, 30.0, 32), sample.y.dtype)
    return (row * jnp.max(jnp.abs(sample.x)),)


def _saturation_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    return {"vmax": coefficients[0], "km": positive(values[0])}


def _saturation_derived(params: dict[str, Any]) -> dict[str, Any]:
    return {"efficiency": params["vmax"] / positive(params["km"])}


def MichaelisMenten(prefix: str = "") -> Model:
    r"""The law of Michaelis and Menten; Langmuir's isotherm is the same.

    .. math:: f(x) = \frac{v_{max} \, x}{K_M + x}

    Parameters: `vmax` in y, `km` :math:`K_M \ge 0`, where f is half of it, in x. x is not
    negative.

    Guess: a scan over km, vmax by linear least squares.

    Derived: `efficiency` :math:`v_{max} / K_M`, the slope at zero, in y/x.

    Hard points: data that end below km know the efficiency alone.

    Source: L. Michaelis, M. L. Menten, Biochem. Z. 49 (1913) 333.

    Examples
    --------
    >>> from jaxlsq.models import MichaelisMenten
    >>> print(MichaelisMenten()(2.0, vmax=3.0, km=1.0))
    2.0
    """
    return _SATURATION.prefixed(prefix)


_SATURATION = Model(
    _saturation,
    guess=Scan(_half_saturations, _saturation_columns, _saturation_assembled, near_rates, 2),
    bounds={"km": (0.0, None)},
    derived=_saturation_derived,
    units={"vmax": "y", "km": "x"},
    name="michaelis_menten",
)


# --- Hill -----------------------------------------------------------------------------


def _hill(x: Any, amplitude: Any, ec50: Any, hill: Any):
    return amplitude * sigmoid(log_power(x, ec50, hill))


_SLOPES = (0.5, 1.0, 2.0, 5.0)


def _doses(sample: Sample):
    """Logarithms of doses over their range and a bit beyond, and slopes."""
    places = np.linspace(-0.1, 1.2, 21)
    grid = [jnp.asarray(v, sample.y.dtype) for v in spread(places, _SLOPES)]
    return sample.low + sample.span * grid[0], grid[1]


def _near_doses(sample: Sample, number: Any, place: Any, *others: Any):
    """A little more and less of the dose, and each of the others times some factors."""
    grid = spread((-0.25, 0.0, 0.25), *[(-0.4, 0.0, 0.4)] * len(others))
    shifts, *exponents = (jnp.asarray(v, place.dtype) / (number + 1) for v in grid)
    return (
        place + shifts / others[0],
        *(o * jnp.exp(e) for o, e in zip(others, exponents, strict=True)),
    )


def _hill_columns(x: Any, place: Any, hill: Any):
    return (sigmoid(log_power(x, exponential(place), hill)),)


def _hill_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    place, hill = values
    return {"amplitude": coefficients[0], "ec50": exponential(place), "hill": hill}


def _effects(params: dict[str, Any]):
    """Doses of 10 % and 90 % of the effect."""
    factor = jnp.exp(math.log(9.0) / positive(params["hill"]))
    return {"ec10": params["ec50"] / factor, "ec90": params["ec50"] * factor}


def Hill(prefix: str = "") -> Model:
    r"""Hill's law of cooperative binding.

    .. math:: f(x) = \frac{A \, x^n}{c^n + x^n}

    Parameters: `amplitude` A in y, `ec50` :math:`c \ge 0` in x, `hill` :math:`n \ge 0`. x is not
    negative.

    Guess: a scan over ec50, in its logarithm, and n; the amplitude by linear least squares.

    Derived: `ec10` and `ec90`, the doses of 10 % and 90 % of the amplitude, in x.

    Hard points: at a dose of zero the power's derivative is infinite for n below one; here it
    is computed in logarithms, where f and its derivatives are zero.

    Source: A. V. Hill, J. Physiol. 40 (1910) iv.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxlsq.models import Hill
    >>> print(Hill()(np.array([0.0, 2.0]), amplitude=3.0, ec50=2.0, hill=0.5).round(6))
    [0.  1.5]
    """
    return _HILL.prefixed(prefix)


_HILL = Model(
    _hill,
    guess=Scan(InLogarithm(_doses), _hill_columns, _hill_assembled, _near_doses, 2),
    bounds={"ec50": (0.0, None), "hill": (0.0, None)},
    derived=_effects,
    units={"amplitude": "y", "ec50": "x", "hill": ""},
    name="hill",
)


# --- four and five parameters -----------------------------------------------------------


def _four(x: Any, bottom: Any, top: Any, ec50: Any, hill: Any):
    return bottom + (top - bottom) * sigmoid(log_power(x, ec50, hill))


def _four_columns(x: Any, place: Any, hill: Any):
    (rise,) = _hill_columns(x, place, hill)
    return jnp.ones_like(rise), rise


def _four_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    place, hill = values
    bottom, effect = coefficients
    return {"bottom": bottom, "top": bottom + effect, "ec50": exponential(place), "hill": hill}


def FourPL(prefix: str = "") -> Model:
    r"""The four-parameter logistic of dose and response.

    .. math:: f(x) = b + \frac{t - b}{1 + (c / x)^h}

    Parameters: `bottom` b, at a dose of zero, and `top` t, of a large one, in y, either of them
    the larger; `ec50` :math:`c \ge 0` in x; `hill` :math:`h \ge 0`. x is a dose, not its
    logarithm, and not negative.

    Guess: a scan over ec50, in its logarithm, and h; bottom and top by linear least squares.

    Derived: `ec10` and `ec90`, the doses of 10 % and 90 % of the effect, in x.

    Hard points: a curve whose plateau is not in the data knows top and ec50 only together. Falling
    curves have bottom above top instead of a negative h, which would be the same function.

    Source: A. DeLean, P. J. Munson, D. Rodbard, Am. J. Physiol. 235 (1978) E97.

    Examples
    --------
    >>> from jaxlsq.models import FourPL
    >>> print(FourPL()(2.0, bottom=1.0, top=3.0, ec50=2.0, hill=1.5))
    2.0
    """
    return _FOUR.prefixed(prefix)


_FOUR = Model(
    _four,
    guess=Scan(InLogarithm(_doses), _four_columns, _four_assembled, _near_doses, 2),
    bounds={"ec50": (0.0, None), "hill": (0.0, None)},
    derived=_effects,
    units={"bottom": "y", "top": "y", "ec50": "x", "hill": ""},
    name="four_pl",
)


def _rise(x: Any, ec50: Any, hill: Any, asymmetry: Any):
    """``(1 + (ec50 / x)**hill)**-asymmetry``."""
    return _sigmoid_power(log_power(x, ec50, hill), asymmetry)


def _sigmoid_power(value: Any, power: Any) -> jax.Array:
    """``(1 + exp(-value)) ** -power``."""
    # log(1 + exp(-v)), whose exponential may overflow.
    softplus = jnp.maximum(-value, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(value)))
    return exponential(-power * softplus)


def _five(x: Any, bottom: Any, top: Any, ec50: Any, hill: Any, asymmetry: Any):
    return bottom + (top - bottom) * _rise(x, ec50, hill, asymmetry)


def _five_doses(sample: Sample):
    """Logarithms of the doses of half the effect, slopes there and asymmetries."""
    place, hill = _doses(sample)
    powers = jnp.asarray([0.3, 1.0, 3.0], place.dtype)
    return (*(jnp.tile(v, powers.size) for v in (place, hill)), jnp.repeat(powers, place.size))


def _scale(half: Any, hill: Any, asymmetry: Any):
    """ec50 of the dose of half the effect, in logarithms."""
    return half + jnp.log(jnp.expm1(_LN2 / asymmetry)) / hill


def _five_columns(x: Any, place: Any, hill: Any, asymmetry: Any):
    rise = _rise(x, exponential(_scale(place, hill, asymmetry)), hill, asymmetry)
    return jnp.ones_like(rise), rise


def _five_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    place, hill, asymmetry = values
    return {
        "bottom": coefficients[0],
        "top": coefficients[0] + coefficients[1],
        "ec50": exponential(_scale(place, hill, asymmetry)),
        "hill": hill,
        "asymmetry": asymmetry,
    }


def _five_derived(params: dict[str, Any]) -> dict[str, Any]:
    asymmetry = positive(params["asymmetry"])
    exponent = jnp.log(jnp.expm1(_LN2 / asymmetry)) / positive(params["hill"])
    return {"half_effect": params["ec50"] * jnp.exp(-exponent)}


def FivePL(prefix: str = "") -> Model:
    r"""The five-parameter logistic of dose and response, which is not symmetric.

    .. math:: f(x) = b + \frac{t - b}{\left[1 + (c / x)^h\right]^s}

    Parameters: as for `FourPL`, and `asymmetry` :math:`s \ge 0`, one for the symmetric curve.
    `ec50` c is a scale; the dose of half the effect is derived.

    Guess: a scan over the dose of half the effect, in its logarithm, h and s; bottom and top by
    linear least squares.

    Derived: `half_effect` :math:`c \, (2^{1/s} - 1)^{-1/h}`, in x.

    Hard points: ec50, hill and asymmetry are known only together unless both plateaus are
    measured well; half_effect is known all the same.

    Source: P. G. Gottschalk, J. R. Dunn, Anal. Biochem. 343 (2005) 54.

    Examples
    --------
    >>> from jaxlsq.models import FivePL
    >>> print(FivePL()(2.0, bottom=1.0, top=5.0, ec50=2.0, hill=1.5, asymmetry=2.0).round(6))
    2.0
    """
    return _FIVE.prefixed(prefix)


_FIVE = Model(
    _five,
    guess=Scan(InLogarithm(_five_doses), _five_columns, _five_assembled, _near_doses, 2),
    bounds={"ec50": (0.0, None), "hill": (0.0, None), "asymmetry": (0.0, None)},
    derived=_five_derived,
    units={"bottom": "y", "top": "y", "ec50": "x", "hill": "", "asymmetry": ""},
    name="five_pl",
)
