"""Models that only Python can call (an ``if`` on a parameter, a C library), in compiled programs.

The program calls back with the parameters of all lanes of a round.  The model is called once for
all of them, with parameters (lanes, 1) and data (lanes, m), where that gives what it gives of each
lane alone; else lane by lane.  The program itself depends on shapes only: which model it calls is a
number among its data, so that another model compiles nothing.
"""

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.problem.types import PyTreeDef

__all__ = ["HostModel"]

# Models by number, as long as something else refers to them.
_MODELS: "weakref.WeakValueDictionary[int, HostModel]" = weakref.WeakValueDictionary()
_NUMBERS = itertools.count(1)
# Calls of a program, whose last values are remembered.
MOST_FORMS = 8
# What a model may raise of some parameters: such a lane gets NaN, and others go on.
_OF_PARAMETERS = (ArithmeticError, ValueError)


class _Form(NamedTuple):
    """Of one lane's arguments: their tree, their axes, and the result's points and type."""

    tree: PyTreeDef
    axes: tuple[int, ...]
    points: int
    dtype: np.dtype


class HostModel:
    """A model in Python, as a function that JAX can trace but not differentiate.

    Parameters
    ----------
    model : callable
        ``model(x, *params) -> (m,)`` of NumPy arrays.

    Attributes
    ----------
    together : bool or None
        Whether it may be called with several lanes at once; None before it was tried.
    error : Exception or None
        What it raised first, but for:
    of_parameters : Exception or None
        An error of arithmetic or of values, that some parameters may lead to and others not.
    """

    def __init__(self, model: Callable[..., Any]) -> None:
        self.model = model
        self.together: bool | None = None
        self._begin()

    def _begin(self):
        self.error: Exception | None = None
        self.of_parameters: Exception | None = None
        self._lock, self._turns, self._last, self._collects = threading.Lock(), 0, {}, False
        self.number = next(_NUMBERS)
        _MODELS[self.number] = self

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "together": self.together}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __call__(self, x: Any, *params: Any, **named: Any) -> jax.Array:
        """The model's values (m,), for the last axis of x."""
        leaves, tree = jax.tree.flatten((x, params, named))
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        points = max((leaf.shape[-1] for leaf in map(jnp.asarray, jax.tree.leaves(x))), default=1)
        dtype = jnp.result_type(*map(jnp.asarray, jax.tree.leaves((params, named))))
        form = _Form(tree, tuple(leaf.ndim for leaf in leaves), points, np.dtype(dtype))
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
        finally:
            self._collects = False
        if self.error is not None:
            raise self.error

    # --- in Python ------------------------------------------------------------------

    def values(self, form: _Form, leaves: Sequence[np.ndarray]) -> np.ndarray:
        """The values of all lanes, whose axes are in front of each argument's own."""
        lanes = _Lanes(form, leaves)
        with self._lock, np.errstate(all="ignore"):
            try:
                if self.error is None:
                    return self._values(lanes).reshape(*lanes.front, form.points)
            except Exception as error:  # the user's code, of which XLA would make another error
                if not self._collects:
                    raise
                self.error = error
        return np.full((*lanes.front, form.points), np.nan, form.dtype)

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
        self._last[key] = lanes, values
        while len(self._last) > MOST_FORMS:
            self._last.pop(next(iter(self._last)))
        return values

    def _one_by_one(self, lanes, chosen=None):
        chosen = range(lanes.size) if chosen is None else chosen
        out = np.empty((len(chosen), lanes.form.points), lanes.form.dtype)
        for row, arguments in zip(out, lanes.each(chosen), strict=True):
            try:
                values = self._call(*arguments)
                if self.together is None and np.shape(values) not in ((), row.shape):
                    raise TypeError(
                        f"model(x, ...) must return one value per point, shape {row.shape}, got "
                        f"{np.shape(values)}."
                    )
                row[...] = values
            except _OF_PARAMETERS as error:
                row[...] = np.nan
                self.of_parameters = self.of_parameters or error
        return out

    def _call(self, x, params, named):
        values = self.model(x, *params, **named)
        if values is None:
            raise TypeError("model returned None; expected an array. Is a return missing?")
        return values


class _Lanes:
    """The arguments of several lanes."""

    def __init__(self, form, leaves):
        self.form = form
        fronts = [v.shape[: v.ndim - k] for v, k in zip(leaves, form.axes, strict=True)]
        self.front = np.broadcast_shapes(*fronts)
        self.size = int(np.prod(self.front))
        self._leaves = leaves
        # Of each argument (lanes, ...), or (1, ...) where all have the same.
        self._rows = [self._row(v, k) for v, k in zip(leaves, form.axes, strict=True)]

    def _row(self, v, axes):
        front, own = v.shape[: v.ndim - axes], v.shape[v.ndim - axes :]
        if all(size == 1 for size in front):
            return v.reshape(1, *own)
        return np.broadcast_to(v, (*self.front, *own)).reshape(self.size, *own)

    def all(self):
        """Those of all, that broadcast: lanes are the axes before the last one."""
        given = []
        for v, k in zip(self._leaves, self.form.axes, strict=True):
            front = v.ndim - k
            moved = np.moveaxis(v, range(front), range(k - 1, k - 1 + front)) if k else v[..., None]
            given.append(moved.copy())  # a model may write to it
        return jax.tree.unflatten(self.form.tree, given)

    def each(self, chosen):
        """Those of some lanes, one after the other."""
        shared = [len(row) == 1 for row in self._rows]
        for k in chosen:
            leaves = [row[0 if one else k] for row, one in zip(self._rows, shared, strict=True)]
            leaves = [v.copy() if v.ndim else v for v in leaves]  # a model may write to them
            yield jax.tree.unflatten(self.form.tree, leaves)

    def changed(self, before):
        """Lanes of which an argument is another one than before."""
        if before is None:
            return np.arange(self.size)
        same = np.ones(self.size, bool)
        for new, old in zip(self._rows, before._rows, strict=True):
            if new.shape != old.shape:
                return np.arange(self.size)
            same &= ((new == old) | ((new != new) & (old != old))).reshape(len(new), -1).all(1)
        return np.flatnonzero(~same)

    def agree(self, values, expected, chosen=None):
        """Whether values (lanes, m) are those expected of some, but for rounding."""
        if values is None:
            return False
        values = values if chosen is None else values[chosen]
        rtol = 64 * np.finfo(self.form.dtype).eps
        size = np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))
        return np.allclose(values, expected, rtol, rtol * size, equal_nan=True)


def _values(form, number, *leaves):
    """What a program calls back."""
    model = _MODELS[int(np.asarray(number).flat[0])]
    return model.values(form, [np.asarray(leaf) for leaf in leaves])
