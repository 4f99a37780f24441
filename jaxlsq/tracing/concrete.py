"""Doors that work on numbers say so where they are given traced values."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.core import Tracer

__all__ = ["are_concrete", "check_concrete"]


def are_concrete(tree: Any) -> bool:
    """Whether no leaf of a pytree is traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def check_concrete(door: str, values: Sequence[Any]) -> None:
    """Raise TypeError if any of the values is traced, or reads one that is.

    Parameters
    ----------
    door : str
        What the user called.
    values : sequence of pytrees
    """
    # A dict as a list: its keys may not be ones that JAX can sort, which others say better.
    leaves = jax.tree.leaves([list(v.values()) if isinstance(v, dict) else v for v in values])
    if not are_concrete(leaves):
        raise TypeError(
            f"{door} takes numbers, and was called with values that are traced, inside jit, vmap "
            "or grad. Use jaxlsq.least_squares there."
        )
