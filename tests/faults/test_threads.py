"""Different doors in threads at once: each gives what it gives alone, to the bit."""

import functools
import itertools

import numpy as np
import pytest

from jaxlsq import clear_cache
from tests.api.test_faults import together
from tests.faults.doors import DOORS, called

# Each door beside the next one; `command` exchanges the process's stdout.
NAMES = [name for name in DOORS if name != "command"]
PAIRS = list(itertools.pairwise([*NAMES, NAMES[0]]))


alone = functools.cache(called)


def check(names):
    expected = [alone(name) for name in names]
    clear_cache()  # all compile
    all_found = together([lambda n=n: called(n) for n in names])
    for name, found, right in zip(names, all_found, expected, strict=True):
        assert not isinstance(found, BaseException), (name, found)
        for one, other in zip(found, right, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.long_but("xsigma-neighbours", "profile-bootstrap")
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_two_doors_at_once(pair):
    check(pair)


@pytest.mark.long
def test_all_doors_at_once():
    check(NAMES)
    check(NAMES[::-1])
