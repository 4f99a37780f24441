"""Comparison of models beside closed forms, SciPy's distributions and simulations."""

import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from scipy import stats

from jaxlsq import FitResult, compare, fit
from tests.decays import P0, SIGMA, B, T, Y, decay, noise

NAMES = ("decay", "with offset", "line")


def offset(t, a, k, c):
    return decay(t, a, k) + c


def line(t, a, b):
    return a + b * t


def fits(y=Y, **options):
    return (
        fit(decay, T, y, P0, **options),
        fit(offset, T, y, (*P0, 0.0), **options),
        fit(line, T, y, (1.0, 0.0), **options),
    )


@pytest.fixture(scope="module")
def results():
    return fits()


@pytest.fixture(scope="module")
def comparison(results):
    return compare(*results, names=NAMES)


def test_criteria(results, comparison):
    m, n = T.size, np.array([2, 3, 2])
    chi2 = np.stack([np.sum(np.square(result.residuals), axis=1) for result in results], axis=1)
    bic = m * np.log(chi2 / m) + n * np.log(m)
    aicc = m * np.log(chi2 / m) + 2 * n + 2 * (n + 1) * (n + 2) / (m - n - 2)
    np.testing.assert_allclose(comparison.chi2, chi2, rtol=1e-10)
    np.testing.assert_allclose(comparison.bic, bic, rtol=1e-10)
    np.testing.assert_allclose(comparison.aicc, aicc, rtol=1e-10)
    np.testing.assert_allclose(results[1].aicc, aicc[:, 1], rtol=1e-10)
    np.testing.assert_allclose(comparison.delta, aicc - aicc.min(axis=1, keepdims=True), rtol=1e-9)
    weight = np.exp(-0.5 * comparison.delta)
    np.testing.assert_allclose(
        comparison.weight, weight / weight.sum(axis=1, keepdims=True), rtol=1e-9
    )
    np.testing.assert_array_equal(comparison.best, aicc.argmin(axis=1))


def test_the_correction_is_hurvichs_and_tsais():
    """n ln s^2 + n (1 + p/n) / (1 - (p + 2)/n), but for the terms that all models have."""
    result = fit(lambda x, a, b: a + b * x, np.arange(7.0), np.sin(np.arange(7.0)), (0.0, 0.0))
    n, p = 7, 2
    theirs = n * np.log(result.chi2 / n) + n * (1 + p / n) / (1 - (p + 2) / n)
    np.testing.assert_allclose(result.aicc, theirs - n + 2 * 0 - 2, rtol=1e-12)
    few = fit(lambda x, a, b: a + b * x, np.arange(4.0), np.sin(np.arange(4.0)), (0.0, 0.0))
    assert np.isposinf(few.aicc)


def test_nested_models(results, comparison):
    small, large, _ = results
    f = (small.chi2 - large.chi2) / (large.chi2 / (T.size - 3))
    test = comparison.f_test("decay", "with offset")
    np.testing.assert_allclose(test.statistic, f, rtol=1e-8)
    np.testing.assert_allclose(test.p, stats.f.sf(f, 1, T.size - 3), rtol=1e-8)
    ratio = T.size * np.log(small.chi2 / large.chi2)
    test = comparison.likelihood_ratio(0, 1)
    np.testing.assert_allclose(test.statistic, ratio, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(test.p, stats.chi2.sf(ratio, 1), rtol=1e-7)


def test_of_a_line_f_is_exact():
    """If the smaller of two linear models is true, p is uniform for any number of points."""
    rng, x = np.random.default_rng(0), np.arange(7.0)
    y = 1 + 0.5 * x + rng.normal(size=(4000, 7))
    small = fit(line, x, y, (0.0, 0.0))
    large = fit(lambda x, a, b, c, d: a + b * x + c * x**2 + d * x**3, x, y, np.zeros(4))
    both = compare(small, large)
    assert stats.kstest(both.f_test(0, 1).p, "uniform").pvalue > 0.01
    # The likelihood ratio needs many points, and errs on the side of the larger model.
    assert np.mean(both.likelihood_ratio(0, 1).p < 0.05) > 0.1


def test_a_known_variance():
    small, large, _ = fits(sigma=SIGMA, absolute_sigma=True)
    both = compare(small, large)
    assert both.known
    log_likelihood = stats.norm.logpdf(large.residuals).sum(axis=1)  # of unit errors
    n, same = 3, T.size * np.log(2 * np.pi)
    np.testing.assert_allclose(large.aic, -2 * log_likelihood + 2 * n - same, rtol=1e-10)
    np.testing.assert_allclose(large.bic, large.aic - 2 * n + n * np.log(T.size), rtol=1e-12)
    for name in ("aicc", "bic"):
        np.testing.assert_array_equal(getattr(both, name)[:, 1], getattr(large, name))
    test = both.likelihood_ratio(0, 1)
    np.testing.assert_allclose(test.statistic, small.chi2 - large.chi2, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(test.p, stats.chi2.sf(test.statistic, 1), rtol=1e-9)


def test_of_known_errors_akaikes_criterion_is_right_on_average_for_few_points():
    """It estimates the chi-squared of new data, which the corrected one would not."""
    rng, x, true = np.random.default_rng(0), np.arange(6.0), 1 + 0.5 * np.arange(6.0)
    y, new = true + rng.normal(size=(2, 4000, 6))
    known = {"sigma": np.ones(6), "absolute_sigma": True}
    result = fit(lambda x, a, b, c: a + b * x + c * x**2, x, y, np.zeros(3), **known)
    excess = np.sum(np.square(new - result.predict()), axis=1) - result.aicc
    assert abs(excess.mean()) < 4 * excess.std() / np.sqrt(4000)
    few = fit(line, x[:3], y[:9, :3], (0.0, 0.0), sigma=np.ones(3), absolute_sigma=True)
    assert np.all(np.isfinite(few.aicc))


def test_counts():
    rng = np.random.default_rng(0)
    y = rng.poisson(300 * np.exp(-T) + 50, (300, T.size))
    small = fit(decay, T, y, (300.0, 1.0), loss="poisson")
    large = fit(offset, T, y, (300.0, 1.0, 40.0), loss="poisson")
    both = compare(small, large, names=["decay", "offset"])
    assert np.mean(both.best == 1) > 0.95
    n = np.array([2, 3])
    aicc = both.chi2 + 2 * n + 2 * n * (n + 1) / (T.size - n - 1)
    np.testing.assert_allclose(both.aicc, aicc, rtol=1e-12)
    test = both.likelihood_ratio("decay", "offset")
    np.testing.assert_allclose(test.statistic, small.chi2 - large.chi2, rtol=1e-9)
    with pytest.raises(ValueError, match="likelihood_ratio"):
        both.f_test(0, 1)


def test_fits_that_failed():
    y = Y.reshape(3, 4, -1).copy()
    y[1, 2, 5] = np.nan
    small = fit(decay, T, y, P0)
    large = fit(offset, T, y, (*P0, 0.0), max_nfev=6)
    assert 0 < large.success.sum() < 11
    both = compare(small, large)
    assert both.best.shape == (3, 4)
    assert both.best[1, 2] == -1
    assert np.isnan(both.weight[1, 2]).all()
    alone = small.success & ~large.success
    np.testing.assert_array_equal(both.weight[alone], [[1.0, 0.0]] * alone.sum())
    assert np.isnan(both.f_test(0, 1).p[alone]).all()
    assert "1 of them without a fit that converged" in repr(both)


def test_a_larger_model_that_is_worse_says_nothing():
    x = np.linspace(0, 6, 40)
    y = np.sin(3 * x) + 0.01 * np.random.default_rng(0).normal(size=x.size)
    small = fit(lambda x, w: jnp.sin(w * x), x, y, [2.9])
    large = fit(lambda x, a, w: a * jnp.sin(w * x), x, y, [0.1, 8.0])  # another minimum
    assert large.chi2 > small.chi2
    assert np.isnan(compare(small, large).f_test(0, 1).p)


def test_exact_fits_and_too_few_points():
    x = np.arange(4.0)
    exact = fit(line, x, np.full((2, 4), 0.0), (0.0, 0.0))
    more = fit(lambda x, a, b, c: a + b * x + c * x**2, x, np.full((2, 4), 0.0), np.zeros(3))
    both = compare(exact, more)
    assert both.best.shape == (2,)
    assert not np.isnan(both.delta[:, both.best[0]]).any()


def test_text_and_table(comparison):
    text = repr(comparison)
    assert "3 models of 12 fits" in text
    for name in NAMES:
        assert name in text
    table = comparison.to_frame("pandas")
    assert len(table) == B
    assert table["best"].tolist() == [NAMES[k] for k in comparison.best]
    np.testing.assert_array_equal(table["weight_line"], comparison.weight[:, 2])
    assert comparison.to_frame("polars").shape == (B, 17)


def test_tables_have_the_index_of_the_data(results):
    rows = pandas.DataFrame(Y, index=[f"well {i}" for i in range(B)])
    both = compare(*fits(rows), names=NAMES)
    assert both.to_frame("pandas").index.tolist() == rows.index.tolist()


def test_results_of_other_data_are_refused(results, tmp_path):
    small, large, _ = results
    cases = {
        "shapes": (small, large[:5]),
        "absolute_sigma": (small, fits(sigma=SIGMA, absolute_sigma=True)[1]),
        "loss is not": (small, fits(loss="huber")[1]),
        "ydata is not": (small, fits(Y + noise(Y.shape, 7))[1]),
        "sigma is not": (small, fits(sigma=SIGMA)[1]),
        "mask is not": (fits(mask=T[-1] > T)[0], fits(mask=T > 0)[1]),
        "points": (small, fits(mask=T > 0)[1]),
        "mask is": (
            fits(np.ma.masked_array(Y, np.broadcast_to(T == 0, Y.shape)))[0],
            fits(mask=T[-1] > T)[1],
        ),
        "poisson": (
            fit(decay, T, np.ones((B, T.size)), P0, loss="poisson"),
            fit(offset, T, np.ones((B, T.size)), (*P0, 1.0)),
        ),
    }
    for match, pair in cases.items():
        with pytest.raises(ValueError, match=f"not of the same data.*{match}"):
            compare(*pair)
    both = compare(small, fits(np.ma.masked_array(Y, Y < -9))[1])  # nothing is masked
    np.testing.assert_array_equal(both.best, compare(small, large).best)
    # Without the data it is their shapes and numbers that are compared.
    large.save(tmp_path / "large.npz")
    loaded = FitResult.load(tmp_path / "large.npz")
    np.testing.assert_array_equal(compare(small, loaded).best, compare(small, large).best)


@pytest.mark.long
def test_robust_losses_are_compared_by_what_they_are():
    def rho(z):
        return jnp.log1p(z), 1 / (1 + z), -1 / (1 + z) ** 2

    small, large, _ = fits(loss=rho)
    assert compare(small, large).best.shape == (B,)
    with pytest.raises(ValueError, match="loss is not"):
        compare(small, fits(loss=lambda z: (z, 1 + 0 * z, 0 * z))[1])
    with pytest.raises(ValueError, match="f_scale is not"):
        compare(fits(loss="huber")[0], fits(loss="huber", f_scale=0.1)[1])


@pytest.mark.long
def test_losses_that_read_tables_are_compared_by_what_is_in_them():
    def rho_of(a, at=None):
        table = np.full(20_000, a) if at is None else at

        def rho(z):
            a = table[0]
            return a * jnp.log1p(z / a), 1 / (1 + z / a), -1 / a / (1 + z / a) ** 2

        return rho

    for one, same, another in (
        (rho_of(1.0), rho_of(1.0), rho_of(2.0)),
        (*(rho_of(0, jnp.full(3, a)) for a in (1.0, 1.0, 2.0)),),
    ):
        small = fits(loss=one)[0]
        assert compare(small, fits(loss=same)[1]).best.shape == (B,)
        with pytest.raises(ValueError, match="loss is not"):
            compare(small, fits(loss=another)[1])


def test_improper_arguments(results, comparison):
    small, large, _ = results
    with pytest.raises(TypeError, match="two results"):
        compare(small)
    with pytest.raises(TypeError, match="takes results of fits, got ndarray"):
        compare(small, Y)
    with pytest.raises(ValueError, match="2 different texts"):
        compare(small, large, names=["a", "a"])
    with pytest.raises(ValueError, match="more parameters: 'line' has 2, and 'decay' has 2"):
        comparison.f_test("decay", "line")
    with pytest.raises(ValueError, match=r"the models are .* got 'cubic'"):
        comparison.f_test("decay", "cubic")
