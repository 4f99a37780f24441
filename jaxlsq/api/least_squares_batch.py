"""`least_squares_batch`: thousands to millions of general problems, from the host."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxlsq.batch.group import Group
from jaxlsq.batch.run import Problem
from jaxlsq.problem.checks import check_callable, check_method
from jaxlsq.problem.containers import as_array_like, no_mask
from jaxlsq.problem.functions import scale_of
from jaxlsq.problem.general import FunJacobian, FunResidual, all_points
from jaxlsq.problem.given import takes
from jaxlsq.problem.inputs import float_dtype, per_lane
from jaxlsq.problem.limits import Limits
from jaxlsq.problem.losses import check_scale, loss_of
from jaxlsq.problem.settings import Settings
from jaxlsq.problem.sources import Source
from jaxlsq.problem.starts import as_tree_start
from jaxlsq.problem.task import Task
from jaxlsq.problem.types import BoundsLike, PyTree
from jaxlsq.results.result import FitResult
from jaxlsq.tracing.concrete import check_concrete

__all__ = ["least_squares_batch"]


def least_squares_batch(
    fun: Callable[..., Any],
    x0: PyTree,
    data: PyTree,
    *,
    bounds: BoundsLike | None = None,
    fixed: Any = None,
    loss: str | Callable[..., Any] = "linear",
    f_scale: ArrayLike = 1.0,
    jac: str | Callable[..., Any] = "jacfwd",
    ftol: float | None = None,
    xtol: float | None = None,
    gtol: float | None = 0.0,
    x_scale: ArrayLike | None = None,
    max_nfev: int | None = None,
    starts: int | str | ArrayLike = 1,
    polish: str | None = "auto",
    progress: bool | Callable[..., Any] = False,
    workers: int | None = None,
    devices: Any = None,
) -> FitResult:
    r"""Solve many least-squares problems with one residual function.

    .. math:: \min_{x_i} \tfrac12 \lVert f(x_i, d_i) \rVert^2 \quad \text{for every problem } i

    Parameters
    ----------
    fun : callable
        ``fun(params, data_of_one) -> (m,)`` residuals, in jax.numpy or NumPy; what JAX can't
        trace is called from Python.
    x0 : (n,) or (B, n) array, or pytree
        Starting parameters.  In a pytree, leaves are per problem if all of them have B in
        front.
    data : pytree of (B, ...) arrays
        Read in blocks, as `fit` does; float32 if all its floats are.
    bounds, fixed
        As for `fit`; also pytrees like `x0`.
    loss, f_scale
        As for `fit`, but for 'poisson'; `f_scale` is a number, (m,), or (B, 1) or (B, m).
    jac : str or callable
        As for `fit`, or ``jac(params, data_of_one) -> (m, n)``.
    ftol, xtol, gtol, x_scale, max_nfev, starts, polish, progress, workers,
    devices
        As for `fit`.

    Returns
    -------
    FitResult
        With the batch shape (B,), and parameters as `x0` was given.

    Raises
    ------
    ValueError, TypeError
        For improper input, before anything is compiled.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxlsq import least_squares_batch
    >>> targets = np.array([[1.0, 4.0], [9.0, 16.0]])
    >>> result = least_squares_batch(lambda x, d: x**2 - d, [1.0, 1.0], targets)
    >>> result.params.round(6)
    array([[1., 2.],
           [3., 4.]])
    """
    robust = loss_of(loss)
    check_scale(f_scale)
    check_callable("fun", fun)
    check_method("jac", jac)
    check_concrete("least_squares_batch", (x0, data))
    settings = Settings.of(
        ftol=ftol,
        xtol=xtol,
        gtol=gtol,
        x_scale=x_scale,
        max_nfev=max_nfev,
        starts=starts,
        polish=polish,
        progress=progress,
        workers=workers,
        devices=devices,
    )
    leaves, structure = jax.tree.flatten(data)
    leaves = [no_mask(as_array_like(leaf, "data"), "data") for leaf in leaves]
    batch = (_batch_size(leaves),)
    dtype = float_dtype(leaves, () if _any_float(leaves) else _arrays(x0))
    lanes, join = per_lane(leaves, structure, batch, dtype)
    start = as_tree_start(x0, batch, partial(takes, fun, join, lanes, dtype))
    task = Task(
        layout=start.layout,
        residual=FunResidual(fun, join),
        jac=FunJacobian(jac, join) if callable(jac) else jac,
        check=all_points,
        loss=robust,
        extra=robust and scale_of,
    )
    shared = {}
    if robust and np.ndim(f_scale) == 2:
        lanes["f_scale"] = Source(np.asarray(f_scale), batch, dtype)
    elif robust:
        shared["f_scale"] = np.asarray(f_scale, dtype)
    group = Group(task, lanes, shared, batch[0], dtype)
    return Problem(
        groups=((np.arange(batch[0]), group),),
        batch=batch,
        start=start,
        layout=start.layout,
        names=start.layout.names,
        read_start=as_tree_start,
        settings=settings,
        limits=Limits.of(bounds, fixed, start, start.layout.names, batch),
    ).solve()


def _batch_size(leaves: list[Any]) -> int:
    sizes = {leaf.shape[0] if leaf.shape else None for leaf in leaves}
    size = sizes.pop() if len(sizes) == 1 else None
    if size is None:
        shapes = [tuple(leaf.shape) for leaf in leaves]
        more = f" and {len(shapes) - 4} more" if len(shapes) > 4 else ""
        hint = "" if any(shapes) else " Make arrays of lists of numbers: np.array(data)."
        raise ValueError(
            "every array of data must have the problems along its first axis; got shapes "
            f"{shapes[:4]}{more}.{hint}"
        )
    return size


def _any_float(leaves: list[Any]):
    return any(np.dtype(leaf.dtype).kind not in "iub" for leaf in leaves)


def _arrays(x0: PyTree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(x0)]
