"""The options of the command line, and values as they are typed."""

import argparse
import math
import textwrap
from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction
from pathlib import Path
from typing import Any

from jaxlsq import __version__
from jaxlsq.cli.drawing import WHICH
from jaxlsq.cli.formula import FUNCTIONS
from jaxlsq.cli.spelling import normal_name
from jaxlsq.cli.text import DELIMITERS

__all__ = ["parser"]

EXAMPLES = f"""\
examples:
  # every column but the first, which is x, is a data set
  jaxlsq fit decays.csv --model 'a*exp(-b*x) + c' --p0 a=1 b=1 c=0 --out fits.csv

  # a column with a name is x; some columns; bounds on one side; a parameter that stays
  jaxlsq fit runs.csv --x time --y 'run*' --model 'a*exp(-b*x) + c' \\
      --p0 a=1 b=1 c=0.3 --bounds a=0: b=0:10 --fixed c --nan omit

  # labelled rows, sets of different lengths; a plot of the worst fits
  jaxlsq fit long.csv --group id --x t --y signal --model 'a*x + b' --p0 a=1 b=0 \\
      --plot worst.png

  # a function decay(x, a=1.0, b=1.0) in model.py here; data in HDF5, one set a row
  jaxlsq fit data.h5::/run/y --x run/x --model model:decay --out fits.parquet

formulas:
  x is the variable; all other names are parameters, but pi and the functions
{textwrap.fill(" ".join(FUNCTIONS), 76, initial_indent="  ", subsequent_indent="  ")}
  where(condition, a, b), or a if condition else b. Powers are ** or ^.

exit codes:
  0 all fits converged; 1 some did not; 2 the command or its input is not right;
  3 the results could not be written where they should be; 130 interrupted.
"""


def parser() -> ArgumentParser:
    """The parser of all that follows ``jaxlsq``."""
    top = ArgumentParser("jaxlsq", description="Least-squares fits of many data sets.")
    top.add_argument("--version", action="version", version=f"jaxlsq {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="{fit,info}")
    info = commands.add_parser("info", help="versions, devices and engine, for bug reports")
    info.add_argument("--json", action="store_true", help="as JSON")
    fit = commands.add_parser(
        "fit",
        help="fit the data sets of a file",
        usage="jaxlsq fit DATA --model MODEL [--p0 NAME=VALUE ...] [options]",
        description="Fit one model to every data set of a file.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for add in (_data, _model, _settings, _output):
        add(fit)
    return top


def _data(fit: argparse.ArgumentParser):
    fit.add_argument(
        "data",
        help="CSV, TSV or other text (- is standard input), Parquet, .npy, .npz, HDF5, zarr; "
        "FILE::NAME is an array in a file",
    )
    group = fit.add_argument_group("data")
    group.add_argument(
        "--x",
        metavar="X",
        help="a column or array by name, a column's number from 0, a file, START:STOP:NUM (both "
        "ends among them), or 'index' for 0, 1, ...; the first column if not given, in files of "
        "arrays 'x', or else the index",
    )
    group.add_argument(
        "--y",
        metavar="Y",
        help="the columns that are fitted: names, patterns, numbers, with commas between them "
        "(a,b*); or the name of the array; all if not given",
    )
    group.add_argument(
        "--group", type=_names, metavar="ID", help="columns that say which data set a row is of"
    )
    group.add_argument("--sigma", help="standard deviation: a number, or as --x")
    group.add_argument("--absolute-sigma", action="store_true", help="sigma is in units of y")
    group.add_argument("--xsigma", help="standard deviation of x: a number, or as --x")
    group.add_argument(
        "--x-errors",
        choices=("odr", "effective_variance"),
        help="with --xsigma: orthogonal distances (the default), or an error added to sigma's",
    )
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--rows",
        action="store_true",
        default=None,
        help="rows are data sets, the first row is x (arrays: this is how they are read, (..., m))",
    )
    which.add_argument(
        "--columns",
        dest="rows",
        action="store_false",
        help="columns are data sets (tables: this is how they are read)",
    )
    group.add_argument(
        "--nan-policy",
        choices=("propagate", "omit", "raise"),
        help="what an empty cell or a NaN does: end its fit (the default), be left out, be an "
        "error",
    )
    group.add_argument("--delimiter", choices=list(DELIMITERS), help="found out if not given")
    group.add_argument("--decimal", choices=(".", ","), default=".", help="decimal point or comma")
    group.add_argument(
        "--header",
        action=BooleanOptionalAction,
        help="whether the first line has names; found out if not given",
    )
    group.add_argument("--float32", action="store_true", help="compute in single precision")


def _model(fit: argparse.ArgumentParser):
    group = fit.add_argument_group("model")
    group.add_argument(
        "--model",
        required=True,
        help="a formula of x ('a*exp(-b*x) + c'), models by name (gaussian, 'gaussian(p1_) + "
        "gaussian(p2_) + linear'), or MODULE:FUNCTION, a function f(x, a, b) in the current "
        "folder or installed",
    )
    pairs: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    group.add_argument(
        "--p0", type=_start, metavar="NAME=VALUE", help="where fits begin: a=1 b=2", **pairs
    )
    group.add_argument("--guess", metavar="MODULE:FUNCTION", help="guess(x, y) of one data set")
    group.add_argument(
        "--bounds", type=_bound, metavar="NAME=LOW:HIGH", help="a=0:1 b=0: c=:5", **pairs
    )
    group.add_argument("--fixed", type=_name, metavar="NAME", help="these stay at --p0", **pairs)


def _settings(fit: argparse.ArgumentParser):
    group = fit.add_argument_group("fit")
    losses = ("linear", "soft_l1", "huber", "cauchy", "arctan", "poisson")
    group.add_argument("--loss", choices=losses, help="against outliers; poisson for counts")
    group.add_argument("--f-scale", type=float, help="from where on a residual is an outlier")
    for name in ("ftol", "xtol", "gtol"):
        group.add_argument(f"--{name}", type=float, help="tolerance")
    group.add_argument("--max-nfev", type=int, help="limit on evaluations of each fit")
    group.add_argument("--starts", type=int, help="starts of each fit; the best one is kept")
    group.add_argument("--workers", type=int, help="threads; all cores if not given")


def _output(fit: argparse.ArgumentParser):
    group = fit.add_argument_group("output")
    group.add_argument(
        "--out", help="a row for each fit: .csv, .tsv, .parquet, .zarr; .npz for FitResult.load"
    )
    group.add_argument("--plot", help=".png, .pdf or .svg")
    group.add_argument("--plot-which", choices=WHICH, default="worst", help="what is plotted")
    group.add_argument(
        "--progress",
        action=BooleanOptionalAction,
        help="a progress bar; there is one if standard error is a terminal",
    )
    group.add_argument("-q", "--quiet", action="store_true", help="print errors and notes alone")
    group.add_argument("--debug", action="store_true", help="show where an error comes from")


# --- values -------------------------------------------------------------------------


def _names(text: str):
    return tuple(name.strip() for name in text.split(","))


def _name(text: str):
    name = normal_name(text)
    if name is None and not text.isidentifier():
        raise ArgumentTypeError(f"expected a parameter's name, got {text!r}")
    return name or text


def _pair(text: str, example: str):
    name, equals, value = text.partition("=")
    if not equals or "," in value:
        file = "; the file goes before the options" if Path(text).exists() else ""
        raise ArgumentTypeError(
            f"expected {example}, with spaces between several, got {text!r}{file}"
        )
    return _name(name.strip()), value.strip()


def _start(text: str):
    name, value = _pair(text, "NAME=VALUE, such as a=1")
    return name, _number(value, text)


def _bound(text: str):
    name, value = _pair(text, "NAME=LOW:HIGH, such as a=0:1, a=0: or a=:1")
    low, colon, high = value.partition(":")
    if not colon:
        raise ArgumentTypeError(f"expected NAME=LOW:HIGH, such as a=0: or a=:1, got {text!r}")
    ends = (low, -math.inf), (high, math.inf)
    return name, tuple(_number(end, text) if end.strip() else none for end, none in ends)


def _number(value: str, text: str):
    try:
        return float(value)
    except ValueError:
        raise ArgumentTypeError(f"{value!r} is no number, in {text!r}") from None
