"""`FitResult.suspect`: every reason, where there is one and where there is none."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxlsq import FitResult, Status, fit, least_squares_batch
from tests.decays import P0, T, Y, decay

X = np.linspace(0, 10, 60)
RNG = np.random.default_rng(4)


def peak(x, a, c, w, b):
    return a * jnp.exp(-0.5 * jnp.square((x - c) / w)) + b


def two_decays(t, a, k, b, q):
    return a * jnp.exp(-k * t) + b * jnp.exp(-q * t)


def wave(x, a, w):
    return a * jnp.sin(w * x)


# --- none ---------------------------------------------------------------------------


def test_clean_fits_have_none():
    noise = 0.1 * RNG.normal(size=(40, 25, 60))
    # The offset, which is zero, has an error larger than its value in two of three fits.
    y = np.asarray(peak(X, 1.0, 5.0, 1.0, 0.0)) + noise
    known = {"sigma": 0.1, "absolute_sigma": True}
    result = fit(peak, X, y, [1.0, 5.0, 1.0, 0.1], **known)
    assert np.mean(result.stderr[..., 3] > np.abs(result.x[..., 3])) > 0.5
    assert not result.suspect.any()
    assert result.suspect.shape == (40, 25)
    assert not result.at_bound.any()
    assert result.suspicions((3, 4)) == ()
    assert "suspect" not in result.summary()
    assert "suspect" not in result.report((3, 4))
    narrow = fit(peak, X.astype(np.float32), y[:4].astype(np.float32), [1.0, 5.0, 1.0, 0.1])
    assert not narrow.suspect.any()


def test_exact_data_are_not_suspect():
    # Costs of rounding: a neighbour's may be a tenth, and says nothing.
    y = np.broadcast_to(decay(T, 2.0, 1.0), (6, T.size))
    for data in (np.array(y), np.array(y, np.float32)):
        result = fit(decay, T.astype(data.dtype), data, P0)
        assert result.success.all()
        assert not result.suspect.any()


def test_failed_fits_are_not_suspect_but_failed():
    y = Y.copy()
    y[2, 3] = np.nan
    result = fit(decay, T, y, P0, mask=np.arange(len(Y))[:, None] != 5)
    assert not result.suspect[[2, 5]].any()
    assert result.suspicions(2) == ()


def test_a_fit_without_points_is_not_suspect():
    some = np.arange(len(Y))[:, None] != 5
    result = fit(decay, T, Y, P0, mask=some, sigma=0.1, absolute_sigma=True)
    assert result.dof[5] < 0
    with np.errstate(invalid="raise"):
        assert not result.suspect[5]
        assert "1 masked out" in result.summary()


# --- each -----------------------------------------------------------------------------


def test_a_parameter_at_a_bound():
    result = fit(decay, T, Y, P0, bounds={"a": (None, 2.0)})
    held = result.active_mask[:, 0] == 1
    assert 0 < held.sum() < len(Y)
    np.testing.assert_array_equal(result.suspect, held)
    np.testing.assert_array_equal(result.at_bound, held)
    assert result.suspicions(int(np.argmax(held))) == ("a ended at a bound",)
    words = f"{held.sum()} of those that converged are suspect: {held.sum()} with a parameter at"
    for text in (str(result.summary()), repr(result), result._repr_html_()):
        assert words in text


def test_what_the_data_do_not_determine():
    result = fit(lambda t, a, b, k: a * b * jnp.exp(-k * t), T, Y[:3], [1.0, 1.0, 1.0])
    # Where the Jacobian is singular that is the status, and no success.
    assert np.all(result.status == Status.SINGULAR_JACOBIAN)
    assert not result.suspect.any()
    other = dataclasses.replace(result, status=np.ones_like(result.status))
    assert other.suspect.all()
    assert other.suspicions(1) == ("the data do not determine a and b",)
    assert "3 with parameters that the data do not determine" in other.summary()


def test_errors_that_say_nothing():
    t = np.linspace(0, 4, 60)
    noise = 0.02 * RNG.normal(size=(200, 60))
    near = fit(two_decays, t, two_decays(t, 1, 1, 1, 1.5) + noise, [1.0, 1.0, 1.0, 1.5])
    large = near.success & (near.stderr > np.abs(near.x)).any(axis=1)
    assert large.sum() > 100
    np.testing.assert_array_equal(near.suspect[large], True)
    place = int(np.argmax(large))
    (words,) = near.suspicions(place)
    assert "larger than the value, and says nothing" in words
    assert f"suspect: {words}" in near.report(place)
    apart = fit(two_decays, t, two_decays(t, 1, 1, 1, 10.0) + noise, [1.0, 1.0, 1.0, 10.0])
    assert not apart.suspect.any()


def test_an_error_that_leaves_the_bounds_on_both_sides():
    # The phase of a wave whose amplitude is a tenth of the noise's.
    x = np.linspace(0, 20, 40)
    y = 0.02 * np.sin(x) + np.random.default_rng(2).normal(size=(300, 40))

    def model(x, a, phase):
        return a * jnp.sin(x + phase)

    result = fit(model, x, y, [0.5, 0.1], bounds={"phase": (-0.5, 0.5)})
    free = result.success & ~result.at_bound
    outside = free & (result.x[:, 1] - result.stderr[:, 1] < -0.5)
    outside &= result.x[:, 1] + result.stderr[:, 1] > 0.5
    # Those whose phase is smaller than its error are looked at; with it the amplitude moves little.
    outside &= result.stderr[:, 1] > np.abs(result.x[:, 1])
    assert outside.sum() > 10
    assert result.suspect[outside].all()


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_chi_squared_beyond_its_degrees_of_freedom(factor):
    noise = 0.02 * factor * RNG.normal(size=(500, T.size))
    y = np.asarray(decay(T, 2.0, 1.0)) + noise
    result = fit(decay, T, y, P0, sigma=0.02, absolute_sigma=True)
    beyond = scipy.stats.chi2.sf(result.chi2, result.dof) < 1e-6
    np.testing.assert_array_equal(result.suspect, beyond)
    assert beyond.any() == (factor > 1)
    if factor > 1:
        place = int(np.argmax(beyond))
        assert result.suspicions(place)[0].startswith("a chi-squared of")
        # Without absolute_sigma it is no measure.
        assert not fit(decay, T, y, P0, sigma=0.02).suspect.any()


@pytest.mark.parametrize("mean", [0.05, 0.5, 1.34, 5.0, 200.0])
def test_counts(mean):
    x = np.arange(2000.0)
    right = RNG.poisson(mean, (200, 2000)).astype(float)
    # Of 2000 counts of mean 1.34 the deviance is 16 % larger than its degrees of freedom.
    result = fit(lambda x, a: a + 0 * x, x, right, [mean], loss="poisson")
    assert not result.suspect.any()
    uneven = RNG.poisson(mean * np.where(x % 2, 1.9, 0.1), (5, 2000)).astype(float)
    wrong = fit(lambda x, a: a + 0 * x, x, uneven, [mean], loss="poisson")
    assert wrong.suspect.all() == (mean > 1)
    if mean > 1:
        assert wrong.suspicions(0)[0].startswith("a deviance of")


@pytest.mark.filterwarnings("error")
def test_data_sets_that_are_masked_out_are_no_matter_of_a_warning():
    x = np.linspace(0.0, 1.0, 20)
    y = 1.0 + 2.0 * x + 0.1 * np.random.default_rng(0).normal(size=(3, 20))
    counts = np.array([True, True, False])[:, None]
    result = fit(
        lambda x, a, b: a + b * x, x, y, [0.0, 0.0], sigma=0.1, absolute_sigma=True, mask=counts
    )
    assert result.dof[2] < 0
    assert not result.suspect.any()
    assert "masked out" in str(result)


def test_no_degrees_of_freedom():
    result = fit(decay, T[:2], Y[:, :2], P0)
    assert result.suspect[result.success].all()
    assert any("no degrees of freedom" in words for words in result.suspicions(0))
    assert "with no degrees of freedom" in result.summary()


def waves(shape=(6, 8), seed=1):
    x = np.linspace(0, 6, 50)
    clean = np.asarray(wave(x, 1.0, 3.0))
    return x, clean + 0.05 * np.random.default_rng(seed).normal(size=(*shape, 50))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_neighbours_parameters_fit_it_better(dtype):
    x, y = (v.astype(dtype) for v in waves())
    p0 = np.broadcast_to([1.0, 2.9], (6, 8, 2)).copy()
    p0[2, 3, 1] = 5.5  # in another minimum
    result = fit(wave, x, y, p0)
    assert result.success.all()
    expected = np.zeros((6, 8), bool)
    expected[2, 3] = True
    np.testing.assert_array_equal(result.suspect, expected)
    (words,) = result.suspicions((2, 3))
    costs = [
        0.5 * np.sum(np.square(wave(x, *result.x[place]) - y[2, 3]))
        for place in ((1, 3), (3, 3), (2, 2), (2, 4))
    ]
    assert f"a cost of {min(costs):.4g}"[:-1] in words
    assert f"and not {result.cost[2, 3]:.5g}" in words
    assert f"suspect: {words}" in result.report((2, 3))
    assert "suspect" not in repr(result)  # which asks no data
    assert "1 with a neighbour whose parameters fit better" in result.summary()
    # Refitted from there it is none.
    again = fit(wave, x, y, p0, starts="neighbours")
    assert not again.suspect.any()
    # Nor is it of a fit that has none beside it.
    assert not result[2, 3].suspect
    assert result[2:3, 2:5].suspect.tolist() == [[False, True, False]]


def test_neighbours_within_bounds_and_with_what_is_fixed():
    x, y = waves()
    p0 = np.broadcast_to([1.0, 2.9], (6, 8, 2)).copy()
    p0[2, 3, 1] = 5.5
    upper = np.full((6, 8), np.inf)
    lower = np.zeros((6, 8))
    lower[2, 3] = 5.0  # so that the neighbours' is not to be had
    held = fit(wave, x, y, p0, bounds={"w": (lower, upper)})
    assert not held.suspect[2, 3] or held.at_bound[2, 3]
    fixed = np.zeros((6, 8, 2), bool)
    fixed[2, 3, 1] = True
    assert not fit(wave, x, y, p0, fixed=fixed).suspect[2, 3]


def test_lists_and_general_functions_have_neighbours_too():
    x, y = waves((5,))
    p0 = np.broadcast_to([1.0, 2.9], (5, 2)).copy()
    p0[2, 1] = 5.5
    lengths = [50, 40, 50, 45, 50]
    lists = [x[:m] for m in lengths], [row[:m] for row, m in zip(y, lengths, strict=True)]
    result = fit(wave, *lists, p0)
    assert result.suspect.tolist() == [False, False, True, False, False]
    general = least_squares_batch(lambda p, d: wave(x, *p) - d, p0, y)
    assert general.suspect.tolist() == [False, False, True, False, False]


def test_shared_and_linear_parameters():
    x, y = waves((9,))
    p0 = np.broadcast_to([1.0, 2.9], (9, 2)).copy()
    assert not fit(wave, x, y, p0, linear="a").suspect.any()
    shared = fit(wave, x, y, [1.0, 2.9], shared="w")
    assert not shared.suspect.any()
    assert "suspect" not in shared.summary()


# --- where data are not to be had --------------------------------------------------------


def test_loaded_results_say_what_they_can(tmp_path):
    x, y = waves()
    p0 = np.broadcast_to([1.0, 2.9], (6, 8, 2)).copy()
    p0[2, 3, 1] = 5.5
    p0[0, 5, 0] = 0.5
    bounds = {"a": (0, np.where(np.arange(48).reshape(6, 8) == 5, 0.5, 2.0))}
    result = fit(wave, x, y, p0, sigma=0.05, absolute_sigma=True, bounds=bounds)
    result.save(tmp_path / "fits.npz")
    loaded = FitResult.load(tmp_path / "fits.npz")
    assert "a ended at a bound" in loaded.suspicions((0, 5))
    assert loaded.suspicions((2, 3))[0].startswith("a chi-squared of")
    assert len(result.suspicions((2, 3))) == 2
    assert "suspect" in loaded.summary()
    assert loaded.suspect.sum() == 2


def test_changed_data_are_not_asked():
    y = np.repeat(Y[:, None], 2000, axis=1)  # too large to be copied
    result = fit(decay, T, y, P0)
    y += 1.0
    with pytest.raises(RuntimeError, match="ydata has changed"):
        _ = result.suspect
    assert "24,000 converged" in result.summary()


def test_which_fits_are_asked_for():
    result = fit(decay, T, Y, P0)
    with pytest.raises(IndexError, match="suspicions is of one fit"):
        result.suspicions()
    assert fit(decay, T, Y[0], P0).suspicions() == ()
    assert fit(decay, T, Y[0], P0).suspect == np.False_


def test_xtol_short_of_the_minimum():
    """A date that is fitted: of ||D x||, whose part xtol takes, it is nearly all."""
    x, date = np.linspace(-0.1, 0.1, 60), 2_458_000.0

    def dip(x, depth, width, level, center):
        return level - depth * jnp.exp(-0.5 * ((x - center) / width) ** 2)

    y = 1.0 - 0.01 * np.exp(-0.5 * (x / 0.02) ** 2)
    y = y + 0.0005 * np.random.default_rng(0).normal(size=(5, 60))
    start = [0.008, 0.03, 1.0, 0.02]
    dated = [*start[:3], date + 0.02]
    short, whole = fit(dip, x + date, y, dated), fit(dip, x, y, start)
    assert (short.cost > 2.0 * whole.cost).all()
    assert short.suspect.all()
    assert not whole.suspect.any()
    assert "xtol ended it short of its minimum" in short.suspicions(1)[0]
    assert "5 with xtol short of the minimum" in short.summary()
    longer = fit(dip, x + date, y, dated, xtol=1e-15)
    np.testing.assert_allclose(longer.cost, whole.cost, rtol=1e-6)
    assert not longer.suspect.any()


def test_data_without_noise_are_not_short_of_the_minimum():
    t = np.linspace(0.0, 4.0, 30)
    rates = np.linspace(0.5, 2.0, 20)[:, None]
    y = 2.0 * np.exp(-rates * t)
    result = fit(lambda t, a, k, c: a * jnp.exp(-k * t) + c, t, y, [1.0, 1.0, 0.5], ftol=1e-30)
    assert (result.status == 2).any()
    assert not result.suspect.any()
