"""How often intervals have the truth in them: 10,000 simulated data sets, a batch each."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import fit

SETS = 10_000
T = np.linspace(0.0, 4.0, 40)
TRUTH = np.array([2.0, 1.1, 0.5])
SIGMA = 0.05 * (1 + T / 4)


def decay(t, a, k, c):
    return a * jnp.exp(-k * t) + c


MEAN = TRUTH[0] * np.exp(-TRUTH[1] * T) + TRUTH[2]


def coverage(result, truth=TRUTH):
    """Shares of intervals of one and two (1.96) standard errors with the truth in them."""
    assert result.success.mean() > 0.999
    pull = np.abs(result.x - truth) / result.stderr
    return np.stack([(pull < 1.0).mean(axis=0), (pull < 1.96).mean(axis=0)])


def simulated(kind):
    rng = np.random.default_rng(21)
    noise = rng.normal(size=(SETS, T.size))
    if kind == "covariance":
        near = np.exp(-np.abs(T[:, None] - T) / 0.4)
        matrix = 0.05**2 * near
        y = MEAN + noise @ np.linalg.cholesky(matrix).T
        return {"ydata": y, "sigma": matrix, "absolute_sigma": True}
    if kind == "poisson":
        return {"ydata": rng.poisson(40 * MEAN, (SETS, T.size)), "loss": "poisson"}
    y = MEAN + SIGMA * noise
    if kind == "scaled":
        return {"ydata": y, "sigma": 7.0 * SIGMA}
    if kind == "bounds that do not hold":
        return {"ydata": y, "sigma": SIGMA, "absolute_sigma": True, "bounds": (-9.0, 9.0)}
    return {"ydata": y, "sigma": SIGMA, "absolute_sigma": True}


KINDS = ["absolute", "scaled", "covariance", "poisson", "bounds that do not hold"]


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_as_often_as_they_say(kind, capsys):
    data = simulated(kind)
    unit = np.array([40.0, 1.0, 40.0]) if kind == "poisson" else np.ones(3)
    p0 = np.array([1.5, 1.0, 0.4]) * unit
    result = fit(decay, T, p0=p0, **data)
    found = coverage(result, TRUTH * unit)
    with capsys.disabled():
        print(f"\ncoverage, {kind}: {np.round(found, 3).tolist()}")
    np.testing.assert_allclose(found[0], 0.6827, atol=0.02)
    np.testing.assert_allclose(found[1], 0.95, atol=0.02)


@pytest.mark.long
def test_bands_and_derived_quantities_cover_too():
    result = fit(decay, T, p0=(1.5, 1.0, 0.4), **simulated("absolute"))
    at = np.array([0.3, 2.0, 6.0])
    true = TRUTH[0] * np.exp(-TRUTH[1] * at) + TRUTH[2]
    pull = np.abs(result.predict(at) - true) / result.band(at)
    np.testing.assert_allclose((pull < 1).mean(axis=0), 0.6827, atol=0.02)
    np.testing.assert_allclose((pull < 1.96).mean(axis=0), 0.95, atol=0.02)
    area, error = result.derived(lambda p: p[0] / p[1])
    pull = np.abs(area - TRUTH[0] / TRUTH[1]) / error
    np.testing.assert_allclose(np.mean(pull < 1), 0.6827, atol=0.02)
    np.testing.assert_allclose(np.mean(pull < 1.96), 0.95, atol=0.02)


def test_at_a_bound_the_free_ones_cover():
    """One parameter is held where it truly is; the others have the errors of a smaller problem."""
    data = simulated("absolute")
    bounds = ([-9.0, -9.0, TRUTH[2]], [9.0, 9.0, 9.0])
    result = fit(decay, T, p0=(1.5, 1.0, 0.6), bounds=bounds, **data)
    held = result.active_mask[:, 2] == -1
    assert 0.4 < held.mean() < 0.6
    fixed = fit(decay, T, p0=(1.5, 1.0, TRUTH[2]), fixed=[False, False, True], **data)
    np.testing.assert_allclose(result.x[held], fixed.x[held], rtol=1e-5)
    np.testing.assert_allclose(result.stderr[held], fixed.stderr[held], rtol=1e-4)
    pull = np.abs(fixed.x[:, :2] - TRUTH[:2]) / fixed.stderr[:, :2]
    np.testing.assert_allclose((pull < 1).mean(axis=0), 0.6827, atol=0.02)


@pytest.mark.long
def test_profiles_cover_where_standard_errors_do_not(capsys):
    """A saturating curve of six points, which often ends before its plateau."""
    rng, x = np.random.default_rng(1), np.array([0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
    y = x / (1.0 + x) + 0.07 * rng.normal(size=(SETS, x.size))

    def rate(x, top, half):
        return top * x / (half + x)

    result = fit(rate, x, y, (1.0, 1.0), bounds=(0.0, np.inf))
    assert result.success.mean() > 0.995
    profile = result.profile()
    wald, found = (
        np.mean((ends[..., 0] <= 1.0) & (ends[..., 1] >= 1.0), axis=0)
        for ends in (result.interval(), profile.interval)
    )
    with capsys.disabled():
        print(f"\ncoverage of 95 %, Wald {wald.round(4)}, profile {found.round(4)}")
        print(f"evaluations: {profile.nfev.sum() / result.nfev.sum():.1f} times those of the fits")
    assert np.abs(wald - 0.95).max() > 0.02
    np.testing.assert_allclose(found, 0.95, atol=0.01)


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "data"), [("parametric", "absolute"), ("parametric", "poisson"), ("pairs", "scaled")]
)
def test_bootstrap_intervals_cover_as_often_as_they_say(kind, data, capsys):
    unit = np.array([40.0, 1.0, 40.0]) if data == "poisson" else np.ones(3)
    arguments = simulated(data)
    some = arguments | {"ydata": arguments["ydata"][:1000]}
    result = fit(decay, T, p0=np.array([1.5, 1.0, 0.4]) * unit, **some)
    boot, truth = result.bootstrap(999, kind), TRUTH * unit
    for method in ("percentile", "bca"):
        low, high = np.moveaxis(boot.interval(0.95, method=method), -1, 0)
        found = np.mean((low < truth) & (high > truth), axis=0)
        with capsys.disabled():
            print(f"\ncoverage, {kind} {method} of {data}: {np.round(found, 3).tolist()}")
        # Of 1,000 data sets to three standard errors; pairs of 40 points are somewhat too short.
        assert np.all(np.abs(found - 0.95) < (0.04 if kind == "pairs" else 0.02))
