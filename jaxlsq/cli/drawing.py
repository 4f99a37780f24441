"""Plots in files."""

import io
from pathlib import Path

import numpy as np

from jaxlsq.cli.writing import Lost
from jaxlsq.results.replacing import put
from jaxlsq.results.result import FitResult

__all__ = ["SUFFIXES", "WHICH", "check_matplotlib", "draw"]

SUFFIXES = (".png", ".pdf", ".svg")
WHICH = ("worst", "best", "random", "failed", "params")
MOST = 9


def check_matplotlib() -> None:
    """Raise ImportError where there is no matplotlib."""
    try:
        import matplotlib as _  # noqa: F401
    except ImportError:
        raise ImportError("--plot needs matplotlib: pip install 'jaxlsq[plot]'.") from None


def draw(result: FitResult, which: str, path: str) -> str:
    """Draw fits, or the distribution of their parameters, to a file; returns what was done.

    Parameters
    ----------
    result : FitResult
    which : str
        One of `WHICH`; one fit alone is drawn with its residuals.
    path : str

    Raises
    ------
    Lost
        If it can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n, size = len(result.varied), result.status.size
    if which == "failed" and not result.failed.any():
        return f"No fit failed: {path} is not written."
    if which == "params":
        figure = Figure(figsize=(2.2 * n + 0.6, 2.0 * n + 0.4), layout="constrained")
        FigureCanvasAgg(figure)
        result.plot_params(np.array(figure.subplots(n, n, squeeze=False)))
        said = "the parameters of the fits that converged"
    elif size == 1:
        figure = Figure(figsize=(6, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        result.plot((0,) * len(result.shape), axes)
        said = "the fit"
    else:
        which = "failed" if not result.success.any() else which
        count = _how_many(result, which)
        columns, rows = min(3, count), -(-count // 3)
        figure = Figure(figsize=(3.2 * columns, 2.2 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        result.plot_grid(which, axes=figure.subplots(rows, columns, squeeze=False))
        said = f"{count} fits ({which})"
    buffer = io.BytesIO()
    figure.savefig(buffer, format=Path(path).suffix[1:].lower(), dpi=100)

    def write(place: str) -> None:
        with open(place, "xb") as file:
            file.write(buffer.getvalue())

    try:
        put(path, write)
    except OSError as error:
        raise Lost(f"{path} could not be written: {error.strerror or error}.") from error
    return f"Wrote {path}: {said}."


def _how_many(result: FitResult, which: str):
    among = {"random": result.status.size, "failed": np.count_nonzero(result.failed)}
    return max(1, min(MOST, int(among.get(which, np.count_nonzero(result.success)))))
