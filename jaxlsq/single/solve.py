"""One fit from the host: compiled whole where the function is traceable, else in Python."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.numerics.jacobian import EVALUATIONS, differentiate, repaired, repaired_on_host
from jaxlsq.numerics.loss import Robust, sum_of
from jaxlsq.numerics.minimize import Terms, minimize
from jaxlsq.numerics.state import Options
from jaxlsq.numerics.types import AnyArray
from jaxlsq.problem.checks import as_jacobian, check_jacobian_shape, check_lengths
from jaxlsq.single.agreement import agrees, moved_start
from jaxlsq.single.differences import EVALUATIONS as EVALUATIONS_ON_HOST
from jaxlsq.single.differences import ComplexStep, Differences
from jaxlsq.single.host_loop import (
    OwnSettings,
    StateLayout,
    minimize_on_host,
    pack_state,
    packed_start,
)
from jaxlsq.single.tried import (
    in_float64,
    remember_untraceable,
    residual_of,
    try_trace,
)
from jaxlsq.status import Status
from jaxlsq.tracing.cache import PROGRAMS, Memory, program_key
from jaxlsq.tracing.compiler import COMPILER_OPTIONS
from jaxlsq.tracing.concrete import check_concrete
from jaxlsq.tracing.forked import check_not_forked
from jaxlsq.tracing.settings import own_settings
from jaxlsq.tracing.signature import Signature
from jaxlsq.tracing.trace import Traced, evaluate

__all__ = ["Problem", "Solution", "solve"]


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

    func: Callable[..., Any]
    x0: np.ndarray
    args: tuple[Any, ...]
    jac: str | Callable[..., Any] | None
    col_deriv: bool
    terms: Terms | None = None

    @property
    def signature(self) -> Signature:
        """What decides whether it is traceable."""
        return Signature(self.func, self.jac, self.args)


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
    r: AnyArray = None
    perm: AnyArray = None
    qtf: AnyArray = None
    jac: AnyArray = None
    cost: AnyArray = None


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
    check_not_forked()
    tried = try_trace(problem)
    if tried.traced:
        check_concrete("leastsq or curve_fit", tried.traced.arrays)
    solution = tried.traced and _solve_compiled(problem, settings, tried)
    return solution or _solve_on_host(problem, settings, tried)


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


@dataclass(frozen=True)
class _Form:
    """What a program of one fit is made of."""

    traced: Traced
    loss: tuple[Traced, float] | None  # traced, and its least curvature
    method: str
    col_deriv: bool
    evaluations: int

    @property
    def derived(self):
        """Whether the Jacobian is derived from the traced residual."""
        return not self.evaluations and len(self.traced.outputs) == 1


# Longest time of a call, about: a signal is answered by Python, after it.
CALL_S = 0.15


class _Pace:
    """How many rounds a program may work in one call, by how long the last ones took."""

    def __init__(self):
        self.rounds = 1

    def measure(self, rounds, time_s):
        """Take in that so many rounds took so long."""
        self.rounds = int(np.clip(rounds * CALL_S / max(time_s, 1e-6), 1, 64 * rounds))


@dataclass(frozen=True)
class _Compiled:
    """A program of one fit.

    Attributes
    ----------
    run : callable or None
        Compiled; None where JAX has no derivative of the function.
    agreed : Memory
        Signatures of functions, and whether the program is what they are in Python.
    """

    run: Callable[..., Any] | None
    agreed: Memory = field(default_factory=lambda: Memory(size=64))
    pace: "_Pace" = field(default_factory=lambda: _Pace())


@own_settings()
def _solve_compiled(problem, settings, tried):
    """The `Solution`, or None where it has to be found on the host."""
    n, terms, traced = problem.x0.size, problem.terms, tried.traced
    m = traced.outputs[0].shape[0]
    if terms is None:
        check_lengths(n, m)
    if callable(problem.jac):
        shape = np.atleast_2d(np.empty(traced.outputs[1].shape, bool)).shape
        check_jacobian_shape(shape, m, n, problem.col_deriv, _name(problem.jac))
    method = problem.jac if isinstance(problem.jac, str) else "given" if problem.jac else "jacfwd"
    evaluations = n * EVALUATIONS.get(method, 0)
    options = _complete(settings, n, evaluations == 0, tried.dtype)
    data = traced.data, tried.loss and tried.loss.data
    loss = None
    if tried.loss and terms is not None and isinstance(terms.loss, Robust):
        loss, terms = (tried.loss, terms.loss.least), replace(terms, loss=None)
    form = _Form(traced, loss, method, problem.col_deriv, evaluations)
    with jax.enable_x64(True):
        begin = packed_start(problem.x0, (n, terms is not None)), np.zeros(m)
        program = _compiled(form, (*begin, options, terms, data, np.int32(1)))
        if program.run is None:
            return _no_derivative(problem)

        def solution_from(x0, options=options):
            begin = packed_start(x0, (n, terms is not None)), np.zeros(m)
            fields = _in_calls(program, begin, (options, terms, data))
            return _solution(fields, options, evaluations)

        return _certain(problem, tried, program.agreed, solution_from, options)


def _in_calls(program, begin, rest):
    """The fields of a `Solution`, after calls of about `CALL_S`: between two, Ctrl-C is heard."""
    while True:
        rounds, start = program.pace.rounds, time.perf_counter()
        fields, packed = program.run(*begin, *rest, np.int32(rounds))
        fields = {name: np.asarray(value) for name, value in fields.items()}
        if fields["status"] != Status.RUNNING:
            return fields
        program.pace.measure(rounds, time.perf_counter() - start)
        begin = packed, fields["f"]


def _certain(problem, tried, agreed, solution_from, options):
    """The solution, or None where the function is another one in Python."""
    key, scale = tried.signature.key, 0.0
    whole = agreed.find(key)
    residual = partial(residual_of, problem, [])
    if whole is None:
        first = solution_from(moved_start(problem), replace(options, max_nfev=np.int32(1)))
        scale = float(np.max(np.abs(first.f), initial=0.0, where=np.isfinite(first.f)))
        agreed.put(key, agrees(first, residual, tried.dtype))
    if not agreed.find(key, True):
        return None
    solution = solution_from(problem.x0)
    if whole is None and not agrees(solution, residual, tried.dtype, scale):
        agreed.put(key, False)
        return None
    return solution


def _no_derivative(problem):
    """None, for the host's differences, unless the derivative was asked for."""
    if problem.jac in (None, "cs"):
        return None
    raise TypeError(
        f"Dfun={problem.jac!r} needs a derivative that JAX does not have for this function; "
        "use Dfun='2-point', or the other of 'jacfwd' and 'jacrev'."
    )


def _compiled(form, arguments):
    """The `_Compiled` program of a form, from the cache where there is one."""
    statics = form.method, form.col_deriv, form.evaluations, form.loss and form.loss[1]
    traced = (form.traced, form.loss[0]) if form.loss else (form.traced,)
    key = program_key(traced, "single", statics, arguments, COMPILER_OPTIONS)

    def compile_():
        if form.derived and not _has_derivative(form, *arguments):
            return _Compiled(None)
        program = jax.jit(partial(_program, form), compiler_options=COMPILER_OPTIONS)
        return _Compiled(program.lower(*arguments).compile())

    return PROGRAMS.get(key, compile_)


def _has_derivative(form, packed, f, options, terms, data, rounds):
    """Whether JAX has a rule for each of a function's equations."""

    def jacobian(x, arrays):
        fun = lambda x: evaluate(form.traced, [x], *arrays)[0]  # noqa: E731
        return differentiate(fun, form.method, 0.0)(x, None)

    try:
        jax.eval_shape(jacobian, options.diag, data[0])
    except (NotImplementedError, TypeError, ValueError):  # JAX's, for want of a rule
        return False
    return True


def _program(form, packed, f, options, terms, data, rounds):
    """A fit, or the next rounds of it, for one structure of a residual."""
    n, (arrays, loss_data), traced = options.diag.shape[0], data, form.traced
    state = StateLayout.of((n, terms is not None)).unpack(*packed)
    if form.loss:
        loss, least = form.loss
        terms = replace(terms, loss=Robust(lambda z: evaluate(loss, [z], *loss_data), least))

    def residual(x):
        return evaluate(traced, [x], *arrays)[0]

    if form.evaluations:
        bounds = terms and terms.bounds
        jacobian = differentiate(residual, form.method, options.epsfcn, bounds)
    elif form.derived:
        jacobian = differentiate(residual, form.method, options.epsfcn)
    else:

        def jacobian(x, f):
            jac = evaluate(traced, [x], *arrays)[1]
            return jac.reshape(n, -1).T if form.col_deriv else jac.reshape(-1, n)

    how = {"evaluations": form.evaluations, "terms": terms, "rounds": rounds}
    state, f = minimize(residual, jacobian, (state, f), options, **how)

    def finite_jacobian(x, f):
        return repaired(residual, x, f, jacobian(x, f), terms.bounds)[0]

    last = jacobian if form.evaluations else finite_jacobian
    return _result_fields(state, f, last, terms), pack_state(state)


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
    own: dict[str, Any] = {
        k: v.copy() if v.dtype.kind == "f" or v.ndim else int(v) for k, v in fields.items()
    }
    return Solution(**own, max_nfev=int(options.max_nfev), analytic=evaluations == 0)


# --- on the host --------------------------------------------------------------


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
    options = _complete(settings, n, evaluations == 0, dtypes[0])
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
    last = None
    if terms is not None:
        x = np.array(state.point.x)
        last = np.asarray(jacobian(x.copy(), f))
        if not evaluations:
            last, _ = repaired_on_host(residual, x, f, last, terms.bounds)
    with OwnSettings():
        fields = _result_fields(state, f, lambda x, f: last, terms)
        return _solution(fields, options, evaluations)


def _given_jacobian(problem, m, x, f):
    jac = np.atleast_2d(np.asarray(as_jacobian(problem.jac(x, *problem.args), _name(problem.jac))))
    check_jacobian_shape(jac.shape, m, x.size, problem.col_deriv, _name(problem.jac))
    return jac.T if problem.col_deriv else jac


def _name(function):
    return getattr(function, "__name__", type(function).__name__)
