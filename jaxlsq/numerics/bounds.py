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

import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.norm import total
from jaxlsq.numerics.sweep import floor_of, quadratic_form, sweep
from jaxlsq.numerics.trust_region import norm
from jaxlsq.status import Status

__all__ = ["blocked", "box_steps", "feasible", "status_of"]

# Block exchanges that may fail to lower the number of wrong parameters; then one at a time.
PATIENCE = 3


def blocked(x, gradient, bounds):
    """Which parameters are at a bound that a descent step would cross.

    Parameters
    ----------
    x : (n, ...) array
    gradient : (n, ...) array
        J'f; descent is along minus it.
    bounds : (lower, upper)
        Of the shape of x.

    Returns
    -------
    (n, ...) bool array
    """
    lower, upper = bounds
    return ((x <= lower) & (gradient >= 0)) | ((x >= upper) & (gradient <= 0))


def feasible(bounds):
    """Whether every lower bound is at most its upper one; (n, ...) arrays."""
    lower, upper = bounds
    return jnp.all(lower <= upper, axis=0)


def status_of(bounds, status):
    """A status, and INFEASIBLE_BOUNDS where bounds are impossible."""
    if bounds is None:
        return status
    return jnp.where(feasible(bounds), status, jnp.int32(Status.INFEASIBLE_BOUNDS))


def box_steps(gram, gradient, box, idle=False):
    """The damped problem in a box as a function of the damping, for `levenberg_parameter`.

    Parameters
    ----------
    gram : (n, n, ...) array
        A, symmetric and positive semidefinite.
    gradient : (n, ...) array
    box : (low, high)
        (n, ...) arrays, low <= 0 <= high.
    idle : (...) bool array
        Lanes whose result nobody reads.

    Returns
    -------
    attempt : callable
    sides : (n, ...) int array
        Which parameters are held first: 1 and -1 at the high and low end, 0 inside.

    Notes
    -----
    Block principal pivoting: solve with some parameters pinned to an end of the box, pin those
    that come out beyond it, free those whose multiplier has the wrong sign, until nothing
    changes.  Where exchanges of a whole block do not lower the number of wrong parameters,
    the one with the largest index is exchanged alone, which can't cycle (Murty's rule).
    """
    low, high = box
    n = gradient.shape[0]
    lanes = (1,) * (gradient.ndim - 1)
    eye = jnp.eye(n, dtype=bool).reshape(n, n, *lanes)
    index = jnp.arange(n).reshape(n, *lanes)
    corner = jnp.zeros_like(gradient[:1])
    shut = low >= high
    # Multipliers below their rounding have no sign.
    slack = floor_of(n, gradient.dtype) * norm(gradient)
    toward_high = (high <= 0) & (gradient > 0)
    toward_low = (low >= 0) & (gradient < 0)
    begin = jnp.where(shut | toward_high, 1, jnp.where(toward_low, -1, 0))

    def solve(damped, sides):
        """The solution with parameters pinned, the sweep, and what is wrong with it."""
        free = sides == 0
        pinned = jnp.where(sides > 0, high, jnp.where(sides < 0, low, 0.0))
        rest = gradient - total(jnp.swapaxes(damped, 0, 1) * pinned[:, None])
        bordered = jnp.concatenate(
            [
                jnp.concatenate([damped, rest[:, None]], axis=1),
                jnp.concatenate([rest, corner])[None],
            ]
        )
        swept = sweep(bordered, n, floor_of(n, gradient.dtype), free)
        value = swept[:n, n]  # the step where free, the multiplier where pinned
        beyond = jnp.where(free & (value > high), 1, jnp.where(free & (value < low), -1, 0))
        wrong = ~free & ~shut & (value * sides < -slack)
        q = jnp.where(free, jnp.clip(value, low, high), pinned)
        return q, swept[:n, :n], beyond, wrong

    def attempt(damping, sides):
        damped = jnp.where(eye, gram + damping, gram)

        def exchange(carry):
            passes, sides, fewest, patience, *_ = carry
            q, swept, beyond, wrong = solve(damped, sides)
            bad = (beyond != 0) | wrong
            count = jnp.sum(bad, axis=0, dtype=jnp.int32)
            fewer = count < fewest
            whole = fewer | (patience > 0)
            last = jnp.max(jnp.where(bad, index, -1), axis=0)
            swapped = jnp.where(whole, bad, index == last)
            following = jnp.where(swapped, beyond, sides)
            patience = jnp.where(fewer, PATIENCE, jnp.maximum(patience - 1, 0))
            fewest = jnp.minimum(fewest, count)
            return passes + 1, following, fewest, patience, q, swept, count

        def unfinished(carry):
            passes, *_, count = carry
            busy = jnp.any((count > 0) & jnp.logical_not(idle))
            return (passes == 0) | ((passes < 4 * n + 8) & busy)

        many = jnp.full(gradient.shape[1:], n + 1, jnp.int32)
        nothing = jnp.zeros_like(gradient), jnp.zeros_like(gram), many
        begun = jnp.int32(0), sides, many, jnp.full_like(many, PATIENCE), *nothing
        _, final, *_, q, swept, _ = lax.while_loop(unfinished, exchange, begun)
        free = final == 0
        pivots = jnp.stack([swept[j, j] for j in range(n)])
        moving = jnp.where(free, q, 0.0)
        length = norm(q)
        slope = jnp.sqrt(jnp.maximum(-quadratic_form(swept, moving), 0.0))
        slope = slope / jnp.where(length == 0, 1.0, length)
        return q, length, slope, jnp.all((pivots != 0) | ~free, axis=0), final

    return attempt, begin
