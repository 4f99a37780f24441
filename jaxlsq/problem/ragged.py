"""Lists of arrays: data sets of different lengths in groups of similar length."""

from typing import Any

import jax
import numpy as np

from jaxlsq.problem.containers import as_array_like
from jaxlsq.problem.contents import check_flags
from jaxlsq.problem.readings import EACH, Leaf
from jaxlsq.problem.sources import converted
from jaxlsq.problem.xsigma import with_sigmas

__all__ = ["is_ragged", "ragged_parts"]


def is_ragged(ydata: Any) -> bool:
    """True for a list of 1-D arrays that do not all have the same length."""
    if not isinstance(ydata, (list, tuple)) or not ydata:
        return False
    shapes = {np.shape(y) for y in ydata}
    return len(shapes) > 1 and all(len(shape) == 1 for shape in shapes)


def ragged_parts(
    xdata: Any, ydata: Any, sigma: Any, mask: Any, xsigma: Any = None
) -> list[tuple[Any, ...]]:
    """Groups of similar length: their places, and padded arrays with a mask.

    Returns
    -------
    list of (index, (leaves, structure), ydata, sigma, mask)
        As `Pieces.of` takes them.
    """
    ydata = [as_array_like(y, "ydata") for y in ydata]
    lengths = np.array([len(y) for y in ydata])
    if lengths.min() == 0:
        raise ValueError(f"ydata[{int(lengths.argmin())}] is empty.")
    of_all = None if isinstance(xsigma, (list, tuple)) or np.ndim(xsigma) else xsigma
    xsigma = xsigma if of_all is None else None
    lists = {"xdata": xdata, "sigma": sigma, "mask": mask, "xsigma": xsigma}
    xdata, sigma, mask, xsigma = (
        None if values is None and name != "xdata" else _checked(name, values, lengths)
        for name, values in lists.items()
    )
    parts = []
    for size, index in _groups(lengths):
        live = np.arange(size)[None, :] < lengths[index][:, None]
        padded = []
        for values in (xdata, ydata, sigma, xsigma):
            array = values and _stacked([values[i] for i in index], size)
            if isinstance(array, np.ma.MaskedArray):
                good = ~np.ma.getmaskarray(array)
                live = live & good.reshape(len(index), -1, size).all(axis=1)
                array = converted(array, np.result_type(array.dtype, np.float32))
            padded.append(array)
        if mask is not None:
            live = live & _stacked([np.asarray(check_flags(mask[i]), bool) for i in index], size)
        x, y, s, of_x = padded
        if of_x is not None and of_x.ndim < x.ndim:  # the same for all variables of a point
            of_x = of_x.reshape(len(index), *[1] * (x.ndim - of_x.ndim), size)
        leaf, structure = Leaf(x, EACH), jax.tree.structure(0)
        given = of_all if of_x is None else of_x
        leaves = with_sigmas([leaf], structure, given, (len(index),), size)
        parts.append((index, (leaves, structure), y, s, live))
    return parts


def _checked(name, values, lengths):
    """A list of as many arrays, each with as many points as its ydata.

    Of sigma and mask also a value for all, or one for each data set.
    """
    if name in ("sigma", "mask"):
        values = _of_each(name, values, lengths)
    if not isinstance(values, (list, tuple)) or len(values) != len(lengths):
        raise ValueError(
            f"{name} must be a list of {len(lengths)} arrays, as ydata is; got "
            f"{type(values).__name__}{_shape_of(values)}."
        )
    arrays = [as_array_like(value, name) for value in values]
    for i, (array, length) in enumerate(zip(arrays, lengths, strict=True)):
        if tuple(array.shape[-1:]) != (length,):
            raise ValueError(
                f"{name}[{i}] must have {length} points, as ydata[{i}]; got shape "
                f"{tuple(array.shape)}."
            )
    return arrays


def _shape_of(values):
    shape = getattr(values, "shape", None)
    return "" if shape is None else f" of shape {tuple(shape)}"


def _of_each(name, values, lengths):
    """Weights that broadcast to their data sets, spelled out; anything else as it is."""
    if not isinstance(values, (list, tuple)):
        values = as_array_like(values, name)
        if tuple(values.shape) not in ((), (1,), (len(lengths), 1)):
            return values
        values = np.broadcast_to(values, (len(lengths), 1))
    if len(values) != len(lengths):
        return values
    pairs = zip(values, lengths, strict=True)
    return [np.broadcast_to(v, length) if np.shape(v) in ((), (1,)) else v for v, length in pairs]


def _groups(lengths):
    """Sizes to which data sets are padded, and which ones."""
    buckets = np.array([_bucket(length) for length in lengths])
    return [(size, np.flatnonzero(buckets == size)) for size in np.unique(buckets)]


def _stacked(arrays, size):
    """Arrays of one group, padded; masked if one of them is."""
    if any(isinstance(a, np.ma.MaskedArray) for a in arrays):
        data = np.stack([_pad(np.ma.getdata(a), size) for a in arrays])
        return np.ma.array(data, mask=[_pad(np.ma.getmaskarray(a), size) for a in arrays])
    return np.stack([_pad(np.asarray(a), size) for a in arrays])


def _bucket(length):
    """The next of 4, 6, 8, 12, 16, 24, 32, ...: few shapes, a third of padding at most."""
    power = 1 << max(int(length) - 1, 3).bit_length()
    return power * 3 // 4 if length <= power * 3 // 4 else power


def _pad(array, size):
    """The last axis continued with its last value, at which the model is finite."""
    widths = [(0, 0)] * (array.ndim - 1) + [(0, size - array.shape[-1])]
    return np.pad(array, widths, mode="edge")
