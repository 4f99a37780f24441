"""Wald's and profile likelihood intervals, beside closed forms, SciPy and lmfit."""

import math

import jax.numpy as jnp
import lmfit
import numpy as np
import pytest
from scipy import optimize, stats

from jaxlsq import FitResult, Interrupted, Status, fit, least_squares_batch
from jaxlsq.batch import held as held_fits
from tests.decays import P0, SIGMA, B, T, Y, decay, decay_np

# lmfit's documented example, with NumPy's legacy generator.
HYPERBOLA_X = np.linspace(0.3, 10, 100)
HYPERBOLA_Y = 1 / (0.1 * HYPERBOLA_X) + 2 + 0.1 * np.random.RandomState(0).randn(100)
# Treated cells of R's data set `Puromycin`.
CONCENTRATION = np.repeat([0.02, 0.06, 0.11, 0.22, 0.56, 1.1], 2)
VELOCITY = np.array([76, 47, 97, 107, 123, 139, 159, 152, 191, 201, 207, 200.0])
# Probabilities of one, two and three standard deviations, and the ends, by SciPy to ten digits.
SIGMAS = [math.erf(k / math.sqrt(2)) for k in (1, 2, 3)]
HYPERBOLA_ENDS = [
    [[0.0992451301, 0.0996335433], [1.9724799416, 1.9970588986]],
    [[0.0990490709, 0.0998319254], [1.9600000205, 2.0095388197]],
    [[0.0988477087, 0.1000373217], [1.9471310050, 2.0224078347]],
]
FOUND, BOUND, OPEN, FIXED, NOT_FITTED, NOT_FOUND = 0, 1, 2, 3, -1, -2


def hyperbola(x, a, b):
    return 1 / (a * x) + b


def rate(x, top, half):
    return top * x / (half + x)


@pytest.fixture(scope="module")
def result():
    return fit(decay, T, Y, P0)


@pytest.fixture(scope="module")
def profile(result):
    return result.profile()


def scipy_ends(residual, x, rise, bounds=(-np.inf, np.inf), **options):
    """Where the least chi-squared, with each parameter held, is `rise(chi2)` above the minimum."""
    options |= {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-13, "bounds": bounds}
    best = optimize.least_squares(residual, x, **options)
    out = np.empty((len(x), 2))
    for j, at in enumerate(best.x):
        others = np.arange(len(x)) != j

        def excess(value, j=j, others=others):
            def held(p):
                return residual(np.insert(p, j, value))

            some = optimize.least_squares(held, best.x[others], **options)
            return 2 * (some.cost - best.cost) - rise(2 * best.cost)

        curvature = np.linalg.inv(best.jac.T @ best.jac)[j, j]
        step = np.sqrt(curvature * rise(2 * best.cost))
        for side in (-1, 1):
            far = at + side * step
            while excess(far) < 0:
                far += side * step
            out[j, (side + 1) // 2] = optimize.brentq(excess, at, far, xtol=1e-14)
    return out


def raised(level, dof):
    """What the limit of an interval is above the least chi-squared."""
    return lambda chi2: chi2 * stats.f.ppf(level, 1, dof) / dof


# --- Wald -------------------------------------------------------------------------


def test_wald_is_students(result):
    t = stats.t.isf(0.05, T.size - 2)
    ends = result.interval(0.9)
    assert ends.shape == (B, 2, 2)
    assert ends.dtype == np.float64
    np.testing.assert_allclose(ends[..., 0], result.x - t * result.stderr, rtol=1e-9)
    np.testing.assert_allclose(ends[..., 1], result.x + t * result.stderr, rtol=1e-9)


def test_wald_of_a_known_sigma_is_normal():
    known = fit(decay, T, Y, P0, sigma=SIGMA, absolute_sigma=True)
    half = np.ptp(known.interval(0.95), axis=-1) / 2
    np.testing.assert_allclose(half, stats.norm.isf(0.025) * known.stderr, rtol=1e-12)
    counts = fit(
        decay, T, np.random.default_rng(0).poisson(50 * Y.clip(0)), (50.0, 1.0), loss="poisson"
    )
    half = np.ptp(counts.interval(0.95), axis=-1) / 2
    np.testing.assert_allclose(half, stats.norm.isf(0.025) * counts.stderr, rtol=1e-12)


def test_parameters_are_named_or_numbered(result):
    every = result.interval()
    np.testing.assert_array_equal(result.interval(params="k"), every[:, 1:])
    np.testing.assert_array_equal(result.interval(params=["k", "a"]), every[:, ::-1])
    np.testing.assert_array_equal(result.interval(params=[-1, 0]), every[:, ::-1])
    np.testing.assert_array_equal(result[3].interval(params=1), every[3, 1:])
    named = fit(decay, T, Y.reshape(3, 4, -1), {"k": 1.0, "a": 1.0})
    assert named.interval(params="a").shape == (3, 4, 1, 2)
    np.testing.assert_allclose(named.interval().reshape(B, 2, 2), every[:, ::-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("error", "match", "options"),
    [
        (ValueError, "between 0 and 1", {"level": 95}),
        (ValueError, "between 0 and 1", {"level": 1.0}),
        (ValueError, "between 0 and 1", {"level": math.nan}),
        (TypeError, "level must be a number", {"level": "95 %"}),
        (ValueError, "method must be one of", {"method": "bootstrap"}),
        (ValueError, "names 'amp', but", {"params": ["amp"]}),
        (ValueError, "has 2, but there are 2", {"params": 2}),
        (TypeError, "names or numbers", {"params": [True, False]}),
    ],
)
def test_improper_arguments(result, error, match, options):
    with pytest.raises(error, match=match):
        result.interval(**options)


# --- profiles against references --------------------------------------------------


@pytest.mark.parametrize("number", range(3))
def test_the_documented_example(number):
    result = fit(hyperbola, HYPERBOLA_X, HYPERBOLA_Y, (0.2, 1.0))
    ends = result.interval(SIGMAS[number], method="profile")
    half = np.ptp(ends, axis=-1, keepdims=True) / 2
    assert np.all(np.abs(ends - HYPERBOLA_ENDS[number]) < 1e-6 * half)
    np.testing.assert_allclose(ends, HYPERBOLA_ENDS[number], rtol=1e-9)


def test_puromycin():
    result = fit(rate, CONCENTRATION, VELOCITY, (200.0, 0.1))
    ends = result.interval(method="profile")
    expected = [[197.301933, 229.289055], [0.0469203420, 0.0861569134]]
    np.testing.assert_allclose(ends, expected, rtol=1e-8)


def test_lmfits_ends():
    def residual(p):
        return 1 / (p["a"] * HYPERBOLA_X) + p["b"] - HYPERBOLA_Y

    params = lmfit.create_params(a=0.1, b=1)
    minimizer = lmfit.Minimizer(residual, params)
    out = minimizer.minimize(method="leastsq")
    theirs = lmfit.conf_interval(minimizer, out, sigmas=[0.95])
    ours = fit(hyperbola, HYPERBOLA_X, HYPERBOLA_Y, (0.2, 1.0)).interval(method="profile")
    for row, name in zip(ours, "ab", strict=True):
        np.testing.assert_allclose(row, [theirs[name][0][1], theirs[name][-1][1]], rtol=1e-5)


@pytest.mark.parametrize("level", [0.6, 0.95, 0.9999])
def test_scipys_ends(result, level):
    found = result.profile(level)
    assert np.all(found.ends == FOUND)
    for i in range(3):
        expected = scipy_ends(
            lambda p, i=i: decay_np(T, *p) - Y[i], result.x[i], raised(level, T.size - 2)
        )
        half = np.ptp(expected, axis=-1, keepdims=True) / 2
        assert np.all(np.abs(found.interval[i] - expected) < 1e-6 * half)


def test_a_linear_model_has_walds_ends():
    for level in (0.5, 0.95, 0.999):
        line = fit(lambda t, a, b, c: a + b * t + c * t**2, T, Y, (1.0, 1.0, 1.0))
        found = line.profile(level)
        np.testing.assert_allclose(found.interval, line.interval(level), rtol=1e-10, atol=1e-12)
        assert found.nfev.max() < 3 * 6 + 4  # one wave each


def test_a_known_sigma():
    known = fit(decay, T, Y, P0, sigma=0.02, absolute_sigma=True)
    expected = scipy_ends(
        lambda p: (decay_np(T, *p) - Y[2]) / 0.02, known.x[2], lambda _: stats.chi2.ppf(0.95, 1)
    )
    np.testing.assert_allclose(known.profile().interval[2], expected, rtol=1e-8)


def test_counts_of_one_rate_have_a_closed_form():
    """The deviance of counts of a mean: 2 m (mean - y + y ln(y / mean))."""
    y = np.array([[3, 5, 4, 2.0], [0, 1, 0, 2.0]])
    counts = fit(lambda x, mean: mean + 0 * x, np.arange(4.0), y, [2.0], loss="poisson")
    ends = counts.interval(0.9, method="profile")
    limit = stats.chi2.ppf(0.9, 1)
    for (low, high), mean in zip(ends[:, 0], y.mean(axis=1), strict=True):
        for end in (low, high):
            rise = 2 * 4 * (end - mean + mean * np.log(mean / end))
            np.testing.assert_allclose(rise, limit, rtol=1e-6)
        assert low < mean < high


def test_a_robust_loss():
    y = Y.copy()
    y[:, 4] += 1.0
    robust = fit(decay, T, y, P0, loss="soft_l1", f_scale=0.05)
    options = {"loss": "soft_l1", "f_scale": 0.05}
    expected = scipy_ends(
        lambda p: decay_np(T, *p) - y[1], robust.x[1], raised(0.9, T.size - 2), **options
    )
    np.testing.assert_allclose(robust.profile(0.9).interval[1], expected, rtol=1e-6)


def test_masks_lists_and_weights(profile):
    mask = np.ones(Y.shape, bool)
    mask[1, 14:] = False
    masked = fit(decay, T, Y, P0, mask=mask).profile()
    several = fit(decay, [T, T[:14], T], [Y[0], Y[1, :14], Y[2]], P0).profile()
    np.testing.assert_allclose(several.interval, masked.interval[:3], rtol=1e-8)
    np.testing.assert_allclose(masked.interval[[0, 2]], profile.interval[[0, 2]], rtol=1e-8)
    alone = fit(decay, T[:14], Y[1, :14], P0).profile()
    np.testing.assert_allclose(several.interval[1], alone.interval, rtol=1e-8)
    weighted = fit(decay, T, Y, P0, sigma=SIGMA).profile()
    expected = scipy_ends(
        lambda p: (decay_np(T, *p) - Y[0]) / SIGMA[0], profile.result.x[0], raised(0.95, T.size - 2)
    )
    np.testing.assert_allclose(weighted.interval[0], expected, rtol=1e-8)


def test_a_general_residual(profile):
    batch = least_squares_batch(lambda p, y: decay(T, *p) - y, P0, Y)
    np.testing.assert_allclose(batch.profile().interval, profile.interval, rtol=1e-7)


@pytest.mark.long
def test_a_model_that_python_evaluates(profile):
    def model(t, a, k):
        return np.array([a * math.exp(-k * float(v)) for v in np.asarray(t)])

    ends = fit(model, T, Y[:2], P0).interval(method="profile")
    np.testing.assert_allclose(ends, profile.interval[:2], rtol=1e-5)


# --- ends that are no roots -------------------------------------------------------


def test_infinite_ends():
    """A plateau that is not reached has no upper limit where a straight line fits as well."""
    t = np.linspace(0, 0.5, 30)
    rng = np.random.default_rng(3)
    y = 1 - np.exp(-0.6 * t) + 0.02 * rng.normal(size=(8, 30))
    model = lambda t, top, k: top * (1 - jnp.exp(-k * t))  # noqa: E731
    result = fit(model, t, y, (1.0, 0.6), bounds=((0.0, 0.0), np.inf))
    found = result.profile()
    line = np.sum((y - t * (y @ t)[:, None] / (t @ t)) ** 2, axis=1)  # k -> 0, top k fixed
    limit = result.chi2 * (1 + stats.f.ppf(0.95, 1, 28) / 28)
    open_ones = line < limit
    assert 0 < open_ones.sum() < 8
    np.testing.assert_array_equal(found.ends[:, 0, 1] == OPEN, open_ones)
    np.testing.assert_array_equal(np.isinf(found.interval[:, 0, 1]), open_ones)
    # The rate goes down to zero, where the model has no height.
    low = found.interval[:, 1, 0]
    assert np.all((low[open_ones] >= 0) & (low[open_ones] < 1e-6))
    assert np.all(low[~open_ones] > 0.1)
    assert np.all(found.ends[:, 0, 0] == FOUND)
    assert np.all(found.ends[:, 1, 1] == FOUND)
    assert f"{open_ones.sum()} ends infinite" in repr(found)


def test_bounds(result, profile):
    """An end is the bound where chi-squared is not yet at its limit there."""
    low, high = profile.interval[0, :, 0], profile.interval[0, :, 1]
    x = result.x[0]
    between = (x + 0.5 * (high - x)).tolist()
    result = fit(decay, T, Y[0], x, bounds=(-9.0, between))
    found = result.profile()
    np.testing.assert_array_equal(found.ends, [[FOUND, BOUND], [FOUND, BOUND]])
    assert "2 ends at a bound" in repr(found)
    np.testing.assert_array_equal(found.interval[:, 1], between)
    expected = scipy_ends_below(x, between)
    np.testing.assert_allclose(found.interval[:, 0], expected, rtol=1e-6)
    assert np.all(found.interval[:, 0] >= low - 1e-9)


def scipy_ends_below(x, upper):
    """Lower ends with upper bounds, of the first data set."""

    def residual(p):
        return decay_np(T, *p) - Y[0]

    chi2 = np.sum(residual(x) ** 2)
    rise = raised(0.95, T.size - 2)(chi2)
    out = []
    for j in (0, 1):

        def excess(value, j=j):
            def held(p):
                return residual(np.insert(p, j, value))

            tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-13}
            bounds = (-9.0, upper[1 - j])
            fitted = optimize.least_squares(held, x[1 - j] - 1e-3, bounds=bounds, **tight)
            return 2 * fitted.cost - chi2 - rise

        out.append(optimize.brentq(excess, x[j] - 0.5, x[j], xtol=1e-14))
    return out


def test_a_fit_at_a_bound(result):
    """Its profile rises at once, and not as a square."""
    x, se = result.x[0], result.stderr[0]
    upper = (x[0] - 0.5 * se[0], 9.0)
    held = fit(decay, T, Y[0], (1.0, 1.0), bounds=(-9.0, upper))
    np.testing.assert_array_equal(held.active_mask, [1, 0])
    np.testing.assert_array_equal(held.interval(params="a"), [[upper[0], upper[0]]])
    found = held.profile()
    np.testing.assert_array_equal(found.ends, [[FOUND, BOUND], [FOUND, FOUND]])
    assert found.interval[0, 1] == upper[0]

    def chi2(a):
        fitted = optimize.least_squares(
            lambda k: decay_np(T, a, k[0]) - Y[0], x[1], xtol=1e-15, ftol=1e-15
        )
        return 2 * fitted.cost

    limit = chi2(upper[0]) * (1 + stats.f.ppf(0.95, 1, 18) / 18)
    low = optimize.brentq(lambda a: chi2(a) - limit, x[0] - 9 * se[0], upper[0], xtol=1e-14)
    np.testing.assert_allclose(found.interval[0, 0], low, rtol=1e-7)


def test_fixed_parameters_and_one_alone(result):
    fixed = fit(decay, T, Y, (1.0, 1.5), fixed=["k"])
    found = fixed.profile()
    assert np.all(found.ends[:, 1] == FIXED)
    assert np.all(found.interval[:, 1] == 1.5)
    np.testing.assert_array_equal(fixed.interval(params="k"), found.interval[:, 1:])
    # What is left is linear.
    np.testing.assert_allclose(found.interval[:, 0], fixed.interval()[:, 0], rtol=1e-9)
    alone = fit(lambda t, k: result.x[0, 0] * jnp.exp(-k * t), T, Y[0], [1.0])
    limit = alone.chi2 * (1 + stats.f.ppf(0.95, 1, T.size - 1) / (T.size - 1))
    for end in alone.interval(method="profile")[0]:
        chi2 = np.sum((result.x[0, 0] * np.exp(-end * T) - Y[0]) ** 2)
        np.testing.assert_allclose(chi2, limit, rtol=1e-8)


def test_what_the_data_do_not_determine():
    two = fit(lambda t, a, b, c: (a + b) * t + c, T, Y[:3], (1.0, 2.0, 3.0))
    assert np.all(two.status == Status.SINGULAR_JACOBIAN)
    for ends in (two.interval(), two.interval(method="profile")):
        np.testing.assert_array_equal(ends[:, :2, 0], -np.inf)
        np.testing.assert_array_equal(ends[:, :2, 1], np.inf)
    np.testing.assert_allclose(ends[:, 2], two.interval()[:, 2], rtol=1e-7)


def test_without_degrees_of_freedom():
    exact = fit(decay, T[:2], Y[:2, :2], P0)
    for ends in (exact.interval(), exact.interval(method="profile")):
        np.testing.assert_array_equal(ends[..., 0], -np.inf)
        np.testing.assert_array_equal(ends[..., 1], np.inf)
    known = fit(decay, T[:2], Y[:2, :2], P0, sigma=0.02, absolute_sigma=True)
    assert np.all(known.profile().ends == FOUND)


def test_data_without_noise():
    exact = fit(decay, T, decay_np(T, 2.0, 1.0), P0)
    ends = exact.interval(method="profile")
    np.testing.assert_allclose(ends, [[2.0, 2.0], [1.0, 1.0]], rtol=1e-12)


def test_where_the_model_ends():
    """The cost is far from its limit when the model stops to be finite: NaN, and a warning."""
    x = np.linspace(0, 4, 40)
    y = np.array([[0.02], [0.1], [1.0]]) * x + 0.3 * np.random.default_rng(1).normal(size=(3, 40))
    result = fit(lambda x, a: jnp.sqrt(a) * x, x, y, [1.0])
    with pytest.warns(RuntimeWarning, match="of 6 ends were not found"):
        found = result.profile()
    lost = found.ends[:, 0, 0] == NOT_FOUND
    assert lost.any()
    assert np.all(np.isnan(found.interval[:, 0, 0]) == lost)
    # The ends are squares of those of the slope, which is a linear parameter.
    ends = fit(lambda x, b: b * x, x, y, [1.0]).interval()[:, 0]
    np.testing.assert_array_equal(lost, ends[:, 0] < 0)
    np.testing.assert_allclose(found.interval[:, 0, 1], ends[:, 1] ** 2, rtol=1e-7)
    np.testing.assert_allclose(found.interval[~lost, 0, 0], ends[~lost, 0] ** 2, rtol=1e-7)


def test_a_lower_minimum_is_kept_and_said():
    """p^2 is 1 at both signs, and the other point is for the positive one."""
    x = np.array([0.0, 1.0, 2.0, 2.0])
    y = np.array([[1.0, 0.3, 0.1, 0.2], [1.0, 0.3, 0.3, 0.1]])

    def model(x, p, c):
        return jnp.where(x == 0, p * p, jnp.where(x == 1, 0.3 * p, c))

    result = fit(model, x, y, [[-1.0, 0.0], [1.0, 0.0]])
    assert result.x[0, 0] < 0 < result.x[1, 0]
    with pytest.warns(RuntimeWarning, match=r"1 of 2 fits have a lower minimum"):
        found = result.profile()
    np.testing.assert_array_equal(found.better, [True, False])
    np.testing.assert_allclose(found.result.x[:, 0], 1.0, rtol=1e-6)
    assert found.result.chi2[0] < 0.1 * result.chi2[0]
    again = found.result.profile()
    assert not again.better.any()
    np.testing.assert_allclose(found.interval, again.interval, rtol=1e-6)


@pytest.mark.long
def test_first_points_in_another_valley():
    """Two peaks that overlap: far out, a fit that is held ends with one of them narrow."""
    x, rng = np.linspace(-5, 5, 60), np.random.default_rng(5)

    def peaks(x, h, c, w, g, d, v):
        return h * jnp.exp(-0.5 * ((x - c) / w) ** 2) + g * jnp.exp(-0.5 * ((x - d) / v) ** 2)

    truth = np.array([2.0, -0.8, 0.8, 1.5, 0.9, 0.9])
    y = np.asarray(peaks(x, *truth)) + 0.2 * rng.normal(size=(8, 60))
    bounds = ([0, -5, 0.1, 0, -5, 0.1], [9, 5, 5, 9, 5, 5])
    result = fit(peaks, x, y, 1.1 * truth, bounds=bounds)
    found = result.profile()
    assert np.all((found.ends == FOUND) | (found.ends == BOUND))
    i, j, side = np.nonzero(found.ends == FOUND)
    assert i.size > 90
    hold = np.eye(6, dtype=bool)[j]
    start = np.where(hold, found.interval[i, j, side][:, None], result.x[i])
    chi2 = 2 * result.problem.held(i, start, hold)["cost"]
    limit = result.chi2 * (1 + stats.f.ppf(0.95, 1, 54) / 54)
    assert np.all(chi2 > limit[i] * (1 - 1e-6))


# --- lanes ------------------------------------------------------------------------


def test_a_lane_is_a_single_fit(result, profile):
    for i in (0, 5):
        alone = result[i].profile()
        np.testing.assert_allclose(alone.interval, profile.interval[i], rtol=1e-9)
        np.testing.assert_array_equal(alone.ends, profile.ends[i])
    image = fit(decay, T, Y.reshape(3, 4, -1), P0).profile(params="k")
    np.testing.assert_allclose(image.interval.reshape(B, 2), profile.interval[:, 1], rtol=1e-9)
    assert image.nfev.shape == image.better.shape == (3, 4)


def test_portions(result, profile, monkeypatch):
    monkeypatch.setattr("jaxlsq.results.profile.PORTION", 5)
    found = result.profile()
    np.testing.assert_allclose(found.interval, profile.interval, rtol=1e-9)
    assert np.all(found.nfev > 0)


def test_failed_fits_are_alone(profile):
    y = Y.copy()
    y[3, 5] = np.nan
    result = fit(decay, T, y, P0)
    others = np.arange(B) != 3
    found = result.profile()
    np.testing.assert_array_equal(found.interval[others], profile.interval[others])
    assert np.isnan(found.interval[3]).all()
    assert np.all(found.ends[3] == NOT_FITTED)
    assert np.isnan(result.interval()[3]).all()
    assert found.nfev[3] == 0
    nothing = fit(decay, T, np.full(T.size, np.nan), P0)
    assert np.isnan(nothing.interval(method="profile")).all()


def test_float32_is_profiled_in_float64(profile):
    narrow = fit(decay, T.astype(np.float32), Y.astype(np.float32), P0)
    assert narrow.x.dtype == np.float32
    found = narrow.profile()
    assert found.interval.dtype == np.float64
    assert not found.better.any()
    half = np.ptp(profile.interval, axis=-1, keepdims=True) / 2
    assert np.all(np.abs(found.interval - profile.interval) < 1e-4 * half)


def test_what_it_costs():
    """Six ends of each fit take less than ten times the evaluations of the fits."""
    rng, t = np.random.default_rng(0), np.linspace(0, 4, 50)
    y = 2.5 * np.exp(-rng.uniform(0.5, 2.0, (500, 1)) * t) + 0.3 + 0.05 * rng.normal(size=(500, 50))
    result = fit(lambda t, a, k, c: a * jnp.exp(-k * t) + c, t, y, (1.0, 1.0, 0.0))
    found = result.profile()
    assert np.all(found.ends == FOUND)
    assert found.nfev.sum() < 10 * result.nfev.sum()


def test_without_data(result, tmp_path):
    result.save(tmp_path / "fits.npz")
    loaded = FitResult.load(tmp_path / "fits.npz")
    np.testing.assert_array_equal(loaded.interval(), result.interval())
    with pytest.raises(ValueError, match="a profile needs the data and the model"):
        loaded.interval(method="profile")


def test_an_interrupt_has_the_fits(result, monkeypatch):
    waves, solve = [], held_fits.held

    def pressed(problem, *arguments):
        waves.append(1)
        if len(waves) == 3:
            raise Interrupted(None)
        return solve(problem, *arguments)

    monkeypatch.setattr("jaxlsq.batch.refits.held", pressed)
    with pytest.raises(Interrupted) as caught:
        result.profile()
    assert caught.value.result is result
