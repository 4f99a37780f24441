"""`fit`: one model and thousands to millions of data sets, from the host."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from jaxlsq.batch.portions import check_out, solved_in_portions
from jaxlsq.batch.run import Problem
from jaxlsq.problem.fit_data import FitArguments, read
from jaxlsq.problem.settings import Settings
from jaxlsq.problem.types import BoundsLike, PyTree

__all__ = ["fit"]


def fit(
    model: Callable[..., Any],
    xdata: PyTree,
    ydata: ArrayLike,
    p0: ArrayLike | Mapping[str, ArrayLike] | Callable[..., Any] | None = None,
    *,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    mask: ArrayLike | None = None,
    axis: int | str = -1,
    nan_policy: str = "propagate",
    bounds: BoundsLike | None = None,
    fixed: Any = None,
    expand: Callable[..., Any] | None = None,
    linear: Sequence[str] | str | None = None,
    shared: Sequence[str] | Mapping[str, Any] | str | None = None,
    loss: str | Callable[..., Any] = "linear",
    f_scale: ArrayLike = 1.0,
    jac: str | Callable[..., Any] = "jacfwd",
    xsigma: PyTree = None,
    x_errors: str = "odr",
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
    out: Any = None,
) -> Any:
    r"""Fit one model to many data sets.

    .. math:: \min_{p_i} \tfrac12 \sum_j \left(\frac{f(x_j, p_i) - y_{ij}}{\sigma_{ij}}\right)^2
              \quad \text{for every data set } i

    Parameters
    ----------
    model : callable
        ``model(x, *params) -> (m,)``, or ``model(x, **params)`` where `p0` is a dict; for one
        data set.  In jax.numpy; or in NumPy and scipy.special, whose functions are sent to JAX's
        namesakes.  What JAX can't trace at all is called from Python, see `FitResult.engine`.
    xdata : (m,), (d, m) or (..., m) array, or pytree of those
        Passed to the model.  An array whose shape begins with the batch's shape (and goes on)
        is per data set, and so is a list of arrays where `ydata` is one; anything else is
        shared.  To share one that looks as if it were per data set, put axes of length one
        in front for the batch's.
    ydata : (..., m) array, or list of 1-D arrays
        The data, with any batch shape in front.  Anything with `shape`, `dtype` and slicing
        is read in blocks: NumPy, JAX, memmap, HDF5, zarr.  A list of arrays of different
        lengths is fitted in groups of similar length: model and guess see x and y with their
        last values repeated, up to a third more points, which do not count.  Such a list are
        also a column that was grouped, ``groups["y"]``, and a column of arrays.
    p0 : (n,) or (..., n) array, dict of numbers or (...) arrays, or callable, optional
        Starting parameters, shared or per data set.  A callable is ``guess(x, y)`` of one
        data set, in jax.numpy, and returns an (n,) array or a dict of numbers.  What a dict
        (or Series, DataFrame, Dataset) does not name is the model's own, and so is all if it is
        not given: ``model.guess(x, y)`` if there is that, else the defaults of its arguments.
        (What the model takes by keyword alone is no parameter unless `p0` names it.)
        `FitResult.params` are in its form: an array if it is one, else a dict.  Parameters are
        in its order; in the model's where it names some or none.
    sigma : array_like, optional
        Standard deviations of the data; broadcasts to `ydata`, or a Series with one for each
        data set.  Or their covariance, (m, m) or
        (..., m, m); where (m, m) is also the shape of `ydata`, a shared one is (1, m, m).
    absolute_sigma : bool
        Whether `sigma` is in the units of the data; if not, `FitResult.cov` is scaled so that
        the reduced chi-squared is one.  Counts need neither: their variance is their mean.
    mask : bool array_like, optional
        True for points that count; broadcasts to `ydata`.
    axis : int or str
        The axis of `ydata` along which its points lie, or its dim: 0 for images one after the
        other and for a table with a data set in each column.  It is that axis, too, of xdata,
        sigma, mask and f_scale where they have as many axes as `ydata` and broadcast to it.
    nan_policy : {'propagate', 'omit', 'raise'}
        What a NaN in `ydata` does: end its fit with NONFINITE_DATA; count as masked; raise.
    bounds : 2-tuple or dict, optional
        ``(lower, upper)``, each a number, (n,) or (..., n); or, by name, ``{name: (lower,
        upper)}`` with numbers or (...) arrays for some of the parameters.  May be infinite,
        or equal, which fixes a parameter.  If the model has a dict `bounds`, it is that for
        parameters that are not named.
    fixed : bool array_like, names, or dict, optional
        Parameters that stay at `p0`: (n,) or (..., n); the names of some; or ``{name: bool or
        (...) array}``.
    expand : callable, optional
        ``expand(free) -> params``, in jax.numpy: the model's parameters, of which some are tied
        or derived, from those that are fitted, which `p0` (and all else here) then is of.
    linear : names, optional
        Parameters that the model is linear in, such as amplitudes and offsets. For all values of
        the others the best of them follow, so that fits are of the others alone (variable
        projection): fewer steps, and no starting values for these.  They have no bounds.
    shared : names or dict, optional
        Parameters that all data sets have in common, so that all are one fit; or ``{name: (...)
        array}`` with a group for each data set, which has it in common with its group.
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
    xsigma : array_like or pytree of those, optional
        Standard deviations of `xdata`, in the structure of it (None for an array that is exact);
        each broadcasts to its array of x with the batch's shape in front, (..., m) for x of
        (m,).  Zero where a point's x is exact.  With it distances from the curve are minimized,
        see the notes; `sigma` is one where it is not given.
    x_errors : {'odr', 'effective_variance'}
        What is made of `xsigma`: orthogonal distances, or residuals over an error to which
        `xsigma` adds along the tangent.
    ftol, xtol, gtol : float, optional
        Tolerances, as for `leastsq`; None for 1.5e-8 in float64 and 1e-5 in float32.
    x_scale : (n,) array_like, optional
        Typical size of each parameter; None for MINPACK's scaling.
    max_nfev : int, optional
        Limit on evaluations of each fit, ``100 (n + 1)`` if not given.
    starts : int, 'neighbours' or array
        How many starts each fit has, `p0` and others around it; or further starts, (k, n) or
        (..., k, n).  The best is returned.  'neighbours', of images and stacks: from `p0`, and
        then again from what was found beside it, where a step from there promises a lower cost.
    polish : {'auto', 'float64', None}
        Go on in float64 from what float32 found, where that is not exact.
    progress : bool or callable
        Show a bar, or call ``progress(done, total)``.
    workers : int, optional
        Threads, each with lanes of its own; None for the cores that this process may use.
    devices : 'all' or sequence of jax.Device, optional
        Over which XLA's pools are dealt, each with lanes and blocks of its own; JAX's default
        device if not given.  Compiled lanes are the host's, and use its cores.
    out : path or object, optional
        Where results go when portions of the batch end, so that neither they nor the data need
        fit in memory: ``'name.zarr'``, or a folder for ``.npz`` files.  A run that was killed goes
        on with the same call; another one at the same path is an error.  Or an object with a
        method ``add(result)``, such as `jaxlsq.Distribution`, which is given each portion's
        `FitResult`.

    Returns
    -------
    FitResult
        Arrays with the batch's shape in front.  A failed fit has its own `status`, and its
        last good parameters.  With a path for `out` a `StoredResult`; else `out`.

    Raises
    ------
    ValueError, TypeError
        For improper input, before anything is compiled.

    Notes
    -----
    float32 data are computed in float32, all others in float64, whatever JAX's settings.

    With `xsigma` the fit is an orthogonal distance regression: each point's x has a shift d of
    its own, eliminated exactly for every p, and

    .. math:: \min_{p} \tfrac12 \sum_j \min_{d_j}
              \left(\frac{f(x_j + d_j, p) - y_j}{\sigma_j}\right)^2
              + \left(\frac{d_j}{\sigma_{x,j}}\right)^2

    Errors, `cov` and `dof` (points minus parameters) are those of ODRPACK, and `FitResult.x_shifts`
    are the d.  The model must be one of single points: its value at a point may depend on the x of
    that point alone.  Fits begin with x exact, and go on from where that leads (`max_nfev` is of
    each, `FitResult.nfev` the sum).  Each d is the minimum that is reached from zero, the nearest
    place on the curve where it does not turn within some xsigma; a step to where there is none is
    rejected.  Losses other than 'linear', covariance matrices, `linear` and models that JAX can't
    trace do not go with it.  'effective_variance' minimizes
    :math:`(f(x_j) - y_j)^2 / (\sigma_j^2 + (\sigma_{x,j} f'(x_j))^2)`.  That is the same for a
    straight line only: elsewhere it is an approximation for small `xsigma`, and not the same
    parameters.

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
    out = None if out is None else check_out(out)
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
    data = read(
        FitArguments(
            model=model,
            xdata=xdata,
            ydata=ydata,
            p0=p0,
            sigma=sigma,
            absolute_sigma=absolute_sigma,
            mask=mask,
            axis=axis,
            nan_policy=nan_policy,
            bounds=bounds,
            fixed=fixed,
            expand=expand,
            linear=linear,
            shared=shared,
            loss=loss,
            f_scale=f_scale,
            jac=jac,
            xsigma=xsigma,
            x_errors=x_errors,
        )
    )
    problem = Problem.of_fit(data, settings)
    return problem.solve() if out is None else solved_in_portions(problem, out)
