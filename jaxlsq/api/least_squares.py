"""`least_squares`: one problem in pure JAX, whose `vmap` is the lane pool."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from operator import index

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.numerics.bounds import blocked
from jaxlsq.numerics.jacobian import EVALUATIONS, linearized
from jaxlsq.numerics.loss import sum_of, weighted
from jaxlsq.problem.checks import check_method
from jaxlsq.problem.constraints import check_box, check_scale, inward, loss_of, pair
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.starts import traced_start, wide_enough
from jaxlsq.problem.tolerances import batch_options
from jaxlsq.results.solution import LeastSquaresResult
from jaxlsq.status import Status
from jaxlsq.tracing.fast import convolves, with_fast_convolutions
from jaxlsq.tracing.forked import check_not_forked
from jaxlsq.tracing.settings import own_settings
from jaxlsq.tracing.trace import trace, with_fixed_literals
from jaxlsq.tracing.unstack import unstacked
from jaxlsq.transforms.grad import HESSIANS, POLICIES, Rule, with_derivatives
from jaxlsq.transforms.history import remembering
from jaxlsq.transforms.vmap import solver

__all__ = ["least_squares"]


def least_squares(
    fun,
    x0,
    jac="jacfwd",
    bounds=None,
    ftol=None,
    xtol=None,
    gtol=0.0,
    x_scale=None,
    loss="linear",
    f_scale=1.0,
    max_nfev=None,
    args=(),
    kwargs=None,
    *,
    hessian="full",
    on_singular="zero",
    return_history=0,
):
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
    ftol, xtol, gtol : float, optional
        Tolerances, as for `leastsq`; None for 1.5e-8 in float64 and 1e-5 in float32.
    x_scale : (n,) array_like, optional
        Typical size of each parameter; None for MINPACK's scaling.
    max_nfev : int, optional
        Limit on evaluations, ``100 (n + 1)`` if not given.
    bounds : 2-tuple, optional
        Lower and upper bounds: each a number, an (n,) array, or a pytree as `x0`; may be
        infinite, or equal, which fixes a parameter.  Parameters that start outside are moved
        to their bound where that can't be told before the computation.
    loss : {'linear', 'soft_l1', 'huber', 'cauchy', 'arctan'} or callable
        SciPy's: half the sum of :math:`C^2 \rho(f_i^2 / C^2)` is minimized.  A callable is
        ``rho(z) -> value, first, second`` derivative, in jax.numpy.
    f_scale : float or (m,) array
        C, from which on a residual is an outlier.
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
    for name, value, known in (
        ("hessian", hessian, HESSIANS),
        ("on_singular", on_singular, POLICIES),
    ):
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}.")
    check_method("jac", jac)
    check_scale(f_scale)
    limits = {"ftol": ftol, "xtol": xtol, "gtol": gtol, "x_scale": x_scale, "max_nfev": max_nfev}
    _check_plain(limits)
    length = _length(return_history) if return_history else 0
    with own_settings():
        arrays = jax.tree.map(jnp.asarray, x0)
        layout, start = traced_start(arrays)
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(arrays)]
        bounds = _as_bounds(bounds, layout, x0, start.dtype)
        rule = Rule(hessian, on_singular, loss_of(loss))
        scale = rule.loss and jnp.asarray(f_scale, start.dtype)
    inside = None if callable(jac) or not EVALUATIONS[jac] else bounds
    call = _Call(args, kwargs or {}, layout, dtypes)
    residual = unstacked(partial(call.residual, fun))
    jac = unstacked(partial(call.jacobian, jac)) if callable(jac) else jac
    task = _Task(residual, jac, layout, dtypes, rule.loss, scale, inside)
    traced = _traced(task, start)
    if convolves(traced.jaxpr):
        task = replace(task, residual=with_fast_convolutions(residual))
        traced = _traced(task, start)
    with own_settings():
        return _solved(task, traced, (start, bounds), rule, limits, length)


def _check_plain(limits):
    for name, value in limits.items():
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
            raise TypeError(
                f"`{name}` must be plain numbers, and is traced: it belongs to the program. Give "
                "it from outside of jit, vmap and grad, or as one of jit's static_argnames."
            )


def _solved(task, traced, begin, rule, limits, length):
    """The result of a traced task, from a start and its bounds."""
    start, bounds = begin
    n, m = start.shape[0], traced.outputs[0].shape[0]
    if m < n and bounds is None:  # with bounds some may be fixed
        raise ValueError(
            f"fun returns {m} residuals, fewer than the {n} parameters; at least as many are "
            "needed."
        )
    options = batch_options(n, np.dtype(start.dtype), loss=rule.loss, **limits)
    evaluations = 0 if callable(task.jac) else n * EVALUATIONS[task.jac]
    if length:
        solve = remembering(_without_data(traced), evaluations, length)
    else:
        solve = solver(_without_data(traced), evaluations)
    solve = partial(solve, options=options)
    if bounds is not None:
        start = jnp.clip(start, *bounds)
    x, counts = with_derivatives(solve, task.with_scale, (start, bounds), traced.flat_data, rule)
    return _result(task, x, bounds, counts)


def _as_bounds(bounds, layout, x0, dtype):
    """Lower and upper bounds as vectors, or None without any."""
    if bounds is None:
        return None
    sides = [_side(side, layout) for side in pair(bounds)]
    traced = [any(isinstance(v, jax.core.Tracer) for v in jax.tree.leaves(s)) for s in sides]
    if not any(traced):
        lower, upper = sides
        if np.all(lower == -np.inf) and np.all(upper == np.inf):
            return None
        leaves = jax.tree.leaves(x0)
        known = not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        start = np.concatenate([np.ravel(leaf) for leaf in leaves]) if known else None
        check_box(lower, upper, start)
        sides = inward(lower, upper, dtype)
    return tuple(jnp.asarray(side).astype(dtype) for side in sides)


def _side(side, layout):
    """One side's bounds as a vector of n, of NumPy unless it is traced."""
    leaves = jax.tree.leaves(side)
    xp = jnp if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves) else np
    if len(leaves) == 1 and np.shape(leaves[0]) in ((), (layout.n,)):
        return xp.broadcast_to(xp.asarray(leaves[0]) * 1.0, (layout.n,))
    if isinstance(side, (list, tuple)) and len(side) == layout.n == len(leaves):
        return xp.stack([xp.asarray(leaf) * 1.0 for leaf in leaves])
    try:
        return layout.pack(side, (), xp) * 1.0
    except ValueError as error:
        raise ValueError(
            "Inconsistent shapes between bounds and `x0`: each side must be a number, "
            f"{layout.n} of them, or a pytree as x0; got {side!r}."
        ) from error


def _length(value):
    try:
        length = index(value)
    except TypeError:
        length = -1
    if length < 1:
        raise ValueError(f"return_history must be a number of points, 0 for none; got {value!r}.")
    return length


@dataclass(frozen=True)
class _Call:
    """How the user's functions are called: with parameters as `x0` was given, and what follows."""

    args: tuple
    kwargs: dict
    layout: Layout
    dtypes: list

    def _of(self, function, xs):
        """Its value at n scalars; no parameter is narrower than float32."""
        params = _typed(self.layout.from_scalars(xs), map(wide_enough, self.dtypes))
        return jnp.asarray(function(params, *self.args, **self.kwargs))

    def residual(self, fun, *xs):
        """A residual (m,); a complex one is its real parts, then its imaginary parts."""
        f = self._of(fun, xs)
        if f.ndim != 1:
            raise ValueError(
                f"fun must return a 1-D array of residuals, got shape {f.shape}. Flatten it with "
                ".ravel()."
            )
        if jnp.iscomplexobj(f):
            f = jnp.concatenate([f.real, f.imag])
        return f.astype(xs[0].dtype)

    def jacobian(self, jac, *xs):
        """A Jacobian (m, n)."""
        return self._of(jac, xs).astype(xs[0].dtype)


@dataclass(frozen=True)
class _Task:
    """What is solved, as functions of n scalars.

    Attributes
    ----------
    residual : callable
        ``residual(*xs) -> (m,)``; it has traced the user's function once.
    jac : str or callable
        A method of `jaxlsq.numerics.jacobian`, or ``jac(*xs) -> (m, n)``.
    layout : Layout
    dtypes : list
        Of the leaves of `x0`.
    loss, scale
        Of `jaxlsq.numerics.loss`, and what it needs; None for squares.
    bounds : tuple or None
        That finite differences stay in.
    """

    residual: Callable
    jac: object
    layout: Layout
    dtypes: list
    loss: object
    scale: object
    bounds: tuple | None = None

    def unpacked(self, x):
        """(..., n) parameters as the caller wrote them."""
        return _typed(self.layout.unpack(x), self.dtypes)

    def with_scale(self, *xs):
        """Residuals, and with a loss its scale."""
        f = self.residual(*xs)
        return (f,) if self.loss is None else (f, self.scale)

    def lane(self, *xs):
        """What the pool evaluates, as `jaxlsq.schedule.equations.Lane.of_outputs` reads it."""
        f, columns = self.linear(*xs)
        rows, columns = weighted(self.loss, f, columns, self.scale)
        plain = () if self.loss is None else (f, self.loss(f, self.scale)[1])
        return (*rows, *columns, *plain)

    def linear(self, *xs):
        """Residual and columns."""
        if not callable(self.jac):
            return linearized(self.residual, self.jac, 0.0, self.bounds)(xs)
        rows, f = self.jac(*xs), self.residual(*xs)
        if rows.shape != (f.shape[0], self.layout.n):
            raise ValueError(
                f"jac must return shape {(f.shape[0], self.layout.n)}, got {rows.shape}."
            )
        return f, tuple(rows[:, j] for j in range(self.layout.n))


def _typed(params, dtypes):
    """Parameters in their own types, and those that were integers as they are."""
    leaves, tree = jax.tree.flatten(params)
    leaves = [
        leaf.astype(dtype) if jnp.issubdtype(dtype, jnp.floating) else leaf
        for leaf, dtype in zip(leaves, dtypes, strict=True)
    ]
    return jax.tree.unflatten(tree, leaves)


def _traced(task, start):
    scalars = [jax.ShapeDtypeStruct((), start.dtype)] * task.layout.n
    return with_fixed_literals(trace(task.lane, *scalars))


def _without_data(traced):
    """The same without the arrays, which may be tracers: derivative rules outlive a trace."""
    return replace(traced, arrays=())


def _result(task, x, bounds, counts):
    """Residual and Jacobian at the solution, outside of the solver: derivatives see them."""
    n = task.layout.n
    f, columns = task.linear(*(x[j] for j in range(n)))
    rows, columns = weighted(task.loss and task.loss.exact, f, columns, task.scale)
    jac = jnp.stack(columns, axis=1)
    grad = jnp.matmul(jac.T, rows[0], precision="highest")
    active, held, free = jnp.zeros(n, jnp.int32), jnp.zeros(n, bool), jnp.int32(n)
    if bounds is not None:
        lower, upper = bounds
        active = jnp.where(x <= lower, -1, jnp.where(x >= upper, 1, 0)).astype(jnp.int32)
        held, free = blocked(x, grad, bounds), jnp.sum(lower < upper, dtype=jnp.int32)
    history = counts.pop("history", None)
    # Without a weak type, with which the next step of a loop would compile anew.
    counts = {name: count.astype(jnp.int32) for name, count in counts.items()}
    cost, status = 0.5 * sum_of(rows), counts["status"]
    success = (status >= Status.FTOL) & (status <= Status.GTOL)
    status = jnp.where(success & ~jnp.isfinite(cost), jnp.int32(Status.NONFINITE_COST), status)
    if history is not None:
        history = replace(history, x=task.unpacked(history.x))
    return LeastSquaresResult(
        x=task.unpacked(x),
        cost=cost,
        fun=f,
        jac=jac,
        grad=grad,
        optimality=jnp.max(jnp.where(held, 0.0, jnp.abs(grad))),
        active_mask=active,
        dof=f.shape[0] - free,
        nfev=counts["nfev"],
        njev=counts["njev"],
        status=status,
        success=success & jnp.isfinite(cost),
        history=history,
    )
