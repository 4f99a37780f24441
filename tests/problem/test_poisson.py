"""Maximum likelihood of counts: closed forms, the deviance, bias, models that are not positive."""

from decimal import Decimal, getcontext

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxlsq import Status, curve_fit, fit
from jaxlsq.numerics.loss import POISSON, sum_of
from tests.decays import T, decay

COUNTS = np.random.default_rng(3).poisson(
    30.0 * np.exp(-np.linspace(0.4, 1.2, 10)[:, None] * T) + 2.0
)


def decay_on(t, a, k, c):
    return decay(t, a, k) + c


def deviance(mu, y):
    some = y > 0
    return 2 * np.sum(mu - y + np.where(some, y * np.log(np.where(some, y, 1) / mu), 0.0))


def exact_deviance(mu, y):
    getcontext().prec = 40
    mu, y = Decimal(float(mu)), Decimal(float(y))
    return float(2 * (mu - y - y * (mu / y).ln())) if y else float(2 * mu)


@pytest.fixture(scope="module")
def result():
    return fit(decay_on, T, COUNTS, (20.0, 1.0, 1.0), loss="poisson")


# --- the loss ---------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "close"), [(np.float64, 1e-15), (np.float32, 3e-7)])
def test_the_deviance_is_exact_to_the_rounding_of_the_counts(x64, dtype, close):
    rng = np.random.default_rng(0)
    y = np.concatenate([np.round(np.exp(rng.uniform(0, 14, 400))), np.zeros(20)]).astype(dtype)
    near = y * np.exp(rng.normal(size=420) * 10 ** rng.uniform(-6, 0.5, 420))
    mu = np.where(y > 0, near, rng.exponential(1.0, 420)).astype(dtype)
    _, _, found = POISSON(jnp.asarray(mu), jnp.asarray(y))
    expected = np.array([exact_deviance(*pair) for pair in zip(mu, y, strict=True)])
    # float64 is rounded as the counts are, float32 as the deviance is.
    size = expected + (y if dtype == np.float64 else 0.0)
    assert np.all(np.abs(np.asarray(found, float) - expected) <= 8 * close * size)


def test_where_it_is_not_defined(x64):
    mu = jnp.array([0.0, 0.0, -1.0, -1.0, 2.0, 1e-40])
    y = jnp.array([0.0, 3.0, 0.0, 3.0, 0.0, 0.0])
    slope, curvature, value = POISSON(mu, y)
    np.testing.assert_array_equal(np.isnan(value), [False, True, True, True, False, False])
    assert value[0] == pytest.approx(0.0, abs=1e-29)
    assert value[4] == 4.0
    assert np.all(np.isfinite(curvature))
    assert np.all(np.isfinite(slope))


def test_a_constant_is_the_mean_in_closed_form():
    y = np.random.default_rng(1).poisson(3.0, (40, 25))
    y[0] = 0
    y[0, 3] = 1
    found = fit(lambda t, c: c + 0.0 * t, np.arange(25.0), y, (1.0,), loss="poisson")
    assert found.success.all()
    np.testing.assert_allclose(found.x[:, 0], y.mean(axis=1), rtol=1e-9)
    # Fisher's information of a mean: its variance over the number of points.
    np.testing.assert_allclose(found.stderr[:, 0], np.sqrt(y.mean(axis=1) / 25), rtol=1e-6)
    np.testing.assert_allclose(found.chi2, [deviance(v.mean(), v) for v in y], rtol=1e-9, atol=1e-9)


# --- fits -------------------------------------------------------------------------------


def test_fits_are_those_that_minimize_the_deviance(result):
    assert result.success.all()
    assert len(np.unique(result.nfev)) > 2
    for i in range(len(COUNTS)):

        def half(p, y=COUNTS[i]):
            mu = p[0] * np.exp(-p[1] * T) + p[2]
            return 0.5 * deviance(mu, y) if np.all(mu > 0) else np.inf

        best = scipy.optimize.minimize(
            half, result.x[i] * 1.01, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-11}
        )
        assert result.cost[i] <= best.fun + 1e-7
        np.testing.assert_allclose(result.x[i], best.x, rtol=3e-3)
        np.testing.assert_allclose(result.cost[i], half(result.x[i]), rtol=1e-10)


def test_covariance_is_fishers(result):
    for i in (0, 7):
        a, k, c = result.x[i]
        e = np.exp(-k * T)
        rows = np.stack([e, -a * T * e, np.ones_like(T)], axis=1) / np.sqrt(a * e + c)[:, None]
        np.testing.assert_allclose(result.cov[i], np.linalg.inv(rows.T @ rows), rtol=1e-6)
    mu = result.predict()
    np.testing.assert_allclose(result.residuals, (mu - COUNTS) / np.sqrt(mu), rtol=1e-9)


def test_statistics_are_of_the_deviance(result):
    np.testing.assert_allclose(result.aic, result.chi2 + 6, rtol=1e-12)
    np.testing.assert_allclose(result.bic, result.chi2 + 3 * np.log(T.size), rtol=1e-12)
    null = [deviance(y.mean(), y) for y in COUNTS]
    np.testing.assert_allclose(result.r2, 1 - result.chi2 / null, rtol=1e-9)
    assert "deviance" in result.report(0)
    assert 0.5 < np.median(result.redchi) < 2.0


def test_a_loaded_result_knows_that_it_is_of_counts(result, tmp_path):
    result.save(tmp_path / "counts")
    loaded = type(result).load(tmp_path / "counts")
    np.testing.assert_array_equal(loaded.aic, result.aic)
    assert "deviance" in loaded.report(0)
    both = type(result).concat([result, result])
    np.testing.assert_array_equal(both.bic[: len(COUNTS)], result.bic)
    squares = fit(decay_on, T, COUNTS, (20.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="same parameters, kind of loss"):
        type(result).concat([result, squares])


@pytest.mark.parametrize("mean", [1.0, 2.0, 5.0])
def test_amplitudes_of_few_counts_are_unbiased_where_least_squares_is_not(mean):
    """Weighting by counts, with one for none, is the usual least squares of counts."""
    shape = np.exp(-0.5 * np.linspace(-2, 2, 24) ** 2)
    y = np.random.default_rng(int(10 * mean)).poisson(mean * shape, (20_000, 24))

    def peak(s, a):
        return a * s

    likely = fit(peak, shape, y, (1.0,), loss="poisson")
    squares = fit(peak, shape, y, (1.0,), sigma=np.sqrt(np.maximum(y, 1)))
    assert likely.success.mean() > 0.999
    error = likely.stderr[:, 0]
    bias = np.mean(likely.x[:, 0]) - mean
    assert abs(bias) < 4 * np.sqrt(mean / shape.sum() / len(y))
    assert np.mean(squares.x[:, 0]) < 0.93 * mean
    inside = np.abs(likely.x[:, 0] - mean) < error
    assert 0.62 < inside.mean() < 0.74


def test_masked_points_and_missing_ones(result):
    y = COUNTS.astype(float)
    y[:, 4] = np.nan
    omitted = fit(decay_on, T, y, (20.0, 1.0, 1.0), loss="poisson", nan_policy="omit")
    bad = COUNTS.copy()
    bad[:, 4] = -1
    masked = fit(decay_on, T, bad, (20.0, 1.0, 1.0), loss="poisson", mask=np.arange(T.size) != 4)
    left = np.arange(T.size) != 4
    fewer = fit(decay_on, T[left], COUNTS[:, left], (20.0, 1.0, 1.0), loss="poisson")
    np.testing.assert_allclose(omitted.x, fewer.x, rtol=1e-6)
    np.testing.assert_allclose(masked.x, fewer.x, rtol=1e-6)
    np.testing.assert_allclose(masked.r2, fewer.r2, rtol=1e-6)
    assert np.all(omitted.dof == fewer.dof)
    nan = fit(decay_on, T, y, (20.0, 1.0, 1.0), loss="poisson")
    assert np.all(nan.status == Status.NONFINITE_DATA)


def test_ragged_counts(result):
    ys = [COUNTS[i, : 15 + i % 4] for i in range(5)]
    found = fit(decay_on, [T[: len(y)] for y in ys], ys, (20.0, 1.0, 1.0), loss="poisson")
    alone = fit(decay_on, T[:16], ys[1], (20.0, 1.0, 1.0), loss="poisson")
    np.testing.assert_allclose(found.x[1], alone.x, rtol=1e-6)


def test_a_model_that_is_not_positive_is_reported():
    """At the start at once; on the way as a step that is rejected."""
    start = fit(decay_on, T, COUNTS, (20.0, 1.0, -30.0), loss="poisson")
    assert np.all(start.status == Status.NONFINITE_START)
    assert "positive" in start.message(0)
    line = np.random.default_rng(5).poisson(np.maximum(6.0 - 2.0 * T, 0.0), (50, T.size))
    found = fit(lambda t, b, c: b * t + c, T, line, (0.0, 3.0), loss="poisson")
    assert set(found.status.tolist()) <= {*range(1, 5), Status.NONFINITE_STEPS}
    assert np.all(np.isfinite(found.cost))
    stopped = found.status == Status.NONFINITE_STEPS
    assert stopped.any()
    assert "positive" in found[stopped].message(0)
    # A softplus is positive by itself.
    soft = fit(lambda t, b, c: jnp.logaddexp(b * t + c, 0.0), T, line, (0.0, 3.0), loss="poisson")
    assert soft.success.all()


def test_all_counts_zero():
    y = np.zeros((3, T.size), int)
    found = fit(decay, T, y, (1.0, 0.1), loss="poisson", bounds=([0.0, 0.0], [9.0, 9.0]))
    assert np.all(found.cost < 1e-12)
    assert np.all(np.isfinite(found.x))


def test_counts_that_the_model_meets_exactly():
    y = np.tile([8.0, 4.0, 2.0, 1.0], (3, 1))
    t = np.arange(4.0)
    for dtype in (np.float64, np.float32):
        found = fit(decay, t.astype(dtype), y.astype(dtype), (5.0, 1.0), loss="poisson")
        assert np.all(found.cost < 1e-6)
        np.testing.assert_allclose(found.x, [[8.0, np.log(2.0)]] * 3, rtol=1e-3)


@pytest.mark.long
def test_a_million_counts_in_both_types():
    y = np.random.default_rng(2).poisson(1e6 * np.exp(-0.8 * T) + 1e4, (20, T.size))
    wide = fit(decay_on, T, y, (5e5, 1.0, 1e3), loss="poisson")
    narrow = fit(
        decay_on, T.astype(np.float32), y.astype(np.float32), (5e5, 1.0, 1e3), loss="poisson"
    )
    assert wide.success.all()
    assert narrow.success.all()
    pull = (narrow.x - wide.x) / wide.stderr
    assert np.max(np.abs(pull)) < 0.1
    squares = fit(decay_on, T, y, (5e5, 1.0, 1e3), sigma=np.sqrt(y), absolute_sigma=True)
    assert np.max(np.abs((squares.x - wide.x) / wide.stderr)) < 0.2
    np.testing.assert_allclose(squares.stderr, wide.stderr, rtol=0.01)


def test_curve_fit(result):
    def with_numpy(t, a, k, c):
        return a * np.exp(-k * t) + c

    for model in (decay_on, with_numpy):
        popt, pcov = curve_fit(model, T, COUNTS[4], (20.0, 1.0, 1.0), method="trf", loss="poisson")
        np.testing.assert_allclose(popt, result.x[4], rtol=1e-3)
        np.testing.assert_allclose(pcov, result.cov[4], rtol=1e-3)
    with pytest.raises(ValueError, match="needs counts"):
        curve_fit(decay_on, T, COUNTS[4] + 0.5, (20.0, 1.0, 1.0), method="trf", loss="poisson")
    with pytest.raises(ValueError, match="takes no sigma"):
        curve_fit(
            decay_on, T, COUNTS[4], (20.0, 1.0, 1.0), np.ones(T.size), method="trf", loss="poisson"
        )


def test_sums_of_rows(x64):
    rows = (jnp.ones(3), jnp.array([1.0, 2.0, 3.0]))
    assert sum_of(rows) == 6.0
    assert sum_of(rows[:1]) == 3.0
