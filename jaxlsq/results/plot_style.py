"""How plots look: colours that the colour-blind can tell apart, ranges, and small things."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.status import Status

__all__ = [
    "DATA",
    "FAILED",
    "FIT",
    "LEFT_OUT",
    "PARTS",
    "STATUSES",
    "central",
    "color_bar",
    "is_log_spaced",
    "legend_of_all",
    "pyplot",
    "range_of",
    "say",
    "without_box",
]

# Okabe and Ito's colours, https://jfly.uni-koeln.de/color.
BLUE, SKY, GREEN, ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
YELLOW, VERMILLION, PURPLE = "#F0E442", "#D55E00", "#CC79A7"
DATA, FIT, FAILED, LEFT_OUT = "0.3", VERMILLION, VERMILLION, "0.8"
# Colours and lines of the parts of a sum.
PARTS = (
    (BLUE, "--"),
    (GREEN, ":"),
    (PURPLE, "-."),
    (ORANGE, (0, (5, 1, 1, 1, 1, 1))),
    (SKY, "--"),
    ("0.3", ":"),
)
# Fits that converged are blue and green, others are not.
STATUSES = {
    Status.FTOL: BLUE,
    Status.XTOL: SKY,
    Status.FTOL_AND_XTOL: GREEN,
    Status.GTOL: "#44AA99",
    Status.MAX_NFEV: ORANGE,
    Status.SINGULAR_JACOBIAN: YELLOW,
    Status.NONFINITE_DATA: VERMILLION,
    Status.NONFINITE_JACOBIAN: PURPLE,
    Status.NONFINITE_START: "#882255",
    Status.NONFINITE_STEPS: "#AA4499",
    Status.NONFINITE_COST: "#332288",
    Status.TOO_FEW_POINTS: "#661100",
    Status.INFEASIBLE_BOUNDS: "0.0",
    Status.IMPROPER_INPUT: "0.2",
    Status.INTERRUPTED: "1.0",
    Status.FTOL_TOO_SMALL: "#999933",
    Status.XTOL_TOO_SMALL: "#DDCC77",
    Status.GTOL_TOO_SMALL: "#6699CC",
    Status.MASKED_OUT: LEFT_OUT,
    Status.RUNNING: "1.0",
}
# Standard deviations, or widths of what is fitted, beyond which an outlier is cut off.
FAR = 8.0
# A normal distribution's standard deviation over its median absolute deviation.
MAD = 1.4826
# An axis is one of logarithms where the ends differ by this factor, and this part of the points is
# in the lowest tenth of the range.
DECADES, CROWDED = 30.0, 0.3
# Values from which on a hundredth of them are outliers.
MANY = 200


def pyplot() -> Any:
    """matplotlib's."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("Plots need matplotlib: pip install 'jaxlsq[plot]'.") from error
    return pyplot


def without_box(ax: Any) -> None:
    """Two sides of the frame alone."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def color_bar(ax: Any, image: Any, label: str, extend: str = "neither") -> None:
    """A bar of colours as high as the image is."""
    beside = ax.inset_axes((1.03, 0.0, 0.045, 1.0))
    ax.figure.colorbar(image, cax=beside, label=label, extend=extend)


def legend_of_all(first: Any, ours: bool) -> None:
    """Of the parts of a sum, which are the same in all plots: below our own, or in the first."""
    handles, words = first.get_legend_handles_labels()
    if handles and ours:
        columns = min(len(handles), 4)
        first.figure.legend(
            handles, words, loc="outside lower center", ncols=columns, frameon=False
        )
    elif handles:
        first.legend(fontsize="small", frameon=False)


def say(ax: Any, words: str) -> None:
    """Words where there is nothing to draw."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, words, ha="center", va="center", transform=ax.transAxes)


def is_log_spaced(x: NDArray[Any]) -> bool:
    """Whether places are spaced so that an axis of logarithms shows them better."""
    low, high = (float(np.min(x)), float(np.max(x))) if x.size > 2 else (0.0, 0.0)
    if not (low > 0 and high >= DECADES * low):
        return False
    return bool(np.mean(x <= low + 0.1 * (high - low)) >= CROWDED)


def central(values: NDArray[Any]) -> tuple[float, float]:
    """Limits that leave outliers out, if there are many values, and are not equal."""
    ends = [0.005, 0.995] if values.size >= MANY else [0.0, 1.0]
    low, high = np.quantile(values, ends)
    margin = 0.05 * (high - low) or 0.5 * abs(low) or 0.5
    return float(low - margin), float(high + margin)


def range_of(
    y: NDArray[Any],
    fit: NDArray[Any],
    error: NDArray[Any] | None,
    cut: bool,
    parts: Sequence[NDArray[Any]] = (),
) -> tuple[float, float] | None:
    """Limits that show data and fit, and not every end of a wide error bar; None without data.

    Parameters
    ----------
    y, fit : (k,) arrays
        Data that count, and the fit there, which may have NaN.
    error : (k,) array or None
        Standard deviations of the data.
    cut : bool
        Whether data that are far from the fit, beside the others, may be outside.
    parts : sequence of arrays
        Curves beside the fit's, which may be outside too.
    """
    good = np.isfinite(y)
    if not good.any():
        return None
    known = np.concatenate([y[good], fit[np.isfinite(fit)]])
    low, high = float(known.min()), float(known.max())
    both = good & np.isfinite(fit)
    if cut and both.any():
        spread = FAR * MAD * float(np.median(np.abs(y[both] - fit[both])))
        reach = max(spread, float(np.ptp(fit[both])))
        if reach > 0:
            low = max(low, float(fit[both].min()) - reach)
            high = min(high, float(fit[both].max()) + reach)
    span = (high - low) or abs(low) or 1.0
    more = list(parts)
    if error is not None:
        short = good & (error <= 0.5 * span)
        more += [(y - error)[short], (y + error)[short]]
    if more:
        least, most = low - 0.5 * span, high + 0.5 * span
        values = np.concatenate(more)
        values = np.clip(values[~np.isnan(values)], least, most)
        low, high = np.min(values, initial=low), np.max(values, initial=high)
    margin = 0.05 * ((high - low) or span)
    return float(low - margin), float(high + margin)
