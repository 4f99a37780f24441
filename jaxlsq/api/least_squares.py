"""`least_squares`: one problem in pure JAX, whose `vmap` is the lane pool."""

from collections.abc import Callable, Iterable, Mapping
from operator import index
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from jaxlsq.problem.bounds import traced_bounds
from jaxlsq.problem.checks import check_known, check_method
from jaxlsq.problem.containers import native
from jaxlsq.problem.losses import check_scale, loss_of
from jaxlsq.problem.starts import traced_start
from jaxlsq.problem.tolerances import batch_options
from jaxlsq.problem.types import BoundsLike, PyTree
from jaxlsq.results.solution import LeastSquaresResult
from jaxlsq.tracing.forked import check_not_forked
from jaxlsq.tracing.settings import own_settings
from jaxlsq.tracing.varying import alike, axes_of
from jaxlsq.transforms.functions import Call, Functions
from jaxlsq.transforms.grad import HESSIANS, POLICIES, Rule
from jaxlsq.transforms.program import Begin, Form, solved

__all__ = ["least_squares"]


def least_squares(
    fun: Callable[..., Any],
    x0: PyTree,
    jac: str | Callable[..., Any] = "jacfwd",
    bounds: BoundsLike | None = None,
    ftol: float | None = None,
    xtol: float | None = None,
    gtol: float | None = 0.0,
    x_scale: ArrayLike | None = None,
    loss: str | Callable[..., Any] = "linear",
    f_scale: Any = 1.0,
    max_nfev: int | None = None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    hessian: str = "full",
    on_singular: str = "zero",
    return_history: int = 0,
) -> LeastSquaresResult:
    r"""Minimize half a sum of squares, inside any JAX program.

    .. math:: \min_x \tfrac12 \lVert f(x) \rVert^2

    Parameters
    ----------
    fun : callable
        ``fun(x, *args, **kwargs) -> (m,)``, in jax.numpy; may close over anything, traced
        values too.
    x0 : array or pytree of arrays
        Starting parameters, n numbers in all.  What is narrower than float32 is computed in it,
        and rounded in the result's `x` only.
    jac : str or callable
        'jacfwd', 'jacrev', '2-point', '3-point', or ``jac(x, *args, **kwargs) -> (m, n)``;
        'cs' is 'jacfwd', which is exact.
    bounds : 2-tuple, optional
        Lower and upper bounds: each a number, an (n,) array, or a pytree as `x0`; may be
        infinite, or equal, which fixes a parameter.  Parameters that start outside are moved
        to their bound where that can't be told before the computation.
    ftol, xtol, gtol : float, optional
        Tolerances, as for `leastsq`; None for 1.5e-8 in float64 and 1e-5 in float32.
    x_scale : (n,) array_like, optional
        Typical size of each parameter; None for MINPACK's scaling.
    loss : {'linear', 'soft_l1', 'huber', 'cauchy', 'arctan'} or callable
        SciPy's: half the sum of :math:`C^2 \rho(f_i^2 / C^2)` is minimized.  A callable is
        ``rho(z) -> value, first, second`` derivative, in jax.numpy.
    f_scale : float or (m,) array
        C, from which on a residual is an outlier.
    max_nfev : int, optional
        Limit on evaluations, ``100 (n + 1)`` if not given.
    args, kwargs : tuple, dict
        Further arguments of `fun`, any pytrees.
    hessian : {'full', 'gauss-newton'}
        What derivatives of the solution are computed with.  Gauss-Newton's is cheaper, and exact
        only where the residual is zero at the solution or the Jacobian is constant.
    on_singular : {'zero', 'nan', 'pinv'}
        What the derivative of `x` is where the fit failed or the Hessian is not positive
        definite: zero, so that one bad fit does not spoil a sum; NaN; or, where the Hessian is
        singular, by its pseudoinverse (and zero where the fit failed).
    return_history : int
        Keep so many of the last accepted points, in the result's `history`; for one problem:
        under `vmap` such fits run in lockstep.

    Returns
    -------
    LeastSquaresResult

    Raises
    ------
    ValueError, TypeError
        For improper input, when it is traced.

    Notes
    -----
    `vmap` of it, nested or not, does not run in lockstep: a lane that has ended takes the next
    problem (`jaxlsq.schedule.pool`).  Inside a `jit` it follows the caller's types and
    compiler; for many data sets on the host `jaxlsq.fit` is faster.

    Derivatives of `x`, `cost`, `fun`, `jac` and `grad`, forward and reverse and of any order, are
    those of the solution, by the implicit function theorem; that by `x0` is zero.  They cost one
    solution of n equations each, and no memory for the iterations.  A parameter at a bound has
    the bound's derivative, and that by all else is zero.

    A trial is the minimum of the damped model inside the bounds (`jaxlsq.numerics.bounds`), so
    that a parameter leaves a bound as easily as it reaches it.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from jaxlsq import least_squares
    >>> t = jnp.linspace(0.0, 4.0, 50)
    >>> def rate(y):
    ...     return least_squares(lambda p: p[0] * jnp.exp(-p[1] * t) - y, jnp.ones(2)).x[1]
    >>> ys = jnp.exp(-jnp.array([0.5, 1.0, 2.0])[:, None] * t)
    >>> jax.jit(jax.vmap(rate))(ys).round(4)
    Array([0.5, 1. , 2. ], dtype=float32)
    """
    check_not_forked()
    check_known("hessian", hessian, HESSIANS)
    check_known("on_singular", on_singular, POLICIES)
    check_method("jac", jac)
    check_scale(f_scale)
    args, kwargs = _others(args, kwargs)
    limits: dict[str, Any] = {
        "ftol": ftol,
        "xtol": xtol,
        "gtol": gtol,
        "x_scale": x_scale,
        "max_nfev": max_nfev,
    }
    _check_plain(limits)
    rule = Rule(hessian, on_singular, loss_of(loss))
    with own_settings():
        leaves, layout, dtype = traced_start(x0)
        bounds = traced_bounds(bounds, layout, x0, dtype)
        scale = rule.loss and jnp.asarray(f_scale, dtype)
        options = batch_options(layout.n, np.dtype(dtype), loss=rule.loss, **limits)
    leaves = alike(leaves, axes_of((leaves, bounds, args, kwargs)))
    form = Form(layout, tuple(leaf.dtype for leaf in leaves), _length(return_history), rule)
    functions = Functions.of(fun, jac, Call(args, kwargs, layout, form.dtypes))
    return solved(form, functions, Begin(leaves, bounds, scale, options))


def _others(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Further arguments, in types that JAX has."""
    if not isinstance(args, Iterable):
        raise TypeError(f"args must be a tuple, got {args!r}; write args=({args!r},).")
    if not isinstance(kwargs, Mapping | None):
        raise TypeError(f"kwargs must be a dict of arguments by name, got {kwargs!r}.")
    given = tuple(args), dict(kwargs or {})
    if all(native(leaf) is leaf for leaf in jax.tree.leaves(given)):
        return given  # as it is: a map would put dicts in another order
    return jax.tree.map(native, given)


def _check_plain(limits: dict[str, Any]) -> None:
    for name, value in limits.items():
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
            raise TypeError(
                f"`{name}` must be plain numbers, and is traced: it belongs to the program. Give "
                "it from outside of jit, vmap and grad, or as one of jit's static_argnames."
            )


def _length(value: Any) -> int:
    """Points of the history; false stands for none."""
    try:
        length = index(value or 0)
    except TypeError:
        length = -1
    if length < 0:
        raise ValueError(f"return_history must be a number of points, 0 for none; got {value!r}.")
    return length
