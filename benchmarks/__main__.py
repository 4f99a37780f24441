"""``python -m benchmarks``: batches of fits beside other solvers, with quality beside speed."""

import argparse
import json
import sys
from pathlib import Path

from benchmarks import gate, host_models, report
from benchmarks.isolated import call
from benchmarks.workloads import WORKLOADS

DTYPES = ("float64", "float32")
NAMES = tuple(sorted([*WORKLOADS, "W6"]))
PLOTTED = ("W1", "W2")


def names_of(choices):
    """A parser of names between commas."""

    def parse(text):
        names = tuple(text.split(","))
        unknown = [name for name in names if name not in choices]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(choices)}")
        return names

    return parse


def parsed():
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--json", action="store_true", help="print JSON")
    add("--quick", action="store_true", help="small batches, for a look")
    add("--workloads", type=names_of(NAMES), default=NAMES, metavar="W1,W2")
    add("--dtype", type=names_of(DTYPES), default=DTYPES, metavar="float64,float32")
    add("--baseline", metavar="FILE", help="write the ratios")
    add(
        "--gate",
        nargs="?",
        const=gate.BASELINE,
        metavar="FILE",
        help="fail where a ratio is 20 %% below the committed baseline, or FILE",
    )
    others = parser.add_argument_group("instead of the table of batches")
    others.add_argument("--single", action="store_true", help="one fit at a time, beside SciPy")
    others.add_argument("--first", action="store_true", help="what a process's first fit waits for")
    others.add_argument("--scaling", action="store_true", help="cores, sizes, stragglers, a file")
    others.add_argument("--constrained", action="store_true", help="bounds, losses, counts")
    others.add_argument("--gradients", action="store_true", help="derivatives of many fits")
    others.add_argument("--guesses", action="store_true", help="guesses of the ready models")
    others.add_argument(
        "--meaning", action="store_true", help="shared and linear parameters, errors, intervals"
    )
    others.add_argument("--numpy", action="store_true", help="models in NumPy and in Python")
    others.add_argument("--coverage", action="store_true", help="which models the lanes take")
    others.add_argument("--plot", metavar="FILE", help="speed against the size of the batch")
    options = parser.parse_args()
    # What would only come out after minutes.
    if options.plot and not set(PLOTTED) & set(options.workloads):
        parser.error(f"--plot is of {' and '.join(PLOTTED)}")
    if options.gate and not Path(options.gate).exists():
        parser.error(f"there is no baseline at {options.gate}; --baseline writes one")
    return options


def say(text):
    """Progress, apart from the output."""
    print(text, file=sys.stderr, flush=True)


def run_batches(options):
    """Rows of the table, and the row of the one large fit."""
    rows = []
    for name in options.workloads:
        for dtype in options.dtype if name in WORKLOADS else ():
            say(f"{name} {dtype}")
            rows.append(call("batch.measure", name, dtype, options.quick))
    large = None
    if "W6" in options.workloads and "float64" in options.dtype:
        say("W6")
        large = call("single.compare", "peak", 1_000_000)
    return rows, large


def run_curves(options):
    """Curves of the workloads that are plotted."""
    from benchmarks import curves

    result = []
    for name in PLOTTED:
        for dtype in options.dtype if name in options.workloads else ():
            say(f"curve {name} {dtype}")
            result.append(call("curves.measure", name, dtype, options.quick))
    curves.draw(result, options.plot)
    return result


def main():
    """Run what is asked for; the exit status."""
    options = parsed()
    results, texts, failed = {}, [report.header()], []
    if options.single:
        from benchmarks import single

        results["single"] = single.measure()
        texts.append(single.table(results["single"]))
    if options.first:
        from benchmarks import first

        results["first"] = first.measure()
        texts.append(first.table(results["first"]))
    if options.scaling:
        from benchmarks import scaling

        results["scaling"] = scaling.measure(options.quick, say)
        texts.append(report.scaling_text(results["scaling"]))
    if options.guesses:
        from benchmarks import model_guesses

        count = model_guesses.COUNT // (10 if options.quick else 1)
        results["guesses"] = call("model_guesses.measure", count)
        texts.append(model_guesses.table(results["guesses"]))
    if options.meaning:
        from benchmarks import meaning

        count = meaning.COUNT // (10 if options.quick else 1)
        results["meaning"] = call("meaning.measure", count)
        texts.append(meaning.table(results["meaning"]))
    if options.numpy:
        results["numpy"] = call("host_models.measure", options.quick)
        texts.append(host_models.table(results["numpy"]))
    if options.gradients:
        from benchmarks import gradients

        count = gradients.COUNT // (10 if options.quick else 1)
        results["gradients"] = call("gradients.measure", count)
        texts.append(gradients.table(results["gradients"]))
    if options.constrained:
        from benchmarks import constrained

        count = constrained.COUNT // (10 if options.quick else 1)
        results["constrained"] = [
            call("constrained.measure", count, dtype) for dtype in options.dtype
        ]
        texts.append(constrained.table(results["constrained"]))
    if options.coverage:
        results["coverage"] = call("coverage.measure")
        from benchmarks import coverage

        texts.append(coverage.table(results["coverage"]))
    if options.plot:
        results["curves"] = run_curves(options)
        texts.append(f"Plotted to {options.plot}.")
    if options.baseline or options.gate or not results:
        rows, large = run_batches(options)
        results |= {"batch": rows, "large": large}
        texts += [report.batch_table(rows)] if rows else []
        texts += [report.large_line(large)] if large else []
        measured = gate.ratios(rows, large)
        failed = gate.failures(options.gate, measured, options.quick) if options.gate else []
        if options.baseline:
            gate.write(options.baseline, measured, options.quick)
    print(json.dumps(results, indent=1) if options.json else "\n\n".join(texts))
    for line in failed:
        say(f"gate: {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
