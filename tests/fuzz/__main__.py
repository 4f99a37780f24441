"""``python -m tests.fuzz --cases 100000 --seed 0`` prints the table of differences by cause."""

import argparse
import platform
import sys
import time
import warnings

import jax
import numpy as np
import scipy

import jaxlsq
from tests.fuzz.kinds import KINDS
from tests.fuzz.table import table, tally


def main() -> int:
    """Run, print, and return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", choices=[*KINDS], help="some of them")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    begin = time.perf_counter()

    def report(line):
        print(f"{time.perf_counter() - begin:7.0f} s  {line}", file=sys.stderr, flush=True)

    found = tally(given.cases, given.seed, given.kinds, report)
    versions = f"jaxlsq {jaxlsq.__version__}, JAX {jax.__version__}, NumPy {np.__version__}, "
    versions += f"SciPy {scipy.__version__}, Python {platform.python_version()}"
    print(f"{found.cases:,} cases, seed {given.seed}; {versions}\n")
    print(table(found))
    for line in found.wrong:
        print("-", line)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
