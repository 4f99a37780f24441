"""What `fit` and `least_squares_batch` are given, as parts of one number of points each."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlsq.numerics.types import AnyArray
from jaxlsq.problem.containers import as_array_like, is_masked
from jaxlsq.problem.contents import check_flags, check_nan
from jaxlsq.problem.covariance import GOES_WITH_NO_MASK, is_covariance
from jaxlsq.problem.data import Pieces
from jaxlsq.problem.functions import Predict
from jaxlsq.problem.guesses import as_params, guessed_start
from jaxlsq.problem.inputs import float_dtype
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.policy import Policy
from jaxlsq.problem.ragged import is_ragged, ragged_parts
from jaxlsq.problem.readings import Outcome, read_x
from jaxlsq.problem.sources import Source
from jaxlsq.problem.starts import Start, as_start
from jaxlsq.problem.types import Batch, PyTree
from jaxlsq.problem.xsigma import with_sigmas
from jaxlsq.tracing.shapes import floats, shapes_of

__all__ = ["parts_of", "start_again", "takes", "trial_values", "ydata_of"]


def ydata_of(ydata: Any) -> tuple[Any, Batch]:
    """The data, as a list where their lengths differ, and the shape of the batch."""
    if is_ragged(ydata):
        return list(ydata), (len(ydata),)
    ydata = as_array_like(ydata, "ydata")
    if len(ydata.shape) == 0 or ydata.shape[-1] == 0:
        raise ValueError(
            f"ydata must have shape (..., m) with m of at least 1, got {tuple(ydata.shape)}."
        )
    return ydata, tuple(ydata.shape[:-1])


def parts_of(
    xdata: tuple[PyTree, Any],
    ydata: tuple[Any, bool],
    points: tuple[Any, Any],
    nan_policy: str,
    trial: Callable[..., Any],
) -> tuple[list[tuple[Any, ...]], Policy]:
    """Data sets of one number of points each, and which points count.

    Parameters
    ----------
    xdata : (xdata, xsigma)
        Pytrees, or lists; xsigma is None where x is exact.
    ydata : (data, lists)
        As `ydata_of` gives them, and whether they came as a list.
    points : (sigma, mask)
    nan_policy : str
    trial : callable
        ``trial(x, y)``, the model at a start.

    Returns
    -------
    parts : list of (index, (leaves, structure), ydata, sigma, mask)
        As `Pieces.of` takes them; `index` are the places in the batch, flat.
    policy : Policy
    """
    (x, xsigma), (data, lists), (sigma, mask) = xdata, ydata, points
    if isinstance(data, list):
        parts = ragged_parts(x, data, sigma, mask, xsigma)
        masked = True
    else:
        batch, m = tuple(data.shape[:-1]), data.shape[-1]
        mask = check_flags(mask)
        leaves, structure = read_x(x, lists, batch, Outcome(trial, m, _may_be_wide(x, data, sigma)))
        leaves = with_sigmas(leaves, structure, xsigma, batch, m)
        sigma = _weights(sigma, data.shape)
        arrays = [data, sigma, *(one for leaf in leaves for one in (leaf.array, leaf.sigma))]
        masked = mask is not None or any(map(is_masked, arrays))
        if xsigma is not None and is_covariance(sigma, data.shape):
            raise ValueError(
                "a covariance matrix as sigma does not go with xsigma: errors of points that "
                "depend on each other can't be shared out point by point. Pass standard "
                "deviations, or leave xsigma."
            )
        if is_covariance(sigma, data.shape) and (masked or nan_policy == "omit"):
            raise ValueError(GOES_WITH_NO_MASK)
        index = np.arange(math.prod(batch))
        parts = [(index, (leaves, structure), data, sigma, mask)]
    if nan_policy == "raise":
        check_nan(parts)
    return parts, Policy(nan_policy == "omit", masked)


def _weights(sigma, shape):
    """Standard deviations as an array-like; covariances, and None, as they are."""
    if sigma is None or is_covariance(sigma, shape):
        return sigma
    return as_array_like(sigma, "sigma")


def _may_be_wide(xdata, ydata, sigma):
    """Whether it is computed in float64, if not every array turns out to be shared."""
    leaves = [getattr(leaf, "array", leaf) for leaf in jax.tree.leaves(xdata)]
    arrays = [as_array_like(leaf, "xdata") for leaf in leaves]
    arrays += [] if sigma is None else [as_array_like(sigma, "sigma")]
    return float_dtype([ydata, *arrays]) == np.float64


def trial_values(
    model: Callable[..., Any],
    expand: Callable[..., Any] | None,
    start: Start | Callable[..., Any],
    x: PyTree,
    y: AnyArray,
) -> jax.Array:
    """The model at starting parameters, of one data set: what `Outcome` asks for its shape."""
    if isinstance(start, Start):
        params = start.layout.from_vector(np.ones(start.layout.n, y.dtype))
    else:
        params = as_params(start(x, y))
    params = params if expand is None else expand(params)
    return Predict(model, isinstance(params, dict))(params, x)


def start_again(layout: Layout, pieces: Pieces, policy: Policy, p0: Any, batch: Batch) -> Start:
    """`Start` of a later fit, with its parameters in the order of the first."""
    if callable(p0):
        start = guessed_start(p0, pieces, policy)
    else:
        start = as_start(p0, batch)
    if start.layout != layout and set(start.layout.keys) == set(layout.keys) != set():
        return start.in_order_of(layout)
    return start


def takes(
    fun: Callable[..., Any],
    join: Callable[..., Any],
    lanes: dict[str, Source],
    dtype: np.dtype[Any],
    layout: Layout,
) -> bool:
    """Whether a general function takes parameters of a layout, by shapes alone."""
    wide = dtype == np.float64
    data = {key: floats(source.tail, wide) for key, source in lanes.items()}

    def residual(x, data):
        return fun(layout.from_vector(x), join(data, {}))

    try:
        f = shapes_of(residual, floats((layout.n,), wide), data, wide=wide)
    except Exception:  # the user's code on shapes that it may not be meant for
        return False
    return getattr(f, "ndim", None) == 1
