"""The main job's second part: standard errors of NIST's problems by a bootstrap."""

import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.api.fit import fit
from jaxlsq.datasets import NIST_NAMES, NistProblem, load_nist

__all__ = ["BootstrapRow", "bootstrap", "bootstrap_table", "is_well_posed"]

RESAMPLES = 1000
# Where a standard error is a quarter of its parameter, the linear theory behind the
# certified one and the bootstrap are no longer about the same thing.
LARGEST_RELATIVE_ERROR = 0.25
BELOW_FLOAT64 = "Lanczos1"  # its residuals, 1e-13 of the data, are rounding


@dataclass(frozen=True)
class BootstrapRow:
    """One line of the table."""

    problem: NistProblem
    converged: int
    ratios: NDArray[Any]  # bootstrap standard error over the certified one, per parameter
    time_s: float


def is_well_posed(problem: NistProblem) -> bool:
    """Whether its parameters are determined well enough to compare standard errors."""
    relative = np.max(problem.stderr / np.abs(problem.params))
    return bool(relative < LARGEST_RELATIVE_ERROR) and problem.name != BELOW_FLOAT64


def bootstrap(problem: NistProblem, resamples: int = RESAMPLES, seed: int = 0) -> BootstrapRow:
    r"""Fit data sets made of the fitted curve and residuals drawn with replacement.

    Parameters
    ----------
    problem : NistProblem
    resamples : int
    seed : int

    Returns
    -------
    BootstrapRow

    Notes
    -----
    Residuals are centred and enlarged by :math:`\sqrt{m / (m - n)}` for the n parameters that
    were fitted to them.  Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap"
    (1993), section 9.4.
    """
    m, n = problem.y.size, problem.params.size
    curve = np.asarray(problem.model(problem.x, *problem.params), np.float64)
    residuals = problem.y - curve
    residuals = (residuals - residuals.mean()) * np.sqrt(m / (m - n))
    draws = np.random.default_rng(seed).choice(residuals, (resamples, m))
    begin = time.perf_counter()
    result = fit(problem.model, problem.x, curve + draws, problem.params)
    time_s = time.perf_counter() - begin
    errors = np.std(result.params[result.success], axis=0, ddof=1)
    return BootstrapRow(
        problem, int(np.count_nonzero(result.success)), errors / problem.stderr, time_s
    )


def bootstrap_table() -> list[BootstrapRow]:
    """Run all well-posed problems with progress, print a table and a summary."""
    problems = [p for p in map(load_nist, NIST_NAMES) if is_well_posed(p)]
    rows = []
    for number, problem in enumerate(problems, 1):
        print(
            f"bootstrap {number}/{len(problems)}: {problem.name}, {RESAMPLES:,} fits",
            file=sys.stderr,
        )
        rows.append(bootstrap(problem))
    print(
        f"\nStandard errors from {RESAMPLES:,} resamples, over the certified ones:\n"
        f"{'problem':<10}{'n':>3}{'m':>5}{'converged':>11}{'smallest':>10}{'largest':>9}{'s':>7}"
    )
    for row in rows:
        print(
            f"{row.problem.name:<10}{row.problem.params.size:>3}{row.problem.y.size:>5}"
            f"{row.converged:>11}{row.ratios.min():>10.2f}{row.ratios.max():>9.2f}"
            f"{row.time_s:>7.2f}"
        )
    ratios = np.concatenate([row.ratios for row in rows])
    near = np.count_nonzero(np.abs(ratios - 1) < 0.1)
    print(
        f"\n{near} of {ratios.size} standard errors of {len(rows)} problems are within 10 % of the "
        f"certified ones; the median ratio is {np.median(ratios):.3f}."
    )
    print("s is with tracing and compilation.")
    return rows
