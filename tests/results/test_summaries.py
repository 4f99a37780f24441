"""What summaries and reports say of fits that did not converge, and one sign for residuals."""

from dataclasses import replace

import numpy as np
import pytest

from jaxlsq import Status, fit
from tests.decays import P0, T, Y, decay


def test_only_fits_that_converged_are_counted_at_bounds():
    y = Y.copy()
    y[:5] = np.nan
    result = fit(decay, T, y, {"a": 1.5, "k": 1.0}, bounds={"a": (1.5, 2.0)}, fixed="k")
    # Those with NaN stay at their start, which is the lower bound.
    assert np.all(result.active_mask[:5, 0] == -1)
    good = result.success
    lower = np.count_nonzero(result.active_mask[good, 0] == -1)
    upper = np.count_nonzero(result.active_mask[good, 0] == 1)
    assert good.sum() == len(Y) - 5
    assert upper > 0
    for text in (str(result.summary()), result._repr_html_()):
        assert f"{upper} at its upper bound" in text
        assert f"{len(Y) - 5} fixed" in text
        assert (f"{lower} at its lower bound" in text) == (lower > 0)


@pytest.fixture
def masked_out():
    """A result in which two fits have no points."""
    code = getattr(Status, "MASKED_OUT", None)
    if code is None:
        pytest.skip("there is no such status")
    mask = np.ones_like(Y, bool)
    mask[[2, 7]] = False
    return fit(decay, T, Y, P0, mask=mask)


def test_fits_without_points_are_no_failures(masked_out):
    result = masked_out
    np.testing.assert_array_equal(np.flatnonzero(result.masked_out), [2, 7])
    assert not result.failed.any()
    assert result.success.sum() == len(Y) - 2
    words = f"{len(Y)} fits, {len(Y) - 2} converged, 0 did not, 2 masked out, "
    each = result.nfev[result.success].mean()
    assert f"{words}{each:.1f} evaluations each" in repr(result)
    assert result.refit() is result


def test_success_needs_finite_numbers():
    result = fit(decay, T, Y, P0)
    cost, x = result.cost.copy(), result.x.copy()
    cost[1], x[4, 0] = np.inf, np.nan
    spoiled = replace(result, cost=cost, x=x)
    np.testing.assert_array_equal(np.flatnonzero(~spoiled.success), [1, 4])
    np.testing.assert_array_equal(spoiled.failed, ~spoiled.success)


def test_residuals_and_plots_have_one_sign():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    result = fit(decay, T, Y, P0)
    model = result.x[3, 0] * np.exp(-result.x[3, 1] * T)
    np.testing.assert_allclose(result.residuals[3], model - Y[3], atol=1e-12)
    _, lower = result.plot(3)
    assert lower.get_ylabel() == "fit - data"
    drawn = lower.containers[0][0].get_ydata()
    np.testing.assert_allclose(drawn, result.residuals[3], atol=1e-12)
    pyplot.close("all")
