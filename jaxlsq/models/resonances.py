"""Lines of resonances and of photoemission, which are not symmetric."""

import math
from typing import Any

import jax.numpy as jnp

from jaxlsq.models.candidates import AroundPlaces, Places
from jaxlsq.models.model import Model
from jaxlsq.models.peaks import WIDTH
from jaxlsq.models.sample import Sample
from jaxlsq.models.scan import Scan
from jaxlsq.models.shapes import floating, logarithm, reduced

__all__ = ["BreitWigner", "Doniach", "Fano"]


# --- Doniach --------------------------------------------------------------------------


def _doniach_columns(x: Any, center: Any, sigma: Any, gamma: Any):
    u, rest = reduced(x, center, sigma), 1.0 - gamma
    wave = jnp.cos(0.5 * math.pi * gamma + rest * jnp.arctan(u))
    return (wave * jnp.exp(-0.5 * rest * jnp.log1p(u * u)),)


def _doniach(x: Any, amplitude: Any, center: Any, sigma: Any, gamma: Any):
    gamma = floating(gamma)
    (shape,) = _doniach_columns(x, center, sigma, gamma)
    return amplitude * jnp.exp((gamma - 1.0) * logarithm(sigma)) * shape


def _doniach_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    center, sigma, gamma = values
    return {
        "amplitude": coefficients[0] * jnp.exp((1.0 - gamma) * logarithm(sigma)),
        "center": center,
        "sigma": sigma,
        "gamma": gamma,
    }


def _doniach_derived(params: dict[str, Any]) -> dict[str, Any]:
    amplitude, sigma, gamma = (params[name] for name in ("amplitude", "sigma", "gamma"))
    place = sigma / jnp.tan(math.pi / (2.0 - gamma))
    return {
        "maximum": params["center"] + place,
        "height": _doniach(place, amplitude, 0.0, sigma, gamma),
    }


def Doniach(prefix: str = "") -> Model:
    r"""The Doniach-Sunjic line of photoemission from metals, lmfit's ``DoniachModel``.

    .. math:: f(x) = \frac{A}{\sigma^{1 - \gamma}}
              \frac{\cos(\pi \gamma / 2 + (1 - \gamma) \arctan u)}{(1 + u^2)^{(1 - \gamma) / 2}},
              \quad u = (x - c) / \sigma

    Parameters: `amplitude` A, in y times a power :math:`1 - \gamma` of x, of either sign; `center`
    c and `sigma` :math:`\sigma \ge 0` in x; the asymmetry `gamma` from 0 (a Lorentzian) to 1.

    Guess: a scan over centers, widths and three asymmetries, the height by linear least squares.

    Derived: `maximum` :math:`c + \sigma \cot(\pi / (2 - \gamma))`, in x, and the `height` there.

    Hard points: its area is infinite for gamma > 0, and its maximum is not at c. At gamma = 1
    it is zero.

    Source: S. Doniach, M. Sunjic, J. Phys. C 3 (1970) 285.

    Examples
    --------
    >>> from jaxlsq.models import Doniach
    >>> print(Doniach()(1.0, amplitude=1.0, center=0.0, sigma=1.0, gamma=0.0).round(6))
    0.5
    """
    return _DONIACH.prefixed(prefix)


_DONIACH = Model(
    _doniach,
    guess=Scan(
        Places(((0.05, 0.25, 0.6),)),
        _doniach_columns,
        _doniach_assembled,
        AroundPlaces(((0.6, 1.0, 1.6),)),
        rounds=2,
        placed=True,
    ),
    bounds={**WIDTH, "gamma": (0.0, 1.0)},
    derived=_doniach_derived,
    units={"amplitude": "y*x^(1-gamma)", "center": "x", "sigma": "x", "gamma": ""},
    name="doniach",
)


# --- Fano -----------------------------------------------------------------------------


def _fano(x: Any, amplitude: Any, center: Any, sigma: Any, q: Any):
    u = reduced(x, center, 0.5 * floating(sigma))
    # In this order no derivative overflows.
    peak = 1.0 / (1.0 + u * u)
    return amplitude * ((q + u) * ((q + u) * peak))


def _fano_columns(x: Any, center: Any, half: Any):
    """Whose coefficients are A q**2, 2 A q and A."""
    u = reduced(x, center, half)
    peak = 1.0 / (1.0 + u * u)
    return peak, u * peak, u * u * peak


def _fano_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    """With the matrix [[A q^2, A q], [A q, A]] as its largest eigenvalue and eigenvector."""
    center, half = values
    peak, wave, floor = coefficients
    sign = jnp.where(peak + floor < 0, -1.0, 1.0)
    angle = 0.5 * jnp.arctan2(sign * wave, sign * (peak - floor))
    size = jnp.hypot(wave, peak - floor)
    largest = 0.5 * (peak + floor + sign * size)
    sine = jnp.sin(angle)
    sine = jnp.where(jnp.abs(sine) < 0.02, jnp.where(sine < 0, -0.02, 0.02), sine)
    return {
        "amplitude": largest * sine * sine,
        "center": center,
        "sigma": 2.0 * half,
        "q": jnp.cos(angle) / sine,
    }


def _fano_derived(params: dict[str, Any]) -> dict[str, Any]:
    amplitude, center, sigma, q = (params[k] for k in ("amplitude", "center", "sigma", "q"))
    return {
        "extreme": center + 0.5 * sigma / q,
        "zero": center - 0.5 * sigma * q,
        "height": amplitude * (1.0 + q * q),
    }


def Fano(prefix: str = "") -> Model:
    r"""The line of Breit, Wigner and Fano, lmfit's ``BreitWignerModel``.

    .. math:: f(x) = A \frac{(q \sigma / 2 + x - c)^2}{(\sigma / 2)^2 + (x - c)^2}

    Parameters: `amplitude` A, the value far from c, in y; `center` c and `sigma`
    :math:`\sigma \ge 0`, the full width, in x; `q`, a pure number of either sign.

    Guess: a scan over centers and widths. Two of them given, f is linear in :math:`A q^2`,
    :math:`2 A q` and A, of which least squares make A and q.

    Derived: the `extreme` :math:`c + \sigma / (2 q)` and the `zero` :math:`c - \sigma q / 2`, in
    x, and the `height` :math:`A (1 + q^2)` of the extreme.

    Hard points: it does not vanish far away. For a large q it is a Lorentzian, of which A and
    q are known only together; for a small q, a dip.

    Source: U. Fano, Phys. Rev. 124 (1961) 1866.

    Examples
    --------
    >>> from jaxlsq.models import Fano
    >>> print(Fano()(0.5, amplitude=1.0, center=0.0, sigma=1.0, q=1.0))
    2.0
    """
    return _FANO.prefixed(prefix)


BreitWigner = Fano

_FANO = Model(
    _fano,
    guess=Scan(Places(), _fano_columns, _fano_assembled, AroundPlaces(), rounds=2, placed=True),
    bounds=WIDTH,
    derived=_fano_derived,
    units={"amplitude": "y", "center": "x", "sigma": "x", "q": ""},
    name="fano",
)
