"""Parameters as the user wrote them, and as the vector that the numerics see."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.problem.types import Batch, PyTree, PyTreeDef

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """How one problem's parameters, a pytree, are laid out in a vector of n.

    Attributes
    ----------
    tree : PyTreeDef
    shapes : tuple of tuples
        The shape of each leaf in one problem.
    order : _Keys, tuple or None
        The dicts of the pytree and the order of their keys, with tuples in their place in
        `tree`; None where there are none, or where JAX's sorted order is meant.
    """

    tree: PyTreeDef
    shapes: tuple[tuple[int, ...], ...]
    order: Any = None

    @classmethod
    def of(cls, params: PyTree) -> Self:
        """The layout of one problem's parameters, with dicts in JAX's order: sorted by key.

        It is that of every transformation of JAX, which forgets how a dict was written.
        """
        leaves, tree = jax.tree.flatten(params)
        return cls(tree, tuple(np.shape(leaf) for leaf in leaves))

    @classmethod
    def as_given(cls, params: PyTree) -> Self:
        """The layout of one problem's parameters, with dicts in the order of their keys."""
        order = _order_of(params)
        leaves, tree = jax.tree.flatten(_without_dicts(params, order))
        return cls(tree, tuple(np.shape(leaf) for leaf in leaves), order)

    @cached_property
    def n(self) -> int:
        """Number of parameters."""
        return sum(self._sizes)

    @cached_property
    def _sizes(self):
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def keys(self) -> tuple[Any, ...]:
        """The keys of parameters that are a dict, () of others."""
        placeholders = self._join(list(range(len(self.shapes))))
        return tuple(placeholders) if isinstance(placeholders, dict) else ()

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each of the n parameters: a dict's keys, with indices where needed."""
        placeholders = self._join(list(range(len(self.shapes))))
        paths = {number: path for path, number in jax.tree.leaves_with_path(placeholders)}
        names = []
        for number, shape in enumerate(self.shapes):
            stem = jax.tree_util.keystr(paths[number], simple=True, separator=".") or "p"
            names += [f"{stem}[{','.join(map(str, i))}]" if i else stem for i in np.ndindex(shape)]
        return tuple(names)

    def from_scalars(self, xs: Sequence[Any]) -> PyTree:
        """The pytree of one problem, from n scalars."""
        leaves, first = [], 0
        for shape, size in zip(self.shapes, self._sizes, strict=True):
            part = xs[first : first + size]
            leaves.append(jnp.stack(part).reshape(shape) if shape else part[0])
            first += size
        return self._join(leaves)

    def from_vector(self, x: Any) -> PyTree:
        """The pytree of one problem, from (n,)."""
        return self.from_scalars(tuple(x))

    def unpack(self, x: Any) -> PyTree:
        """The pytree of many problems, from (..., n); its leaves are views."""
        leaves, first = [], 0
        for shape, size in zip(self.shapes, self._sizes, strict=True):
            part = x[..., first : first + size]
            leaves.append(part.reshape((*x.shape[:-1], *shape)))
            first += size
        return self._join(leaves)

    def pack(self, params: PyTree, lanes: Batch = (), xp: ModuleType = np) -> Any:
        """(*lanes, n) from a pytree whose leaves have `lanes` in front or none of them.

        Raises
        ------
        ValueError
            For another structure, or other shapes.
        """
        leaves = self.tree.flatten_up_to(_without_dicts(params, self.order))
        leaves = [xp.asarray(leaf) for leaf in leaves]
        parts = [
            xp.broadcast_to(leaf, (*lanes, *shape)).reshape((*lanes, -1))
            for leaf, shape in zip(leaves, self.shapes, strict=True)
        ]
        return xp.concatenate(parts, axis=-1)

    def _join(self, leaves):
        return _with_dicts(jax.tree.unflatten(self.tree, leaves), self.order)


@dataclass(frozen=True)
class _Keys:
    """A dict's keys in their order, and the orders inside of its values."""

    keys: tuple[Any, ...]
    inside: tuple[Any, ...]


def _order_of(node):
    if type(node) is dict:
        return _Keys(tuple(node), tuple(map(_order_of, node.values())))
    if type(node) in (list, tuple):
        inside = tuple(map(_order_of, node))
        return inside if any(part is not None for part in inside) else None
    return None


def _without_dicts(node, order):
    """A pytree with tuples for its dicts."""
    if order is None:
        return node
    if isinstance(order, _Keys):
        if not isinstance(node, dict) or set(node) != set(order.keys):
            raise ValueError(f"expected a dict with the keys {list(order.keys)}")
        values = [node[key] for key in order.keys]
        return tuple(map(_without_dicts, values, order.inside))
    if not isinstance(node, (list, tuple)) or len(node) != len(order):
        raise ValueError(f"expected {len(order)} values")
    return type(node)(map(_without_dicts, node, order))


def _with_dicts(node, order):
    """`_without_dicts`, undone."""
    if order is None:
        return node
    if isinstance(order, _Keys):
        return dict(zip(order.keys, map(_with_dicts, node, order.inside), strict=True))
    return type(node)(map(_with_dicts, node, order))
