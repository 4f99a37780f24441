"""Starts that a function of the data guesses."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.numerics.loss import POISSON
from jaxlsq.problem.data import Pieces
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.policy import Policy
from jaxlsq.problem.starts import Start
from jaxlsq.problem.types import Parts, PyTree
from jaxlsq.tracing.fingerprint import TRACES, trace_key
from jaxlsq.tracing.shapes import shapes_of
from jaxlsq.tracing.untraceable import JAX_ERRORS, untraceable

__all__ = ["PositiveGuess", "as_params", "guessed_start"]

# By how many times what is missing data are lifted, and what part of the way to their mean they
# are brought, one after the other.
TRIED = ((1.0, 0.0), (2.0, 0.0), (0.0, 0.4), (0.0, 0.8), (0.0, 1.0))
# Of the mean: what is to be left of the model where it was least.
LIFT = 0.05


@dataclass(frozen=True)
class _Guess:
    """The user's guess as a vector."""

    guess: Callable[..., Any]
    layout: Layout
    x: Callable[..., Any]
    policy: Policy

    def __call__(self, lane, shared):
        return self.of(self.x(lane, shared), self.policy.filled(lane, shared))

    def masked(self) -> "_Guess":
        """The same of data that have a mask."""
        return replace(self, policy=replace(self.policy, masked=True))

    def of(self, x, y):
        """The (n,) start of some y."""
        packed = self.layout.pack(as_params(self.guess(x, y)), (), jnp)
        return packed.astype(y.dtype)


@dataclass(frozen=True)
class PositiveGuess:
    """A guess at which the deviance of counts exists, where that is easily found.

    Least squares do not mind that a baseline is below zero at the edge.  Where the model is, the
    guess is asked again: of data that are higher by what is missing, and of ever flatter ones.

    Attributes
    ----------
    guess : _Guess
    predict : callable
        ``predict(params, x) -> (m,)``.
    """

    guess: Any
    predict: Callable[..., Any]

    def __call__(self, lane: Parts, shared: Parts) -> jax.Array:
        """The (n,) start of one data set."""
        x = self.guess.x(lane, shared)
        y = self.guess.policy.filled(lane, shared)
        first = self.guess.of(x, y)
        mean, least = jnp.mean(y), jnp.min(self._values(first, x))
        missing = jnp.where(least < 0, -least, 0.0) + LIFT * mean

        def lacks(tried):
            number, start = tried
            exists = jnp.all(jnp.isfinite(POISSON(self._values(start, x), y).value))
            return ~exists & (number < len(TRIED))

        def again(tried):
            number, _ = tried
            lift, flat = jnp.asarray(TRIED, y.dtype)[number]
            return number + 1, self.guess.of(x, y + lift * missing + flat * (mean - y))

        return lax.while_loop(lacks, again, (jnp.int32(0), first))[1]

    def masked(self) -> "PositiveGuess":
        """The same of data that have a mask."""
        return replace(self, guess=self.guess.masked())

    def _values(self, start, x):
        return self.predict(self.guess.layout.from_vector(start), x)


def guessed_start(
    p0: Callable[..., Any], pieces: Pieces, policy: Policy, given: Start | None = None
) -> Start:
    """`Start` of a guess, with parameters as it returns them.

    Parameters
    ----------
    p0 : callable
        ``p0(x, y)``, as `fit` takes it.
    pieces : Pieces
        Of any of the problems: a guess is asked what it returns for their shapes.
    policy : Policy
    given : Start, optional
        Of which the guess replaces what is NaN; it must be one of the same names.
    """
    lane = {k: jax.ShapeDtypeStruct(s.tail, s.dtype) for k, s in pieces.lanes.items()}
    shared = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in pieces.shared.items()}
    wide = pieces.dtype == np.float64
    place = trace_key(("guess", p0, pieces.x), (lane, shared))
    try:
        layout = TRACES.get(place, lambda: _guessed_layout(p0, pieces.x, lane, shared, wide))
    except JAX_ERRORS as error:
        raise untraceable(error, "p0, as a function,") from error
    if given is not None:
        if set(layout.keys) != set(given.layout.keys):
            raise TypeError(
                f"p0 and the model are of the parameters {given.layout.names}, and the model's "
                f"guess is of {layout.names}."
            )
        return replace(given, guess=_Guess(p0, given.layout, pieces.x, policy))
    return Start(layout, None, _Guess(p0, layout, pieces.x, policy))


def _guessed_layout(p0, x, lane, shared, wide):
    """What a guess returns, by the shapes of a data set."""
    keys = []

    def guessed(lane, shared):
        params = as_params(p0(x(lane, shared), lane["y"]))
        keys.extend(params if isinstance(params, dict) else ())
        return params

    shapes = shapes_of(guessed, lane, shared, wide=wide)
    if keys:
        return Layout.as_given({key: np.zeros(shapes[key].shape) for key in keys})
    return Layout.as_given(np.zeros(shapes.shape))


def as_params(params: PyTree) -> PyTree:
    """A guess as a dict of scalars or a vector."""
    if isinstance(params, dict) and params:
        return params
    several = isinstance(params, (tuple, list)) or getattr(params, "ndim", 0) == 1
    if not several or len(params) == 0:
        raise TypeError(
            "p0, as a function, must return a dict of numbers or a sequence of them, one for each "
            f"parameter; got {params!r}."
        )
    return jnp.stack([jnp.asarray(p) for p in params])
