"""The models of the NIST StRD problems of nonlinear regression, in jax.numpy."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

__all__ = ["MODELS"]


def _bennett(x, b1, b2, b3):
    return b1 * (b2 + x) ** (-1 / b3)


def _growth(x, b1, b2):
    return b1 * (1 - jnp.exp(-b2 * x))


def _chwirut(x, b1, b2, b3):
    return jnp.exp(-b1 * x) / (b2 + b3 * x)


def _danwood(x, b1, b2):
    return b1 * x**b2


def _enso(x, b1, b2, b3, b4, b5, b6, b7, b8, b9):
    def wave(period, cosine, sine):
        phase = 2 * jnp.pi * x / period
        return cosine * jnp.cos(phase) + sine * jnp.sin(phase)

    return b1 + wave(12.0, b2, b3) + wave(b4, b5, b6) + wave(b7, b8, b9)


def _eckerle(x, b1, b2, b3):
    return b1 / b2 * jnp.exp(-0.5 * ((x - b3) / b2) ** 2)


def _gauss(x, b1, b2, b3, b4, b5, b6, b7, b8):
    return (
        b1 * jnp.exp(-b2 * x)
        + b3 * jnp.exp(-((x - b4) ** 2) / b5**2)
        + b6 * jnp.exp(-((x - b7) ** 2) / b8**2)
    )


def _cubic_rational(x, b1, b2, b3, b4, b5, b6, b7):
    return (b1 + x * (b2 + x * (b3 + x * b4))) / (1 + x * (b5 + x * (b6 + x * b7)))


def _kirby(x, b1, b2, b3, b4, b5):
    return (b1 + x * (b2 + x * b3)) / (1 + x * (b4 + x * b5))


def _lanczos(x, b1, b2, b3, b4, b5, b6):
    return b1 * jnp.exp(-b2 * x) + b3 * jnp.exp(-b4 * x) + b5 * jnp.exp(-b6 * x)


def _mgh09(x, b1, b2, b3, b4):
    return b1 * (x * x + x * b2) / (x * x + x * b3 + b4)


def _mgh10(x, b1, b2, b3):
    return b1 * jnp.exp(b2 / (x + b3))


def _mgh17(x, b1, b2, b3, b4, b5):
    return b1 + b2 * jnp.exp(-x * b4) + b3 * jnp.exp(-x * b5)


def _misra_b(x, b1, b2):
    return b1 * (1 - (1 + b2 * x / 2) ** -2)


def _misra_c(x, b1, b2):
    return b1 * (1 - (1 + 2 * b2 * x) ** -0.5)


def _misra_d(x, b1, b2):
    return b1 * b2 * x / (1 + b2 * x)


def _nelson(x, b1, b2, b3):
    return b1 - b2 * x[0] * jnp.exp(-b3 * x[1])


def _rat42(x, b1, b2, b3):
    return b1 / (1 + jnp.exp(b2 - b3 * x))


def _rat43(x, b1, b2, b3, b4):
    return b1 / (1 + jnp.exp(b2 - b3 * x)) ** (1 / b4)


def _roszman(x, b1, b2, b3, b4):
    return b1 - b2 * x - jnp.arctan(b3 / (x - b4)) / jnp.pi


MODELS: dict[str, Callable[..., Any]] = {
    "Bennett5": _bennett,
    "BoxBOD": _growth,
    "Chwirut1": _chwirut,
    "Chwirut2": _chwirut,
    "DanWood": _danwood,
    "ENSO": _enso,
    "Eckerle4": _eckerle,
    "Gauss1": _gauss,
    "Gauss2": _gauss,
    "Gauss3": _gauss,
    "Hahn1": _cubic_rational,
    "Kirby2": _kirby,
    "Lanczos1": _lanczos,
    "Lanczos2": _lanczos,
    "Lanczos3": _lanczos,
    "MGH09": _mgh09,
    "MGH10": _mgh10,
    "MGH17": _mgh17,
    "Misra1a": _growth,
    "Misra1b": _misra_b,
    "Misra1c": _misra_c,
    "Misra1d": _misra_d,
    "Nelson": _nelson,
    "Rat42": _rat42,
    "Rat43": _rat43,
    "Roszman1": _roszman,
    "Thurber": _cubic_rational,
}
