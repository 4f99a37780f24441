r"""Jacobians of a residual: automatic, by MINPACK's forward difference, central.

Each function takes ``fun(x) -> (m,)`` and returns ``jac(x, f) -> (m, n)``, where
f is ``fun(x)``, which the finite differences would otherwise evaluate again.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.norm import divide
from jaxlsq.numerics.types import AnyArray

__all__ = [
    "EVALUATIONS",
    "METHODS",
    "along",
    "differentiate",
    "forward_step",
    "inside",
    "linearized",
]


def forward_step(x: AnyArray, relative_step: AnyArray, xp: ModuleType = jnp) -> AnyArray:
    r"""MINPACK's step: ``h = s |x|``, and s itself where that is zero.

    Parameters
    ----------
    x : (n,) array
        Parameters.
    relative_step : scalar
        s.  ``fdjac2`` takes the square root of ``max(epsfcn, eps)``.
    xp : module
        jax.numpy or numpy.

    Returns
    -------
    (n,) array
    """
    h = relative_step * xp.abs(x)
    return xp.where(h == 0, relative_step, h)


def inside(
    x: AnyArray, h: AnyArray, bounds: tuple[AnyArray, AnyArray], central: bool, xp: ModuleType = jnp
) -> tuple[AnyArray, AnyArray]:
    """The two points of each finite difference, inside the bounds.

    Where they leave no room for the whole step to either side, it ends at the farther bound.

    Parameters
    ----------
    x, h : (n,) arrays
        Parameters and positive steps.
    bounds : Bounds
    central : bool
        Whether to step to both sides.

    Returns
    -------
    ahead, behind : (n,) arrays
        Of each parameter; equal where its bounds are.
    """
    lower, upper = bounds
    if central:
        return xp.minimum(x + h, upper), xp.maximum(x - h, lower)
    farther = xp.where(upper - x >= x - lower, upper, lower)
    ahead = xp.where(x + h <= upper, x + h, xp.where(x - h >= lower, x - h, farther))
    return ahead, x


def _bounded(fun, method, epsfcn, bounds):
    """Finite differences that evaluate `fun` inside the bounds only."""

    def jac(x, f):
        central, smallest = method == "3-point", jnp.maximum(epsfcn, jnp.finfo(x.dtype).eps)
        h = forward_step(x, jnp.cbrt(smallest) if central else jnp.sqrt(smallest))
        ahead, behind = inside(x, h, bounds, central)
        run = ahead - behind
        at = jax.vmap(lambda j, value: fun(x.at[j].set(value)), in_axes=(0, 0))
        index = jnp.arange(x.shape[0])
        other = at(index, behind) if central else f[None, :]
        return ((at(index, ahead) - other) / jnp.where(run == 0, 1.0, run)[:, None]).T

    return jac


def _jacfwd(fun, epsfcn):
    derivative = jax.jacfwd(fun)
    return lambda x, f: derivative(x)


def _jacrev(fun, epsfcn):
    derivative = jax.jacrev(fun)
    return lambda x, f: derivative(x)


def _forward(fun, epsfcn):
    """``fdjac2``: ``(fun(x + h_j e_j) - f) / h_j``, n evaluations."""

    def jac(x, f):
        eps = jnp.finfo(x.dtype).eps
        h = forward_step(x, jnp.sqrt(jnp.maximum(epsfcn, eps)))
        moved = jax.vmap(fun)(x[None, :] + jnp.diag(h))
        return jax.vmap(divide)(moved - f[None, :], h).T

    return jac


def _central(fun, epsfcn):
    """``(fun(x + h_j e_j) - fun(x - h_j e_j)) / 2 h_j``, 2 n evaluations.

    h is the cube root of ``max(epsfcn, eps)`` times \\|x\\|, which balances
    truncation against rounding (Nocedal, Wright, "Numerical Optimization",
    section 8.1).
    """

    def jac(x, f):
        eps = jnp.finfo(x.dtype).eps
        h = forward_step(x, jnp.cbrt(jnp.maximum(epsfcn, eps)))
        ahead, behind = x[None, :] + jnp.diag(h), x[None, :] - jnp.diag(h)
        run = jnp.diagonal(ahead) - jnp.diagonal(behind)
        return ((jax.vmap(fun)(ahead) - jax.vmap(fun)(behind)) / run[:, None]).T

    return jac


# What the complex step is for, a derivative without cancellation, JAX has exactly.
METHODS: dict[str, Callable[..., Any]] = {
    "jacfwd": _jacfwd,
    "jacrev": _jacrev,
    "cs": _jacfwd,
    "2-point": _forward,
    "3-point": _central,
}

# Evaluations of the residual that one Jacobian costs, per parameter.
EVALUATIONS = {"jacfwd": 0, "jacrev": 0, "cs": 0, "2-point": 1, "3-point": 2}


def differentiate(
    fun: Callable[..., Any], method: str, epsfcn: AnyArray, bounds: Bounds | None = None
) -> Callable[..., Any]:
    """The Jacobian of `fun` by `method`.

    Parameters
    ----------
    fun : callable
        ``fun(x) -> (m,)``, traceable.
    method : {'jacfwd', 'jacrev', 'cs', '2-point', '3-point'}
    epsfcn : scalar
        Relative error of `fun`, for the finite differences.
    bounds : Bounds, optional
        (n,) arrays; finite differences stay between them.

    Returns
    -------
    callable
        ``jac(x, f) -> (m, n)``.
    """
    if bounds is not None and EVALUATIONS[method]:
        return _bounded(fun, method, epsfcn, bounds)
    return METHODS[method](fun, epsfcn)


def along(fun: Callable[..., Any], xs: Sequence[jax.Array], j: int) -> tuple[Any, Any]:
    """``fun(*xs)`` of scalars, and its derivative by one of them."""

    def of_one(x):
        return fun(*xs[:j], x, *xs[j + 1 :])

    return jax.jvp(of_one, (xs[j],), (jnp.ones_like(xs[j]),))


def linearized(
    fun: Callable[..., Any], method: str, epsfcn: AnyArray, bounds: Bounds | None = None
) -> Callable[..., Any]:
    """The residual and its Jacobian's columns, for a function of scalars.

    Parameters
    ----------
    fun : callable
        ``fun(*xs) -> (m,)`` with n scalars, traceable.
    method : {'jacfwd', 'jacrev', 'cs', '2-point', '3-point'}
    epsfcn : scalar
        Relative error of `fun`, for the finite differences.
    bounds : Bounds, optional
        (n,) arrays; finite differences stay between them.

    Returns
    -------
    callable
        ``lane(xs) -> f, columns``: (m,) and n times (m,).

    Notes
    -----
    'jacfwd' differentiates by one scalar at a time, so that what does not depend on it is
    left out of its column: of a sum of peaks, only the one that it belongs to remains.
    """

    def by_scalars(xs):
        pairs = [along(fun, xs, j) for j in range(len(xs))]
        return pairs[0][0], tuple(tangent for _, tangent in pairs)

    def by_vector(xs):
        def of_vector(x):
            return fun(*(x[j] for j in range(len(xs))))

        x = jnp.stack(xs)
        f = of_vector(x)
        jac = differentiate(of_vector, method, epsfcn, bounds)(x, f)
        return f, tuple(jac[:, j] for j in range(len(xs)))

    return by_scalars if METHODS[method] is _jacfwd else by_vector
