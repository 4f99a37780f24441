"""`fit` and `least_squares_batch`: thousands to millions of problems from the host."""

import inspect

import jax
import numpy as np

from jaxlsq.batch.data import Pieces, check_nan, ragged_parts, stacked, start_of
from jaxlsq.batch.functions import FunJacobian, FunResidual, Policy, Predict, all_points
from jaxlsq.batch.group import Group
from jaxlsq.batch.inputs import (
    as_array_like,
    as_tree_start,
    float_dtype,
    is_ragged,
    per_lane,
)
from jaxlsq.batch.problem import Problem, Settings
from jaxlsq.batch.program import Task
from jaxlsq.numerics.jacobian import METHODS

__all__ = ["fit", "least_squares_batch"]

NAN_POLICIES = ("propagate", "omit", "raise")


def fit(
    model,
    xdata,
    ydata,
    p0,
    *,
    sigma=None,
    absolute_sigma=False,
    mask=None,
    nan_policy="propagate",
    bounds=None,
    fixed=None,
    loss="linear",
    jac="jacfwd",
    ftol=None,
    xtol=None,
    gtol=0.0,
    x_scale=None,
    max_nfev=None,
    starts=1,
    polish=None,
    progress=False,
):
    r"""Fit one model to many data sets.

    .. math:: \min_{p_i} \tfrac12 \sum_j \left(\frac{f(x_j, p_i) - y_{ij}}{\sigma_{ij}}\right)^2
              \quad \text{for every data set } i

    Parameters
    ----------
    model : callable
        ``model(x, *params) -> (m,)``, or ``model(x, **params)`` where `p0` is a dict; for one
        data set, written in jax.numpy.
    xdata : (m,), (d, m) or (..., m) array, or pytree of those
        Passed to the model.  An array whose shape begins with the batch's shape (and goes on)
        is per data set, and so is a list of arrays where `ydata` is one; anything else is
        shared.  To share one that looks as if it were per data set, put axes of length one
        in front for the batch's.
    ydata : (..., m) array, or list of 1-D arrays
        The data, with any batch shape in front.  Anything with `shape`, `dtype` and slicing
        is read in blocks: NumPy, JAX, memmap, HDF5, zarr.  A list of arrays of different
        lengths is fitted in groups of similar length: model and guess see x and y with their
        last values repeated, up to a third more points, which do not count.
    p0 : (n,) or (..., n) array, dict of numbers or (...) arrays, or callable
        Starting parameters, shared or per data set.  A callable is ``guess(x, y)`` of one
        data set, in jax.numpy, and returns an (n,) array or a dict of numbers.
    sigma : array_like, optional
        Standard deviations of the data; broadcasts to `ydata`.
    absolute_sigma : bool
        Whether `sigma` is in the units of the data; if not, `FitResult.cov` is scaled so that
        the reduced chi-squared is one.
    mask : bool array_like, optional
        True for points that count; broadcasts to `ydata`.
    nan_policy : {'propagate', 'omit', 'raise'}
        What a NaN in `ydata` does: end its fit with NONFINITE_DATA; count as masked; raise.
    bounds, fixed, loss
        Not yet: only their defaults.
    jac : str or callable
        'jacfwd', 'jacrev', '2-point', '3-point', or ``jac(x, *params) -> (m, n)`` of the model.
    ftol, xtol, gtol : float, optional
        Tolerances, as for `leastsq`; None for 1.5e-8 in float64 and 1e-5 in float32.
    x_scale : (n,) array_like, optional
        Typical size of each parameter; None for MINPACK's scaling.
    max_nfev : int, optional
        Limit on evaluations of each fit, ``100 (n + 1)`` if not given.
    starts : int or array
        How many starts each fit has, `p0` and others around it; or further starts, (k, n) or
        (..., k, n).  The best is returned.
    polish : {None, 'float64'}
        Go on in float64 from what float32 found, where that is not exact.
    progress : bool or callable
        Show a bar, or call ``progress(done, total)``.

    Returns
    -------
    FitResult
        Arrays with the batch's shape in front.  A failed fit has its own `status`, and its
        last good parameters.

    Raises
    ------
    ValueError, TypeError
        For improper input, before anything is compiled.
    NotImplementedError
        For `bounds`, `fixed` and `loss`.

    Notes
    -----
    float32 data are computed in float32, all others in float64, whatever JAX's settings.
    Ctrl-C ends the run with what is done; the rest has the status INTERRUPTED.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxlsq import fit
    >>> t = np.linspace(0, 4, 50)
    >>> rates = np.array([0.5, 1.0, 2.0])
    >>> y = 3.0 * np.exp(-rates[:, None] * t)
    >>> result = fit(lambda t, a, b: a * jnp.exp(-b * t), t, y, p0=[1.0, 1.0])
    >>> result.params[:, 1].round(6)
    array([0.5, 1. , 2. ])
    >>> result.success
    array([ True,  True,  True])
    """
    _check_unavailable(bounds=bounds, fixed=fixed, loss=_unless_linear(loss))
    if not isinstance(nan_policy, str) or nan_policy not in NAN_POLICIES:
        raise ValueError(f"nan_policy must be one of {NAN_POLICIES}, got {nan_policy!r}.")
    settings = Settings.of(
        ftol=ftol,
        xtol=xtol,
        gtol=gtol,
        x_scale=x_scale,
        max_nfev=max_nfev,
        starts=starts,
        polish=polish,
        progress=progress,
    )
    _check_callable("model", model)
    jac = _check_jac(jac)
    ragged = is_ragged(ydata)
    if ragged:
        parts = ragged_parts(xdata, ydata, sigma, mask)
        batch = (len(ydata),)
    else:
        xdata = stacked(xdata, ydata)
        ydata = as_array_like(ydata, "ydata")
        if len(ydata.shape) == 0 or ydata.shape[-1] == 0:
            raise ValueError(
                f"ydata must have shape (..., m) with m of at least 1, got {tuple(ydata.shape)}."
            )
        batch = tuple(ydata.shape[:-1])
        parts = [(np.arange(int(np.prod(batch))), xdata, ydata, sigma, mask)]
    policy = Policy(nan_policy == "omit", mask is not None or ragged)
    if nan_policy == "raise":
        check_nan(parts)
    groups = []
    for index, x, y, s, live in parts:
        shape = (len(index),) if ragged else batch
        groups.append((index, Pieces.of(x, y, s, live, shape)))
    start, by_name = start_of(p0, batch, groups)
    predict = Predict(model, by_name)
    return Problem(
        groups=tuple(
            (index, pieces.group(predict, policy, jac, start.layout)) for index, pieces in groups
        ),
        batch=batch,
        start=start,
        layout=start.layout,
        names=start.layout.names if by_name else _names_of(model, start.layout),
        read_start=lambda p0, batch: start_of(p0, batch, groups)[0],
        settings=settings,
        absolute_sigma=absolute_sigma,
        lengths=np.array([len(y) for y in ydata]) if ragged else None,
        model=predict,
        places=groups[0][1].x,
    ).solve()


def least_squares_batch(
    fun,
    x0,
    data,
    *,
    bounds=None,
    loss="linear",
    jac="jacfwd",
    ftol=None,
    xtol=None,
    gtol=0.0,
    x_scale=None,
    max_nfev=None,
    starts=1,
    polish=None,
    progress=False,
):
    r"""Solve many least-squares problems with one residual function.

    .. math:: \min_{x_i} \tfrac12 \lVert f(x_i, d_i) \rVert^2 \quad \text{for every problem } i

    Parameters
    ----------
    fun : callable
        ``fun(params, data_of_one) -> (m,)`` residuals, in jax.numpy.
    x0 : (n,) or (B, n) array, or pytree
        Starting parameters.  In a pytree, leaves are per problem if all of them have B in
        front.
    data : pytree of (B, ...) arrays
        Read in blocks, as `fit` does; float32 if all its floats are.
    bounds, loss
        Not yet: only their defaults.
    jac : str or callable
        'jacfwd', 'jacrev', '2-point', '3-point', or ``jac(params, data_of_one) -> (m, n)``.
    ftol, xtol, gtol, x_scale, max_nfev, starts, polish, progress
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
    _check_unavailable(bounds=bounds, loss=_unless_linear(loss))
    _check_callable("fun", fun)
    jac = _check_jac(jac)
    settings = Settings.of(
        ftol=ftol,
        xtol=xtol,
        gtol=gtol,
        x_scale=x_scale,
        max_nfev=max_nfev,
        starts=starts,
        polish=polish,
        progress=progress,
    )
    leaves = [as_array_like(leaf, "data") for leaf in jax.tree.leaves(data)]
    sizes = {leaf.shape[0] if leaf.shape else None for leaf in leaves}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(
            "every array of data must have the problems along its first axis; got shapes "
            f"{[tuple(leaf.shape) for leaf in leaves]}."
        )
    batch = (sizes.pop(),)
    floats = [leaf for leaf in leaves if np.dtype(leaf.dtype).kind == "f"]
    dtype = float_dtype(*(floats or [np.asarray(leaf) for leaf in jax.tree.leaves(x0)]))
    start = as_tree_start(x0, batch)
    lanes, join = per_lane(data, batch, dtype)
    task = Task(
        layout=start.layout,
        residual=FunResidual(fun, join),
        jac=FunJacobian(jac, join) if callable(jac) else jac,
        check=all_points,
    )
    group = Group(task, lanes, {}, batch[0], dtype)
    return Problem(
        groups=((np.arange(batch[0]), group),),
        batch=batch,
        start=start,
        layout=start.layout,
        names=start.layout.names,
        read_start=as_tree_start,
        settings=settings,
    ).solve()


# --- settings -----------------------------------------------------------------


def _check_unavailable(**arguments):
    for name, value in arguments.items():
        if value is not None:
            raise NotImplementedError(f"{name} is not available yet; leave it out.")


def _unless_linear(loss):
    return None if isinstance(loss, str) and loss == "linear" else loss


def _check_callable(name, function):
    if not callable(function):
        raise TypeError(f"{name} must be callable, got {type(function).__name__}.")


def _check_jac(jac):
    if not callable(jac) and not (isinstance(jac, str) and jac in METHODS):
        raise ValueError(f"jac must be callable or one of {sorted(METHODS)}, got {jac!r}.")
    return jac


def _names_of(model, layout):
    """The model's names of its parameters, where it has as many."""
    try:
        names = tuple(inspect.signature(model).parameters)[1:]
    except (TypeError, ValueError):  # some callables have no signature
        names = ()
    return names if len(names) == layout.n else layout.names
