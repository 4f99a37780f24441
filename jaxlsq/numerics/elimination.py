r"""Linear parameters eliminated: variable projection with Golub and Pereyra's whole derivative.

Of a residual that is linear in some of its parameters,

.. math:: f(a, c) = f_0(a) + \Phi(a)\, c,

the best c is known for every a, and what is left to minimize is a function of a alone.  With
:math:`P = I - \Phi (\Phi^T \Phi)^{-1} \Phi^T` it is :math:`P f_0`, and its derivative

.. math:: \partial_j (P f_0) = P\, v_j - \Phi (\Phi^T \Phi)^{-1} (\partial_j \Phi)^T f,
          \quad v_j = \partial_j f_0 + (\partial_j \Phi)\, c

Kaufman's approximation leaves out the second term.

Sources: G. Golub, V. Pereyra, SIAM J. Numer. Anal. 10 (1973) 413; the same, "Separable nonlinear
least squares: the variable projection method and its applications", Inverse Problems 19 (2003) R1.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlsq.numerics.jacobian import along
from jaxlsq.numerics.norm import power_of_two
from jaxlsq.numerics.normal import normal_equations
from jaxlsq.numerics.sweep import bordered, floor_of, lengths_of, sweep

__all__ = ["Best", "best", "coefficients", "eliminated", "without_linear"]


class Best(NamedTuple):
    """The best linear parameters at one place.

    Attributes
    ----------
    c : tuple of k scalars
    f : (m,) array
        The residual with them.
    basis : tuple of k (m,) arrays
        Columns of Phi over `units`.
    inverse : (k, k) array
        Of their products; zero for a column that the others span to rounding, whose c is zero.
    units : tuple of k scalars
        Powers of two.
    """

    c: tuple[jax.Array, ...]
    f: jax.Array
    basis: tuple[jax.Array, ...]
    inverse: jax.Array
    units: tuple[jax.Array, ...]

    def solve(self, products: Sequence[jax.Array]) -> list[jax.Array]:
        """``(Phi'Phi)^-1`` times k numbers."""
        return list(jnp.sum(self.inverse * jnp.stack(list(products))[None, :], axis=1))


def best(f0: jax.Array, basis: Sequence[jax.Array]) -> Best:
    """The linear parameters that minimize the sum of squares.

    Parameters
    ----------
    f0 : (m,) array
        The residual without them.
    basis : sequence of k (m,) arrays
        Its derivatives by them.

    Notes
    -----
    By normal equations of columns of about the length one, and once more for the residual that
    they leave: what rounding takes from the first solution, the second gives back.
    """
    k = len(basis)
    units = tuple(power_of_two(jnp.max(jnp.abs(column))) for column in basis)
    scaled = tuple(column / unit for column, unit in zip(basis, units, strict=True))
    normal, _ = normal_equations(scaled, (f0,), jnp.ones((), f0.dtype))
    none = Best((), f0, scaled, -sweep(normal.gram, k, floor_of(k, f0.dtype)), units)
    first = none.solve([*-normal.gradient])
    left = f0 + _combined(scaled, first)
    more = none.solve([-_dot(column, left) for column in scaled])
    whole = [a + b for a, b in zip(first, more, strict=True)]
    c = tuple(a / unit for a, unit in zip(whole, units, strict=True))
    return none._replace(c=c, f=f0 + _combined(scaled, whole))


def eliminated(
    separate: Callable[..., Any], moves: Sequence[Sequence[bool]]
) -> Callable[[Sequence[jax.Array]], tuple[jax.Array, tuple[jax.Array, ...]]]:
    """The residual with the best linear parameters, and its Jacobian's columns.

    Parameters
    ----------
    separate : callable
        ``separate(*xs) -> (f0, *basis)`` with scalars for the parameters that are not linear.
    moves : sequence
        Of each of those, whether f0 and each column of the basis depend on it.

    Returns
    -------
    callable
        ``lane(xs) -> f, columns``, as `jaxlsq.numerics.jacobian.linearized` gives it.
    """

    def column(at, tangents, which):
        of_f0, *of_basis = tangents
        moving = [k for k, moves in enumerate(which[1:]) if moves]
        v = of_f0 if which[0] else jnp.zeros_like(at.f)
        v = v + sum(at.c[k] * of_basis[k] for k in moving)
        products = [_dot(b, v) for b in at.basis]
        for k in moving:
            products[k] = products[k] + _dot(of_basis[k] / at.units[k], at.f)
        return v - _combined(at.basis, at.solve(products))

    def lane(xs):
        f0, *basis = separate(*xs)
        at = best(f0, basis)
        columns = (column(at, along(separate, xs, j)[1], which) for j, which in enumerate(moves))
        return at.f, tuple(columns)

    return lane


def coefficients(gram: jax.Array, gradient: jax.Array) -> jax.Array:
    """The linear parameters (k,) from their columns' products, J'J and J'f, where they are zero."""
    scale = lengths_of(gram)
    k, rest = len(scale), gradient / scale
    inverse = -sweep(gram / scale[:, None] / scale[None, :], k, floor_of(k, gram.dtype))
    return -jnp.sum(inverse * rest[None, :], axis=1) / scale


def without_linear(
    gram: jax.Array, gradient: jax.Array, square: jax.Array, mixed: jax.Array, k: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""The normal equations of what is left when linear parameters are eliminated.

    With the columns of all parameters, the k linear ones first, at the best c or near it: then J'J
    after its first rows were swept, and of the second term of the derivative :math:`B^T (\Phi^T
    \Phi)^{-1} B`, :math:`B_{kj} = f^T \partial_j \Phi_k`, which is orthogonal to the first.

    Parameters
    ----------
    gram : (n, n) array
    gradient : (n,) array
    square : scalar
        f'f.
    mixed : (k, n - k) array
        B.
    k : int

    Returns
    -------
    gram, gradient, square
        Of the n - k others.
    """
    scale = jnp.concatenate([lengths_of(gram[:k, :k]), jnp.ones_like(gradient[k:])])
    gram = gram / scale[:, None] / scale[None, :]
    column = gradient / scale
    swept = sweep(bordered(gram, column, square[None]), k, floor_of(k, gram.dtype))
    mixed = mixed / scale[:k, None]
    moved = -jnp.sum(swept[:k, :k, None] * mixed[None], axis=1)
    second = jnp.sum(mixed[:, :, None] * moved[:, None, :], axis=0)
    left = swept[k:-1, k:-1] + second
    return left, swept[k:-1, -1], jnp.maximum(swept[-1, -1], 0.0)


def _combined(columns, weights):
    return sum(w * column for w, column in zip(weights, columns, strict=True))


def _dot(u, v):
    return jnp.sum(u * v, axis=-1)
