"""Data of `fit`: the arrays of problems of one shape, their starts, and lists of arrays."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.numerics.loss import POISSON, Loss
from jaxlsq.problem.containers import as_array_like, is_masked
from jaxlsq.problem.covariance import is_covariance, whitening
from jaxlsq.problem.functions import Counts, ModelJacobian, ModelResidual, Predict, scale_of
from jaxlsq.problem.inputs import broadcast_source, float_dtype, split_data, whole
from jaxlsq.problem.losses import not_counts
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.points import Filled, Known, Unmasked
from jaxlsq.problem.policy import Policy
from jaxlsq.problem.readings import EACH, Leaf
from jaxlsq.problem.shifted import with_x_errors
from jaxlsq.problem.sources import Source
from jaxlsq.problem.starts import Start
from jaxlsq.problem.task import Task
from jaxlsq.problem.types import Batch, Parts, PyTree, PyTreeDef
from jaxlsq.problem.xsigma import sigma_parts, sigmas_by_kind
from jaxlsq.tracing.fingerprint import TRACES, trace_key
from jaxlsq.tracing.shapes import shapes_of
from jaxlsq.tracing.untraceable import JAX_ERRORS, untraceable

__all__ = ["Pieces", "as_params", "check_counts", "check_nan", "guessed_start"]


@dataclass(frozen=True)
class Pieces:
    """The arrays of problems of one shape."""

    lanes: dict[str, Source]
    shared: Parts
    x: Callable[..., PyTree]
    batch: Batch
    dtype: np.dtype

    @classmethod
    def of(
        cls,
        xdata: tuple[list[Leaf], PyTreeDef],
        ydata: Any,
        points: dict[str, Any],
        batch: Batch,
        policy: Policy,
    ) -> Self:
        """Sources and shared arrays from what the caller gave.

        Parameters
        ----------
        xdata : (list of Leaf, PyTreeDef)
        ydata : array-like
        points : dict
            What is per point: sigma, mask, f_scale, or None for them.
        batch : tuple of int
        policy : Policy
        """
        leaves, structure = xdata
        shape = (*batch, ydata.shape[-1])
        dtype = _common_dtype(leaves, ydata, points["sigma"], batch)
        lanes, shared = _usable_points(leaves, ydata, points["sigma"], shape, policy)
        s_lanes, s_shared = sigma_parts(leaves, batch, dtype, policy.omit)
        if policy.some:
            leaves = [_filled(leaf, batch, shape[-1]) for leaf in leaves]
        x_lanes, x_shared, x = split_data(leaves, structure, batch, dtype, "xdata")
        lanes |= x_lanes | s_lanes | {"y": Source(ydata, batch, dtype)}
        shared |= x_shared | s_shared
        for name, value in points.items():
            if value is None:
                continue
            if name == "sigma" and is_covariance(value, shape):
                name, part = "whitening", whitening(value, shape, batch, dtype)
            else:
                kind = np.dtype(bool) if name == "mask" else dtype
                part = broadcast_source(value, shape, batch, kind, name)
            (lanes if isinstance(part, Source) else shared)[name] = part
        _check_positive(shared, policy)
        return cls(lanes, shared, x, batch, dtype)

    def task(
        self,
        predict: Predict,
        policy: Policy,
        jac: str | Callable[..., Any],
        layout: Layout,
        loss: Loss | None = None,
        x_errors: str | None = None,
    ) -> Task:
        """The `Task` of these problems."""
        counts = loss is POISSON
        residual = ModelResidual(predict, policy, self.x, counts)
        if callable(jac):
            jac = ModelJacobian(jac, predict.by_name, policy, self.x)
        if x_errors is not None:
            residual, jac = with_x_errors(residual, jac, x_errors)
        return Task(
            layout=layout if predict.expand else _scalar_layout(layout, predict.by_name),
            residual=residual,
            jac=jac,
            check=policy,
            loss=loss,
            extra=Counts(policy) if counts else loss and scale_of,
        )


def _common_dtype(leaves, ydata, sigma, batch):
    each, shared = sigmas_by_kind(leaves, batch)
    each += [ydata, *(leaf.array for leaf in leaves if leaf.reading == EACH)]
    shared += [whole(leaf, batch) for leaf in leaves if leaf.reading != EACH]
    if sigma is not None:
        sigma = as_array_like(sigma, "sigma")
        of_all = all(size == 1 for size in sigma.shape[: len(sigma.shape) - 1])
        (shared if of_all or is_covariance(sigma, ydata.shape) else each).append(sigma)
    return float_dtype(each, shared)


def _usable_points(leaves, ydata, sigma, shape, policy):
    """Which points are not masked, and which have a known x: per data set, and shared.

    Entries called ``mask...`` say which points count, those called ``known...`` where that
    has to be so.
    """
    lanes, shared, batch = {}, {}, shape[:-1]
    if is_masked(ydata):
        lanes["mask.y"] = Source(Unmasked(ydata), batch, np.dtype(bool))
    if sigma is not None and is_masked(sigma):
        part = broadcast_source(Unmasked(sigma), shape, batch, np.dtype(bool), "sigma")
        (lanes if isinstance(part, Source) else shared)["mask.sigma"] = part
    for number, leaf in enumerate(leaves):
        views = [("mask", Unmasked)] if is_masked(leaf.array) else []
        views += [] if not policy.some or _is_clean(leaf.array) else [("known", Known)]
        for kind, view in views:
            name = f"{kind}.x.{number}"
            if not _has_points(leaf, batch, shape[-1]):
                if kind == "mask" and not np.all(np.asarray(view(leaf.array))):
                    raise ValueError(
                        f"xdata has masked elements in an array of shape {leaf.array.shape}, "
                        f"whose last axis is not that of the {shape[-1]} points; fill them."
                    )
            elif leaf.reading == EACH:
                lanes[name] = Source(view(leaf.array), batch, np.dtype(bool))
            else:
                shared[name] = np.asarray(view(whole(leaf, batch)))
    return lanes, shared


def _is_clean(array):
    """Whether an array is known to have neither masked elements nor NaN, without reading a file."""
    if np.dtype(array.dtype).kind in "iub":
        return not is_masked(array)
    return type(array) is np.ndarray and not np.isnan(array).any()


def _has_points(leaf, batch, m):
    """Whether the last axis of one data set's part is that of its points."""
    return leaf.tail(batch)[-1:] == (m,)


def _filled(leaf, batch, m):
    """A leaf without the values of points that are masked or NaN."""
    if not _has_points(leaf, batch, m) or _is_clean(leaf.array):
        return leaf
    view = Filled(leaf.array)
    return replace(leaf, array=view if leaf.reading == EACH else np.asarray(view))


def _check_positive(shared, policy):
    """Raise ValueError for shared scales that are not positive, where they count."""
    for name in ("sigma", "f_scale"):
        if name not in shared:
            continue
        good = shared[name] > 0
        if name == "sigma":
            good = good | np.logical_not(shared.get("mask.sigma", True))
            good = good | np.isnan(shared[name]) if policy.omit else good
        if not np.all(good):
            raise ValueError(f"{name} must be positive: it holds zero, negative or NaN.")


def _scalar_layout(layout, by_name):
    """Parameters as separate scalars, each of which is differentiated by alone."""
    return layout if by_name else Layout.of((0.0,) * layout.n)


@dataclass(frozen=True)
class _Guess:
    """The user's guess as a vector."""

    guess: Callable[..., Any]
    layout: Layout
    x: Callable[..., Any]
    policy: Policy

    def __call__(self, lane, shared):
        y = self.policy.filled(lane, shared)
        packed = self.layout.pack(as_params(self.guess(self.x(lane, shared), y)), (), jnp)
        return packed.astype(y.dtype)


def guessed_start(
    p0: Callable[..., Any], pieces: Pieces, policy: Policy, given: Start | None = None
) -> Start:
    """`Start` of a guess, with parameters as it returns them.

    Parameters
    ----------
    p0 : callable
        ``p0(x, y)``, as `fit` takes it.
    pieces : Pieces
        Of any of the problems: a guess is asked what it returns for their shapes.
    policy : Policy
    given : Start, optional
        Of which the guess replaces what is NaN; it must be one of the same names.
    """
    lane = {k: jax.ShapeDtypeStruct(s.tail, s.dtype) for k, s in pieces.lanes.items()}
    shared = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in pieces.shared.items()}
    wide = pieces.dtype == np.float64
    place = trace_key(("guess", p0, pieces.x), (lane, shared))
    try:
        layout = TRACES.get(place, lambda: _guessed_layout(p0, pieces.x, lane, shared, wide))
    except JAX_ERRORS as error:
        raise untraceable(error, "p0, as a function,") from error
    if given is not None:
        if set(layout.keys) != set(given.layout.keys):
            raise TypeError(
                f"p0 and the model are of the parameters {given.layout.names}, and the model's "
                f"guess is of {layout.names}."
            )
        return replace(given, guess=_Guess(p0, given.layout, pieces.x, policy))
    return Start(layout, None, _Guess(p0, layout, pieces.x, policy))


def _guessed_layout(p0, x, lane, shared, wide):
    """What a guess returns, by the shapes of a data set."""
    keys = []

    def guessed(lane, shared):
        params = as_params(p0(x(lane, shared), lane["y"]))
        keys.extend(params if isinstance(params, dict) else ())
        return params

    shapes = shapes_of(guessed, lane, shared, wide=wide)
    if keys:
        return Layout.as_given({key: np.zeros(shapes[key].shape) for key in keys})
    return Layout.as_given(np.zeros(shapes.shape))


def as_params(params: PyTree) -> PyTree:
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


def check_nan(parts: Iterable[tuple[Any, ...]]) -> None:
    """Raise ValueError for a NaN in xdata, xsigma, ydata or sigma, where it is not masked."""
    for _, (leaves, _), ydata, sigma, _ in parts:
        arrays = [("xdata", leaf.array) for leaf in leaves] + [("ydata", ydata)]
        arrays += [("xsigma", leaf.sigma) for leaf in leaves if leaf.sigma is not None]
        if sigma is not None:
            arrays.append(("sigma", as_array_like(sigma, "sigma")))
        for name, array in arrays:
            if any(_holds_nan(array[rows]) for rows in _blocks(array)):
                raise ValueError(
                    f"{name} contains NaN. Pass nan_policy='omit' to leave such points out, or "
                    "'propagate' to end only their fits."
                )


def _holds_nan(block):
    values = np.ma.compressed(block) if isinstance(block, np.ma.MaskedArray) else np.asarray(block)
    return values.dtype.kind not in "iub" and bool(np.isnan(values).any())


def check_counts(parts: Iterable[tuple[Any, ...]]) -> None:
    """Raise ValueError for ydata that are not counts, where they are not masked."""
    for _, _, ydata, _, mask in parts:
        live = True if mask is None else np.broadcast_to(np.asarray(mask), ydata.shape)
        for rows in _blocks(ydata):
            block = ydata[rows]
            present = ~np.ma.getmaskarray(block) if isinstance(block, np.ma.MaskedArray) else True
            block = np.asarray(block)
            bad = not_counts(block) & ~np.isnan(block) & present
            bad &= live if live is True else live[rows]
            if bad.any():
                raise ValueError(
                    "loss='poisson' needs counts, whole numbers from zero on; ydata has "
                    f"{block[bad].ravel()[0]!r}. Mask such points, or use sigma and least squares "
                    "for data that were scaled or had a background subtracted."
                )


def _blocks(array):
    """Slices of the first axis, of some tens of kilobytes."""
    if len(array.shape) <= 1:
        return [slice(None)] if array.shape else [...]
    step = max(1, 8192 * array.shape[0] // max(math.prod(array.shape), 1))
    return [slice(first, first + step) for first in range(0, array.shape[0], step)]
