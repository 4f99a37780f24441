"""How an array is meant whose shape could be per data set or shared: the model decides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import jax
import numpy as np

from jaxlsq.problem.containers import as_array_like
from jaxlsq.problem.types import Batch, PyTree, PyTreeDef
from jaxlsq.tracing.shapes import floats, shapes_of

__all__ = ["EACH", "SHARED", "STRIPPED", "Leaf", "Outcome", "read_x"]

# Per data set; shared, without axes of length one in front for the batch's; shared as it is.
EACH, STRIPPED, SHARED = "each", "stripped", "shared"
MOST = 16


@dataclass(frozen=True)
class Leaf:
    """An array of `xdata` that is read in a way that is known.

    Attributes
    ----------
    array : array-like
    reading : str
    sigma : array-like or None
        Standard deviations of its elements; None where it is exact.
    """

    array: Any
    reading: str
    sigma: Any = None

    def tail(self, batch: Batch) -> tuple[int, ...]:
        """The shape of one data set's part."""
        return _tail_of(self.array.shape, self.reading, batch)


def read_x(
    xdata: PyTree, lists: bool, batch: Batch, outcome: "Outcome"
) -> tuple[list[Leaf], PyTreeDef]:
    """Leaves of `xdata`, each with the reading that the model takes, and its structure.

    Parameters
    ----------
    xdata : pytree
    lists : bool
        Whether ydata is a list, so that one of as many arrays is one per data set.
    batch : tuple of int
    outcome : Outcome

    Raises
    ------
    TypeError
        For no arrays, and for what is no array of real numbers.
    ValueError
        If several readings are possible.
    """
    if isinstance(xdata, list) and all(np.ndim(x) == 0 for x in xdata):
        xdata = as_array_like(xdata, "xdata")
    elif _may_be_stacked(xdata, batch) and _is_stacked(xdata, lists, batch, outcome):
        xdata = Leaf(as_array_like(xdata, "xdata"), EACH)
    leaves, structure = jax.tree.flatten(xdata)
    if not leaves:
        raise TypeError(f"xdata must be an array or a pytree of arrays, got {xdata!r}.")
    leaves = [v if isinstance(v, Leaf) else as_array_like(v, "xdata") for v in leaves]
    return _read_each(leaves, structure, batch, outcome), structure


def _may_be_stacked(xdata, batch):
    """Whether it is a list of arrays of one shape, as many as there are data sets."""
    if not isinstance(xdata, list) or (len(xdata),) != batch:
        return False
    shapes = {np.shape(x) for x in xdata if not isinstance(x, (dict, Leaf))}
    return len(shapes) == 1 and shapes != {()}


def _is_stacked(xdata, lists, batch, outcome):
    """Whether a list is one array per data set, and not the variables of all."""
    array = as_array_like(xdata, "xdata")
    one = outcome.of(jax.tree.structure(0), [array], (EACH,), batch) == Outcome.POINTS
    if lists and one:
        return True
    leaves, structure = jax.tree.flatten(xdata)
    leaves = [as_array_like(leaf, "xdata") for leaf in leaves]
    ways = (SHARED,) * len(leaves)
    variables = outcome.of(structure, leaves, ways, batch) == Outcome.POINTS
    if one and variables:
        raise ValueError(
            f"xdata, a list of {len(xdata)} arrays, can be one for each data set or the variables "
            "of all, and the model takes both. For variables pass a tuple; for one per data set "
            "pass ydata as a list too."
        )
    return not variables if lists else one


def _tail_of(shape, reading, batch):
    """The shape of one data set's part."""
    return tuple(shape) if reading == SHARED else tuple(shape[len(batch) :])


def _possible(leaf, batch):
    """The readings of a leaf, the documented one first."""
    if isinstance(leaf, Leaf):
        return (leaf.reading,)
    shape, k = tuple(leaf.shape), len(batch)
    if not batch or len(shape) <= k:
        return (SHARED,)
    if shape[:k] == batch:
        return (EACH, SHARED)
    return (STRIPPED, SHARED) if shape[:k] == (1,) * k else (SHARED,)


def _read_each(leaves, structure, batch, outcome):
    """A `Leaf` for each leaf: read so that the model returns one value per point.

    Notes
    -----
    Of more than four arrays that could be either, the first sixteen combinations are tried.
    """
    possible = [_possible(leaf, batch) for leaf in leaves]
    arrays = [leaf.array if isinstance(leaf, Leaf) else leaf for leaf in leaves]
    ways = list(islice(product(*possible), MOST))
    chosen = ways[0]
    if len(ways) > 1:
        kinds = {way: outcome.of(structure, arrays, way, batch) for way in ways}
        good = [way for way in ways if kinds[way] == Outcome.POINTS]
        # Axes of length one in front are how a shared array is spelled.
        good = [
            way
            for way in good
            if not any(w == SHARED and p[0] == STRIPPED for w, p in zip(way, possible, strict=True))
        ] or good
        if len(good) > 1:
            differ = next(i for i in range(len(leaves)) if len({way[i] for way in good}) > 1)
            raise ValueError(_ambiguous(tuple(arrays[differ].shape), batch))
        good = good or [way for way in ways if kinds[way] == Outcome.SCALAR]
        chosen = good[0] if good else chosen
    return [Leaf(array, way) for array, way in zip(arrays, chosen, strict=True)]


def _ambiguous(shape, batch):
    front = ", ".join(["None"] * len(batch))
    each = (
        "list(xdata) with list(ydata)"
        if len(batch) == 1
        else "lists of arrays, one per data set, for it and ydata"
    )
    return (
        f"xdata of shape {shape} can be meant per data set or shared, and the model takes both. "
        f"To share it put axes of length one in front, xdata[{front}]; for one per data set pass "
        f"{each}."
    )


@dataclass(frozen=True)
class Outcome:
    """What a model makes of a reading of `xdata`, by its shapes alone.

    Attributes
    ----------
    model : callable
        ``model(x, y) -> array`` of one data set, with starting parameters.
    m : int
        Points of one data set.
    wide : bool
        Whether the computation is one of float64.
    """

    POINTS = "points"
    SCALAR = "scalar"

    model: Callable[..., Any]
    m: int
    wide: bool

    def of(
        self, structure: PyTreeDef, arrays: Sequence[Any], way: Sequence[str], batch: Batch
    ) -> str | None:
        """POINTS for one value per point, SCALAR for one in all, None for anything else."""
        tails = [_tail_of(a.shape, r, batch) for a, r in zip(arrays, way, strict=True)]
        x = jax.tree.unflatten(structure, [floats(t, self.wide) for t in tails])
        y = floats((self.m,), self.wide)
        try:
            shape = tuple(np.shape(shapes_of(self.model, x, y, wide=self.wide)))
        except Exception:  # the user's code on a shape that it may not be meant for
            return None
        if shape == (self.m,):
            return self.POINTS
        return self.SCALAR if shape == () and max(map(len, tails)) <= 1 else None
