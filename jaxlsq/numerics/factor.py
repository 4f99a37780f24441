r"""Two factorizations that give the trust-region step the same ``(R, perm, Q'r)``.

For a Jacobian J and a residual f, both find an upper triangular R and a
permutation P with

.. math:: J P = Q R, \qquad Q^T Q = I,

of which the step needs R, P, the first n elements of :math:`Q^T f` and the norms
of J's columns.

`qr` is MINPACK's: Householder reflections on J itself, with column pivoting.
`cholesky` works on :math:`J^T J` and is cheaper for many small lanes, but
loses half the digits of an ill-conditioned J.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.norm import divide, norm2, power_of_two

__all__ = ["Factor", "cholesky", "qr"]

# Rows of J that are reduced to a triangle together.  A block of a few
# parameters then stays in a core's cache: 1,000,000 x 4 takes a third of the
# time that sweeping the whole J once per column takes.
BLOCK_ROWS = 4096
LONG_ROW = 512


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Factor:
    """What the trust-region step needs to know of a Jacobian and a residual.

    Attributes
    ----------
    r : (n, n) array
        Upper triangular R, columns in pivoted order.
    perm : (n,) int array
        Column j of R belongs to parameter ``perm[j]``.
    qtf : (n,) array
        First n elements of Q'f.
    column_norms : (n,) array
        Norms of J's columns, in the order of the parameters.
    """

    r: jax.Array
    perm: jax.Array
    qtf: jax.Array
    column_norms: jax.Array


def qr(jac, f):
    """Householder QR with column pivoting of a Jacobian, applied to a residual.

    Parameters
    ----------
    jac : (m, n) array
        Jacobian, m >= n.
    f : (m,) array
        Residual.

    Returns
    -------
    Factor

    Notes
    -----
    The next column is the one with the largest norm below the rows that are
    done, as in MINPACK's ``qrfac`` (Businger and Golub, Numer. Math. 7, 269,
    1965); the norms are recomputed where MINPACK down-dates them.  Columns and
    residual are brought to a norm near one first, by powers of two, so that no
    square leaves the range of the type and nothing is rounded.  More than
    ``2 * BLOCK_ROWS`` rows are reduced, block by block and without pivoting, to
    n rows with the same R in exact arithmetic (Golub, Van Loan, "Matrix
    Computations", section 6.5 on adding rows).
    """
    n = jac.shape[1]
    if jac.shape[0] > 2 * BLOCK_ROWS:
        rows = _reduce_blocks(jac.T, f)
    else:
        rows = jnp.concatenate([jac.T, f[None, :]])  # a column of J, contiguous, per row
    norms = norm2(rows)
    unit = power_of_two(norms)
    rows = rows / unit[:, None]
    reduced, diagonal, order = _pivoted_triangle(rows, unit[:n])
    head = reduced[:n, :n] * unit[:n, None]
    perm = inverse(order)
    r = jnp.triu(head[perm].T, 1) + jnp.diag((diagonal * unit[:n])[perm])
    return Factor(r, perm, reduced[n, :n] * unit[n], norms[:n])


def cholesky(jac, f):
    """Pivoted Cholesky factorization of the column-scaled normal matrix.

    Parameters and result are `qr`'s.  The signs of R's rows may differ, which
    changes no step.  A pivot that is zero to rounding, n * eps of its column's
    norm squared, ends the factorization: R's remaining rows are zero, which the
    step reads as a singular direction.

    Notes
    -----
    Higham, "Accuracy and Stability of Numerical Algorithms", section 10.3.
    """
    n = jac.shape[1]
    column_norms = norm2(jac, axis=0)
    unit = jnp.where(column_norms == 0, 1.0, column_norms)
    scaled = jac / unit[None, :]
    gram = jnp.einsum("mi,mj->ij", scaled, scaled, precision="highest")
    projected = jnp.einsum("mi,m->i", scaled, f, precision="highest")
    index = jnp.arange(n)
    floor = n * jnp.finfo(jac.dtype).eps

    def eliminate(j, carry):
        # `left` is the Schur complement with the right-hand side as last column;
        # row j of R grows in the order of the parameters.
        left, rows, order = carry
        free = order == n
        diagonal = jnp.where(free, jnp.diagonal(left), -1.0)
        pivot = jnp.argmax(diagonal)
        chosen = index == pivot
        value = jnp.max(diagonal)
        live = value > floor
        root = jnp.sqrt(jnp.where(live, value, 1.0))
        pivot_row = lax.dynamic_index_in_dim(left, pivot, 0, keepdims=False)
        row = jnp.where(live, pivot_row / root, 0.0)
        keep = jnp.append(free, True)
        row = jnp.where(keep, row, 0.0)
        left = left - row[:n, None] * row[None, :]
        rows = jnp.where((index == j)[:, None], row[None, :], rows)
        return left, rows, jnp.where(chosen, j, order)

    start = (
        jnp.column_stack([gram, projected]),
        jnp.zeros((n, n + 1), jac.dtype),
        jnp.full(n, n),
    )
    _, rows, order = lax.fori_loop(0, n, eliminate, start)
    perm = inverse(order)
    r = jnp.triu((rows[:, :n] * unit[None, :])[:, perm])
    return Factor(r, perm, rows[:, n], column_norms)


def inverse(perm):
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


def reflector(v, j):
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


def triangle(rows, n):
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


def _reduce_blocks(columns, f):
    """J transposed (n, m) and f (m,) to (n + 1, n) with the same R and Q'f, block by block."""
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


def _pivoted_triangle(rows, unit):
    """`triangle` with column pivoting.

    Columns stay where they are: ``order[k]`` says at which step column k was
    eliminated.  `unit` are the factors that the columns were divided by.
    Returns the reduced rows, the diagonal of R per column, and the order.
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
