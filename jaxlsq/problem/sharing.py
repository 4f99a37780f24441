"""Parameters that data sets share: which, by which groups, and what that makes one problem."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.containers import no_mask
from jaxlsq.problem.limits import Limits
from jaxlsq.problem.names import unknown_name
from jaxlsq.problem.tables import series_in_order
from jaxlsq.problem.types import Batch

__all__ = ["Sharing", "own_and_shared"]


@dataclass(frozen=True)
class Sharing:
    """Which parameters are shared, and by which data sets.

    Attributes
    ----------
    names : tuple of str
        Of the q shared parameters.
    index : (total, q) int array
        The number of the group that each data set belongs to.
    labels : tuple of (groups,) arrays or None
        What the groups are called, None where all data sets are one.
    """

    names: tuple[str, ...]
    index: NDArray[Any]
    labels: tuple[NDArray[Any] | None, ...]

    @classmethod
    def of(
        cls, shared: Any, names: Sequence[str], linear: Sequence[int], batch: Batch, keys: Any
    ) -> Self | None:
        """From `fit`'s argument.

        Parameters
        ----------
        shared : None, names, or dict of a (...) array of groups, or None, for each
        names : sequence of str
            Of all parameters.
        linear : sequence of int
            Places of those that are eliminated.
        batch : tuple of int
        keys : index or None
            Of a table's data sets, in whose order a Series of groups is read.

        Raises
        ------
        TypeError, ValueError
            For unknown names, and groups of another shape.
        """
        if shared is None:
            return None
        if not batch:
            raise ValueError("shared is for a batch of data sets; ydata is one. Leave it out.")
        if isinstance(shared, str):
            shared = [shared]
        groups = dict(shared) if isinstance(shared, Mapping) else dict.fromkeys(shared)
        if not groups:
            return None
        for name in groups:
            if name not in names:
                raise ValueError(unknown_name(name, tuple(names), "shared"))
            if names.index(name) in linear:
                raise ValueError(
                    f"shared names {name!r}, and so does linear: a parameter that is eliminated "
                    "belongs to its data set alone. Take it out of one of them."
                )
        total = int(np.prod(batch))
        chosen = tuple(name for name in names if name in groups)
        index, labels = np.zeros((total, len(chosen)), np.int64), []
        for j, name in enumerate(chosen):
            if groups[name] is None:
                labels.append(None)
                continue
            values = series_in_order(groups[name], keys, f"shared[{name!r}]")
            values = np.asarray(no_mask(values, f"shared[{name!r}]"))
            if values.shape != batch:
                raise ValueError(
                    f"shared[{name!r}] must have a group for each data set, the batch shape "
                    f"{batch}; got shape {values.shape}."
                )
            if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
                raise ValueError(f"shared[{name!r}] has a group that is NaN or infinite.")
            found, numbers = np.unique(values.ravel(), return_inverse=True)
            index[:, j] = numbers.reshape(-1)
            labels.append(found)
        return cls(chosen, index, tuple(labels))

    def take(self, index: NDArray[Any]) -> Self:
        """That of some of the data sets."""
        return replace(self, index=self.index[index])

    def order(self, names: Sequence[str]) -> tuple[list[int], list[int]]:
        """Places of the parameters that are a data set's own, and of the shared ones."""
        return own_and_shared(names, self.names)

    @cached_property
    def nodes(self) -> tuple[NDArray[Any], int]:
        """Numbers (total, q) of shared parameters, all different, and how many there are."""
        out, first = np.empty_like(self.index), 0
        for j in range(len(self.names)):
            found, numbers = np.unique(self.index[:, j], return_inverse=True)
            out[:, j] = first + numbers.reshape(-1)
            first += len(found)
        return out, first

    @cached_property
    def problems(self) -> NDArray[Any]:
        """(total,) numbers of the problem that each data set is part of.

        Data sets are of one problem where they share a parameter, with each other or with one
        that is between them.
        """
        nodes, count = self.nodes
        label = nodes.min(axis=1, initial=count)
        while True:
            of_node = np.full(count, count)
            for j in range(nodes.shape[1]):
                np.minimum.at(of_node, nodes[:, j], label)
            new = of_node[nodes].min(axis=1)
            if np.array_equal(new, label):
                return np.unique(label, return_inverse=True)[1].reshape(-1)
            label = new

    def medians(self, x: NDArray[Any], places: Sequence[int]) -> NDArray[Any]:
        """Starts (total, n) in which what is shared is the median of its data sets' own."""
        nodes, count = self.nodes
        x = x.copy()
        for j, place in enumerate(places):
            values = x[:, place]
            good = np.flatnonzero(np.isfinite(values))
            order = good[np.lexsort((values[good], nodes[good, j]))]
            sizes = np.bincount(nodes[order, j], minlength=count)
            ends = np.cumsum(sizes)
            middle = np.full(count, np.nan)
            some = np.flatnonzero(sizes)
            first = ends[some] - sizes[some]
            low, high = first + (sizes[some] - 1) // 2, first + sizes[some] // 2
            middle[some] = 0.5 * (values[order[low]] + values[order[high]])
            x[:, place] = middle[nodes[:, j]]
        return x

    def limits(
        self, limits: Limits | None, starts: NDArray[Any] | None, names: Sequence[str]
    ) -> Limits | None:
        """Limits in which what is shared has those of all its data sets together.

        Raises
        ------
        ValueError
            Where they leave no room, or where a parameter is fixed for some of them, or at
            different values.
        """
        if limits is None or (limits.lower.ndim == limits.fixed.ndim == 1 and starts is None):
            return limits
        total = len(self.index)
        lower, upper, fixed = (
            np.array(np.broadcast_to(v, (total, v.shape[-1]))) for v in vars(limits).values()
        )
        nodes, count = self.nodes
        for name, place, node in zip(self.names, self.order(names)[1], nodes.T, strict=True):
            low, high = np.full(count, -np.inf), np.full(count, np.inf)
            np.maximum.at(low, node, lower[:, place])
            np.minimum.at(high, node, upper[:, place])
            lower[:, place], upper[:, place] = low[node], high[node]
            if np.any(low > high):
                raise ValueError(
                    f"bounds of {name!r}, which is shared, leave nothing that all its data sets "
                    "allow."
                )
            self._check_fixed(name, fixed[:, place], starts, place, node, count)
        return Limits(lower, upper, fixed)

    @staticmethod
    def _check_fixed(name, fixed, starts, place, node, count):
        some, of = np.bincount(node, fixed, count), np.bincount(node, minlength=count)
        if np.any((some > 0) & (some < of)):
            raise ValueError(f"fixed: {name!r} is shared; fix it for all of its data sets.")
        if starts is None or not np.any(fixed):
            return
        values = np.broadcast_to(starts, (len(node), starts.shape[-1]))[:, place]
        low, high = np.full(count, np.inf), np.full(count, -np.inf)
        np.minimum.at(low, node[fixed], values[fixed])
        np.maximum.at(high, node[fixed], values[fixed])
        if np.any(low < high):
            raise ValueError(f"fixed: {name!r} is shared, and p0 has different values of it.")


def own_and_shared(names: Sequence[str], shared: Sequence[str]) -> tuple[list[int], list[int]]:
    """Places of the parameters that are a data set's own, and of those that are shared.

    Examples
    --------
    >>> own_and_shared(("height", "rate", "offset"), ("rate",))
    ([0, 2], [1])
    """
    places = [list(names).index(name) for name in shared]
    return [j for j in range(len(names)) if j not in places], places
