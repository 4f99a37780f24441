"""Parameters as the user wrote them, and as the vector that the numerics see."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """How one problem's parameters, a pytree, are laid out in a vector of n.

    Attributes
    ----------
    tree : PyTreeDef
    shapes : tuple of tuples
        The shape of each leaf in one problem.
    """

    tree: object
    shapes: tuple

    @classmethod
    def of(cls, params):
        """The layout of one problem's parameters."""
        leaves, tree = jax.tree.flatten(params)
        return cls(tree, tuple(np.shape(leaf) for leaf in leaves))

    @property
    def n(self):
        """Number of parameters."""
        return sum(self._sizes)

    @property
    def _sizes(self):
        return [int(np.prod(shape)) for shape in self.shapes]

    @property
    def names(self):
        """A name for each of the n parameters: a dict's keys, with indices where needed."""
        placeholders = jax.tree.unflatten(self.tree, range(len(self.shapes)))
        names = []
        for (path, _), shape in zip(
            jax.tree.leaves_with_path(placeholders), self.shapes, strict=True
        ):
            stem = jax.tree_util.keystr(path, simple=True, separator=".") or "p"
            names += [f"{stem}[{','.join(map(str, i))}]" if i else stem for i in np.ndindex(shape)]
        return tuple(names)

    def from_scalars(self, xs):
        """The pytree of one problem, from n scalars."""
        leaves, first = [], 0
        for shape, size in zip(self.shapes, self._sizes, strict=True):
            part = xs[first : first + size]
            leaves.append(jnp.stack(part).reshape(shape) if shape else part[0])
            first += size
        return jax.tree.unflatten(self.tree, leaves)

    def from_vector(self, x):
        """The pytree of one problem, from (n,)."""
        return self.from_scalars(tuple(x))

    def unpack(self, x):
        """The pytree of many problems, from (..., n); its leaves are views."""
        leaves, first = [], 0
        for shape, size in zip(self.shapes, self._sizes, strict=True):
            part = x[..., first : first + size]
            leaves.append(part.reshape((*x.shape[:-1], *shape)))
            first += size
        return jax.tree.unflatten(self.tree, leaves)

    def pack(self, params, lanes=(), xp=np):
        """(*lanes, n) from a pytree whose leaves have `lanes` in front or none of them."""
        leaves = [xp.asarray(leaf) for leaf in self.tree.flatten_up_to(params)]
        parts = [
            xp.broadcast_to(leaf, (*lanes, *shape)).reshape((*lanes, -1))
            for leaf, shape in zip(leaves, self.shapes, strict=True)
        ]
        return xp.concatenate(parts, axis=-1)
