"""What a fit is between two trials, and what the caller may set of it."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxlsq.numerics.linear_model import LinearModel
from jaxlsq.numerics.types import AnyArray
from jaxlsq.status import Status

__all__ = ["Before", "Options", "Point", "State", "Trial", "start"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Options:
    """What the caller may set; numbers only, so that no change recompiles.

    Attributes
    ----------
    ftol, xtol, gtol : scalar
        Tolerances, see `jaxlsq.numerics.convergence`.
    max_nfev : int
        Limit on evaluations of the residual.
    factor : scalar
        The first step bound is `factor` times the norm of the scaled start.
    diag : (n,) array
        Scale of each parameter; zero asks for MINPACK's own, the largest norm
        that its column of the Jacobian has had.
    epsfcn : scalar
        Relative error of the residual, for finite differences.
    """

    ftol: AnyArray
    xtol: AnyArray
    gtol: AnyArray
    max_nfev: AnyArray
    factor: AnyArray
    diag: AnyArray
    epsfcn: AnyArray


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Before:
    """Where a fit with bounds was before its last accepted trial."""

    x: jax.Array
    fnorm: jax.Array
    xnorm: jax.Array
    turns: jax.Array  # how often it went back there


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Point:
    """What changes when a trial is accepted."""

    x: jax.Array  # (n,) parameters
    fnorm: jax.Array  # norm of the residual there
    xnorm: jax.Array  # ||D x||
    factor: LinearModel  # of the Jacobian and residual there
    scale: jax.Array  # (n,) D
    gnorm: jax.Array  # largest cosine between the residual and a column of J
    # (n,) norms of columns that are rounding, as far as is known, zero for the others, and
    # infinite before the first Jacobian
    faint: jax.Array
    before: Before | None  # with bounds


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trial:
    """What changes with every trial."""

    x: jax.Array  # (n,) the point to evaluate
    step_bound: jax.Array  # Delta
    damping: jax.Array  # lambda
    step_norm: jax.Array  # ||D p||
    model: jax.Array  # (||J p|| / ||f||)^2
    damped: jax.Array  # lambda (||D p|| / ||f||)^2
    rank: jax.Array  # zero where the last Jacobian does not determine every parameter


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """One lane between two trials.  Nothing of it is as long as the data.

    Every array may have one more axis at its end: as many lanes, side by side.
    """

    point: Point
    trial: Trial
    nfev: jax.Array  # evaluations of the residual
    njev: jax.Array  # evaluations of the Jacobian
    nit: jax.Array  # accepted steps
    accepted: jax.Array  # was the last trial accepted?
    probing: jax.Array  # is the trial the start, moved by little?
    status: jax.Array  # a code of `Status`


def start(x0: jax.Array, empty: Callable[[jax.Array], LinearModel], bounded: bool = False) -> State:
    """The state whose first trial is the starting point.

    Parameters
    ----------
    x0 : (n, ...) array
    empty : callable
        ``Factor.empty`` or ``Normal.empty``.
    bounded : bool
        Whether there are bounds.

    Returns
    -------
    State
    """
    lanes = x0.shape[1:]
    zero, zeros = jnp.zeros(lanes, x0.dtype), jnp.zeros_like(x0)
    count, no = jnp.zeros(lanes, jnp.int32), jnp.zeros(lanes, bool)
    infinite, unknown = jnp.full_like(zero, jnp.inf), jnp.full_like(zeros, jnp.inf)
    before = Before(x0, infinite, zero, count) if bounded else None
    return State(
        point=Point(x0, infinite, zero, empty(x0), zeros, zero, unknown, before),
        trial=Trial(x0, zero, zero, zero, zero, zero, jnp.ones_like(zero)),
        nfev=count,
        njev=count,
        nit=count,
        accepted=no,
        probing=no,
        status=jnp.full(lanes, Status.RUNNING, jnp.int32),
    )
