"""Householder reflections: the reduction of a matrix to a triangle, MINPACK's ``qrfac``.

Matrices are transposed, a column in each row, so that what a reflection works on is contiguous.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.norm import divide, power_of_two

__all__ = [
    "BLOCK_ROWS",
    "inverse",
    "pivoted_triangle",
    "reduced_blocks",
    "reflector",
    "triangle",
]

# Rows of J that are reduced to a triangle together.  A block of a few
# parameters then stays in a core's cache: 1,000,000 x 4 takes a third of the
# time that sweeping the whole J once per column takes.
BLOCK_ROWS = 4096
# From this length on a dot product is faster than a sum that is fused.
LONG_ROW = 512


def inverse(perm: jax.Array) -> jax.Array:
    """The inverse of a permutation, ``inverse(perm)[perm[j]] == j``.

    Parameters
    ----------
    perm : (n,) int array

    Returns
    -------
    (n,) int32 array
    """
    index = jnp.arange(perm.shape[0], dtype=jnp.int32)
    # A masked sum: a scatter would become a loop over its elements.
    return jnp.sum(
        jnp.where(perm[:, None] == index[None, :], index[:, None], 0), axis=0, dtype=jnp.int32
    )


def reflector(v: jax.Array, j: int | jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """MINPACK's Householder vector that maps v onto its element j.

    Parameters
    ----------
    v : (k,) array
        Zero before element j; of a norm whose square does not overflow.
    j : int
        The element to keep.

    Returns
    -------
    u : (k,) array
        ``v / norm`` plus one at j, the norm taken with the sign of ``v[j]``;
        zero if v is zero.
    pivot : scalar
        ``u[j]``, or one if v is zero.
    diagonal : scalar
        What v is mapped to: minus the signed norm.
    """
    vj = lax.dynamic_index_in_dim(v, j, 0, keepdims=False)
    norm = jnp.sqrt(jnp.sum(v * v)) * jnp.where(vj < 0, -1.0, 1.0)
    divisor = jnp.where(norm == 0, jnp.inf, norm)
    at = jnp.arange(v.shape[0]) == j
    return divide(v, divisor) + jnp.where(at & (norm != 0), 1.0, 0.0), vj / divisor + 1.0, -norm


def triangle(rows: jax.Array, n: int) -> jax.Array:
    """Householder triangularization without pivoting.

    Parameters
    ----------
    rows : (n + 1, k) array
        Transposed: each of the first n rows is a column of the matrix, the
        last one is the right-hand side.
    n : int
        Columns to eliminate.

    Returns
    -------
    (n + 1, k) array
        R transposed (zero to the right of the diagonal) and Q'b.
    """
    index = jnp.arange(n + 1)
    position = jnp.arange(rows.shape[1])

    def eliminate(j, a):
        column = lax.dynamic_index_in_dim(a, j, 0, keepdims=False)
        u, pivot, diagonal = reflector(jnp.where(position >= j, column, 0.0), j)
        weight = jnp.where(index > j, _products(a, u) / pivot, 0.0)
        done = jnp.where(position < j, column, jnp.where(position == j, diagonal, 0.0))
        return jnp.where((index == j)[:, None], done[None, :], a - weight[:, None] * u[None, :])

    return lax.fori_loop(0, n, eliminate, rows)


def _products(rows, u):
    """``rows @ u``: for long rows as a vectorized product, else in a sum that XLA fuses."""
    if u.shape[0] >= LONG_ROW:
        return jnp.dot(rows, u, precision="highest")
    return jnp.sum(rows * u[None, :], axis=1)


def reduced_blocks(columns: jax.Array, f: jax.Array) -> jax.Array:
    """A long matrix and a right-hand side, reduced block by block, without pivoting.

    Parameters
    ----------
    columns : (n, m) array
        J transposed, m of `BLOCK_ROWS` or more.
    f : (m,) array

    Returns
    -------
    (n + 1, n) array
        Rows as `triangle` gives them, with the same R and Q'f as all of J.
    """
    n, m = columns.shape
    largest = jnp.append(jnp.max(jnp.abs(columns), axis=1), jnp.max(jnp.abs(f)))
    unit = power_of_two(largest)[:, None]

    def absorb(k, head):
        # The last block ends with the data; what it shares with the one before is blank.
        first = jnp.minimum(k * BLOCK_ROWS, m - BLOCK_ROWS)
        fresh = first + jnp.arange(BLOCK_ROWS) >= k * BLOCK_ROWS
        block = lax.dynamic_slice_in_dim(columns, first, BLOCK_ROWS, axis=1)
        right = lax.dynamic_slice_in_dim(f, first, BLOCK_ROWS, axis=0)
        rows = jnp.concatenate([block, right[None, :]]) / unit
        rows = jnp.where(fresh[None, :], rows, 0.0)
        return triangle(jnp.concatenate([head, rows], axis=1), n)[:, :n]

    blocks = -(-m // BLOCK_ROWS)
    head = lax.fori_loop(0, blocks, absorb, jnp.zeros((n + 1, n), columns.dtype))
    return head * unit


def pivoted_triangle(rows: jax.Array, unit: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`triangle` with column pivoting.

    Parameters
    ----------
    rows : (n + 1, k) array
        As for `triangle`.
    unit : (n,) array
        What the columns were divided by.

    Returns
    -------
    reduced : (n + 1, k) array
        The rows, which stay where they are.
    diagonal : (n,) array
        R's, for each column of the matrix.
    order : (n,) int array
        At which step each column was eliminated.
    """
    n = unit.shape[0]
    column_index = jnp.arange(n)
    position = jnp.arange(rows.shape[1])

    def eliminate(j, carry):
        a, diagonal, order = carry
        below = jnp.where((position >= j)[None, :], a, 0.0)
        squares = jnp.sum(below[:n] * below[:n], axis=1)
        pivot_column = jnp.argmax(jnp.where(order == n, jnp.sqrt(squares) * unit, -1.0))
        chosen = column_index == pivot_column
        column = lax.dynamic_index_in_dim(below, pivot_column, 0, keepdims=False)
        u, pivot, value = reflector(column, j)
        order = jnp.where(chosen, j, order)
        weight = jnp.where(jnp.append(order == n, True), _products(a, u) / pivot, 0.0)
        return a - weight[:, None] * u[None, :], jnp.where(chosen, value, diagonal), order

    start = rows, jnp.zeros_like(unit), jnp.full(n, n)
    return lax.fori_loop(0, n, eliminate, start)
