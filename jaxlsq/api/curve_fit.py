"""`curve_fit`: SciPy's signature and results."""

import inspect
import warnings

import jax
import numpy as np

from jaxlsq.api.bounded import Bounded, bounded_fit, feasible_start, vectors
from jaxlsq.api.leastsq import leastsq
from jaxlsq.concrete import check_concrete
from jaxlsq.constraints import check_no_sigma, not_counts
from jaxlsq.numerics.loss import POISSON
from jaxlsq.problem import as_array
from jaxlsq.status import SUCCESS

__all__ = ["OptimizeWarning", "curve_fit"]


class OptimizeWarning(UserWarning):
    """The covariance of the parameters could not be estimated."""


def curve_fit(
    f,
    xdata,
    ydata,
    p0=None,
    sigma=None,
    absolute_sigma=False,
    check_finite=None,
    bounds=(-np.inf, np.inf),
    method=None,
    jac=None,
    *,
    full_output=False,
    nan_policy=None,
    **kwargs,
):
    r"""Fit a function to data by nonlinear least squares; a drop-in for SciPy's.

    .. math:: \min_p \; r^T C^{-1} r, \qquad r_i = f(x_i, p_1, \dots, p_n) - y_i

    Parameters
    ----------
    f : callable
        ``f(xdata, *params) -> (m,)``, in jax.numpy, NumPy or anything else.
    xdata : array_like or object
        The independent variable, of any shape; passed to `f`.
    ydata : (m,) array_like
        The data.
    p0 : array_like
        n starting parameters; None for ones, counted from `f`'s signature.
    sigma : scalar, (m,) or (m, m) array_like
        Standard deviations of the data, or their covariance C.
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
        If the covariance can't be estimated.

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
    n = _count_parameters(f) if p0 is None else np.size(p0)
    lower, upper = vectors(bounds, n)
    p0 = feasible_start(lower, upper) if p0 is None else np.atleast_1d(p0)
    with_terms = _with_terms(method, (lower, upper))
    given = Bounded.of(kwargs) if with_terms else None
    if "args" in kwargs:
        raise ValueError("'args' is not a supported keyword argument of curve_fit.")
    xdata, ydata, sigma = _as_data(xdata, ydata, sigma, check_finite, nan_policy)
    if not with_terms and ydata.size != 1 and p0.size > ydata.size:
        raise TypeError(
            f"The number of func parameters={p0.size} must not exceed the number of data "
            f"points={ydata.size}"
        )
    counts = with_terms and given.loss is POISSON
    if counts:
        _check_counts(ydata, sigma)
    whiten = _whitening(sigma, ydata.size)

    def residual(params):
        values = f(xdata, *params)
        _check_model_shape(np.shape(values), ydata.shape)
        return values if counts else whiten(values - ydata)

    def given_jacobian(params):
        return whiten(jac(xdata, *params))

    Dfun = given_jacobian if callable(jac) else jac
    if with_terms:
        solution, pcov, message, ier = bounded_fit(
            (residual, Dfun), p0, (lower, upper), ydata, given
        )
        popt, infodict = solution.x, {"nfev": solution.nfev, "fvec": solution.f}
        absolute = absolute_sigma or counts
        free = np.count_nonzero(lower < upper)
        pcov = _scaled_covariance(pcov, free, ydata.size, 2.0 * solution.cost, absolute)
        return (popt, pcov, infodict, message, ier) if full_output else (popt, pcov)
    out = leastsq(residual, p0, Dfun=Dfun, full_output=True, **kwargs)
    popt, pcov, infodict, message, ier = out
    if ier not in SUCCESS:
        raise RuntimeError("Optimal parameters not found: " + message)
    fvec = infodict["fvec"]
    pcov = _scaled_covariance(pcov, popt.size, fvec.size, np.sum(fvec**2), absolute_sigma)
    return (popt, pcov, infodict, message, ier) if full_output else (popt, pcov)


def _check_model_shape(shape, expected):
    if shape != expected and shape not in ((), (1,)) and expected != (1,):
        raise ValueError(
            f"f(xdata, ...) must have ydata's shape {expected}, got {shape}. "
            "Do xdata and ydata have the same length?"
        )


def _scaled_covariance(pcov, n, m, chi2, absolute_sigma):
    undetermined = pcov is None or np.isnan(pcov).any()
    if not undetermined and not absolute_sigma:
        undetermined = m <= n
        if not undetermined:
            return pcov * (chi2 / (m - n))
    if undetermined:
        warnings.warn(
            "Covariance of the parameters could not be estimated", OptimizeWarning, stacklevel=3
        )
        return np.full((n, n) if pcov is None else pcov.shape, np.inf)
    return pcov


def _count_parameters(f):
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(p.kind in named for p in inspect.signature(f).parameters.values()) - 1
    if count < 1:
        raise ValueError(
            "Unable to determine number of fit parameters from the signature of f; pass p0."
        )
    return count


def _with_terms(method, bounds):
    """Whether it is another problem than `leastsq`'s."""
    if method not in (None, "lm", "trf", "dogbox"):
        raise ValueError(f"`method` must be 'trf', 'dogbox' or 'lm', got {method!r}.")
    lower, upper = bounds
    bounded = bool(np.any((lower > -np.inf) | (upper < np.inf)))
    if method == "lm" and bounded:
        raise ValueError(
            "Method 'lm' only works for unconstrained problems. Use 'trf' or 'dogbox' instead."
        )
    return bounded or method in ("trf", "dogbox")


def _check_counts(ydata, sigma):
    check_no_sigma(sigma)
    if np.any(not_counts(ydata)):
        raise ValueError("loss='poisson' needs counts, whole numbers from zero on, for ydata.")


def _as_data(xdata, ydata, sigma, check_finite, nan_policy):
    """Data as float64 arrays, checked for NaN as asked."""
    if check_finite is None:
        check_finite = nan_policy is None
    ydata = np.asarray(ydata, float)
    if ydata.size == 0:
        raise ValueError("`ydata` must not be empty!")
    if isinstance(xdata, (list, tuple, np.ndarray, jax.Array)):
        xdata = np.asarray(xdata, float)
    if check_finite:
        for name, values in (("xdata", xdata), ("ydata", ydata)):
            if isinstance(values, np.ndarray):
                _check_finite(name, values)
    elif nan_policy is not None:
        return _apply_nan_policy(xdata, ydata, sigma, nan_policy)
    return xdata, ydata, sigma


def _check_finite(name, values):
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise ValueError(
            f"array must not contain infs or NaNs: {name} has {bad} of {values.size}. Remove them, "
            "or pass check_finite=False with nan_policy='omit'."
        )


def _apply_nan_policy(xdata, ydata, sigma, nan_policy):
    if nan_policy == "propagate":
        raise ValueError("`nan_policy='propagate'` is not supported by this function.")
    if nan_policy not in ("raise", "omit"):
        raise ValueError(f"nan_policy must be one of {{None, 'raise', 'omit'}}, got {nan_policy!r}")
    bad = np.isnan(ydata)
    in_x = np.isnan(xdata)
    bad = bad | in_x.any(axis=tuple(range(in_x.ndim - 1)))
    if not bad.any():
        return xdata, ydata, sigma
    if nan_policy == "raise":
        raise ValueError("The input contains nan values")
    if sigma is not None:
        sigma = np.asarray(sigma)
        for axis in range(sigma.ndim):
            if sigma.shape[axis] == bad.size:
                sigma = np.compress(~bad, sigma, axis=axis)
    return xdata[..., ~bad], ydata[~bad], sigma


def _whitening(sigma, m):
    """The function that turns residuals, or a Jacobian's rows, into unit variance."""
    if sigma is None:
        return lambda r: r
    sigma = np.asarray(sigma, float)
    if sigma.size == 1 or sigma.shape == (m,):
        if not np.all(sigma > 0):
            raise ValueError("`sigma` must be positive: it holds zero, negative or NaN values.")
        weight = 1.0 / sigma.ravel()

        def divide(r):
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
