"""Plots of profile likelihoods: of one parameter, and of two."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.results.contour import SIGMAS, Contour, region
from jaxlsq.results.plot_style import DATA, FIT, LEFT_OUT, pyplot, without_box
from jaxlsq.results.profile import check_apart, times
from jaxlsq.results.surface import surface

__all__ = ["IntervalPlots"]

# Places of a profile that are drawn.
POINTS = 40
# Of the lines around regions, from the smallest one on.
STYLES = ("-", "--", "-.", ":")


class IntervalPlots:
    """The plots of a `FitResult`'s intervals; each takes axes and returns them."""

    names: tuple[str, ...]
    fixed: NDArray[Any]

    if TYPE_CHECKING:  # what the rest of a `FitResult` has

        def _one(self, index: Any, what: str) -> Any: ...
        def _numbers(self, params: Any) -> list[int]: ...
        def _contour(self, a: Any, b: Any, levels: Any, size: Any, ridge: bool) -> Contour: ...

    def plot_contour(
        self,
        a: str | int,
        b: str | int,
        levels: Sequence[float] = SIGMAS,
        size: int = 41,
        ax: Any = None,
    ) -> Any:
        """Joint confidence regions of two parameters of one fit, as `contour` has them.

        Their grid follows the best b for each a, so that narrow regions are seen too.

        Parameters
        ----------
        a, b : str or int
            The parameters along the horizontal and the vertical axis.
        levels : sequence of float
            Probabilities.
        size : int
            Values of each parameter.
        ax : Axes, optional

        Returns
        -------
        Axes
        """
        found = self._contour(a, b, levels, size, ridge=True)
        if ax is None:
            _, ax = pyplot().subplots(figsize=(5, 4), layout="constrained")
        # The square root is nearly a cone, along which lines are interpolated.
        limits = np.sqrt(found.limits)
        styles = [STYLES[k % len(STYLES)] for k in range(len(limits))]
        drawn = {"levels": limits, "colors": FIT, "linestyles": styles}
        lines = ax.contour(found.a, found.b, np.sqrt(found.rise), **drawn)
        words = [f"{100 * p:.4g} %" for p in found.levels]
        middle = found.b[len(found.b) // 2]  # of a grid that follows the regions
        corner = "upper left" if middle[0] < middle[-1] else "upper right"
        ax.legend(lines.legend_elements()[0], words, loc=corner, fontsize="small", frameon=False)
        ax.plot(*found.minimum, "+", color=DATA)
        ax.set(xlabel=found.names[0], ylabel=found.names[1])
        without_box(ax)
        return ax

    def plot_profile(
        self, params: Any = None, levels: Sequence[float] = SIGMAS, axes: Any = None
    ) -> NDArray[Any]:
        r"""Profiles of parameters of one fit, and the parabolas that standard errors stand for.

        :math:`\sqrt{(\chi^2(\theta) - \chi^2_{min}) / s^2}`, which is a straight line on both sides
        of the minimum where a parameter is linear; where it crosses a level, an interval ends.

        Parameters
        ----------
        params : names or numbers, optional
            Which parameters; all that are fitted, if not given.
        levels : sequence of float
            Probabilities.
        axes : sequence of Axes, optional
            As many as there are parameters.

        Returns
        -------
        array of Axes
        """
        one = self._one((), "plot_profile")
        check_apart(one, "a profile")
        chosen = np.flatnonzero(~one.fixed).tolist() if params is None else one._numbers(params)
        if axes is None:
            size = (2.6 * len(chosen) + 0.4, 2.8)
            options = {"squeeze": False, "sharey": True, "layout": "constrained"}
            _, axes = pyplot().subplots(1, len(chosen), figsize=size, **options)
        axes = np.ravel(axes)
        goals = {level: float(times(one, level)) for level in sorted(levels)}
        for ax, j in zip(axes, chosen, strict=True):
            _draw_profile(one, j, max(goals.values()), ax)
            for goal in goals.values():
                ax.axhline(goal, color=LEFT_OUT, linewidth=0.8, zorder=0)
        for level, goal in goals.items():
            place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": "small"}
            axes[-1].annotate(f"{100 * level:.4g} %", (1.02, goal), **place)
        axes[0].set_ylabel("standard deviations")
        axes[0].legend(fontsize="small", frameon=False)
        return axes


def _draw_profile(one: Any, j: int, goal: float, ax: Any):
    """The profile of a parameter, and that of a linear one, to beyond a goal."""
    problem = one._with_data("plot_profile")
    [values], minima = region(one, problem, [j], one.x.astype(float), goal, [POINTS])
    x, bounds = minima.x[0], problem.box(np.zeros(1, int))[0]
    values = np.sort(np.append(values, x[j]))
    free = ~one.fixed & (x > bounds[:, 0]) & (x < bounds[:, 1])
    found = surface(problem, x, [j], values[:, None], free)
    rise = np.maximum((found.chi2 - minima.chi2[0]) / minima.variance[0], 0.0)
    ax.plot(values, np.sqrt(rise), color=FIT, linewidth=1.5, label="profile")
    if free[j]:
        straight = np.abs(values - x[j]) / minima.unit[0, j]
        style = {"color": DATA, "linewidth": 1, "linestyle": "--"}
        ax.plot(values, straight, **style, label="standard error")
    ax.set(xlabel=one.names[j], ylim=(0.0, 1.15 * goal))
    without_box(ax)
