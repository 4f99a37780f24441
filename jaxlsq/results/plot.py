"""Plots of fits; matplotlib is imported only here, and only when one is drawn."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.labels import Labels
from jaxlsq.problem.types import Batch
from jaxlsq.results.evaluator import Evaluator
from jaxlsq.results.plot_fit import Drawing
from jaxlsq.results.plot_map import draw_map, draw_statuses
from jaxlsq.results.plot_style import FIT, central, legend_of_all, pyplot, say, without_box
from jaxlsq.status import Status

__all__ = ["Plots"]

# Bins of a histogram, at least and at most.
BINS = 10, 40
# More fits than this are counted in hexagons.
MOST_DOTS = 2000


class Plots:
    """The plots of a `FitResult`; each takes axes and returns them."""

    x: NDArray[Any]
    status: NDArray[Any]
    fixed: NDArray[Any]
    problem: Evaluator | None
    names: tuple[str, ...]
    labels: Labels | None

    if TYPE_CHECKING:  # what the rest of a `FitResult` has

        @property
        def shape(self) -> Batch: ...
        @property
        def success(self) -> NDArray[Any]: ...
        @property
        def failed(self) -> NDArray[Any]: ...
        @property
        def redchi(self) -> NDArray[Any]: ...
        @cached_property
        def cov(self) -> NDArray[Any]: ...
        def __getitem__(self, index: Any) -> Any: ...
        def _one(self, index: Any, what: str) -> Any: ...

    def plot(
        self, index: int | tuple[Any, ...] = (), axes: Any = None, log: str | None = None
    ) -> tuple[Any, Any]:
        """Data, fit, band of one standard error, and fit - data below.

        Bars are `sigma` and `xsigma`, where they were given; with errors in x `residuals` are
        distances from the curve, and not drawn.
        Points that have two coordinates which form a grid are drawn as an image, with contours of
        the fit.  Axes are called what the data and the model say.  Points that do not count are
        grey crosses; with a robust loss outliers may be cut off, and arrows point to them.

        Parameters
        ----------
        index : int or tuple
            Which fit.
        axes : pair of matplotlib Axes, optional
            For the fit and for the residuals.
        log : {'x', 'y', 'xy', ''}, optional
            Axes of logarithms; if not given, x where the points are spaced so.

        Returns
        -------
        pair of Axes
        """
        _check_log(log)
        one = self._one(index, "plot")
        drawing = Drawing.of(one)
        if axes is None:
            axes = _pair_of_axes(drawing.image is not None)
        upper, lower = axes
        drawing.draw(upper, log)
        drawing.draw_residuals(lower, log)
        if upper.get_legend_handles_labels()[0]:
            upper.legend(fontsize="small", frameon=False)
        upper.set_title(_title(one), fontsize="medium", loc="left")
        if drawing.image is None:
            lower.set_xlabel(drawing.captions[0])
            upper.set_ylabel(drawing.captions[1])
            lower.set_ylabel("fit - data")
        return upper, lower

    def plot_grid(
        self, which: str = "worst", count: int = 9, axes: Any = None, log: str | None = None
    ) -> NDArray[Any]:
        """Small plots of some fits, with the labels of their data, or their places, above.

        Parameters
        ----------
        which : {'worst', 'best', 'random', 'failed'}
            By the reduced chi-squared of those that converged; 'random' among all.
        count : int
        axes : sequence of Axes, optional
            As many as there are to be plots.
        log : {'x', 'y', 'xy', ''}, optional
            As for `plot`.

        Returns
        -------
        array of Axes
            One, with words in it, where there is no such fit.
        """
        _check_log(log)
        chosen = self._chosen(which, count if axes is None else len(np.ravel(axes)))
        ours, columns = axes is None, min(3, max(len(chosen), 1))
        if axes is None:
            rows = max(-(-len(chosen) // columns), 1)
            size = (3.2 * columns, 2.2 * rows)
            _, axes = pyplot().subplots(
                rows, columns, figsize=size, squeeze=False, layout="constrained"
            )
        axes = np.ravel(axes)
        for ax in axes[max(len(chosen), 1) :]:
            ax.set_visible(False)
        if not len(chosen):
            say(axes[0], "no fit failed" if which == "failed" else "no fit converged")
        for number, (ax, flat) in enumerate(zip(axes, chosen, strict=False)):
            place = tuple(int(k) for k in np.unravel_index(flat, self.shape))
            one = self[place] if self.shape else self
            drawing = Drawing.of(one)
            drawing.draw(ax, log)
            if ours and drawing.image is None:
                of_x, of_y = drawing.captions
                ax.set_xlabel(of_x if number + columns >= len(chosen) else "")
                ax.set_ylabel("" if number % columns else of_y)
            ax.set_title(f"[{self._label(flat)}] {_title(one)}", fontsize="small", loc="left")
        legend_of_all(axes[0], ours)
        return axes

    def plot_failed(self, count: int = 9, axes: Any = None) -> NDArray[Any]:
        """Small plots of fits that failed, with why; as `plot_grid`."""
        return self.plot_grid("failed", count, axes)

    def plot_params(self, axes: Any = None) -> NDArray[Any]:
        """Histograms of the parameters of the fits that converged, and each pair of them.

        Parameters that are fixed in all fits are left out.  Where outliers are outside of a
        histogram, arrows say how many.

        Parameters
        ----------
        axes : (n, n) array of Axes, optional

        Returns
        -------
        (n, n) array of Axes
        """
        which = self.varied
        good = self.x.reshape(-1, self.x.shape[-1])[self.success.ravel()][:, which]
        n = len(which) if len(good) else 1
        if axes is None:
            size = (2.2 * n + 0.6, 2.0 * n + 0.4)
            _, axes = pyplot().subplots(n, n, figsize=size, squeeze=False, layout="constrained")
        if not len(good):
            for ax in np.ravel(axes)[1:]:
                ax.set_visible(False)
            say(axes[0, 0], "no fit converged")
            return axes
        limits = [central(values) for values in good.T]
        names = [self._caption(self.names[j]) for j in which]
        for i, row in enumerate(axes):
            for j, ax in enumerate(row):
                _draw_pair(ax, good, (i, j), limits)
                ax.tick_params(labelbottom=i == n - 1, labelleft=j == 0 < i)
                if i == n - 1:
                    ax.set_xlabel(names[j])
                if j == 0 and i > 0:
                    ax.set_ylabel(names[i])
        return axes

    @property
    def varied(self) -> NDArray[Any]:
        """Numbers of the parameters that are not fixed in every fit."""
        fixed = self.fixed.reshape(-1, self.fixed.shape[-1])
        return np.flatnonzero(~fixed.all(axis=0)) if len(fixed) else np.arange(fixed.shape[1])

    def plot_map(self, name: str, error: bool = False, ax: Any = None, log: bool = False) -> Any:
        """A parameter as an image, for a batch with two axes.

        Fits that failed and data sets that are masked out have colours of their own.  The axes are
        the coordinates of the data, where those have some; the first row is on top.

        Parameters
        ----------
        name : str
            Of the parameter, or of an array such as 'redchi', 'nfev', 'status'.
        error : bool
            Its standard error instead.
        ax : Axes, optional
        log : bool
            Whether colours are for the logarithms of the values.

        Returns
        -------
        Axes
        """
        if len(self.shape) != 2:
            raise ValueError(f"plot_map needs a batch with two axes, got the shape {self.shape}.")
        values = self._named(name, error)
        if ax is None:
            _, ax = pyplot().subplots(figsize=(6, 4.8), layout="constrained")
        if name == "status":
            draw_statuses(self, ax)
            return ax
        label = self._caption(name)
        draw_map(self, values, f"standard error of {label}" if error else label, ax, log)
        return ax

    def _caption(self, name: str):
        """A parameter's name, with its units where they are known."""
        units = self.problem.captions.units.get(name) if self.problem is not None else None
        return f"{name} [{units}]" if units else name

    def _label(self, flat: int):
        """What a fit is called in the data, or its place in the batch."""
        index, _ = (self.labels or Labels.numbered(self.shape)).of_each()
        return ", ".join(str(values[flat]) for values in index.values())

    def _named(self, name: str, error: bool):
        if name in self.names:
            j = self.names.index(name)
            return np.sqrt(self.cov[..., j, j]) if error else self.x[..., j]
        others = ("cost", "redchi", "chi2", "nfev", "nit", "status", "optimality", "dof")
        if name not in others or error:
            known = self.names if error else (*self.names, *others)
            raise ValueError(f"name must be one of {list(known)}, got {name!r}.")
        return getattr(self, name)

    def _chosen(self, which: str, count: int):
        """Flat numbers of fits."""
        if which not in ("worst", "best", "random", "failed"):
            raise ValueError(f"which must be 'worst', 'best', 'random' or 'failed', got {which!r}.")
        size = self.status.size
        if which == "random":
            return np.sort(np.random.default_rng(0).permutation(size)[:count])
        if which == "failed":
            return np.flatnonzero(self.failed)[:count]
        good = np.flatnonzero(self.success)
        order = good[np.argsort(self.redchi.ravel()[good])]
        return order[:count] if which == "best" else order[::-1][:count]


def _check_log(log: str | None):
    if log not in (None, "", "x", "y", "xy"):
        raise ValueError(f"log must be 'x', 'y', 'xy' or '', got {log!r}.")


def _pair_of_axes(beside: bool):
    """Axes for a fit and its residuals: beside each other for images."""
    if beside:
        return pyplot().subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")[1]
    options = {"sharex": True, "height_ratios": (3, 1), "layout": "constrained"}
    return pyplot().subplots(2, 1, figsize=(6, 4.5), **options)[1]


def _draw_pair(ax: Any, good: NDArray[Any], places: tuple[int, int], limits: Any):
    i, j = places
    without_box(ax)
    if j > i:
        ax.set_visible(False)
    elif i == j:
        values, (low, high) = good[:, i], limits[i]
        bins = int(np.clip(2.0 * len(values) ** 0.5, *BINS))
        ax.hist(values, bins=bins, range=limits[i], color=FIT, alpha=0.8)
        ax.set_xlim(limits[i])
        ax.set_yticks([])
        beyond = np.count_nonzero(values < low), np.count_nonzero(values > high)
        for count, side, words in zip(beyond, (0.0, 1.0), ("\u25c2 {}", "{} \u25b8"), strict=True):
            if count:
                style = {"ha": ("left", "right")[int(side)], "va": "top", "fontsize": "small"}
                ax.text(side, 1.0, words.format(count), transform=ax.transAxes, **style)
    elif len(good) > MOST_DOTS:
        extent = (*limits[j], *limits[i])
        ax.hexbin(good[:, j], good[:, i], gridsize=BINS[1], extent=extent, mincnt=1, cmap="Oranges")
    else:
        ax.plot(good[:, j], good[:, i], ".", color=FIT, markersize=3)
        ax.set(xlim=limits[j], ylim=limits[i])


def _title(one: Any):
    code = Status(int(one.status))
    if not one.success:
        return code.name
    what = "deviance" if one.of_counts else "chi2"
    return f"converged, reduced {what} {float(one.redchi):.3g}"
