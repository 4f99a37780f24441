"""The search of many roots at once, of functions whose roots are known."""

import numpy as np
import pytest

from jaxlsq.results.roots import MOST, End, Roots


def search(function, goal, first, reach=np.inf, slope=None):
    """Ends and distances of roots, and the number of points that it took."""
    goal, first = np.atleast_1d(goal).astype(float), np.atleast_1d(first).astype(float)
    reach = np.full(goal.size, reach)
    slope = first / goal if slope is None else np.full(goal.size, slope)
    roots, left = Roots.begin(goal, reach, slope, first), np.arange(goal.size)
    ends, distances = np.full(goal.size, End.SEARCHED), np.full(goal.size, np.nan)
    for count in range(1, MOST + 2):
        z = function(roots.trial)
        roots, now, at = roots.moved(z, np.isfinite(z))
        ends[left], distances[left] = now, at
        more = now == End.SEARCHED
        roots, left = roots.take(np.flatnonzero(more)), left[more]
        if not left.size:
            return ends, distances, count
    raise AssertionError("it does not end")


def test_a_straight_line_takes_one_point():
    ends, distances, count = search(lambda d: 0.5 * d, goal=[2.0, 3.0], first=[4.0, 6.0])
    assert count == 1
    assert (ends == End.FOUND).all()
    np.testing.assert_allclose(distances, [4.0, 6.0], rtol=1e-15)


@pytest.mark.parametrize("bend", [-0.2, -0.05, 0.05, 0.3, 1.0])
def test_bent_lines_take_a_few(bend):
    """z = sinh(bend d) / bend, a saturating logarithm or a steep rise, from the tangent on."""
    goal = np.array([1.0, 2.0, 3.0])
    function, inverse = np.sinh, np.arcsinh
    if bend < 0:
        function, inverse = inverse, function
    ends, distances, count = search(
        lambda d: function(np.abs(bend) * d) / np.abs(bend), goal, first=1.02 * goal
    )
    assert (ends == End.FOUND).all()
    assert count <= 6
    np.testing.assert_allclose(distances, inverse(np.abs(bend) * goal) / np.abs(bend), rtol=1e-7)


def test_a_square_root_whose_tangent_is_vertical():
    """As a profile is whose minimum is at a bound."""
    ends, distances, count = search(lambda d: np.sqrt(3 * d), 2.0, 1.0, slope=0.0)
    assert ends[0] == End.FOUND
    assert count <= 4
    np.testing.assert_allclose(distances, 4 / 3, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 1e-1, 10.0, 1e3])
def test_a_first_point_that_is_far_off(scale):
    ends, distances, _ = search(lambda d: d + 0.1 * d**2, 2.0, 2.0 * scale)
    assert ends[0] == End.FOUND
    np.testing.assert_allclose(distances, 5 * (np.sqrt(1 + 0.8) - 1), rtol=1e-7)


def test_what_saturates_has_no_root():
    for limit in (0.5, 1.9, 1.99):
        ends, distances, count = search(lambda d, s=limit: s * d / (1 + d), 2.0, 2.0)
        assert ends[0] == End.OPEN
        assert np.isinf(distances[0])
        assert count < 20
    ends, distances, _ = search(lambda d: 2.001 * d / (1 + d), 2.0, 2.0)
    assert ends[0] == End.FOUND
    np.testing.assert_allclose(distances, 2000.0, rtol=1e-5)
    assert search(lambda d: 0.0 * d, 2.0, 1.0)[0][0] == End.OPEN


def test_what_rises_slowly_has_one():
    ends, distances, _ = search(lambda d: np.log1p(d), 8.0, 8.0)
    assert ends[0] == End.FOUND
    np.testing.assert_allclose(distances, np.expm1(8.0), rtol=1e-6)


def test_the_reach():
    function = lambda d: 0.5 * d  # noqa: E731
    ends, distances, _ = search(function, [2.0, 2.0], [4.0, 1.0], reach=3.0)
    assert (ends == End.BOUND).all()
    assert (distances == 3.0).all()
    assert search(function, 2.0, 4.0, reach=4.5)[0][0] == End.FOUND
    assert (
        search(lambda d: 0.5 * d * (1 + 1e-9), 2.0, 3.999999999, reach=3.9999999)[0][0] == End.BOUND
    )


def test_places_where_there_is_no_value():
    def before(edge):
        return lambda d: np.where(d < edge, d, np.nan)

    ends, distances, _ = search(before(2.1), 2.0, 5.0)
    assert ends[0] == End.FOUND
    np.testing.assert_allclose(distances, 2.0, rtol=1e-7)
    ends, distances, _ = search(before(1.5), 2.0, 1.0)
    assert ends[0] == End.NOT_FOUND
    assert np.isnan(distances[0])
    assert search(lambda d: np.nan * d, 2.0, 1.0)[0][0] == End.NOT_FOUND


def test_a_wrong_value_above_is_forgotten():
    """A fit that ended in another valley, once, and one that failed, once."""
    for wrong in (1e9, np.nan):
        seen = []

        def function(d, wrong=wrong, seen=seen):
            seen.append(d[0])
            return np.where(len(seen) == 3, wrong, d / (1 + 0.2 * d))

        ends, distances, _ = search(function, 3.0, 3.0)
        assert ends[0] == End.FOUND
        np.testing.assert_allclose(distances, 7.5, rtol=1e-6)


def test_a_root_does_not_depend_on_its_neighbours():
    bends = np.random.default_rng(0).uniform(-0.05, 0.5, 50)
    together = []
    goal = np.full(50, 2.0)
    roots, left = Roots.begin(goal, goal * np.inf, goal / 2, goal), np.arange(50)
    found = np.full(50, np.nan)
    while left.size:
        z = roots.trial + bends[left] * roots.trial**2
        roots, ends, at = roots.moved(z, np.isfinite(z))
        found[left] = at
        more = ends == End.SEARCHED
        roots, left = roots.take(np.flatnonzero(more)), left[more]
    for bend in bends:
        together.append(search(lambda d, b=bend: d + b * d**2, 2.0, 2.0)[1][0])
    np.testing.assert_array_equal(found, together)
