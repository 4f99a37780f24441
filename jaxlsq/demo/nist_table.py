"""NIST's reference problems, fitted and bootstrapped: a table and a plot."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxlsq import leastsq
from jaxlsq.datasets import NIST_NAMES, NistProblem, load_nist
from jaxlsq.demo.bootstrap_table import bootstrap_table
from jaxlsq.results.covariance import covariance
from jaxlsq.status import describe

TOLERANCE = 1e-15  # below what float64 resolves: the fit goes on until nothing improves
ENOUGH_DIGITS, ENOUGH_ERROR_DIGITS = 6, 4
KNOWN_MISSES = {
    ("Lanczos1", 0): "certified residual 1e-25 is below float64's reach",
    ("Lanczos1", 1): "certified residual 1e-25 is below float64's reach",
    ("BoxBOD", 0): "MINPACK's first step from here leads to a plateau",
}


@dataclass(frozen=True)
class Row:
    """One fit of the table."""

    problem: NistProblem
    start: int
    params: NDArray[Any]
    digits: float  # agreed with the certified parameters, the worst one
    error_digits: float  # agreed with the certified standard errors
    nfev: int
    status: int
    time_s: float

    @property
    def passed(self) -> bool:
        """Whether enough digits agree."""
        return self.digits >= ENOUGH_DIGITS and self.error_digits >= ENOUGH_ERROR_DIGITS


def agreed_digits(values: ArrayLike, certified: NDArray[Any]) -> float:
    """Digits to which the worst value agrees, at most the 11 that are certified."""
    values = np.asarray(values)
    if not np.all(np.isfinite(values)):
        return 0.0
    error = np.max(np.abs(values - certified) / np.abs(certified))
    return float(np.clip(-np.log10(max(error, 1e-11)), 0.0, 11.0))


def fit_problem(problem: NistProblem, start: int) -> Row:
    """Fit a problem from one of its starts.

    Returns
    -------
    Row
    """

    def residual(params: Any, x: Any, y: Any):
        return problem.model(x, *params) - y

    begin = time.perf_counter()
    params, _, info, _, status = leastsq(
        residual,
        problem.starts[start],
        args=(problem.x, problem.y),
        full_output=True,
        ftol=TOLERANCE,
        xtol=TOLERANCE,
        maxfev=5000,
    )
    time_s = time.perf_counter() - begin
    cov = covariance(info["fjac"][:, : params.size].T, info["ipvt"])
    variance = np.sum(info["fvec"] ** 2) / (problem.y.size - params.size)
    stderr = np.full_like(params, np.inf) if cov is None else np.sqrt(np.diag(cov) * variance)
    return Row(
        problem,
        start,
        params,
        agreed_digits(params, problem.params),
        agreed_digits(stderr, problem.stderr),
        info["nfev"],
        status,
        time_s,
    )


def print_table(rows: Sequence[Row]) -> None:
    """One line a fit, then what the statuses mean and how many fits agree."""
    print(
        f"{'problem':<10}{'start':>6}{'digits':>8}{'of errors':>11}"
        f"{'nfev':>6}{'status':>8}{'ms':>8}"
    )
    for row in rows:
        note = (
            "" if row.passed else "  " + KNOWN_MISSES.get((row.problem.name, row.start), "missed")
        )
        print(
            f"{row.problem.name:<10}{row.start + 1:>6}{row.digits:>8.1f}{row.error_digits:>11.1f}"
            f"{row.nfev:>6}{row.status:>8}{1e3 * row.time_s:>8.0f}{note}"
        )
    print()
    for status in sorted({row.status for row in rows}):
        print(f"status {status}: {describe(status)}")
    passed = sum(row.passed for row in rows)
    print(
        f"\n{passed} of {len(rows)} fits agree with NIST in {ENOUGH_DIGITS} digits of every "
        f"parameter and {ENOUGH_ERROR_DIGITS} of every standard error."
    )
    print("ms is with tracing, and from a problem's first start with compilation.")


def plot(rows: Sequence[Row], path: str) -> None:
    """The fitted curves over the data, from the second start, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(18, 18), layout="constrained")
    FigureCanvasAgg(figure)
    rows = [row for row in rows if row.start == 1]
    for row, axes in zip(rows, figure.subplots(6, 5).flat, strict=False):
        problem = row.problem
        x = problem.x if problem.x.ndim == 1 else problem.x[0]
        fitted = np.asarray(problem.model(problem.x, *row.params))
        if problem.x.ndim == 1:
            fine = np.linspace(x.min(), x.max(), 500)
            axes.plot(fine, np.asarray(problem.model(fine, *row.params)), color="tab:red", lw=1.5)
        else:
            axes.plot(x, fitted, "x", color="tab:red", ms=5)
        axes.plot(x, problem.y, ".", color="0.25", ms=4, zorder=0)
        axes.set_title(f"{problem.name}: {row.digits:.1f} digits", fontsize=11)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in figure.axes[len(rows) :]:
        axes.set_axis_off()
    figure.suptitle("NIST StRD nonlinear regression: data (grey) and fits (red)", fontsize=15)
    figure.savefig(path, dpi=80)


def main() -> int:
    """Run the main job; returns the process's exit status."""
    jobs = [(load_nist(name), start) for name in NIST_NAMES for start in (0, 1)]
    interactive = sys.stderr.isatty()
    rows = []
    for number, (problem, start) in enumerate(jobs, 1):
        line = f"fitting {number}/{len(jobs)}: {problem.name}, start {start + 1}"
        print(
            f"\r{line:<50}" if interactive else line,
            end="" if interactive else "\n",
            file=sys.stderr,
        )
        rows.append(fit_problem(problem, start))
    print("\r" + " " * 50 + "\r" if interactive else "", end="", file=sys.stderr, flush=True)
    print_table(rows)
    bootstrap_table()
    try:
        plot(rows, "nist.png")
        print("Wrote nist.png.")
    except ImportError:
        print("For a plot of the fits: pip install 'jaxlsq[plot]'.")
    return 0
