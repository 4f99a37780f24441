"""`leastsq` and `curve_fit`: SciPy's signatures, results, messages and exit codes."""

import inspect
import warnings

import jax
import numpy as np

from jaxlsq.numerics.jacobian import METHODS
from jaxlsq.problem import as_array, as_start, as_tuple, check_options
from jaxlsq.results.covariance import covariance
from jaxlsq.solve import Problem, solve
from jaxlsq.status import SUCCESS, scipy_message

__all__ = ["OptimizeWarning", "curve_fit", "leastsq"]


class OptimizeWarning(UserWarning):
    """The covariance of the parameters could not be estimated."""


def leastsq(
    func,
    x0,
    args=(),
    Dfun=None,
    full_output=False,
    col_deriv=False,
    ftol=1.49012e-8,
    xtol=1.49012e-8,
    gtol=0.0,
    maxfev=0,
    epsfcn=None,
    factor=100,
    diag=None,
    warning=None,
):
    r"""Minimize the sum of squares of a set of equations; a drop-in for SciPy's.

    .. math:: \min_x \sum_{i=1}^m f_i(x)^2

    Parameters
    ----------
    func : callable
        ``func(x, *args) -> (m,)`` residuals, m >= n.  Where JAX can trace it
        (jax.numpy, or plain operators on arrays), the whole fit is one compiled
        program; where not, it is called in Python.
    x0 : scalar or array_like
        n starting parameters.
    args : tuple
        Extra arguments of `func` and `Dfun`; a single value need not be a tuple.
    Dfun : callable, str or None
        ``Dfun(x, *args) -> (m, n)`` Jacobian; or 'jacfwd', 'jacrev', '2-point'
        (MINPACK's forward differences) or '3-point'.  None: 'jacfwd' where `func`
        is traceable and `epsfcn` is not given, else '2-point'.
    full_output : bool
        Return everything.
    col_deriv : bool
        Whether `Dfun` returns the Jacobian transposed, ``(n, m)``.
    ftol : float
        Relative error desired in the sum of squares.
    xtol : float
        Relative error desired in the parameters.
    gtol : float
        Largest cosine desired between the residual and a column of the Jacobian.
    maxfev : int
        Limit on calls of `func`; 0 for 100 (n + 1) with a Jacobian and 200 (n + 1)
        with finite differences.
    epsfcn : float
        Relative error of `func`, which sets the step of finite differences.  To
        give it asks for them.
    factor : float
        The first step is at most ``factor * || diag * x0 ||`` long.
    diag : (n,) array_like
        Positive scale factors of the parameters; None for MINPACK's own.
    warning : bool
        Deprecated: False silences the `RuntimeWarning` below.

    Returns
    -------
    x : (n,) array
        The solution, or the last good parameters.
    cov_x : (n, n) array or None
        :math:`(J^T J)^{-1}` at the last Jacobian; None where that is singular or
        the fit failed.  Multiply by the variance of the residuals.  With
        `full_output`.
    infodict : dict
        ``fvec`` (m,), ``nfev``, ``fjac`` (n, m) with R of J P = Q R in its first n
        columns, transposed, ``ipvt`` (n,) with column j of P being column
        ``ipvt[j]``, from 0, of the identity, ``qtf`` (n,), and, unless the Jacobian
        came from finite differences, ``njev``.  With `full_output`.
    mesg : str
        Why it ended.  With `full_output`.
    ier : int
        MINPACK's code: 1 to 4 for success, 5 to 8 for failure.  Negative: the
        function (-1) or the Jacobian (-2) is not finite where it has to be.

    Raises
    ------
    TypeError, ValueError
        For improper input, before any compilation; a message names the argument.

    Warns
    -----
    RuntimeWarning
        If the fit failed and `full_output` is false.

    Notes
    -----
    Computes in float64 whatever JAX's settings are, and leaves them alone.  A trial
    point where `func` is not finite is a rejected step.

    References
    ----------
    J. J. More, "The Levenberg-Marquardt algorithm: implementation and theory",
    Lecture Notes in Mathematics 630 (1978).

    Examples
    --------
    >>> from jaxlsq import leastsq
    >>> x, ier = leastsq(lambda x: 2 * (x - 3) ** 2 + 1, 0)
    >>> x.round(3), ier
    (array([3.]), 1)
    """
    if warning is not None:
        warnings.warn(
            "The warning keyword of leastsq is deprecated; use the warnings module instead.",
            DeprecationWarning,
            stacklevel=2,
        )
    x0 = as_start(x0)
    problem = Problem(func, x0, as_tuple(args), _jacobian(Dfun, epsfcn), bool(col_deriv))
    settings = {"ftol": ftol, "xtol": xtol, "gtol": gtol, "factor": factor, "diag": diag}
    settings["diag"] = check_options(x0.size, **settings)
    solution = solve(problem, settings | {"max_nfev": int(maxfev), "epsfcn": epsfcn})

    status = solution.status
    message = scipy_message(status, ftol=ftol, xtol=xtol, gtol=gtol, maxfev=solution.max_nfev)
    if full_output:
        cov_x = covariance(solution.r, solution.perm) if status in SUCCESS else None
        return solution.x, cov_x, _infodict(solution), message, status
    if status not in SUCCESS and (warning is None or warning):
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return solution.x, status


def _jacobian(Dfun, epsfcn):
    """`Problem.jac` for SciPy's two arguments."""
    if Dfun is None:
        return None if epsfcn is None else "2-point"
    if callable(Dfun) or (isinstance(Dfun, str) and Dfun in METHODS):
        return Dfun
    raise TypeError(f"Dfun must be callable, None or one of {sorted(METHODS)}, got {Dfun!r}.")


def _infodict(solution):
    n, m = solution.x.size, solution.f.size
    fjac = np.zeros((n, m))
    fjac[:, :n] = solution.r.T
    counts = {"nfev": solution.nfev}
    if solution.analytic:
        counts["njev"] = solution.njev
    return {"fvec": solution.f, **counts, "fjac": fjac, "ipvt": solution.perm, "qtf": solution.qtf}


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
    bounds : 2-tuple of array_like
        Not yet: only infinite bounds.
    method : {None, 'lm'}
    jac : callable, str or None
        ``jac(xdata, *params) -> (m, n)``; or as `leastsq`'s ``Dfun``.
    full_output : bool
        Return `infodict`, `mesg` and `ier` too.
    nan_policy : {None, 'raise', 'omit'}
        What to do with NaN where `check_finite` is false.
    **kwargs
        ``ftol xtol gtol maxfev epsfcn factor diag`` for `leastsq`.

    Returns
    -------
    popt : (n,) array
    pcov : (n, n) array
        Covariance of `popt`; inf where it can't be estimated.
    infodict, mesg, ier
        As `leastsq`, with `full_output`.

    Raises
    ------
    ValueError, TypeError
        For improper input.
    RuntimeError
        If the fit fails; the text says why.
    NotImplementedError
        For finite bounds, and for the methods 'trf' and 'dogbox'.

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
    p0 = np.ones(_count_parameters(f)) if p0 is None else np.atleast_1d(p0)
    _check_method(method, bounds)
    if "args" in kwargs:
        raise ValueError("'args' is not a supported keyword argument of curve_fit.")
    xdata, ydata, sigma = _as_data(xdata, ydata, sigma, check_finite, nan_policy)
    if ydata.size != 1 and p0.size > ydata.size:
        raise TypeError(
            f"The number of func parameters={p0.size} must not exceed the number of data "
            f"points={ydata.size}"
        )
    whiten = _whitening(sigma, ydata.size)

    def residual(params):
        values = f(xdata, *params)
        _check_model_shape(np.shape(values), ydata.shape)
        return whiten(values - ydata)

    def given_jacobian(params):
        return whiten(jac(xdata, *params))

    Dfun = given_jacobian if callable(jac) else jac
    out = leastsq(residual, p0, Dfun=Dfun, full_output=True, **kwargs)
    popt, pcov, infodict, message, ier = out
    if ier not in SUCCESS:
        raise RuntimeError("Optimal parameters not found: " + message)
    pcov = _scaled_covariance(pcov, popt.size, infodict["fvec"], absolute_sigma)
    return (popt, pcov, infodict, message, ier) if full_output else (popt, pcov)


def _check_model_shape(shape, expected):
    if shape != expected and shape not in ((), (1,)) and expected != (1,):
        raise ValueError(
            f"f(xdata, ...) must have ydata's shape {expected}, got {shape}. "
            "Do xdata and ydata have the same length?"
        )


def _scaled_covariance(pcov, n, fvec, absolute_sigma):
    undetermined = pcov is None or np.isnan(pcov).any()
    if not undetermined and not absolute_sigma:
        undetermined = fvec.size <= n
        if not undetermined:
            return pcov * (np.sum(fvec**2) / (fvec.size - n))
    if undetermined:
        warnings.warn(
            "Covariance of the parameters could not be estimated", OptimizeWarning, stacklevel=3
        )
        return np.full((n, n), np.inf)
    return pcov


def _count_parameters(f):
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(p.kind in named for p in inspect.signature(f).parameters.values()) - 1
    if count < 1:
        raise ValueError(
            "Unable to determine number of fit parameters from the signature of f; pass p0."
        )
    return count


def _check_method(method, bounds):
    if method not in (None, "lm", "trf", "dogbox"):
        raise ValueError(f"`method` must be 'trf', 'dogbox' or 'lm', got {method!r}.")
    lower, upper = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds
    lower, upper = np.asarray(lower, float), np.asarray(upper, float)
    bounded = np.any(lower > -np.inf) or np.any(upper < np.inf)
    if method == "lm" and bounded:
        raise ValueError("Method 'lm' only works for unconstrained problems.")
    if bounded:
        raise NotImplementedError(
            "curve_fit does not take finite bounds yet; leave bounds out, or fit a transformed "
            "parameter (log p for p > 0)."
        )
    if method in ("trf", "dogbox"):
        raise NotImplementedError(f"method={method!r} is not available; use 'lm' or None.")


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
