"""Problems of data sets that share parameters, side by side: their places, starts and steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.evaluation import packed_size
from jaxlsq.batch.interruption import answered
from jaxlsq.lowering.algebra import triangle
from jaxlsq.numerics.arrow import Arrow
from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.iteration import turn
from jaxlsq.numerics.members import Members, split
from jaxlsq.numerics.state import Options, State, start
from jaxlsq.schedule.rounds import settled, taken_in
from jaxlsq.tracing.cache import PROGRAMS
from jaxlsq.tracing.compiler import POOL_OPTIONS
from jaxlsq.tracing.settings import own_settings

__all__ = ["Arrows", "Inverse"]


class Inverse(NamedTuple):
    """What the inverse of J'J says of each data set.

    Attributes
    ----------
    blocks : (total, n, n) array
        Of its own and its shared parameters.
    inflations : (total, n) array
        Variance inflations; infinite where a parameter is not determined, one where it is not
        free.
    """

    blocks: NDArray[Any]
    inflations: NDArray[Any]


@dataclass(frozen=True)
class Arrows:
    """Problems of about one size.

    Attributes
    ----------
    sets : (total,) int array
        The data sets of all problems.
    order : tuple of int
        Places of a data set's own parameters, and then of the shared ones.
    own : int
        How many are its own.
    shared : int
        The number s of shared ones in a problem.
    place : (total,) int array
        Of each data set among those of its problem.
    problem : (total,) int array
        Its problem.
    slots : (total, q) int array
        Which shared parameters of its problem it refers to.
    size : int
        Places of a problem.
    count : int
        Problems.
    """

    sets: NDArray[Any]
    order: tuple[int, ...]
    own: int
    shared: int
    place: NDArray[Any]
    problem: NDArray[Any]
    slots: NDArray[Any]
    size: int
    count: int

    @classmethod
    def of(cls, problems: NDArray[Any], nodes: NDArray[Any], order: Sequence[int]) -> list[Self]:
        """All problems, in groups of about one size.

        Parameters
        ----------
        problems : (total,) int array
            Of each data set.
        nodes : (total, q) int array
            Numbers of the shared parameters that it refers to.
        order : sequence of int
            As the attribute.
        """
        sizes = np.bincount(problems)
        rounded = _round_up(sizes)
        out = []
        for size in np.unique(rounded):
            sets = np.flatnonzero(rounded[problems] == size)
            out.append(cls._of_size(sets, problems[sets], nodes[sets], tuple(order), int(size)))
        return out

    @classmethod
    def _of_size(cls, sets, problems, nodes, order, size):
        found, problem = np.unique(problems, return_inverse=True)
        problem = problem.reshape(-1)
        slots = np.empty_like(nodes)
        # A shared parameter belongs to one problem; there they are numbered in their order.
        used, numbers = np.unique(nodes, return_inverse=True)
        numbers = numbers.reshape(nodes.shape)
        of = np.empty(len(used), np.int64)
        of[numbers] = problem[:, None]
        first = np.searchsorted(np.sort(of), np.arange(len(found)))
        rank = np.empty(len(used), np.int64)
        rank[np.argsort(of, kind="stable")] = np.arange(len(used))
        slots = (rank - first[of])[numbers]
        by_problem = np.argsort(problem, kind="stable")
        begins = np.searchsorted(problem[by_problem], np.arange(len(found)))
        place = np.empty(len(sets), np.int64)
        place[by_problem] = np.arange(len(sets)) - begins[problem[by_problem]]
        own = len(order) - nodes.shape[1]
        shared = int(slots.max(initial=-1)) + 1
        return cls(sets, order, own, shared, place, problem, slots, size, len(found))

    @cached_property
    def _places(self):
        """Where the numbers of normal equations in the order here are in a row."""
        n = len(self.order)
        number = {pair: k for k, pair in enumerate(triangle(n))}
        pairs = [(self.order[i], self.order[j]) for i, j in triangle(n)]
        half = [number[min(pair), max(pair)] for pair in pairs]
        return [*half, *(len(pairs) + j for j in self.order), packed_size(n) - 1]

    @property
    def _common(self):
        """Whether all data sets of a problem refer to the same shared parameters."""
        return self.shared == self.slots.shape[1]

    def members(self, live: NDArray[Any]) -> Members:
        """`Members` of problems, with data sets that are `live` (total,)."""
        there = np.zeros((self.size, self.count), bool)
        there[self.place, self.problem] = live
        slots = None
        if not self._common:
            slots = np.zeros((self.slots.shape[1], self.size, self.count), np.int64)
            slots[:, self.place, self.problem] = self.slots.T
        return Members(there, slots)

    def vectors(self, x: NDArray[Any]) -> NDArray[Any]:
        """The parameters of problems (N, count), of those of data sets (total, n)."""
        x = x[:, list(self.order)]
        own = np.zeros((self.own, self.size, self.count), x.dtype)
        own[:, self.place, self.problem] = x[:, : self.own].T
        shared = np.zeros((self.shared, self.count), x.dtype)
        if self._common:
            shared[:, self.problem] = x[:, self.own :].T
        else:
            shared[self.slots, self.problem[:, None]] = x[:, self.own :]
        return np.concatenate([shared, own.reshape(-1, self.count)])

    def rows(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """`vectors`, undone."""
        shared, own = vectors[: self.shared], vectors[self.shared :]
        own = own.reshape(self.own, self.size, self.count)[:, self.place, self.problem]
        of = shared[self.slots, self.problem[:, None]]
        out = np.empty((len(self.sets), len(self.order)), vectors.dtype)
        out[:, list(self.order)] = np.concatenate([own.T, of], axis=1)
        return out

    def arranged(self, packed: NDArray[Any]) -> NDArray[Any]:
        """(size, count, k) of (total, k): each data set at its place, zeros elsewhere.

        Normal equations are of parameters in their own order, and after it in the order here.
        """
        packed = packed[:, self._places]
        if self.count == 1 and len(packed) == self.size:
            return packed[:, None]
        out = np.zeros((self.size, self.count, packed.shape[1]), packed.dtype)
        out[self.place, self.problem] = packed
        return out

    # --- programs -------------------------------------------------------------------------

    def begin(self, x0: NDArray[Any], members: Members, bounded: bool) -> State:
        """States at their starts (N, count)."""

        def begin(x0, members):
            gram = jnp.zeros((len(self.order),) * 2 + members.live.shape, x0.dtype)
            empty = Arrow(gram, jnp.zeros_like(x0), members, self.shared)
            return start(x0, lambda _: empty, bounded)

        return self._program("begin", bounded, begin)(x0, members)

    def turn(
        self,
        state: State,
        packed: NDArray[Any],
        members: Members,
        options: Options,
        bounds: Bounds | None,
    ) -> State:
        """`jaxlsq.numerics.iteration.turn` of all problems, with their normal equations.

        Parameters
        ----------
        state : State
        packed : (size, count, packed_size(n)) array
            Of data sets at ``state.trial.x``, `arranged`.
        members, options, bounds
        """
        return self._program("turn", bounds is not None, partial(_turn, self.shared))(
            state, packed, members, options, bounds
        )

    def inverse(self, packed: NDArray[Any], members: Members, free: NDArray[Any]) -> Inverse:
        """The inverse of J'J of parameters that are `free` (N, count)."""
        program = self._program("inverse", False, partial(_inverse, self.shared))
        blocks, inflations = map(np.asarray, program(packed, members, free))
        back = np.argsort(self.order)
        blocks = blocks[:, :, self.place, self.problem].transpose(2, 0, 1)
        return Inverse(blocks[:, back][:, :, back], self.rows(inflations))

    def _program(self, name, bounded, function):
        """A function that is compiled once for problems of a size."""

        def call(*arguments):
            leaves, tree = jax.tree.flatten(arguments)
            shapes = tuple((np.shape(v), str(v.dtype)) for v in leaves)
            key = ("arrows", name, bounded, self.shared, shapes, tree)
            with own_settings(), jax.enable_x64(True):
                make = partial(_compiled, function, arguments)
                return PROGRAMS.get(key, make)(*arguments)

        return call


def _compiled(function, arguments):
    return answered(jax.jit(function, **POOL_OPTIONS).lower(*arguments).compile)


def _round_up(sizes):
    """Up to a few sizes, a fourth more at most, so that few programs are compiled."""
    powers = np.ceil(np.log2(np.maximum(sizes, 8))).astype(int) - 3
    step = 2**powers
    return -(-sizes // step) * step


def _unpacked(packed):
    """(n, n, size, count), (n, size, count) and (size, count) of normal equations."""
    packed = jnp.moveaxis(packed, -1, 0)
    n = next(k for k in range(1, len(packed)) if packed_size(k) == len(packed))
    pairs = triangle(n)
    number = {pair: k for k, pair in enumerate(pairs)}
    places = [number[min(i, j), max(i, j)] for i in range(n) for j in range(n)]
    gram = packed[np.array(places)].reshape(n, n, *packed.shape[1:])
    return gram, packed[len(pairs) : -1], packed[-1]


def _turn(s, state, packed, members, options, bounds):
    gram, gradient, square = _unpacked(packed)
    arrow = Arrow.of(gram, gradient, members, s)
    norm = jnp.sqrt(jnp.sum(jnp.where(members.live, square, 0.0), axis=0))

    def take_in(judged):
        return taken_in(True, judged, arrow, options, bounds, 0)

    return settled(state, turn(state, norm, take_in, options, bounds))


def _inverse(s, packed, members, free):
    """The blocks (n, n, size, count) of the inverse, and the inflations (N, count)."""
    gram, gradient, _ = _unpacked(packed)
    arrow = Arrow.of(gram, gradient, members, s)
    norms = arrow.column_norms
    scale = jnp.where(norms > 0, norms, 1.0)
    shared, own = split(scale, members, s)
    scales = jnp.concatenate([own, members.shared(shared)])
    arrow = replace(
        arrow,
        gram=gram / scales[:, None] / scales[None, :],
        gradient=jnp.zeros_like(arrow.gradient),
    )
    _, solved = arrow.solve(jnp.zeros(norms.shape[1:]), free, jnp.zeros_like(norms))
    blocks = solved.inverse_blocks(members)
    inflations = jnp.where(free & arrow.present, arrow.inflations(solved), 1.0)
    return blocks / scales[:, None] / scales[None, :], inflations
