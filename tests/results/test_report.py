"""Statistics, bands and reports of `FitResult`."""

import re
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import FitResult, Status, fit, least_squares_batch
from tests.decays import P0, SIGMA, B, T, Y, decay, decay_np, noise


@pytest.fixture(scope="module")
def result():
    return fit(decay, T, Y.reshape(3, 4, -1), P0)


@pytest.fixture(scope="module")
def masked():
    """Weighted, with points that do not count."""
    live = np.random.default_rng(3).random(Y.shape) > 0.2
    y = np.where(live, Y, np.nan)
    return fit(decay, T, y, P0, sigma=SIGMA, nan_policy="omit"), live


def line(t, b, c):
    return b * t + c


# --- statistics ----------------------------------------------------------------------


def test_statistics_are_their_formulas(result):
    residuals = Y.reshape(3, 4, -1) - result.predict()
    chi2, points = np.sum(residuals**2, axis=-1), T.size
    np.testing.assert_allclose(result.chi2, chi2, rtol=1e-10)
    np.testing.assert_allclose(result.redchi, chi2 / (points - 2), rtol=1e-10)
    np.testing.assert_allclose(result.aic, points * np.log(chi2 / points) + 4, rtol=1e-10)
    np.testing.assert_allclose(
        result.bic, points * np.log(chi2 / points) + 2 * np.log(points), rtol=1e-10
    )
    total = np.sum((Y - Y.mean(axis=1, keepdims=True)) ** 2, axis=1).reshape(3, 4)
    np.testing.assert_allclose(result.r2, 1 - chi2 / total, rtol=1e-10)


def test_statistics_of_weighted_and_masked_data(masked):
    result, live = masked
    weight = np.where(live, 1 / SIGMA**2, 0.0)
    residuals = Y - decay_np(T, *result.x.T[:, :, None])
    chi2 = np.sum(weight * residuals**2, axis=1)
    np.testing.assert_allclose(result.chi2, chi2, rtol=1e-9)
    np.testing.assert_allclose(result.redchi, chi2 / (live.sum(axis=1) - 2), rtol=1e-9)
    mean = np.sum(weight * Y, axis=1) / weight.sum(axis=1)
    total = np.sum(weight * (Y - mean[:, None]) ** 2, axis=1)
    np.testing.assert_allclose(result.r2, 1 - chi2 / total, rtol=1e-9)
    points = live.sum(axis=1)
    np.testing.assert_allclose(result.aic, points * np.log(chi2 / points) + 4, rtol=1e-9)


def test_no_degrees_of_freedom():
    exact = fit(line, T[:2], Y[:, :2], P0)
    assert np.all(exact.redchi == np.inf)
    assert np.all(exact.dof == 0)


def test_a_general_function_has_no_r2():
    result = least_squares_batch(lambda p, y: decay(T, p[0], p[1]) - y, P0, Y)
    assert np.all(result.chi2 > 0)
    for name in ("r2", "band"):
        with pytest.raises(ValueError, match=f"{name} needs"):
            _ = result.r2 if name == "r2" else result.band()


# --- uncertainty ----------------------------------------------------------------------


def test_correlation(result):
    correlation = result.correlation
    assert correlation.shape == (3, 4, 2, 2)
    np.testing.assert_allclose(np.diagonal(correlation, axis1=-2, axis2=-1), 1.0, rtol=1e-12)
    cov = result.cov[1, 2]
    np.testing.assert_allclose(
        correlation[1, 2, 0, 1], cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]), rtol=1e-12
    )
    assert np.all(np.abs(correlation) <= 1 + 1e-12)


def test_parameters_that_are_not_determined_are_named():
    """The product of a and b is; k is determined as if b were not there."""
    result = fit(lambda t, a, b, k: a * b * jnp.exp(-k * t), T, Y, [1.0, 1.3, 1.0])
    good = fit(decay, T, Y, P0)
    assert np.all(result.status == Status.SINGULAR_JACOBIAN)
    cov = result.cov
    assert np.all(cov[:, :2] == np.inf)
    assert np.all(cov[:, :, :2] == np.inf)
    scale = good.dof / result.dof  # there is one parameter more
    np.testing.assert_allclose(cov[:, 2, 2], good.cov[:, 1, 1] * scale, rtol=1e-4)
    assert result.undetermined(0) == ("a", "b")
    assert good.undetermined(3) == ()
    assert np.isnan(result.correlation[0, 0, 1])
    np.testing.assert_allclose(result.correlation[:, 2, 2], 1.0)
    assert "the data do not determine a and b" in result.report(0)
    assert np.all(result.band() == np.inf)


def test_band_is_the_closed_form_of_a_line():
    y = 0.5 * T + 1.0 + 0.1 * np.random.default_rng(1).normal(size=(5, T.size))
    result = fit(line, T, y, P0)
    at = np.array([-1.0, 2.0, 9.0])
    spread = np.sum((T - T.mean()) ** 2)
    unit = np.sqrt(1 / T.size + (at - T.mean()) ** 2 / spread)
    sigma = np.sqrt(result.redchi)[:, None]
    np.testing.assert_allclose(result.band(at), sigma * unit, rtol=1e-9)
    assert result.band().shape == y.shape
    assert result[2].band(at).shape == (3,)
    np.testing.assert_allclose(result[2].band(at), result.band(at)[2], rtol=1e-12)


def test_band_covers_the_truth_as_often_as_it_says():
    """68 % of simulated data sets have the true curve within one standard error at a point."""
    y = decay_np(T, 2.0, 1.1) + noise((4000, T.size), seed=8)
    result = fit(decay, T, y, (1.5, 1.0), sigma=0.02, absolute_sigma=True)
    at = np.array([0.5, 3.0])
    inside = np.abs(result.predict(at) - decay_np(at, 2.0, 1.1)) < result.band(at)
    np.testing.assert_allclose(inside.mean(axis=0), 0.6827, atol=0.02)


def test_bands_of_ragged_and_named_fits():
    xs, ys = [T, T[:9]], [Y[0], Y[1, :9]]
    result = fit(decay, xs, ys, {"a": 1.0, "k": 1.0})
    first, second = result.band()
    single = fit(decay, T[:9], Y[1, :9], P0)
    assert (first.shape, second.shape) == ((20,), (9,))
    np.testing.assert_allclose(second, single.band(), rtol=1e-6)


# --- words ------------------------------------------------------------------------------


def test_report(result):
    words = result.report((1, 2))
    assert words == result[1, 2].report()
    x, error = result.x[1, 2], result.stderr[1, 2]
    for expected in (
        "FTOL",
        f"  a  {x[0]:12.6g}  +- {error[0]:<9.2g}",
        "correlation of a and k: +0.",
        f"20 points, 2 parameters, 18 degrees of freedom: chi2 {result.chi2[1, 2]:.5g}",
        f"{result.nfev[1, 2]} evaluations",
    ):
        assert expected in words
    with pytest.raises(IndexError, match=r"its index in the batch \(3, 4\)"):
        result.report(1)


def test_report_without_the_data(result, tmp_path):
    result.save(tmp_path / "fits.npz")
    loaded = FitResult.load(tmp_path / "fits.npz")
    assert loaded.report((0, 0)) == result.report((0, 0))
    words = replace(loaded, inverse=None).report((0, 0))
    assert f"  a  {result.x[0, 0, 0]:12.6g}\n" in words
    assert "chi2" in words


def test_report_of_a_fit_that_failed():
    y = Y.copy()
    y[5, 3] = np.nan
    words = fit(decay, T, y, P0).report(5)
    assert words.startswith("NONFINITE_DATA: The data")
    assert "nan" in words
    assert B > 5


def test_words_print_as_text_and_show_as_tables(result):
    summary, words = result.summary(), result.report((1, 2))
    assert str(summary) == repr(summary) == repr(result)
    assert summary._repr_html_() == result._repr_html_()
    assert words._repr_html_().count("<tr>") == 3  # a head and two parameters
    assert "FTOL" in words._repr_html_()


def test_summaries_count_what_is_held():
    found = fit(decay, T, Y, {"a": 1.5, "k": 1.0}, bounds={"a": (None, 2.0)}, fixed="k")
    at_bound = np.count_nonzero(found.active_mask[:, 0] == 1)
    assert 0 < at_bound < len(Y)
    for shown in (str(found.summary()), found._repr_html_()):
        assert f"{at_bound} at its upper bound" in shown
        assert f"{len(Y)} fixed" in shown


def test_a_report_of_many_parameters_names_the_strongest_correlations():
    """Of monomials, each two of which are correlated."""
    x = np.linspace(1.0, 2.0, 40)

    def polynomial(x, a, b, c, d, e):
        return a + b * x + c * x**2 + d * x**3 + e * x**4

    y = np.asarray(polynomial(x, 1.0, 2.0, 3.0, 2.0, 1.0)) + 0.1 * np.cos(40.0 * x)
    one = fit(polynomial, x, y, np.ones(5))
    lines = [line for line in str(one.report()).splitlines() if "correlation" in line]
    off = np.abs(one.correlation[np.tril_indices(5, -1)])
    assert np.all(off >= 0.5)
    assert lines[-1] == "  2 more correlations of at least 0.5"
    shown = [abs(float(line.rpartition(" ")[2])) for line in lines[:-1]]
    np.testing.assert_allclose(shown, np.sort(off)[:1:-1], atol=6e-4)


def test_errors_are_said_in_percent_too():
    one = fit(line, T, 2.0 * T + 1.0 + 0.1 * np.cos(40.0 * T), [1.0, 1.0])
    text = str(one.report())
    for name, value, error in zip(one.names, one.x, one.stderr, strict=True):
        said = f"{name} +{value:.6g} +\\+- {error:.2g} +\\({100 * error / value:.2g} %\\)"
        assert re.search(said, text), text
