"""The iteration of one lane as jaxprs: to begin, to take a turn, and what to report.

They are traced from the same functions that the pool works with, for one lane without an axis of
lanes.  The state is a flat list of arrays; of J'J, which is symmetric, one half.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.iteration import turn
from jaxlsq.numerics.normal import Normal
from jaxlsq.numerics.state import Options, State, start
from jaxlsq.schedule.rounds import reported, settled, taken_in
from jaxlsq.status import Status

__all__ = ["Algebra", "algebra_of", "square", "triangle"]


@dataclass(frozen=True)
class Algebra:
    """The iteration of fits with n parameters, as jaxprs of one lane.

    Attributes
    ----------
    empty : tuple of arrays
        The flat state of a lane that has no problem.
    x, status, begun : int
        Which of it are the trial point, the status, and the number of evaluations.
    begin : ClosedJaxpr
        ``(x0, *old) -> state``: whose first trial is the start.
    turn : ClosedJaxpr
        ``(*state, gram, gradient, square, unit, sizes, evaluations, options, *bounds) -> state``,
        with one half of J'J, J'f and f'f at the trial point, and the evaluations of the residual
        that its Jacobian took.
    report : ClosedJaxpr
        ``(*state, *bounds) -> reals, counts`` of `jaxlsq.schedule.rounds.reported`.
    """

    empty: tuple[NDArray[Any], ...]
    x: int
    status: int
    begun: int
    begin: Any
    turn: Any
    report: Any


def triangle(n: int) -> list[tuple[int, int]]:
    """Rows and columns of one half of a symmetric matrix, in the order in which it is kept."""
    return [(i, j) for i in range(n) for j in range(i, n)]


def _packed(state: State) -> list[jax.Array]:
    factor = state.point.factor
    # A `Normal`, and no other model, is what lanes have.
    gram = factor.gram  # pyright: ignore[reportAttributeAccessIssue]
    half = jnp.stack([gram[i, j] for i, j in triangle(gram.shape[0])])
    factor = replace(factor, gram=half)  # pyright: ignore[reportArgumentType]
    return jax.tree.leaves(replace(state, point=replace(state.point, factor=factor)))


def square(half: Any, n: int) -> jax.Array:
    """The whole matrix (n, n) of one half, as `triangle` orders it."""
    place = {pair: k for k, pair in enumerate(triangle(n))}
    rows = [[half[place[min(i, j), max(i, j)]] for j in range(n)] for i in range(n)]
    return jnp.stack([jnp.stack(row) for row in rows])


@lru_cache(maxsize=64)
def algebra_of(n: int, dtype: np.dtype[Any], bounded: bool, final: bool, wide: bool) -> Algebra:
    """The iteration's jaxprs.

    Parameters
    ----------
    n : int
        Parameters.
    dtype : dtype
    bounded : bool
    final : bool
        As `jaxlsq.numerics.iteration.relinearize` has it.
    wide : bool
        Whether JAX has 64 bits.
    """
    with jax.enable_x64(wide), jax.numpy_rank_promotion("allow"):
        return _traced(n, dtype, bounded, final)


def _traced(n, dtype, bounded, final):
    def real(*shape):
        return jax.ShapeDtypeStruct(shape, dtype)

    def fresh(x0):
        return start(x0, Normal.empty, bounded)

    shapes = jax.eval_shape(lambda x0: (fresh(x0), _packed(fresh(x0))), real(n))
    tree, packed = jax.tree.structure(shapes[0]), shapes[1]

    def unpacked(leaves: Sequence[Any]) -> State:
        state = jax.tree.unflatten(tree, leaves)
        factor = state.point.factor
        factor = replace(factor, gram=square(factor.gram, n))
        return replace(state, point=replace(state.point, factor=factor))

    count = len(packed)

    def begin(x0, *old):
        factor = unpacked(old).point.factor
        return _packed(start(x0, lambda _: factor, bounded))

    def take_turn(*arguments):
        state, rest = unpacked(arguments[:count]), arguments[count:]
        gram, gradient, ff, unit, sizes, evaluations, options, *box = rest
        bounds = Bounds(*box) if bounded else None
        normal = Normal(square(gram, n), gradient, unit, sizes)

        def take_in(judged):
            return taken_in(final, judged, normal, options, bounds, evaluations)

        norm = jnp.sqrt(ff) * unit
        return _packed(settled(state, turn(state, norm, take_in, options, bounds)))

    def report(*arguments):
        box = arguments[count:]
        return reported(unpacked(arguments[:count]), Bounds(*box) if bounded else None)

    number, whole = real(), jax.ShapeDtypeStruct((), np.int32)
    options = Options(number, number, number, whole, number, real(n), number)
    box = [real(n)] * (2 if bounded else 0)
    state = jax.tree.unflatten(tree, range(count))
    half = real(n * (n + 1) // 2)
    idle = [np.zeros(leaf.shape, leaf.dtype) for leaf in packed]
    idle[state.status] = np.int32(Status.INTERRUPTED)
    return Algebra(
        empty=tuple(map(np.asarray, idle)),
        x=state.trial.x,
        status=state.status,
        begun=state.nfev,
        begin=jax.make_jaxpr(begin)(real(n), *packed),
        turn=jax.make_jaxpr(take_turn)(
            *packed, half, real(n), number, number, real(n), whole, options, *box
        ),
        report=jax.make_jaxpr(report)(*packed, *box),
    )
