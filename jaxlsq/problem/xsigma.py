"""Standard deviations of x: read beside the arrays of x, and as parts of the data."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxlsq.numerics.loss import Loss
from jaxlsq.problem.containers import as_array_like, is_masked
from jaxlsq.problem.inputs import check_broadcast, in_memory
from jaxlsq.problem.points import Unmasked
from jaxlsq.problem.readings import Leaf
from jaxlsq.problem.shifted import EFFECTIVE, ORTHOGONAL, X_ERRORS
from jaxlsq.problem.sources import Source, converted
from jaxlsq.problem.types import Batch, Parts, PyTreeDef

__all__ = ["check_x_errors", "sigma_parts", "sigmas_by_kind", "with_sigmas"]


def check_x_errors(
    xsigma: Any, x_errors: Any, loss: Loss | None, jac: Any, linear: Any = None
) -> None:
    """Raise ValueError where what is said of errors in x does not go together."""
    if not isinstance(x_errors, str) or x_errors not in X_ERRORS:
        raise ValueError(f"x_errors must be one of {X_ERRORS}, got {x_errors!r}.")
    if xsigma is None:
        if x_errors != ORTHOGONAL:
            raise ValueError(f"x_errors={x_errors!r} is of the errors in x; pass xsigma too.")
        return
    if loss is not None:
        raise ValueError(
            "xsigma goes with squares alone, loss='linear': a distance from the curve has no "
            "likelihood of counts, and no part of x in a robust loss. Leave loss or xsigma."
        )
    if linear is not None:
        raise ValueError(
            "xsigma does not go with linear: a distance from the curve is not linear in any "
            "parameter. Leave linear; the fit is then of all parameters."
        )
    if x_errors == EFFECTIVE and callable(jac):
        raise ValueError(
            "x_errors='effective_variance' needs derivatives by x of the model's derivatives, "
            "which jac does not give; leave jac."
        )


def with_sigmas(
    leaves: Sequence[Leaf], structure: PyTreeDef, xsigma: Any, batch: Batch, m: int
) -> list[Leaf]:
    """Leaves of x with the standard deviations of their elements.

    Parameters
    ----------
    leaves : sequence of Leaf
    structure : PyTreeDef
        Of x.
    xsigma : array-like, or pytree of those in the structure of x
        None for what is exact, or all.
    batch : tuple of int
    m : int
        Points of one data set.

    Raises
    ------
    ValueError
        For another structure, a shape that does not broadcast, or an array of x that has no
        points.
    """
    if xsigma is None:
        return list(leaves)
    try:
        sigmas = structure.flatten_up_to(xsigma)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"xsigma must have the structure of xdata, {len(leaves)} arrays, with None for those "
            "that are exact; got another one."
        ) from error
    return [
        leaf if sigma is None else replace(leaf, sigma=_read(leaf, sigma, batch, m))
        for leaf, sigma in zip(leaves, sigmas, strict=True)
    ]


def _read(leaf, sigma, batch, m):
    """Standard deviations of a leaf as an array-like that broadcasts to it."""
    sigma, tail = as_array_like(sigma, "xsigma"), leaf.tail(batch)
    if not tail or tail[-1] != m:
        raise ValueError(
            f"xsigma is of the {m} points of each data set, and xdata has an array of shape "
            f"{tuple(leaf.array.shape)} whose last axis is not theirs: it must be exact. Pass a "
            "tuple or a dict for xdata and xsigma, with None for it."
        )
    shape = (*batch, *tail)
    check_broadcast(sigma.shape, shape, "xsigma", "xdata with the batch's in front", "axes")
    return sigma


def sigmas_by_kind(leaves: Sequence[Leaf], batch: Batch) -> tuple[list[Any], list[Any]]:
    """Standard deviations of each data set's own x, and those of all."""
    each, shared = [], []
    for _, leaf, tail in _uncertain(leaves, batch):
        (shared if _is_of_all(leaf.sigma, tail) else each).append(leaf.sigma)
    return each, shared


def sigma_parts(
    leaves: Sequence[Leaf], batch: Batch, dtype: np.dtype[Any], omit: bool
) -> tuple[dict[str, Source], Parts]:
    """Entries of the data, each in the shape of its array of x: sources, and what all share.

    ``xsigma.k`` are standard deviations, and ``mask.xsigma.k`` says where those are not masked.

    Parameters
    ----------
    leaves : sequence of Leaf
    batch : tuple of int
    dtype : dtype
        Of the computation.
    omit : bool
        Whether NaN leaves a point out.

    Raises
    ------
    ValueError
        For what is no standard deviation among those of all.
    """
    parts: dict[str, Any] = {}
    for number, leaf, tail in _uncertain(leaves, batch):
        live: Any = True
        if is_masked(leaf.sigma):
            live = _part(Unmasked(leaf.sigma), tail, batch, np.dtype(bool))
            parts[f"mask.xsigma.{number}"] = live
        part = parts[f"xsigma.{number}"] = _part(leaf.sigma, tail, batch, dtype)
        if not isinstance(part, Source):
            _check(part, live, omit)
    lanes = {name: part for name, part in parts.items() if isinstance(part, Source)}
    return lanes, {name: part for name, part in parts.items() if name not in lanes}


def _uncertain(leaves: Sequence[Leaf], batch: Batch) -> Iterator[tuple[int, Leaf, tuple[int, ...]]]:
    for number, leaf in enumerate(leaves):
        if leaf.sigma is not None:
            yield number, leaf, leaf.tail(batch)


def _is_of_all(sigma, tail):
    front = tuple(sigma.shape)[: max(len(sigma.shape) - len(tail), 0)]
    return all(size == 1 for size in front)


def _part(sigma, tail, batch, dtype):
    """An array that broadcasts to a leaf of x: shared, or a `Source`."""
    if _is_of_all(sigma, tail):
        one = converted(in_memory(sigma), dtype)
        return np.broadcast_to(one.reshape(one.shape[max(one.ndim - len(tail), 0) :]), tail)
    if tuple(sigma.shape) != (*batch, *tail):  # spelled out, without copying
        sigma = np.broadcast_to(converted(in_memory(sigma), dtype), (*batch, *tail))
    return Source(sigma, batch, dtype)


def _check(values, live, omit):
    """Raise ValueError for what is no standard deviation, where it counts."""
    good = (values >= 0) & np.isfinite(values) | np.logical_not(live)
    good = good | np.isnan(values) if omit else good
    if not np.all(good):
        raise ValueError(
            "xsigma must be positive, or zero where x is exact, and finite: it holds a negative "
            "number, NaN or an infinity."
        )
