"""Fits that are drawn: nothing is wrong, and the checks would see it if it were."""

from dataclasses import replace

import numpy as np
import pytest

from tests.fuzz.causes import ALLOWED, EARLY, OUTSIDE, SAME, UNSAID, UNTRUE, Ends, causes
from tests.fuzz.checks import Question
from tests.fuzz.curves import BY_NAME
from tests.fuzz.draw import draw
from tests.fuzz.kinds import KINDS
from tests.fuzz.table import table, tally


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_hundred_fits_are_as_scipys_and_in_a_batch_as_alone():
    found = tally(80, 1, ["SciPy", "one alone"])
    assert 78 <= found.cases <= 80
    assert not found.wrong, "\n".join(found.wrong)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_fits_have_a_cause_for_each_difference(kind):
    found = tally(800, 1, [kind])
    count = found.counts[kind]
    assert set(count) <= {*ALLOWED}, "\n".join(found.wrong)
    assert count[SAME] > 20, table(found)


def test_a_wrong_end_is_seen():
    """Of fits of a line, whose minimum is known."""
    rng = np.random.default_rng(0)
    lanes = draw(BY_NAME["line"], rng, 40, 12)
    x = lanes.x
    good = np.flatnonzero(np.isfinite(lanes.y).all(1) & lanes.live.all(1) & (np.ptp(lanes.y) > 0))
    lanes = lanes.take(good)
    rows = np.stack([x, np.ones_like(x)], axis=1)
    best = []
    for y, w in zip(lanes.y, lanes.weight, strict=True):
        best.append(np.linalg.lstsq(w[:, None] * rows, w * y, rcond=None)[0])
    best, size = np.array(best), len(lanes)
    question = Question(lanes)
    costs = question.costs(best)
    right = Ends(best, np.full(size, True), np.ones(size), np.ones(size), costs)

    def found(lanes=lanes, **changed):
        ours = replace(right, **changed)
        return causes(Question(lanes), ours, right, lambda lanes: repeated(right, len(lanes)))

    def repeated(ends, count):
        return replace(ends, x=np.repeat(best[:1], count, 0), success=np.full(count, False))

    assert set(found()) == {SAME}
    aside = best + 1.0 + np.abs(best)
    cost = question.costs(aside)
    assert set(found(x=aside, cost=cost)) == {EARLY}
    assert set(found(cost=costs + 1.0)) <= {UNTRUE, SAME}
    assert UNTRUE in found(cost=costs + 1.0)
    shut = replace(lanes, upper=best - 1.0, p0=best - 2.0)
    assert set(found(shut)) == {OUTSIDE}
    failed = {"success": np.full(size, False), "status": np.full(size, -4)}
    assert set(found(**failed)) == {UNSAID}
