"""Curves that are fitted: ready models and functions written by hand, with what their truth may be.

A curve is written once, for jax.numpy and for NumPy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxlsq import models

__all__ = ["BY_NAME", "CURVES", "SIMPLE", "Curve"]


@dataclass(frozen=True)
class Curve:
    """A function of x, and between what its parameters are drawn.

    Attributes
    ----------
    name : str
    build : callable
        ``build(xp) -> f``, with ``f(x, *params)`` in jax.numpy or NumPy.
    ranges : tuple of (low, high)
        Of each parameter; those above zero are drawn by their logarithm.
    x : (low, high)
        Between what the points lie.
    plain : bool
        Whether NumPy can compute it.
    """

    name: str
    build: Callable[[Any], Callable[..., Any]]
    ranges: tuple[tuple[float, float], ...]
    x: tuple[float, float]
    plain: bool = True

    @property
    def n(self) -> int:
        """Number of parameters."""
        return len(self.ranges)

    @property
    def traced(self) -> Callable[..., Any]:
        """In jax.numpy."""
        return self.build(jnp)

    @property
    def in_numpy(self) -> Callable[..., Any]:
        """In NumPy, where it is `plain`."""
        return self.build(np)

    def truth(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """(size, n) parameters."""
        columns = []
        for low, high in self.ranges:
            if low > 0:
                columns.append(np.exp(rng.uniform(np.log(low), np.log(high), size)))
            else:
                columns.append(rng.uniform(low, high, size))
        return np.stack(columns, axis=1)

    def values(self, x: np.ndarray, params: np.ndarray) -> np.ndarray:
        """(size, m) values of (size, n) parameters."""
        columns = [np.asarray(c)[:, None] for c in params.T]
        with np.errstate(all="ignore"):
            values = np.asarray(self.traced(x, *columns), np.float64)
        return np.broadcast_to(values, (params.shape[0], np.shape(x)[-1]))


def _decay(xp):
    return lambda x, a, k, c: a * xp.exp(-k * x) + c


def _two_decays(xp):
    return lambda x, a, k, b, q: a * xp.exp(-k * x) + b * xp.exp(-q * x)


def _gaussian(xp):
    return lambda x, a, c, s, b: a * xp.exp(-0.5 * ((x - c) / s) ** 2) + b


def _two_peaks(xp):
    def two(x, a, c, s, b, d, t, e):
        first = a * xp.exp(-0.5 * ((x - c) / s) ** 2)
        return first + b * xp.exp(-0.5 * ((x - d) / t) ** 2) + e

    return two


def _lorentzian(xp):
    return lambda x, a, c, w: a / (1.0 + ((x - c) / w) ** 2)


def _logistic(xp):
    return lambda x, a, k, c: a / (1.0 + xp.exp(-k * (x - c)))


def _enzyme(xp):
    return lambda x, v, k: v * x / (k + x)


def _power(xp):
    return lambda x, a, b: a * x**b


def _root(xp):
    return lambda x, a, b: a * xp.sqrt(b - x)


def _logarithm(xp):
    return lambda x, a, b, c: a * xp.log(x + b) + c


def _sine(xp):
    return lambda x, a, w, p: a * xp.sin(w * x + p)


def _line(xp):
    return lambda x, a, b: a * x + b


def _quintic(xp):
    return lambda x, a, b, c, d, e, f: ((((a * x + b) * x + c) * x + d) * x + e) * x + f


def _rational(xp):
    return lambda x, a, b, c, d: (a + b * x) / (1.0 + c * x + d * x**2)


def _twice(xp):
    return lambda x, a, b, k: (a + b) * xp.exp(-k * x)


def _product(xp):
    return lambda x, a, b, k: a * b * xp.exp(-k * x)


def _unused(xp):
    return lambda x, a, k, u: a * xp.exp(-k * x) + 0.0 * u


def _tanh(xp):
    return lambda x, a, b, c, d: a * xp.tanh(b * (x - c)) + d


def _absolute(xp):
    return lambda x, a, b, c: a * xp.abs(x - b) + c


def _hinge(xp):
    return lambda x, a, b, c: a * xp.maximum(x - b, 0.0) + c


def _square_of_one(xp):
    return lambda x, a, b: a**2 * x + xp.exp(b)


def _arrhenius(xp):
    return lambda x, a, b: a * xp.exp(-b / x)


def _by_hand():
    peak = (0.5, 5.0), (-2.0, 2.0), (0.3, 2.0)
    yield Curve("decay", _decay, ((0.5, 5.0), (0.2, 4.0), (-1.0, 1.0)), (0.0, 4.0))
    yield Curve("two decays", _two_decays, ((1.0, 5.0), (0.2, 0.8), (1.0, 5.0), (2.0, 8.0)), (0, 4))
    yield Curve("gaussian", _gaussian, (*peak, (-1.0, 1.0)), (-5.0, 5.0))
    yield Curve("two peaks", _two_peaks, (*peak, *peak, (-1.0, 1.0)), (-5.0, 5.0))
    yield Curve("lorentzian", _lorentzian, peak, (-5.0, 5.0))
    yield Curve("logistic", _logistic, ((0.5, 5.0), (0.5, 5.0), (-2.0, 2.0)), (-5.0, 5.0))
    yield Curve("enzyme", _enzyme, ((0.5, 50.0), (0.1, 10.0)), (0.05, 10.0))
    yield Curve("power", _power, ((0.5, 5.0), (-2.0, 3.0)), (0.1, 4.0))
    yield Curve("root", _root, ((0.5, 5.0), (4.5, 9.0)), (0.0, 4.0))
    yield Curve("logarithm", _logarithm, ((0.5, 5.0), (0.1, 3.0), (-1.0, 1.0)), (0.0, 4.0))
    yield Curve("sine", _sine, ((0.5, 5.0), (1.0, 4.0), (-2.0, 2.0)), (0.0, 5.0))
    yield Curve("line", _line, ((-5.0, 5.0), (-5.0, 5.0)), (-3.0, 3.0))
    yield Curve("quintic", _quintic, ((-5.0, 5.0),) * 6, (0.0, 2.0))
    yield Curve("rational", _rational, ((0.5, 5.0), (-2, 2), (-0.2, 1.0), (0.1, 2.0)), (0, 3))
    yield Curve("twice", _twice, ((0.5, 5.0), (0.5, 5.0), (0.2, 4.0)), (0.0, 4.0))
    yield Curve("product", _product, ((0.5, 5.0), (0.5, 5.0), (0.2, 4.0)), (0.0, 4.0))
    yield Curve("unused", _unused, ((0.5, 5.0), (0.2, 4.0), (-1.0, 1.0)), (0.0, 4.0))
    yield Curve("tanh", _tanh, ((0.5, 5.0), (0.3, 3.0), (-2.0, 2.0), (-1.0, 1.0)), (-5.0, 5.0))
    yield Curve("absolute", _absolute, ((0.5, 5.0), (-2.0, 2.0), (-1.0, 1.0)), (-5.0, 5.0))
    yield Curve("hinge", _hinge, ((0.5, 5.0), (-2.0, 2.0), (-1.0, 1.0)), (-5.0, 5.0))
    yield Curve("square of one", _square_of_one, ((-3.0, 3.0), (-2.0, 2.0)), (-1.0, 3.0))
    yield Curve("arrhenius", _arrhenius, ((1e6, 1e12), (3e3, 1e4)), (280.0, 400.0))


def _ready(name, ranges, x):
    model = getattr(models, name)()
    return Curve(name, lambda xp: model.function, ranges, x, plain=False)


def _ready_models():
    peak = (0.5, 5.0), (-2.0, 2.0), (0.3, 2.0)
    dose = (-1.0, 1.0), (2.0, 9.0), (0.3, 3.0), (0.5, 4.0)
    yield _ready("Gaussian", peak, (-5.0, 5.0))
    yield _ready("Lorentzian", peak, (-5.0, 5.0))
    yield _ready("Voigt", (*peak, (0.1, 2.0)), (-5.0, 5.0))
    yield _ready("PseudoVoigt", (*peak, (0.01, 0.99)), (-5.0, 5.0))
    yield _ready("Moffat", (*peak, (0.6, 4.0)), (-5.0, 5.0))
    yield _ready("PearsonVII", (*peak, (0.7, 5.0)), (-5.0, 5.0))
    yield _ready("SkewedGaussian", (*peak, (-3.0, 3.0)), (-5.0, 5.0))
    yield _ready("ExponentialGaussian", (*peak, (0.2, 3.0)), (-5.0, 5.0))
    yield _ready("Lognormal", ((0.5, 5.0), (-0.5, 1.5), (0.2, 1.0)), (0.1, 8.0))
    yield _ready("Doniach", (*peak, (0.01, 0.6)), (-5.0, 5.0))
    yield _ready("BreitWigner", (*peak, (-3.0, 3.0)), (-5.0, 5.0))
    yield _ready("Fano", (*peak, (-3.0, 3.0)), (-5.0, 5.0))
    yield _ready("Exponential", ((0.5, 5.0), (0.2, 5.0)), (0.0, 5.0))
    yield _ready("ExponentialOffset", ((0.5, 5.0), (0.2, 5.0), (-1.0, 1.0)), (0.0, 5.0))
    yield _ready(
        "BiExponential", ((1.0, 5.0), (0.1, 0.5), (1.0, 5.0), (1.0, 5.0), (-1.0, 1.0)), (0.0, 8.0)
    )
    yield _ready("StretchedExponential", ((0.5, 5.0), (0.2, 5.0), (0.3, 1.5)), (0.0, 5.0))
    yield _ready("T1Recovery", ((0.5, 5.0), (0.2, 5.0), (1.0, 2.5)), (0.0, 8.0))
    yield _ready("FourPL", dose, (0.01, 20.0))
    yield _ready("FivePL", (*dose, (0.3, 3.0)), (0.01, 20.0))
    yield _ready("Hill", ((0.5, 5.0), (0.3, 3.0), (0.5, 4.0)), (0.01, 20.0))
    yield _ready("MichaelisMenten", ((0.5, 5.0), (0.1, 10.0)), (0.05, 10.0))
    yield _ready("Association", ((0.5, 5.0), (0.2, 5.0), (-1.0, 1.0)), (0.0, 5.0))
    yield _ready("PowerLaw", ((0.5, 5.0), (-2.0, 3.0)), (0.1, 4.0))
    yield _ready("Arrhenius", ((1e6, 1e12), (2e4, 8e4)), (280.0, 400.0))
    yield _ready("Step", ((0.5, 5.0), (-2.0, 2.0), (0.1, 2.0)), (-5.0, 5.0))
    yield _ready("Sine", ((0.5, 5.0), (1.0, 4.0), (-2.0, 2.0)), (0.0, 5.0))
    yield _ready("DampedSine", ((0.5, 5.0), (1.0, 4.0), (-2.0, 2.0), (0.5, 5.0)), (0.0, 8.0))
    yield _ready("Quadratic", ((-5.0, 5.0),) * 3, (-2.0, 2.0))


CURVES = (*_by_hand(), *_ready_models())
SIMPLE = tuple(c for c in CURVES if c.plain)
BY_NAME = {c.name: c for c in CURVES}
