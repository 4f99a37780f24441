"""One fit as a compiled program, for functions that JAX can trace."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxlsq.numerics.jacobian import EVALUATIONS, differentiate
from jaxlsq.numerics.loss import Robust
from jaxlsq.numerics.minimize import minimize
from jaxlsq.numerics.repair import repaired
from jaxlsq.problem.checks import check_jacobian_shape, check_lengths
from jaxlsq.single.agreement import agrees, moved_start
from jaxlsq.single.layout import Form, StateLayout, pack_state, packed_start
from jaxlsq.single.problem import (
    Problem,
    Solution,
    complete_options,
    name_of,
    result_fields,
    solution_of,
)
from jaxlsq.single.tried import residual_of
from jaxlsq.status import Status
from jaxlsq.tracing.cache import PROGRAMS, Memory, program_key
from jaxlsq.tracing.compiler import COMPILER_OPTIONS
from jaxlsq.tracing.settings import own_settings
from jaxlsq.tracing.trace import Traced, evaluate

__all__ = ["solve_compiled"]


@dataclass(frozen=True)
class _Static:
    """What a program of one fit is made of, beside the numbers that it is given."""

    traced: Traced
    loss: tuple[Traced, float] | None  # traced, and its least curvature
    method: str
    col_deriv: bool
    evaluations: int

    @property
    def derived(self):
        """Whether the Jacobian is derived from the traced residual."""
        return not self.evaluations and len(self.traced.outputs) == 1


# Why a function is left to the host.
NO_DERIVATIVE = (
    "a derivative that JAX does not have for this function; use Dfun='2-point', or the other of "
    "'jacfwd' and 'jacrev'."
)
HIDDEN = (
    "a function that JAX sees all of, and this one has other values in Python than when it is "
    "traced (is there a float() of a parameter in a try, or a counter?): write it with jax.numpy, "
    "or use Dfun=None or '2-point'."
)

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
    pace: _Pace = field(default_factory=_Pace)


@own_settings()
def solve_compiled(problem: Problem, settings: dict[str, Any], tried: Any) -> Solution | None:
    """The `Solution`, or None where it has to be found on the host."""
    n, terms, traced = problem.x0.size, problem.terms, tried.traced
    m = traced.outputs[0].shape[0]
    if terms is None:
        check_lengths(n, m)
    if callable(problem.jac):
        shape = np.atleast_2d(np.empty(traced.outputs[1].shape, bool)).shape
        check_jacobian_shape(shape, m, n, problem.col_deriv, name_of(problem.jac))
    method = problem.jac if isinstance(problem.jac, str) else "given" if problem.jac else "jacfwd"
    evaluations = n * EVALUATIONS.get(method, 0)
    options = complete_options(settings, n, evaluations == 0, tried.dtype)
    data = traced.data, tried.loss and tried.loss.data
    loss = None
    if tried.loss and terms is not None and isinstance(terms.loss, Robust):
        loss, terms = (tried.loss, terms.loss.least), replace(terms, loss=None)
    static = _Static(traced, loss, method, problem.col_deriv, evaluations)
    with jax.enable_x64(True):
        begin = packed_start(problem.x0, Form(n, terms is not None)), np.zeros(m)
        program = _compiled(static, (*begin, options, terms, data, np.int32(1)))
        if program.run is None:
            return _for_the_host(problem, NO_DERIVATIVE)

        def solution_from(x0, rounds=None):
            begin = packed_start(x0, Form(n, terms is not None)), np.zeros(m)
            rest = options, terms, data
            if rounds is None:
                fields = _in_calls(program, begin, rest)
            else:
                fields, _ = program.run(*begin, *rest, rounds)
            return solution_of(fields, options, evaluations)

        solution = _certain(problem, tried, program.agreed, solution_from)
        return solution or _for_the_host(problem, HIDDEN)


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


def _certain(problem, tried, agreed, solution_from):
    """The solution, or None where the function is another one in Python."""
    key, scale = tried.signature.key, 0.0
    whole = agreed.find(key)
    residual = partial(residual_of, problem, [])
    if whole is None:
        # The first round stays at the start: where a step leads, all may be rounding.
        first = solution_from(moved_start(problem), np.int32(1))
        scale = float(np.max(np.abs(first.f), initial=0.0, where=np.isfinite(first.f)))
        agreed.put(key, agrees(first, residual, tried.dtype))
    if not agreed.find(key, True):
        return None
    solution = solution_from(problem.x0)
    if whole is None and not agrees(solution, residual, tried.dtype, scale):
        agreed.put(key, False)
        return None
    return solution


def _for_the_host(problem, why):
    """None, for the host's differences, unless JAX's derivative was asked for."""
    if problem.jac not in ("jacfwd", "jacrev"):
        return None
    raise TypeError(f"Dfun={problem.jac!r} needs {why}")


def _compiled(static, arguments):
    """The `_Compiled` program of what is static, from the cache where there is one."""
    statics = static.method, static.col_deriv, static.evaluations, static.loss and static.loss[1]
    traced = (static.traced, static.loss[0]) if static.loss else (static.traced,)
    key = program_key(traced, "single", statics, arguments, COMPILER_OPTIONS)

    def compile_():
        if static.derived and not _has_derivative(static, *arguments):
            return _Compiled(None)
        program = jax.jit(partial(_program, static), compiler_options=COMPILER_OPTIONS)
        return _Compiled(program.lower(*arguments).compile())

    return PROGRAMS.get(key, compile_)


def _has_derivative(static, packed, f, options, terms, data, rounds):
    """Whether JAX has a rule for each of a function's equations."""

    def jacobian(x, arrays):
        fun = lambda x: evaluate(static.traced, [x], *arrays)[0]  # noqa: E731
        return differentiate(fun, static.method, 0.0)(x, None)

    try:
        jax.eval_shape(jacobian, options.diag, data[0])
    except (NotImplementedError, TypeError, ValueError):  # JAX's, for want of a rule
        return False
    return True


def _program(static, packed, f, options, terms, data, rounds):
    """A fit, or the next rounds of it, for one structure of a residual."""
    n, (arrays, loss_data), traced = options.diag.shape[0], data, static.traced
    state = StateLayout.of(Form(n, terms is not None)).unpack(*packed)
    if static.loss:
        loss, least = static.loss
        terms = replace(terms, loss=Robust(lambda z: evaluate(loss, [z], *loss_data), least))

    def residual(x):
        return evaluate(traced, [x], *arrays)[0]

    if static.evaluations:
        bounds = terms and terms.bounds
        jacobian = differentiate(residual, static.method, options.epsfcn, bounds)
    elif static.derived:
        jacobian = differentiate(residual, static.method, options.epsfcn)
    else:

        def jacobian(x, f):
            jac = evaluate(traced, [x], *arrays)[1]
            return jac.reshape(n, -1).T if static.col_deriv else jac.reshape(-1, n)

    how = {"evaluations": static.evaluations, "terms": terms, "rounds": rounds}
    state, f = minimize(residual, jacobian, (state, f), options, **how)

    def finite_jacobian(x, f):
        return repaired(residual, x, f, jacobian(x, f), terms.bounds)[0]

    last = jacobian if static.evaluations else finite_jacobian
    return result_fields(state, f, terms, last), pack_state(state)
