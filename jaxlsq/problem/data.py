"""Data of `fit`: the arrays of data sets of one shape, and the task of their fits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from jaxlsq.numerics.loss import POISSON, Loss
from jaxlsq.problem.containers import as_array_like, is_masked
from jaxlsq.problem.covariance import is_covariance, whitening
from jaxlsq.problem.functions import Counts, ModelJacobian, ModelResidual, Predict, scale_of
from jaxlsq.problem.inputs import broadcast_source, float_dtype, split_data, whole
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.points import Filled, Known, Unmasked
from jaxlsq.problem.policy import Policy
from jaxlsq.problem.readings import EACH, Leaf
from jaxlsq.problem.shifted import with_x_errors
from jaxlsq.problem.sources import Source
from jaxlsq.problem.task import Task
from jaxlsq.problem.types import Batch, Parts, PyTree, PyTreeDef
from jaxlsq.problem.xsigma import sigma_parts, sigmas_by_kind

__all__ = ["Pieces"]


@dataclass(frozen=True)
class Pieces:
    """The arrays of problems of one shape."""

    lanes: dict[str, Source]
    shared: Parts
    x: Callable[..., PyTree]
    batch: Batch
    dtype: np.dtype[Any]

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
