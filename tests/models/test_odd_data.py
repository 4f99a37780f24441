"""Fits of ready models to data in which there is nothing, little, or too much."""

import warnings

import numpy as np
import pytest

from benchmarks.model_guesses import CASES, data
from jaxlsq import Status, fit
from jaxlsq.models import Constant, Gaussian

# Models of which a constant is a special case that leaves a parameter without a meaning.
WITH_LEVEL = (
    "ExponentialOffset",
    "BiExponential",
    "T1Recovery",
    "FourPL",
    "FivePL",
    "Association",
    "Dissociation",
)
SHORT = ("Constant", "Linear", "Gaussian", "ExponentialOffset", "FourPL")
ALL = [(name, dtype) for name in CASES for dtype in ("float64", "float32")]
# Amplitudes at x = 0 are beyond the type, and so are powers of x.
BEYOND = (Status.NONFINITE_JACOBIAN, Status.NONFINITE_STEPS, Status.NONFINITE_COST)


def odd_rows(case):
    """x, y and mask of each odd data set by name, all with the same number of points."""
    x, m = case.x, case.x.shape[-1]
    usual = data(case, 1, 0.05, seed=5)[1][0]
    unit = usual / np.abs(usual).max()
    spiked, alone = usual.copy(), np.full(m, 3.0)
    spiked[m // 3] += 1e3 * np.ptp(usual)
    alone[m // 3] = 1e4
    every, two = np.ones(m, bool), np.isin(np.arange(m), [0, m - 1])
    ys = {"unit": unit, "huge": 1e30 * unit, "tiny": 1e-30 * unit, "spiked": spiked, "one": alone}
    rows = {name: (x, y, every) for name, y in ys.items()}
    for level in (0.0, 3.0, -0.1, 1e30, 1e-30):
        rows[f"all {level}"] = x, np.full(m, level), every
    for what, place in (("same x", np.ones_like(x)), ("far x", x + 1e9)):
        for name, y in (("", usual), (" constant", np.full(m, 3.0)), (" zero", np.zeros(m))):
            rows[what + name] = place, y, every
    rows["two"] = x, np.linspace(1.0, 2.0, m), two
    rows["two same"] = x, np.full(m, 3.0), two
    return rows


@pytest.mark.long_but("Constant-float64")
@pytest.mark.parametrize(("name", "dtype"), ALL, ids=["-".join(pair) for pair in ALL])
def test_odd_data_start_finite_and_end_with_a_true_status(name, dtype):
    case = CASES[name]
    rows = odd_rows(case)
    x, y, mask = (np.stack(values) for values in zip(*rows.values(), strict=True))
    x, y = list(x.astype(dtype)), list(y.astype(dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        begun = fit(case.model, x, y, mask=list(mask), max_nfev=1, polish=None)
        result = fit(case.model, x, y, mask=list(mask))
        assert np.isfinite(begun.x).all(), [*rows][int(np.argmin(np.isfinite(begun.x).all(1)))]
        errors = np.sqrt(np.diagonal(result.cov, axis1=1, axis2=2))
        result.suspect  # noqa: B018
    for k, what in enumerate(rows):
        status, n = Status(int(result.status[k])), len(case.model.names)
        if status < 0:
            too_few = what.startswith("two") and n > 2
            known = {Status.TOO_FEW_POINTS} if too_few else {Status.SINGULAR_JACOBIAN}
            assert status in known | (set(BEYOND) if what.startswith("far") else set()), what
            if status == Status.SINGULAR_JACOBIAN and name in WITH_LEVEL:
                # By rounding either infinite or next to it.
                assert np.any(errors[k] > 1e4 * np.abs(y[k]).max()), what
        else:
            assert not np.isnan(errors[k]).any(), what
        if name in WITH_LEVEL and what.startswith("all"):
            assert status == Status.SINGULAR_JACOBIAN, what
            np.testing.assert_array_equal(result[k].predict(), y[k], what)
    # Units of y change nothing, and the fit of what is usual ends as well as ever.
    if result.success[0]:
        digits = 1e-6 if dtype == "float64" else 1e-3
        costs = [float(result.cost[k]) / scale**2 for k, scale in enumerate((1.0, 1e30, 1e-30))]
        np.testing.assert_allclose(costs[1:], costs[0], rtol=digits)
        assert result.success[1:3].all()


@pytest.mark.parametrize("level", [3.0, 1e30, 1e-30])
def test_a_constant_in_any_unit_is_determined(level):
    result = fit(Constant(), np.arange(9.0), np.full(9, level))
    assert result.success
    assert result.params["c"] == level


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_peak_on_a_constant_that_is_all_there_is(dtype):
    y = np.full((4, 50), [[0.1], [-7.3], [1e30], [0.0]], dtype)
    result = fit(Gaussian() + Constant(), np.linspace(0.0, 10.0, 50, dtype=dtype), y)
    assert (result.status == Status.SINGULAR_JACOBIAN).all()
    np.testing.assert_array_equal(result.x[:, 0], 0.0)
    np.testing.assert_array_equal(result.x[:, 3].astype(dtype), y[:, 0])
    assert np.isinf(result.stderr["center"]).all()
