"""A batch of fits, and one fit, in words."""

from dataclasses import replace
from html import escape
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jaxlsq.results.statistics import correlation
from jaxlsq.status import Status, describe

__all__ = ["Words", "html", "one_fit", "quantiles", "suspicions", "text"]

QUANTILES = (0.05, 0.5, 0.95)
# Correlations that a report names, and how many of them.
STRONG, MOST_PAIRS = 0.5, 8


class Words(str):
    """Text that prints as it is, and that a notebook shows as `tables`."""

    tables: str

    def __new__(cls, text: str, tables: str) -> Self:
        words = super().__new__(cls, text)
        words.tables = tables
        return words

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self):
        return self.tables


def suspicions(result: Any, thorough: bool = False) -> str:
    """How many fits are suspect, and how many for each reason; empty where none is.

    From the result alone, or `thorough`: with what model and data say, where they can be asked.
    """
    try:
        total, reasons = result._suspicion_counts(thorough)
    except (ValueError, RuntimeError, OSError):  # the data have changed, or their file is closed
        total, reasons = result._suspicion_counts(False)
    if not total:
        return ""
    counted = ", ".join(f"{count:,} with {words}" for words, count in reasons.items())
    return f"{total:,} of those that converged are suspect: {counted}"


def text(result: Any, notes: str = "") -> str:
    """Counts of the statuses, and quantiles of the parameters; of one fit its report."""
    if result.status.size == 1:
        return f"FitResult: {_headline(result)}\n{_only(result)}"
    notes = notes or suspicions(result)
    lines = [f"FitResult: {_headline(result)}"]
    for code, count in result.counts().items():
        lines.append(f"  {count:>9,} {code.name}: {describe(code).split('.')[0]}.")
    if result.status.size:
        width = max(10, *map(len, result.names))
        head = f"  {'parameter':<{width}}  5 %         median      95 %"
        lines.append(f"{head}  of the fits that converged")
        lines += [
            (f"  {name:<{width}}" + "".join(f"  {v:<10.5g}" for v in row) + f"  {ends}").rstrip()
            for (name, row), ends in zip(quantiles(result), _at_bounds(result), strict=False)
        ]
    lines += [f"  {notes}"] if notes else []
    return "\n".join(lines)


def html(result: Any, notes: str = "") -> str:
    """The same as tables."""
    if result.status.size == 1:
        return f"<b>FitResult</b>: {_headline(result)}<br>{_only(result).tables}"
    notes = notes or suspicions(result)
    statuses = "".join(
        f"<tr><td style='text-align:right'>{count:,}</td><td>{code.name}</td>"
        f"<td style='text-align:left'>{escape(describe(code))}</td></tr>"
        for code, count in result.counts().items()
    )
    rows = "".join(
        f"<tr><td style='text-align:left'>{escape(name)}</td>"
        + "".join(f"<td style='text-align:right'>{v:.5g}</td>" for v in row)
        + f"<td style='text-align:left'>{ends}</td></tr>"
        for (name, row), ends in zip(quantiles(result), _at_bounds(result), strict=False)
    )
    return (
        f"<b>FitResult</b>: {_headline(result)}"
        f"<table>{_head('-fits', 'status', 'meaning')}{statuses}</table>"
        f"<table>{_head('parameter', '-5 %', '-median', '-95 %', 'of the fits that converged')}"
        f"{rows}</table>{escape(notes)}"
    )


def _only(result: Any) -> Words:
    """The report of a batch of one fit, as far as it can be had."""
    place = (0,) * len(result.shape)
    try:
        return result.report(place)
    except (ValueError, RuntimeError, OSError):  # the data have changed, or their file is closed
        one = result[place] if place else result
        return one_fit(replace(one, problem=None, inverse=None, derivations=None))


def _head(*names: str) -> str:
    """A table's head; a name with a minus sign is over numbers, which are aligned right."""
    cells = "".join(
        f"<th style='text-align:{'right' if name[0] == '-' else 'left'}'>{name.lstrip('-')}</th>"
        for name in names
    )
    return f"<tr>{cells}</tr>"


def _headline(result: Any) -> str:
    size, begun = result.status.size, ~result.masked_out
    good, bad = (int(np.count_nonzero(which)) for which in (result.success, result.failed))
    shape = " x ".join(f"{k:,}" for k in result.shape) or "1"
    masked = size - good - bad
    left_out = f", {masked:,} masked out" if masked else ""
    if size == 1:
        return "1 fit, " + ("converged" if good else "masked out" if masked else "failed")
    mean = f", {result.nfev[begun].mean():.1f} evaluations each" if good + bad else ""
    return f"{shape} fits, {good:,} converged, {bad:,} did not{left_out}{mean}"


def quantiles(result: Any) -> list[tuple[str, NDArray[Any]]]:
    """Each parameter's name and its quantiles over the fits that converged."""
    good = result.x.reshape(-1, result.x.shape[-1])[result.success.ravel()]
    if not len(good):
        return []
    return list(zip(result.names, np.quantile(good, QUANTILES, 0).T, strict=True))


def _at_bounds(result: Any) -> list[str]:
    """For each parameter, in how many of the fits that converged it was fixed, or at a bound."""
    lanes = {
        "fixed": result.fixed,
        "at its lower bound": result.active_mask == -1,
        "at its upper bound": result.active_mask == 1,
    }
    counts = {
        words: np.count_nonzero(mask[result.success], axis=0) for words, mask in lanes.items()
    }
    shared = _groups(result)
    return [
        ", ".join(
            [f"{count[j]:,} {words}" for words, count in counts.items() if count[j]]
            + ([shared[name]] if name in shared else [])
        )
        for j, name in enumerate(result.names)
    ]


def _groups(result: Any) -> dict[str, str]:
    """Of each parameter that fits share, by how many groups."""
    if result.sharing is None:
        return {}
    index = result.sharing.index.reshape(-1, len(result.sharing.names))
    counts = [np.unique(column).size for column in index.T]
    return {
        name: "shared by all" if count == 1 else f"shared in {count:,} groups"
        for name, count in zip(result.sharing.names, counts, strict=True)
    }


def one_fit(result: Any, doubts: tuple[str, ...] = ()) -> Words:
    """One fit: values and errors, strong correlations, statistics, why it ended.

    Doubts about it, `FitResult.suspicions`, are notes where the rows do not say so already.
    """
    code = Status(int(result.status))
    end = f"{code.name}: {describe(code)}"
    known = result.problem is not None or result.inverse is not None
    rows, notes = _values(result) if known else (_bare_values(result), [])
    notes += _statistics(result)
    said = ("ended at a bound", "the data do not determine")
    notes += [f"suspect: {doubt}" for doubt in doubts if not any(s in doubt for s in said)]
    width = max(len(row[0]) for row in rows)
    lines = [f"  {row[0]:<{width}}  {row[1]:>12}{'  '.join(['', *row[2:]])}" for row in rows]
    plain = "\n".join([end, *lines, *(f"  {note}" for note in notes)])
    aligned = ("left", "right", "left")
    cells = "".join(
        "<tr>"
        + "".join(
            f"<td style='text-align:{side}'>{escape(cell)}</td>"
            for side, cell in zip(aligned, row, strict=False)
        )
        + "</tr>"
        for row in rows
    )
    head = _head("parameter", "-value", "error")
    below = "<br>".join(map(escape, notes))
    return Words(plain, f"<b>{escape(end)}</b><table>{head}{cells}</table>{below}")


def _statistics(result: Any) -> list[str]:
    n = int(result.varying)
    what = "deviance" if result.of_counts else "chi2"
    # Those are no cost of this fit's degrees of freedom.
    shared = f" ({len(result.sharing.names)} shared)" if result.sharing else ""
    return [
        f"{int(result.points)} points, {n} parameters{shared}, {result.dof} degrees of freedom: "
        f"{what} {result.chi2:.5g}, reduced {result.redchi:.5g}, AIC {result.aic:.5g}, "
        f"BIC {result.bic:.5g}",
        f"{result.nfev} evaluations, {result.njev} Jacobians, {result.nit} steps; "
        f"optimality {result.optimality:.1e}",
    ]


def _bare_values(result: Any) -> list[tuple[str, ...]]:
    """Without what is not known when the data were gone before it was asked for."""
    return [(name, f"{value:.6g}") for name, value in zip(result.names, result.x, strict=True)]


def _values(result: Any) -> tuple[list[tuple[str, ...]], list[str]]:
    """Rows of a name, a value and what is said of it; and notes."""
    blamed = result.undetermined() if np.isfinite(result.cost) else ()
    missing = [f"the data do not determine {' and '.join(blamed)}"] if blamed else []
    rows = _with_errors(result) + _derived(result)
    return rows, [*missing, *_strong_correlations(result)]


def _derived(result: Any) -> list[tuple[str, ...]]:
    """Rows of what the model derives from its parameters."""
    return [
        (name, f"{value:.6g}", f"+- {error:<9.2g} (derived)")
        for name, (value, error) in (result.derived_by_name() or {}).items()
    ]


def _with_errors(result: Any) -> list[tuple[str, ...]]:
    errors = np.sqrt(np.diagonal(result.cov))
    rows: list[tuple[str, ...]] = []
    ends = {-1: "at its lower bound", 1: "at its upper bound"}
    for j, (name, value, error) in enumerate(zip(result.names, result.x, errors, strict=True)):
        held = "fixed" if result.fixed[j] else ends.get(int(result.active_mask[j]))
        if held:
            rows.append((name, f"{value:.6g}", f"({held})"))
            continue
        share = f" ({abs(100 * error / value):.2g} %)" if value and np.isfinite(error) else ""
        rows.append((name, f"{value:.6g}", f"+- {error:<9.2g}{share}".rstrip()))
    return rows


def _strong_correlations(result: Any) -> list[str]:
    matrix, n = correlation(result.cov), len(result.names)
    pairs = [(i, j) for i in range(n) for j in range(i) if abs(matrix[i, j]) >= STRONG]
    pairs.sort(key=lambda ij: -abs(matrix[ij]))
    lines = [
        f"correlation of {result.names[j]} and {result.names[i]}: {matrix[i, j]:+.3f}"
        for i, j in pairs[:MOST_PAIRS]
    ]
    more = len(pairs) - len(lines)
    return lines + [f"{more} more correlations of at least {STRONG}"] * (more > 0)
