"""Linear parameters of lanes: the points are gone through twice, for them and with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.lowering.algebra import square, triangle
from jaxlsq.lowering.arrays import Lowering, listed
from jaxlsq.lowering.reading import Reader
from jaxlsq.lowering.structural import boxed
from jaxlsq.lowering.sums import Sums, summed
from jaxlsq.lowering.tiles import Step
from jaxlsq.numerics.elimination import coefficients, without_linear

__all__ = ["Elimination", "completed", "reduced_sums"]


@dataclass(frozen=True)
class Elimination:
    """Which of a program's n parameters are linear.

    The results of its program are the residual, n columns, and derivatives of linear columns.

    Attributes
    ----------
    n : int
    linear : tuple of int
        Places of the k linear ones.
    mixed : tuple of (int, int)
        Of each derivative after the columns: the number of a linear parameter, and that of one of
        the others, by which its column is differentiated.
    """

    n: int
    linear: tuple[int, ...]
    mixed: tuple[tuple[int, int], ...]

    @cached_property
    def others(self) -> tuple[int, ...]:
        """Places of the parameters that are not linear."""
        return tuple(j for j in range(self.n) if j not in self.linear)

    @property
    def results(self) -> int:
        """How many results a program has."""
        return 1 + self.n + len(self.mixed)


def reduced_sums(
    lowering: Lowering,
    reader: Callable[..., Reader],
    elimination: Elimination,
    xs: Sequence[Any],
    dtype: Any,
) -> Sums:
    """The sums of a residual with the best linear parameters, by the others.

    Parameters
    ----------
    lowering : Lowering
    reader : callable
        ``reader(xs) -> Reader`` of the program at all parameters.
    elimination : Elimination
    xs : sequence of values
        The parameters that are not linear.
    dtype : dtype
    """
    found = _found(lowering, reader, elimination, xs, dtype)
    reduce = _reduced(elimination, dtype)
    inputs = [*found.sums, found.mixed]
    return Sums(*lowering.run(reduce.jaxpr, reduce.consts, inputs))


class Completed(NamedTuple):
    """All parameters, and the sums of their columns, of which the linear ones are first.

    Attributes
    ----------
    x : list of n values
        In the order of the program.
    sums : Sums
    """

    x: list[Any]
    sums: Sums


def completed(
    lowering: Lowering,
    reader: Callable[..., Reader],
    elimination: Elimination,
    xs: Sequence[Any],
    dtype: Any,
) -> Completed:
    """The best linear parameters and the others; arguments are those of `reduced_sums`."""
    one, found = elimination, _found(lowering, reader, elimination, xs, dtype)
    k = len(one.linear)
    places = [i for i, pair in enumerate(triangle(one.n)) if max(pair) < k]
    half = listed([found.sums.half[i] for i in places])
    # Once more for the residual that is left, which makes up for rounding.
    solve = _coefficients(k, dtype)
    (more,) = lowering.run(solve.jaxpr, solve.consts, [half, found.sums.gradient[:k]])
    c = [lowering.op("add", a, b) for a, b in zip(found.c, more, strict=True)]
    whole = _whole(one, xs, [boxed(v) for v in c])
    return Completed([v[()] for v in whole], found.sums)


class _Found(NamedTuple):
    c: Any
    sums: Sums
    mixed: Any


def _found(lowering, reader, one, xs, dtype):
    """Linear parameters, the sums with them, and of mixed derivatives with the residual."""
    zero = lowering.lift(np.zeros((), dtype))  # an array of one value
    first = _Terms(reader(_whole(one, xs, [zero] * len(one.linear))), one)
    k, pairs = len(one.linear), triangle(len(one.linear))
    found = summed(lowering, first.of_linear, len(pairs) + k, dtype, first.step)
    solve = _coefficients(k, dtype)
    (c,) = lowering.run(solve.jaxpr, solve.consts, [found[: len(pairs)], found[len(pairs) :]])
    second = _Terms(reader(_whole(one, xs, [boxed(v) for v in c])), one)
    half, n = len(triangle(one.n)), one.n
    found = summed(lowering, second.of_all, half + n + 1 + len(one.mixed), dtype, second.step)
    sums = Sums(found[:half], found[half : half + n], boxed(found[half + n]))
    return _Found(c, sums, found[half + n + 1 :])


def _whole(one, xs, linear):
    values: list[Any] = [None] * one.n
    for j, x in zip(one.others, xs, strict=True):
        values[j] = boxed(x)
    for j, c in zip(one.linear, linear, strict=True):
        values[j] = c
    return values


class _Terms:
    """What is summed at a point, the linear parameters' columns first."""

    def __init__(self, reader, one):
        self.reader, self.one = reader, one

    @property
    def step(self) -> Step:
        """For `summed`."""
        return Step(self.reader.program.rows, self.reader.program.abreast)

    def _rows(self, places):
        """The residual, columns and mixed derivatives of each row of some points."""
        one = self.one
        for results in zip(*self.reader.abreast(places), strict=True):
            values = [v.ravel() for v in results]
            for k in range(self.reader.program.rows):
                row = [v[k] for v in values]
                columns = [row[1 + j] for j in (*one.linear, *one.others)]
                yield row[0], columns, row[1 + one.n :]

    def of_linear(self, places):
        """The products of linear columns, and with the residual."""
        k = len(self.one.linear)
        return [
            [*((c[a], c[b]) for a, b in triangle(k)), *((v, f) for v in c[:k])]
            for f, c, _ in self._rows(places)
        ]

    def of_all(self, places):
        """Those of all columns, with the residual, its square, and mixed derivatives with it."""
        return [
            [
                *((c[a], c[b]) for a, b in triangle(self.one.n)),
                *((v, f) for v in c),
                (f, f),
                *((d, f) for d in mixed),
            ]
            for f, c, mixed in self._rows(places)
        ]


@lru_cache(maxsize=64)
def _coefficients(k, dtype):
    half, several = (jax.ShapeDtypeStruct((size,), dtype) for size in (k * (k + 1) // 2, k))

    def solve(half, gradient):
        return coefficients(square(half, k), gradient)

    with jax.enable_x64(dtype == np.float64):
        return jax.make_jaxpr(solve)(half, several)


@lru_cache(maxsize=64)
def _reduced(one, dtype):
    n, k = one.n, len(one.linear)
    sizes = (n * (n + 1) // 2,), (n,), (), (len(one.mixed),)

    def reduced(half, gradient, ff, mixed):
        at = {pair: mixed[i] for i, pair in enumerate(one.mixed)}
        zero = jnp.zeros((), dtype)
        rows = [jnp.stack([at.get((a, b), zero) for b in range(n - k)]) for a in range(k)]
        gram, *rest = without_linear(square(half, n), gradient, ff, jnp.stack(rows), k)
        return jnp.stack([gram[i, j] for i, j in triangle(n - k)]), *rest

    with jax.enable_x64(dtype == np.float64):
        return jax.make_jaxpr(reduced)(*(jax.ShapeDtypeStruct(size, dtype) for size in sizes))
