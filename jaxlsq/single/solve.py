"""One fit from the host: compiled whole where the function is traceable, else in Python."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from jaxlsq.numerics.repair import repaired_on_host
from jaxlsq.problem.checks import as_jacobian, check_jacobian_shape, check_lengths
from jaxlsq.problem.mistakes import brief_errors
from jaxlsq.single.compiled import solve_compiled
from jaxlsq.single.differences import EVALUATIONS as EVALUATIONS_ON_HOST
from jaxlsq.single.differences import ComplexStep, Differences
from jaxlsq.single.host_loop import minimize_on_host
from jaxlsq.single.problem import (
    Problem,
    Solution,
    complete_options,
    name_of,
    result_fields,
    solution_of,
)
from jaxlsq.single.steps import OwnSettings
from jaxlsq.single.tried import (
    in_float64,
    remember_untraceable,
    residual_of,
    try_trace,
)
from jaxlsq.tracing.concrete import check_concrete
from jaxlsq.tracing.forked import check_not_forked

__all__ = ["solve"]


def solve(problem: Problem, settings: dict[str, Any]) -> Solution:
    """Fit one problem in float64.

    Parameters
    ----------
    problem : Problem
    settings : dict
        Fields of `Options`; ``max_nfev`` 0 and ``epsfcn`` None ask for SciPy's
        defaults.

    Returns
    -------
    Solution
    """
    with brief_errors:
        return _solve(problem, settings)


def _solve(problem, settings):
    check_not_forked()
    tried = try_trace(problem)
    if tried.traced:
        check_concrete("leastsq or curve_fit", tried.traced.arrays)
    solution = tried.traced and solve_compiled(problem, settings, tried)
    return solution or _solve_on_host(problem, settings, tried)


def _solve_on_host(problem, settings, tried):
    if tried.callable:
        jac = in_float64(problem.jac) if callable(problem.jac) else problem.jac
        problem = replace(problem, func=in_float64(problem.func), jac=jac)
    n = problem.x0.size
    method = problem.jac or "2-point"
    dtypes = []
    f0 = residual_of(problem, dtypes, problem.x0.copy())
    remember_untraceable(problem, tried)
    m = f0.size
    terms = problem.terms
    if terms is None:
        check_lengths(n, m)

    def residual(x):
        f = residual_of(problem, [], x)
        if f.size != m:
            raise ValueError(
                f"The array returned by func changed size between calls: {m} residuals at x0, "
                f"now {f.size}."
            )
        return f

    evaluations = 0 if callable(method) else n * EVALUATIONS_ON_HOST[method]
    options = complete_options(settings, n, evaluations == 0, dtypes[0])
    if method == "cs":
        jacobian = ComplexStep(lambda x: problem.func(x, *problem.args))
    elif callable(method):
        jacobian = partial(_given_jacobian, problem, m)
        jacobian(problem.x0.copy(), f0)  # its errors come before the first compile
    else:
        bounds = terms and terms.bounds
        jacobian = Differences(residual, method, float(options.epsfcn), bounds)
        jacobian.is_looking = settings["epsfcn"] is None
    begin = problem.x0, f0
    state, f = minimize_on_host(residual, jacobian, begin, options, evaluations, terms)
    if terms is None:
        return solution_of(result_fields(state, f), options, evaluations)
    x = np.array(state.point.x)
    last = np.asarray(jacobian(x.copy(), f))
    if not evaluations:
        last, _ = repaired_on_host(residual, x, f, last, terms.bounds)
    fields = OwnSettings()(result_fields, state, f, terms, lambda x, f: last)
    return solution_of(fields, options, evaluations)


def _given_jacobian(problem, m, x, f):
    name = name_of(problem.jac)
    jac = np.atleast_2d(np.asarray(as_jacobian(problem.jac(x, *problem.args), name)))
    check_jacobian_shape(jac.shape, m, x.size, problem.col_deriv, name)
    return jac.T if problem.col_deriv else jac
