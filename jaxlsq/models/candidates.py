"""Candidates that guesses scan: places and widths over the range of x, rates, frequencies."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.models.sample import Sample, spread

__all__ = ["AroundPlaces", "InLogarithm", "Places", "Rates", "extremes", "near_rates"]

# Widths over the range of x; the narrow ones are tried where y is extreme only.
_WIDTHS = (0.5, 0.25, 0.12, 0.06, 0.03)
_NARROW = 0.015
# So many of the largest and of the smallest y.
_EXTREMES = 6


def extremes(sample: Sample) -> jax.Array:
    """Indices of the points with the largest and the smallest y, up to six each."""
    counts = sample.weights > 0
    k = min(_EXTREMES, sample.m)
    high = lax.top_k(jnp.where(counts, sample.y, jnp.min(sample.y)), k)[1]
    low = lax.top_k(jnp.where(counts, -sample.y, jnp.min(-sample.y)), k)[1]
    return jnp.concatenate([high, low])


@dataclass(frozen=True)
class Places:
    """Pairs of a place and a width, and with each some values of further parameters.

    Attributes
    ----------
    shapes : tuple of tuples
        Values of the further parameters, all of which are combined.
    """

    shapes: tuple[tuple[float, ...], ...] = ()

    def __call__(self, sample: Sample) -> list[tuple[jax.Array, ...]]:
        """Those of a grid, and apart those that depend on y."""
        dtype = sample.y.dtype
        pairs = [(c, w) for w in _WIDTHS for c in np.linspace(0.0, 1.0, int(np.ceil(1.0 / w)) + 1)]
        narrow = [_NARROW]
        while narrow[-1] * sample.m > 1.0:
            narrow.append(0.5 * narrow[-1])
        at = (sample.x[extremes(sample)] - sample.low) / sample.span
        grid = jnp.asarray(np.array(pairs).T, dtype)
        at_extremes = jnp.tile(at, len(narrow)), jnp.repeat(jnp.asarray(narrow, dtype), at.size)
        return [self._with_shapes(sample, *grid), self._with_shapes(sample, *at_extremes)]

    def _with_shapes(self, sample: Sample, places: Any, widths: Any):
        others = spread(*self.shapes) if self.shapes else ()
        count = len(others[0]) if others else 1
        scaled = sample.low + sample.span * places, sample.span * widths
        return (
            *(jnp.tile(v, count) for v in scaled),
            *(jnp.repeat(jnp.asarray(v, sample.y.dtype), places.size) for v in others),
        )


@dataclass(frozen=True)
class AroundPlaces:
    """Candidates beside a place and a width; further parameters times some factors.

    Attributes
    ----------
    factors : tuple of tuples
        For each of the further parameters.
    """

    factors: tuple[tuple[float, ...], ...] = ()

    def __call__(
        self, sample: Sample, number: Any, place: Any, width: Any, *others: Any
    ) -> tuple[jax.Array, ...]:
        scale = jnp.asarray(1.0, place.dtype) / (number + 1)
        exponents = [np.log(row) for row in ((1 / 1.5, 1.0, 1.5), *self.factors)]
        shifts, *grid = (jnp.asarray(v, place.dtype) for v in spread((-0.5, 0, 0.5), *exponents))
        found = (v * jnp.exp(scale * g) for v, g in zip((width, *others), grid, strict=True))
        return (place + width * scale * shifts, *found)


@dataclass(frozen=True)
class InLogarithm:
    """Candidates for the logarithm of x, of which only positive values count."""

    candidates: Callable[..., Any]

    def __call__(self, sample: Sample) -> Any:
        known = (sample.x > 0) & (sample.weights > 0)
        one = jnp.ones((), sample.y.dtype)
        least = jnp.min(jnp.where(known, sample.x, jnp.inf))
        least = jnp.where(jnp.isfinite(least), least, one)
        x = jnp.log(jnp.where(known, sample.x, least))
        span = jnp.max(x) - jnp.min(x)
        changed = {"x": x, "low": jnp.min(x), "span": jnp.where(span > 0, span, one)}
        return self.candidates(replace(sample, **changed))


@dataclass(frozen=True)
class Rates:
    """Rates over the inverse range of x, with further parameters combined.

    Attributes
    ----------
    count : int
    least, most : float
        Of the first parameter, a geometric row.
    shapes : tuple of tuples
        Values of the further parameters.
    signs : tuple
        Of the rates.
    """

    count: int = 24
    least: float = 0.05
    most: float = 150.0
    shapes: tuple[tuple[float, ...], ...] = ()
    signs: tuple[float, ...] = (1.0,)

    def __call__(self, sample: Sample) -> tuple[jax.Array, ...]:
        row = np.geomspace(self.least, self.most, self.count)
        rows = np.concatenate([sign * row for sign in self.signs])
        rates, *others = (jnp.asarray(v, sample.y.dtype) for v in spread(rows, *self.shapes))
        return (rates / sample.span, *others)


def near_rates(sample: Sample, number: Any, *values: Any) -> tuple[jax.Array, ...]:
    """Candidates around values that are scales: each times some factors, in all combinations."""
    grid = spread(*[(-0.22, 0.0, 0.22)] * len(values))
    return tuple(
        v * jnp.exp(jnp.asarray(g, v.dtype) / (number + 1))
        for v, g in zip(values, grid, strict=True)
    )
