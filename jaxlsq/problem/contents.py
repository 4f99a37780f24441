"""Values in the data that would end fits, looked for before anything is compiled."""

import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from jaxlsq.problem.containers import as_array_like, no_mask
from jaxlsq.problem.losses import not_counts

__all__ = ["check_counts", "check_flags", "check_nan"]


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
        live = True if mask is None else np.broadcast_to(np.asarray(mask, bool), ydata.shape)
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


def check_flags(value: Any) -> Any:
    """A mask of points, without one of its own and with nothing that is neither true nor false.

    Raises
    ------
    ValueError
    """
    value = None if value is None else as_array_like(no_mask(value, "mask"), "mask")
    if value is None or value.dtype == bool:
        return value
    for rows in _blocks(value):
        block = np.asarray(value[rows])
        others = block[(block != 0) & (block != 1)]
        if others.size:
            raise ValueError(
                f"mask must be true for points that count and false for others, got {others[0]}. "
                "Weights go into sigma, as 1 / sqrt(weight)."
            )
    return np.asarray(value, bool) if isinstance(value, (np.ndarray, jax.Array)) else value


def _blocks(array):
    """Slices of the first axis, of some tens of kilobytes."""
    if len(array.shape) <= 1:
        return [slice(None)] if array.shape else [...]
    step = max(1, 8192 * array.shape[0] // max(math.prod(array.shape), 1))
    return [slice(first, first + step) for first in range(0, array.shape[0], step)]
