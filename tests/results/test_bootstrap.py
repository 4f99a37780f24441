"""`FitResult.bootstrap`: closed forms, SciPy's intervals, streams that depend on the data alone."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from jaxlsq import FitResult, Interrupted, fit, least_squares_batch
from jaxlsq.batch import bootstrap as runs
from jaxlsq.batch import group as groups
from jaxlsq.problem import resampling
from tests.decays import P0, SIGMA, T, Y, decay, decay_jac, decay_np

X = np.linspace(0, 1, 20)
KINDS = ("residual", "pairs", "parametric")


def line(x, a, b):
    return a + b * x


def curve(x, a, b):
    return a * jnp.exp(b * x)


LINE = 1 + 2 * X + 0.3 * np.random.default_rng(0).normal(size=20)
COUNTS = np.random.default_rng(3).poisson(4 * np.exp(1.2 * X), (6, 20)).astype(float)


def close(values, expected, k):
    """Standard deviations of k samples, to three of their own."""
    np.testing.assert_allclose(values, expected, rtol=3 / np.sqrt(2 * k))


def drawn(one, k, seed=0):
    """How often each point of a fit is drawn, (k, m)."""
    lanes = runs._fitted_points(one.problem.groups[0][1], one.x[None], np.ones(1))
    plan = resampling.Plan.of(k, "pairs", seed)
    return resampling.Replicates(lanes, resampling.multiplicities, plan, np.dtype(float), 0)[:k]


# --- closed forms -------------------------------------------------------------------


def test_points_without_a_weight_are_as_if_they_were_masked():
    # No error is drawn from them, and what is made of them is finite.
    sigma = np.linspace(0.2, 0.5, 20)
    sigma[[3, 11]] = np.inf
    weighed = np.isfinite(sigma)
    design = np.stack([np.ones(20), X], axis=1)[weighed] / sigma[weighed, None]
    inverse = np.linalg.inv(design.T @ design)
    k = 20_000
    for absolute in (False, True):
        one = fit(line, X, LINE, [0.0, 0.0], sigma=sigma, absolute_sigma=absolute)
        rows = (LINE - one.x[0] - one.x[1] * X)[weighed] / sigma[weighed]
        spread = 1.0 if absolute else float(one.redchi)
        for kind, size in (("residual", np.var(rows)), ("parametric", spread)):
            boot = one.bootstrap(k, kind)
            assert boot.failed == 0
            close(boot.stderr, np.sqrt(size * np.diagonal(inverse)), k)


def test_residual_of_a_line():
    # The covariance of a least-squares line whose errors are drawn from m residuals.
    design = np.stack([np.ones(20), X], axis=1)
    rss = np.linalg.lstsq(design, LINE, rcond=None)[1][0]
    cov = rss / 20 * np.linalg.inv(design.T @ design)
    np.testing.assert_allclose(np.sqrt(np.diagonal(cov)), [0.1080424363, 0.1847202429], rtol=1e-9)
    k = 100_000
    boot = fit(line, X, LINE, [0.0, 0.0]).bootstrap(k)
    close(boot.stderr, np.sqrt(np.diagonal(cov)), k)
    np.testing.assert_allclose(boot.cov[0, 1], cov[0, 1], rtol=0.02)
    assert np.all(np.abs(boot.bias) < 4 * boot.stderr / np.sqrt(k))
    assert boot.failed == 0
    assert "100,000 replicates of 1 fit" in repr(boot)


@pytest.mark.parametrize("absolute_sigma", [False, True])
def test_parametric_of_a_line_is_the_fits_own_error(absolute_sigma):
    sigma = np.linspace(0.1, 0.5, 20)
    result = fit(line, X, LINE, [0.0, 0.0], sigma=sigma, absolute_sigma=absolute_sigma)
    close(result.bootstrap(20_000, "parametric").stderr, result.stderr, 20_000)


def test_residual_with_sigma():
    sigma = np.linspace(0.1, 0.5, 20)
    result = fit(line, X, LINE, [0.0, 0.0], sigma=sigma)
    r = result.residuals
    cov = result.inverse_gram * np.var(r)
    close(result.bootstrap(20_000).stderr, np.sqrt(np.diagonal(cov)), 20_000)


@pytest.mark.long_but("True")
@pytest.mark.parametrize("per_fit", [False, True])
def test_with_a_covariance(per_fit):
    cov = 0.09 * 0.6 ** np.abs(np.subtract.outer(np.arange(20), np.arange(20)))
    sigma = np.stack([cov, 2 * cov]) if per_fit else cov[None]
    result = fit(line, X, [LINE, LINE], [0.0, 0.0], sigma=sigma, absolute_sigma=True)
    close(result.bootstrap(20_000, "parametric").stderr, result.stderr, 20_000)
    variance = np.var(result.residuals, axis=-1)[:, None]
    expected = np.sqrt(np.diagonal(result.inverse_gram, axis1=1, axis2=2) * variance)
    close(result.bootstrap(20_000).stderr, expected, 20_000)
    with pytest.raises(ValueError, match="not independent where sigma is a covariance"):
        result.bootstrap(10, "pairs")


def test_parametric_of_counts():
    # A constant's variance is its mean over the number of points.
    y = np.random.default_rng(1).poisson([[3.0], [400.0]], (2, 50)).astype(float)
    result = fit(lambda x, a: a + 0 * x, np.arange(50.0), y, [10.0], loss="poisson")
    boot = result.bootstrap(20_000, "parametric", samples=True)
    close(boot.stderr[:, 0], np.sqrt(y.mean(axis=1) / 50), 20_000)
    # The mean of counts is a whole number over that of the points.
    np.testing.assert_allclose(boot.samples * 50, np.round(boot.samples * 50), atol=1e-4)


def test_pairs_of_a_line_are_the_sandwich():
    # H. White, Econometrica 48, 817 (1980), without corrections, which is of many points.
    rng, x = np.random.default_rng(2), np.linspace(0, 1, 400)
    y = 1 + 2 * x + (0.05 + 0.5 * x) * rng.normal(size=400)
    result = fit(line, x, y, [0.0, 0.0])
    design = np.stack([np.ones(400), x], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    meat = design.T @ (design * np.square(result.residuals)[:, None])
    expected = np.sqrt(np.diagonal(inverse @ meat @ inverse))
    np.testing.assert_allclose(result.bootstrap(10_000, "pairs").stderr, expected, rtol=0.03)
    assert np.max(np.abs(expected / result.stderr - 1)) > 0.2


# --- pairs: a point that is drawn w times counts as w points --------------------------


def test_pairs_are_fits_of_repeated_points():
    result = fit(decay, T, Y[0], P0)
    boot = result.bootstrap(12, "pairs", samples=True)
    assert np.all(drawn(result, 12).sum(axis=1) == T.size)
    for weights, sample in zip(drawn(result, 12), boot.samples, strict=True):
        places = np.repeat(np.arange(T.size), weights.astype(int))
        expected, _ = scipy.optimize.curve_fit(decay_np, T[places], Y[0][places], P0, ftol=1e-12)
        np.testing.assert_allclose(sample, expected, rtol=1e-6)


def test_pairs_with_a_loss():
    y, sigma = Y[0].copy(), SIGMA[0]
    y[4] += 1.0
    how = {"loss": "soft_l1", "f_scale": np.linspace(0.02, 0.05, T.size)}
    result = fit(decay, T, y, P0, sigma=sigma, **how)
    boot = result.bootstrap(8, "pairs", samples=True)
    for weights, sample in zip(drawn(result, 8), boot.samples, strict=True):
        places = np.repeat(np.arange(T.size), weights.astype(int))
        some = T[places], y[places], P0
        again = fit(
            decay, *some, sigma=sigma[places], loss="soft_l1", f_scale=how["f_scale"][places]
        )
        np.testing.assert_allclose(sample, again.x, rtol=1e-5)


@pytest.mark.long_but("jacfwd")
@pytest.mark.parametrize("jac", ["jacfwd", lambda x, a, b: curve_jac(x, a, b)])
def test_pairs_of_counts(jac):
    result = fit(curve, X, COUNTS[0], [3.0, 1.0], loss="poisson", jac=jac)
    boot = result.bootstrap(8, "pairs", samples=True)
    for weights, sample in zip(drawn(result, 8), boot.samples, strict=True):
        places = np.repeat(np.arange(20), weights.astype(int))
        again = fit(curve, X[places], COUNTS[0][places], [3.0, 1.0], loss="poisson")
        np.testing.assert_allclose(sample, again.x, rtol=1e-6)


def curve_jac(x, a, b):
    e = jnp.exp(b * x)
    return jnp.stack([e, a * x * e], axis=1)


@pytest.mark.long
def test_pairs_with_the_callers_jacobian():
    boots = [
        fit(decay, T, Y, P0, jac=jac).bootstrap(20, "pairs", samples=True).samples
        for jac in ("jacfwd", decay_jac)
    ]
    np.testing.assert_allclose(*boots, rtol=1e-6)


def test_too_few_different_points_are_a_failure():
    x = np.array([0.0, 1.0, 2.0])
    result = fit(line, x, np.array([0.1, 0.9, 2.2]), [0.0, 0.0])
    with pytest.warns(RuntimeWarning, match="of 1 of 1 fits more than 5% of the replicates"):
        boot = result.bootstrap(4000, "pairs")
    # Three draws of three points are all the same with probability 1/9.
    assert abs(boot.failed / 4000 - 1 / 9) < 4 * np.sqrt(8 / 81 / 4000)
    assert f"{boot.failed:,} replicates failed, of 1; left out" in repr(boot)
    assert np.all(np.isfinite(boot.stderr))


# --- intervals ------------------------------------------------------------------------


def skewed():
    """The mean of exponential data, and its fit."""
    y = np.random.default_rng(6).exponential(1.0, 25)
    return y, fit(lambda x, a: a + 0 * x, np.arange(25.0), y, [1.0])


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_of_a_mean_are_scipys(method):
    y, result = skewed()
    k = 40_000
    boot = result.bootstrap(k, "pairs")
    # Three of the errors that two quantiles of k samples have, in the tail that bca asks for.
    slack = {"percentile": 0.06, "bca": 0.09}[method]
    for level in (0.8, 0.9, 0.95):
        expected = scipy.stats.bootstrap(
            (y,), np.mean, n_resamples=k, confidence_level=level, method=method,
            random_state=np.random.default_rng(7),
        ).confidence_interval  # fmt: skip
        ends = boot.interval(level, method=method)
        np.testing.assert_allclose(ends[0], expected, atol=slack * boot.stderr[0])
    # The methods differ by more than that.
    apart = boot.interval(method="bca") - boot.interval(method="percentile")
    assert np.all(apart > 0.15 * boot.stderr[0])


def test_intervals_are_those_of_the_samples():
    result = fit(decay, T, Y, P0)
    boot = result.bootstrap(999, samples=True)
    ends = np.moveaxis(np.quantile(boot.samples, [0.025, 0.975], axis=1), 0, -1)
    np.testing.assert_allclose(boot.interval(method="percentile"), ends, rtol=1e-8)
    # SciPy's own formula with our influence of the points.
    low = np.mean(boot.samples < result.x[:, None], axis=1)
    z0 = scipy.stats.norm.ppf(low)[..., None]
    z = scipy.stats.norm.ppf([0.025, 0.975])
    e = decay_jac(T, *result.x.T[:, :, None], np)  # of (B, m): columns in the middle
    u = np.einsum("bij,bjm->bim", result.inverse_gram, e) * -result.residuals[:, None]
    a = (np.sum(u**3, axis=-1) / 6 / np.sum(u**2, axis=-1) ** 1.5)[..., None]
    np.testing.assert_allclose(boot.acceleration, a[..., 0], rtol=1e-6)
    p = scipy.stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z)))
    by_hand = np.empty((len(Y), 2, 2))
    for i, j in np.ndindex(len(Y), 2):
        by_hand[i, j] = np.quantile(boot.samples[i, :, j], p[i, j])
    assert np.all(np.abs(boot.interval() - by_hand) < 0.05 * boot.stderr[..., None])


def test_the_params_of_an_interval():
    result = fit(decay, T, Y[:2], dict(zip("ak", P0, strict=True)))
    boot = result.bootstrap(200)
    whole = boot.interval()
    assert whole.shape == (2, 2, 2)
    assert set(boot.stderr) == set(boot.bias) == {"a", "k"}
    for params, columns in (("k", [1]), (0, [0]), (["k", "a"], [1, 0]), ([1, "a"], [1, 0])):
        np.testing.assert_array_equal(boot.interval(params=params), whole[:, columns])
    with pytest.raises(ValueError, match="params names 'b'"):
        boot.interval(params="b")
    with pytest.raises(ValueError, match="params has 2, but there are 2 parameters"):
        boot.interval(params=[2])
    with pytest.raises(ValueError, match="method must be one of"):
        boot.interval(method="wald")
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        boot.interval(95)
    with pytest.raises(ValueError, match=r"level=0\.999 needs k of at least 1999 replicates"):
        boot.interval(0.999)


# --- the same again -------------------------------------------------------------------


def samples_of(result, kind="residual", k=30, **how):
    return result.bootstrap(k, kind, samples=True, **how).samples


@pytest.mark.parametrize("kind", KINDS)
def test_to_the_bit_whatever_the_workers(kind, monkeypatch):
    monkeypatch.setattr(groups, "BLOCK_PROBLEMS", 16)  # 53 blocks, which workers take in any order
    expected = samples_of(fit(decay, T, Y, P0, workers=1), kind, 70)
    again = samples_of(fit(decay, T, Y, P0, workers=3), kind, 70)
    np.testing.assert_array_equal(again, expected)
    other = samples_of(fit(decay, T, Y, P0), kind, 70, seed=1)
    assert not np.any(other == expected)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_blocks(kind, monkeypatch):
    expected = samples_of(fit(decay, T, Y, P0), kind, 70)
    monkeypatch.setattr(groups, "BLOCK_PROBLEMS", 16)
    monkeypatch.setattr(runs, "MOST_LANES", 300)
    # XLA may round the model of more fits at once to another last digit.
    again = samples_of(fit(decay, T, Y, P0), kind, 70)
    np.testing.assert_allclose(again, expected, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_alone_is_that_of_the_batch(kind):
    result = fit(decay, T, Y.reshape(3, 4, -1), P0)
    expected = samples_of(result, kind)
    np.testing.assert_allclose(samples_of(result[1, 2], kind), expected[1, 2], rtol=1e-9)
    np.testing.assert_allclose(samples_of(result[:, ::-1], kind), expected[:, ::-1], rtol=1e-9)
    alone = samples_of(fit(decay, T, Y[6], P0), kind)
    np.testing.assert_allclose(alone, expected[1, 2], rtol=1e-6)
    # The first of more replicates are the same.
    more = samples_of(result, kind, 100)
    np.testing.assert_allclose(more[:, :, :30], expected, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_points_that_do_not_count_change_nothing(kind):
    some = np.arange(T.size) % 5 != 2
    cut = samples_of(fit(decay, T[some], Y[:, some], P0), kind)
    wrong = np.where(some, Y, 1e3)
    masked = samples_of(fit(decay, T, wrong, P0, mask=some), kind)
    np.testing.assert_allclose(masked, cut, rtol=1e-6)
    missing = np.where(some, Y, np.nan)
    omitted = samples_of(fit(decay, T, missing, P0, nan_policy="omit"), kind)
    np.testing.assert_allclose(omitted, cut, rtol=1e-6)
    other = np.ma.array(wrong, mask=~np.broadcast_to(some, Y.shape))
    np.testing.assert_allclose(samples_of(fit(decay, T, other, P0), kind), cut, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_ragged(kind):
    lengths = [12, 20, 12, 17]
    xs, ys = ([v[:m] for m in lengths] for v in (T, Y[0]))
    ys = [Y[i][:m] for i, m in enumerate(lengths)]
    whole = samples_of(fit(decay, xs, ys, P0), kind)
    for i, m in enumerate(lengths):
        alone = samples_of(fit(decay, T[:m], Y[i][:m], P0), kind)
        np.testing.assert_allclose(whole[i], alone, rtol=1e-6)


def test_fits_that_fail_are_alone_in_it():
    y = Y.copy()
    y[3, 5] = np.nan
    result = fit(decay, T, y, P0)
    boot = result.bootstrap(50, samples=True)
    good = np.arange(len(Y)) != 3
    others = samples_of(fit(decay, T, Y, P0), k=50)[good]
    np.testing.assert_allclose(boot.samples[good], others, rtol=1e-9)
    assert boot.failed[3] == 50
    assert np.all(boot.failed[good] == 0)
    for values in (boot.stderr[3], boot.cov[3], boot.interval(0.9)[3], boot.samples[3]):
        assert np.all(np.isnan(values))
    assert "1 without: they did not converge" in repr(boot)


def test_without_degrees_of_freedom():
    result = fit(line, X[:2], LINE[:2], [0.0, 0.0])
    assert np.all(np.isnan(result.bootstrap(10).stderr))
    known = fit(line, X[:2], LINE[:2], [0.0, 0.0], sigma=[0.1, 0.1], absolute_sigma=True)
    close(known.bootstrap(5000, "parametric").stderr, known.stderr, 5000)


# --- as the fit was ---------------------------------------------------------------------


def test_bounds_and_fixed():
    held = fit(decay, T, Y, P0, bounds=([0, 0], [1.5, 9]), fixed=[False, True])
    boot = held.bootstrap(40, samples=True)
    assert np.all(boot.samples[..., 1] == 1.0)
    assert np.all(boot.stderr[:, 1] == 0)
    assert np.all(boot.interval(0.9, 1) == 1.0)
    assert np.all(boot.samples[..., 0] <= 1.5)
    assert np.any(boot.samples[..., 0] == 1.5)


def test_float32():
    wide = fit(decay, T, Y, P0)
    narrow = fit(decay, T.astype(np.float32), Y.astype(np.float32), P0)
    assert narrow.x.dtype == np.float32
    for kind in KINDS:
        boot = narrow.bootstrap(300, kind)
        assert boot.cov.dtype == np.float64
        # Pairs have a heavy tail: a few replicates are of hardly more points than parameters.
        ratio = boot.stderr / wide.bootstrap(300, kind).stderr
        np.testing.assert_allclose(np.median(ratio), 1.0, atol=0.1)
        assert kind == "pairs" or np.max(np.abs(ratio - 1)) < 0.25
    fixed = fit(decay, T.astype(np.float32), Y.astype(np.float32), (1.0, 1.1), fixed="k")
    assert np.all(fixed.bootstrap(20).stderr[:, 1] == 0)


def test_an_expanded_model_and_settings():
    result = fit(decay, T, Y, [1.0], expand=lambda p: jnp.stack([p[0], p[0]]), starts=3)
    boot = result.bootstrap(20)
    assert boot.stderr.shape == (len(Y), 1)


@pytest.mark.long
def test_a_model_of_python():
    def model(t, a, k):
        return a * np.exp(-k * np.array([float(v) for v in t]))

    expected = fit(decay, T, Y[:2], P0).bootstrap(20).stderr
    np.testing.assert_allclose(fit(model, T, Y[:2], P0).bootstrap(20).stderr, expected, rtol=1e-4)


# --- memory, interrupts, what is refused --------------------------------------------------


def test_memory_does_not_grow_with_k(monkeypatch):
    monkeypatch.setattr(runs, "MOST_LANES", 512)
    x = np.linspace(0, 1, 500)
    y = 1 + 2 * x + 0.1 * np.random.default_rng(0).normal(size=(48, 500))
    result = fit(line, x, y, [0.0, 0.0], workers=1)
    peaks = {}
    for k in (128, 512):
        result.bootstrap(k)
        tracemalloc.start()
        result.bootstrap(k)
        peaks[k] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # All data sets at once would be 98 MB.
    assert peaks[512] < 15e6
    assert peaks[512] < 2 * peaks[128]


def test_ctrl_c_keeps_the_fits_that_are_done(monkeypatch):
    monkeypatch.setattr(runs, "MOST_LANES", 200)

    def progress(done, total):
        if total > len(Y) and done > 500:
            raise KeyboardInterrupt

    result = fit(decay, T, Y, P0, progress=progress, workers=1)
    with pytest.raises(Interrupted, match="what is done of the bootstrap") as caught:
        result.bootstrap(100)
    done = np.isfinite(caught.value.result.cov).all(axis=(1, 2))
    assert done[0]
    assert not done[-1]


def test_what_is_refused():
    result = fit(decay, T, Y, P0)
    for arguments, error, words in (
        ((1,), ValueError, "k must be at least 2"),
        ((10.0,), TypeError, "k must be a whole number, got 10.0"),
        ((10, "wild"), ValueError, "kind must be one of"),
        ((10, None), ValueError, "kind must be one of"),
    ):
        with pytest.raises(error, match=words):
            result.bootstrap(*arguments)
    with pytest.raises(ValueError, match="seed must be from 0"):
        result.bootstrap(10, seed=-1)
    with pytest.raises(TypeError, match="seed must be a whole number"):
        result.bootstrap(10, seed=None)
    counts = fit(curve, X, COUNTS, [3.0, 1.0], loss="poisson")
    with pytest.raises(ValueError, match="kind='residual' is not for counts"):
        counts.bootstrap(10)
    general = least_squares_batch(lambda p, d: decay(T, *p) - d, np.array(P0), Y)
    with pytest.raises(ValueError, match="fitted by a model: use fit"):
        general.bootstrap(10)


def test_linear_parameters_are_eliminated_in_replicates_too():
    plain = samples_of(fit(decay, T, Y, P0))
    linear = samples_of(fit(decay, T, Y, P0, linear="a"))
    np.testing.assert_allclose(linear, plain, rtol=1e-5)


def test_errors_in_x_are_refused():
    with pytest.raises(ValueError, match="makes data with errors in y alone"):
        fit(decay, T, Y[:2], P0, sigma=0.02, xsigma=0.05).bootstrap(10)


def test_what_data_sets_share_is_refused():
    with pytest.raises(ValueError, match="shared ties all data sets together"):
        fit(decay, T, Y, P0, shared="k").bootstrap(10)


def test_a_loaded_result_has_no_data(tmp_path):
    fit(decay, T, Y, P0).save(tmp_path / "fits.npz")
    with pytest.raises(ValueError, match="bootstrap needs the data and the model"):
        FitResult.load(tmp_path / "fits.npz").bootstrap(10)
