"""One problem of `least_squares`, solved by a program that is kept for others of its structure.

The user's function is traced once.  What it reads becomes an argument of one `jax.jit`, which
takes a start to a result, is remembered by the function's structure, and is differentiated and
vectorized by JAX like any other: called outside of any `jit` too, it is one program and not a
hundred small ones.  A function with derivative rules of its own has more to it than its
structure says, and is solved without.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxlsq.lowering.engine import chosen
from jaxlsq.numerics.bounds import Bounds, blocked
from jaxlsq.numerics.loss import sum_of, summands, weighted
from jaxlsq.numerics.state import Options
from jaxlsq.problem.losses import traced_loss
from jaxlsq.problem.mistakes import brief_errors
from jaxlsq.problem.parameters import Layout
from jaxlsq.results.solution import LeastSquaresResult
from jaxlsq.status import Status, converged
from jaxlsq.tracing.cache import PROGRAMS, Memory, program_key, remembering
from jaxlsq.tracing.compiler import POOL_OPTIONS
from jaxlsq.tracing.concrete import are_concrete
from jaxlsq.tracing.fast import convolves, with_fast_convolutions
from jaxlsq.tracing.fingerprint import trace_key
from jaxlsq.tracing.settings import own_settings
from jaxlsq.tracing.structure import has_own_derivatives
from jaxlsq.tracing.trace import Traced, evaluate, trace, with_fixed_literals
from jaxlsq.tracing.varying import alike, axes_of
from jaxlsq.transforms.functions import Functions, typed
from jaxlsq.transforms.grad import Rule, with_derivatives
from jaxlsq.transforms.history import with_history
from jaxlsq.transforms.repair import repaired_solution
from jaxlsq.transforms.vmap import solver

__all__ = ["Begin", "Form", "solved"]

# The user's functions as they were traced, by all that decides it.
_SEEN = remembering(Memory(size=64))


@dataclass(frozen=True)
class Form:
    """What of a problem is in its program.

    Attributes
    ----------
    layout : Layout
        Of the parameters.
    dtypes : tuple
        Of their leaves.
    length : int
        Points of the history, 0 for none.
    rule : Rule
        How the solution is differentiated, and the loss.
    """

    layout: Layout
    dtypes: tuple[Any, ...]
    length: int
    rule: Rule


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Begin:
    """What of a problem are numbers, besides what its functions read.

    Attributes
    ----------
    x0 : list of arrays
        Leaves of the starting parameters.
    bounds : Bounds or None
    scale : array or None
        What the loss needs.
    options : Options
        In the type of the computation.
    """

    x0: list[Any]
    bounds: Bounds | None
    scale: jax.Array | None
    options: Options

    @property
    def scalars(self) -> list[Any]:
        """Examples of n parameters: their shapes and types, and over what they vary."""
        diag, axes = self.options.diag, axes_of(self.x0)
        if axes:
            return alike([jnp.zeros((), diag.dtype)] * len(diag), axes)
        return [jax.ShapeDtypeStruct((), diag.dtype)] * len(diag)


def solved(form: Form, functions: Functions, begin: Begin) -> LeastSquaresResult:
    """The `LeastSquaresResult` of a problem.

    Parameters
    ----------
    form : Form
    functions : Functions
    begin : Begin

    Raises
    ------
    ValueError
        For fewer residuals than parameters, none of which can be fixed.
    """
    with brief_errors:
        return _solved(form, functions, begin)


def _solved(form, functions, begin):
    place = None
    if not axes_of(begin):
        what = functions.given, form.layout, form.rule.loss
        place = trace_key(what, begin.scalars)
    seen = None if place is None else _SEEN.find(place)
    parts = seen and seen.alive
    if parts is None:
        functions, residual = _traced(functions, begin.scalars)
        begin = alike(begin, axes_of((begin, residual.arrays)))
        _check_length(form, residual, begin)
        parts = _Parts.of(form, functions, residual, begin.scalars)
        if place is not None and parts is not None:
            _SEEN.put(place, parts.kept(place))
    else:
        _check_length(form, parts.residual, begin)
    with own_settings():
        if parts is None:
            return _solution(form, functions, begin)
        parts = parts.with_fixed_literals
        begin, data = alike((begin, parts.data))
        robust = form.rule.loss
        if parts.loss and robust:
            # It is among the parts, and nothing else may hold what it closes over.
            rule = replace(form.rule, loss=replace(robust, rho=None))
            form = replace(form, rule=rule)
        options = POOL_OPTIONS if are_concrete((begin, data)) else {}
        key = parts.key(form, options.get("compiler_options"))
        bare = parts.without_data()
        program = PROGRAMS.get(
            key, lambda: jax.jit(partial(_program, form, bare), inline=True, **options)
        )
        return program(begin, data)


def _check_length(form, residual, begin):
    n, m = form.layout.n, residual.outputs[0].shape[0]
    if m < n and begin.bounds is None:
        raise ValueError(
            f"fun returns {m} residuals, fewer than the {n} parameters; at least as many are "
            "needed."
        )


def _traced(functions, scalars):
    """The functions, with convolutions that `vmap` would make slow replaced; and the residual."""
    residual = trace(lambda *xs: (functions.residual(*xs),), *scalars)
    if not convolves(residual.jaxpr):
        return functions, residual
    fast = replace(functions, residual=with_fast_convolutions(functions.residual))
    return fast, trace(lambda *xs: (fast.residual(*xs),), *scalars)


@dataclass(frozen=True)
class _Parts:
    """The user's functions, each traced: the residual, and a Jacobian and a loss if given."""

    residual: Traced
    jac: str | Traced
    loss: Traced | None

    @classmethod
    def of(cls, form, functions, residual, scalars):
        """None where a function is more than its structure says."""
        jac = functions.jac
        if callable(jac):
            jac = trace(lambda *xs: (functions.jac(*xs),), *scalars)
        loss = traced_loss(form.rule.loss, residual.outputs[0])
        parts = cls(residual, jac, loss)
        if any(p.key is None or has_own_derivatives(p.jaxpr) for p in parts._some.values()):
            return None
        return parts

    @property
    def with_fixed_literals(self):
        """The same with those numbers as data that have had more than one value."""
        return self._each(with_fixed_literals)

    def _each(self, change):
        parts = {k: change(v) if isinstance(v, Traced) else v for k, v in vars(self).items()}
        return _Parts(**parts)

    @property
    def _some(self):
        return {k: v for k, v in vars(self).items() if isinstance(v, Traced)}

    def kept(self, place):
        """`Traced.kept` of each."""
        return self._each(lambda part: part.kept(place))

    @property
    def alive(self):
        """`Traced.alive` of each; None if one is None."""
        parts = self._each(lambda part: part.alive)
        return parts if len(parts._some) == len(self._some) else None

    @property
    def data(self):
        """What each of them reads, by name."""
        return {name: part.data for name, part in self._some.items()}

    def without_data(self):
        """The same without the arrays, which may be tracers: a program outlives a trace."""
        return self._each(lambda part: replace(part, arrays=()))

    def key(self, form, options):
        """Of the program."""
        method = self.jac if isinstance(self.jac, str) else "given"
        statics = form, method, chosen()
        return program_key(tuple(self._some.values()), "least_squares", statics, (), options)

    def functions(self, data):
        """Residual, Jacobian and loss of other data; the loss None unless it was traced."""

        def of(name, part):
            return lambda *xs: evaluate(part, xs, *data[name])

        def first(name, part):
            return lambda *xs: evaluate(part, xs, *data[name])[0]

        jac = first("jac", self.jac) if isinstance(self.jac, Traced) else self.jac
        loss = of("loss", self.loss) if self.loss else None
        return Functions(first("residual", self.residual), jac), loss


def _program(form, parts, begin, data):
    """The result, as a function of numbers alone."""
    functions, loss = parts.functions(data)
    if loss:
        rule = replace(form.rule, loss=replace(form.rule.loss, rho=lambda z: tuple(loss(z))))
        form = replace(form, rule=rule)
    return _solution(form, functions, begin)


def _solution(form, functions, begin):
    """The result: solved by the pool, differentiated by the rule."""
    bounds, rule, n = begin.bounds, form.rule, form.layout.n
    functions = replace(functions, bounds=bounds)
    dtype = begin.options.diag.dtype
    start = jnp.concatenate([leaf.reshape(-1).astype(dtype) for leaf in begin.x0])
    start = start if bounds is None else jnp.clip(start, *bounds)

    def lane(*xs):
        f, columns = functions.linear(*xs)
        return summands(rule.loss, f, columns, begin.scale)

    def with_scale(*xs):
        f = functions.residual(*xs)
        return (f,) if rule.loss is None else (f, begin.scale)

    traced = with_fixed_literals(trace(lane, *begin.scalars))
    bare, evaluations = replace(traced, arrays=()), n * functions.differences
    if form.length:
        solve = with_history(bare, evaluations, form.length)
    else:
        solve = solver(bare, evaluations)
    fixed = start, traced.flat_data, begin.options
    x, counts = with_derivatives(solve, with_scale, fixed, bounds, rule)
    return _result(form, functions, begin, x, counts)


def _result(form, functions, begin, x, counts):
    """Residual and Jacobian at the solution, outside of the solver: derivatives see them."""
    n, bounds, loss = form.layout.n, begin.bounds, form.rule.loss
    f, columns = functions.linear(*(x[j] for j in range(n)))
    if not functions.differences:
        jac = jnp.stack(columns, axis=1)
        columns = tuple(repaired_solution(functions.residual, x, f, jac, bounds).T)
    rows, columns = weighted(loss and loss.exact, f, columns, begin.scale)
    jac = jnp.stack(columns, axis=1)
    grad = jnp.matmul(jac.T, rows[0], precision="highest")
    active, held, free = jnp.zeros(n, jnp.int32), jnp.zeros(n, bool), jnp.int32(n)
    if bounds is not None:
        lower, upper = bounds
        active = jnp.where(x <= lower, -1, jnp.where(x >= upper, 1, 0)).astype(jnp.int32)
        held, free = blocked(x, grad, bounds), jnp.sum(lower < upper, dtype=jnp.int32)

    def as_given(x):
        return typed(form.layout.unpack(x), form.dtypes)

    history = counts.pop("history", None)
    # Without a weak type, with which the next step of a loop would compile anew.
    counts = {name: count.astype(jnp.int32) for name, count in counts.items()}
    cost, status = 0.5 * sum_of(rows), counts["status"]
    success = converged(status)
    status = jnp.where(success & ~jnp.isfinite(cost), jnp.int32(Status.NONFINITE_COST), status)
    return LeastSquaresResult(
        x=as_given(x),
        cost=cost,
        fun=f,
        jac=jac,
        grad=grad,
        optimality=jnp.max(jnp.where(held, 0.0, jnp.abs(grad))),
        active_mask=active,
        dof=f.shape[0] - free,
        nfev=counts["nfev"],
        njev=counts["njev"],
        status=status,
        success=success & jnp.isfinite(cost),
        history=history and replace(history, x=as_given(history.x)),
    )
