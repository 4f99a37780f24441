"""Fits per second against the size of the batch, and a plot of them."""

import numpy as np
from matplotlib.figure import Figure

from benchmarks.batch import Scale, best_recipe, ours, speed
from benchmarks.scaling import many
from benchmarks.workloads import WORKLOADS, data

# Half a decade each, from 100 to 1,000,000.
SIZES = tuple(round(10 ** (k / 2)) for k in range(4, 13))
COLOURS = {"float64": "tab:blue", "float32": "tab:orange"}


def measure(name, dtype, quick):
    """Ours at each size; peers, which hardly depend on it, at the table's."""
    workload = WORKLOADS[name]
    sizes = SIZES[:5] if quick else SIZES
    rates = []
    for size in sizes:
        x, y, p0 = many(workload, size, np.dtype(dtype))
        fit = ours(workload, x, y, p0)
        fit()  # compiles
        rates.append(speed(fit, size))
    scale = Scale.of(name, quick)
    batch = data(workload, scale.lanes, np.dtype(dtype))
    peers = {}
    for library in ("minpack_c", "optimistix"):
        entrant = best_recipe(library, workload, batch, dtype, scale)
        if entrant:
            rate = speed(lambda e=entrant: e.run(), entrant.lanes)
            peers[library] = {"recipe": entrant.recipe, "fits_per_s": rate}
    return {"workload": name, "dtype": dtype, "sizes": sizes, "fits_per_s": rates, "peers": peers}


def draw(curves, path):
    """A panel for each workload."""
    names = list(dict.fromkeys(curve["workload"] for curve in curves))
    figure = Figure(figsize=(5.2 * len(names), 4.6), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        _draw_panel(panel, name, [c for c in curves if c["workload"] == name])
    panels[0].set_ylabel("fits per second, one core")
    # The same lines in every panel, whichever has most of them.
    handles = {}
    for panel in panels:
        handles |= {handle.get_label(): handle for handle in panel.get_lines()}
    ncols = 3 if len(names) > 1 else 1
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=ncols)
    figure.savefig(path, dpi=150)


def _draw_panel(panel, name, curves):
    workload = WORKLOADS[name]
    for curve in curves:
        dtype, peers = curve["dtype"], curve["peers"]
        colour = COLOURS[dtype]
        panel.plot(
            curve["sizes"], curve["fits_per_s"], "o-", color=colour, label=f"jaxlsq, {dtype}"
        )
        if "optimistix" in peers:
            rate = peers["optimistix"]["fits_per_s"]
            panel.axhline(rate, color=colour, ls="--", label=f"Optimistix, fastest recipe, {dtype}")
    # It computes in float64 whatever the data are.
    native = [c["peers"]["minpack_c"]["fits_per_s"] for c in curves if "minpack_c" in c["peers"]]
    if native:
        panel.axhline(max(native), color="0.3", ls=":", lw=2, label="MINPACK in C, float64")
    panel.set(
        title=f"{workload.title}: {workload.n} parameters, {workload.m} points",
        xlabel="fits in the batch",
        xscale="log",
        yscale="log",
    )
    panel.grid(alpha=0.3)
