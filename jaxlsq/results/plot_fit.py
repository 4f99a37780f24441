"""One fit, drawn: along a line, or as an image where points have two coordinates."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import numpy as np
from numpy.typing import NDArray

from jaxlsq.results.plot_style import (
    DATA,
    FIT,
    LEFT_OUT,
    PARTS,
    color_bar,
    is_log_spaced,
    range_of,
    say,
    without_box,
)

__all__ = ["Drawing"]

POINTS = 400
CONTOURS = 6
# Least values along each side of an image, and the most places of it without a point, per point.
LEAST_SIDE, EMPTY = 3, 0.5


# The coordinates along each side, and each point's row and column.
Image: TypeAlias = tuple[NDArray[Any], NDArray[Any], tuple[NDArray[Any], NDArray[Any]]]


@dataclass(frozen=True)
class Drawing:
    """What is drawn of one fit.

    Attributes
    ----------
    one : FitResult
        Of a single fit.
    y, live : (m,) arrays
        The data, and which of them count.
    error, across : (m,) array or None
        Standard deviations of y and of x.
    fit : (m,) array
        The model there; NaN if its parameters are not finite.
    line : (m,) array or None
        Where the points are, if they lie along a line.
    image : (u, v, places) or None
        The coordinates along each side of an image, if they form one, and each point's place.
    """

    one: Any
    y: NDArray[Any]
    live: NDArray[Any]
    error: NDArray[Any] | None
    across: NDArray[Any] | None
    fit: NDArray[Any]
    line: NDArray[Any] | None
    image: Image | None

    @classmethod
    def of(cls, one: Any) -> "Drawing":
        """That of a fit, which has its data."""
        x, y, (across, error), live = one._with_data("plot").data_of_one()
        known = bool(np.all(np.isfinite(one.x)))
        fit = np.asarray(one.predict())[: y.size] if known else np.full(y.shape, np.nan)
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
        line = leaves[0] if len(leaves) == 1 and leaves[0].ndim == 1 else None
        if line is not None and not np.all(np.isfinite(line)):
            line = None
        if line is None:
            return cls(one, y, live, error, None, fit, None, _grid(leaves))
        return cls(one, y, live, error, across, fit, line, None)

    @property
    def cut(self) -> bool:
        """Whether outliers may be outside of what is shown: the loss made less of them."""
        return bool(self.one.problem.is_robust)

    @property
    def captions(self) -> tuple[str, str]:
        """Of x and y."""
        said = self.one.problem.captions
        x = said.x[0] if said.x and self.line is not None else ""
        return x or ("x" if self.line is not None else "point"), said.y or "data and fit"

    def is_log(self, log: str | None) -> tuple[bool, bool]:
        """Whether the axes of x and y are to be of logarithms."""
        if self.image is not None:
            return False, False
        if log is not None:
            return "x" in log, "y" in log
        return self.line is not None and is_log_spaced(self.line[self.live]), False

    def draw(self, ax: Any, log: str | None = None) -> None:
        """Data and fit; the parts of a sum have labels for a legend."""
        if self.image is not None:
            return self._draw_image(ax, self.y, fit=True)
        if not np.any(np.isfinite(self.y)):
            return say(ax, "no finite point")
        of_x, of_y = self.is_log(log)
        parts = self._draw_curve(ax)
        y, fit = self.y[self.live], self.fit[self.live]
        limits = range_of(y, fit, self._bars, self.cut, parts)
        if of_x:
            ax.set_xscale("log")
        if of_y:
            ax.set_yscale("log")
        elif limits:
            ax.set_ylim(limits)
        self._draw_points(ax, self.y, None if of_y else limits)

    def draw_residuals(self, ax: Any, log: str | None = None) -> None:
        """Fit - data, with the sign that `FitResult.residuals` has."""
        residuals = self.fit - self.y
        if self.image is not None:
            return self._draw_image(ax, residuals, fit=False)
        if self.is_log(log)[0]:
            ax.set_xscale("log")
        ax.axhline(0.0, color=FIT, linewidth=1)
        some = residuals[self.live]
        limits = range_of(some, np.zeros_like(some), self._bars, self.cut)
        if limits:
            reach = max(map(abs, limits))
            limits = -reach, reach
            ax.set_ylim(limits)
        self._draw_points(ax, residuals, limits)

    @property
    def _places(self) -> NDArray[Any]:
        return self.line if self.line is not None else np.arange(self.y.size)

    @property
    def _bars(self) -> NDArray[Any] | None:
        return None if self.error is None else self.error[self.live]

    def _draw_curve(self, ax: Any) -> list[NDArray[Any]]:
        """The model, its band and its parts, whose values are returned."""
        one, at, places, curve = self.one, None, self._places, self.fit
        if not np.any(np.isfinite(curve)):
            return []
        if self.line is not None:
            at = places = _smooth(self.line)
            curve = np.asarray(one.predict(at))
        band = np.asarray(one.band(at))[: places.size]
        if np.any(np.isfinite(band)):
            ax.fill_between(places, curve - band, curve + band, color=FIT, alpha=0.25, linewidth=0)
        # Above the points, which would hide it where there are many.
        ax.plot(places, curve, color=FIT, linewidth=1.5, zorder=3.5)
        parts: dict[str, NDArray[Any]] = one.components(places) if self.line is not None else {}
        if len(parts) < 2:
            return []
        drawn = [np.broadcast_to(values, places.shape) for values in parts.values()]
        for number, (name, values) in enumerate(zip(parts, drawn, strict=True)):
            color, style = PARTS[number % len(PARTS)]
            ax.plot(places, values, color=color, linewidth=1.2, linestyle=style, label=name)
        return drawn

    def _draw_points(self, ax: Any, y: NDArray[Any], limits: tuple[float, float] | None) -> None:
        """Data with their bars; crosses for what does not count, arrows to what is outside."""
        x, live = self._places, self.live
        size = 4 if y.size < 100 else 2
        outside = np.zeros(y.shape, bool)
        if limits:
            for mark, which, end in zip("v^", (y < limits[0], y > limits[1]), limits, strict=True):
                some = live & which
                outside |= some
                if some.any():
                    style = {"color": DATA, "markersize": size + 3, "clip_on": False, "zorder": 4}
                    ax.plot(x[some], np.full(some.sum(), end), mark, **style)
        inside = live & ~outside
        errors = (self.error, self.across)
        bars, across = (None if one is None else one[inside] for one in errors)
        style = {"color": DATA, "markersize": size, "elinewidth": 0.7, "zorder": 3}
        ax.errorbar(x[inside], y[inside], bars, across, fmt="o", **style)
        ax.plot(x[~live], y[~live], "x", color=LEFT_OUT, markersize=size + 1)
        without_box(ax)

    def _draw_image(self, ax: Any, values: NDArray[Any], fit: bool) -> None:
        """An image of the data with contours of the fit, or of the residuals."""
        assert self.image is not None
        u, v, places = self.image
        shown = np.full((v.size, u.size), np.nan)
        shown[places] = np.where(self.live, values, np.nan)
        style: dict[str, Any] = {"cmap": "viridis"}
        if not fit:
            far = float(np.nanmax(np.abs(shown), initial=0.0)) or 1.0
            style = {"cmap": "RdBu_r", "vmin": -far, "vmax": far}
        mesh = ax.pcolormesh(u, v, shown, shading="nearest", rasterized=True, **style)
        ax.set_facecolor(LEFT_OUT)
        curve = np.full(shown.shape, np.nan)
        curve[places] = self.fit
        if fit and np.nanmax(self.fit, initial=-np.inf) > np.nanmin(self.fit, initial=np.inf):
            ax.contour(u, v, curve, CONTOURS, colors=FIT, linewidths=0.9)
        if 0.2 < np.ptp(u) / np.ptp(v) < 5.0:
            ax.set_aspect("equal")
        said = self.one.problem.captions.x
        if len(said) == 2:
            ax.set_xlabel(said[0])
            ax.set_ylabel(said[1])
        color_bar(ax, mesh, self.captions[1] if fit else "fit - data")


def _smooth(x: NDArray[Any]) -> NDArray[Any]:
    """Places along a line for a curve."""
    low, high = float(x.min()), float(x.max())
    places = np.linspace(low, high, POINTS)
    if 0.0 < 10.0 * low < high:  # may be drawn on an axis of logarithms, where those are too few
        places = np.union1d(places, np.geomspace(low, high, POINTS))
    return places.astype(np.result_type(x, np.float32))


def _grid(leaves: list[Any]) -> Image | None:
    """The sides of an image and the points' places in it, if two coordinates form one."""
    both = leaves[0] if len(leaves) == 1 else leaves
    if len(both) != 2 or any(np.ndim(c) != 1 or not np.all(np.isfinite(c)) for c in both):
        return None
    (u, columns), (v, rows) = (np.unique(c, return_inverse=True) for c in both)
    size = u.size * v.size
    points = np.unique(rows * u.size + columns).size
    if min(u.size, v.size) < LEAST_SIDE or points < rows.size or size > (1 + EMPTY) * points:
        return None
    return u, v, (rows, columns)
