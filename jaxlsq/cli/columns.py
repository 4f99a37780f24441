"""A result as columns for files, and as a short table for the screen."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.labels import Labels
from jaxlsq.results.result import FitResult
from jaxlsq.status import Status, describe

__all__ = ["columns", "failures", "table"]

# Beside the labels, the parameters and their errors.
PER_FIT = ("success", "status", "message", "cost", "redchi", "nfev")


def columns(result: FitResult, stderr: bool = True) -> dict[str, NDArray[Any]]:
    """A row for each fit: labels, parameters and their standard errors, and why it ended.

    A fit that converged has no message.  A parameter whose name is that of another column has
    ``_param`` behind it.

    Parameters
    ----------
    result : FitResult
    stderr : bool
        Whether there are standard errors.
    """
    labels = _labels(result)
    arrays = result.to_dict(stderr=stderr)
    count = (1 + stderr) * len(result.names)
    values = dict(list(arrays.items())[:count])
    while clash := [name for name in values if name in (*PER_FIT, *labels)]:
        values = {f"{k}_param" if k in clash else k: v for k, v in values.items()}
    codes = np.unique(result.status)
    places = np.searchsorted(codes, result.status)
    words = {
        "status": np.array([Status(code).name for code in codes])[places],
        "message": np.where(
            result.success, "", np.array([describe(code) for code in codes])[places]
        ),
    }
    rest = {name: words.get(name, getattr(result, name)) for name in PER_FIT if name not in words}
    rows = labels | values | {name: (words | rest)[name] for name in PER_FIT}
    return {name: np.asarray(array).reshape(-1) for name, array in rows.items()}


def _labels(result: FitResult):
    index, _ = (result.labels or Labels.numbered(result.shape)).of_each()
    return index


def table(result: FitResult) -> str:
    """Values and standard errors, a line for each fit."""
    names = list(_labels(result))
    labels = list(zip(*(map(str, v.tolist()) for v in _labels(result).values()), strict=True))
    n = len(result.names)
    arrays = result.x, np.sqrt(np.diagonal(result.cov, axis1=-2, axis2=-1)), _held(result)
    rows = [[*names, *result.names, "status"]]
    for i, one in enumerate(zip(*(v.reshape(-1, n) for v in arrays), strict=True)):
        cells = [
            f"{value:.6g} {held or f'+- {error:.2g}'}"
            for value, error, held in zip(*one, strict=True)
        ]
        code = Status(int(result.status.reshape(-1)[i])).name
        rows.append([*labels[i], *cells, code])
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(f"  {line.rstrip()}" for line in lines)


def _held(result: FitResult):
    """Why a parameter has no error of its own, (..., n) texts."""
    at_bound = np.array(["", "(at upper bound)", "(at lower bound)"])[result.active_mask]
    return np.where(result.fixed, "(fixed)", at_bound)


def failures(result: FitResult, most: int) -> list[str]:
    """Labels of the first fits that did not converge, and what they ended with."""
    bad = np.flatnonzero(result.failed.reshape(-1))
    labels: list[Any] = [values.tolist() for values in _labels(result).values()]
    lines = []
    for i in bad[:most]:
        name = ", ".join(str(column[i]) for column in labels)
        lines.append(f"{name}: {Status(int(result.status.reshape(-1)[i])).name}")
    return [*lines, f"and {len(bad) - most:,} more"] if len(bad) > most else lines
