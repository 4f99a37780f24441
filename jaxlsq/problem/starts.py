"""Where fits start: parameters as the caller gave them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.containers import by_name, is_real, native, no_mask
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.types import Batch, PyTree

__all__ = [
    "Start",
    "as_start",
    "as_tree_start",
    "as_vector",
    "check_numbers",
    "traced_start",
    "wide_enough",
]


@dataclass(frozen=True)
class Start:
    """Starting parameters of all problems.

    Attributes
    ----------
    layout : Layout
        Of one problem, as the caller wrote it.
    array : (n,) or (total, n) array, or None
        None where `guess` gives them.
    guess : callable or None
        ``guess(lane, shared) -> (n,)`` of one problem's data.
    """

    layout: Layout
    array: NDArray[Any] | None
    guess: Any = None

    def read(self, first: int, last: int) -> NDArray[Any]:
        """(k, n) of problems `first` to `last`."""
        assert self.array is not None  # else `guess` is asked
        if self.array.ndim == 1:
            return np.broadcast_to(self.array, (last - first, self.array.size))
        return self.array[first:last]

    def in_order_of(self, layout: Layout) -> Self:
        """The same, with parameters of the same names in the order of another layout."""
        if self.array is None:
            return replace(self, layout=layout, guess=replace(self.guess, layout=layout))
        columns = [self.layout.names.index(name) for name in layout.names]
        return replace(self, layout=layout, array=self.array[..., columns])


def check_numbers(arrays: Sequence[Any], name: str) -> None:
    """Raise TypeError unless starting parameters are some real numbers.

    Parameters
    ----------
    arrays : sequence of arrays, traced or not
    name : str
        Of the argument.
    """
    if not arrays or any(array.size == 0 for array in arrays):
        raise TypeError(f"{name} is empty; expected at least one starting parameter.")
    for array in arrays:
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise TypeError(
                f"{name} must be real, got dtype {array.dtype}. For complex parameters, pass their "
                "real and imaginary parts as separate ones."
            )
        if not is_real(array.dtype):
            raise TypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}.")


def as_vector(x0: Any, name: str = "x0") -> NDArray[Any]:
    """Starting parameters of one problem, of any shape, as a new float64 vector.

    Raises
    ------
    TypeError
        If there are none, or they are complex or not numeric.
    """
    x0 = np.asarray(no_mask(x0, name)).ravel()
    check_numbers([x0], name)
    return x0.astype(np.float64)


def traced_start(x0: PyTree) -> tuple[list[jax.Array], Layout, np.dtype[Any]]:
    """A pytree of starting parameters inside a JAX program, traced or not.

    Returns
    -------
    leaves : list of JAX arrays
    layout : Layout
    dtype : dtype
        Of the computation.

    Raises
    ------
    TypeError
        If there are no parameters, or complex ones.
    """
    arrays = jax.tree.map(_traced_leaf, x0)
    leaves = jax.tree.leaves(arrays)
    check_numbers(leaves, "x0")
    some_float = any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
    dtype = wide_enough(jnp.result_type(*([] if some_float else [float]), *leaves))
    return leaves, Layout.of(arrays), dtype


def _traced_leaf(value):
    value = native(no_mask(value, "x0"))
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        raise TypeError("x0 must be real numbers, got dtype object. Say of which: .astype(float).")
    return jnp.asarray(value)


def wide_enough(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A type, float32 in the place of a narrower one: half as many digits do not do for a fit."""
    is_narrow = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    return jnp.dtype(jnp.float32) if is_narrow else dtype


def as_start(p0: Any, batch: Batch, name: str = "p0") -> Start:
    """Starting parameters: ``(n,)``, ``batch + (n,)``, or a dict of scalars or batches.

    Parameters
    ----------
    p0 : array_like, or dict of them
        Or a Series or DataFrame, which is taken for the dict of what it names.
    batch : tuple of int
    name : str
        For messages.

    Raises
    ------
    TypeError, ValueError
        For an empty, complex, masked or misshapen one.
    """
    p0 = by_name(p0)
    if isinstance(p0, dict):
        layout, array = _of_dict(p0, batch, name)
    else:
        array = _vectors(p0, batch, name)
        layout = Layout.of(np.zeros(array.shape[-1]))
    check_numbers([array], name)
    array = array.astype(np.float64)
    return Start(layout, array if array.ndim == 1 else array.reshape(-1, array.shape[-1]))


def _of_dict(p0, batch, name):
    if not all(isinstance(key, str) for key in p0):
        raise TypeError(f"{name}'s keys must be the parameters' names, got {list(p0)}.")
    leaves = {key: _as_numbers(value, f"{name}[{key!r}]") for key, value in p0.items()}
    for key, value in leaves.items():
        if value.shape not in ((), batch):
            raise ValueError(
                f"{name}[{key!r}] must be a number or have the batch shape {batch}, got shape "
                f"{value.shape}."
            )
    layout = Layout.as_given(dict.fromkeys(leaves, 0.0))
    shared = all(value.shape == () for value in leaves.values())
    return layout, layout.pack(leaves, () if shared else batch) if leaves else np.empty(0)


def _vectors(p0, batch, name):
    if p0 is None:
        raise TypeError(
            f"{name} is None; pass one starting value per parameter, for example [1.0, 1.0]."
        )
    array = _as_numbers(p0, name)
    if array.ndim == 0:
        array = array[None]
    if array.ndim > 1 and array.shape[:-1] != batch:
        hint = ""
        if array.ndim == 2 and array.shape[1:] == batch:
            hint = f" Its transpose, {name}.T, has."
        expected = "(" + ", ".join([*map(str, batch), "n"]) + ")"
        raise ValueError(
            f"{name} must have shape (n,) or {expected}: one value per parameter, for all data "
            f"sets or for each; got shape {array.shape}.{hint}"
        )
    return array


def _as_numbers(value, name):
    no_mask(value, name)
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array: {error}") from None


def as_tree_start(x0: PyTree, batch: Batch, works: Callable[[Layout], bool] | None = None) -> Start:
    """Starting parameters of a general function: a vector, or any pytree.

    Parameters
    ----------
    x0 : array_like or pytree
    batch : (B,)
    works : callable, optional
        ``works(layout) -> bool``: whether the function takes such parameters of one problem,
        which decides where every leaf has B in front and could be per problem or shared.

    Raises
    ------
    TypeError, ValueError
        As `as_start`; and where both readings are possible.
    """
    x0 = by_name(x0)
    if jax.tree.structure(x0) == jax.tree.structure(0):
        return as_start(x0, batch, "x0")
    if isinstance(x0, (list, tuple)) and all(np.ndim(leaf) == 0 for leaf in x0):
        return as_start(x0, batch, "x0")
    layout = Layout.as_given(x0)
    leaves = [_as_numbers(leaf, "x0") for leaf in jax.tree.leaves(x0)]
    check_numbers(leaves, "x0")
    each = all(shape[:1] == batch for shape in layout.shapes)
    if each:
        one = replace(layout, shapes=tuple(shape[1:] for shape in layout.shapes))
        each = _is_each(one, layout, works)
        layout = one if each else layout
    array = layout.pack(x0, batch if each else ())
    return Start(layout, array.astype(np.float64))


def _is_each(one, whole, works):
    """Whether leaves with B in front are per problem; what the function takes decides."""
    if works is None or not works(whole):
        return True
    if works(one):
        raise ValueError(
            f"x0's leaves of shapes {list(whole.shapes)} can be meant per problem or shared, and "
            "fun takes both. To share them repeat each along a new first axis, one for every "
            "problem; for one per problem pass x0 as one array of shape (B, n)."
        )
    return False
