"""Steps."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.models.candidates import AroundPlaces
from jaxlsq.models.model import Model
from jaxlsq.models.sample import Sample
from jaxlsq.models.scan import Scan
from jaxlsq.models.shapes import floating, nonzero, sigmoid

__all__ = ["Step"]


def _ramp(u: Any):
    return jnp.clip(u + 0.5, 0.0, 1.0)


def _erf_step(u: Any):
    return 0.5 * (1.0 + jax.lax.erf(u))


def _atan_step(u: Any):
    return 0.5 + jnp.arctan(u) / math.pi


# From 0 to 1, and the distance between 10 % and 90 % in units of sigma.
_FORMS = {
    "erf": (_erf_step, 1.8123876),
    "logistic": (sigmoid, 4.3944492),
    "atan": (_atan_step, 6.1553671),
    "linear": (_ramp, 0.8),
}


@dataclass(frozen=True)
class _StepFunction:
    """A step of a form."""

    form: str

    def __call__(self, x: Any, amplitude: Any, center: Any, sigma: Any) -> jax.Array:
        return amplitude * self.shape(floating(x), center, sigma)[0]

    def shape(self, x: Any, center: Any, sigma: Any) -> tuple[jax.Array, ...]:
        """From 0 to 1."""
        u = (x - center) / nonzero(sigma)
        return (_FORMS[self.form][0](jnp.clip(u, -1e4, 1e4)),)


@dataclass(frozen=True)
class _StepDerived:
    form: str

    def __call__(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"rise": _FORMS[self.form][1] * jnp.abs(params["sigma"])}


def _step_places(sample: Sample):
    """Centers and widths of rising steps, and negative ones of falling ones."""
    pairs = [
        (c, sign * w)
        for w in (0.4, 0.15, 0.06, 0.02)
        for c in np.linspace(0.0, 1.0, int(np.ceil(1.0 / w)) + 1)
        for sign in (1.0, -1.0)
    ]
    centers, widths = jnp.asarray(np.array(pairs).T, sample.y.dtype)
    return sample.low + sample.span * centers, sample.span * widths


def _step_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    return {"amplitude": coefficients[0], "center": values[0], "sigma": values[1]}


def Step(prefix: str = "", form: str = "erf") -> Model:
    r"""A step from 0 to an amplitude, lmfit's ``StepModel``.

    .. math:: f(x) = A \, s(u), \quad u = (x - c) / \sigma

    with s(u) of the `form` ``'erf'`` :math:`(1 + \operatorname{erf} u) / 2`, ``'logistic'``
    :math:`1 / (1 + e^{-u})`, ``'atan'`` :math:`1/2 + \arctan(u) / \pi` or ``'linear'``, which
    rises from 0 to 1 for u from -1/2 to 1/2.

    Parameters: `amplitude` A in y; `center` c and `sigma` :math:`\sigma` in x, negative for a
    step that falls from A to 0.

    Guess: a scan over centers and widths of both signs, the amplitude by linear least squares.

    Derived: `rise`, the distance between 10 and 90 % of the amplitude, in x.

    Hard points: of a step that is sharper than the spacing of x only the interval is known. A
    step between two levels, neither of them zero, is ``Step() + Constant()``.

    Raises
    ------
    ValueError
        For another form.

    Examples
    --------
    >>> from jaxlsq.models import Step
    >>> print(Step()(1.0, amplitude=3.0, center=1.0, sigma=0.5))
    1.5
    """
    if form not in _FORMS:
        raise ValueError(f"form must be one of {tuple(_FORMS)}, got {form!r}.")
    return _step(form).prefixed(prefix)


@cache  # two methods are equal where they are of one object
def _step(form: str):
    function = _StepFunction(form)
    return Model(
        function,
        names=("amplitude", "center", "sigma"),
        guess=Scan(_step_places, function.shape, _step_assembled, AroundPlaces(), 4),
        derived=_StepDerived(form),
        units={"amplitude": "y", "center": "x", "sigma": "x"},
        name="step",
    )
