"""Bounds and fixed parameters of a batch, as the caller spells them and as blocks need them."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.problem.bounds import check_box, inward, pair
from jaxlsq.problem.containers import by_name, no_mask
from jaxlsq.problem.names import unknown_name
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.starts import Start
from jaxlsq.problem.types import Batch, BoundsLike, Keeps

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What holds parameters, the same for all problems (n,) or for each (total, n).

    Attributes
    ----------
    lower, upper : float arrays
    fixed : bool array
        Parameters that stay at their start, or whose bounds are equal.
    """

    lower: NDArray[Any]
    upper: NDArray[Any]
    fixed: NDArray[Any]

    @classmethod
    def of(
        cls, bounds: BoundsLike, fixed: Any, start: Start, names: tuple[str, ...], batch: Batch
    ) -> Self | None:
        """From a front door's arguments; None where nothing is held.

        Parameters
        ----------
        bounds : None, 2-tuple, object with `lb` and `ub`, or dict of pairs by name
        fixed : None, bool array, names, or dict of bools by name
        start : Start
        names : tuple of str
        batch : tuple of int

        Raises
        ------
        ValueError, TypeError
            For what is impossible or has the wrong shape, for an unknown name, and where
            nothing is left to fit.
        """
        if bounds is None and fixed is None:
            return None
        form = _Form(start.layout, names, batch)
        lower, upper = form.bounds(bounds)
        given = form.fixed(fixed)
        if not np.any(given) and np.all(lower == -np.inf) and np.all(upper == np.inf):
            return None
        if start.array is not None or not np.all(lower <= upper):
            check_box(lower, upper, start.array, "p0", names)
        held = given | (lower == upper)
        nothing = np.all(held, axis=-1)
        if np.any(nothing):
            which = f" of data set {np.flatnonzero(nothing)[0]}" if nothing.ndim else ""
            raise ValueError(
                f"all parameters{which} are fixed; leave at least one free, or evaluate the model "
                "itself."
            )
        return cls(lower, upper, held)

    def kept(self, keeper: Keeps) -> Self:
        """The same, which the caller's arrays no longer reach."""
        return replace(self, **{k: keeper.array("bounds", v) for k, v in vars(self).items()})

    def take(self, index: NDArray[Any] | slice) -> Self:
        """Those of some of the problems."""
        rows = {k: v if v.ndim == 1 else v[index] for k, v in vars(self).items()}
        return replace(self, **rows)

    def block(self, x0: NDArray[Any], first: int, last: int) -> tuple[NDArray[Any], Bounds]:
        """Starts inside the bounds, and the bounds, of some of the problems.

        Parameters
        ----------
        x0 : (k, starts, n) array
            In the type of the computation; the first of each problem's is where a fixed
            parameter stays.
        first, last : int

        Returns
        -------
        x0 : (k, starts, n) array
        bounds : Bounds
            Of (k, n) arrays.
        """
        part = self.take(slice(first, last))
        lower, upper = inward(part.lower, part.upper, x0.dtype)
        still = part.fixed & (lower != upper)
        place = x0[:, 0]
        lower, upper = np.where(still, place, lower), np.where(still, place, upper)
        return np.clip(x0, lower[:, None], upper[:, None]), Bounds(lower, upper)

    def varying(self) -> Any:
        """Number of parameters that are fitted, a number or (total,)."""
        return np.count_nonzero(~self.fixed, axis=-1)

    def active(self, x: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """(total, n) int8: -1 at a lower bound, 1 at an upper one, 0 elsewhere and where fixed."""
        lower, upper = inward(self.lower, self.upper, dtype)
        mask = np.where(x <= lower, -1, np.where(x >= upper, 1, 0))
        return np.where(self.fixed, 0, mask).astype(np.int8)


@dataclass(frozen=True)
class _Form:
    """How values for each parameter may be written."""

    layout: Layout
    names: tuple[str, ...]
    batch: Batch

    def bounds(self, bounds):
        if bounds is None:
            bounds = (-np.inf, np.inf)
        if isinstance(bounds, dict):
            pairs = {name: self._pair(name, value) for name, value in bounds.items()}
            sides = [{k: both[side] for k, both in pairs.items()} for side in (0, 1)]
            return tuple(
                self._by_name(side, "bounds", default)
                for side, default in zip(sides, (-np.inf, np.inf), strict=True)
            )
        return tuple(
            self._values(side, "bounds", default)
            for side, default in zip(pair(bounds), (-np.inf, np.inf), strict=True)
        )

    def _values(self, value, argument, default):
        """(n,) or (total, n), by name where a Series or DataFrame has names."""
        named = by_name(no_mask(value, argument))
        if named is not value:
            return self._by_name(named, argument, default)
        return self._array(value, argument)

    def _pair(self, name, value):
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise ValueError(f"bounds[{name!r}] must be a pair (lower, upper), got {value!r}.")
        ends = zip(value, (-np.inf, np.inf), strict=True)
        return [infinite if end is None else end for end, infinite in ends]

    def fixed(self, fixed):
        if fixed is None or (isinstance(fixed, (list, tuple, set, frozenset)) and not fixed):
            return np.zeros(self.layout.n, bool)
        if isinstance(fixed, str):
            fixed = [fixed]
        if isinstance(fixed, (list, tuple, set, frozenset)) and any(
            isinstance(name, str) for name in fixed
        ):
            fixed = dict.fromkeys(fixed, True)
        if isinstance(fixed, dict) and set(fixed) != set(self.layout.keys):
            values = self._by_name(fixed, "fixed", False)
        else:
            values = self._values(fixed, "fixed", False)
        if values.dtype != bool:
            raise TypeError(
                "fixed must be true or false for each parameter, or name some; the value at which "
                f"a parameter stays is that of p0. Got {fixed!r}."
            )
        return values

    def _by_name(self, values, argument, default):
        """A vector, from values for some of the names."""
        for name in values:
            no_mask(values[name], f"{argument}[{name!r}]")
            if name not in self.names:
                raise ValueError(unknown_name(name, self.names, argument))
        columns = [np.asarray(values.get(name, default)) for name in self.names]
        for name, column in zip(self.names, columns, strict=True):
            if column.shape not in ((), self.batch):
                raise ValueError(
                    f"{argument}[{name!r}] must be one value, or have the batch shape "
                    f"{self.batch}; got shape {column.shape}."
                )
        stacked = np.stack(np.broadcast_arrays(*columns), axis=-1)
        return self._flat(stacked)

    def _array(self, value, argument):
        """(n,) or (total, n), from a number, an array or a pytree like the parameters."""
        n = self.layout.n
        try:
            array = np.asarray(value)
            if array.dtype == object:
                raise ValueError
        except ValueError:
            array = np.empty(0)
        if array.ndim == 0 and array.dtype.kind in "fiub":
            return np.broadcast_to(array, (n,))
        if array.shape in ((n,), (*self.batch, n)):
            return self._flat(array)
        for lanes in (self.batch, ()):
            try:
                return self._flat(self.layout.pack(value, lanes))
            except ValueError:  # another structure, or other shapes
                continue
        raise ValueError(
            f"Inconsistent shapes between {argument} and the parameters: expected a number, "
            f"({n},) or {(*self.batch, n)}, for {', '.join(self.names)}; got {_short(value)}."
        )

    def _flat(self, array):
        if array.dtype.kind not in "fiub":
            raise TypeError(f"bounds and fixed must be real numbers, got dtype {array.dtype}.")
        return array if array.ndim == 1 else array.reshape(-1, self.layout.n)


def _short(value):
    """A value in a message: itself, or the shape of what is long."""
    text = repr(value)
    if len(text) <= 80 and "\n" not in text:
        return text
    return f"{type(value).__name__} of shape {getattr(value, 'shape', (len(value),))}"
