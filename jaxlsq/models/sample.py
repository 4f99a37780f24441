"""`Sample`: one data set, as guesses look at it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.models.shapes import coordinates

__all__ = ["Sample", "sample_of", "scaled", "spread"]


@dataclass(frozen=True)
class Sample:
    """One data set.

    Attributes
    ----------
    x : (m,) array, or tuple of them
        One for each variable.
    y : (m,) array
    weights : (m,) array
        One; zero for a point that repeats the one before it.
    low, span : number, or tuple of them
        The least x and the range of x; where it is zero, one.
    """

    x: Any
    y: jax.Array
    weights: jax.Array
    low: Any
    span: Any

    @property
    def m(self) -> int:
        """The number of points."""
        return self.y.shape[0]

    def check_variables(self, count: int) -> None:
        """Raise ValueError where points have more or fewer variables."""
        coordinates(self.x if isinstance(self.x, tuple) else (self.x,), count)


def sample_of(x: Any, y: Any) -> Sample:
    """The `Sample` of x, an (m,) or (d, m) array or a tuple, and y.

    Points that do not count come as repeated last ones, so that a repeated point weighs nothing.

    Raises
    ------
    ValueError
        For a y of more than one data set, or of another length than x.
    """
    if jnp.ndim(y) != 1:
        raise ValueError(
            f"a guess is of one data set, y of shape (m,); got {jnp.shape(y)}. For many use "
            "jax.vmap(model.guess, (None, 0))(x, y), or leave p0 out of fit."
        )
    dtype = jnp.result_type(y, *jax.tree.leaves(x), 1.0)
    several = isinstance(x, (tuple, list)) or jnp.ndim(x) > 1
    variables = tuple(jnp.asarray(v, dtype) for v in (x if several else (x,)))
    y = jnp.asarray(y, dtype)
    for variable in variables:
        if variable.shape != y.shape:
            raise ValueError(
                "x and y (xdata and ydata of a fit) must have the same points: y has the shape "
                f"{y.shape}, and {'a variable of x' if several else 'x'} {variable.shape}."
            )
    again = y[1:] == y[:-1]
    for variable in variables:
        again = again & (variable[1:] == variable[:-1])
    weights = jnp.concatenate([jnp.ones(1, dtype), jnp.where(again, 0.0, 1.0).astype(dtype)])
    low = tuple(jnp.min(v) for v in variables)
    span = tuple(jnp.max(v) - a for v, a in zip(variables, low, strict=True))
    span = tuple(jnp.where(s > 0, s, jnp.ones((), dtype)) for s in span)
    if several:
        return Sample(variables, y, weights, low, span)
    return Sample(variables[0], y, weights, low[0], span[0])


def spread(*axes: Sequence[float] | NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """All combinations of the values of some axes, a flat array of each."""
    return tuple(v.ravel() for v in np.meshgrid(*map(np.asarray, axes), indexing="ij"))


def scaled(sample: Sample) -> tuple[Sample, jax.Array]:
    """With y over about its largest size, and that size; one where all are zero.

    It is a power of two, over which and times which nothing is rounded.
    """
    size = jnp.max(jnp.abs(sample.y))
    known = (size > 0) & jnp.isfinite(size)
    size = jnp.ldexp(jnp.ones_like(size), jnp.frexp(jnp.where(known, size, 1.0))[1] - 1)
    return replace(sample, y=sample.y / size), size
