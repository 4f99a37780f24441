"""`leastsq`: SciPy's signature, results, messages and exit codes."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from jaxlsq.problem.checks import as_tuple, check_method, unknown_keyword
from jaxlsq.problem.containers import for_jax, is_masked
from jaxlsq.problem.starts import as_vector
from jaxlsq.problem.tolerances import check_tolerances, parameter_scales
from jaxlsq.results.covariance import covariance
from jaxlsq.single.problem import Problem, Solution
from jaxlsq.single.solve import solve
from jaxlsq.status import SUCCESS, scipy_message
from jaxlsq.tracing.concrete import check_concrete

__all__ = ["leastsq"]


def leastsq(
    func: Callable[..., Any],
    x0: ArrayLike,
    args: Any = (),
    Dfun: Callable[..., Any] | str | None = None,
    full_output: bool = False,
    col_deriv: bool = False,
    ftol: float = 1.49012e-8,
    xtol: float = 1.49012e-8,
    gtol: float = 0.0,
    maxfev: int = 0,
    epsfcn: float | None = None,
    factor: float = 100,
    diag: ArrayLike | None = None,
    warning: bool | None = None,
    **unknown: Any,
) -> tuple[Any, ...]:
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
        Extra arguments of `func` and `Dfun`; a single value need not be a tuple.  A Series or
        the like is an array for a function that JAX can trace.
    Dfun : callable, str or None
        ``Dfun(x, *args) -> (m, n)`` Jacobian; or 'jacfwd', 'jacrev', '2-point'
        (MINPACK's forward differences), '3-point' or 'cs', the complex step (where
        `func` is traceable, 'jacfwd').  None: 'jacfwd' where `func`
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
        function (-1) or the Jacobian (-2) is not finite where it has to be, or
        every step, however small, leads to where the function is not (-3).

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
    for name in unknown:
        raise TypeError(unknown_keyword("leastsq", name))
    check_concrete("leastsq", (x0, args))
    x0, args, Dfun = as_vector(x0), as_tuple(args), _jacobian(Dfun, epsfcn)
    if not all(map(_is_usual, args)):
        func = _on_arrays(func, args) if callable(func) else func
        Dfun = _on_arrays(Dfun, args) if callable(Dfun) else Dfun
        args = ()
    problem = Problem(func, x0, args, Dfun, bool(col_deriv))
    tolerances = {"ftol": ftol, "xtol": xtol, "gtol": gtol}
    settings = tolerances | _first_step(tolerances, factor, diag, x0.size)
    solution = solve(problem, settings | {"max_nfev": int(maxfev), "epsfcn": epsfcn})

    status = solution.status
    message = scipy_message(status, ftol=ftol, xtol=xtol, gtol=gtol, maxfev=solution.max_nfev)
    if full_output:
        cov_x = covariance(solution.r, solution.perm) if status in SUCCESS else None
        return solution.x, cov_x, _infodict(solution), message, status
    if status not in SUCCESS and (warning is None or warning):
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return solution.x, status


def _jacobian(Dfun: Any, epsfcn: Any):
    """`Problem.jac` for SciPy's two arguments."""
    if Dfun is None:
        return None if epsfcn is None else "2-point"
    check_method("Dfun", Dfun, TypeError, none=True)
    return Dfun


def _first_step(tolerances: dict[str, Any], factor: float, diag: Any, n: int):
    """MINPACK's `factor` and `diag`, zeros for None; all else is checked too.

    Raises
    ------
    TypeError
        SciPy's type for "Improper input parameters".
    """
    try:
        check_tolerances(optional=False, **tolerances)
        if not 0 < factor < np.inf:
            raise ValueError(
                f"factor must be positive and finite, usually between 0.1 and 100, got {factor!r}."
            )
        diag = np.zeros(n) if diag is None else parameter_scales(np.ravel(diag), n, "diag")
    except ValueError as error:
        raise TypeError(f"Improper input parameters: {error}") from None
    return {"factor": factor, "diag": diag}


def _is_usual(arg: Any):
    """Whether JAX and NumPy both take an argument as it is."""
    return not is_masked(arg) and for_jax(arg) is arg


def _on_arrays(function: Callable[..., Any], args: tuple[Any, ...]):
    """A function of x alone, whose labelled arguments are arrays where JAX traces it."""
    arrays, masked = tuple(map(for_jax, args)), any(map(is_masked, args))

    def on_arrays(x: Any):
        if isinstance(x, Tracer):
            if masked:
                raise TypeError("JAX does not know the masks of masked arrays")
            return function(x, *arrays)
        try:
            return function(x, *args)
        except TypeError:  # a function of jax.numpy, which takes arrays alone
            return function(x, *arrays)

    return on_arrays


def _infodict(solution: Solution) -> dict[str, Any]:
    n, m = solution.x.size, solution.f.size
    fjac = np.zeros((n, m))
    fjac[:, :n] = solution.r.T
    counts = {"nfev": solution.nfev}
    if solution.analytic:
        counts["njev"] = solution.njev
    return {"fvec": solution.f, **counts, "fjac": fjac, "ipvt": solution.perm, "qtf": solution.qtf}
