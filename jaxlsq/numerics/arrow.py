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
from functools import reduce
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp

from jaxlsq.numerics.bounds import box_steps
from jaxlsq.numerics.linear_model import Box, Region, Step
from jaxlsq.numerics.members import Members, joined, split
from jaxlsq.numerics.sweep import bordered, floor_of, sweep, sweep_elements
from jaxlsq.numerics.trust_region import levenberg_parameter, norm

__all__ = ["Arrow", "Solved"]

# Part of a parameter in a direction that is not determined, from which on it is not either.
PART = 1e-4


class Solved(NamedTuple):
    """An arrow with its own and then its shared rows swept.

    Attributes
    ----------
    own : p tuples of p (k, ...) arrays
        Minus the inverses of U.
    across : p tuples of q (k, ...) arrays
        U^-1 W.
    schur : (s, s, ...) array
        S after the sweep of its rows that were usable.
    usable, lost : (s, ...) bool arrays
        Those; and those that were to be swept and are zero to rounding.
    """

    own: tuple[tuple[jax.Array, ...], ...]
    across: tuple[tuple[jax.Array, ...], ...]
    schur: jax.Array
    usable: jax.Array
    lost: jax.Array

    @property
    def shared(self) -> jax.Array:
        """Minus the inverse of S (s, s, ...), zero for what was not swept."""
        return jnp.where(self.usable[:, None] & self.usable[None, :], self.schur, 0.0)

    def inverse_blocks(self, members: Members) -> jax.Array:
        """The inverse's blocks (p + q, p + q, k, ...) of each data set, its own rows first."""
        inverse = -members.pairs(self.shared)
        q = len(inverse)
        across = [
            [-_sum(row[b] * inverse[a, b] for b in range(q)) for a in range(q)]
            for row in self.across
        ]
        rows = [
            [
                *(-_sum(x * w for x, w in zip(cross, other, strict=True)) - u
                  for other, u in zip(self.across, own, strict=True)),
                *cross,
            ]
            for own, cross in zip(self.own, across, strict=True)
        ]  # fmt: skip
        rows += [[*(cross[a] for cross in across), *inverse[a]] for a in range(q)]
        return jnp.stack([jnp.stack(row) for row in rows])

    def undetermined(self, members: Members) -> tuple[jax.Array, list[jax.Array]]:
        """Which shared (s, ...) and own p (k, ...) parameters a lost row takes with it.

        Those that have a part in the direction along which nothing changes, in which the lost one
        moves by one: more than 1e-4 of it, in parameters whose columns have one length.
        """
        s = len(self.lost)
        eye = jnp.eye(s).reshape(s, s, *(1,) * (self.lost.ndim - 1))
        moved = jnp.where(self.usable[:, None], -self.schur, eye)
        moved = jnp.where(self.lost[None, :], moved, 0.0)
        parts = [members.shared(moved[:, j]) for j in range(s)]
        own = []
        for row in self.across:
            steps = [_sum(w * c for w, c in zip(row, part, strict=True)) for part in parts]
            own.append(jnp.max(jnp.abs(jnp.stack(steps)), axis=0) > PART)
        return jnp.max(jnp.abs(moved), axis=1) > PART, own


def _sum(values):
    """The sum of some arrays, term by term."""
    return reduce(jnp.add, values)


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
        return cls(gram, joined(members.summed([*gradient[p:]], s), gradient[:p]), members, s)

    @property
    def own(self) -> int:
        """How many parameters each data set has of its own."""
        return self.gram.shape[0] - self.members.count(self.shared)

    @property
    def _diagonal(self):
        diagonal = [self.gram[j, j] for j in range(self.gram.shape[0])]
        return self._joined(
            self.members.summed(diagonal[self.own :], self.shared), diagonal[: self.own]
        )

    def _joined(self, shared, own):
        """A vector (n, ...) of the shared parameters (s, ...) and p own ones (k, ...)."""
        return joined(shared, jnp.stack([*own])) if len(own) else shared

    def _each(self, vector):
        """What each data set has of a vector (n, ...): p + q arrays (k, ...)."""
        shared, own = split(vector, self.members, self.shared)
        return [*own, *self.members.shared(shared)]

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
        scaled = self._scaled(region)
        free, nothing = jnp.ones(scaled.gradient.shape, bool), jnp.zeros_like(scaled.gradient)

        def attempt(damping):
            q, solved = scaled.solve(damping, free, nothing)
            length = norm(q)
            slope = scaled.spread(solved, q) / jnp.where(length == 0, 1.0, length)
            return q, length, slope, scaled.rank(solved, free)

        bound = region.step_bound / region.fnorm
        damping, q, rank = levenberg_parameter(
            attempt, scaled.gradient, bound, region.damping, idle
        )
        return scaled._as_step(damping, q, rank, region)

    def step_in_box(self, box: Box, region: Region, idle: jax.Array | bool = False) -> Step:
        """The same with p inside a box; see `LinearModel.step_in_box`."""
        scaled = self._scaled(region)
        scale = jnp.where(jnp.isinf(region.scale), 1.0, region.scale) / region.fnorm
        attempt, sides = box_steps(scaled, Box(*(end * scale for end in box)))
        bound = region.step_bound / region.fnorm
        damping, q, rank = levenberg_parameter(
            attempt, scaled.gradient, bound, region.damping, idle, sides
        )
        return scaled._as_step(damping, q, rank, region)

    def _scaled(self, region):
        """The same in parameters over their scale, with the residual over its norm.

        Steps are then in parts of ``||f||``.
        """
        scale = jnp.stack(self._each(region.scale))
        gram = self.gram / scale[:, None] / scale[None, :]
        return replace(self, gram=gram, gradient=self.gradient / region.scale / region.fnorm)

    def _as_step(self, damping, q, rank, region):
        """A step q in scaled parameters, as a `Step`."""
        curved = self._form(q)
        damped = jnp.maximum(jnp.sum(self.gradient * q, axis=0) - curved, 0.0)
        length = norm(q) * region.fnorm
        return Step(damping, q / region.scale * region.fnorm, length, curved, damped, rank)

    def _form(self, q):
        """q'Aq."""
        each = self._each(q)
        products = [
            _sum(a * b for a, b in zip(row, each, strict=True)) * left
            for row, left in zip(self.gram, each, strict=True)
        ]
        return jnp.sum(_sum(products), axis=0)

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
        each = self._each(pinned)
        moved = [_sum(a * b for a, b in zip(row, each, strict=True)) for row in self.gram]
        rest_own = [g - m - damping * x for g, m, x in zip(g_own, moved, pin_own, strict=False)]
        swept, left = self._own_swept(damping, rest_own, free_own, floor)

        rest = [b - a for a, b in zip(moved[p:], left[p:], strict=True)]
        rest = g_shared + members.summed(rest, s) - damping * pin_shared
        index = jnp.arange(s)
        # What is left of a diagonal element is zero to rounding by what it was.
        corner = [row[p:] for row in [*self.gram][p:]]
        before = members.squares(corner, s)[index, index] + damping
        schur = members.squares([row[p:] for row in swept[p:]], s)
        schur = schur.at[index, index].add(damping)
        lost = schur[index, index] <= floor * before
        scale = jnp.sqrt(jnp.where(lost, 1.0, before))
        usable = free_shared & ~lost
        more = jnp.zeros((1, *free.shape[1:]), bool)
        border = bordered(schur / scale[:, None] / scale[None, :], rest / scale)
        solved = sweep(border, s, floor, jnp.concatenate([usable, more]))
        x_shared = jnp.where(usable, solved[:s, s] / scale, 0.0)
        # Of a row that was swept and one that was not, its part in units of both.
        sides = jnp.where(usable, 1.0 / scale, scale)
        rows = solved[:s, :s] * sides[:, None] * sides[None, :]
        own = tuple(tuple(row[:p]) for row in swept[:p])
        across = tuple(tuple(row[p:]) for row in swept[:p])
        result = Solved(own, across, rows, usable, free_shared & lost)
        of_each = members.shared(x_shared)
        value_own = [
            value - _sum(a * b for a, b in zip(row, of_each, strict=True))
            for value, row in zip(left, across, strict=False)
        ]
        value_shared = jnp.where(free_shared, x_shared, solved[:s, s] * scale)
        return self._joined(value_shared, value_own), result

    def _own_swept(self, damping, rest, free, floor):
        """A data set's matrix, and a column beside it, with its own rows swept."""
        p, size = self.own, self.gram.shape[0]
        rows = [[self.gram[i, j] for j in range(size)] for i in range(size)]
        for j in range(p):
            rows[j][j] = rows[j][j] + damping
        nothing = jnp.zeros(self.members.live.shape, self.gram.dtype)
        column = [*rest, *[nothing] * (size - p)]
        rows = [[*row, right] for row, right in zip(rows, column, strict=True)]
        swept = sweep_elements([*rows, [*column, nothing]], p, floor, list(free))
        return [row[:-1] for row in swept[:-1]], [row[-1] for row in swept[:-1]]

    def spread(self, solved: Solved, q: jax.Array) -> jax.Array:
        """``sqrt(q' A^-1 q)``, block by block."""
        q_shared, q_own = split(q, self.members, self.shared)
        size = self.members.count(self.shared)
        own, rest = jnp.zeros_like(q_shared[0]), q_shared
        if self.own:
            rows = zip(solved.own, q_own, strict=True)
            forms = [_sum(a * b for a, b in zip(row, q_own, strict=True)) * x for row, x in rows]
            own = -jnp.sum(_sum(forms), axis=0)
            across = [
                _sum(row[j] * x for row, x in zip(solved.across, q_own, strict=True))
                for j in range(size)
            ]
            rest = q_shared - self.members.summed(across, self.shared)
        shared = -jnp.sum(solved.shared * rest[:, None] * rest[None], axis=(0, 1))
        return jnp.sqrt(jnp.maximum(own + shared, 0.0))

    def rank(self, solved: Solved, counts: jax.Array) -> jax.Array:
        """One, and zero where a row that counts was not usable; `inflations` are more exact."""
        swept = [solved.own[j][j] < 0 for j in range(self.own)]
        usable = self._joined(~solved.lost, swept)
        return jnp.where(jnp.all(usable | ~counts | ~self.present, axis=0), 1.0, 0.0)

    def inflations(self, solved: Solved) -> jax.Array:
        """A_jj (A^-1)_jj of each parameter, (n, ...); infinite where it is not determined."""
        members, index = self.members, jnp.arange(self.shared)
        blocks = solved.inverse_blocks(members)
        shared = -solved.shared[index, index]
        own = [jnp.where(solved.own[j][j] < 0, blocks[j, j], 0.0) for j in range(self.own)]
        values = self._joined(jnp.where(shared > 0, shared, 0.0), own) * self._diagonal
        values = jnp.where(self._joined(*solved.undetermined(members)), 0.0, values)
        return jnp.maximum(jnp.where(values > 0, values, jnp.inf), 1.0)

    @property
    def present(self) -> jax.Array:
        """Which parameters belong to a data set that is there, (n, ...) bool."""
        members = self.members
        one = jnp.ones(members.live.shape, self.gradient.dtype)
        used = members.summed([one] * members.count(self.shared), self.shared)
        return self._joined(used > 0, [members.live] * self.own)
