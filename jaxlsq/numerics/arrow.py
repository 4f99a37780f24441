r"""The normal equations of data sets that share some parameters: a matrix like an arrow.

Each data set i has parameters of its own, and all have some in common.  With a data set's J'J in
blocks :math:`U_i` (its own), :math:`W_i` (its own by shared) and :math:`V_i` (shared),

.. math:: \begin{pmatrix} U_1 & & W_1 \\ & U_2 & W_2 \\ W_1^T & W_2^T & \sum_i V_i \end{pmatrix},
          \qquad S = \sum_i V_i - W_i^T U_i^{-1} W_i,

of which S, the Schur complement, is as small as the shared parameters are few.  Nothing is larger
than one data set's block times their number.

Shapes: k data sets each have p parameters of their own and refer to q of the s shared ones; more
axes at the end are further problems.  The vector of all n = s + p k parameters has the shared ones
first, then the first own one of every data set, the second, and so on.
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from jaxlsq.numerics.bounds import box_steps
from jaxlsq.numerics.linear_model import Box, Region, Step
from jaxlsq.numerics.sweep import floor_of, sweep
from jaxlsq.numerics.trust_region import levenberg_parameter, norm

__all__ = ["Arrow", "Members", "Solved", "joined", "split"]

# Part of a parameter in a direction that is not determined, from which on it is not either.
PART = 1e-4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Members:
    """Which data sets a problem has, and which shared parameters each refers to.

    Attributes
    ----------
    live : (k, ...) bool array
        Places that a data set is at.
    slots : (q, k, ...) int array or None
        Numbers of the shared parameters; None where all refer to all, in their order.
    """

    live: Any
    slots: Any

    def shared(self, values: jax.Array) -> jax.Array:
        """What each data set has of shared values: (q, k, ...) of (s, ...)."""
        if self.slots is None:
            return jnp.broadcast_to(values[:, None], (len(values), *self.live.shape))
        flat = self.slots.reshape(-1, *self.slots.shape[2:])
        return jnp.take_along_axis(values, flat, axis=0).reshape(self.slots.shape)

    def summed(self, values: jax.Array, s: int) -> jax.Array:
        """The sums (s, ...) over the data sets of what each has (q, k, ...)."""
        values = jnp.where(self.live, values, 0.0)
        if self.slots is None:
            return jnp.sum(values, axis=1)
        zeros = jnp.zeros((s, *values.shape[2:]), values.dtype)
        return zeros.at[(self.slots, *self._problems)].add(values)

    def squares(self, values: jax.Array, s: int) -> jax.Array:
        """The sums (s, s, ...) of (q, q, k, ...)."""
        values = jnp.where(self.live, values, 0.0)
        if self.slots is None:
            return jnp.sum(values, axis=2)
        zeros = jnp.zeros((s, s, *values.shape[3:]), values.dtype)
        return zeros.at[(self.slots[:, None], self.slots[None, :], *self._problems)].add(values)

    def pairs(self, matrix: jax.Array) -> jax.Array:
        """What each data set has of a matrix of shared ones: (q, q, k, ...) of (s, s, ...)."""
        if self.slots is None:
            return jnp.broadcast_to(matrix[:, :, None], (*matrix.shape[:2], *self.live.shape))
        return matrix[(self.slots[:, None], self.slots[None, :], *self._problems)]

    @property
    def _problems(self):
        return jnp.indices(self.live.shape[1:], sparse=True)

    def count(self, s: int) -> int:
        """q."""
        return s if self.slots is None else self.slots.shape[0]


def split(x: jax.Array, members: Members, s: int) -> tuple[jax.Array, jax.Array]:
    """The shared ones (s, ...) and the own ones (p, k, ...) of a vector (n, ...)."""
    k = members.live.shape[0]
    return x[:s], x[s:].reshape(-1, k, *x.shape[1:])


def joined(shared: jax.Array, own: jax.Array) -> jax.Array:
    """`split`, undone."""
    return jnp.concatenate([shared, own.reshape(-1, *own.shape[2:])])


class Solved(NamedTuple):
    """An arrow with its own and then its shared rows swept.

    Attributes
    ----------
    own : (p, p, k, ...) array
        Minus the inverses of U.
    across : (p, q, k, ...) array
        U^-1 W.
    schur : (s, s, ...) array
        S after the sweep of its rows that were usable.
    usable, lost : (s, ...) bool arrays
        Those; and those that were to be swept and are zero to rounding.
    """

    own: jax.Array
    across: jax.Array
    schur: jax.Array
    usable: jax.Array
    lost: jax.Array

    @property
    def shared(self) -> jax.Array:
        """Minus the inverse of S (s, s, ...), zero for what was not swept."""
        return jnp.where(self.usable[:, None] & self.usable[None, :], self.schur, 0.0)

    def undetermined(self, members: Members) -> tuple[jax.Array, jax.Array]:
        """Which shared (s, ...) and own (p, k, ...) parameters a lost row takes with it.

        Those that have a part in the direction along which nothing changes, in which the lost one
        moves by one: more than 1e-4 of it, in parameters whose columns have one length.
        """
        s = len(self.lost)
        eye = jnp.eye(s).reshape(s, s, *(1,) * (self.lost.ndim - 1))
        moved = jnp.where(self.usable[:, None], -self.schur, eye)
        moved = jnp.where(self.lost[None, :], moved, 0.0)
        steps = [jnp.sum(self.across * members.shared(moved[:, j])[None], axis=1) for j in range(s)]
        own = jnp.max(jnp.abs(jnp.stack(steps)), axis=0)
        return jnp.max(jnp.abs(moved), axis=1) > PART, own > PART

    def inverse_blocks(self, members: Members) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The inverse's blocks of each data set: own (p, p, k, ...), across, shared (q, q, ...)."""
        inverse = -members.pairs(self.shared)
        across = -jnp.sum(self.across[:, :, None] * inverse[None], axis=1)
        own = -jnp.sum(across[:, None] * self.across[None], axis=2) - self.own
        return own, across, inverse


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Arrow:
    """A `jaxlsq.numerics.linear_model.LinearModel` of data sets that share parameters.

    It is a `jaxlsq.numerics.bounds.BoxProblem` too, in the parameters that it is of.

    Attributes
    ----------
    gram : (p + q, p + q, k, ...) array
        J'J of each data set, its own parameters first; zero where no data set is.
    gradient : (n, ...) array
        J'f.
    members : Members
    shared : int
        s.
    """

    gram: jax.Array
    gradient: jax.Array
    members: Members
    shared: int = field(metadata={"static": True})

    @classmethod
    def of(cls, gram: jax.Array, gradient: jax.Array, members: Members, s: int) -> Self:
        """From J'J and J'f (p + q, k, ...) of each data set."""
        p, live = gram.shape[0] - members.count(s), members.live
        gram, gradient = jnp.where(live, gram, 0.0), jnp.where(live, gradient, 0.0)
        return cls(gram, joined(members.summed(gradient[p:], s), gradient[:p]), members, s)

    @property
    def own(self) -> int:
        """How many parameters each data set has of its own."""
        return self.gram.shape[0] - self.members.count(self.shared)

    @property
    def _diagonal(self):
        diagonal = jnp.stack([self.gram[j, j] for j in range(self.gram.shape[0])])
        return joined(self.members.summed(diagonal[self.own :], self.shared), diagonal[: self.own])

    @property
    def column_norms(self) -> jax.Array:
        """Norms of J's columns."""
        return jnp.sqrt(self._diagonal)

    @property
    def direction(self) -> jax.Array:
        """The gradient J'f."""
        return self.gradient

    def largest_gradient(self, held: jax.Array | bool) -> jax.Array:
        """The largest element of the gradient, but for parameters that are held."""
        return jnp.max(jnp.where(held, 0.0, jnp.abs(self.gradient)), axis=0)

    def cosines(self, fnorm: jax.Array) -> jax.Array:
        """Between the residual and each column; zero for a zero column."""
        lengths = self.column_norms
        safe = jnp.where(lengths == 0, 1.0, lengths)
        return jnp.where(lengths == 0, 0.0, jnp.abs(self.gradient) / fnorm / safe)

    # --- steps ------------------------------------------------------------------------

    def step(self, region: Region, idle: jax.Array | bool = False) -> Step:
        """The Levenberg-Marquardt step; see `LinearModel.step`."""
        one = self._scaled(region)
        free, nothing = jnp.ones(one.gradient.shape, bool), jnp.zeros_like(one.gradient)

        def attempt(damping):
            q, solved = one.solve(damping, free, nothing)
            length = norm(q)
            slope = one.spread(solved, q) / jnp.where(length == 0, 1.0, length)
            return q, length, slope, one.rank(solved, free)

        bound = region.step_bound / region.fnorm
        damping, q, rank = levenberg_parameter(attempt, one.gradient, bound, region.damping, idle)
        return one.told(damping, q, rank, region)

    def step_in_box(self, box: Box, region: Region, idle: jax.Array | bool = False) -> Step:
        """The same with p inside a box; see `LinearModel.step_in_box`."""
        one = self._scaled(region)
        scale = jnp.where(jnp.isinf(region.scale), 1.0, region.scale) / region.fnorm
        attempt, sides = box_steps(one, Box(*(end * scale for end in box)), idle)
        bound = region.step_bound / region.fnorm
        how = bound, region.damping, idle, sides
        damping, q, rank = levenberg_parameter(attempt, one.gradient, *how)
        return one.told(damping, q, rank, region)

    def _scaled(self, region):
        """The same in parameters over their scale, with the residual over its norm.

        Steps are then in parts of ``||f||``.
        """
        shared, own = split(region.scale, self.members, self.shared)
        scale = jnp.concatenate([own, self.members.shared(shared)])
        gram = self.gram / scale[:, None] / scale[None, :]
        return replace(self, gram=gram, gradient=self.gradient / region.scale / region.fnorm)

    def told(self, damping: jax.Array, q: jax.Array, rank: jax.Array, region: Region) -> Step:
        """A step in scaled parameters as a `Step`."""
        curved = self._form(q)
        damped = jnp.maximum(jnp.sum(self.gradient * q, axis=0) - curved, 0.0)
        length = norm(q) * region.fnorm
        return Step(damping, q / region.scale * region.fnorm, length, curved, damped, rank)

    def _form(self, q):
        """q'Aq."""
        shared, own = split(q, self.members, self.shared)
        both = jnp.concatenate([own, self.members.shared(shared)])
        return jnp.sum(self.gram * both[:, None] * both[None, :], axis=(0, 1, 2))

    # --- the damped problem, see `jaxlsq.numerics.bounds.BoxProblem` ----------------------

    def solve(
        self, damping: jax.Array, free: jax.Array, pinned: jax.Array
    ) -> tuple[jax.Array, Solved]:
        """By sweeps of each data set's own rows, and of what they leave of the shared ones."""
        members, p, s = self.members, self.own, self.shared
        floor = floor_of(p + s, self.gradient.dtype)
        free_shared, free_own = split(free, members, s)
        pin_shared, pin_own = split(pinned, members, s)
        g_shared, g_own = split(self.gradient, members, s)
        both = jnp.concatenate([pin_own, members.shared(pin_shared)])
        moved = jnp.sum(self.gram * both[None], axis=1)
        rest_own = g_own - moved[:p] - damping * pin_own
        swept, left = self._own_swept(damping, rest_own, free_own, floor)

        rest = g_shared - members.summed(moved[p:], s) - damping * pin_shared
        rest = rest + members.summed(left[p:], s)
        index = jnp.arange(s)
        # What is left of a diagonal element is zero to rounding by what it was.
        before = members.squares(self.gram[p:, p:], s)[index, index] + damping
        schur = members.squares(swept[p:, p:], s).at[index, index].add(damping)
        lost = schur[index, index] <= floor * before
        scale = jnp.sqrt(jnp.where(lost, 1.0, before))
        usable = free_shared & ~lost
        more = jnp.zeros((1, *free.shape[1:]), bool)
        bordered = _bordered(schur / scale[:, None] / scale[None, :], rest / scale)
        solved = sweep(bordered, s, floor, jnp.concatenate([usable, more]))
        x_shared = jnp.where(usable, solved[:s, s] / scale, 0.0)
        # Of a row that was swept and one that was not, its part in units of both.
        sides = jnp.where(usable, 1.0 / scale, scale)
        rows = solved[:s, :s] * sides[:, None] * sides[None, :]
        result = Solved(swept[:p, :p], swept[:p, p:], rows, usable, free_shared & lost)
        value_own = left[:p] - jnp.sum(result.across * members.shared(x_shared)[None], axis=1)
        return joined(jnp.where(free_shared, x_shared, solved[:s, s] * scale), value_own), result

    def _own_swept(self, damping, rest, free, floor):
        """A data set's matrix, and a column beside it, with its own rows swept."""
        p, size = self.own, self.gram.shape[0]
        eye = (jnp.arange(size) < p) & jnp.eye(size, dtype=bool)
        eye = eye.reshape(size, size, *(1,) * self.members.live.ndim)
        gram = jnp.where(eye, self.gram + damping, self.gram)
        more = (size - p, *self.members.live.shape)
        column = jnp.concatenate([rest, jnp.zeros(more, rest.dtype)])
        if not p:
            return gram, column
        free = jnp.concatenate([free, jnp.zeros((1 + size - p, *free.shape[1:]), bool)])
        swept = sweep(_bordered(gram, column), p, floor, free)
        return swept[:-1, :-1], swept[:-1, -1]

    def spread(self, solved: Solved, q: jax.Array) -> jax.Array:
        """``sqrt(q' A^-1 q)``, block by block."""
        q_shared, q_own = split(q, self.members, self.shared)
        own = -jnp.sum(solved.own * q_own[:, None] * q_own[None], axis=(0, 1, 2))
        across = jnp.sum(solved.across * q_own[:, None], axis=0)
        rest = q_shared - self.members.summed(across, self.shared)
        shared = -jnp.sum(solved.shared * rest[:, None] * rest[None], axis=(0, 1))
        return jnp.sqrt(jnp.maximum(own + shared, 0.0))

    def rank(self, solved: Solved, counts: jax.Array) -> jax.Array:
        """The reciprocal of the largest variance inflation."""
        inflation = self.inflations(solved)
        return 1.0 / jnp.max(jnp.where(counts & self.present, inflation, 1.0), axis=0)

    def inflations(self, solved: Solved) -> jax.Array:
        """A_jj (A^-1)_jj of each parameter, (n, ...); infinite where it is not determined."""
        members = self.members
        own, _, _ = solved.inverse_blocks(members)
        index, each = jnp.arange(self.shared), jnp.arange(self.own)
        own, usable = own[each, each], solved.own[each, each] < 0
        shared = -solved.shared[index, index]
        inverse = joined(jnp.where(shared > 0, shared, 0.0), jnp.where(usable, own, 0.0))
        values = inverse * self._diagonal
        values = jnp.where(joined(*solved.undetermined(members)), 0.0, values)
        return jnp.maximum(jnp.where(values > 0, values, jnp.inf), 1.0)

    @property
    def present(self) -> jax.Array:
        """Which parameters belong to a data set that is there, (n, ...) bool."""
        members = self.members
        live = jnp.broadcast_to(members.live, (self.own, *members.live.shape))
        ones = jnp.ones((members.count(self.shared), *members.live.shape), self.gradient.dtype)
        used = members.summed(ones, self.shared)
        return joined(used > 0, live)


def _bordered(matrix, column):
    corner = jnp.zeros_like(column[:1])
    return jnp.concatenate(
        [
            jnp.concatenate([matrix, column[:, None]], axis=1),
            jnp.concatenate([column, corner])[None],
        ]
    )
