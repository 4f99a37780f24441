"""Reference problems with certified answers."""

from jaxlsq.datasets.nist import NIST_NAMES, NistProblem, load_nist

__all__ = ["NIST_NAMES", "NistProblem", "load_nist"]
