"""Different doors in threads at once: each gives what it gives alone, to the bit."""

import itertools

import numpy as np
import pytest

from jaxlsq import clear_cache
from tests.api.test_faults import together
from tests.faults.doors import DOORS, called

# Each door beside the next one; `command` exchanges the process's stdout.
NAMES = [name for name in DOORS if name != "command"]
PAIRS = list(itertools.pairwise([*NAMES, NAMES[0]]))


@pytest.fixture(scope="module")
def alone():
    return {name: called(name) for name in NAMES}


def check(names, alone):
    for name, found in zip(names, together([lambda n=n: called(n) for n in names]), strict=True):
        assert not isinstance(found, BaseException), (name, found)
        for one, other in zip(found, alone[name], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.long_but("shared-linear", "xsigma-neighbours", "profile-bootstrap", "python-guesses")
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_two_doors_at_once(pair, alone):
    clear_cache()  # both compile
    check(pair, alone)


@pytest.mark.long
def test_all_doors_at_once(alone):
    check(NAMES, alone)
    check(NAMES[::-1], alone)
