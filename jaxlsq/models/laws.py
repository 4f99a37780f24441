"""A power law, and Arrhenius' law."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.models.model import Model
from jaxlsq.models.sample import Sample
from jaxlsq.models.scan import Scan
from jaxlsq.models.shapes import exponential, floating, positive

__all__ = ["Arrhenius", "PowerLaw"]

_GAS_CONSTANT = 8.314462618  # J / (mol K), exact since 2019


# --- power law ------------------------------------------------------------------------


def _power_law(x: Any, amplitude: Any, exponent: Any):
    return amplitude * floating(x) ** floating(exponent)


def _reference(x: Any, exponent: Any):
    """The positive x at which the power is largest."""
    known = x > 0
    most = jnp.max(jnp.where(known, x, -jnp.inf))
    least = jnp.min(jnp.where(known, x, jnp.inf))
    place = jnp.where(exponent < 0, least, most)
    return jnp.where(jnp.isfinite(place), place, 1.0)


def _power_columns(x: Any, exponent: Any):
    known = x > 0
    logarithms = jnp.log(jnp.where(known, x / _reference(x, exponent), 1.0))
    # A negative power has no value at zero: such a point says nothing.
    return (jnp.where(known, exponential(exponent * logarithms), 0.0),)


def _exponents(sample: Sample):
    return (jnp.asarray(np.arange(-8.0, 8.01, 0.25), sample.y.dtype),)


def _near_exponents(sample: Sample, number: Any, exponent: Any):
    shifts = jnp.linspace(-0.25, 0.25, 9, dtype=exponent.dtype)
    return (exponent + shifts / _closer(number, exponent.dtype),)


def _closer(number: Any, dtype: Any) -> jax.Array:
    """By how much a round's steps are less than those of round 0."""
    return jnp.asarray(6.0, dtype) ** jnp.asarray(number, dtype)


def _power_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    (exponent,) = values
    logarithm = jnp.log(_reference(sample.x, exponent))
    return {"amplitude": coefficients[0] * exponential(-exponent * logarithm), "exponent": exponent}


def PowerLaw(prefix: str = "") -> Model:
    r"""A power law, lmfit's ``PowerLawModel``.

    .. math:: f(x) = A x^k

    Parameters: `amplitude` A, the value at x = 1, in y/x^k, of either sign; `exponent` k.

    Guess: a scan over exponents from -8 to 8, the amplitude by linear least squares. No logarithm
    of y is taken, so that data may be negative, and large values count as they do in the fit.

    Derived: nothing.

    Hard points: x must be positive, or zero where the exponent is; f is NaN for a negative x.
    Where x is far from 1, amplitude and exponent are known only together.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxlsq.models import PowerLaw
    >>> x = np.array([1.0, 2.0, 4.0])
    >>> {k: round(float(v), 3) for k, v in PowerLaw().guess(x, 3.0 * x**1.5).items()}
    {'amplitude': 3.0, 'exponent': 1.5}
    """
    return _POWER.prefixed(prefix)


_POWER = Model(
    _power_law,
    guess=Scan(_exponents, _power_columns, _power_assembled, _near_exponents, 3),
    units={"amplitude": "y/x^k", "exponent": ""},
    name="power_law",
)


# --- Arrhenius ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Arrhenius:
    """The law with a gas constant, and the parts of its guess."""

    constant: float

    def __call__(self, x: Any, prefactor: Any, energy: Any) -> jax.Array:
        return prefactor * exponential(-energy / (self.constant * positive(x)))

    def _inverse(self, x: Any):
        """1 / (R x), and its range."""
        inverse = 1.0 / (self.constant * positive(x))
        low = jnp.min(inverse)
        span = jnp.max(inverse) - low
        return inverse, low, jnp.where(span > 0, span, 1.0)

    def energies(self, sample: Sample) -> tuple[jax.Array, ...]:
        """Of both signs, by how much the rate changes over the data."""
        row = np.geomspace(0.05, 100.0, 40)
        row = jnp.asarray(np.concatenate([row, -row]), sample.y.dtype)
        return (row / self._inverse(sample.x)[2],)

    def near(self, sample: Sample, number: Any, energy: Any) -> tuple[jax.Array, ...]:
        """Energies beside one."""
        exponents = jnp.linspace(-0.2, 0.2, 9, dtype=energy.dtype)
        return (energy * jnp.exp(exponents / _closer(number, energy.dtype)),)

    def _end(self, x: Any, energy: Any):
        inverse, low, _ = self._inverse(x)
        return inverse, jnp.where(energy < 0, jnp.max(inverse), low)

    def columns(self, x: Any, energy: Any) -> tuple[jax.Array, ...]:
        """One where the rate is largest."""
        inverse, end = self._end(x, energy)
        return (exponential(-energy * (inverse - end)),)

    def assembled(self, sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
        """Both parameters."""
        (energy,) = values
        _, end = self._end(sample.x, energy)
        return {"prefactor": coefficients[0] * exponential(energy * end), "energy": energy}

    def derived(self, params: dict[str, Any]) -> dict[str, Any]:
        """In kelvin, or whatever x is in."""
        return {
            "temperature": params["energy"] / self.constant,
            "rate_298K": self(298.15, params["prefactor"], params["energy"]),
        }


def Arrhenius(prefix: str = "", gas_constant: float = _GAS_CONSTANT) -> Model:
    r"""Arrhenius' law of a rate and a temperature.

    .. math:: f(x) = k_0 \, e^{-E / (R x)}

    Parameters: `prefactor` :math:`k_0` in y; `energy` E in the units of R x: J/mol for kelvin,
    and with ``gas_constant=8.617333262e-5`` eV.

    Guess: a scan over energies of both signs, the prefactor by linear least squares.

    Derived: `temperature` :math:`E / R`, in x, and `rate_298K`, the value at 298.15 K, in y.

    Hard points: over a small range of temperatures both are known only together, the prefactor
    often to a factor of ten. Rates that are measured with relative errors want ``sigma=``, or a
    `Linear` fit of their logarithm.

    Source: S. Arrhenius, Z. Phys. Chem. 4 (1889) 226.

    Raises
    ------
    ValueError
        For a gas constant that is not positive.

    Examples
    --------
    >>> from jaxlsq.models import Arrhenius
    >>> print(f"{Arrhenius()(300.0, prefactor=1e13, energy=5e4):.2e}")
    1.97e+04
    """
    constant = float(gas_constant)
    if not 0 < constant < math.inf:
        raise ValueError(f"gas_constant must be positive, got {gas_constant!r}.")
    return _arrhenius(constant).prefixed(prefix)


@cache  # two methods are equal where they are of one object
def _arrhenius(constant: Any):
    law = _Arrhenius(constant)
    return Model(
        law,
        names=("prefactor", "energy"),
        guess=Scan(law.energies, law.columns, law.assembled, law.near, 4),
        derived=law.derived,
        units={"prefactor": "y", "energy": "R*x"},
        name="arrhenius",
    )
