"""Plots of fits; matplotlib is imported only here, and only when one is drawn."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxlsq.problem.labels import Labels
from jaxlsq.problem.types import Batch
from jaxlsq.status import Status

__all__ = ["DATA", "FAINT", "FIT", "Plots", "pyplot"]

POINTS = 400
# Lines of the parts of a sum.
PARTS = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
DATA, FIT, FAINT = "0.35", "tab:red", "0.8"


class Plots:
    """The plots of a `FitResult`; each takes axes and returns them."""

    x: np.ndarray
    status: np.ndarray
    names: tuple[str, ...]
    labels: Labels | None

    if TYPE_CHECKING:  # what the rest of a `FitResult` has

        @property
        def shape(self) -> Batch: ...
        @property
        def success(self) -> np.ndarray: ...
        @property
        def failed(self) -> np.ndarray: ...
        @property
        def redchi(self) -> np.ndarray: ...
        @cached_property
        def cov(self) -> np.ndarray: ...
        def __getitem__(self, index: Any) -> Any: ...
        def _one(self, index: Any, what: str) -> Any: ...

    def plot(self, index: int | tuple[Any, ...] = (), axes: Any = None) -> tuple[Any, Any]:
        """Data, fit, band of one standard error, and fit - data below.

        Bars are `sigma` and `xsigma`, where they were given; with errors in x `residuals` are
        distances from the curve, and not drawn.

        Parameters
        ----------
        index : int or tuple
            Which fit.
        axes : pair of matplotlib Axes, optional
            For the fit and for the residuals.

        Returns
        -------
        pair of Axes
        """
        one = self._one(index, "plot")
        if axes is None:
            options = {"sharex": True, "height_ratios": (3, 1), "layout": "constrained"}
            _, axes = pyplot().subplots(2, 1, figsize=(6, 4.5), **options)
        upper, lower = axes
        x, y, errors, live = _draw_fit(one, upper)
        residuals = _cut(one.predict(), y.size) - y
        lower.axhline(0.0, color=FIT, linewidth=1)
        _points(lower, x, residuals, errors, live)
        upper.set_title(_title(one), fontsize="medium", loc="left")
        upper.set_ylabel("data and fit")
        lower.set_ylabel("fit - data")
        return upper, lower

    def plot_grid(self, which: str = "worst", count: int = 9, axes: Any = None) -> np.ndarray:
        """Small plots of some fits, with the labels of their data, or their places, above.

        Parameters
        ----------
        which : {'worst', 'best', 'random', 'failed'}
            By the reduced chi-squared of those that converged; 'random' among all.
        count : int
        axes : sequence of Axes, optional
            As many as there are to be plots.

        Returns
        -------
        array of Axes
        """
        chosen = self._chosen(which, count if axes is None else len(np.ravel(axes)))
        if axes is None:
            columns = min(3, max(len(chosen), 1))
            rows = max(-(-len(chosen) // columns), 1)
            size = (3.2 * columns, 2.2 * rows)
            _, axes = pyplot().subplots(
                rows, columns, figsize=size, squeeze=False, layout="constrained"
            )
        axes = np.ravel(axes)
        for ax in axes[len(chosen) :]:
            ax.set_visible(False)
        for ax, flat in zip(axes, chosen, strict=False):
            place = tuple(int(k) for k in np.unravel_index(flat, self.shape))
            one = self[place] if self.shape else self
            _draw_fit(one, ax)
            ax.set_title(f"[{self._label(flat)}] {_title(one)}", fontsize="small", loc="left")
        return axes

    def plot_failed(self, count: int = 9, axes: Any = None) -> np.ndarray:
        """Small plots of fits that failed, with why; as `plot_grid`."""
        return self.plot_grid("failed", count, axes)

    def plot_params(self, axes: Any = None) -> np.ndarray:
        """Histograms of the parameters of the fits that converged, and each pair of them.

        Parameters
        ----------
        axes : (n, n) array of Axes, optional

        Returns
        -------
        (n, n) array of Axes
        """
        n = self.x.shape[-1]
        if axes is None:
            size = (2.2 * n + 0.6, 2.0 * n + 0.4)
            _, axes = pyplot().subplots(n, n, figsize=size, squeeze=False, layout="constrained")
        good = self.x.reshape(-1, n)[self.success.ravel()]
        limits = [_central(values) for values in good.T] if len(good) else [(0.0, 1.0)] * n
        for i, row in enumerate(axes):
            for j, ax in enumerate(row):
                _draw_pair(ax, good, (i, j), limits)
                if i == n - 1:
                    ax.set_xlabel(self.names[j])
                if j == 0 and i > 0:
                    ax.set_ylabel(self.names[i])
        return axes

    def plot_map(self, name: str, error: bool = False, ax: Any = None) -> Any:
        """A parameter as an image, for a batch with two axes; fits that failed are left out.

        Parameters
        ----------
        name : str
            Of the parameter, or of an array such as 'redchi', 'nfev', 'status'.
        error : bool
            Its standard error instead.
        ax : Axes, optional

        Returns
        -------
        Axes
        """
        if len(self.shape) != 2:
            raise ValueError(f"plot_map needs a batch with two axes, got the shape {self.shape}.")
        values = self._named(name, error)
        if ax is None:
            _, ax = pyplot().subplots(figsize=(6, 4.5), layout="constrained")
        shown = np.where(self.success & np.isfinite(values), values, np.nan)
        some = shown[np.isfinite(shown)]
        low, high = _central(some) if some.size else (0.0, 1.0)
        image = ax.imshow(shown, vmin=low, vmax=high, interpolation="nearest")
        ax.set_facecolor(FAINT)
        label = f"standard error of {name}" if error else name
        beyond = np.min(some, initial=low) < low, np.max(some, initial=high) > high
        ends = ("neither", "max", "min", "both")[2 * beyond[0] + beyond[1]]
        ax.figure.colorbar(image, ax=ax, label=label, extend=ends)
        return ax

    def _label(self, flat):
        """What a fit is called in the data, or its place in the batch."""
        index, _ = (self.labels or Labels.numbered(self.shape)).of_each()
        return ", ".join(str(values[flat]) for values in index.values())

    def _named(self, name, error):
        if name in self.names:
            j = self.names.index(name)
            return np.sqrt(self.cov[..., j, j]) if error else self.x[..., j]
        others = ("cost", "redchi", "chi2", "nfev", "nit", "status", "optimality", "dof")
        if name not in others or error:
            known = self.names if error else (*self.names, *others)
            raise ValueError(f"name must be one of {list(known)}, got {name!r}.")
        return getattr(self, name)

    def _chosen(self, which, count):
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


def pyplot():
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("Plots need matplotlib: pip install 'jaxlsq[plot]'.") from error
    return pyplot


def _draw_fit(one, ax):
    """Data and fit; returns what was drawn of the data."""
    x, y, errors, live = one._with_data("plot").data_of_one()
    line = _line_places(x)
    if line is None:
        x, errors = np.arange(y.size), (None, errors[1])
    if np.all(np.isfinite(one.x)):
        at = line if line is not None else None
        curve = np.asarray(one.predict(at)) if at is not None else _cut(one.predict(), y.size)
        band = np.asarray(one.band(at)) if at is not None else _cut(one.band(), y.size)
        places = line if line is not None else x
        if np.all(np.isfinite(band)):
            ax.fill_between(places, curve - band, curve + band, color=FIT, alpha=0.2, linewidth=0)
        ax.plot(places, curve, color=FIT, linewidth=1.5)
        if line is not None:
            _draw_parts(one, line, ax)
    _points(ax, x, y, errors, live)
    return x, y, errors, live


def _draw_parts(one, places, ax):
    """What a model is a sum of, if it says so."""
    parts = one.components(places)
    if len(parts) < 2:
        return
    for number, (name, values) in enumerate(parts.items()):
        style = PARTS[number % len(PARTS)]
        values = np.broadcast_to(values, places.shape)
        ax.plot(places, values, color=FIT, linewidth=1, linestyle=style, label=name)
    ax.legend(fontsize="small", frameon=False)


def _points(ax, x, y, errors, live):
    across, along = (None if error is None else error[live] for error in errors)
    size = 4 if y.size < 100 else 2
    look = {"color": DATA, "markersize": size, "elinewidth": 0.7, "zorder": 3}
    ax.errorbar(x[live], y[live], along, across, fmt="o", **look)
    ax.plot(x[~live], y[~live], "x", color=FAINT, markersize=size)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _line_places(x):
    """Where to draw the curve, if the data lie along a line."""
    if not hasattr(x, "ndim") or x.ndim != 1 or not np.all(np.isfinite(x)):
        return None
    low, high = float(x.min()), float(x.max())
    places = np.linspace(low, high, POINTS)
    if 0.0 < 10.0 * low < high:  # may be drawn on an axis of logarithms, where those are too few
        places = np.union1d(places, np.geomspace(low, high, POINTS))
    return places.astype(np.result_type(x, np.float32))


def _draw_pair(ax, good, places, limits):
    i, j = places
    if j > i:
        ax.set_visible(False)
    elif i == j:
        ax.hist(good[:, i], bins=40, range=limits[i], color=FIT, alpha=0.8)
        ax.set_yticks([])
    elif len(good) > 2000:
        extent = (*limits[j], *limits[i])
        ax.hexbin(good[:, j], good[:, i], gridsize=40, extent=extent, mincnt=1, cmap="Reds")
    else:
        ax.plot(good[:, j], good[:, i], ".", color=FIT, markersize=2)
        ax.set(xlim=limits[j], ylim=limits[i])


def _central(values):
    """Limits that leave outliers out, and are not equal."""
    low, high = np.quantile(values, [0.005, 0.995])
    margin = 0.05 * (high - low) or 0.5 * abs(low) or 0.5
    return low - margin, high + margin


def _cut(values, size):
    return np.asarray(values)[:size]


def _title(one):
    code = Status(int(one.status))
    if one.failed:
        return code.name
    what = "deviance" if one.of_counts else "chi2"
    return f"{code.name}, reduced {what} {float(one.redchi):.3g}"
