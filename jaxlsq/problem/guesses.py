"""Starts that a function of the data guesses."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.problem.data import Pieces
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.policy import Policy
from jaxlsq.problem.starts import Start
from jaxlsq.problem.types import PyTree
from jaxlsq.tracing.fingerprint import TRACES, trace_key
from jaxlsq.tracing.shapes import shapes_of
from jaxlsq.tracing.untraceable import JAX_ERRORS, untraceable

__all__ = ["as_params", "guessed_start"]


@dataclass(frozen=True)
class _Guess:
    """The user's guess as a vector."""

    guess: Callable[..., Any]
    layout: Layout
    x: Callable[..., Any]
    policy: Policy

    def __call__(self, lane, shared):
        y = self.policy.filled(lane, shared)
        packed = self.layout.pack(as_params(self.guess(self.x(lane, shared), y)), (), jnp)
        return packed.astype(y.dtype)


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
