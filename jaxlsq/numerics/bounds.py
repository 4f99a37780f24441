r"""Bounds in the Levenberg-Marquardt step: the trust-region problem with a box.

Each trial minimizes the damped model inside the bounds, exactly, instead of a step that is cut
off at them afterwards: a parameter at a bound stays there only while the model would push it out.

.. math:: \min_q \tfrac12 q^T (A + \lambda I) q - g^T q \quad \text{with } a \le q \le b

Sources: C. Kanzow, N. Yamashita, M. Fukushima, "Levenberg-Marquardt methods with strong local
convergence properties for solving nonlinear equations with convex constraints", J. Comput. Appl.
Math. 172 (2004), for the method; J. J. Judice, F. M. Pires, "A block principal pivoting algorithm
for large-scale strictly monotone linear complementarity problems", Computers & Operations
Research 21 (1994), for the solution of the box problem.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.norm import total
from jaxlsq.numerics.sweep import (
    bordered,
    diagonal_of,
    floor_of,
    inflation,
    least_rank,
    quadratic_form,
    sweep,
)
from jaxlsq.numerics.trust_region import norm
from jaxlsq.numerics.types import AnyArray
from jaxlsq.status import Status

__all__ = ["Bounds", "BoxProblem", "GramBox", "blocked", "box_steps", "feasible", "status_of"]

# Block exchanges that may fail to lower the number of wrong parameters; then one at a time.
PATIENCE = 3
# Of 2,000 boxes of polynomials of six parameters 120 take more than 4 n + 8 passes, and none more
# than 140; with a damping of a hundredth none does.
MOST_SINGLY = 128


class Bounds(NamedTuple):
    """Between what parameters stay: two arrays of their shape, infinite where nothing holds."""

    lower: AnyArray
    upper: AnyArray


def blocked(x: AnyArray, gradient: AnyArray, bounds: Bounds) -> jax.Array:
    """Which parameters are at a bound that a descent step would cross.

    Parameters
    ----------
    x : (n, ...) array
    gradient : (n, ...) array
        J'f; descent is along minus it.
    bounds : Bounds

    Returns
    -------
    (n, ...) bool array
    """
    lower, upper = bounds
    return ((x <= lower) & (gradient >= 0)) | ((x >= upper) & (gradient <= 0))


def feasible(bounds: Bounds) -> jax.Array:
    """Whether every lower bound is at most its upper one; (n, ...) arrays."""
    lower, upper = bounds
    return jnp.all(lower <= upper, axis=0)


def status_of(bounds: Bounds | None, status: jax.Array) -> jax.Array:
    """A status, and INFEASIBLE_BOUNDS where bounds are impossible."""
    if bounds is None:
        return status
    return jnp.where(feasible(bounds), status, jnp.int32(Status.INFEASIBLE_BOUNDS))


class BoxProblem(Protocol):
    """The damped problem without its box, in scaled parameters, as `box_steps` asks for it.

    Attributes
    ----------
    gradient : (n, ...) array
        g.
    """

    @property
    def gradient(self) -> jax.Array:
        """g."""
        ...

    def solve(
        self, damping: jax.Array, free: jax.Array, pinned: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Minimize over the free parameters, with the others where `pinned` says.

        Returns
        -------
        value : (n, ...) array
            The minimizer where free, elsewhere the multiplier ``g - (A + damping) q``.
        solved : (n, n, ...) array, or a pytree
            For `spread` and `rank`.
        """
        ...

    def spread(self, solved: Any, q: jax.Array) -> jax.Array:
        """``sqrt(q' (A + damping)^-1 q)`` for a q that is zero but for free parameters."""
        ...

    def rank(self, solved: Any, counts: jax.Array) -> jax.Array:
        """Zero where a parameter that counts is not determined, see `levenberg_parameter`."""
        ...


@dataclass(frozen=True)
class GramBox:
    """A `BoxProblem` from normal equations; lanes are last.

    Attributes
    ----------
    gram : (n, n, ...) array
        A, symmetric and positive semidefinite.
    gradient : (n, ...) array
    """

    gram: jax.Array
    gradient: jax.Array

    def solve(
        self, damping: jax.Array, free: jax.Array, pinned: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """By a sweep of the rows that are free.

        A row that they span to rounding would not be usable either: its multiplier is zero.
        """
        gradient, n = self.gradient, self.gradient.shape[0]
        eye = jnp.eye(n, dtype=bool).reshape(n, n, *(1,) * (gradient.ndim - 1))
        damped = jnp.where(eye, self.gram + damping, self.gram)
        rest = gradient - total(jnp.swapaxes(damped, 0, 1) * pinned[:, None])
        floor = floor_of(n, gradient.dtype)
        swept = sweep(bordered(damped, rest), n, floor, free)
        solved = swept[:n, :n]
        spanned = ~free & (diagonal_of(solved) <= floor * diagonal_of(damped))
        return jnp.where(spanned, 0.0, swept[:n, n]), solved

    def spread(self, solved: jax.Array, q: jax.Array) -> jax.Array:
        """By the inverse that the sweep leaves."""
        return jnp.sqrt(jnp.maximum(-quadratic_form(solved, q), 0.0))

    def rank(self, solved: jax.Array, counts: jax.Array) -> jax.Array:
        """The reciprocal of the largest variance inflation."""
        return 1.0 / inflation(solved, diagonal_of(self.gram), counts)

    def doubt(self, solved: jax.Array, free: jax.Array, held: jax.Array) -> jax.Array:
        """One, and less where the free columns nearly span that of a parameter at a bound.

        The multiplier of a held one has few digits then, and perhaps the wrong sign.  It is the
        least part of its column that the free ones leave, which the sweep has.
        """
        diagonal, swept = diagonal_of(self.gram), diagonal_of(solved)
        counts = held & (diagonal > 0)
        safe = jnp.where(counts, diagonal, 1.0)
        inverse = jnp.where(swept < 0, -swept * safe, jnp.inf)
        part = jnp.where(free, 1.0 / inverse, swept / safe)
        return jnp.min(jnp.where(counts, jnp.clip(part, 0.0, 1.0), 1.0), axis=0)


def box_steps(
    problem: BoxProblem,
    box: tuple[jax.Array, jax.Array],
    doubt: Callable[..., jax.Array] | None = None,
) -> tuple[Callable[..., Any], jax.Array]:
    """The damped problem in a box as a function of the damping, for `levenberg_parameter`.

    Parameters
    ----------
    problem : BoxProblem
    box : (low, high)
        (n, ...) arrays, low <= 0 <= high.
    doubt : callable, optional
        `GramBox.doubt`, which lowers the rank in float32; from there float64 can go on.

    Returns
    -------
    attempt : callable
        ``attempt(damping, sides, idle) -> (q, length, slope, rank, sides)``, where nobody reads
        the result of `idle` lanes.  The length is infinite where no solution was found.
    sides : (n, ...) int array
        Which parameters are held first: 1 and -1 at the high and low end, 0 inside.

    Notes
    -----
    Block principal pivoting: solve with some parameters pinned to an end of the box, pin those
    that come out beyond it, free those whose multiplier has the wrong sign, until nothing
    changes.  Where exchanges of a whole block do not lower the number of wrong parameters,
    the one with the largest index is exchanged alone, which can't cycle (Murty's rule) but for
    rounding, though it may take 2^n passes.

    The loop goes on for the last lane; the sides of idle lanes stay as they are, so that
    nothing of a lane depends on how many passes its neighbours need.
    """
    low, high = box
    gradient = problem.gradient
    n = gradient.shape[0]
    index = jnp.arange(n).reshape(n, *(1,) * (gradient.ndim - 1))
    shut = low >= high
    at_end = (high <= 0) | (low >= 0)
    # Multipliers below their rounding have no sign.
    slack = floor_of(n, gradient.dtype) * norm(gradient)
    most_passes = 4 * n + 8 + min(2**n, MOST_SINGLY)
    toward_high = (high <= 0) & (gradient > 0)
    toward_low = (low >= 0) & (gradient < 0)
    begin = jnp.where(shut | toward_high, 1, jnp.where(toward_low, -1, 0))

    def solve(damping, sides):
        """The solution with parameters pinned, and which are beyond an end or held wrongly."""
        free = sides == 0
        pinned = jnp.where(sides > 0, high, jnp.where(sides < 0, low, 0.0))
        value, solved = problem.solve(damping, free, pinned)
        beyond = jnp.where(free & (value > high), 1, jnp.where(free & (value < low), -1, 0))
        wrong = ~free & ~shut & (value * sides < -slack)
        return jnp.where(free, jnp.clip(value, low, high), pinned), solved, beyond, wrong

    def attempt(damping, sides, idle=False):
        def exchange(carry):
            """One pass; `fewest` is the least count of wrong parameters so far."""
            passes, sides, fewest, patience, *_ = carry
            q, solved, beyond, wrong = solve(damping, sides)
            bad = (beyond != 0) | wrong
            count = jnp.sum(bad, axis=0, dtype=jnp.int32)
            fewer = count < fewest
            whole = fewer | (patience > 0)
            last = jnp.max(jnp.where(bad, index, -1), axis=0)
            swapped = jnp.where(whole, bad, index == last) & jnp.logical_not(idle)
            following = jnp.where(swapped, beyond, sides)
            patience = jnp.where(fewer, PATIENCE, jnp.maximum(patience - 1, 0))
            fewest = jnp.minimum(fewest, count)
            return passes + 1, following, fewest, patience, q, solved, count

        def unfinished(carry):
            passes, *_, count = carry
            busy = jnp.any((count > 0) & jnp.logical_not(idle))
            return (passes == 0) | ((passes < most_passes) & busy)

        many = jnp.full(gradient.shape[1:], n + 1, jnp.int32)
        shapes = jax.eval_shape(problem.solve, damping, sides == 0, gradient)[1]
        solved = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        unread = jnp.zeros_like(gradient), solved, many  # which the first pass replaces
        begun = jnp.int32(0), sides, many, jnp.full_like(many, PATIENCE), *unread
        _, final, *_, q, solved, count = lax.while_loop(unfinished, exchange, begun)
        free = final == 0
        length = norm(q)
        slope = problem.spread(solved, jnp.where(free, q, 0.0))
        slope = slope / jnp.where(length == 0, 1.0, length)
        length = jnp.where(count > 0, jnp.inf, length)
        # What a bound holds is not undetermined, also where the residual does not depend on it;
        # but that it is held may be in doubt.
        rank = problem.rank(solved, free & ~at_end)
        if doubt is not None and gradient.dtype == jnp.float32:
            part = doubt(solved, free, (~free | at_end) & ~shut)
            rank = jnp.minimum(rank, jnp.maximum(part, 1.1 * least_rank(n, gradient.dtype)))
        return q, length, slope, rank, final

    return attempt, begin
