r"""Data whose x are uncertain too: the shift of each point's x that brings it nearest to a curve.

A point is a residual F of its shifts u, each in units of the standard deviation of its variable,

.. math:: F(u) = \frac{f(x + \sigma_x u) - y}{\sigma_y}, \qquad
          g(u) = F(u)^2 + \sum_k u_k^2

and the nearest shifts minimize g.  With a, B the gradient and the Hessian of F, half the gradient
of g is :math:`h = u + F a`, and half its Hessian :math:`I + a a^T + F B`.  Newton's step is taken
where that is positive definite, and elsewhere that of Gauss and Newton, in closed form

.. math:: \delta u = -(I + a a^T)^{-1} h = -h + a \frac{a \cdot h}{1 + a \cdot a}

which always descends; a step after which g is not smaller is halved.

Each point is in this loop by itself and stops by itself, so that its shift does not depend on its
neighbours, and where a lane's points are one after the other each takes the turns that it needs.

Source: P. T. Boggs, R. H. Byrd, R. B. Schnabel, "A stable and efficient algorithm for nonlinear
orthogonal distance regression", SIAM J. Sci. Stat. Comput. 8 (1987), for the elimination of the
shifts, which here goes on to the minimum; so that the residual is a function of the parameters.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["Local", "Rounding", "distance", "nearest_shifts", "slopes_of", "tangent_length"]

# Turns after which a point has not settled.  Newton's steps take 3 to 6, and a halving one each.
MOST_TURNS = 100
# Roundings of F, of itself and of x, that a step may be and is no progress.
SLACK = 4.0

Arrays = tuple[jax.Array, ...]


class Local(NamedTuple):
    """A residual beside some shifts.

    Attributes
    ----------
    value : (m,) array
        F.
    slopes : tuple of (m,) arrays
        a, one for each variable of a point.
    curvatures : tuple of tuples of (m,) arrays
        B, the rows of its lower triangle.
    """

    value: jax.Array
    slopes: Arrays
    curvatures: tuple[Arrays, ...]


class Rounding(NamedTuple):
    """What the roundings of F are relative to.

    Attributes
    ----------
    y : (m,) array
        The datum's size over its standard deviation.
    x : tuple of (m,) arrays
        Each variable's size.
    deviations : tuple of (m,) arrays
        Its standard deviations.
    """

    y: jax.Array
    x: Arrays
    deviations: Arrays


def slopes_of(residual: Callable[..., jax.Array], shifts: Arrays) -> tuple[jax.Array, Arrays]:
    """F and its slopes by each variable.

    Parameters
    ----------
    residual : callable
        ``residual(*shifts) -> (m,)``, in which each point depends on its own shifts alone.
    shifts : tuple of (m,) arrays
    """
    pairs = [_along(residual, shifts, k) for k in range(len(shifts))]
    return pairs[0][0], tuple(slope for _, slope in pairs)


def local_of(residual: Callable[..., jax.Array], shifts: Arrays) -> Local:
    """The `Local` of a residual, as `slopes_of` has it."""
    values, slopes, curvatures = [], [], []
    for k in range(len(shifts)):

        def along(*shifts, k=k):
            return _along(residual, shifts, k)

        firsts, seconds = zip(*(_along(along, shifts, j) for j in range(k + 1)), strict=True)
        values.append(firsts[0][0])
        slopes.append(firsts[0][1])
        curvatures.append(tuple(curvature for _, curvature in seconds))
    return Local(values[0], tuple(slopes), tuple(curvatures))


def _along(function, shifts, k):
    """A function and its derivative by one of the shifts, at all points at once."""

    def moved(shift):
        return function(*shifts[:k], shift, *shifts[k + 1 :])

    return jax.jvp(moved, (shifts[k],), (jnp.ones_like(shifts[k]),))


def nearest_shifts(
    residual: Callable[..., jax.Array], free: jax.Array, rounding: Rounding
) -> tuple[Arrays, jax.Array]:
    """The shifts that minimize g, of each point.

    Parameters
    ----------
    residual : callable
        As for `slopes_of`.
    free : (m,) bool array
        Points that may be shifted; the others' shifts are zero.
    rounding : Rounding

    Returns
    -------
    shifts : tuple of (m,) arrays
        A local minimum, that which is reached from zero.
    settled : (m,) bool array
        Where the last step was nothing but rounding.
    """
    y, variables = rounding.y, len(rounding.deviations)
    none = (jnp.zeros_like(y),) * variables

    def goes(state):
        return jnp.any(state[0])

    def turn(state):
        active, left, least, *pairs = state
        trial, steps = tuple(pairs[:variables]), tuple(pairs[variables:])
        at = local_of(residual, trial)
        g = _square(at.value, trial)
        better = g < least * (1.0 + SLACK * jnp.finfo(y.dtype).eps)
        moves, following = [], []
        for one, step in zip(_step(at, trial), steps, strict=True):
            half = 0.5 * step
            moves.append(lax.select(better, one, -half))
            following.append(lax.select(better, one, half))
        g = lax.select(better, g, least)
        # What a step was too long for says nothing of rounding.
        value = lax.select(better, at.value, jnp.zeros_like(y))
        rests = _is_last((steps, following), at._replace(value=value), g, rounding)
        fewer = left - 1.0
        goes_on = active & (~rests & (fewer > 0))
        # Nothing of a point changes any more once it has stopped.
        values = (fewer, g, *(u + move for u, move in zip(trial, moves, strict=True)), *following)
        pairs = zip(values, state[1:], strict=True)
        return (goes_on, *(lax.select(active, new, old) for new, old in pairs))

    left = jnp.full_like(y, MOST_TURNS)
    begin = (free, left, jnp.full_like(y, jnp.inf), *none, *none)
    _, left, _, *pairs = lax.while_loop(goes, turn, begin)
    return tuple(pairs[:variables]), left > 0


def _is_last(
    steps: tuple[Arrays, Sequence[jax.Array]], at: Local, g: jax.Array, rounding: Rounding
) -> jax.Array:
    r"""Where a step is too small to be followed by another one; it is still taken itself.

    Newton's steps leave what is of the order of their squares, with a factor that two steps s
    and t, one after the other, tell: :math:`t / s^2`, so that :math:`t^3 / s^2` is left.  Sizes
    are relative to the distance, as sigma and x's may be in any unit that both have.

    Parameters
    ----------
    steps : (before, now)
        Of each variable.
    at : Local
    g : (m,) array
        The square of the distance.
    rounding : Rounding
    """
    eps, rests = jnp.finfo(g.dtype).eps, jnp.ones(g.shape, bool)
    # F is rounded by that much, and the minimum moves with it.
    noise = SLACK * eps * (jnp.abs(at.value) + rounding.y)
    parts = zip(*steps, at.slopes, rounding.deviations, rounding.x, strict=True)
    for before, step, slope, deviation, size in parts:
        square, was = jnp.square(step), jnp.square(before)
        small = square <= eps**0.6 * g
        small = small & (square * square * square <= eps ** (4 / 3) * (was * was * g))
        blur = jnp.abs(step) - noise * jnp.minimum(jnp.abs(slope), 0.5)
        rests = rests & (small | (blur * deviation <= SLACK * eps * size) | (step == 0))
    return rests


def _step(at: Local, shifts: Arrays) -> Arrays:
    """Newton's step where the Hessian is positive definite, elsewhere that of Gauss and Newton."""
    a = at.slopes
    h = [u + at.value * slope for u, slope in zip(shifts, a, strict=True)]
    long = 1.0 + _dot(a, a)
    matrix = _hessian(at)
    if len(a) == 1:
        pivot = matrix[0][0]
        return (-h[0] / lax.select(pivot > 0, pivot, long),)
    along = _dot(a, h) / long
    newton, positive = _solved(matrix, [-one for one in h])
    return tuple(
        lax.select(positive, one, slope * along - gradient)
        for one, slope, gradient in zip(newton, a, h, strict=True)
    )


def _hessian(at: Local) -> list[list[jax.Array]]:
    """The lower triangle of I + a a' + F B."""
    rows = []
    for k, curvatures in enumerate(at.curvatures):
        row = [at.slopes[k] * at.slopes[j] + at.value * c for j, c in enumerate(curvatures)]
        row[k] = 1.0 + row[k]
        rows.append(row)
    return rows


def _solved(matrix: Sequence[Sequence[jax.Array]], right: list[jax.Array]):
    """The solution of a symmetric system, by elimination, and whether it is positive definite."""
    rows, size = [list(row) for row in matrix], len(right)
    positive = jnp.isfinite(right[0])
    for k in range(size):
        pivot = rows[k][k]
        positive = positive & (pivot > 0)
        for i in range(k + 1, size):
            factor = rows[i][k] / pivot
            for j in range(k + 1, i + 1):
                rows[i][j] = rows[i][j] - factor * rows[j][k]
            right[i] = right[i] - factor * right[k]
    for k in reversed(range(size)):
        for i in range(k + 1, size):
            right[k] = right[k] - rows[i][k] * right[i]
        right[k] = right[k] / rows[k][k]
    return right, positive


def _square(value, shifts):
    return jnp.square(value) + _dot(shifts, shifts)


def _dot(left, right):
    return reduce(add, (a * b for a, b in zip(left, right, strict=True)))


def tangent_length(slopes: Arrays) -> jax.Array:
    r"""Of a step of one in F along the normal of the curve, :math:`\sqrt{1 + a \cdot a}`."""
    return jnp.sqrt(1.0 + _dot(slopes, slopes))


def distance(value: jax.Array, slopes: Arrays, shifts: Arrays) -> jax.Array:
    r"""The distance of a point from its place on the curve, with the side of the curve as its sign.

    .. math:: r = \pm \sqrt{F^2 + u \cdot u}

    with the sign of :math:`F - a \cdot u`, the point's height above the tangent.  At the nearest
    place that is :math:`r = F \sqrt{1 + a \cdot a}`, whose derivative by parameters has no part
    of the shifts' own,

    .. math:: \frac{dr}{dp} = \frac{\partial F / \partial p}{\sqrt{1 + a \cdot a}}

    since g is stationary there.
    """
    far = jnp.sqrt(_square(value, shifts))
    moved = reduce(add, map(jnp.abs, shifts)) > 0
    signed = jnp.where(value - _dot(slopes, shifts) < 0, -far, far)
    return jnp.where(moved, signed, value)
