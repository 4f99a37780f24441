"""Data of `fit` that are masked, missing, ragged, narrow, or in unusual containers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import Status, fit
from tests.decays import (
    P0,
    SIGMA,
    B,
    Sliced,
    T,
    Y,
    decay,
    decay_np,
    noise,
    scipy_fits,
)

OTHERS = np.arange(B) != 3


@pytest.fixture(scope="module")
def plain():
    return fit(decay, T, Y, P0)


@pytest.fixture(scope="module")
def live():
    """Which points of each data set count."""
    live = np.random.default_rng(2).uniform(size=Y.shape) > 0.2
    assert len(set(live.sum(axis=1))) > 2
    return live


def without(values, live):
    """A list of the points that count of each data set."""
    return [np.broadcast_to(values, Y.shape)[i][live[i]] for i in range(B)]


def assert_only_one_failed(result, plain, status):
    """Data set 3 ended with `status`, and the others are bitwise what they are without it."""
    assert result.status[3] == status
    for name in ("x", "cost", "status", "nfev", "njev", "nit", "optimality", "dof"):
        np.testing.assert_array_equal(getattr(result, name)[OTHERS], getattr(plain, name)[OTHERS])


# --- masks and NaN ---------------------------------------------------------------


def test_a_mask_is_as_removing_the_points(live):
    result = fit(decay, T, Y, P0, mask=live, ftol=1e-12, xtol=1e-12)
    popt, pcov = scipy_fits(without(T, live), without(Y, live))
    np.testing.assert_allclose(result.params, popt, rtol=1e-7)
    np.testing.assert_allclose(result.cov, pcov, rtol=1e-6)
    np.testing.assert_array_equal(result.dof, live.sum(axis=1) - 2)
    np.testing.assert_array_equal(result.residuals == 0, ~live)


def test_masked_points_are_not_read(live):
    expected = fit(decay, T, Y, P0, mask=live, sigma=SIGMA)
    junk = np.where(np.arange(T.size) % 2, np.nan, np.inf)
    y, sigma = np.where(live, Y, junk), np.where(live, SIGMA, -junk)
    result = fit(decay, T, y, P0, mask=live, sigma=sigma)
    np.testing.assert_array_equal(result.x, expected.x)
    np.testing.assert_array_equal(result.cov, expected.cov)


def test_a_mask_may_be_shared_or_of_some_axes(live):
    shared = fit(decay, T, Y, P0, mask=live[0])
    cut = fit(decay, T, Y, P0, mask=np.tile(live[0], (B, 1)))
    np.testing.assert_allclose(shared.x, cut.x, rtol=1e-10)
    np.testing.assert_array_equal(shared.dof, np.full(B, live[0].sum() - 2))
    rows = fit(decay, T, Y.reshape(3, 4, -1), P0, mask=live[:4])
    for i in range(3):
        whole = fit(
            decay, T, np.tile(Y[4 * i : 4 * i + 4], (3, 1)), P0, mask=np.tile(live[:4], (3, 1))
        )
        np.testing.assert_array_equal(rows.x[i], whole.x[:4])


def test_a_mask_of_one_value_for_each_data_set(plain):
    mask = (np.arange(B) != 3)[:, None]
    result = fit(decay, T, Y, P0, mask=mask)
    np.testing.assert_array_equal(result.dof, np.where(mask[:, 0], T.size, 0) - 2)
    assert result.status[3] == Status.MASKED_OUT
    np.testing.assert_allclose(result.x[OTHERS], plain.x[OTHERS], rtol=1e-9)


def test_omit_is_as_removing_the_points(live):
    y = np.where(live, Y, np.nan)
    result = fit(decay, T, y, P0, nan_policy="omit", ftol=1e-12, xtol=1e-12)
    popt, pcov = scipy_fits(without(T, live), without(Y, live))
    np.testing.assert_allclose(result.params, popt, rtol=1e-7)
    np.testing.assert_allclose(result.cov, pcov, rtol=1e-6)
    np.testing.assert_array_equal(result.dof, live.sum(axis=1) - 2)
    np.testing.assert_array_equal(result.residuals == 0, ~live)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_propagate_ends_only_the_fit_of_a_bad_point(plain, value):
    y = Y.copy()
    y[3, 7] = value
    result = fit(decay, T, y, P0)
    assert_only_one_failed(result, plain, Status.NONFINITE_DATA)
    np.testing.assert_array_equal(result.x[3], P0)
    assert np.isnan(result.cost[3])
    assert np.isnan(result.cov[3]).all()
    np.testing.assert_array_equal(result.cov[OTHERS], plain.cov[OTHERS])
    assert "nan_policy='omit'" in result.message(3)


def test_absolute_sigma_gives_no_covariance_to_a_fit_that_did_not_begin(plain):
    y = Y.copy()
    y[3, 7] = np.nan
    cov = fit(decay, T, y, P0, sigma=1.0, absolute_sigma=True).cov
    assert np.isnan(cov[3]).all()
    assert np.isfinite(cov[OTHERS]).all()


def test_omit_leaves_infinity_an_error(live):
    y = Y.copy()
    y[3, 7], y[5, 2] = np.inf, np.nan
    result = fit(decay, T, y, P0, nan_policy="omit")
    assert result.status[3] == Status.NONFINITE_DATA
    assert result.success[OTHERS].all()
    assert result.dof[5] == T.size - 3


@pytest.mark.parametrize("container", [np.asarray, Sliced], ids=["array", "sliced"])
def test_raise_raises_before_anything_is_compiled(plain, compiles, container):
    y = Y.copy()
    y[11, 7] = np.nan
    before = compiles()
    with pytest.raises(ValueError, match=r"ydata contains NaN.*nan_policy='omit'"):
        fit(decay, T, container(y), P0, nan_policy="raise")
    assert compiles() == before
    clean = fit(decay, T, container(Y), P0, nan_policy="raise")
    np.testing.assert_array_equal(clean.x, plain.x)


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0])
def test_a_bad_sigma_of_one_data_set_ends_its_fit(value):
    sigma = SIGMA.copy()
    sigma[3, 7] = value
    result = fit(decay, T, Y, P0, sigma=sigma)
    assert_only_one_failed(result, fit(decay, T, Y, P0, sigma=SIGMA), Status.NONFINITE_DATA)


def test_sigma_broadcasts():
    full = fit(decay, T, Y, P0, sigma=np.tile(SIGMA[:, :1], (1, T.size)), absolute_sigma=True)
    each = fit(decay, T, Y, P0, sigma=SIGMA[:, :1], absolute_sigma=True)
    np.testing.assert_allclose(each.x, full.x, rtol=1e-10)
    np.testing.assert_allclose(each.cov, full.cov, rtol=1e-9)
    np.testing.assert_array_equal(each.residuals.shape, Y.shape)
    shared = fit(decay, T, Y, P0, sigma=SIGMA[0], absolute_sigma=True)
    spelled = fit(decay, T, Y, P0, sigma=np.tile(SIGMA[0], (B, 1)), absolute_sigma=True)
    np.testing.assert_allclose(shared.x, spelled.x, rtol=1e-10)
    number = fit(decay, T, Y, P0, sigma=2.0)
    np.testing.assert_allclose(number.cost, fit(decay, T, Y, P0).cost / 4, rtol=1e-10)


# --- fits that can't succeed ------------------------------------------------------


def test_too_few_points(live):
    mask = np.ones(Y.shape, bool)
    mask[3, 1:] = False
    mask[4, 2:] = False  # as many points as parameters
    result = fit(decay, T, Y, P0, mask=mask)
    plain = fit(decay, T, Y, P0, mask=np.ones(Y.shape, bool))
    assert result.status[3] == Status.TOO_FEW_POINTS
    np.testing.assert_array_equal(result.x[3], P0)
    assert result.success[OTHERS].all()
    np.testing.assert_array_equal(result.dof[3:5], [-1, 0])
    np.testing.assert_allclose(decay_np(T[:2], *result.x[4]), Y[4, :2], rtol=1e-9)
    others = (np.arange(B) != 3) & (np.arange(B) != 4)
    np.testing.assert_array_equal(result.x[others], plain.x[others])
    assert np.all(np.isnan(result.cov[3]))  # it did not begin
    assert np.all(result.cov[4] == np.inf)


def test_a_model_that_is_nan_at_one_start():
    def model(t, a, k):
        return jnp.exp(jnp.log(a) - k * t)

    p0 = np.ones((B, 2))
    plain = fit(model, T, Y, p0)
    p0[3, 0] = -1.0
    result = fit(model, T, Y, p0)
    assert_only_one_failed(result, plain, Status.NONFINITE_START)
    np.testing.assert_array_equal(result.x[3], [-1.0, 1.0])
    assert np.isnan(result.cost[3])
    assert plain.success.all()


def test_a_start_that_is_nan(plain):
    p0 = np.ones((B, 2))
    p0[3, 1] = np.nan
    assert_only_one_failed(fit(decay, T, Y, p0), plain, Status.NONFINITE_DATA)


def test_all_zero_data_disturb_nobody(plain):
    y = Y.copy()
    y[3] = 0.0
    result = fit(decay, T, y, P0)
    # Whether the amplitude becomes exactly zero, and the rate undetermined, is left to rounding.
    assert result.success[3] or result.status[3] == Status.SINGULAR_JACOBIAN
    assert_only_one_failed(result, plain, result.status[3])
    assert abs(result.x[3, 0]) < 1e-12
    assert result.cost[3] < 1e-24


def test_an_exact_fit_of_nothing_is_singular(plain):
    y, p0 = Y.copy(), np.ones((B, 2))
    y[3], p0[3, 0] = 0.0, 0.0
    result = fit(decay, T, y, p0)
    assert_only_one_failed(result, plain, Status.SINGULAR_JACOBIAN)
    assert result.cost[3] == 0.0
    assert "do not determine" in result.message(3)
    assert result.undetermined(3) == ("k",)
    assert np.all(result.cov[3, 1] == np.inf)


def test_two_parameters_that_do_the_same_are_singular():
    result = fit(lambda t, a, b: (a + b) * jnp.exp(-t), T, Y, P0)
    assert np.all(result.status == Status.SINGULAR_JACOBIAN)
    assert np.all(result.cov == np.inf)
    assert np.all(result.stderr == np.inf)
    best = Y @ np.exp(-T) / np.sum(np.exp(-2 * T))
    np.testing.assert_allclose(result.x.sum(axis=1), best, rtol=1e-7)


def test_two_of_which_only_the_product_counts_are_singular():
    """The last pivot is rounding, and differs from fit to fit."""
    rng = np.random.default_rng(3)
    y = decay_np(T, *rng.uniform(0.5, 2.5, (2, 1000, 1))) + noise((1000, T.size))
    result = fit(lambda t, a, b, k: a * b * jnp.exp(-k * t), T, y, [1.0, 1.3, 1.0])
    assert np.all(result.status == Status.SINGULAR_JACOBIAN)
    assert np.all(result.cov[:, :2] == np.inf)
    assert np.all(np.isfinite(result.cov[:, 2, 2]))


# --- ragged ----------------------------------------------------------------------

LENGTHS = np.array([20, 9, 12, 10, 17, 12, 18, 9, 11, 19, 20, 10])
XS = [T[:k] for k in LENGTHS]
YS = [y[:k] for y, k in zip(Y, LENGTHS, strict=True)]


def test_ragged_is_a_loop_of_single_fits():
    result = fit(decay, XS, YS, P0, ftol=1e-12, xtol=1e-12)
    popt, pcov = scipy_fits(XS, YS)
    assert result.shape == (B,)
    np.testing.assert_allclose(result.params, popt, rtol=1e-7)
    np.testing.assert_allclose(result.cov, pcov, rtol=1e-6)
    np.testing.assert_array_equal(result.dof, LENGTHS - 2)
    for parts in (result.residuals, result.predict()):
        assert [part.shape for part in parts] == [(k,) for k in LENGTHS]
    for x, y, p, model, f in zip(XS, YS, result.x, result.predict(), result.residuals, strict=True):
        np.testing.assert_allclose(model, decay_np(x, *p), rtol=1e-12)
        np.testing.assert_allclose(f, model - y, atol=1e-14)
    assert result.predict(T[:7]).shape == (B, 7)


def test_ragged_with_sigma_mask_and_nan(live):
    keep = [live[i, :k] for i, k in enumerate(LENGTHS)]
    sigma = [SIGMA[i, :k] for i, k in enumerate(LENGTHS)]
    ys = [y.copy() for y in YS]
    ys[0][-1] = np.nan  # the point that padding repeats
    keep[0][-1] = True
    result = fit(
        decay, XS, ys, P0, sigma=sigma, mask=keep, nan_policy="omit", ftol=1e-12, xtol=1e-12
    )
    used = [k & np.isfinite(y) for k, y in zip(keep, ys, strict=True)]
    for i, u in enumerate(used):
        popt, pcov = scipy_fits(XS[i][u], ys[i][u][None], sigma=sigma[i][u][None])
        np.testing.assert_allclose(result.x[i], popt[0], rtol=1e-7)
        np.testing.assert_allclose(result.cov[i], pcov[0], rtol=1e-6)
        assert result.dof[i] == u.sum() - 2


# --- numbers and containers --------------------------------------------------------


def test_float32_is_computed_in_float32(plain):
    result = fit(decay, T.astype(np.float32), Y.astype(np.float32), P0)
    assert result.params.dtype == result.optimality.dtype == np.float32
    assert result.cost.dtype == np.float64  # squares of what float32 holds may leave its range
    assert result.residuals.dtype == result.predict().dtype == np.float32
    assert result.cov.dtype == np.float64
    assert result.success.all()
    assert 1e-9 < np.abs(result.x / plain.x - 1).max() < 1e-3
    np.testing.assert_allclose(result.stderr, plain.stderr, rtol=1e-3)


def test_polish_reaches_float64(plain):
    t, y = T.astype(np.float32), Y.astype(np.float32)
    result = fit(decay, t, y, P0, polish="float64")
    exact = fit(decay, t, y.astype(float), P0, ftol=1e-12, xtol=1e-12)
    narrow = fit(decay, t, y, P0)
    assert result.params.dtype == result.cost.dtype == np.float64
    error, before = np.abs(result.x / exact.x - 1), np.abs(narrow.x / exact.x - 1)
    assert error.max() < 1e-6
    assert error.max() < 0.1 * before.max()
    assert np.all(result.nfev > narrow.nfev)
    assert result.success.all()


def test_narrow_floats_and_integers(plain):
    half = fit(decay, T.astype(np.float16), Y.astype(np.float16), P0)
    assert half.x.dtype == np.float32
    whole = np.round(1000.0 * Y).astype(np.int16)
    result = fit(decay, T, whole, P0)
    assert result.x.dtype == np.float64
    np.testing.assert_array_equal(result.x, fit(decay, T, whole.astype(float), P0).x)
    positive = fit(decay, np.arange(20), np.abs(whole), P0)  # and an integer xdata
    assert positive.success.all()


@pytest.mark.parametrize("per_lane", [False, True])
def test_integers_that_float32_would_round_make_the_fit_wide(per_lane):
    x, y = np.arange(20), Y.astype(np.float32)
    x = np.broadcast_to(x, Y.shape).astype(np.int16) if per_lane else x
    assert fit(decay, x, y, P0).x.dtype == np.float32
    far = x.astype(np.int64) + 2**40
    result = fit(lambda t, a, k: decay(t - 2.0**40, a, k), far, y, P0)
    assert result.x.dtype == np.float64
    np.testing.assert_array_equal(result.x, fit(decay, x, y.astype(float), P0).x)


def test_any_container_gives_the_same_bits(plain, tmp_path):
    np.save(tmp_path / "y.npy", Y)
    strided = np.full((2 * B, 2 * T.size), np.nan)
    strided[::2, ::2] = Y
    with jax.enable_x64(True):
        on_device = jnp.asarray(Y)
    for y in (
        np.load(tmp_path / "y.npy", mmap_mode="r"),
        on_device,
        Sliced(Y),
        np.asfortranarray(Y),
        strided[::2, ::2],
        Y[::-1][::-1],
        list(Y),
        Y.tolist(),
        Y.astype(">f8"),
    ):
        result = fit(decay, T, y, P0)
        np.testing.assert_array_equal(result.x, plain.x)
        np.testing.assert_array_equal(result.residuals, plain.residuals)
    image = fit(decay, T, Sliced(Y.reshape(3, 4, -1)), P0)
    np.testing.assert_array_equal(image.x.reshape(B, 2), plain.x)
    np.testing.assert_array_equal(image[1:, 2].residuals, plain.residuals[[6, 10]])


def test_one_data_set_that_is_only_sliced():
    expected = fit(decay, T, Y[0], P0)
    np.testing.assert_array_equal(fit(decay, T, Sliced(Y[0]), P0).x, expected.x)


def test_data_are_not_changed(live):
    arrays = [T.copy(), Y.copy(), SIGMA.copy(), live.copy(), np.ones((B, 2))]
    copies = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    x, y, sigma, mask, p0 = arrays
    fit(decay, x, y, p0, sigma=sigma, mask=mask)
    for a, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(a, copy)
