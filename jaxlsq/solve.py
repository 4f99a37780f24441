"""One fit from the host: compiled whole where the function is traceable, else in Python."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.cache import ProgramCache, code_signature
from jaxlsq.compiler import COMPILER_OPTIONS
from jaxlsq.contexts import own_settings
from jaxlsq.host import minimize_on_host
from jaxlsq.numerics.iteration import Options, Terms, minimize
from jaxlsq.numerics.jacobian import EVALUATIONS, differentiate, forward_step, inside
from jaxlsq.numerics.loss import sum_of
from jaxlsq.problem import as_residual, check_jacobian_shape, check_lengths
from jaxlsq.tracing import evaluate, trace

__all__ = ["PROGRAMS", "Problem", "Solution", "solve"]

PROGRAMS = ProgramCache(size=128)

# Signatures of functions whose trace failed, so that a loop over data sets does
# not pay for it each time.  A wrong entry costs only the automatic derivative.
_UNTRACEABLE = set()
_UNTRACEABLE_LIMIT = 1024


@dataclass(frozen=True)
class Problem:
    """A residual function, its arguments and how to differentiate it.

    Attributes
    ----------
    func : callable
        ``func(x, *args) -> (m,)``.
    x0 : (n,) float64 array
    args : tuple
    jac : str, callable or None
        A method of `jaxlsq.numerics.jacobian`; or ``jac(x, *args)``; or None for
        'jacfwd' where `func` is traceable and '2-point' where not.
    col_deriv : bool
        Whether a callable returns the Jacobian transposed.
    terms : Terms, optional
        Bounds and a loss.
    """

    func: object
    x0: np.ndarray
    args: tuple
    jac: object
    col_deriv: bool
    terms: Terms | None = None

    @property
    def signature(self):
        """What decides whether it is traceable; None if that can't be told."""
        parts = [code_signature(self.func)]
        if callable(self.jac):
            parts.append(code_signature(self.jac))
        if None in parts:
            return None
        kinds = tuple(
            code_signature(a) if callable(a) else type(a) for a in jax.tree.leaves(self.args)
        )
        return (tuple(parts), self.x0.size, kinds)


@dataclass(frozen=True)
class Solution:
    """Where a fit ended: parameters, residual and the last factorization.

    Attributes
    ----------
    x : (n,) array
    f : (m,) array
        Residual at x.
    r, perm, qtf : (n, n), (n,), (n,) arrays, or None
        Of the last Jacobian, see `jaxlsq.numerics.factor.Factor`; without terms.
    jac, cost : (m, n) array and scalar, or None
        The Jacobian at x, with its rows weighted by the loss, and the cost; with terms.
    nfev, njev, status : int
    max_nfev : int
        The limit that applied.
    analytic : bool
        Whether the Jacobian came without evaluations of the residual.
    """

    x: np.ndarray
    f: np.ndarray
    nfev: int
    njev: int
    status: int
    max_nfev: int
    analytic: bool
    r: np.ndarray | None = None
    perm: np.ndarray | None = None
    qtf: np.ndarray | None = None
    jac: np.ndarray | None = None
    cost: np.ndarray | None = None


def solve(problem, settings):
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
    with jax.enable_x64(True):
        traced, dtype = _try_trace(problem)
        if traced is None:
            return _solve_on_host(problem, settings)
        return _solve_compiled(problem, settings, traced, dtype)


def _complete(settings, n, analytic, dtype):
    """Options with SciPy's defaults filled in."""
    filled = dict(settings)
    if filled["max_nfev"] <= 0:
        filled["max_nfev"] = (100 if analytic else 200) * (n + 1)
    if filled["epsfcn"] is None:
        filled["epsfcn"] = np.finfo(dtype).eps
    filled["max_nfev"] = np.int32(min(filled["max_nfev"], np.iinfo(np.int32).max))
    return Options(
        **{k: v if k == "max_nfev" else np.asarray(v, np.float64) for k, v in filled.items()}
    )


# --- compiled -----------------------------------------------------------------


def _try_trace(problem):
    """The traced residual (and Jacobian), or None where JAX can't trace it."""
    asked = problem.jac in ("jacfwd", "jacrev")
    if not asked and problem.signature in _UNTRACEABLE:
        return None, None
    dtypes = []
    residual = partial(_residual, problem, dtypes)
    try:
        traced = trace(partial(_with_jacobian, problem, residual), problem.x0)
        cause = None
    except Exception as error:  # the user's code, which may fail on a tracer in any way
        traced, cause = None, error
    # A residual that does not depend on x when traced has hidden it from JAX, in an
    # `except` that catches the tracer's error for example.
    if traced is not None and traced.depends[0]:
        return traced, dtypes[0]
    if asked:
        _residual(problem, [], problem.x0)  # an error of the function's own comes first
        raise TypeError(
            f"Dfun={problem.jac!r} needs a function that JAX can trace, and this one is not: "
            "write it with jax.numpy, or use Dfun=None or '2-point'."
        ) from cause
    return None, None


def _remember_untraceable(problem):
    """To be called once the function has worked in Python: then tracing was what failed."""
    signature = problem.signature
    if signature is not None and len(_UNTRACEABLE) < _UNTRACEABLE_LIMIT:
        _UNTRACEABLE.add(signature)


def _residual(problem, dtypes, x):
    value = problem.func(x, *problem.args)
    if type(value) is np.ndarray and value.dtype == np.float64 and value.ndim == 1:
        dtypes.append(value.dtype)
        return value.copy()  # the function may use its array again
    value = as_residual(value)
    dtypes.append(value.dtype if value.dtype.kind == "f" else np.dtype(np.float64))
    return value.astype(np.float64)


def _with_jacobian(problem, residual, x):
    """What is traced: the residual and, unless by finite differences, its Jacobian."""
    method = problem.jac or "jacfwd"
    if callable(method):
        jac = jnp.asarray(method(x, *problem.args))
        if jnp.iscomplexobj(jac):
            raise TypeError("complex Jacobian")  # told to the user by `_given_jacobian`
        return residual(x), jac.astype(np.float64)
    if EVALUATIONS[method]:
        return (residual(x),)
    derivative = {"jacfwd": jax.jacfwd, "jacrev": jax.jacrev}[method]

    def twice(x):
        f = residual(x)
        return f, f

    jac, f = derivative(twice, has_aux=True)(x)
    return f, jac


@own_settings()
def _solve_compiled(problem, settings, traced, dtype):
    n, m, terms = problem.x0.size, traced.outputs[0].shape[0], problem.terms
    if terms is None:
        check_lengths(n, m)
    if callable(problem.jac):
        shape = np.atleast_2d(np.empty(traced.outputs[1].shape, bool)).shape
        check_jacobian_shape(shape, m, n, problem.col_deriv, _name(problem.jac))
    method = problem.jac if isinstance(problem.jac, str) else "given"
    evaluations = n * EVALUATIONS.get(method, 0)
    options = _complete(settings, n, evaluations == 0, dtype)
    key = traced.key and (traced.key, n, method, problem.col_deriv, jax.tree.structure(terms))
    arguments = (problem.x0, options, terms, traced.arrays, traced.scalars)

    def compile_():
        program = partial(_program, traced, method, problem.col_deriv, evaluations)
        return jax.jit(program, compiler_options=COMPILER_OPTIONS).lower(*arguments).compile()

    out = jax.tree.map(np.asarray, PROGRAMS.get(key, compile_)(*arguments))
    return _solution(out, options, evaluations)


def _program(traced, method, col_deriv, evaluations, x0, options, terms, arrays, scalars):
    """The whole fit, for one structure of a residual."""
    n = x0.shape[0]

    def residual(x):
        return evaluate(traced, [x], arrays, scalars)[0]

    def jacobian(x, f):
        jac = evaluate(traced, [x], arrays, scalars)[1]
        return jac.reshape(n, -1).T if col_deriv else jac.reshape(-1, n)

    if evaluations:
        jacobian = differentiate(residual, method, options.epsfcn, terms and terms.bounds)
    state, f = minimize(residual, jacobian, x0, options, evaluations=evaluations, terms=terms)
    return _result_fields(state, f, jacobian, terms)


def _result_fields(state, f, jacobian, terms):
    point = state.point
    counts = {"nfev": state.nfev, "njev": state.njev, "status": state.status}
    if terms is None:
        factor = point.factor
        last = {"r": factor.r, "perm": factor.perm, "qtf": factor.qtf}
    else:
        last = _jacobian_and_cost(terms, jacobian(point.x, f), f)
    return {"x": point.x, "f": f} | last | counts


@own_settings()
def _jacobian_and_cost(terms, jac, f):
    rows, columns = terms.exact(jac, f)
    return {"jac": jnp.stack(columns, axis=1), "cost": 0.5 * sum_of(rows)}


def _solution(fields, options, evaluations):
    """`_result_fields` as NumPy arrays that the caller may change, and Python integers."""
    fields = {k: np.asarray(v) for k, v in fields.items()}
    own = {k: v.copy() if v.dtype.kind == "f" or v.ndim else int(v) for k, v in fields.items()}
    return Solution(**own, max_nfev=int(options.max_nfev), analytic=evaluations == 0)


# --- on the host --------------------------------------------------------------


def _solve_on_host(problem, settings):
    n = problem.x0.size
    method = problem.jac or "2-point"
    dtypes = []
    f0 = _residual(problem, dtypes, problem.x0.copy())
    _remember_untraceable(problem)
    m = f0.size
    terms = problem.terms
    if terms is None:
        check_lengths(n, m)

    def residual(x):
        f = _residual(problem, [], x)
        if f.size != m:
            raise ValueError(
                f"The array returned by func changed size between calls: {m} residuals at x0, "
                f"now {f.size}."
            )
        return f

    evaluations = 0 if callable(method) else n * EVALUATIONS[method]
    options = _complete(settings, n, evaluations == 0, dtypes[0])
    if callable(method):
        jacobian = partial(_given_jacobian, problem, m)
        jacobian(problem.x0.copy(), f0)  # its errors come before the first compile
    else:
        bounds = terms and tuple(map(np.asarray, terms.bounds))
        jacobian = partial(_difference, residual, method, float(options.epsfcn), bounds)
    begin = problem.x0, f0
    state, f = minimize_on_host(residual, jacobian, begin, options, evaluations, terms)
    return _solution(_result_fields(state, f, jacobian, terms), options, evaluations)


def _given_jacobian(problem, m, x, f):
    jac = np.asarray(problem.jac(x, *problem.args))
    if jac.dtype.kind not in "fiub":
        raise TypeError(
            f"{_name(problem.jac)} must return an array of real numbers, got dtype {jac.dtype}."
        )
    jac = np.atleast_2d(jac)
    check_jacobian_shape(jac.shape, m, x.size, problem.col_deriv, _name(problem.jac))
    return jac.T if problem.col_deriv else jac


def _difference(residual, method, epsfcn, bounds, x, f):
    """`jaxlsq.numerics.jacobian`'s finite differences, an evaluation at a time."""
    epsfcn = max(epsfcn, np.finfo(np.float64).eps)
    central = method == "3-point"
    h = forward_step(x, np.cbrt(epsfcn) if central else np.sqrt(epsfcn), np)
    jac = np.empty((x.size, f.size)).T  # columns are contiguous
    infinite = np.full(x.size, -np.inf), np.full(x.size, np.inf)
    ahead, behind = inside(x, h, bounds or infinite, central, np)
    for j in range(x.size):
        other = residual(_moved(x, j, behind[j])) if central else f
        # MINPACK's quotient has the step itself, unless a bound changed it.
        run = h[j] if ahead[j] == x[j] + h[j] and not central else ahead[j] - behind[j]
        jac[:, j] = (residual(_moved(x, j, ahead[j])) - other) / (run or 1.0)
    return jac


def _moved(x, j, value):
    x = x.copy()
    x[j] = value
    return x


def _name(function):
    return getattr(function, "__name__", type(function).__name__)
