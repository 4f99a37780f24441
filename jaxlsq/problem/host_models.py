"""Models that only Python can call (an ``if`` on a parameter, a C library), in compiled programs.

The program calls back with the parameters of all lanes of a round.  The model is called once for
all of them, with parameters (lanes, 1) and data (lanes, m), where that gives what it gives of each
lane alone; else lane by lane.  The program itself depends on shapes only: which model it calls is a
number among its data, so that another model compiles nothing.
"""

import itertools
import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.types import Batch, PyTree, PyTreeDef

__all__ = ["HostModel", "HostResidual"]

# Models by number, as long as something else refers to them.
_MODELS: "weakref.WeakValueDictionary[int, HostModel]" = weakref.WeakValueDictionary()
_NUMBERS = itertools.count(1)
# Calls of a program, whose last values are remembered.
MOST_FORMS = 8
# What a model may raise of some parameters: such a lane gets NaN, and others go on.
_OF_PARAMETERS = (ArithmeticError, ValueError)


class _Form(NamedTuple):
    """Of one lane's arguments: their tree, their axes, and the result's points and type.

    Of the arguments so many are data; the others are parameters.
    """

    tree: PyTreeDef
    axes: tuple[int, ...]
    data: int
    points: int
    dtype: np.dtype[Any]


class HostModel:
    """A model in Python, as a function that JAX can trace but not differentiate.

    Parameters
    ----------
    model : callable
        ``model(x, *params) -> (m,)`` of NumPy arrays.
    points : int, optional
        m; where it is not given, that of the last axis of x.

    Attributes
    ----------
    together : bool or None
        Whether it may be called with several lanes at once; None before it was tried.
    error : Exception or None
        What it raised first, but for:
    of_parameters : Exception or None
        An error of arithmetic or of values, that some parameters may lead to and others not.
    """

    def __init__(self, model: Callable[..., Any], points: int | None = None) -> None:
        self.model: Callable[..., Any] = model
        self.points: int | None = points
        self.together: bool | None = None
        self._begin()

    def _begin(self):
        self.error: Exception | None = None
        self.of_parameters: Exception | None = None
        self._lock, self._turns, self._last, self._collects = threading.Lock(), 0, {}, False
        self._number()

    def _number(self):
        """Take a new number; programs that have an old one get NaN, and come to their end."""
        self.number: int = next(_NUMBERS)
        _MODELS[self.number] = self

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "points": self.points, "together": self.together}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __call__(self, x: Any, *params: Any, **named: Any) -> jax.Array:
        """The model's values (m,)."""
        leaves, tree = jax.tree.flatten((x, params, named))
        leaves, data = [jnp.asarray(leaf) for leaf in leaves], len(jax.tree.leaves(x))
        points = self.points or max(v.shape[-1] for v in leaves[:data] if v.ndim)
        dtype = jnp.result_type(*leaves[data:])
        form = _Form(tree, tuple(v.ndim for v in leaves), data, points, np.dtype(dtype))
        return jax.pure_callback(
            partial(_values, form),
            jax.ShapeDtypeStruct((points,), dtype),
            np.array([self.number], np.int32),
            *leaves,
            vmap_method="expand_dims",
        )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What the model raises inside is raised at the end, and not as an error of XLA's."""
        self._collects = True
        try:
            yield
        except KeyboardInterrupt:  # a call may be under way, in a thread that ends with it
            _MODELS.pop(self.number, None)
            self._number()
            raise
        finally:
            self._collects = False
        if self.error is not None:
            raise self.error

    # --- in Python ------------------------------------------------------------------

    def values(self, lanes: "_Lanes") -> NDArray[Any]:
        """The values of all lanes, (lanes, m)."""
        with self._lock, np.errstate(all="ignore"):
            try:
                if self.error is None:
                    return self._values(lanes)
            except Exception as error:  # the user's code, of which XLA would make another error
                if not self._collects:
                    raise
                self.error = error
        return lanes.blank()

    def _values(self, lanes):
        if self.together is None:
            values = self._one_by_one(lanes)
            if lanes.size > 1:
                self.together = lanes.agree(self._at_once(lanes), values)
            return values
        if self.together:
            values, k = self._at_once(lanes), self._turns % lanes.size
            self._turns += 1
            if values is not None and lanes.agree(values, self._one_by_one(lanes, [k]), [k]):
                return values
            self.together = False
        return self._remembering(lanes)

    def _at_once(self, lanes):
        """The values by one call, (lanes, m), or None."""
        try:
            values = np.asarray(self._call(*lanes.all()))
            values = np.broadcast_to(values, (*lanes.front, lanes.form.points))
        except Exception:  # what a model for one lane may raise of several can be anything
            return None
        return values.astype(lanes.form.dtype).reshape(lanes.size, -1)

    def _remembering(self, lanes):
        """The values lane by lane; those that are as they were last time, not again."""
        key = lanes.form, lanes.front
        before, values = self._last.get(key, (None, None))
        changed = lanes.changed(before)
        if values is None or len(changed) == lanes.size:
            values = self._one_by_one(lanes)
        else:
            values = values.copy()
            values[changed] = self._one_by_one(lanes, changed)
        if lanes.number == self.number:
            self._last[key] = lanes, values
        while len(self._last) > MOST_FORMS:
            self._last.pop(next(iter(self._last)))
        return values

    def _one_by_one(self, lanes, chosen=None):
        chosen = range(lanes.size) if chosen is None else chosen
        out = np.full((len(chosen), lanes.form.points), np.nan, lanes.form.dtype)
        for row, arguments in zip(out, lanes.each(chosen), strict=True):
            if lanes.number != self.number:
                break
            try:
                values = self._call(*arguments)
                if self.together is None and np.shape(values) not in ((), row.shape):
                    raise TypeError(
                        f"model(x, ...) must return one value per point, shape {row.shape}, got "
                        f"{np.shape(values)}."
                    )
                row[...] = values
            except _OF_PARAMETERS as error:
                self.of_parameters = self.of_parameters or error
        return out

    def _call(self, x, params, named):
        values = self.model(x, *params, **named)
        if values is None:
            raise TypeError("model returned None; expected an array. Is a return missing?")
        return values


@dataclass(frozen=True)
class _DataFirst:
    """``fun(params, data)`` with its arguments in the order of a model's."""

    fun: Callable[..., Any]

    def __call__(self, data, params):
        return self.fun(params, data)


@dataclass(frozen=True)
class HostResidual:
    """``fun(params, data) -> (m,)`` of a `HostModel`."""

    model: HostModel

    @classmethod
    def of(cls, fun: Callable[..., Any], params: Any, data: Any) -> "HostResidual":
        """From the function in Python, and arguments of one lane that tell how long it is."""
        values = fun(*jax.tree.map(np.array, (params, data)))
        return cls(HostModel(_DataFirst(fun), np.size(values)))

    def __call__(self, params: Any, data: Any) -> jax.Array:
        return self.model(data, params)


class _Lanes:
    """The arguments of several lanes."""

    def __init__(self, form: Any, number: int, leaves: list[NDArray[Any]]) -> None:
        self.form: Any = form
        self.number: int = number
        fronts = [v.shape[: v.ndim - k] for v, k in zip(leaves, form.axes, strict=True)]
        self.front: Batch = np.broadcast_shapes(*fronts)
        self.size: int = math.prod(self.front)
        self._leaves = leaves
        # Of each argument (lanes, ...), or (1, ...) where all have the same.
        self._rows = [self._row(v, k) for v, k in zip(leaves, form.axes, strict=True)]

    def _row(self, v, axes):
        front, own = v.shape[: v.ndim - axes], v.shape[v.ndim - axes :]
        if all(size == 1 for size in front):
            return v.reshape(1, *own)
        return np.broadcast_to(v, (*self.front, *own)).reshape(self.size, *own)

    def blank(self) -> NDArray[Any]:
        """Values that are not known."""
        return np.full((self.size, self.form.points), np.nan, self.form.dtype)

    def all(self) -> PyTree:
        """Those of all, that broadcast: lanes are the axes before the last one, of points."""
        given = []
        for number, (v, k) in enumerate(zip(self._leaves, self.form.axes, strict=True)):
            front = v.ndim - k
            if k == 0 or number >= self.form.data:
                v, k = v[..., None], k + 1
            moved = np.moveaxis(v, range(front), range(k - 1, k - 1 + front))
            given.append(moved.copy())  # a model may write to it
        return jax.tree.unflatten(self.form.tree, given)

    def each(self, chosen: Iterable[int]) -> Iterator[PyTree]:
        """Those of some lanes, one after the other."""
        shared = [len(row) == 1 for row in self._rows]
        for k in chosen:
            leaves = [row[0 if one else k] for row, one in zip(self._rows, shared, strict=True)]
            leaves = [v.copy() if v.ndim else v for v in leaves]  # a model may write to them
            yield jax.tree.unflatten(self.form.tree, leaves)

    def changed(self, before: "_Lanes | None") -> NDArray[Any]:
        """Lanes of which an argument is another one than before."""
        if before is None:
            return np.arange(self.size)
        same = np.ones(self.size, bool)
        for new, old in zip(self._rows, before._rows, strict=True):
            if new.shape != old.shape:
                return np.arange(self.size)
            same &= ((new == old) | ((new != new) & (old != old))).reshape(len(new), -1).all(1)
        return np.flatnonzero(~same)

    def agree(self, values: Any, expected: NDArray[Any], chosen: Any = None) -> bool:
        """Whether values (lanes, m) are those expected of some, but for rounding."""
        if values is None:
            return False
        values = values if chosen is None else values[chosen]
        rtol = 64 * np.finfo(self.form.dtype).eps
        size = np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))
        return np.allclose(values, expected, rtol, rtol * size, equal_nan=True)


def _values(form, number, *leaves):
    """What a program calls back."""
    number = int(np.asarray(number).flat[0])
    lanes, model = _Lanes(form, number, [np.asarray(v) for v in leaves]), _MODELS.get(number)
    values = lanes.blank() if model is None else model.values(lanes)
    return values.reshape(*lanes.front, form.points)
