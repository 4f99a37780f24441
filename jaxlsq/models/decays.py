"""Exponential decays, relaxation and recovery."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from jaxlsq.models.candidates import Rates, near_rates
from jaxlsq.models.model import Model
from jaxlsq.models.sample import Sample
from jaxlsq.models.scan import Scan
from jaxlsq.models.shapes import exponential, floating, log_power, nonzero, positive

__all__ = [
    "BiExponential",
    "Exponential",
    "ExponentialOffset",
    "StretchedExponential",
    "T1Recovery",
]

_LN2 = math.log(2.0)


def _from_end(x: Any, rate: Any):
    """``exp(-rate (x - end))``, one at the end of x where it is largest; and that end."""
    end = jnp.where(rate < 0, jnp.max(x), jnp.min(x))
    return exponential(-rate * (x - end)), end


# --- one ------------------------------------------------------------------------------


def _exponential(x: Any, amplitude: Any, decay: Any):
    return amplitude * exponential(-floating(x) / nonzero(decay))


def _exponential_columns(x: Any, rate: Any):
    return (_from_end(x, rate)[0],)


def _exponential_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    (rate,) = values
    _, end = _from_end(sample.x, rate)
    return {"amplitude": coefficients[0] * exponential(rate * end), "decay": 1.0 / rate}


def _exponential_derived(params: dict[str, Any]) -> dict[str, Any]:
    return {"rate": 1.0 / params["decay"], "half_life": _LN2 * params["decay"]}


def Exponential(prefix: str = "") -> Model:
    r"""An exponential, lmfit's ``ExponentialModel``.

    .. math:: f(x) = A e^{-x / \tau}

    Parameters: `amplitude` A, the value at x = 0, in y; `decay` :math:`\tau` in x, negative for
    a growing one.

    Guess: a scan over rates of both signs, the amplitude by linear least squares. No logarithm
    is taken, so that data may be negative.

    Derived: `rate` :math:`1 / \tau` in 1/x and `half_life` :math:`\tau \ln 2` in x.

    Hard points: it goes to zero. For data that do not, take `ExponentialOffset`, or
    ``Exponential() + Constant()``, which is the same.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxlsq import fit
    >>> from jaxlsq.models import Exponential
    >>> x = np.linspace(0.0, 5.0, 50)
    >>> model = Exponential()
    >>> result = fit(model, x, 3.0 * np.exp(-x / 2.0), p0=model.guess)
    >>> {name: round(float(value), 6) for name, value in result.params.items()}
    {'amplitude': 3.0, 'decay': 2.0}
    """
    return _EXPONENTIAL.prefixed(prefix)


_BOTH = Rates(signs=(1.0, -1.0))
_EXPONENTIAL = Model(
    _exponential,
    guess=Scan(_BOTH, _exponential_columns, _exponential_assembled, near_rates, 2),
    derived=_exponential_derived,
    units={"amplitude": "y", "decay": "x"},
    name="exponential",
)


def _offset_exponential(x: Any, amplitude: Any, decay: Any, offset: Any):
    return _exponential(x, amplitude, decay) + offset


def _offset_columns(x: Any, rate: Any):
    return (_from_end(x, rate)[0], jnp.ones_like(x))


def _offset_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    return {**_exponential_assembled(sample, values, coefficients), "offset": coefficients[1]}


def ExponentialOffset(prefix: str = "") -> Model:
    r"""An exponential that does not end at zero.

    .. math:: f(x) = A e^{-x / \tau} + b

    Parameters: `amplitude` A in y; `decay` :math:`\tau` in x, negative for a growing one;
    `offset` b in y.

    Guess: a scan over rates of both signs, amplitude and offset by linear least squares.

    Derived: `rate` :math:`1 / \tau` in 1/x and `half_life` :math:`\tau \ln 2` in x.

    Hard points: where x ends before the decay does, all three are known only together.

    Examples
    --------
    >>> from jaxlsq.models import ExponentialOffset
    >>> print(ExponentialOffset()(0.0, amplitude=1.0, decay=2.0, offset=0.5))
    1.5
    """
    return _OFFSET.prefixed(prefix)


_OFFSET = Model(
    _offset_exponential,
    guess=Scan(_BOTH, _offset_columns, _offset_assembled, near_rates, 2),
    derived=_exponential_derived,
    units={"amplitude": "y", "decay": "x", "offset": "y"},
    name="exponential_offset",
)


# --- two ------------------------------------------------------------------------------

_TWO = ("amplitude1", "decay1", "amplitude2", "decay2", "offset")


def _biexponential(x: Any, amplitude1: Any, decay1: Any, amplitude2: Any, decay2: Any, offset: Any):
    x = floating(x)
    first = amplitude1 * exponential(-x / positive(decay1))
    return first + amplitude2 * exponential(-x / positive(decay2)) + offset


def _pairs(sample: Sample):
    """Two rates, the first one the larger."""
    row = np.geomspace(0.3, 100.0, 16)
    pairs = np.array([(a, b) for a in row for b in row if a > b])
    return tuple(jnp.asarray(v, sample.y.dtype) / sample.span for v in pairs.T)


def _biexponential_columns(x: Any, fast: Any, slow: Any):
    return (_from_end(x, fast)[0], _from_end(x, slow)[0], jnp.ones_like(x))


def _biexponential_assembled(sample: Any, values: Any, coefficients: Any) -> dict[str, Any]:
    low = jnp.min(sample.x)
    fast, slow = values
    found = (
        coefficients[0] * exponential(fast * low),
        1.0 / fast,
        coefficients[1] * exponential(slow * low),
        1.0 / slow,
        coefficients[2],
    )
    return dict(zip(_TWO, found, strict=True))


def _biexponential_derived(params: dict[str, Any]) -> dict[str, Any]:
    a, b = params["amplitude1"], params["amplitude2"]
    return {
        "half_life1": _LN2 * params["decay1"],
        "half_life2": _LN2 * params["decay2"],
        "fraction1": a / (a + b),
    }


def BiExponential(prefix: str = "") -> Model:
    r"""Two exponential decays and an offset.

    .. math:: f(x) = A_1 e^{-x / \tau_1} + A_2 e^{-x / \tau_2} + b

    Parameters: `amplitude1`, `amplitude2` and `offset` in y; `decay1` and `decay2`
    :math:`\tau \ge 0` in x, the first one shorter at the guess.

    Guess: a scan over pairs of rates, the rest by linear least squares.

    Derived: `half_life1` and `half_life2` :math:`\tau \ln 2` in x, and `fraction1`
    :math:`A_1 / (A_1 + A_2)`.

    Hard points: one of the classical ill-conditioned problems. Decays whose ratio is below two
    or three are told apart only by data of little noise; swapping both is the same function.

    Source: C. Lanczos, "Applied Analysis" (1956), ch. IV, 23.

    Examples
    --------
    >>> from jaxlsq.models import BiExponential
    >>> BiExponential().names
    ('amplitude1', 'decay1', 'amplitude2', 'decay2', 'offset')
    """
    return _BIEXPONENTIAL.prefixed(prefix)


_BIEXPONENTIAL = Model(
    _biexponential,
    guess=Scan(_pairs, _biexponential_columns, _biexponential_assembled, near_rates, 2),
    bounds={"decay1": (0.0, None), "decay2": (0.0, None)},
    derived=_biexponential_derived,
    units={name: "x" if name.startswith("decay") else "y" for name in _TWO},
    name="biexponential",
)


# --- stretched ------------------------------------------------------------------------


def _stretched(x: Any, amplitude: Any, decay: Any, beta: Any):
    # From exp(7) on nothing is left.
    power = jnp.minimum(log_power(x, decay, beta), 7.0)
    return amplitude * exponential(-exponential(power))


def _stretched_columns(x: Any, rate: Any, beta: Any):
    return (_stretched(x, 1.0, 1.0 / rate, beta),)


def _stretched_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    rate, beta = values
    return {"amplitude": coefficients[0], "decay": 1.0 / rate, "beta": beta}


def _stretched_derived(params: dict[str, Any]) -> dict[str, Any]:
    inverse = 1.0 / params["beta"]
    return {
        "mean_decay": params["decay"] * inverse * jnp.exp(gammaln(inverse)),
        "half_life": params["decay"] * _LN2**inverse,
    }


def StretchedExponential(prefix: str = "") -> Model:
    r"""The stretched exponential of Kohlrausch, Williams and Watts.

    .. math:: f(x) = A e^{-(x / \tau)^\beta}, \quad f = A \text{ for } x \le 0

    Parameters: `amplitude` A in y; `decay` :math:`\tau \ge 0` in x; `beta` :math:`\beta \ge 0`,
    below one for a distribution of rates, two for a Gaussian.

    Guess: a scan over rates and six values of beta, the amplitude by linear least squares.

    Derived: `mean_decay` :math:`(\tau / \beta) \, \Gamma(1 / \beta)` and `half_life`
    :math:`\tau (\ln 2)^{1 / \beta}` in x.

    Hard points: its derivative by x is infinite at x = 0 for beta below one; those by the
    parameters are finite. For an offset add a `Constant`.

    Source: R. Kohlrausch, Ann. Phys. 91 (1854) 179; G. Williams, D. C. Watts, Trans. Faraday
    Soc. 66 (1970) 80.

    Examples
    --------
    >>> from jaxlsq.models import StretchedExponential
    >>> print(f"{StretchedExponential()(4.0, amplitude=1.0, decay=1.0, beta=0.5):.5f}")
    0.13534
    """
    return _STRETCHED.prefixed(prefix)


_STRETCHED = Model(
    _stretched,
    guess=Scan(
        Rates(20, 0.2, 300.0, ((0.25, 0.4, 0.6, 1.0, 1.5, 2.5),)),
        _stretched_columns,
        _stretched_assembled,
        near_rates,
        2,
    ),
    bounds={"decay": (0.0, None), "beta": (0.0, None)},
    derived=_stretched_derived,
    units={"amplitude": "y", "decay": "x", "beta": ""},
    name="stretched_exponential",
)


# --- recovery -------------------------------------------------------------------------


def _recovery(x: Any, amplitude: Any, t1: Any, inversion: Any):
    return amplitude * (1.0 - inversion * exponential(-floating(x) / positive(t1)))


def _recovery_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    (rate,) = values
    wave, amplitude = coefficients
    # Of about the size of the wave, where data that end early say that there is none.
    least = 0.05 * jnp.abs(wave)
    small = jnp.abs(amplitude) < least
    amplitude = jnp.where(small, jnp.where(wave > 0, -least, least), amplitude)
    part = -wave / jnp.where(amplitude == 0, 1.0, amplitude)
    inversion = part * exponential(rate * jnp.min(sample.x))
    return {"amplitude": amplitude, "t1": 1.0 / rate, "inversion": inversion}


def _recovery_derived(params: dict[str, Any]) -> dict[str, Any]:
    return {
        "rate": 1.0 / params["t1"],
        "null": params["t1"] * jnp.log(positive(params["inversion"])),
    }


def T1Recovery(prefix: str = "") -> Model:
    r"""Longitudinal relaxation after an inversion or a saturation, of signed data.

    .. math:: f(x) = A \left(1 - r \, e^{-x / T_1}\right)

    Parameters: `amplitude` A, the signal at rest, in y; `t1` :math:`T_1 \ge 0` in x; `inversion`
    r, a pure number: 2 for a perfect inversion, 1 for a saturation.

    Guess: a scan over rates, both coefficients by linear least squares.

    Derived: `rate` :math:`1 / T_1`, and `null` :math:`T_1 \ln r`, where the signal is zero.

    Hard points: magnitude images have lost the sign, which has to be given back first.

    Source: A. Abragam, "The Principles of Nuclear Magnetism" (1961), ch. III.

    Examples
    --------
    >>> from jaxlsq.models import T1Recovery
    >>> print(T1Recovery()(0.0, amplitude=1.0, t1=0.8, inversion=2.0))
    -1.0
    """
    return _RECOVERY.prefixed(prefix)


_RECOVERY = Model(
    _recovery,
    guess=Scan(Rates(), _offset_columns, _recovery_assembled, near_rates, 2),
    bounds={"t1": (0.0, None)},
    derived=_recovery_derived,
    units={"amplitude": "y", "t1": "x", "inversion": ""},
    name="t1_recovery",
)
