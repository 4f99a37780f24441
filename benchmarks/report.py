"""The batch table as text."""

import importlib.metadata
import platform

COLUMNS = {
    "minpack_c": "MINPACK in C",
    "ceres_tiny": "Ceres Tiny",
    "optimistix": "Optimistix",
    "jaxopt": "JAXopt",
    "scipy_loop": "SciPy loop",
}
LEGEND = """\
One core.  Ratios are a solver's seconds per fit over ours: above 1, ours is faster.  Quality,
in brackets for the others, is the share of fits within 1e-4 of the best cost any of them found.
MINPACK, Ceres and SciPy compute in float64 in every row."""


def header():
    """What it runs on."""
    packages = ("jax", "numpy", "scipy", "optimistix", "jaxopt")
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    return f"{platform.machine()}, Python {platform.python_version()}, {versions}"


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def batch_table(rows):
    """A line for each workload and precision, and the recipes of the JAX libraries."""
    lines = [
        LEGEND,
        "",
        f"{'':<4}{'dtype':<8}{'fits':>7}{'fits/s':>10}{'quality':>9}{'compile s':>11}{'peak MB':>9}"
        + "".join(f"{title:>16}" for title in COLUMNS.values()),
    ]
    lines += [_line(row) for row in rows]
    recipes = [_recipes(row) for row in rows]
    return "\n".join([*lines, "", "The recipes that were fastest:", *recipes])


def _line(row):
    peak = "-" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}"
    return (
        f"{row['workload']:<4}{row['dtype']:<8}{row['fits']:>7,}{row['fits_per_s']:>10,.0f}"
        f"{_share(row['quality']):>9}{row['compile_s']:>11.1f}{peak:>9}"
        + "".join(f"{_cell(row['peers'].get(library)):>16}" for library in COLUMNS)
    )


def _cell(peer):
    return f"{peer['ratio']:.2f} [{_share(peer['quality'])}]" if peer else "-"


def _share(quality):
    """Four characters and the per cent sign; 100 only where it is all of them."""
    percent = 100 * quality
    return "100%" if quality == 1 else f"{min(percent, 99.9):.1f}%"


def _recipes(row):
    used = [
        f"{peer['recipe']} ({peer['fits_per_s']:,.0f} fits/s, compiled in "
        f"{peer['compile_s']:.1f} s)"
        for library, peer in row["peers"].items()
        if peer["recipe"] != library
    ]
    return f"{row['workload']:<4}{row['dtype']:<8}" + ("; ".join(used) or "none")


def large_line(row):
    """The one large fit, W6."""
    return (
        f"W6  one fit of a peak to {row['m']:,} points, float64: ours {row['jax_ms']:.0f} ms "
        f"({row['numpy_ms']:.0f} with a NumPy model), SciPy {row['scipy_ms']:.0f} ms, ratio "
        f"{1 / row['jax_ratio']:.2f}; compile {row['compile_s']:.1f} s, excess {row['excess']:.0e}"
    )


def scaling_text(result):
    """What `scaling.measure` found, a paragraph each."""
    s, disk = result["straggler"], result["disk"]
    least, median = s["straggler_nfev"]
    lines = [
        f"Stragglers: {s['stragglers']:,} of {s['fits']:,} decays take {median} evaluations (at "
        f"least {least}), the others {s['mean_nfev']:.1f}: {s['seconds']['with']:.2f} s, "
        f"{s['over_ideal']:.2f} times what their evaluations cost "
        f"({s['seconds']['without']:.2f} s without them)."
    ]
    for c in result["cores"] or ():
        lines.append(
            f"Cores, {c['dtype']}: {c['all_fits_per_s']:,.0f} fits/s on {c['number']}, "
            f"{c['one_fits_per_s']:,.0f} on one: {c['ratio']:.2f} times."
        )
    if result["cores"] is None:
        lines.append("Cores: only one may be used here.")
    for r in result["size"]:
        lines.append(
            f"Size, {r['dtype']}, one core: {r['large']:,.0f} fits/s in a batch ten times as large "
            f"as one with {r['small']:,.0f}: {r['large'] / r['small']:.2f} times."
        )
    peak = "unknown" if disk["peak_mb"] is None else f"{disk['peak_mb']:,.0f} MB"
    lines.append(
        f"From disk: {disk['fits']:,} float32 decays, a file of {disk['file_mb']:,.0f} MB, in "
        f"{disk['seconds']:.1f} s with compilation, {disk['fits_per_s']:,.0f} fits/s, "
        f"{100 * disk['converged']:.2f} % converged; anonymous memory grew by {peak} at most, of "
        f"which the result is {disk['result_mb']:,.0f} MB."
    )
    return "\n".join(lines)
