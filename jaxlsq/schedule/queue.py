"""Problems that wait for lanes, and how they ended."""

from dataclasses import dataclass, field
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.types import AnyArray
from jaxlsq.problem.types import PyTree
from jaxlsq.schedule.equations import squares_are_safe
from jaxlsq.status import Status

__all__ = ["Ended", "Place", "Queue"]

ALL_ROUNDS = jnp.iinfo(jnp.int32).max


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Queue:
    """Problems that wait.

    Attributes
    ----------
    x0 : (B, n) array
        Starting parameters.
    data : pytree of (B / starts, ...) arrays
        Problem i gets ``data[i // starts]``.
    bounds : Bounds or None
        (B / starts, n) each.
    status : (B,) int32 array
        Problems whose code is not ``RUNNING`` are not begun, and keep it.
    count : scalar int32 array
        Only the first `count` problems are real.
    starts : int
        Problems in a row that share their data.
    """

    x0: AnyArray
    data: PyTree
    status: AnyArray
    count: AnyArray
    bounds: Bounds | None = None
    starts: int = field(default=1, metadata={"static": True})

    @classmethod
    def of(cls, x0: jax.Array, data: PyTree, bounds: Any = None) -> Self:
        """Problems that all wait."""
        size = x0.shape[0]
        running = jnp.full(size, Status.RUNNING, jnp.int32)
        return cls(x0, data, running, jnp.int32(size), bounds and Bounds(*bounds))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Place:
    """How far a queue has been worked.

    Attributes
    ----------
    issued : scalar int32 array
        Problems that lanes have taken.
    rounds : scalar int32 array
        Rounds that are left.
    units : tuple of arrays or None
        Units of the queue's residuals (B,) and parameters (B, n), made where nothing is issued.
    """

    issued: AnyArray
    rounds: AnyArray
    units: tuple[Any, Any] | None = None

    @classmethod
    def first(cls, queue: Queue, rounds: int = ALL_ROUNDS) -> Self:
        """The beginning of a queue, of which only shapes and types are read."""
        (size, n), dtype = queue.x0.shape, queue.x0.dtype
        # No constants of a batch's size in a program, which may be of another or of any size.
        xp = jnp if isinstance(queue.x0, Tracer) else np
        units = (
            None if squares_are_safe(dtype) else (xp.ones(size, dtype), xp.ones((size, n), dtype))
        )
        return cls(np.int32(0), np.int32(rounds), units)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ended:
    """How each problem ended; every array has the problems first.

    Attributes
    ----------
    x : (B, n) array
        The last good parameters.
    cost : (B,) array
        Half the sum of squares there; NaN where the residual was never finite.
    optimality : (B,) array
        The largest element of the gradient J'f there, but for those that a bound holds.
    fnorm : (B,) array
        The square root of twice the cost, which does not leave the range of the type.
    certainty : (B,) array
        The reciprocal of `jaxlsq.numerics.sweep.inflation` at the last Jacobian; zero where that
        is singular, or where the trust region kept the last step short.
    status, nfev, njev, nit : (B,) int32 arrays
    """

    x: AnyArray
    cost: AnyArray
    optimality: AnyArray
    fnorm: AnyArray
    certainty: AnyArray
    status: AnyArray
    nfev: AnyArray
    njev: AnyArray
    nit: AnyArray
