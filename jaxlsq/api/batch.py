"""`fit` and `least_squares_batch`: thousands to millions of problems from the host."""

from functools import partial

import jax
import numpy as np

from jaxlsq.batch.group import Group
from jaxlsq.batch.run import Problem
from jaxlsq.numerics.loss import POISSON
from jaxlsq.problem.checks import check_method
from jaxlsq.problem.containers import as_array_like, no_mask
from jaxlsq.problem.data import Pieces, check_counts, guessed_start
from jaxlsq.problem.dims import Dims
from jaxlsq.problem.functions import FunJacobian, FunResidual, Predict, all_points, scale_of
from jaxlsq.problem.given import parts_of, start_again, takes, trial_values, ydata_of
from jaxlsq.problem.inputs import float_dtype, per_lane
from jaxlsq.problem.limits import Limits
from jaxlsq.problem.losses import check_no_sigma, check_scale, loss_of
from jaxlsq.problem.names import check_count, check_order, names_of
from jaxlsq.problem.settings import Settings
from jaxlsq.problem.sources import Source, check_open
from jaxlsq.problem.starts import as_start, as_tree_start
from jaxlsq.problem.task import Task
from jaxlsq.tracing.concrete import check_concrete

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
    expand=None,
    loss="linear",
    f_scale=1.0,
    jac="jacfwd",
    ftol=None,
    xtol=None,
    gtol=0.0,
    x_scale=None,
    max_nfev=None,
    starts=1,
    polish="auto",
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
        Standard deviations of the data; broadcasts to `ydata`.  Or their covariance, (m, m) or
        (..., m, m); where (m, m) is also the shape of `ydata`, a shared one is (1, m, m).
    absolute_sigma : bool
        Whether `sigma` is in the units of the data; if not, `FitResult.cov` is scaled so that
        the reduced chi-squared is one.  Counts need neither: their variance is their mean.
    mask : bool array_like, optional
        True for points that count; broadcasts to `ydata`.
    nan_policy : {'propagate', 'omit', 'raise'}
        What a NaN in `ydata` does: end its fit with NONFINITE_DATA; count as masked; raise.
    bounds : 2-tuple or dict, optional
        ``(lower, upper)``, each a number, (n,) or (..., n); or, by name, ``{name: (lower,
        upper)}`` with numbers or (...) arrays for some of the parameters.  May be infinite,
        or equal, which fixes a parameter.
    fixed : bool array_like, names, or dict, optional
        Parameters that stay at `p0`: (n,) or (..., n); the names of some; or ``{name: bool or
        (...) array}``.
    expand : callable, optional
        ``expand(free) -> params``, in jax.numpy: the model's parameters, of which some are tied
        or derived, from those that are fitted, which `p0` (and all else here) then is of.
    loss : str or callable
        'linear', or SciPy's 'soft_l1', 'huber', 'cauchy', 'arctan', or ``rho(z) -> value,
        first, second``: half the sum of :math:`C^2 \rho(r^2 / C^2)` over the residuals r above is
        minimized.  'poisson': `ydata` are counts, and the model's parameters are those of the
        greatest likelihood, which minimize half the deviance :math:`2 \sum f - y + y \ln (y /
        f)`; where the model is not positive a step is rejected.
    f_scale : float or array_like
        C, from which on a residual is an outlier; broadcasts to `ydata`.
    jac : str or callable
        'jacfwd', 'jacrev', '2-point', '3-point', or ``jac(x, *params) -> (m, n)`` of the model;
        'cs' is 'jacfwd', which is exact.
    ftol, xtol, gtol : float, optional
        Tolerances, as for `leastsq`; None for 1.5e-8 in float64 and 1e-5 in float32.
    x_scale : (n,) array_like, optional
        Typical size of each parameter; None for MINPACK's scaling.
    max_nfev : int, optional
        Limit on evaluations of each fit, ``100 (n + 1)`` if not given.
    starts : int or array
        How many starts each fit has, `p0` and others around it; or further starts, (k, n) or
        (..., k, n).  The best is returned.
    polish : {'auto', 'float64', None}
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

    Notes
    -----
    float32 data are computed in float32, all others in float64, whatever JAX's settings.
    Ctrl-C raises `jaxlsq.Interrupted`, a KeyboardInterrupt, within half a second; its `result`
    has what is done, and the status INTERRUPTED for the rest.

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
    check_concrete("fit", (xdata, ydata, () if callable(p0) else p0, sigma, mask))
    loss = loss_of(loss, counts=True)
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
    check_method("jac", jac)
    _check_weights(loss, sigma, absolute_sigma, f_scale)
    check_open(ydata, "ydata")
    dims = Dims.of(ydata)
    sigma, mask, f_scale = (
        dims.like_ydata(value, name)
        for value, name in ((sigma, "sigma"), (mask, "mask"), (f_scale, "f_scale"))
    )
    p0 = p0 if callable(p0) else dims.of_parameters(p0, "p0")
    bounds, fixed = dims.of_bounds(bounds), dims.of_parameters(fixed, "fixed")
    lists = isinstance(ydata, (list, tuple))
    ydata, batch = ydata_of(ydata)
    start = None if callable(p0) else as_start(p0, batch)
    trial = partial(trial_values, model, expand, start or p0)
    parts, policy = parts_of(dims.of_x(xdata), (ydata, lists), (sigma, mask), nan_policy, trial)
    if loss is POISSON:
        check_counts(parts)
    scale = f_scale if loss and loss is not POISSON else None
    ragged = isinstance(ydata, list)
    pieces = []
    for index, x, y, s, live in parts:
        shape = (len(index),) if ragged else batch
        points = {"sigma": s, "mask": live, "f_scale": scale}
        pieces.append((index, Pieces.of(x, y, points, shape, policy)))
    if start is None:
        start = guessed_start(p0, pieces[0][1], policy)
    predict = _predict(model, expand, start.layout, jac)
    given = predict.by_name or expand is not None
    names = None if given else names_of(model, start.layout.n)
    names = names or start.layout.names
    return Problem(
        groups=tuple(
            (index, Group.of(piece, piece.task(predict, policy, jac, start.layout, loss)))
            for index, piece in pieces
        ),
        batch=batch,
        start=start,
        layout=start.layout,
        names=names,
        read_start=partial(start_again, start.layout, pieces[0][1], policy),
        settings=settings,
        absolute_sigma=absolute_sigma or loss is POISSON,
        lengths=np.array([len(y) for y in ydata]) if ragged else None,
        model=predict,
        places=pieces[0][1].x,
        limits=Limits.of(
            dims.of_bounds(bounds), dims.of_parameters(fixed, "fixed"), start, names, batch
        ),
    ).solve()


def least_squares_batch(
    fun,
    x0,
    data,
    *,
    bounds=None,
    fixed=None,
    loss="linear",
    f_scale=1.0,
    jac="jacfwd",
    ftol=None,
    xtol=None,
    gtol=0.0,
    x_scale=None,
    max_nfev=None,
    starts=1,
    polish="auto",
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
    bounds, fixed
        As for `fit`; also pytrees like `x0`.
    loss, f_scale
        As for `fit`, but for 'poisson'; `f_scale` is a number, (m,), or (B, 1) or (B, m).
    jac : str or callable
        As for `fit`, or ``jac(params, data_of_one) -> (m, n)``.
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
    loss = loss_of(loss)
    _check_weights(loss, None, False, f_scale)
    _check_callable("fun", fun)
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
    )
    leaves, structure = jax.tree.flatten(data)
    leaves = [no_mask(as_array_like(leaf, "data"), "data") for leaf in leaves]
    sizes = {leaf.shape[0] if leaf.shape else None for leaf in leaves}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(
            "every array of data must have the problems along its first axis; got shapes "
            f"{[tuple(leaf.shape) for leaf in leaves]}."
        )
    batch = (sizes.pop(),)
    dtype = float_dtype(leaves, () if _any_float(leaves) else _arrays(x0))
    lanes, join = per_lane(leaves, structure, batch, dtype)
    start = as_tree_start(x0, batch, partial(takes, fun, join, lanes, dtype))
    task = Task(
        layout=start.layout,
        residual=FunResidual(fun, join),
        jac=FunJacobian(jac, join) if callable(jac) else jac,
        check=all_points,
        loss=loss,
        extra=loss and scale_of,
    )
    shared = {}
    if loss:
        each = np.ndim(f_scale) == 2
        scale = Source(np.asarray(f_scale), batch, dtype) if each else np.asarray(f_scale, dtype)
        (lanes if each else shared)["f_scale"] = scale
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


# --- settings -----------------------------------------------------------------


def _check_weights(loss, sigma, absolute_sigma, f_scale):
    """What is said about the errors of the data, as a whole."""
    check_scale(f_scale)
    if loss is POISSON:
        check_no_sigma(sigma)
    if absolute_sigma and sigma is None and loss is not POISSON:
        raise ValueError(
            "absolute_sigma=True says that sigma is in the units of the data; pass sigma too."
        )


def _any_float(leaves):
    return any(np.dtype(leaf.dtype).kind not in "iub" for leaf in leaves)


def _arrays(x0):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(x0)]


def _predict(model, expand, layout, jac):
    """The model as a function of the parameters that are fitted."""
    if expand is None:
        check_order(layout.keys, model, jac)
        check_count(model, layout.n, layout.keys)
        return Predict(model, bool(layout.keys))
    _check_callable("expand", expand)
    if callable(jac):
        raise ValueError("jac is of the model's parameters and does not go with expand; leave it.")
    expanded = jax.eval_shape(expand, layout.unpack(np.zeros(layout.n)))
    return Predict(model, isinstance(expanded, dict), expand)


def _check_callable(name, function):
    if not callable(function):
        raise TypeError(f"{name} must be callable, got {type(function).__name__}.")
