"""Types that more than one front door names."""

from typing import Any, Protocol, TypeAlias

__all__ = ["Batch", "BoundsLike", "Keeps", "Parts", "PyTree", "PyTreeDef"]

Batch: TypeAlias = tuple[int, ...]
# Of arrays, or of shapes and types; JAX has no type for it.
PyTree: TypeAlias = Any
# JAX's, whose own name is not one of a type.
PyTreeDef: TypeAlias = Any
# (lower, upper), an object with `lb` and `ub`, or for batches pairs by name.
BoundsLike: TypeAlias = Any
# Arrays by name, of one problem or of all.
Parts: TypeAlias = dict[str, Any]


class Keeps(Protocol):
    """What makes copies of a caller's arrays, `jaxlsq.batch.kept.Keeper`."""

    def array(self, name: str, value: Any) -> Any:
        """A copy, or the array itself where it is watched."""
        ...
