"""Differences for derivatives that are not finite where the residual is, in lanes that have some.

The columns go to memory first, with the differences of one parameter after the other in them, and
are summed from there.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.lowering.algebra import triangle
from jaxlsq.lowering.arrays import Lowering, listed
from jaxlsq.lowering.control import Carry
from jaxlsq.lowering.reading import Reader
from jaxlsq.lowering.structural import boxed
from jaxlsq.lowering.sums import Factors, Sums, accumulated
from jaxlsq.lowering.tiles import Step
from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.repair import REPAIR_EVALUATIONS, difference_of, repair_points

__all__ = ["Repair", "repair"]


class Repair(NamedTuple):
    """Where sums are repaired.

    Attributes
    ----------
    x : (n,) array of values
    box : list of arrays of values
        Lower and upper bounds, or nothing.
    columns : str
        Memory for n columns at all points.
    reader : callable
        ``reader(xs) -> Reader`` of the program at other parameters.
    factors : Factors or None
        What rows and columns are multiplied with.
    rows : int
        Rows of the program: with a loss several, and what is differentiated follows the columns.
    """

    x: Any
    box: list[Any]
    columns: str
    reader: Any
    factors: Factors | None
    rows: int


@lru_cache(maxsize=64)
def _points(n, dtype, bounded, wide):
    several = jax.ShapeDtypeStruct((n,), dtype)

    def points(x, *box):
        return repair_points(x, Bounds(*box) if bounded else None)

    with jax.enable_x64(wide):
        return jax.make_jaxpr(points)(several, *[several] * (2 if bounded else 0))


@lru_cache(maxsize=64)
def _element(dtype, wide):
    real = jax.ShapeDtypeStruct((), dtype)

    def element(known, behind, here, ahead, back, forward):
        difference = difference_of((behind, here, ahead), (back, forward))
        return jnp.where(jnp.isfinite(known), known, difference)

    with jax.enable_x64(wide):
        return jax.make_jaxpr(element)(*[real] * 6)


def repair(lowering: Lowering, sums: Sums, where: Repair) -> tuple[Sums, Any]:
    """Sums that are finite where differences are, and the evaluations that those took.

    Returns
    -------
    Sums
    evaluations : Value
        An int32 of each lane.
    """
    e, n = lowering.emitter, len(where.x)
    finite = lowering.op("is_finite", sums.square[()], dtype=bool)
    infinite = []
    for s, (i, j) in zip(sums.half, triangle(n), strict=True):
        if i == j:
            bad = lowering.invert(lowering.op("is_finite", s, dtype=bool))
            infinite.append(lowering.all_of(bad, finite))
    some, count = infinite[0], e.constant(0, np.int32)
    for bad in infinite:
        some = lowering.op("or", some, bad, dtype=bool)
        each = e.constant(REPAIR_EVALUATIONS, np.int32)
        count = lowering.op("add", count, lowering.where(bad, each, e.constant(0, np.int32)))
    out = Carry(e, [sums.half, sums.gradient])
    with e.when(e.any(some), likely=False):
        out.choose(some, _repaired(lowering, where))
    half, gradient = out.load()
    return Sums(half, gradient, sums.square), count


def _repaired(lowering, where):
    e, n, dtype = lowering.emitter, len(where.x), where.x[0].dtype
    wide = dtype == np.float64
    points = _points(n, dtype, bool(where.box), wide)
    ahead, behind = lowering.run(points.jaxpr, points.consts, [where.x, *where.box])
    e.repeat("0", str(n), lambda j: _column(lowering, where, j, (ahead, behind)))
    return _summed(lowering, where, dtype)


def _column(lowering, where, j, moved):
    """Column j into memory, for j that is known when it runs."""
    e, n, dtype = lowering.emitter, len(where.x), where.x[0].dtype
    element = _element(dtype, dtype == np.float64)
    here_j = [_is(lowering, j, k) for k in range(n)]

    def place(of):
        return [boxed(_pick(e, c, v, x)) for c, v, x in zip(here_j, of, where.x, strict=True)]

    def step(a, b):
        steps = [lowering.op("sub", p, q) for p, q in zip(a, b, strict=True)]
        return _picked(e, here_j, steps)

    ahead, behind = moved
    forward, back = step(ahead, where.x), step(where.x, behind)
    readers = [where.reader(xs) for xs in (map(boxed, where.x), place(ahead), place(behind))]

    def at_point(i):
        at = [[v.ravel() for v in reader.at(i)] for reader in readers]
        rows = readers[0].program.rows
        for k in range(rows):
            here, front, rear = ([v[k] for v in results] for results in at)
            known = _picked(e, here_j, here[where.rows : where.rows + n])
            plain = len(here) - 1 if where.rows > 1 else 0
            inputs = known, rear[plain], here[plain], front[plain], back, forward
            (value,) = lowering.run(element.jaxpr, element.consts, [boxed(v) for v in inputs])
            e.store(value[()], _element_of(e, where, (j, i), (rows, k), dtype))

    e.repeat("0", "%points", at_point)


def _element_of(e, where, place, row, dtype):
    """Where column j's element of the k-th of some rows of point i is: (j, i) and (rows, k)."""
    (j, i), (rows, k) = place, row
    index = e.sum(i, e.product(j, "%points")) if j else i
    return e.address(where.columns, e.vector(dtype), e.sum(e.product(index, rows), k))


def _is(lowering, j, k):
    """Whether j, which is known when it runs, is k: a scalar."""
    return lowering.emitter.named(f"icmp eq i64 {j}, {k}")


def _pick(e, condition, yes, no):
    kind = e.vector(yes.dtype)
    return e.value(f"select i1 {condition}, {kind} {yes.name}, {kind} {no.name}", yes.dtype)


def _picked(e, conditions, values):
    """The one of which the condition holds."""
    out = values[0]
    for condition, value in zip(conditions[1:], values[1:], strict=True):
        out = _pick(e, condition, value, out)
    return out


def _summed(lowering, where, dtype):
    """J'J and J'f of the columns in memory."""
    e, n = lowering.emitter, len(where.x)
    reader: Reader = where.reader(map(boxed, where.x))

    count = reader.program.rows

    def at_points(points):
        (i,) = points
        results = [v.ravel() for v in reader.at(i)[: where.rows]]
        pairs = []
        for k in range(count):
            places = [_element_of(e, where, (j, i), (count, k), dtype) for j in range(n)]
            pairs.append(([v[k] for v in results], [e.load(place, dtype) for place in places]))
        if where.factors is not None:
            return [where.factors.applied(lowering, *pair) for pair in pairs]
        return pairs

    sums = accumulated(lowering, at_points, n, dtype, Step(count))
    return [listed(list(sums.half)), listed(list(sums.gradient))]
