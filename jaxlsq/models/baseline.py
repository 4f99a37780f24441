"""The guess of a polynomial, which in a sum is a baseline beside the other models."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxlsq.models.columns import least_squares
from jaxlsq.models.sample import Sample, sample_of, scaled

__all__ = ["Baseline"]


@dataclass(frozen=True)
class Baseline:
    """The guess of a polynomial: its least-squares fit, in closed form.

    Attributes
    ----------
    names : tuple of str
        Of the coefficients, of the lowest power first.
    falling : bool
        Whether the model has them with the highest power first.
    """

    names: tuple[str, ...]
    falling: bool = False

    def columns_of(self, x: Any, y: Any) -> list[jax.Array]:
        """Powers of x, brought to [-1, 1]."""
        return self._powers(sample_of(x, y))

    def _powers(self, sample: Sample):
        if len(self.names) == 1:
            return [jnp.ones_like(sample.y)]
        sample.check_variables(1)
        t = 2.0 * (sample.x - sample.low) / sample.span - 1.0
        return [t**k for k in range(len(self.names))]

    def __call__(self, x: Any, y: Any) -> dict[str, jax.Array]:
        sample, size = scaled(sample_of(x, y))
        found = least_squares(self._powers(sample), sample.y, sample.weights)
        if len(found) == 1:
            return {self.names[0]: found[0] * size}
        # Of t = slope x + shift, by the binomial theorem.
        slope = 2.0 / sample.span
        shift = -slope * sample.low - 1.0
        values: dict[str, jax.Array] = {}
        for k, name in enumerate(self.names):
            terms = [
                math.comb(j, k) * found[j] * shift ** (j - k) for j in range(k, len(self.names))
            ]
            values[name] = sum(terms, jnp.zeros_like(size)) * slope**k * size
        # Far from x = 0 powers may be beyond the type: the mean is not.
        finite = jnp.all(jnp.isfinite(jnp.stack(list(values.values()))))
        mean = least_squares([jnp.ones_like(sample.y)], sample.y, sample.weights)[0] * size
        for k, name in enumerate(self.names):
            values[name] = jnp.where(finite, values[name], mean if k == 0 else 0.0)
        return dict(reversed(values.items())) if self.falling else values
