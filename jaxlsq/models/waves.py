"""Waves."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.models.model import Model
from jaxlsq.models.sample import Sample
from jaxlsq.models.scan import Scan
from jaxlsq.models.shapes import exponential, floating

__all__ = ["DampedSine", "Sine"]

# Frequencies that a guess tries at most; they reach to one wave in two points.
_MOST = 4096


@dataclass(frozen=True)
class _Frequencies:
    """Angular frequencies, half a wave over the range of x apart, with some dampings.

    Attributes
    ----------
    dampings : tuple of float
        Over the inverse range of x.
    """

    dampings: tuple[float, ...] = ()

    def __call__(self, sample: Sample) -> tuple[jax.Array, ...]:
        count = min(max(sample.m, 3), _MOST)
        waves = 2.0 * np.pi * np.concatenate([[0.1, 0.25], 0.5 * np.arange(1, count)])
        rows = np.array([(w, d) for d in self.dampings or (0.0,) for w in waves])
        found = tuple(jnp.asarray(v, sample.y.dtype) / sample.span for v in rows.T)
        return found if self.dampings else found[:1]


def _near_frequencies(sample: Sample, number: Any, frequency: Any, *damping: Any):
    """Beside one, to a fraction of the step; and other dampings."""
    step = math.pi / sample.span * 0.25 ** jnp.asarray(number, frequency.dtype)
    shifts = [-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75]
    shifts = jnp.asarray(shifts, frequency.dtype) * step
    near = jnp.abs(frequency + shifts)
    if not damping:
        return (near,)
    factors = jnp.asarray([0.4, 0.63, 1.0, 1.6, 2.5], frequency.dtype)
    return (
        jnp.tile(near, factors.size),
        jnp.repeat(damping[0] * factors, shifts.size),
    )


def _middle(x: Any):
    return 0.5 * (jnp.min(x) + jnp.max(x))


def _sine(x: Any, amplitude: Any, frequency: Any, shift: Any):
    return amplitude * jnp.sin(floating(x) * frequency + shift)


def _sine_columns(x: Any, frequency: Any):
    phase = frequency * (x - _middle(x))
    return jnp.sin(phase), jnp.cos(phase)


def _phase(sample: Sample, frequency: Any, coefficients: Any):
    """Amplitude, and phase at x = 0 in (-pi, pi]."""
    sine, cosine = coefficients
    shift = jnp.arctan2(cosine, sine) - frequency * _middle(sample.x)
    turns = jnp.round(shift / (2.0 * math.pi))
    return jnp.hypot(sine, cosine), shift - 2.0 * math.pi * turns


def _sine_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    (frequency,) = values
    amplitude, shift = _phase(sample, frequency, coefficients)
    return {"amplitude": amplitude, "frequency": frequency, "shift": shift}


def _sine_derived(params: dict[str, Any]) -> dict[str, Any]:
    frequency = params["frequency"]
    return {"period": 2.0 * math.pi / frequency, "cycles": frequency / (2.0 * math.pi)}


def Sine(prefix: str = "") -> Model:
    r"""A sine wave, lmfit's ``SineModel``.

    .. math:: f(x) = A \sin(\omega x + \varphi)

    Parameters: `amplitude` A in y; `frequency` :math:`\omega \ge 0`, the angular one, in 1/x;
    `shift` :math:`\varphi` in radians.

    Guess: a periodogram of least squares, which needs no uniform x, over frequencies from a
    tenth of a wave to one wave in two points; sine and cosine by linear least squares.

    Derived: `period` :math:`2 \pi / \omega` in x, and `cycles` :math:`\omega / 2 \pi` in 1/x.

    Hard points: the sum of squares has a minimum for each wave more or less, so that a start
    must be within half a wave over the range of x. Frequencies beyond one wave in two points are
    the same on a uniform grid as smaller ones.

    Source: N. R. Lomb, Astrophys. Space Sci. 39 (1976) 447.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxlsq import fit
    >>> from jaxlsq.models import Sine
    >>> x = np.linspace(0.0, 10.0, 101)
    >>> model = Sine()
    >>> result = fit(model, x, 2.0 * np.sin(7.0 * x + 0.5), p0=model.guess)
    >>> {name: round(float(value), 6) for name, value in result.params.items()}
    {'amplitude': 2.0, 'frequency': 7.0, 'shift': 0.5}
    """
    return _SINE.prefixed(prefix)


_SINE = Model(
    _sine,
    guess=Scan(_Frequencies(), _sine_columns, _sine_assembled, _near_frequencies, 2),
    bounds={"frequency": (0.0, None)},
    derived=_sine_derived,
    units={"amplitude": "y", "frequency": "1/x", "shift": ""},
    name="sine",
)


def _damped(x: Any, amplitude: Any, frequency: Any, shift: Any, decay: Any):
    return _sine(x, amplitude, frequency, shift) * exponential(-floating(x) * decay)


def _damped_columns(x: Any, frequency: Any, decay: Any):
    fading = exponential(-decay * (x - jnp.min(x)))
    return tuple(column * fading for column in _sine_columns(x, frequency))


def _damped_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    frequency, decay = values
    amplitude, shift = _phase(sample, frequency, coefficients)
    amplitude = amplitude * exponential(decay * jnp.min(sample.x))
    return {"amplitude": amplitude, "frequency": frequency, "shift": shift, "decay": decay}


def _damped_derived(params: dict[str, Any]) -> dict[str, Any]:
    decay = params["decay"]
    quality = 0.5 * params["frequency"] / decay
    return {**_sine_derived(params), "lifetime": 1.0 / decay, "quality": quality}


def DampedSine(prefix: str = "") -> Model:
    r"""A sine wave that fades, lmfit's function ``expsine``.

    .. math:: f(x) = A \sin(\omega x + \varphi) \, e^{-k x}

    Parameters: `amplitude` A at x = 0 in y; `frequency` :math:`\omega \ge 0`, the angular one, in
    1/x; `shift` :math:`\varphi` in radians; `decay` :math:`k \ge 0`, here a rate, in 1/x.

    Guess: as for `Sine`, with four dampings.

    Derived: `period` and `lifetime` :math:`1 / k` in x, `cycles` in 1/x, and `quality`
    :math:`\omega / 2 k`.

    Hard points: as for `Sine`; what fades within less than a wave has no frequency.

    Examples
    --------
    >>> from jaxlsq.models import DampedSine
    >>> model = DampedSine()
    >>> print(f"{model(1.0, amplitude=1.0, frequency=1.0, shift=0.0, decay=1.0):.5f}")
    0.30956
    """
    return _DAMPED.prefixed(prefix)


_DAMPED = Model(
    _damped,
    guess=Scan(
        _Frequencies((0.1, 1.5, 5.0, 15.0)),
        _damped_columns,
        _damped_assembled,
        _near_frequencies,
        2,
    ),
    bounds={"frequency": (0.0, None), "decay": (0.0, None)},
    derived=_damped_derived,
    units={"amplitude": "y", "frequency": "1/x", "shift": "", "decay": "1/x"},
    name="damped_sine",
)
