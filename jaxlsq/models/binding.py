"""Binding in time."""

import math
from typing import Any

import jax.numpy as jnp

from jaxlsq.models.candidates import Rates, near_rates
from jaxlsq.models.model import Model
from jaxlsq.models.sample import Sample
from jaxlsq.models.scan import Scan
from jaxlsq.models.shapes import exponential, floating, positive

__all__ = ["Association", "Dissociation"]

_LN2 = math.log(2.0)


def _association(x: Any, amplitude: Any, rate: Any, offset: Any):
    return amplitude * (1.0 - exponential(-floating(x) * rate)) + offset


def _dissociation(x: Any, amplitude: Any, rate: Any, offset: Any):
    return amplitude * exponential(-floating(x) * rate) + offset


def _fading_columns(x: Any, rate: Any):
    return exponential(-rate * (x - jnp.min(x))), jnp.ones_like(x)


def _dissociation_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    (rate,) = values
    amplitude = coefficients[0] * exponential(rate * jnp.min(sample.x))
    return {"amplitude": amplitude, "rate": rate, "offset": coefficients[1]}


def _association_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    wave, plateau = coefficients
    # What would be all at x = 0 and is rounding beside that where x begins: none.
    seen = values[0] * jnp.min(sample.x) < -jnp.log(jnp.finfo(wave.dtype).eps)
    wave = jnp.where(seen, wave, 0.0)
    found = _dissociation_assembled(sample, values, (wave, plateau))
    amplitude, offset = found["amplitude"], found["offset"]
    return {"amplitude": -amplitude, "rate": found["rate"], "offset": offset + amplitude}


def _half_life(params: dict[str, Any]):
    return {"half_life": _LN2 / positive(params["rate"])}


def _association_derived(params: dict[str, Any]) -> dict[str, Any]:
    return {"plateau": params["amplitude"] + params["offset"], **_half_life(params)}


_BINDING = {"amplitude": "y", "rate": "1/x", "offset": "y"}


def Association(prefix: str = "") -> Model:
    r"""First-order association: binding until equilibrium.

    .. math:: f(x) = A \left(1 - e^{-k x}\right) + b

    Parameters: `amplitude` A, how much is bound in the end, and `offset` b, the value at x = 0, in
    y; `rate` :math:`k \ge 0`, the observed one, in 1/x.

    Guess: a scan over rates, the rest by linear least squares.

    Derived: `plateau` A + b in y, and `half_life` :math:`\ln 2 / k` in x.

    Hard points: data that end before the plateau know the slope A k alone.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxlsq.models import Association
    >>> print(Association()(np.array([0.0, 100.0]), amplitude=2.0, rate=1.0, offset=0.5))
    [0.5 2.5]
    """
    return _ASSOCIATION.prefixed(prefix)


_ASSOCIATION = Model(
    _association,
    guess=Scan(Rates(), _fading_columns, _association_assembled, near_rates, 2),
    bounds={"rate": (0.0, None)},
    derived=_association_derived,
    units=_BINDING,
    name="association",
)


def Dissociation(prefix: str = "") -> Model:
    r"""First-order dissociation, by its rate.

    .. math:: f(x) = A e^{-k x} + b

    Parameters: `amplitude` A, how much is lost in the end, and `offset` b, what remains, in y;
    `rate` :math:`k \ge 0` in 1/x.

    Guess: a scan over rates, the rest by linear least squares.

    Derived: `half_life` :math:`\ln 2 / k` in x.

    Hard points: data that end early know the slope A k alone.

    Examples
    --------
    >>> from jaxlsq.models import Dissociation
    >>> print(Dissociation()(0.0, amplitude=2.0, rate=1.0, offset=0.5))
    2.5
    """
    return _DISSOCIATION.prefixed(prefix)


_DISSOCIATION = Model(
    _dissociation,
    guess=Scan(Rates(), _fading_columns, _dissociation_assembled, near_rates, 2),
    bounds={"rate": (0.0, None)},
    derived=_half_life,
    units=_BINDING,
    name="dissociation",
)
