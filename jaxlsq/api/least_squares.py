"""`least_squares`: one problem in pure JAX, whose `vmap` is the lane pool."""

from dataclasses import dataclass, replace
from functools import partial
from operator import index

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.batch.inputs import batch_options
from jaxlsq.history import remembering
from jaxlsq.implicit import HESSIANS, POLICIES, Rule, with_derivatives
from jaxlsq.lanes import solver
from jaxlsq.numerics.jacobian import EVALUATIONS, METHODS, linearized
from jaxlsq.params import Layout
from jaxlsq.results.solution import LeastSquaresResult
from jaxlsq.status import Status
from jaxlsq.tracing import trace
from jaxlsq.unstacked import unstacked

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
        Starting parameters, n numbers in all.
    jac : str or callable
        'jacfwd', 'jacrev', '2-point', '3-point', or ``jac(x, *args, **kwargs) -> (m, n)``.
    ftol, xtol, gtol : float, optional
        Tolerances, as for `leastsq`; None for 1.5e-8 in float64 and 1e-5 in float32.
    x_scale : (n,) array_like, optional
        Typical size of each parameter; None for MINPACK's scaling.
    max_nfev : int, optional
        Limit on evaluations, ``100 (n + 1)`` if not given.
    bounds, loss, f_scale
        Not yet: only their defaults.
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
    NotImplementedError
        For `bounds` and `loss`.

    Notes
    -----
    `vmap` of it, nested or not, does not run in lockstep: a lane that has ended takes the next
    problem (`jaxlsq.schedule.pool`).  Inside a `jit` it follows the caller's types and
    compiler; for many data sets on the host `jaxlsq.fit` is faster.

    Derivatives of `x`, `cost`, `fun`, `jac` and `grad`, forward and reverse and of any order, are
    those of the solution, by the implicit function theorem; that by `x0` is zero.  They cost one
    solution of n equations each, and no memory for the iterations.

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
    for name, missing in (
        ("bounds", bounds is not None),
        ("loss", loss != "linear"),
        ("f_scale", f_scale != 1.0),
    ):
        if missing:
            raise NotImplementedError(f"{name} is not available yet; leave it out.")
    for name, value, known in (
        ("hessian", hessian, HESSIANS),
        ("on_singular", on_singular, POLICIES),
    ):
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}.")
    x0 = jax.tree.map(jnp.asarray, x0)
    layout, start, dtype = _flat_start(x0)
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(x0)]
    task = _Task(fun, jac, layout, args, kwargs or {}, dtypes)
    traced = _traced(task, start)
    m = traced.outputs[0].shape[0]
    if m < layout.n:
        raise ValueError(
            f"fun returns {m} residuals, fewer than the {layout.n} parameters; at least as many "
            "are needed."
        )
    limits = {"ftol": ftol, "xtol": xtol, "gtol": gtol, "x_scale": x_scale, "max_nfev": max_nfev}
    options = batch_options(layout.n, np.dtype(dtype), **limits)
    evaluations = 0 if callable(jac) else layout.n * EVALUATIONS[jac]
    if return_history:
        solve = remembering(traced, evaluations, _length(return_history))
    else:
        solve = solver(traced, evaluations)
    solve = partial(solve, options=options)
    rule = Rule(hessian, on_singular)
    x, counts = with_derivatives(solve, task.of_scalars, start, traced.arrays, rule)
    return _result(task, x, counts)


def _length(value):
    try:
        length = index(value)
    except TypeError:
        length = -1
    if length < 1:
        raise ValueError(f"return_history must be a number of points, 0 for none; got {value!r}.")
    return length


def _flat_start(x0):
    """The layout of x0, its vector, and the type of the computation."""
    leaves = jax.tree.leaves(x0)
    if not leaves or any(leaf.size == 0 for leaf in leaves):
        raise TypeError("x0 is empty; expected at least one starting parameter.")
    for leaf in leaves:
        if leaf.dtype.kind not in "fiub" and not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"x0 must be real, got dtype {leaf.dtype}. For complex parameters, pass their real "
                "and imaginary parts as separate ones."
            )
    dtype = jnp.result_type(float, *leaves) if _all_integers(leaves) else jnp.result_type(*leaves)
    vector = jnp.concatenate([leaf.reshape(-1).astype(dtype) for leaf in leaves])
    return Layout.of(x0), vector, dtype


def _all_integers(leaves):
    return not any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)


@dataclass(frozen=True)
class _Task:
    """The user's functions, as functions of scalars or of one vector."""

    fun: object
    jac: object
    layout: Layout
    args: tuple
    kwargs: dict
    dtypes: list

    def unpacked(self, x):
        """(..., n) parameters as the caller wrote them."""
        return self._typed(self.layout.unpack(x))

    def _params(self, xs):
        return self._typed(self.layout.from_scalars(xs))

    def _typed(self, params):
        leaves, tree = jax.tree.flatten(params)
        floats = [jnp.issubdtype(dtype, jnp.floating) for dtype in self.dtypes]
        leaves = [
            leaf.astype(dtype) if is_float else leaf
            for leaf, dtype, is_float in zip(leaves, self.dtypes, floats, strict=True)
        ]
        return jax.tree.unflatten(tree, leaves)

    def of_scalars(self, *xs):
        """Residuals of n scalars."""
        return unstacked(self._residual)(*xs)

    def _residual(self, *xs):
        """A complex residual is its real parts, then its imaginary parts."""
        f = jnp.asarray(self.fun(self._params(xs), *self.args, **self.kwargs))
        if f.ndim != 1:
            raise ValueError(
                f"fun must return a 1-D array of residuals, got shape {f.shape}. Flatten it with "
                ".ravel()."
            )
        if jnp.iscomplexobj(f):
            f = jnp.concatenate([f.real, f.imag])
        return f.astype(xs[0].dtype)

    def lane(self, *xs):
        """What the pool evaluates: residual and columns."""
        if not callable(self.jac):
            if self.jac not in METHODS:
                raise ValueError(
                    f"jac must be callable or one of {sorted(METHODS)}, got {self.jac!r}."
                )
            f, columns = linearized(self.of_scalars, self.jac, 0.0)(xs)
            return (f, *columns)
        rows = jnp.asarray(self.jac(self._params(xs), *self.args, **self.kwargs))
        f = self.of_scalars(*xs)
        if rows.shape != (f.shape[0], self.layout.n):
            raise ValueError(
                f"jac must return shape {(f.shape[0], self.layout.n)}, got {rows.shape}."
            )
        return (f, *(rows[:, j].astype(f.dtype) for j in range(self.layout.n)))


def _traced(task, start):
    scalars = [jax.ShapeDtypeStruct((), start.dtype)] * task.layout.n
    return trace(task.lane, *scalars, hoist_literals=False)


def _result(task, x, counts):
    """Residual and Jacobian at the solution, outside of the solver: derivatives see them."""
    f, *columns = task.lane(*(x[j] for j in range(task.layout.n)))
    jac = jnp.stack(columns, axis=1)
    grad = jac.T @ f
    status, history = counts["status"], counts.get("history")
    if history is not None:
        history = replace(history, x=task.unpacked(history.x))
    return LeastSquaresResult(
        x=task.unpacked(x),
        cost=0.5 * jnp.sum(f * f),
        fun=f,
        jac=jac,
        grad=grad,
        optimality=jnp.max(jnp.abs(grad)),
        active_mask=jnp.zeros(task.layout.n, jnp.int32),
        nfev=counts["nfev"],
        njev=counts["njev"],
        status=status,
        success=(status >= Status.FTOL) & (status <= Status.GTOL),
        history=history,
    )
