"""`fit` with parameters that data sets share, against SciPy's fit of all data at once."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.optimize import least_squares

from jaxlsq import FitResult, Status, compare, fit
from tests.decays import noise

# Reaction velocities of an enzyme with and without puromycin: R's data set `Puromycin`.
CONCENTRATION = np.array([0.02, 0.02, 0.06, 0.06, 0.11, 0.11, 0.22, 0.22, 0.56, 0.56, 1.1, 1.1])
TREATED = np.array([76, 47, 97, 107, 123, 139, 159, 152, 191, 201, 207, 200.0])
UNTREATED = np.array([67, 51, 84, 86, 98, 115, 131, 124, 144, 158, 160.0])
X = [CONCENTRATION, CONCENTRATION[:11]]
Y = [TREATED, UNTREATED]

T = np.linspace(0.0, 5.0, 40)
SETS = 12
P0 = [2.0, 0.2, 1.5, 0.3]
SHARED = ["fast", "slow"]


def michaelis(c, vm, k):
    return vm * c / (k + c)


def decays(t, a, b, fast, slow):
    return a * jnp.exp(-fast * t) + b * jnp.exp(-slow * t)


def in_numpy(t, a, b, fast, slow):
    return a * np.exp(-fast * t) + b * np.exp(-slow * t)


def many(size=SETS, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(1.0, 4.0, (2, size, 1))
    return in_numpy(T, a, b, 2.0, 0.5) + 0.03 * noise((size, T.size), seed)


def scipys(y, weights=1.0, **options):
    """All parameters of all data sets, by SciPy: (size, 4), the cost, and their covariances."""
    size = len(y)

    def rows(p):
        own = p[2:].reshape(2, size)
        return (weights * (in_numpy(T, own[0][:, None], own[1][:, None], *p[:2]) - y)).ravel()

    x0 = np.concatenate([P0[2:], np.repeat(P0[:2], size)])
    found = least_squares(rows, x0, xtol=1e-14, ftol=1e-14, gtol=1e-14, **options)
    x = np.concatenate(
        [found.x[2:].reshape(2, size).T, np.broadcast_to(found.x[:2], (size, 2))], axis=1
    )
    cov = np.linalg.inv(found.jac.T @ found.jac)
    columns = [[2 + i, 2 + size + i, 0, 1] for i in range(size)]
    return x, found.cost, np.stack([cov[np.ix_(c, c)] for c in columns])


def test_two_curves_with_one_constant():
    result = fit(michaelis, X, Y, [200.0, 0.1], shared=["k"])
    expected = [[208.63007, 0.057971834], [166.60410, 0.057971834]]
    np.testing.assert_allclose(result.params, expected, rtol=4e-8)
    errors = [[5.80399, 0.00591018], [5.80743, 0.00591018]]
    np.testing.assert_allclose(result.stderr, errors, rtol=1e-6)
    np.testing.assert_allclose(result.chi2.sum(), 2240.8914, rtol=3e-8)
    assert result.success.all()
    shared = result.shared
    assert list(shared) == ["k"]
    np.testing.assert_allclose(shared["k"], 0.057971834, rtol=4e-8)
    np.testing.assert_allclose(shared.stderr["k"], 0.00591018, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(shared.redchi), 10.585110, rtol=1e-7)
    assert shared.dof == 20
    assert "k = 0.0579718 +/- 0.0059" in repr(shared)
    np.testing.assert_array_equal(result.points, [12, 11])
    np.testing.assert_allclose(result.aic[0], 12 * np.log(result.chi2[0] / 12) + 4, rtol=1e-12)
    assert "12 points, 2 parameters (1 shared), 11 degrees of freedom" in result.report(0)
    row = next(line for line in repr(result).splitlines() if line.startswith("  k "))
    assert row.endswith("shared by all")


def test_whether_the_constant_differs():
    """R's ``anova(nls(rate ~ Vm[state] * conc / (K + conc)), nls(... K[state] ...))``."""
    common, apart = (fit(michaelis, X, Y, [200.0, 0.1], shared=s) for s in (["k"], None))
    comparison = compare(common, apart, names=["common", "apart"])
    assert comparison.dof.tolist() == [20, 19]
    assert comparison.varying.tolist() == [3, 4]
    f, p = comparison.f_test("common", "apart")
    np.testing.assert_allclose([f, p], [1.718169, 0.205552], rtol=1e-5)
    chi2 = np.array([common.chi2.sum(), apart.chi2.sum()])
    aicc = 23 * np.log(chi2 / 23) + np.array([6, 8]) + 2 * np.array([4 * 5 / 18, 5 * 6 / 17])
    np.testing.assert_allclose(comparison.aicc, aicc, rtol=1e-12)
    assert comparison.best == 0
    with pytest.raises(ValueError, match="result 0 has only some of the fits that share"):
        compare(common[:1], apart[:1])


@pytest.mark.long
def test_groups_are_compared_with_more_and_with_less_that_is_shared():
    y, groups = many(6), np.array([1, 0, 0, 1, 1, 0])
    y[2, 4] = np.nan
    mask = np.ones(y.shape, bool)
    mask[4] = False
    of_groups = fit(decays, T, y, P0, shared={"slow": groups}, mask=mask, nan_policy="omit")
    apart = fit(decays, T, y, P0, mask=mask, nan_policy="omit")
    all_one = fit(decays, T, y, P0, shared=["slow"], mask=mask, nan_policy="omit")
    two = compare(of_groups, apart)
    assert two.varying.tolist() == [[10, 12], [7, 8]]
    assert (two.dof + two.varying).tolist() == [[119, 119], [80, 80]]
    sums = [np.bincount(groups, np.nan_to_num(r.chi2)) for r in (of_groups, apart)]
    np.testing.assert_allclose(two.chi2, np.stack(sums, axis=1), rtol=1e-12)
    f, p = two.f_test(0, 1)
    fall = (sums[0] - sums[1]) / [2, 1] / (sums[1] / [107, 72])
    np.testing.assert_allclose(f, fall, rtol=1e-9)
    np.testing.assert_allclose(p, scipy.stats.f.sf(fall, [2, 1], [107, 72]), rtol=1e-9)
    one = compare(all_one, of_groups, apart)
    assert one.varying.tolist() == [16, 17, 20]
    np.testing.assert_allclose(one.chi2[1:], two.chi2.sum(axis=0), rtol=1e-12)


@pytest.mark.long
def test_a_set_of_few_points_is_not_suspect_where_the_others_have_more():
    times = [T, T[:2], T]
    y = [row[: len(t)] for row, t in zip(many(3), times, strict=True)]
    result = fit(decays, times, y, P0, shared=SHARED)
    assert result.dof.tolist() == [38, 0, 38]
    assert result.success.all()
    assert np.isfinite(result.stderr).all()
    assert not result.suspect.any()


@pytest.mark.long
def test_a_set_that_failed_leaves_its_common_fit_out_of_a_comparison():
    y, groups = many(4), np.array([0, 0, 1, 1])
    y[3, 0] = np.nan
    both = (fit(decays, T, y, P0, shared=s) for s in ({"slow": groups}, None))
    comparison = compare(*both)
    assert np.isnan(comparison.aicc).tolist() == [[False, False], [True, True]]
    assert comparison.best[1] == -1


def test_lines_with_one_slope_have_a_closed_form():
    x = [np.log(x) for x in X]
    result = fit(lambda x, a, b: a + b * x, x, Y, [1.0, 1.0], shared="b")
    expected = [[200.910828458, 32.5636946832], [175.730326645, 32.5636946832]]
    np.testing.assert_allclose(result.x, expected, rtol=1e-10)


@pytest.fixture(scope="module")
def together():
    return fit(decays, T, many(), P0, shared=SHARED)


def test_it_is_scipys_fit_of_all_data_at_once(together):
    x, cost, inverse = scipys(many())
    np.testing.assert_allclose(together.x, x, rtol=1e-7)
    np.testing.assert_allclose(together.cost.sum(), cost, rtol=1e-12)
    dof = SETS * T.size - 2 * SETS - 2
    np.testing.assert_allclose(together.cov, inverse * 2 * cost / dof, rtol=1e-5)
    assert together.shared.dof == dof
    np.testing.assert_array_equal(together.dof, T.size - 2)
    assert np.ptp(together.x[:, 2]) == 0
    assert together.shared.cov.shape == (2, 2)
    np.testing.assert_allclose(together.shared.cov, together.cov[0, 2:, 2:])


def test_without_parameters_of_their_own_all_data_are_one():
    y = 2.0 * np.exp(-0.7 * T) + 0.05 * noise((5, T.size))
    result = fit(lambda t, a, k: a * jnp.exp(-k * t), T, y, [1.0, 1.0], shared=["a", "k"])
    one = fit(lambda t, a, k: a * jnp.exp(-k * t), np.tile(T, 5), y.ravel(), [1.0, 1.0], ftol=1e-13)
    np.testing.assert_allclose(result.x, np.broadcast_to(one.x, (5, 2)), rtol=1e-6)
    np.testing.assert_allclose(result.shared.cov, one.cov, rtol=1e-5)


GROUPS = np.array(["a", "b", "c"])[np.arange(SETS) % 3]


@pytest.fixture(scope="module")
def in_groups():
    return fit(decays, T, many(), P0, shared={"fast": GROUPS, "slow": GROUPS})


@pytest.mark.long
def test_groups_are_fits_apart(in_groups):
    for k, name in enumerate("abc"):
        some = name == GROUPS
        alone = fit(decays, T, many()[some], P0, shared=SHARED)
        np.testing.assert_allclose(in_groups.x[some], alone.x, rtol=1e-9)
        np.testing.assert_allclose(in_groups.cov[some], alone.cov, rtol=1e-7)
        np.testing.assert_allclose(in_groups.shared["fast"][k], alone.shared["fast"], rtol=1e-9)


def test_parameters_of_groups_and_of_all(together, in_groups):
    result, groups = in_groups, GROUPS
    assert result.success.all()
    assert result.shared.labels["fast"].tolist() == ["a", "b", "c"]
    assert len(np.unique(result.nfev)) > 1
    assert result.shared.dof.shape == (3,)
    # a constant of all, and one of each group
    both = fit(decays, T, many(), P0, shared={"fast": groups, "slow": None})
    assert np.ptp(both.x[:, 3]) == 0
    assert np.ptp(both.x[groups == "b", 2]) == 0
    assert np.unique(both.x[:, 2]).size == 3
    assert together.cost.sum() > both.cost.sum() > result.cost.sum()


def test_a_group_with_bad_data_hurts_no_other():
    groups = np.arange(SETS) // 3
    y = many()
    clean = fit(decays, T, y, P0, shared={"fast": groups, "slow": groups})
    y[4, 3] = np.nan
    result = fit(decays, T, y, P0, shared={"fast": groups, "slow": groups})
    assert result.status[4] == Status.NONFINITE_DATA
    assert np.isnan(result.cost[4])
    others = np.delete(np.arange(SETS), [3, 4, 5])
    np.testing.assert_allclose(result.x[others], clean.x[others], rtol=1e-9)
    rest = fit(decays, T, y[[3, 5]], P0, shared=SHARED)
    np.testing.assert_allclose(result.x[[3, 5]], rest.x, rtol=1e-9)
    np.testing.assert_allclose(result.cov[[3, 5]], rest.cov, rtol=1e-7)


def test_fewer_points_than_parameters_will_do():
    y, mask = many(), np.ones((SETS, T.size), bool)
    mask[2, 3:] = False  # three points for four parameters, of which two are of all
    mask[7] = False
    result = fit(decays, T, y, P0, shared=SHARED, mask=mask)
    assert result.status[7] == Status.MASKED_OUT
    assert result.success[np.arange(SETS) != 7].all()
    x, *_ = scipys(y, weights=mask.astype(float) + 1e-9)
    np.testing.assert_allclose(result.x[2], x[2], rtol=1e-5)


def test_bounds():
    lower = np.array([0.0, 0.0, 2.1, 0.0])
    result = fit(decays, T, many(), [2.0, 0.2, 2.5, 0.3], shared=SHARED, bounds=(lower, np.inf))
    assert (result.active_mask[:, 2] == -1).all()
    assert result.success.all()
    fixed = fit(decays, T, many(), [2.0, 0.2, 2.1, 0.3], shared=SHARED, fixed=["fast"])
    np.testing.assert_allclose(result.x, fixed.x, rtol=1e-7)
    assert fixed.shared.dof == result.shared.dof + 1
    np.testing.assert_array_equal(fixed.cov[:, 2], 0.0)


def test_a_robust_loss():
    y = many()
    y[:, 5] += 3.0
    result = fit(decays, T, y, P0, shared=SHARED, loss="soft_l1", f_scale=0.1)
    x, cost, _ = scipys(y, loss="soft_l1", f_scale=0.1)
    np.testing.assert_allclose(result.x, x, rtol=1e-5)
    np.testing.assert_allclose(result.cost.sum(), cost, rtol=1e-9)


def test_errors_of_the_data():
    sigma = np.random.default_rng(3).uniform(0.02, 0.05, (SETS, T.size))
    result = fit(decays, T, many(), P0, shared=SHARED, sigma=sigma, absolute_sigma=True)
    x, _, inverse = scipys(many(), weights=1 / sigma)
    np.testing.assert_allclose(result.x, x, rtol=1e-7)
    np.testing.assert_allclose(result.cov, inverse, rtol=1e-5)


def test_linear_parameters_of_each_data_set(together):
    result = fit(decays, T, many(), {"fast": 1.5, "slow": 0.3}, shared=SHARED, linear=["a", "b"])
    np.testing.assert_allclose(result.x, together.x, rtol=1e-7)
    np.testing.assert_allclose(result.cov, together.cov, rtol=1e-5)
    assert result.shared.dof == together.shared.dof
    assert result.nfev[0] <= together.nfev[0]


def test_starts_are_medians_and_guesses():
    rng = np.random.default_rng(2)
    starts = np.array(P0) * rng.uniform(0.8, 1.2, (SETS, 4))
    each = fit(decays, T, many(), starts, shared=SHARED)
    np.testing.assert_allclose(each.x, fit(decays, T, many(), P0, shared=SHARED).x, rtol=1e-7)
    guessed = fit(decays, T, many(), lambda t, y: [y[0] / 2, y[0] / 2, 1.5, 0.3], shared=SHARED)
    np.testing.assert_allclose(guessed.x, each.x, rtol=1e-7)


def test_float32_data_are_fitted_in_float64(together):
    result = fit(decays, T.astype("f4"), many().astype("f4"), P0, shared=SHARED)
    assert result.success.all()
    np.testing.assert_allclose(result.x, together.x, rtol=1e-4)


def test_results_answer_as_others_do(together, tmp_path):
    one = together[3]
    np.testing.assert_array_equal(one.cov, together.cov[3])
    np.testing.assert_allclose(one.shared["fast"], together.shared["fast"])
    np.testing.assert_allclose(together.predict()[3], one.predict(T))
    together.save(tmp_path / "shared.npz")
    loaded = FitResult.load(tmp_path / "shared.npz")
    np.testing.assert_array_equal(loaded.cov, together.cov)
    assert repr(loaded.shared) == repr(together.shared)
    far = fit(decays, T, many(), P0, shared=SHARED, max_nfev=2)
    assert not far.success.any()
    again = far.refit(max_nfev=None)
    assert again.success.all()
    np.testing.assert_allclose(again.x, together.x, rtol=1e-7)
    assert again.shape == together.shape


def test_intervals_are_of_the_common_fit(together):
    half = 0.5 * np.diff(together.interval(0.9), axis=-1)[..., 0]
    times = scipy.stats.t.ppf(0.95, together.shared.dof)
    np.testing.assert_allclose(half, times * together.stderr, rtol=1e-9)
    with pytest.raises(ValueError, match="a profile is of fits apart, and these share fast, slow"):
        together.interval(method="profile")


def test_an_image_keeps_its_shape():
    y = many(6).reshape(2, 3, -1)
    groups = np.array([[0, 0, 0], [1, 1, 1]])
    result = fit(decays, T, y, P0, shared={"slow": groups, "fast": groups})
    assert result.x.shape == (2, 3, 4)
    assert result.cov.shape == (2, 3, 4, 4)
    assert result.shared["slow"].shape == (2,)
    np.testing.assert_allclose(result.x[1], fit(decays, T, y[1], P0, shared=SHARED).x, rtol=1e-9)


def test_what_the_data_do_not_determine_is_singular():
    def model(t, a, b, k):
        return (a + b) * jnp.exp(-k * t)

    y = np.exp(-T) + 0.01 * noise((4, T.size))
    result = fit(model, T, y, [0.5, 0.5, 1.0], shared=["b", "k"])
    assert (result.status == Status.SINGULAR_JACOBIAN).all()
    assert np.isinf(result.stderr[:, :2]).all()
    np.testing.assert_array_less(result.stderr[:, 2], 0.1)


def test_new_data_compile_nothing(compiles):
    fit(decays, T, many(seed=1), P0, shared=SHARED)
    before = compiles()
    result = fit(decays, T, many(seed=2), P0, shared=SHARED)
    result.cov  # noqa: B018
    assert compiles() == before


WRONG = {
    "no name": ({"shared": "c"}, ValueError, "shared names 'c', but the parameters are"),
    "linear too": ({"shared": "a", "linear": "a"}, ValueError, "and so does linear"),
    "groups": ({"shared": {"a": [1, 2]}}, ValueError, r"shared\['a'\] must have a group for each"),
    "nan": ({"shared": {"a": np.full(SETS, np.nan)}}, ValueError, "NaN or infinite"),
    "starts": ({"shared": "a", "starts": 3}, ValueError, "starts is for fits apart"),
    "differences": ({"shared": "a", "jac": "2-point"}, ValueError, "jac by differences"),
    "out": ({"shared": "a", "out": "somewhere"}, ValueError, "save the result"),
    "fixed": (
        {"shared": "fast", "fixed": {"fast": np.arange(SETS) == 0}},
        ValueError,
        "fix it for all of its data sets",
    ),
    "bounds": (
        {"shared": "a", "bounds": {"a": (np.arange(SETS) / 10, np.arange(SETS) / 10 + 0.05)}},
        ValueError,
        "leave nothing that all its data sets allow",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_has_no_answer_raises(name):
    options, kind, message = WRONG[name]
    p0 = dict(zip(["a", "b", "fast", "slow"], P0, strict=True))
    p0 |= {"a": np.arange(SETS) / 10 + 0.02} if name == "bounds" else {}
    with pytest.raises(kind, match=message):
        fit(decays, T, many(), p0, **options)


def test_one_data_set_shares_with_nobody():
    with pytest.raises(ValueError, match="shared is for a batch"):
        fit(decays, T, many()[0], P0, shared=SHARED)
