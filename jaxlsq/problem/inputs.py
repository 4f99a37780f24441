"""The front door of batches: what comes in, checked and laid out as problems."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.containers import as_array_like, is_masked, is_real
from jaxlsq.problem.readings import EACH, STRIPPED, Leaf
from jaxlsq.problem.sources import Source, converted
from jaxlsq.problem.types import Batch, Parts, PyTree, PyTreeDef

__all__ = [
    "broadcast_source",
    "check_broadcast",
    "float_dtype",
    "in_memory",
    "per_lane",
    "split_data",
    "whole",
]


def float_dtype(each: Sequence[Any], shared: Sequence[Any] = ()) -> np.dtype[Any]:
    """The type of a computation in which nothing that is given is lost.

    Parameters
    ----------
    each : sequence of array-likes
        Data of every problem, which are judged by their type alone.
    shared : sequence of arrays
        Data of all, which may have a wider type if float32 holds each of their values.

    Returns
    -------
    dtype
        float32 if there is one of 32 bits or less among the arrays of floating point, and
        float32 holds all arrays; else float64.
    """
    arrays = [a for a in (*each, *shared) if len(a.shape)]
    some = any(_is_float(a.dtype) and np.dtype(a.dtype).itemsize <= 4 for a in arrays)
    narrow = all(_is_narrow(a.dtype) for a in each if len(a.shape)) and all(
        _is_narrow(a.dtype) or _fits_float32(a) for a in shared if len(a.shape)
    )
    return np.dtype(np.float32 if some and narrow else np.float64)


def _is_float(dtype):
    return is_real(dtype) and np.dtype(dtype).kind not in "iub"


def _is_narrow(dtype):
    return np.dtype(dtype).itemsize <= (4 if _is_float(dtype) else 2)


def _fits_float32(array):
    """Whether float32 holds every value of an array exactly."""
    values = np.ma.filled(in_memory(array), 0)
    with np.errstate(all="ignore"):
        back = values.astype(np.float32).astype(values.dtype)
    return bool(np.all((back == values) | (values != values)))


def split_data(
    leaves: Sequence[Leaf], structure: PyTreeDef, batch: Batch, dtype: np.dtype[Any], name: str
) -> tuple[dict[str, Source], dict[str, Any], "Join"]:
    """Leaves that are read in blocks, and leaves that all problems share.

    Parameters
    ----------
    leaves : list of Leaf
    structure : PyTreeDef
    batch : tuple of int
    dtype : dtype
        Of the computation.
    name : str
        Leaf k is the entry ``name.k``.

    Returns
    -------
    lanes : dict of Source
    shared : dict of arrays
    join : callable
        ``join(lanes, shared)`` gives the tree again, of one problem.
    """
    lanes, shared = {}, {}
    keys = [f"{name}.{number}" for number in range(len(leaves))]
    for key, leaf in zip(keys, leaves, strict=True):
        if leaf.reading == EACH:
            lanes[key] = Source(leaf.array, batch, dtype)
        else:
            shared[key] = converted(whole(leaf, batch), dtype)
    return lanes, shared, Join(structure, tuple(keys))


def in_memory(array: Any) -> NDArray[Any]:
    """An array-like as a NumPy array, with its mask if it has one."""
    if not is_masked(array):
        return np.asarray(array)
    return array[: array.shape[0]] if array.shape else array


def whole(leaf: Leaf, batch: Batch) -> NDArray[Any]:
    """A shared leaf as an array in memory, with its mask if it has one."""
    array = in_memory(leaf.array)
    return array[(0,) * len(batch)] if leaf.reading == STRIPPED else array


@dataclass(frozen=True)
class Join:
    """A pytree of one problem's arrays, from those of the problem and those of all."""

    structure: PyTreeDef
    keys: tuple[str, ...]

    def __call__(self, lane: Parts, shared: Parts) -> PyTree:
        leaves = [lane[key] if key in lane else shared[key] for key in self.keys]
        return jax.tree.unflatten(self.structure, leaves)


def check_broadcast(
    given: tuple[int, ...], shape: tuple[int, ...], name: str, to: str, axes: str
) -> None:
    """Raise ValueError where an array's shape does not broadcast to another.

    `name` and `to` are what the caller calls the two, and `axes` what a value per data set lacks.
    """
    try:
        if np.broadcast_shapes(tuple(given), shape) == shape:
            return
    except ValueError:  # they do not go together at all
        pass
    raise ValueError(
        f"{name} must broadcast to the shape of {to}, {shape}, got shape {tuple(given)}. For one "
        f"value per data set, append {axes} of length one."
    )


def broadcast_source(
    value: Any, shape: tuple[int, ...], batch: Batch, dtype: np.dtype[Any], name: str
) -> NDArray[Any] | Source:
    """An array that broadcasts to `shape` (the batch, then m): shared, or a Source.

    Raises
    ------
    ValueError
        If it does not broadcast.
    """
    value = as_array_like(value, name)
    check_broadcast(value.shape, shape, name, "ydata", "an axis")
    front = value.shape[: -1 if value.shape else None]
    if all(size == 1 for size in front):  # the same for every problem
        one = converted(in_memory(value), dtype)
        return np.broadcast_to(one.reshape(value.shape[-1:]), shape[-1:])
    if tuple(value.shape[:-1]) != batch:  # of a part of the batch: spelled out, without copying
        value = np.broadcast_to(converted(in_memory(value), dtype), (*batch, value.shape[-1]))
    return Source(value, batch, dtype)


def per_lane(
    leaves: Sequence[Any], structure: PyTreeDef, batch: Batch, dtype: np.dtype[Any]
) -> tuple[dict[str, Source], Join]:
    """Every leaf as a Source, and the function that makes one problem's tree of them again."""
    lanes, _, join = split_data([Leaf(v, EACH) for v in leaves], structure, batch, dtype, "data")
    return lanes, join
