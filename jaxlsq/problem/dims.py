"""Arrays whose dims have names (xarray's): aligned with ydata by name, never by position."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import jax
import numpy as np

from jaxlsq.problem.alignment import aligned, indexes_of
from jaxlsq.problem.readings import EACH, SHARED, Leaf
from jaxlsq.problem.types import BoundsLike, PyTree

__all__ = ["Dims"]


@dataclass(frozen=True)
class Dims:
    """The names of ydata's dims.

    Attributes
    ----------
    names : tuple of str, or None
        The batch's, then that of the points; None where ydata has no names, and everything
        else is taken by position.
    sizes : tuple of int
    indexes : dict of pandas indexes
        The labels along dims that have some, by which others are brought into their order.
    """

    names: tuple[Any, ...] | None
    sizes: tuple[int, ...]
    indexes: Mapping[Any, Any] = field(default_factory=dict[Any, Any], compare=False)

    @classmethod
    def of(cls, ydata: Any) -> Self:
        """Those of an array-like."""
        names = tuple(ydata.dims) if _is_named(ydata) else None
        indexes = indexes_of(ydata) if names else {}
        return cls(names, tuple(getattr(ydata, "shape", ())), indexes)

    @property
    def _known(self) -> tuple[Any, ...]:
        """The names, none where ydata has none."""
        return self.names or ()

    def _names_of(self, value):
        """The dims of a value that has some in common with ydata; None for any other."""
        if self.names is None or not _is_named(value):
            return None
        return tuple(value.dims) if set(value.dims) & set(self.names) else None

    def like_ydata(self, value: Any, name: str) -> Any:
        """What broadcasts to ydata, with its axes in ydata's order.

        Raises
        ------
        ValueError
            For a dim that ydata does not have.
        """
        own = self._names_of(value)
        if own is None:
            return value
        names = self._known
        self._refuse([d for d in own if d not in names], name)
        return self._ordered(value, names, name)

    def of_parameters(self, value: Any, name: str) -> Any:
        """Values for each parameter: the batch's axes in order, then one that ydata has not."""
        if hasattr(value, "data_vars"):  # a Dataset
            value = {str(key): one for key, one in value.data_vars.items()}
        if isinstance(value, dict):
            return {key: self._of_one(v, f"{name}[{key!r}]") for key, v in value.items()}
        own = self._names_of(value)
        if own is None:
            return value
        names = self._known
        batch, extra = names[:-1], [d for d in own if d not in names]
        if names[-1] in own or len(extra) != 1:
            self._refuse([d for d in own if d not in batch], f"{name}, but for one of parameters,")
        array = np.asarray(self._ordered(value, (*batch, extra[0]), name))
        array = np.broadcast_to(array, (*self.sizes[:-1], array.shape[-1]))
        labels = getattr(value, "coords", {}).get(extra[0], [])
        labels = np.asarray(labels).tolist()
        if labels and all(isinstance(label, str) for label in labels):
            return dict(zip(labels, np.moveaxis(array, -1, 0), strict=True))
        return array

    def of_bounds(self, bounds: BoundsLike) -> BoundsLike:
        """Both sides, each as `of_parameters`."""
        if isinstance(bounds, (tuple, list)):
            return type(bounds)(self.of_parameters(side, "bounds") for side in bounds)
        return self.of_parameters(bounds, "bounds") if isinstance(bounds, dict) else bounds

    def _of_one(self, value, name):
        """Values for one parameter: a number, or one for each data set."""
        if isinstance(value, (tuple, list)):  # bounds
            return type(value)(self._of_one(v, name) for v in value)
        own = self._names_of(value)
        if own is None:
            return value
        batch = self._known[:-1]
        self._refuse([d for d in own if d not in batch], name)
        array = np.asarray(self._ordered(value, batch, name))
        return np.broadcast_to(array, self.sizes[:-1])

    def of_x(self, xdata: PyTree) -> PyTree:
        """Leaves that have names as `Leaf`: shared, or with the batch's axes in front."""
        if self.names is None:
            return xdata
        return jax.tree.map(self._of_x, xdata)

    def of_xsigma(self, xsigma: PyTree) -> PyTree:
        """Leaves that have names with the batch's axes in front, then x's own, then the points'."""
        if self.names is None:
            return xsigma
        return jax.tree.map(self._of_xsigma, xsigma)

    def _of_xsigma(self, value):
        own = self._names_of(value)
        if own is None:
            return value
        others = tuple(d for d in own if d not in self._known)
        return self._ordered(value, (*self._known[:-1], *others, *self._known[-1:]), "xsigma")

    def _of_x(self, value):
        own = self._names_of(value)
        if own is None:
            return value
        names = self._known
        batch, points = names[:-1], names[-1:]
        others = tuple(d for d in own if d not in names)
        last = points if points[0] in own else ()
        if not set(own) & set(batch):
            return Leaf(self._ordered(value, (*others, *last), "xdata"), SHARED)
        array = self._ordered(value, (*batch, *others, *last), "xdata")
        if not set(batch) <= set(own):
            array = np.asarray(array)
            array = np.broadcast_to(array, (*self.sizes[:-1], *array.shape[len(batch) :]))
        return Leaf(array, EACH)

    def _ordered(self, value, names, what):
        """A value's axes in the order of names, of length one where it has none."""
        own = [d for d in names if d in value.dims]
        value = aligned(value, self.indexes, what).transpose(*own)
        if len(own) == len(names):
            return value
        sizes = dict(zip(own, value.shape, strict=True))
        return np.asarray(value).reshape([sizes.get(d, 1) for d in names])

    def _refuse(self, unknown, name):
        if unknown:
            raise ValueError(
                f"{name} has the dims {unknown}, which ydata, with {list(self._known)}, does not "
                "have; rename them, or pass .values for an alignment by position."
            )


def _is_named(value):
    return hasattr(value, "dims") and hasattr(value, "transpose") and hasattr(value, "coords")
