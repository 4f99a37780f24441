r"""The Levenberg-Marquardt step and the rule that sizes the trust region.

Source: J. J. More, "The Levenberg-Marquardt algorithm: implementation and
theory", Lecture Notes in Mathematics 630 (1978), sections 4 and 5, and
MINPACK's ``lmpar``, ``qrsolv`` and ``lmder``.
"""

import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.factor import triangle
from jaxlsq.numerics.norm import divide

__all__ = ["levenberg_parameter", "reductions", "resize"]

# The step's scaled length is found to within 10 % of the bound, in 10 tries.
LENGTH_TOLERANCE = 0.1
MAX_TRIES = 10


def levenberg_parameter(r, qtf, scale, step_bound, damping):
    r"""The damping whose step is as long as the trust region allows.

    Finds :math:`\lambda \ge 0` such that the minimizer p of
    :math:`\lVert R p - Q^T f \rVert^2 + \lambda \lVert D p \rVert^2` has
    :math:`\lambda = 0` and :math:`\lVert D p \rVert \le 1.1 \Delta`, or
    :math:`|\lVert D p \rVert - \Delta| \le 0.1 \Delta`.

    Parameters
    ----------
    r : (n, n) array
        Upper triangular.
    qtf : (n,) array
        Q'f.  With r, scale and step_bound in a unit in which it is near one.
    scale : (n,) array
        D in pivoted order, positive.
    step_bound : scalar
        Delta, positive.
    damping : scalar
        The previous lambda, where the search starts.

    Returns
    -------
    damping : scalar
    p : (n,) array
        In pivoted order; the iteration moves by -p.

    Notes
    -----
    MINPACK's ``lmpar`` solves the undamped problem apart; here it is the first
    pass of the one loop.  A singular R leaves the components from its first zero
    diagonal on at zero in that pass, and gives no lower bound of lambda.
    """
    tiny = jnp.finfo(r.dtype).tiny
    given = damping
    singular = jnp.any(jnp.where(jnp.eye(qtf.shape[0], dtype=bool), r == 0, False))
    gradient = _norm(jnp.sum(r * qtf[:, None], axis=0) / scale)
    highest = gradient / step_bound
    highest = jnp.where(highest == 0, tiny / jnp.minimum(step_bound, LENGTH_TOLERANCE), highest)

    def attempt(carry):
        tries, bounds, _, _ = carry
        damping, lower, upper, previous = bounds
        first = tries == 0
        damping = jnp.where((damping == 0) & ~first, jnp.maximum(tiny, 0.001 * upper), damping)
        p, length, slope = _damped_step(r, qtf, scale, damping)
        excess = length - step_bound
        newton = ((excess / step_bound) / slope) / slope
        fits = jnp.where(first, excess, jnp.abs(excess)) <= LENGTH_TOLERANCE * step_bound
        shrinking = (lower == 0) & (excess <= previous) & (previous < 0)
        done = fits | (~first & (shrinking | (tries == MAX_TRIES)))

        # First pass: a lower bound of lambda, and the start between the bounds.
        lower_0 = jnp.where(singular, 0.0, newton)
        start = jnp.minimum(jnp.maximum(given, lower_0), upper)
        start = jnp.where(start == 0, gradient / length, start)
        # Later passes: tighter bounds, and Newton's correction.
        lower_k = jnp.where(excess > 0, jnp.maximum(lower, damping), lower)
        upper_k = jnp.where(excess < 0, jnp.minimum(upper, damping), upper)
        corrected = jnp.maximum(lower_k, damping + newton)

        following = jnp.where(done, damping, jnp.where(first, start, corrected))
        lower, upper = jnp.where(first, lower_0, lower_k), jnp.where(first, upper, upper_k)
        return tries + 1, jnp.stack([following, lower, upper, excess]), p, done

    zero = jnp.zeros_like(step_bound)
    start = (jnp.int32(0), jnp.stack([zero, zero, highest, zero]), jnp.zeros_like(qtf), False)
    _, bounds, p, _ = lax.while_loop(lambda carry: ~carry[-1], attempt, start)
    return bounds[0], p


def _norm(v):
    return jnp.sqrt(jnp.sum(v * v))


def _damped_step(r, qtf, scale, damping):
    r"""Solve the damped problem by a QR factorization of R stacked on sqrt(damping) D.

    Returns p, ``||D p||``, and ``||S^-T D D p|| / ||D p||`` with the triangle S, of
    which minus twice the square is the relative slope of ``||D p||^2`` in the damping.
    """
    n = qtf.shape[0]
    damped = jnp.diag(jnp.sqrt(damping) * scale)
    stacked = jnp.concatenate([r.T, damped], axis=1)
    right = jnp.concatenate([qtf, jnp.zeros_like(qtf)])[None, :]
    reduced = triangle(jnp.concatenate([stacked, right]), n)
    inverse, p = _solve_triangle(reduced[:n, :n], reduced[n, :n])
    length = _norm(scale * p)
    direction = scale * (scale * p / jnp.where(length == 0, 1.0, length))
    return p, length, _norm(jnp.sum(inverse * direction[:, None], axis=0))


def _solve_triangle(lower, b):
    """The inverse of an upper triangular S, given transposed, and x with S x = b.

    From S's first zero diagonal element on, x is zero (MINPACK's least squares
    solution of a singular triangle), and so are the inverse's rows.
    """
    n = b.shape[0]
    index = jnp.arange(n)
    diagonal = jnp.sum(jnp.where(jnp.eye(n, dtype=bool), lower, 0.0), axis=0)
    live = index < jnp.min(jnp.where(diagonal == 0, index, n))
    divisor = jnp.where(live, diagonal, jnp.inf)

    def substitute(k, carry):
        left, x = carry
        j = n - 1 - k
        row = lax.dynamic_index_in_dim(left, j, 0, keepdims=False)
        row = divide(row, lax.dynamic_index_in_dim(divisor, j, 0, keepdims=False))
        column = lax.dynamic_index_in_dim(lower, j, 0, keepdims=False)
        return left - column[:, None] * row[None, :], jnp.where(
            (index == j)[:, None], row[None, :], x
        )

    right = jnp.column_stack([jnp.eye(n, dtype=b.dtype), b])
    solution = lax.fori_loop(0, n, substitute, (right, jnp.zeros_like(right)))[1]
    return solution[:, :n], solution[:, n]


def reductions(relative_norm, model, damped):
    r"""Actual and predicted relative reduction of the sum of squares, and their ratio.

    .. math::
        a = 1 - \left(\frac{\lVert f_+ \rVert}{\lVert f \rVert}\right)^2, \quad
        q = \frac{\lVert J p \rVert^2 + 2 \lambda \lVert D p \rVert^2}{\lVert f \rVert^2}, \quad
        \rho = a / q

    with a = -1 where the trial norm is 10 times the old one or more, or not
    finite, and :math:`\rho = 0` where q = 0.

    Parameters
    ----------
    relative_norm : scalar
        Norm of the residual at the trial point by that at the accepted point.
    model, damped : scalar
        ``||J p||^2`` and ``damping ||D p||^2`` of the trial step, by ``||f||^2``.

    Returns
    -------
    actual, predicted, ratio : scalars
    """
    near = 0.1 * relative_norm < 1.0  # False for a NaN
    actual = jnp.where(near, 1.0 - jnp.square(jnp.where(near, relative_norm, 1.0)), -1.0)
    predicted = model + 2.0 * damped
    ratio = jnp.where(predicted == 0, 0.0, actual / jnp.where(predicted == 0, 1.0, predicted))
    return actual, predicted, ratio


def resize(step_bound, damping, step_norm, reduction, relative_norm):
    r"""New step bound and damping after a trial.

    - :math:`\rho \le 1/4`: the bound shrinks by the minimizer of a quadratic
      through what is known along the step, kept in [0.1, 0.5]; the damping grows
      by the same factor;
    - :math:`\rho \ge 3/4`, or no damping: the bound becomes twice the step, the
      damping halves;
    - otherwise both stay.

    Parameters
    ----------
    step_bound, damping, step_norm : scalar
        Delta, lambda and ``||D p||``.
    reduction : (actual, ratio, slope)
        From `reductions`; `slope` is ``-(model + damped)``, half the relative
        derivative of the sum of squares along the step.
    relative_norm : scalar
        As for `reductions`; the shrinkage is 0.1 where it is 10 or more, or NaN.

    Returns
    -------
    step_bound, damping : scalars
    """
    actual, ratio, slope = reduction
    interpolated = 0.5 * slope / (slope + 0.5 * actual)
    near = 0.1 * relative_norm < 1.0
    shrink = jnp.where(actual >= 0, 0.5, jnp.where(near, jnp.maximum(interpolated, 0.1), 0.1))
    poor = ratio <= 0.25
    good = (damping == 0) | (ratio >= 0.75)
    smaller = shrink * jnp.minimum(step_bound, step_norm / 0.1)
    new_bound = jnp.where(poor, smaller, jnp.where(good, step_norm / 0.5, step_bound))
    return new_bound, jnp.where(poor, damping / shrink, jnp.where(good, 0.5 * damping, damping))
