"""`curve_fit`: SciPy's signature and results."""

import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxlsq.api.curve_data import (
    as_data,
    by_names,
    check_keywords,
    check_model_shape,
    unchanged,
)
from jaxlsq.api.leastsq import leastsq
from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.loss import POISSON
from jaxlsq.problem.bounds import vectors
from jaxlsq.problem.checks import as_array
from jaxlsq.problem.containers import no_mask
from jaxlsq.problem.losses import check_no_sigma, not_counts
from jaxlsq.problem.names import check_count, names_of
from jaxlsq.problem.types import BoundsLike
from jaxlsq.single.bounded import Bounded, bounded_fit, feasible_start
from jaxlsq.status import SUCCESS, describe
from jaxlsq.tracing.concrete import check_concrete

__all__ = ["OptimizeWarning", "curve_fit"]


class OptimizeWarning(UserWarning):
    """The covariance of the parameters could not be estimated."""


def curve_fit(
    f: Callable[..., Any],
    xdata: Any,
    ydata: ArrayLike,
    p0: ArrayLike | Mapping[str, float] | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    check_finite: bool | None = None,
    bounds: BoundsLike = (-np.inf, np.inf),
    method: str | None = None,
    jac: Callable[..., Any] | str | None = None,
    *,
    full_output: bool = False,
    nan_policy: str | None = None,
    **kwargs: Any,
) -> tuple[Any, ...]:
    r"""Fit a function to data by nonlinear least squares; a drop-in for SciPy's.

    .. math:: \min_p \; r^T C^{-1} r, \qquad r_i = f(x_i, p_1, \dots, p_n) - y_i

    Parameters
    ----------
    f : callable
        ``f(xdata, *params) -> (m,)``, in jax.numpy, NumPy or anything else.
    xdata : array_like or object
        The independent variable, of any shape; passed to `f`, numbers as float64.  What has
        labels (a Series, a DataFrame) is passed as it is to an `f` that JAX can't trace.
    ydata : (m,) array_like
        The data; a number stands for as many as `f` returns.  The points that are masked in
        `xdata`, `ydata` or `sigma` (`numpy.ma`) are left out.
    p0 : array_like
        n starting parameters; None for ones, counted from `f`'s signature.  A Series or a dict
        is taken by the names of `f`'s parameters.
    sigma : scalar, (m,) or (m, m) array_like
        Standard deviations of the data, or their covariance C.  An infinite one is no weight.
    absolute_sigma : bool
        Whether `sigma` is in the units of the data.  If not, `pcov` is scaled so
        that the reduced chi-squared is one.
    check_finite : bool
        Raise for NaN or inf in the data.  None: true unless `nan_policy` is given.
    bounds : 2-tuple of array_like, or object with `lb` and `ub`
        Lower and upper bounds, each one number or n; equal ones fix a parameter.
    method : {None, 'lm', 'trf', 'dogbox'}
        None: 'lm', MINPACK's, unless there are bounds.  'trf' and 'dogbox' are both this
        package's own, `jaxlsq.numerics.bounds`, with SciPy's results.
    jac : callable, str or None
        ``jac(xdata, *params) -> (m, n)``; or as `leastsq`'s ``Dfun``.
    full_output : bool
        Return `infodict`, `mesg` and `ier` too.
    nan_policy : {None, 'raise', 'omit'}
        What to do with NaN where `check_finite` is false.
    **kwargs
        ``ftol xtol gtol maxfev epsfcn factor diag`` for 'lm', as `leastsq`; ``ftol xtol gtol
        max_nfev x_scale loss f_scale`` for the others, as `least_squares`; there `loss` may
        also be 'poisson', for counts, as in `fit`.

    Returns
    -------
    popt : (n,) array
    pcov : (n, n) array
        Covariance of `popt`; inf where it can't be estimated.  As SciPy's it takes no notice of
        bounds that hold.
    infodict, mesg, ier
        As `leastsq`, with `full_output`.

    Raises
    ------
    ValueError, TypeError
        For improper input.
    RuntimeError
        If the fit fails; the text says why.

    Warns
    -----
    OptimizeWarning
        If the covariance can't be estimated; it is also SciPy's, where that is imported.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxlsq import curve_fit
    >>> x = np.linspace(0, 4, 50)
    >>> popt, pcov = curve_fit(lambda x, a, b: a * jnp.exp(-b * x), x, 2.5 * np.exp(-1.3 * x))
    >>> popt.round(6)
    array([2.5, 1.3])
    """
    check_concrete("curve_fit", (xdata, ydata, p0, sigma))
    names = names_of(f, _size(f, p0))
    given_p0, sides = by_names(names, p0, bounds)
    n = _size(f, given_p0)
    bounds = vectors(sides, n)
    start = feasible_start(*bounds) if given_p0 is None else np.atleast_1d(given_p0)
    check_count(f, n)
    with_terms = _with_terms(method, bounds)
    check_keywords(kwargs, with_terms)
    given = Bounded.of(kwargs) if with_terms else None
    xdata, ydata, sigma = as_data(xdata, ydata, sigma, check_finite, nan_policy)
    if not with_terms and ydata.size != 1 and start.size > ydata.size:
        raise TypeError(
            f"The number of func parameters={start.size} must not exceed the number of data "
            f"points={ydata.size}"
        )
    counts = given is not None and given.loss is POISSON
    if counts:
        _check_counts(ydata, sigma)
    whiten = _whitening(sigma, ydata.size)

    def residual(params: Any) -> Any:
        values = xdata.call(f, params)
        check_model_shape(np.shape(values), ydata.shape, xdata.axes)
        return values if counts else whiten(values - ydata)

    def given_jacobian(params: Any) -> Any:
        return whiten(xdata.call(jac, params))

    Dfun = given_jacobian if callable(jac) else jac
    if given is not None:
        with unchanged(xdata):
            solution, pcov, message, ier = bounded_fit(
                (residual, Dfun), (start, names), bounds, ydata, given
            )
        popt, infodict = solution.x, {"nfev": solution.nfev, "fvec": solution.f}
        absolute = absolute_sigma or counts
        free = int(np.count_nonzero(bounds.lower < bounds.upper))
        pcov = _scaled_covariance(pcov, free, solution.f.size, 2.0 * solution.cost, absolute)
        return (popt, pcov, infodict, message, ier) if full_output else (popt, pcov)
    with unchanged(xdata):
        out = leastsq(residual, start, Dfun=Dfun, full_output=True, **kwargs)
    popt, pcov, infodict, message, ier = out
    if ier not in SUCCESS:
        words = message if ier >= 0 else describe(ier, limit="maxfev")
        raise RuntimeError("Optimal parameters not found: " + words)
    fvec = infodict["fvec"]
    pcov = _scaled_covariance(pcov, popt.size, fvec.size, np.sum(fvec**2), absolute_sigma)
    return (popt, pcov, infodict, message, ier) if full_output else (popt, pcov)


def _scaled_covariance(
    pcov: NDArray[Any] | None, n: int, m: int, chi2: float, absolute_sigma: bool
):
    if pcov is not None and not np.isnan(pcov).any():
        if absolute_sigma:
            return pcov
        if m > n:
            return pcov * (chi2 / (m - n))
    warnings.warn("Covariance of the parameters could not be estimated", _warning(), stacklevel=3)
    return np.full((n, n) if pcov is None else pcov.shape, np.inf)


def _warning():
    """`OptimizeWarning`, which is SciPy's too where SciPy has been imported."""
    scipys = getattr(sys.modules.get("scipy.optimize"), "OptimizeWarning", None)
    return OptimizeWarning if scipys is None else _both(scipys)


@lru_cache
def _both(other: type[Warning]):
    return type("OptimizeWarning", (OptimizeWarning, other), {"__doc__": OptimizeWarning.__doc__})


def _size(f: Callable[..., Any], p0: Any):
    """Number of parameters: those of p0, or of the signature."""
    if p0 is None:
        return _count_parameters(f)
    return len(p0) if isinstance(p0, dict) else np.size(p0)


def _count_parameters(f: Callable[..., Any]):
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(p.kind in named for p in inspect.signature(f).parameters.values()) - 1
    if count < 1:
        raise ValueError(
            "Unable to determine number of fit parameters from the signature of f; pass p0."
        )
    return count


def _with_terms(method: str | None, bounds: Bounds):
    """Whether it is another problem than `leastsq`'s."""
    if method not in (None, "lm", "trf", "dogbox"):
        raise ValueError(f"`method` must be 'trf', 'dogbox' or 'lm', got {method!r}.")
    bounded = bool(np.any((bounds.lower > -np.inf) | (bounds.upper < np.inf)))
    if method == "lm" and bounded:
        raise ValueError(
            "Method 'lm' only works for unconstrained problems. Use 'trf' or 'dogbox' instead."
        )
    return bounded or method in ("trf", "dogbox")


def _check_counts(ydata: Any, sigma: Any):
    check_no_sigma(sigma)
    if np.any(not_counts(ydata)):
        raise ValueError("loss='poisson' needs counts, whole numbers from zero on, for ydata.")


def _as_it_is(residual: Any) -> Any:
    return residual


def _whitening(sigma: Any, m: int) -> Callable[[Any], Any]:
    """The function that turns residuals, or a Jacobian's rows, into unit variance."""
    if sigma is None:
        return _as_it_is
    sigma = np.asarray(no_mask(sigma, "sigma"), float)
    if sigma.size == 1 or sigma.shape == (m,):
        if not np.all(sigma > 0):
            raise ValueError("`sigma` must be positive: it holds zero, negative or NaN values.")
        weight = 1.0 / sigma.ravel()

        def divide(r: Any) -> Any:
            r = as_array(r)
            return weight.reshape(-1, *(1,) * (r.ndim - 1)) * r

        return divide
    if sigma.shape == (m, m):
        try:
            root = np.linalg.cholesky(sigma)
        except np.linalg.LinAlgError as error:
            raise ValueError("`sigma` must be positive definite.") from error
        inverse = np.linalg.solve(root, np.eye(m))
        return lambda r: inverse @ as_array(r)
    raise ValueError(
        f"`sigma` has incorrect shape: expected a scalar, ({m},) or ({m}, {m}), got {sigma.shape}."
    )
