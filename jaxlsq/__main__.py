"""``python -m jaxlsq``: NIST's reference problems, fitted and bootstrapped."""

import sys

from jaxlsq.demo.nist_table import main

if __name__ == "__main__":
    sys.exit(main())
