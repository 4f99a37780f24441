"""Which data sets share which parameters: between what all have and what each of them has.

Shapes are those of `jaxlsq.numerics.arrow`: k data sets, each with p parameters of its own and q
of the s shared ones; more axes at the end are further problems.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["Members", "joined", "split"]


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

    def summed(self, values: Sequence[jax.Array], s: int) -> jax.Array:
        """The sums (s, ...) over the data sets of what each has: q arrays (k, ...)."""
        if self.slots is None:
            return jnp.stack([self._total(v) for v in values])
        stacked = jnp.where(self.live, jnp.stack([*values]), 0.0)
        zeros = jnp.zeros((s, *stacked.shape[2:]), stacked.dtype)
        return zeros.at[(self.slots, *self._problems)].add(stacked)

    def squares(self, rows: Sequence[Sequence[jax.Array]], s: int) -> jax.Array:
        """The sums (s, s, ...) of a symmetric matrix: q rows of q arrays (k, ...)."""
        q = len(rows)
        if self.slots is None:
            half = {(i, j): self._total(rows[i][j]) for i in range(q) for j in range(i, q)}
            return jnp.stack(
                [jnp.stack([half[min(i, j), max(i, j)] for j in range(q)]) for i in range(q)]
            )
        stacked = jnp.stack([jnp.stack([*row]) for row in rows])
        stacked = jnp.where(self.live, stacked, 0.0)
        zeros = jnp.zeros((s, s, *stacked.shape[3:]), stacked.dtype)
        return zeros.at[(self.slots[:, None], self.slots[None, :], *self._problems)].add(stacked)

    def _total(self, values):
        return jnp.sum(jnp.where(self.live, values, 0.0), axis=0)

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
