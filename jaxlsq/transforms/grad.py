r"""Derivatives of a solution, by the implicit function theorem.

A solution x of :math:`g(x, c) = J(x, c)^T r(x, c) = 0` moves with the data c as

.. math:: \frac{dx}{dc} = - H^{-1} \frac{\partial g}{\partial c}, \quad
          H = \frac{\partial g}{\partial x} = J^T J + \sum_i r_i \nabla^2 r_i .

The iteration is not differentiated.  Gauss-Newton's derivative leaves the second derivatives of
r out, of H and of g: it is exact where r is zero, or where J depends on neither x nor c.

With a loss, r in J'r is the slope of the loss.  A parameter at a bound moves with the bound, and
the others as if it were given: by the rows and columns of H that are theirs.

Source: A. Griewank, A. Walther, "Evaluating Derivatives", SIAM 2008, chapter 15.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.jacobian import linearized
from jaxlsq.numerics.loss import Robust
from jaxlsq.numerics.state import Options
from jaxlsq.numerics.sweep import symmetric_inverse
from jaxlsq.status import Status
from jaxlsq.tracing.branches import selecting
from jaxlsq.tracing.hoisted import Hoisted
from jaxlsq.tracing.settings import own_settings
from jaxlsq.tracing.varying import alike, axes_of

__all__ = ["HESSIANS", "POLICIES", "Rule", "with_derivatives"]

HESSIANS = ("full", "gauss-newton")
POLICIES = ("zero", "nan", "pinv")

# JAX has no reverse mode for a loop whose turns it can't count beforehand.
_LOOP = (
    "The derivative of a solution takes fun's in reverse mode, which JAX has none of for "
    "lax.while_loop, or lax.fori_loop with computed ends. Write the loop as a lax.scan; or take "
    "jax.jvp or jax.jacfwd with hessian='gauss-newton', which need forward mode only."
)


@dataclass(frozen=True)
class Rule:
    """How a solution is differentiated.

    Attributes
    ----------
    hessian : {'full', 'gauss-newton'}
    on_singular : {'zero', 'nan', 'pinv'}
        The derivative of a fit that failed, or whose Hessian is not positive definite: zero;
        NaN; or, for a singular Hessian, that of the directions which are determined.
    loss : Robust or None
        Of `jaxlsq.numerics.loss`.
    """

    hessian: str = "full"
    on_singular: str = "zero"
    loss: Robust | None = None

    def slopes(self, f: jax.Array, *scale: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The derivatives of half the loss by the residual: the first, and the curvature.

        Both exact, and the curvature 1 without a loss.
        """
        if self.loss is None:
            return f, jnp.ones((), f.dtype)
        return self.loss.slope(f, *scale), self.loss.exact(f, *scale).curvature


@dataclass(frozen=True)
class _Problem:
    """The residual and the slope of its loss, as functions of all that they close over."""

    residual: Hoisted
    slopes: Hoisted

    @classmethod
    def of(cls, residual, rule, xs):
        """From ``residual(*xs) -> f (m,)``, or with a loss ``f, scale``; and the constants."""
        residual, own = Hoisted.of(residual, *xs, equation=selecting)
        slopes, of_loss = Hoisted.of(rule.slopes, *residual.outputs, equation=selecting)
        return cls(residual, slopes), (own, of_loss)

    def values(self, xs, constants):
        """The residual, and with a loss its scale."""
        return self.residual(constants[0], *xs)

    def slope(self, outputs, constants):
        """The derivative of half the loss by the residual."""
        return self.slopes(constants[1], *outputs)[0]

    def curvature(self, outputs, constants):
        """What weighs the rows of the Jacobian in Gauss-Newton's matrix."""
        return self.slopes(constants[1], *outputs)[1]


def with_derivatives(
    solve: Callable[..., Any],
    residual: Callable[..., Any],
    begin: tuple[jax.Array, Any, Options],
    bounds: Bounds | None,
    rule: Rule,
) -> tuple[jax.Array, dict[str, Any]]:
    """``solve(*begin, bounds)``, with the derivatives of what it solves.

    Parameters
    ----------
    solve : callable
        ``solve(x0, data, options, bounds) -> x, counts``, where ``counts["status"]`` says how it
        ended; a function of its arguments alone.
    residual : callable
        ``residual(*xs) -> f (m,)`` of n scalars, or with a loss ``f, scale``; derivatives are
        with respect to what it and the rule's loss close over.
    begin : (x0, data, options)
        (n,) array, what the solver reads of the same closure, and `Options`: of all these there
        is no derivative.
    bounds : Bounds or None
    rule : Rule

    Returns
    -------
    x : (n,) array
    counts : dict
        What else `solve` returns, with derivatives of zero.
    """
    problem, constants = _Problem.of(residual, rule, _scalars(begin[0]))

    @jax.custom_jvp
    def solution(begin, bounds, constants):
        return solve(*begin, bounds)

    @solution.defjvp
    @own_settings()
    def derivative(primals, tangents):
        x, counts = solution(*primals)
        changes = [(primals[k], tangents[k]) for k in (2, 1)]
        moved_x = _moved(problem, x, counts["status"], changes, rule)
        still = jax.tree.map(_no_tangent, counts)
        return (x, counts), (moved_x, still)

    return solution(jax.tree.map(jax.lax.stop_gradient, begin), bounds, constants)


def _moved(problem, x, status, changes, rule):
    """The tangent of x for tangents of the data, and of the bounds."""
    (constants, tangents), (bounds, moved_bounds) = changes
    settled = (status >= Status.FTOL) & (status != Status.MAX_NFEV)
    if rule.on_singular == "pinv":
        settled = settled | (status == Status.SINGULAR_JACOBIAN)
    moves = _gradient_moves if rule.hessian == "full" else _gauss_newton_moves
    hessian, along = moves(problem, _scalars(x), constants)
    held = jnp.zeros(x.shape, bool) if bounds is None else (x <= bounds[0]) | (x >= bounds[1])
    eye = jnp.eye(x.shape[0], dtype=x.dtype)
    free = jnp.where(held[:, None] | held[None, :], eye, hessian)
    inverse, usable = _inverse(jax.lax.stop_gradient(free), rule)
    good = settled & usable
    spread = rule.on_singular == "nan"
    if not spread:
        # Selected here and at the end: a NaN comes through in neither mode, nor as 0 * NaN.
        tangents, moved_bounds = jax.tree.map(lambda t: _or_zero(good, t), (tangents, moved_bounds))
    moved = along(tangents)
    if bounds is not None:  # those that are held move with their bounds, as if they were given
        shift = jnp.where(x <= bounds[0], *moved_bounds)
        shift = jnp.where(held, shift, jnp.zeros_like(shift))
        moved = jnp.where(held, -shift, moved + _times(hessian, shift))
    free, inverse = jnp.where(good, free, eye), jnp.where(good, inverse, eye)

    def solve(matvec, b):
        first = _times(inverse, b)
        return first + _times(inverse, b - matvec(first))

    step = jax.lax.custom_linear_solve(lambda v: _times(free, v), moved, solve, symmetric=True)
    # A product, unlike a selection, hands NaN on in reverse mode too.
    return -step * jnp.where(good, 1.0, jnp.nan) if spread else _or_zero(good, -step)


def _no_tangent(v):
    real = jnp.issubdtype(v.dtype, jnp.floating)
    if real:
        return jnp.zeros_like(v)
    return alike(np.zeros(v.shape, jax.dtypes.float0), axes_of(v))


def _times(a, b):
    """A product in full precision, which GPUs do not take by default."""
    return jnp.matmul(a, b, precision="highest")


def _scalars(x):
    return tuple(x[j] for j in range(x.shape[0]))


def _gradient_moves(problem, xs, constants):
    """The gradient's derivatives: by the parameters, and along tangents of the data."""

    def gradient(xs, constants):
        def residual(*xs):
            f, *scale = problem.values(xs, constants)
            return f, scale

        f, pull, scale = jax.vjp(residual, *xs, has_aux=True)
        try:
            return jnp.stack(pull(problem.slope((f, *scale), constants)))
        except ValueError as error:
            if "lax.while_loop" in str(error):
                raise ValueError(_LOOP) from None
            raise

    def along(tangents):
        return jax.jvp(lambda c: gradient(xs, c), (constants,), (tangents,))[1]

    return _by_scalars(lambda *xs: gradient(xs, constants), xs), along


def _gauss_newton_moves(problem, xs, constants):
    """The same without second derivatives of the residual."""

    def slope(constants):
        return problem.slope(problem.values(xs, constants), constants)

    rows = _by_scalars(lambda *xs: problem.values(xs, constants)[0], xs)
    weighted = rows * problem.curvature(problem.values(xs, constants), constants)

    def along(tangents):
        return _times(rows, jax.jvp(slope, (constants,), (tangents,))[1])

    return _times(weighted, rows.T), along


def _by_scalars(fun, xs):
    """(n, ...) derivatives, one by one: XLA fuses them six times better than `jacfwd`'s."""
    _, columns = linearized(fun, "jacfwd", 0.0)(xs)
    return jnp.stack(columns)


def _or_zero(keep, tangent):
    """A tangent where it is kept; those of integers stay as they are."""
    if getattr(tangent, "dtype", None) == jax.dtypes.float0:
        return tangent
    tangent = jnp.asarray(tangent)
    return jnp.where(keep, tangent, jnp.zeros_like(tangent))


def _inverse(hessian, rule):
    """The inverse of a symmetric matrix, and whether it is to be used."""
    if rule.on_singular != "pinv":
        return symmetric_inverse(hessian)
    finite = jnp.all(jnp.isfinite(hessian))
    values, vectors = jnp.linalg.eigh(jnp.where(finite, hessian, 0.0))
    floor = hessian.shape[0] * jnp.finfo(hessian.dtype).eps * jnp.max(jnp.abs(values))
    some = jnp.abs(values) > floor
    reciprocals = jnp.where(some, 1.0 / jnp.where(some, values, 1.0), 0.0)
    return _times(vectors * reciprocals[None, :], vectors.T), finite
