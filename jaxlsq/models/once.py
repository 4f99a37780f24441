"""Guesses of numbers, each a program that is compiled once."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxlsq.tracing.cache import PROGRAMS, program_key

__all__ = ["compiled_once"]

_Guess = Callable[[Any, Any, Any], dict[str, jax.Array]]


def compiled_once(guess: _Guess) -> _Guess:
    """The method ``guess(self, x, y)`` of a hashable object, as one program where it has numbers.

    Operation by operation each loop in it would be compiled again by every call, in seconds, and
    stay in memory: after some hundred of them the system gives the process no more.
    """

    @wraps(guess)
    def call(self: Any, x: Any, y: Any) -> dict[str, jax.Array]:
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((x, y))):
            return guess(self, x, y)
        numbers = jax.tree.map(_array, x), _array(y)
        key = program_key((), "guess", (type(self), self), numbers)
        program = jax.jit(partial(guess, self))
        return PROGRAMS.get(key, lambda: program.lower(*numbers).compile())(*numbers)

    return call


def _array(values: Any):
    return values if isinstance(values, jax.Array) else jnp.asarray(np.asarray(values))
