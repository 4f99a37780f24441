"""Data of `fit`: the arrays of problems of one shape, their starts, and lists of arrays."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.batch.functions import Counts, ModelJacobian, ModelResidual, scale_of
from jaxlsq.batch.group import Group
from jaxlsq.batch.inputs import (
    Start,
    as_array_like,
    as_start,
    broadcast_source,
    float_dtype,
    split_data,
)
from jaxlsq.batch.program import Task
from jaxlsq.batch.whitening import is_covariance, whitening
from jaxlsq.constraints import not_counts
from jaxlsq.numerics.loss import POISSON
from jaxlsq.params import Layout
from jaxlsq.schedule.sources import Source

__all__ = ["Pieces", "check_counts", "check_nan", "ragged_parts", "stacked", "start_of"]


@dataclass(frozen=True)
class Pieces:
    """The arrays of problems of one shape."""

    lanes: dict
    shared: dict
    x: object
    batch: tuple
    dtype: np.dtype

    @classmethod
    def of(cls, xdata, ydata, points, batch):
        """Sources and shared arrays from what the caller gave; `points` holds what is per point."""
        dtype = float_dtype(ydata)
        lanes, shared, x = split_data(xdata, batch, dtype, "xdata")
        lanes["y"] = Source(ydata, batch, dtype)
        shape = (*batch, ydata.shape[-1])
        for name, value in points.items():
            if value is None:
                continue
            if name == "sigma" and is_covariance(value, shape):
                name, part = "whitening", whitening(value, shape, batch, dtype)
            else:
                kind = np.dtype(bool) if name == "mask" else dtype
                part = broadcast_source(value, shape, batch, kind, name)
            if isinstance(part, Source):
                lanes[name] = part
            else:
                shared[name] = part
                if name in ("sigma", "f_scale") and not np.all(part > 0):
                    raise ValueError(f"{name} must be positive: it holds zero, negative or NaN.")
        return cls(lanes, shared, x, batch, dtype)

    def group(self, predict, policy, jac, layout, loss=None):
        """The `Group` of these problems."""
        counts = loss is POISSON
        task = Task(
            layout=layout if predict.expand else _scalar_layout(layout, predict.by_name),
            residual=ModelResidual(predict, policy, self.x, counts),
            jac=ModelJacobian(jac, predict.by_name, policy, self.x) if callable(jac) else jac,
            check=policy,
            loss=loss,
            extra=Counts(policy) if counts else loss and scale_of,
        )
        return Group(task, self.lanes, self.shared, int(np.prod(self.batch)), self.dtype)


def _scalar_layout(layout, by_name):
    """Parameters as separate scalars, each of which is differentiated by alone."""
    return layout if by_name else Layout.of((0.0,) * layout.n)


@dataclass(frozen=True)
class _Guess:
    """The user's guess as a vector."""

    guess: object
    layout: Layout
    x: object

    def __call__(self, lane, shared):
        params = _as_params(self.guess(self.x(lane, shared), lane["y"]))
        packed = self.layout.pack(params, (), jnp)
        return packed.astype(lane["y"].dtype)


def start_of(p0, batch, groups):
    """`Start`, and whether the parameters have names."""
    if not callable(p0):
        start = as_start(p0, batch)
        return start, isinstance(p0, dict)
    _, pieces = groups[0]
    one = {k: jax.ShapeDtypeStruct(s.tail, s.dtype) for k, s in pieces.lanes.items()}
    with jax.enable_x64(pieces.dtype == np.float64):
        shapes = jax.eval_shape(
            lambda lane, shared: _as_params(p0(pieces.x(lane, shared), lane["y"])),
            one,
            pieces.shared,
        )
    example = jax.tree.map(lambda s: np.zeros(s.shape), shapes)
    layout = Layout.of(example)
    return Start(layout, None, _Guess(p0, layout, pieces.x)), isinstance(example, dict)


def _as_params(params):
    """A guess as a dict of scalars or a vector."""
    if isinstance(params, dict) and params:
        return params
    several = isinstance(params, (tuple, list)) or getattr(params, "ndim", 0) == 1
    if not several or len(params) == 0:
        raise TypeError(
            "p0, as a function, must return a dict of numbers or a sequence of them, one for each "
            f"parameter; got {params!r}."
        )
    return jnp.stack([jnp.asarray(p) for p in params])


def check_nan(parts):
    """Raise ValueError for a NaN in ydata."""
    for _, _, ydata, *_ in parts:
        for rows in _blocks(ydata):
            block = np.asarray(ydata[rows])
            if block.dtype.kind == "f" and np.isnan(block).any():
                raise ValueError(
                    "ydata contains NaN. Pass nan_policy='omit' to leave such points out, or "
                    "'propagate' to end only their fits."
                )


def check_counts(parts):
    """Raise ValueError for ydata that are not counts, where they are not masked."""
    for _, _, ydata, _, mask in parts:
        live = True if mask is None else np.broadcast_to(np.asarray(mask), ydata.shape)
        for rows in _blocks(ydata):
            block = np.asarray(ydata[rows])
            bad = not_counts(block) & ~np.isnan(block)
            bad &= live if live is True else live[rows]
            if bad.any():
                raise ValueError(
                    "loss='poisson' needs counts, whole numbers from zero on; ydata has "
                    f"{block[bad].ravel()[0]!r}. Mask such points, or use sigma and least squares "
                    "for data that were scaled or had a background subtracted."
                )


def _blocks(ydata):
    """Slices of the first axis, of some tens of kilobytes."""
    if len(ydata.shape) == 1:
        return [slice(None)]
    step = max(1, 8192 * ydata.shape[0] // max(int(np.prod(ydata.shape)), 1))
    return [slice(first, first + step) for first in range(0, ydata.shape[0], step)]


def stacked(xdata, ydata):
    """A list of arrays, where ydata is a list of as many, as one array; a tuple is a pytree."""
    if isinstance(xdata, list) and all(np.ndim(x) == 0 for x in xdata):
        return np.asarray(xdata)
    lists = isinstance(xdata, list) and isinstance(ydata, (list, tuple))
    if lists and len(xdata) == len(ydata) and all(np.ndim(x) > 0 for x in xdata):
        return np.stack(xdata)
    return xdata


def ragged_parts(xdata, ydata, sigma, mask):
    """Groups of similar length: their places, and padded arrays with a mask."""
    for y in ydata:
        as_array_like(y, "ydata")
    lengths = np.array([len(y) for y in ydata])
    if lengths.min() == 0:
        raise ValueError(f"ydata[{int(lengths.argmin())}] is empty.")
    for name, values in (("xdata", xdata), ("sigma", sigma), ("mask", mask)):
        if values is None and name != "xdata":
            continue
        if not isinstance(values, (list, tuple)) or len(values) != len(ydata):
            raise ValueError(
                f"{name} must be a list of {len(ydata)} arrays, as ydata is; got "
                f"{type(values).__name__}."
            )
        for i, (value, length) in enumerate(zip(values, lengths, strict=True)):
            as_array_like(value, name)
            if np.shape(value)[-1:] != (length,):
                raise ValueError(
                    f"{name}[{i}] must have {length} points, as ydata[{i}]; got shape "
                    f"{np.shape(value)}."
                )
    buckets = np.array([_bucket(length) for length in lengths])
    parts = []
    for size in np.unique(buckets):
        index = np.flatnonzero(buckets == size)
        padded = [
            None if v is None else np.stack([_pad(np.asarray(v[i]), size) for i in index])
            for v in (xdata, ydata, sigma)
        ]
        live = np.arange(size)[None, :] < lengths[index][:, None]
        if mask is not None:
            live = live & np.stack([_pad(np.asarray(mask[i], bool), size) for i in index])
        parts.append((index, *padded, live))
    return parts


def _bucket(length):
    """The next of 4, 6, 8, 12, 16, 24, 32, ...: few shapes, a third of padding at most."""
    power = 1 << max(int(length) - 1, 3).bit_length()
    return power * 3 // 4 if length <= power * 3 // 4 else power


def _pad(array, size):
    """The last axis continued with its last value, at which the model is finite."""
    widths = [(0, 0)] * (array.ndim - 1) + [(0, size - array.shape[-1])]
    return np.pad(array, widths, mode="edge")
