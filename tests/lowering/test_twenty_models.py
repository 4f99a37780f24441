"""Both engines on models of many kinds: the same ends, evaluations and solutions."""

import numpy as np
import pytest

from jaxlsq.lowering.engine import LANES
from tests.lowering.twenty import CASES, compare, shares

COUNT = 400
# Shares that are lower, and why; the others are 99 %.  A minimum that the data hardly determine
# is left by other roads, where the last digit of a sum decides about a step.
LOWER = {
    # Exponent near zero, which is a second offset.
    "power and offset": {"status": 0.97, "nfev": 0.98},
    # Two terms that nearly cancel.
    "chain of reactions": {"cost": 0.97},
    # Newton's step ends at the minimum to the last digit: rounding says whether ftol holds too.
    "two lines that meet": {"status": 0.6},
}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_the_engines_agree(name):
    found = compare(CASES[name], COUNT)
    assert found.engines == (LANES, "XLA: it was asked for")
    assert np.sum(found.one) <= 1
    assert np.mean(found.both) > 0.98
    assert np.mean(found.tolerance[found.both]) > 0.995
    for key, share in shares(found).items():
        assert share > LOWER.get(name, {}).get(key, 0.99), (key, share)
