"""The front door of batches: what comes in, checked and laid out as problems."""

from dataclasses import dataclass

import jax
import numpy as np

from jaxlsq.numerics.iteration import Options
from jaxlsq.numerics.loss import first_factor
from jaxlsq.params import Layout
from jaxlsq.schedule.sources import Source, check_open, converted

__all__ = [
    "Spread",
    "Start",
    "as_array_like",
    "as_start",
    "as_tree_start",
    "batch_options",
    "broadcast_source",
    "float_dtype",
    "is_ragged",
    "per_lane",
    "split_data",
]

INT32_MAX = np.iinfo(np.int32).max
SMALLEST_TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1.49012e-8}


def as_array_like(value, name):
    """What has a shape, a dtype and slicing as it is; anything else as a NumPy array."""
    check_open(value, name)
    if not (hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "__getitem__")):
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name} must be an array: {error}") from None
    if np.dtype(value.dtype).kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {value.dtype}.")
    return value


def float_dtype(*arrays):
    """float64 unless every floating-point array is narrower: then float32."""
    kinds = {np.dtype(a.dtype) for a in arrays if np.dtype(a.dtype).kind == "f"}
    narrow = bool(kinds) and all(kind.itemsize <= 4 for kind in kinds)
    return np.dtype(np.float32 if narrow else np.float64)


def is_ragged(ydata):
    """True for a list of 1-D arrays that do not all have the same length."""
    if not isinstance(ydata, (list, tuple)) or not ydata:
        return False
    shapes = {np.shape(y) for y in ydata}
    return len(shapes) > 1 and all(len(shape) == 1 for shape in shapes)


def _lane_dtype(array, dtype):
    """Floats in the dtype of the computation; integers and booleans as they are."""
    kind = np.dtype(array.dtype)
    if kind.kind == "f":
        return dtype
    if kind.kind in "iu" and dtype == np.float32:
        return np.dtype(np.int32 if kind.kind == "i" else np.uint32)
    return kind


def split_data(tree, batch, dtype, name):
    """Leaves with the batch in front, to be read in blocks, and leaves that all problems share.

    Parameters
    ----------
    tree : pytree of arrays
    batch : tuple of int
        A leaf is per problem if its shape begins with it, and goes on; a leaf whose axes there
        are all one is shared.
    dtype : dtype
        Of the computation.
    name : str
        For messages.

    Returns
    -------
    lanes : dict of Source
    shared : dict of arrays
    join : callable
        ``join(lanes, shared)`` gives the tree again, of one problem.
    """
    leaves, structure = jax.tree.flatten(tree)
    if not leaves:
        raise TypeError(f"{name} must be an array or a pytree of arrays, got {tree!r}.")
    leaves = [as_array_like(leaf, name) for leaf in leaves]
    lanes, shared = {}, {}
    for number, leaf in enumerate(leaves):
        key = f"{name}.{number}"
        front, tail = tuple(leaf.shape[: len(batch)]), leaf.shape[len(batch) :]
        kind = _lane_dtype(leaf, dtype)
        if batch and front == batch and tail:
            lanes[key] = Source(leaf, batch, kind)
        elif batch and len(leaf.shape) > len(batch) and front == (1,) * len(batch):
            shared[key] = converted(np.asarray(leaf), kind)[(0,) * len(batch)]
        else:
            shared[key] = converted(np.asarray(leaf), kind)

    def join(lane, shared):
        keys = [f"{name}.{number}" for number in range(len(leaves))]
        return jax.tree.unflatten(structure, [lane[k] if k in lane else shared[k] for k in keys])

    return lanes, shared, join


def broadcast_source(value, shape, batch, dtype, name):
    """An array that broadcasts to `shape` (the batch, then m): shared, or a Source.

    Raises
    ------
    ValueError
        If it does not broadcast.
    """
    value = as_array_like(value, name)
    try:
        if np.broadcast_shapes(tuple(value.shape), shape) != shape:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{name} must broadcast to the shape of ydata, {shape}, got shape "
            f"{tuple(value.shape)}. For one value per data set, append an axis of length one."
        ) from None
    front = value.shape[: -1 if value.shape else None]
    if all(size == 1 for size in front):  # the same for every problem
        return np.broadcast_to(np.asarray(value, dtype).reshape(value.shape[-1:]), shape[-1:])
    if tuple(value.shape[:-1]) != batch:  # of a part of the batch: spelled out, without copying
        value = np.broadcast_to(np.asarray(value), (*batch, value.shape[-1]))
    return Source(value, batch, dtype)


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
    array: np.ndarray | None
    guess: object = None

    def read(self, first, last):
        """(k, n) of problems `first` to `last`."""
        if self.array.ndim == 1:
            return np.broadcast_to(self.array, (last - first, self.array.size))
        return self.array[first:last]


def as_start(p0, batch, name="p0"):
    """Starting parameters: ``(n,)``, ``batch + (n,)``, or a dict of scalars or batches.

    Raises
    ------
    TypeError, ValueError
        For an empty, complex or misshapen one.
    """
    if isinstance(p0, dict):
        if not all(isinstance(key, str) for key in p0):
            raise TypeError(f"{name}'s keys must be the parameters' names, got {list(p0)}.")
        leaves = {key: np.asarray(value) for key, value in p0.items()}
        for key, value in leaves.items():
            if value.shape not in ((), batch):
                raise ValueError(
                    f"{name}[{key!r}] must be a number or have the batch shape {batch}, got shape "
                    f"{value.shape}."
                )
        layout = Layout.of(dict.fromkeys(leaves, 0.0))
        shared = all(value.shape == () for value in leaves.values())
        array = layout.pack(leaves, () if shared else batch) if leaves else np.empty(0)
    else:
        try:
            array = np.asarray(p0)
        except ValueError as error:
            raise ValueError(f"{name} must be an array: {error}") from None
        if array.ndim == 0:
            array = array[None]
        if array.ndim > 1 and array.shape[:-1] != batch:
            raise ValueError(
                f"{name} must have shape (n,) or {(*batch, 'n')}: one value per parameter, for all "
                f"data sets or for each; got shape {array.shape}."
            )
        layout = Layout.of(np.zeros(array.shape[-1]))
    if array.size == 0:
        raise TypeError(f"{name} is empty; expected at least one starting parameter.")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be real, got dtype {array.dtype}.")
    array = array.astype(np.float64)
    return Start(layout, array if array.ndim == 1 else array.reshape(-1, array.shape[-1]))


def as_tree_start(x0, batch):
    """Starting parameters of a general function: a vector, or any pytree.

    Raises
    ------
    TypeError, ValueError
        As `as_start`.
    """
    if jax.tree.structure(x0) == jax.tree.structure(0):
        return as_start(x0, batch, "x0")
    if isinstance(x0, (list, tuple)) and all(np.ndim(leaf) == 0 for leaf in x0):
        return as_start(x0, batch, "x0")
    leaves, tree = jax.tree.flatten(x0)
    leaves = [np.asarray(leaf) for leaf in leaves]
    if not leaves or any(leaf.size == 0 for leaf in leaves):
        raise TypeError("x0 is empty; expected at least one starting parameter.")
    if any(leaf.dtype.kind not in "fiub" for leaf in leaves):
        raise TypeError(f"x0 must be real, got dtypes {[str(leaf.dtype) for leaf in leaves]}.")
    each = all(leaf.shape[:1] == batch for leaf in leaves)
    layout = Layout.of(jax.tree.unflatten(tree, [leaf[0] if each else leaf for leaf in leaves]))
    array = layout.pack(jax.tree.unflatten(tree, leaves), batch if each else ())
    return Start(layout, array.astype(np.float64))


def per_lane(tree, batch, dtype):
    """Every leaf as a Source, and the function that makes one problem's tree of them again."""
    leaves, structure = jax.tree.flatten(tree)
    leaves = [as_array_like(leaf, "data") for leaf in leaves]
    keys = [f"data.{number}" for number in range(len(leaves))]
    lanes = {
        key: Source(leaf, batch, _lane_dtype(leaf, dtype))
        for key, leaf in zip(keys, leaves, strict=True)
    }
    return lanes, lambda lane, _: jax.tree.unflatten(structure, [lane[key] for key in keys])


def batch_options(n, dtype, *, ftol, xtol, gtol, x_scale, max_nfev, loss=None):
    """`Options` with defaults by dtype.

    Raises
    ------
    ValueError
        For a negative tolerance, limit or scale.
    """
    default = SMALLEST_TOLERANCE[dtype]
    values = {"ftol": ftol, "xtol": xtol, "gtol": gtol}
    for name, value in values.items():
        if value is not None and not _is_number(value, lambda v: v >= 0):
            raise ValueError(f"{name} must be >= 0 or None, got {value!r}.")
    values = {k: default if v is None else v for k, v in values.items()}
    if max_nfev is not None and not _is_number(max_nfev, lambda v: v >= 1 and v == int(v)):
        raise ValueError(f"max_nfev must be at least 1 or None, and whole, got {max_nfev!r}.")
    scale = np.zeros(n) if x_scale is None else np.asarray(x_scale)
    usable = scale.dtype.kind in "fiu" and scale.shape in ((), (n,))
    if x_scale is not None:
        if not usable or not np.all(np.isfinite(scale) & (scale > 0)):
            raise ValueError(
                f"x_scale must be positive and finite, one number or {n}, got {x_scale!r}."
            )
        scale = np.broadcast_to(1.0 / scale, (n,))
    floats = values | {"factor": first_factor(loss), "diag": scale, "epsfcn": 0.0}
    return Options(
        max_nfev=np.int32(100 * (n + 1) if max_nfev is None else min(max_nfev, INT32_MAX)),
        **{k: np.asarray(v, dtype) for k, v in floats.items()},
    )


def _is_number(value, holds):
    """Whether a value is one real number for which something holds."""
    kind = np.asarray(value).dtype.kind if np.ndim(value) == 0 else ""
    return kind in set("fiu") and bool(holds(value))


@dataclass(frozen=True)
class Spread:
    """The starts of each problem.

    Attributes
    ----------
    factors, shifts : (starts, n) arrays
        Start k is ``p0 * factors[k]``, and ``shifts[k]`` where p0 is zero.
    given : (k, n) or (total, k, n) array, optional
        Starts after the first that the caller gave; then factors and shifts are not used.
    """

    factors: np.ndarray
    shifts: np.ndarray
    given: np.ndarray | None = None

    @classmethod
    def of(cls, starts, n, batch):
        """`starts` as the caller gave it: their number, or an array of further ones.

        The first start is p0.  The others have each parameter multiplied by a number from
        1/2 to 2, or, where it is zero, moved by one from -1 to 1: the same for all problems.
        """
        if isinstance(starts, (int, np.integer)):
            if starts < 1:
                raise ValueError(f"starts must be at least 1, got {starts}.")
            u = np.random.default_rng(0).uniform(-1.0, 1.0, (starts, n))
            u[0] = 0.0
            return cls(2.0**u, u)
        given = np.asarray(starts)
        if (
            given.dtype.kind not in "fiu"
            or given.ndim < 2
            or given.shape[-1] != n
            or given.shape[:-2] not in ((), batch)
        ):
            raise ValueError(
                f"starts must be a number, or an array of shape (k, {n}) or {(*batch, 'k', n)}; "
                f"got {given.dtype} of shape {given.shape}."
            )
        given = given.astype(np.float64)
        return cls(None, None, given if given.ndim == 2 else given.reshape(-1, *given.shape[-2:]))

    @property
    def starts(self):
        """Starts of each problem."""
        return len(self.factors) if self.given is None else self.given.shape[-2] + 1

    def apply(self, x0, first, last):
        """(k, starts, n) from the first starts (k, n) of problems `first` to `last`."""
        x0 = x0[:, None]
        if self.starts == 1:
            return x0
        if self.given is None:
            return np.where(x0 == 0, self.shifts, x0 * self.factors)
        more = self.given if self.given.ndim == 2 else self.given[first:last]
        return np.concatenate([x0, np.broadcast_to(more, (len(x0), *more.shape[-2:]))], axis=1)
