"""Ratios to compare with those of another day: they depend on the machine less than speeds do."""

import json
from pathlib import Path

BASELINE = Path(__file__).parent / "baseline.json"
ALLOWED_FALL = 0.2


def ratios(rows, large):
    """By "workload dtype library"."""
    result = {
        f"{row['workload']} {row['dtype']} {library}": round(peer["ratio"], 4)
        for row in rows
        for library, peer in row["peers"].items()
    }
    if large:
        result["W6 float64 scipy_loop"] = round(1 / large["jax_ratio"], 4)
    return result


def write(path, measured, quick):
    """A baseline."""
    text = json.dumps({"quick": quick, "ratios": measured}, indent=1, sort_keys=True)
    Path(path).write_text(text + "\n")


def failures(path, measured, quick):
    """Lines about ratios that have fallen, and about what could not be compared at all."""
    baseline = json.loads(Path(path).read_text())
    if baseline["quick"] != quick:
        return [f"{path} was written {'with' if baseline['quick'] else 'without'} --quick"]
    # Part of the workloads may be run, and a library may be missing.
    common = sorted(baseline["ratios"].keys() & measured.keys())
    if not common:
        return [f"{path} has none of the ratios that were measured"]
    lines = []
    for key in common:
        old, new = baseline["ratios"][key], measured[key]
        if new < (1 - ALLOWED_FALL) * old:
            lines.append(
                f"{key}: {old:.2f} has become {new:.2f}, {100 * (1 - new / old):.0f} % less"
            )
    return lines
