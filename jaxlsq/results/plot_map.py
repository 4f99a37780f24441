"""A batch with two axes as an image."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.captions import caption
from jaxlsq.problem.labels import Labels
from jaxlsq.results.plot_style import FAILED, LEFT_OUT, STATUSES, central, color_bar
from jaxlsq.status import Status

__all__ = ["draw_map", "draw_statuses"]

# Steps along an axis may differ by so much of them and still be even.
EVEN = 1e-3

# Left, right, bottom and top of an image.
Extent: TypeAlias = tuple[float, float, float, float]


def draw_map(result: Any, values: NDArray[Any], label: str, ax: Any, log: bool) -> None:
    """Values of the fits that converged; others have colours of their own, and a legend.

    Parameters
    ----------
    result : FitResult
    values : (rows, columns) array
    label : str
        Of the bar of colours.
    ax : Axes
    log : bool
        Whether colours are for the logarithms of the values.
    """
    there = result.success & np.isfinite(values) & ((values > 0) | (not log))
    some = np.asarray(values[there], float)
    extent = _axes(result, ax)
    if some.size:
        low, high = central(np.log(some) if log else some)
        low, high = (np.exp(low), np.exp(high)) if log else (low, high)
        style = {"norm": _log_norm(low, high)} if log else {"vmin": low, "vmax": high}
        shown = np.where(there, values, np.nan)
        image = ax.imshow(shown, interpolation="nearest", extent=extent, aspect="auto", **style)
        beyond = some.min() < low, some.max() > high
        ends = ("neither", "max", "min", "both")[2 * beyond[0] + beyond[1]]
        color_bar(ax, image, label, ends)
    without = result.success & ~there
    kinds = [
        (result.failed, FAILED, "failed"),
        (result.masked_out, LEFT_OUT, "masked out"),
        (without, "1.0", "no finite value" if not log else "not above zero"),
    ]
    _draw_kinds(ax, kinds, extent)
    _set_aspect(ax, extent)


def draw_statuses(result: Any, ax: Any) -> None:
    """Why each fit ended, each status with its colour."""
    kinds = [
        (result.status == code, STATUSES[code], code.name) for code in map(Status, result.counts())
    ]
    extent = _axes(result, ax)
    _draw_kinds(ax, kinds, extent)
    _set_aspect(ax, extent)


def _log_norm(low: float, high: float) -> Any:
    from matplotlib.colors import LogNorm

    return LogNorm(low, high)


def _draw_kinds(
    ax: Any,
    kinds: Sequence[tuple[NDArray[Any], str, str]],
    extent: Extent,
):
    """Pixels of one colour for each kind that there is, and a legend below."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    kinds = [kind for kind in kinds if kind[0].any()]
    if not kinds:
        return
    pixels = np.zeros((*kinds[0][0].shape, 4))
    for which, color, _ in kinds:
        pixels[which] = to_rgba(color)
    ax.imshow(pixels, interpolation="nearest", extent=extent, aspect="auto")
    handles = [
        Patch(facecolor=color, edgecolor="0.5", label=f"{name} ({np.count_nonzero(which):,})")
        for which, color, name in kinds
    ]
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2}
    ax.legend(handles=handles, fontsize="small", frameon=False, **below)


def _axes(result: Any, ax: Any) -> Extent:
    """Labels and ticks of both axes; returns the image's extent, the first row on top."""
    labels = (result.labels or Labels.numbered(result.shape)).grid()
    ends: list[tuple[float, float]] = []
    for axis, name, size in zip((ax.yaxis, ax.xaxis), labels.dims, result.shape, strict=True):
        coord = labels.coords.get(name)
        low, high = -0.5, size - 0.5
        own = coord.values if coord is not None and coord.dims == (name,) else None
        step = 0.0 if own is None else _step(own)
        if own is not None and step:
            low, high = float(own[0]) - 0.5 * step, float(own[0]) + (size - 0.5) * step
        else:
            axis.get_major_locator().set_params(integer=True)
        if own is not None and not step:
            axis.set_major_formatter(_values_at(own))
        if result.labels is not None:
            axis.set_label_text(caption(coord, name))
        ends.append((low, high))
    (top, bottom), (left, right) = ends
    return left, right, bottom, top


def _step(values: NDArray[Any]) -> float:
    """The step of a coordinate whose steps are even; 0 of any other."""
    if values.dtype.kind not in "fiu" or values.size < 2:
        return 0.0
    steps = np.diff(values.astype(float))
    even = np.all(np.abs(steps - steps[0]) <= EVEN * abs(steps[0]))
    return float(steps.mean()) if even else 0.0


def _values_at(values: NDArray[Any]) -> Callable[..., str]:
    """What an axis shows at the places of a coordinate's values."""

    def shown(place: float, _: Any = None) -> str:
        k = round(place)
        return str(values[k]) if 0 <= k < len(values) and k == place else ""

    return shown


def _set_aspect(ax: Any, extent: Extent) -> None:
    """Square pixels' units, but for images that would be a stripe."""
    left, right, bottom, top = extent
    ax.set_aspect("equal" if 0.2 < abs((right - left) / (top - bottom)) < 5.0 else "auto")
