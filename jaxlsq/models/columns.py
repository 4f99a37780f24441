"""Linear least squares over the columns of a guess."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.models.sample import Sample

__all__ = ["Columns", "alone", "changes", "least_squares", "orthonormal", "without"]

# Of the largest eigenvalue's bound, added to the diagonal: columns that depend on one another.
_RIDGE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-6}
# A column less than so many epsilons of y away from it is y.
_ROUNDING = 4.0

Columns = Sequence[jax.Array]


def _inner(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")


def _solved(gram: list[list[Any]], right: list[Any], ridge: float) -> list[Any]:
    """Solutions of small symmetric systems whose elements are arrays, by elimination.

    Each unknown is in units in which its column has length one.
    """
    p = len(right)
    sizes = [jnp.sqrt(gram[k][k]) for k in range(p)]
    inverse = [jnp.where(s > 0, 1.0 / jnp.where(s > 0, s, 1.0), 0.0) for s in sizes]
    a = [[gram[i][j] * inverse[i] * inverse[j] for j in range(p)] for i in range(p)]
    b = [right[k] * inverse[k] for k in range(p)]
    for k in range(p):
        a[k][k] = jnp.full_like(sizes[k], 1.0 + ridge * (p - 1))
    for k in range(p):
        for i in range(k + 1, p):
            factor = a[i][k] / a[k][k]
            a[i] = [a[i][j] - factor * a[k][j] if j > k else a[i][j] for j in range(p)]
            b[i] = b[i] - factor * b[k]
    values: list[Any] = [None] * p
    for k in reversed(range(p)):
        rest = sum((a[k][j] * values[j] for j in range(k + 1, p)), jnp.zeros_like(b[k]))
        values[k] = (b[k] - rest) / a[k][k]
    return [v * i for v, i in zip(values, inverse, strict=True)]


def least_squares(columns: Columns, y: jax.Array, weights: jax.Array) -> list[jax.Array]:
    """Coefficients of (m,) columns whose sum is nearest to y; of dependent ones, small ones."""
    ridge = _RIDGE[y.dtype]
    gram = [[_inner(a * weights, b) for b in columns] for a in columns]
    found = _solved(gram, [_inner(a * weights, y) for a in columns], ridge)
    return alone(columns, y, weights, found)


def alone(
    columns: Columns, y: jax.Array, weights: jax.Array, coefficients: Sequence[jax.Array]
) -> list[jax.Array]:
    """The coefficients; or where one column is all of y, its own, and zero for the others.

    So a fit of constant data begins at the constant, and not beside it with an exponential, say,
    of the size of rounding, whose rate it would take for known.
    """
    least = (_ROUNDING * jnp.finfo(y.dtype).eps) ** 2 * _inner(y * weights, y)
    found = list(coefficients)
    for k, column in enumerate(columns):
        whole = _inner(column * weights, column)
        own = jnp.zeros_like(whole)
        for _ in range(2):  # of a constant once is not exact
            rest = y - own * column
            own = own + _inner(column * weights, rest) / jnp.where(whole > 0, whole, 1.0)
        rest = y - own * column
        enough = _inner(rest * weights, rest) <= least
        found = [jnp.where(enough, own if j == k else 0.0, c) for j, c in enumerate(found)]
    return found


def orthonormal(columns: Columns, like: Sample) -> jax.Array:
    """(q, m): columns of length one, orthogonal to each other; zero for one that depends on others.

    Zero also where a point does not count.
    """
    dtype, m = like.y.dtype, like.m
    if not len(columns):
        return jnp.zeros((0, m), dtype)
    rows = jnp.stack([jnp.broadcast_to(c, (m,)).astype(dtype) for c in columns]) * like.weights
    rows = jnp.where(jnp.isfinite(rows), rows, 0.0)

    def added(done: Any, numbered: tuple[Any, Any]):
        k, row = numbered
        length = jnp.sqrt(_inner(row, row))
        for _ in range(2):  # once loses digits
            row = row - _inner(_inner(done, row), done)
        size = jnp.sqrt(_inner(row, row))
        good = size > 1e-3 * length
        return done.at[k].set(jnp.where(good, row / jnp.where(good, size, 1.0), 0.0)), None

    numbers = jnp.arange(len(columns))
    return lax.scan(added, jnp.zeros_like(rows), (numbers, rows))[0]


def without(y: jax.Array, others: jax.Array) -> jax.Array:
    """Less its parts along orthonormal columns."""
    return y - _inner(_inner(others, y), others)


def changes(
    columns: list[jax.Array], sample: Sample, others: jax.Array
) -> tuple[jax.Array, list[jax.Array]]:
    """By how much candidates change the sum of squares, and their coefficients.

    Parameters
    ----------
    columns : list of (k, m) arrays
        Of k candidates.
    sample : Sample
        Whose y is orthogonal to the others.
    others : (q, m) array
        Orthonormal columns, which may be added freely.
    """
    weights, y, ridge = sample.weights, sample.y, _RIDGE[sample.y.dtype]
    along = [_inner(a, others.T) for a in columns]
    gram: list[list[Any]] = [[None] * len(columns) for _ in columns]
    for i, a in enumerate(columns):
        for j, b in enumerate(columns[: i + 1]):
            whole = _inner(a * b, weights)
            value = whole - jnp.sum(along[i] * along[j], axis=-1)
            if i == j:  # nothing is left of what the others can do
                value = jnp.where(value > 1e3 * ridge * whole, value, 0.0)
            gram[i][j] = gram[j][i] = value
    right = [_inner(a, weights * y) for a in columns]
    found = _solved(gram, right, ridge)
    # Of c: c'Gc - 2 b'c.
    change = jnp.zeros_like(right[0])
    for i, c in enumerate(found):
        change = change - 2.0 * right[i] * c
        for j, d in enumerate(found):
            change = change + gram[i][j] * c * d
    return jnp.where(jnp.isfinite(change), change, jnp.inf), found
