"""Models that are seen through a response which was measured on a grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxlsq.models.compose import Renamed, Sum
from jaxlsq.models.scan import Scan
from jaxlsq.models.sums import SumGuess, inner_guess

__all__ = ["seen_through"]

# How far a place may be from its place on the grid, in steps: times are written with few digits.
_SLACK = 0.05


@dataclass(frozen=True)
class Convolved:
    """A model through a causal response whose sum is one, on the grid of x."""

    model: Any
    response: Sequence[float]

    def __call__(self, x: Any, *params: Any) -> jax.Array:
        x = x if isinstance(x, jax.Array) else np.asarray(x) * 1.0
        even = _is_even(x)
        if not isinstance(even, Tracer) and not even:
            raise ValueError(
                "x must rise in equal steps, those of the response that the model is seen through."
            )
        values = jnp.broadcast_to(self.model(x, *params), jnp.shape(x))
        return jnp.where(even, convolved(values, self.response), jnp.nan)

    def elsewhere(self, x: Any) -> "ThroughResponse":
        """The same at any places, where x is the grid."""
        first, step = _grid_of(x)
        return ThroughResponse(self.model.elsewhere(x), self.response, first, step)

    @property
    def on_grid(self) -> bool:
        """It is."""
        return True


@dataclass(frozen=True)
class ThroughResponse:
    """A model through a response, at any places: the sum over a grid that need not be theirs.

    Attributes
    ----------
    model : Model
    response : (k,) floats
    first, step : number
        Of the grid.  Before its first place the model counts as zero.
    """

    model: Any
    response: Sequence[float]
    first: Any
    step: Any

    def __call__(self, x: Any, *params: Any) -> jax.Array:
        x = jnp.asarray(x)
        x = x * jnp.ones((), jnp.result_type(x, float))

        def added(total: Any, tap: Any):
            number, weight = tap
            before = x - number * self.step
            inside = before >= self.first - _SLACK * self.step
            values = self.model(jnp.where(inside, before, self.first), *params)
            return total + jnp.where(inside, weight * values, 0.0), None

        weights = jnp.asarray(self.response, x.dtype)
        numbers = jnp.arange(weights.size, dtype=x.dtype)
        zero = jnp.zeros_like(x + sum(jnp.asarray(p, x.dtype) for p in params))
        return lax.scan(added, zero, (numbers, weights))[0]

    on_grid = False


def _grid_of(x: Any):
    """The first place and the step of a grid that rises evenly, and may repeat its last place."""
    if np.ndim(x) != 1:
        raise ValueError(
            "x must be the (m,) grid on which the response was measured that the model is seen "
            f"through, got shape {np.shape(x)}."
        )
    xp = jnp if isinstance(x, jax.Array) else np
    steps = xp.maximum(xp.sum(x[1:] > x[:-1]), 1)
    return x[0], (x[-1] - x[0]) / steps


def _is_even(x: Any):
    """Whether a grid rises evenly."""
    first, step = _grid_of(x)
    xp = jnp if isinstance(x, jax.Array) else np
    away = xp.abs(x - (first + step * xp.arange(x.size)))
    slack = _SLACK * step + 4.0 * np.finfo(x.dtype).eps * xp.max(xp.abs(x))
    # Places that repeat the last one fill up shorter data sets, and do not count.
    good = xp.all((away <= slack) | (x == x[-1])) & xp.all(x[1:] >= x[:-1])
    return good & ((step > 0) | (x.size == 1))


def convolved(values: Any, response: Sequence[float]) -> jax.Array:
    """Values on a uniform grid, seen through a causal response."""
    values = jnp.asarray(values)
    m = values.shape[-1]
    taps = jnp.asarray(response[:m], values.dtype)
    return jnp.convolve(values, taps, precision="highest")[:m]


@dataclass(frozen=True)
class ConvolvedColumns:
    """Columns of a guess, seen through a causal response."""

    columns: Callable[..., Any]
    response: Sequence[float]

    def __call__(self, x: Any, *values: Any) -> tuple[jax.Array, ...]:
        found = self.columns(x, *values)
        return tuple(convolved(column, self.response) for column in found)


def seen_through(model: Any, response: Sequence[float]) -> Any:
    """A model through a causal response; of a sum its terms each, which is the same."""
    if isinstance(model.function, Sum):
        terms = tuple((sign, seen_through(one, response)) for sign, one in model.function.terms)
        guess = model.guess and SumGuess(terms)
        return replace(model, function=Sum(terms), guess=guess)
    guess, prefix = inner_guess(model.guess)
    if isinstance(guess, Scan):
        guess = replace(guess, columns=ConvolvedColumns(guess.columns, response))
        guess = Renamed(guess, prefix) if prefix else guess
    else:
        guess = model.guess
    return replace(model, function=Convolved(model, response), guess=guess)
