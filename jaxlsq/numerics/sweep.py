"""The sweep operator: symmetric matrices of many lanes, in place, without branches.

Lanes are the last axis.

Sources: J. H. Goodnight, "A tutorial on the SWEEP operator", The American Statistician 33
(1979), for the operator and its use on singular matrices; Higham, "Accuracy and Stability of
Numerical Algorithms", sections 10.3 and 14.4.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.norm import total
from jaxlsq.numerics.types import AnyArray

__all__ = [
    "bordered",
    "certainty",
    "diagonal_of",
    "floor_of",
    "inflation",
    "least_rank",
    "lengths_of",
    "quadratic_form",
    "sweep",
    "sweep_elements",
    "symmetric_inverse",
]


def floor_of(n: int, dtype: Any) -> AnyArray:
    """How small a pivot is zero to rounding, relative to its diagonal element.

    Of 32,000 fits with two parameters of which only the product counts, and the like, n eps
    let 71 pass, and 2 n eps none; it is 4 n eps.
    """
    return 4 * n * jnp.finfo(dtype).eps


def least_rank(n: int, dtype: Any) -> AnyArray:
    """How small the reciprocal of `inflation` is of a singular matrix.

    n times the pivots' floor: of which covariances, from eigenvalues, have all finite.
    """
    return n * floor_of(n, dtype)


def diagonal_of(matrix: jax.Array) -> jax.Array:
    """The diagonal (n, ...) of a matrix (n, n, ...)."""
    # Element by element, which XLA fuses, where `jnp.diagonal` would gather.
    return jnp.stack([matrix[j, j] for j in range(matrix.shape[0])])


def lengths_of(gram: jax.Array) -> jax.Array:
    """Norms (n, ...) of the columns whose products a matrix (n, n, ...) holds; one for zero."""
    squares = diagonal_of(gram)
    return jnp.sqrt(jnp.where(squares > 0, squares, 1.0))


def inflation(swept: jax.Array, diagonal: jax.Array, counts: jax.Array | bool = True) -> jax.Array:
    r"""The largest variance inflation: how far a matrix is from singular.

    .. math:: \max_j A_{jj} (A^{-1})_{jj} = \max_j \frac{1}{1 - R_j^2}

    where the other columns span :math:`R_j^2` of column j.

    Parameters
    ----------
    swept : (n, n, ...) array
        A after `sweep`: minus its inverse, with zero for a row that was not usable.
    diagonal : (n, ...) array
        Of A.
    counts : (n, ...) bool array
        Which parameters are looked at.

    Returns
    -------
    (...) array
        At least one; infinite where a row that counts was not usable.
    """
    values = -diagonal_of(swept) * diagonal
    values = jnp.where(values > 0, values, jnp.inf)
    return jnp.maximum(jnp.max(jnp.where(counts, values, 1.0), axis=0), 1.0)


def bordered(matrix: jax.Array, column: jax.Array, corner: jax.Array | None = None) -> jax.Array:
    """A symmetric matrix with one more row and column.

    Parameters
    ----------
    matrix : (k, k, ...) array
    column : (k, ...) array
    corner : (1, ...) array, optional
        Zero if not given.

    Returns
    -------
    (k + 1, k + 1, ...) array
    """
    corner = jnp.zeros_like(column[:1]) if corner is None else corner
    return jnp.concatenate(
        [
            jnp.concatenate([matrix, column[:, None]], axis=1),
            jnp.concatenate([column, corner])[None],
        ]
    )


def certainty(gram: jax.Array, free: jax.Array) -> jax.Array:
    """How well J determines the parameters that are free: one over the largest `inflation`.

    Parameters
    ----------
    gram : (n, n) array
        J'J.
    free : (n,) bool array
    """
    n = gram.shape[0]
    gram = jnp.where(free[:, None] & free[None, :], gram, jnp.eye(n, dtype=gram.dtype))
    scale = lengths_of(gram)
    gram = gram / scale[:, None] / scale[None, :]
    swept = sweep(gram, n, floor_of(n, gram.dtype))
    return 1.0 / inflation(swept, diagonal_of(gram))


def quadratic_form(matrix: jax.Array, q: jax.Array) -> jax.Array:
    """q' M q, with M symmetric."""
    return total(total(matrix * q[:, None]) * q)


def symmetric_inverse(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The inverse of a symmetric matrix, by the sweep operator.

    Parameters
    ----------
    matrix : (n, n, ...) array

    Returns
    -------
    inverse : (n, n, ...) array
    definite : (...) bool array
        Whether the matrix is positive definite to working precision; if not, the inverse is
        that of a part of it.
    """
    n = matrix.shape[0]
    scale = lengths_of(matrix)
    swept = sweep(matrix / scale[:, None] / scale[None, :], n, floor_of(n, matrix.dtype))
    definite = jnp.all((diagonal_of(matrix) > 0) & (diagonal_of(swept) < 0), axis=0)
    return -swept / scale[:, None] / scale[None, :], definite


def sweep(
    matrix: jax.Array, count: int, floor: AnyArray, free: jax.Array | None = None
) -> jax.Array:
    """Sweep the first rows of a symmetric matrix; what is not usable becomes zero.

    Parameters
    ----------
    matrix : (k, k, ...) array
    count : int
        How many rows.
    floor : float
        Smallest pivot that is usable, relative to the diagonal element.
    free : (k, ...) bool array, optional
        Rows that are swept; the others stay.

    Returns
    -------
    (k, k, ...) array
    """
    size = matrix.shape[0]
    lanes = (1,) * (matrix.ndim - 2)
    index = jnp.arange(size)
    diagonal = diagonal_of(matrix)

    def one(j, matrix):
        row = lax.dynamic_index_in_dim(matrix, j, 0, keepdims=False)
        pivot = lax.dynamic_index_in_dim(row, j, 0, keepdims=False)
        usable = pivot > floor * lax.dynamic_index_in_dim(diagonal, j, 0, keepdims=False)
        reciprocal = jnp.where(usable, 1.0 / jnp.where(usable, pivot, 1.0), 0.0)
        here = (index == j).reshape(size, *lanes)
        scaled = jnp.where(here, -reciprocal[None], row * reciprocal[None])
        rest = matrix - jnp.where(here, 0.0, row)[:, None] * scaled[None, :]
        rest = jnp.where(here[:, None], scaled[None, :], rest)
        swept = jnp.where(here[None, :], scaled[:, None], rest)
        if free is None:
            return swept
        return jnp.where(lax.dynamic_index_in_dim(free, j, 0, keepdims=False), swept, matrix)

    return lax.fori_loop(0, count, one, matrix)


def sweep_elements(
    rows: list[list[jax.Array]], count: int, floor: AnyArray, free: Sequence[jax.Array]
) -> list[list[jax.Array]]:
    """`sweep` of a symmetric matrix whose elements are arrays of lanes, written out.

    XLA makes one kernel of it, which reads each element once; of many lanes that is what it costs.

    Parameters
    ----------
    rows : k lists of k arrays
        Only the upper half is read.
    count, floor
        As for `sweep`.
    free : sequence of `count` bool arrays

    Returns
    -------
    k lists of k arrays
    """
    size = len(rows)
    now = {(i, j): rows[i][j] for i in range(size) for j in range(i, size)}

    def at(i, j):
        return now[min(i, j), max(i, j)]

    for j in range(count):
        pivot = now[j, j]
        usable = free[j] & (pivot > floor * rows[j][j])
        reciprocal = jnp.where(usable, 1.0 / jnp.where(usable, pivot, 1.0), 0.0)
        row = [at(j, i) for i in range(size)]
        # A row that is to be swept and is not usable becomes zero; one that is not free stays.
        scaled = [jnp.where(free[j], r * reciprocal, r) for r in row]
        for a in range(size):
            for b in range(a, size):
                if a == j or b == j:
                    continue
                now[a, b] = now[a, b] - row[a] * (row[b] * reciprocal)
        for i in range(size):
            if i != j:
                now[min(i, j), max(i, j)] = scaled[i]
        now[j, j] = jnp.where(free[j], -reciprocal, pivot)
    return [[at(i, j) for j in range(size)] for i in range(size)]
