r"""Guesses: linear least squares over candidates of what is not linear.

A model :math:`\sum_k c_k \phi_k(x; \theta)` has a best c in closed form for each :math:`\theta`
(variable projection). A `Scan` tries some tens to some hundreds of :math:`\theta`, laid out over
the range of x, takes the one whose sum of squares is least, and looks around it once or twice
again. It needs no derivative, no sorted x and no clean data; what a guess costs is that of some
tens of evaluations of the model.

Source: G. H. Golub, V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least
squares problems whose variables separate", SIAM J. Numer. Anal. 10 (1973) 413-432.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

__all__ = [
    "Columns",
    "Found",
    "Sample",
    "Scan",
    "alone",
    "better",
    "least_squares",
    "orthonormal",
    "sample_of",
    "scaled",
    "spread",
    "without",
]

# Candidates that are worked side by side.
_CHUNK = 8
# Of the largest eigenvalue's bound, added to the diagonal: columns that depend on one another.
_RIDGE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-6}
# A column less than so many epsilons of y away from it is y.
_ROUNDING = 4.0

Columns = Sequence[jax.Array]
# By how much the sum of squares changes, values of a candidate, coefficients of its columns.
Found = tuple[Any, Any, Any]


@dataclass(frozen=True)
class Sample:
    """One data set, as guesses look at it.

    Attributes
    ----------
    x : (m,) array, or tuple of them
        One for each variable.
    y : (m,) array
    weights : (m,) array
        One; zero for a point that repeats the one before it.
    low, span : number, or tuple of them
        The least x and the range of x; where it is zero, one.
    """

    x: Any
    y: jax.Array
    weights: jax.Array
    low: Any
    span: Any

    @property
    def m(self) -> int:
        """The number of points."""
        return self.y.shape[0]


def sample_of(x: Any, y: Any) -> Sample:
    """The `Sample` of x, an (m,) or (d, m) array or a tuple, and y.

    Points that do not count come as repeated last ones, so that a repeated point weighs nothing.

    Raises
    ------
    ValueError
        For a y of more than one data set.
    """
    if jnp.ndim(y) != 1:
        raise ValueError(
            f"a guess is of one data set, y of shape (m,); got {jnp.shape(y)}. For many use "
            "jax.vmap(model.guess, (None, 0))(x, y), or leave p0 out of fit."
        )
    dtype = jnp.result_type(y, *jax.tree.leaves(x), 1.0)
    several = isinstance(x, (tuple, list)) or jnp.ndim(x) > 1
    variables = tuple(jnp.asarray(v, dtype) for v in (x if several else (x,)))
    y = jnp.asarray(y, dtype)
    again = y[1:] == y[:-1]
    for variable in variables:
        again = again & (variable[1:] == variable[:-1])
    weights = jnp.concatenate([jnp.ones(1, dtype), jnp.where(again, 0.0, 1.0).astype(dtype)])
    low = tuple(jnp.min(v) for v in variables)
    span = tuple(jnp.max(v) - a for v, a in zip(variables, low, strict=True))
    span = tuple(jnp.where(s > 0, s, jnp.ones((), dtype)) for s in span)
    if several:
        return Sample(variables, y, weights, low, span)
    return Sample(variables[0], y, weights, low[0], span[0])


def spread(*axes: Sequence[float] | NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """All combinations of the values of some axes, a flat array of each."""
    return tuple(v.ravel() for v in np.meshgrid(*map(np.asarray, axes), indexing="ij"))


def _inner(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")


def _solved(gram: list[list[Any]], right: list[Any], ridge: float):
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


def scaled(sample: Sample) -> tuple[Sample, jax.Array]:
    """With y over about its largest size, and that size; one where all are zero.

    It is a power of two, over which and times which nothing is rounded.
    """
    size = jnp.max(jnp.abs(sample.y))
    known = (size > 0) & jnp.isfinite(size)
    size = jnp.ldexp(jnp.ones_like(size), jnp.frexp(jnp.where(known, size, 1.0))[1] - 1)
    return replace(sample, y=sample.y / size), size


@dataclass(frozen=True)
class Scan:
    """A guess that tries candidates.

    Attributes
    ----------
    candidates : callable
        ``candidates(sample) -> values``: (k,) arrays, one for each nonlinear parameter. Or a list
        of such: of those that do not depend on y, a batch with one x computes the columns once.
    columns : callable
        ``columns(x, *values) -> (m,) arrays`` of one candidate, of about one at their largest.
    assemble : callable
        ``assemble(sample, values, coefficients) -> dict`` of the parameters.
    around : callable or None
        ``around(sample, round, *values) -> values``: candidates near the best one.
    rounds : int
        How often that is asked.
    placed : bool
        Whether the first two values are a place in x and a width.
    """

    candidates: Callable[..., Any]
    columns: Callable[..., Any]
    assemble: Callable[..., dict[str, Any]]
    around: Callable[..., Any] | None = None
    rounds: int = 1
    placed: bool = False

    def __call__(self, x: Any, y: Any) -> dict[str, jax.Array]:
        sample, size = scaled(sample_of(x, y))
        _, values, coefficients = self.refined(sample, self.searched(sample))
        columns = [jnp.asarray(c, sample.y.dtype) for c in self.columns(sample.x, *values)]
        coefficients = alone(columns, sample.y, sample.weights, coefficients)
        return self.params(sample, values, [c * size for c in coefficients])

    def params(self, sample: Sample, values: Any, coefficients: Any) -> dict[str, jax.Array]:
        """The parameters of a candidate and of its columns' coefficients."""
        found = self.assemble(sample, values, coefficients)
        most = jnp.finfo(sample.y.dtype).max  # of x far from zero an amplitude there may be more
        clipped = {name: jnp.clip(v, -most, most) for name, v in found.items()}
        return {name: jnp.asarray(v, sample.y.dtype) for name, v in clipped.items()}

    def searched(
        self,
        sample: Sample,
        others: jax.Array | None = None,
        allowed: Callable[..., Any] | None = None,
    ) -> Found:
        """The best candidate beside orthonormal columns.

        Where given, ``allowed(values, coefficients)`` says which may be taken.
        """
        others = orthonormal((), sample) if others is None else others
        seen = replace(sample, y=without(sample.y, others))
        found = self.candidates(seen)
        several = found if isinstance(found, list) else [found]
        bests = [self._best(seen, values, others, allowed) for values in several]
        return reduce(better, bests)

    def refined(
        self,
        sample: Sample,
        best: Found,
        others: jax.Array | None = None,
        first: Any = 0,
        rounds: int = 0,
        allowed: Callable[..., Any] | None = None,
    ) -> Found:
        """The best of those around one, in rounds from the first on, which are ever closer."""
        others = orthonormal((), sample) if others is None else others
        seen, around = replace(sample, y=without(sample.y, others)), self.around
        if around is None:
            return best

        def closer(number: Any, best: Any):
            near = around(seen, first + number, *best[1])
            return better(best, self._best(seen, near, others, allowed))

        return lax.fori_loop(0, rounds or self.rounds, closer, best)

    def measured(self, sample: Sample, values: Any, others: jax.Array) -> Found:
        """One candidate beside orthonormal columns."""
        seen = replace(sample, y=without(sample.y, others))
        return self._best(seen, tuple(v[None] for v in values), others, None)

    def _best(
        self,
        sample: Sample,
        values: tuple[Any, ...],
        others: Any,
        allowed: Callable[..., Any] | None,
    ):
        dtype, count = sample.y.dtype, len(values[0])
        rows = -(-count // _CHUNK)
        chunk = -(-count // rows)
        places = np.minimum(np.arange(rows * chunk), count - 1).reshape(rows, chunk)
        chunks = [jnp.asarray(v, dtype)[places] for v in values]

        def tried(best: Any, some: Any):
            columns = jax.vmap(lambda *v: tuple(self.columns(sample.x, *v)))(*some)
            change, found = _changes([jnp.asarray(c, dtype) for c in columns], sample, others)
            if allowed is not None:
                change = jnp.where(allowed(some, found), change, jnp.inf)
            k = jnp.argmin(change)
            new = (change[k], tuple(v[k] for v in some), tuple(c[k] for c in found))
            return better(best, new), None

        first = tuple(v[0, 0] for v in chunks)
        width = len(jax.eval_shape(lambda: tuple(self.columns(sample.x, *first))))
        zeros = tuple(jnp.zeros((), dtype) for _ in range(width))
        start = (jnp.asarray(jnp.inf, dtype), first, zeros)
        return lax.scan(tried, start, tuple(chunks))[0]


def _changes(columns: list[jax.Array], sample: Sample, others: Any):
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


def better(old: Any, new: Any) -> Any:
    """That of two trees whose first entry is less."""
    return jax.tree.map(lambda a, b: jnp.where(new[0] < old[0], b, a), old, new)
