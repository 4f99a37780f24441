"""`fit` against a loop of SciPy, and what may be passed as xdata, p0, jac, starts and settings."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxlsq import Status, fit
from tests.decays import (
    P0,
    SIGMA,
    TRUTH,
    B,
    T,
    Y,
    decay,
    decay_jac,
    decay_jac_np,
    decay_np,
    noise,
    scipy_fits,
)

TIGHT = {"ftol": 1e-12, "xtol": 1e-12}


@pytest.fixture(scope="module")
def plain():
    return fit(decay, T, Y, P0)


def assert_same(result, expected, rtol=1e-6):
    """The same minima, by paths that may differ."""
    assert result.success.all()
    np.testing.assert_allclose(result.x, expected.x, rtol=rtol, atol=1e-9)
    np.testing.assert_allclose(result.cost, expected.cost, rtol=1e-7)


# --- against SciPy --------------------------------------------------------------


def peak(t, height, place, width, offset, xp=jnp):
    return height * xp.exp(-0.5 * ((t - place) / width) ** 2) + offset


def peak_np(*arguments):
    return peak(*arguments, xp=np)


def peaks():
    places = np.random.default_rng(3).uniform(1.0, 3.0, B)
    return peak_np(T, 2.0, places[:, None], 0.5, 0.3) + noise((B, T.size), 4)


CASES = {
    "decay": (decay, decay_np, decay_jac_np, Y, P0, None, False),
    "sigma": (decay, decay_np, decay_jac_np, Y, P0, SIGMA, False),
    "absolute": (decay, decay_np, decay_jac_np, Y, P0, 0.02 * SIGMA, True),
    "peak": (peak, peak_np, None, peaks(), (1.0, 2.0, 1.0, 0.0), None, False),
}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_a_loop_of_curve_fit(case):
    model, model_np, jac, y, p0, sigma, absolute = CASES[case]
    result = fit(model, T, y, p0, sigma=sigma, absolute_sigma=absolute, **TIGHT)
    popt, pcov = scipy_fits(T, y, p0, model_np, jac, sigma=sigma, absolute_sigma=absolute)
    assert result.success.all()
    assert len(np.unique(result.nfev)) > 1  # the fits of one batch end at different times
    np.testing.assert_allclose(result.params, popt, rtol=1e-6 if jac is None else 1e-7)
    rtol = 1e-4 if jac is None else 1e-6  # SciPy's forward differences
    size = np.sqrt(np.einsum("bi,bj->bij", *2 * [np.diagonal(pcov, axis1=1, axis2=2)]))
    assert np.max(np.abs(result.cov - pcov) / size) < rtol
    expected = np.sqrt(np.diagonal(pcov, axis1=1, axis2=2))
    np.testing.assert_allclose(result.stderr, expected, rtol=rtol)


def test_agrees_with_a_loop_of_leastsq():
    result = fit(decay, T, Y, P0, sigma=1.0, absolute_sigma=True)
    for i in range(B):
        x, cov_x, info, _, ier = scipy.optimize.leastsq(
            lambda p, y=Y[i]: decay_np(T, *p) - y,
            P0,
            Dfun=lambda p: decay_jac_np(T, *p),
            full_output=True,
        )
        np.testing.assert_allclose(result.x[i], x, rtol=1e-6)
        np.testing.assert_allclose(result.cov[i], cov_x, rtol=1e-5)
        np.testing.assert_allclose(result.cost[i], 0.5 * np.sum(info["fvec"] ** 2), rtol=1e-10)
        assert result.status[i] == ier
        assert result.nfev[i] == info["nfev"]
        assert result.dof[i] == T.size - 2


# --- batch shapes -----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (12,), (3, 4), (2, 2, 3), (12, 1), (1, 12)])
def test_any_batch_shape(plain, shape):
    y = Y.reshape(*shape, T.size) if shape else Y[5]
    result = fit(decay, T, y, P0)
    assert result.shape == shape
    for name in ("cost", "status", "nfev", "njev", "nit", "optimality", "dof", "agreed"):
        assert getattr(result, name).shape == shape
    assert result.params.shape == result.stderr.shape == (*shape, 2)
    assert result.cov.shape == (*shape, 2, 2)
    assert result.residuals.shape == result.predict().shape == y.shape
    expected = plain.x.reshape(*shape, 2) if shape else plain.x[5]
    np.testing.assert_allclose(result.x, expected, rtol=1e-10)


def test_an_image_with_its_spectra_in_front_is_moved_by_the_caller(plain):
    image = np.asfortranarray(Y.reshape(3, 4, T.size).transpose(2, 0, 1))  # (m, 3, 4)
    result = fit(decay, T, np.moveaxis(image, 0, -1), P0)
    np.testing.assert_array_equal(result.x, plain.x.reshape(3, 4, 2))


def test_no_data_sets_at_all():
    result = fit(decay, T, Y[:0], P0)
    assert result.shape == (0,)
    assert result.x.shape == (0, 2)
    assert result.counts() == {}
    assert result.cov.shape == (0, 2, 2)
    assert result.residuals.shape == result.predict().shape == (0, T.size)


# --- xdata -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12,), (3, 4)])
def test_xdata_of_each_data_set(shape):
    x = np.random.default_rng(7).uniform(0.0, 4.0, (B, T.size))
    y = decay_np(x, *TRUTH.T[:, :, None]) + noise(x.shape)
    result = fit(decay, x.reshape(*shape, -1), y.reshape(*shape, -1), P0, **TIGHT)
    np.testing.assert_allclose(result.x.reshape(B, 2), scipy_fits(list(x), y)[0], rtol=1e-7)
    residuals = result.predict() - y.reshape(*shape, -1)
    np.testing.assert_allclose(result.residuals, residuals, atol=1e-14)


def test_xdata_with_several_variables_is_shared(plain):
    x = np.stack([T / 2, T / 4, T / 4])  # (d, m)

    def model(x, a, k):
        return decay(x[0] + x[1] + x[2], a, k)

    assert_same(fit(model, x, Y, P0), plain)


def test_an_axis_of_length_one_shares_what_looks_like_one_for_each(plain):
    x = np.zeros((B, T.size))
    x[3] = T

    def model(x, a, k):
        assert x.shape == (B, T.size)
        return decay(x[3], a, k)

    assert_same(fit(model, x[None], Y, P0), plain)


def test_xdata_may_be_a_pytree_of_shared_arrays_and_of_ones_for_each(plain):
    gain = np.arange(1.0, B + 1)[:, None]

    def model(x, a, k):
        assert x["gain"].shape == (1,)
        assert x["more"][0].shape == (T.size,)
        return x["gain"] * decay(x["more"][0], a, k)

    result = fit(model, {"gain": gain, "more": (T,)}, gain * Y, P0)
    np.testing.assert_allclose(result.x, plain.x, rtol=1e-6)


def test_lists_of_equal_lengths_are_data_of_each_fit(plain):
    assert_same(fit(decay, [T] * B, list(Y), P0), plain)


def test_a_tuple_of_as_many_coordinates_as_data_sets_is_shared(plain):
    result = fit(lambda x, a, k: decay(x[0] + x[1], a, k), (T / 4, 3 * T / 4), list(Y[:2]), P0)
    np.testing.assert_allclose(result.x, plain.x[:2], rtol=1e-6)


# --- p0 --------------------------------------------------------------------------


def test_p0_of_each_data_set(plain):
    p0 = TRUTH * 1.1
    result = fit(decay, T, Y, p0)
    assert_same(result, plain)
    assert np.any(result.nfev != plain.nfev)  # it was another start
    for shape in ((3, 4), (2, 2, 3)):
        same = fit(decay, T, Y.reshape(*shape, -1), p0.reshape(*shape, 2))
        np.testing.assert_array_equal(same.x.reshape(B, 2), result.x)


def test_p0_may_be_a_dict(plain):
    result = fit(decay, T, Y, {"k": 1, "a": 1.0})
    assert set(result.params) == {"a", "k"}
    np.testing.assert_array_equal(result.params["a"], plain.x[:, 0])
    np.testing.assert_array_equal(result.params["k"], plain.x[:, 1])
    np.testing.assert_allclose(result.stderr["k"], plain.stderr[:, 1], rtol=1e-12)


def test_p0_may_be_a_dict_with_values_of_each_data_set(plain):
    array = fit(decay, T, Y, np.stack([np.ones(B), TRUTH[:, 1]], axis=1))
    result = fit(decay, T, Y.reshape(3, 4, -1), {"a": 1.0, "k": TRUTH[:, 1].reshape(3, 4)})
    assert result.params["k"].shape == (3, 4)
    np.testing.assert_array_equal(result.params["a"].ravel(), array.x[:, 0])
    np.testing.assert_array_equal(result.params["k"].ravel(), array.x[:, 1])


GUESSES = {
    "tuple": lambda t, y: (y[0], 1.0),
    "list": lambda t, y: [y[0], 1.0],
    "array": lambda t, y: jnp.array([y[0], 1.0]),
    "dict": lambda t, y: {"k": 1.0, "a": y[0]},
}


@pytest.mark.parametrize("kind", GUESSES)
def test_p0_may_be_a_function_of_the_data(kind):
    result = fit(decay, T, Y, GUESSES[kind])
    expected = fit(decay, T, Y, np.stack([Y[:, 0], np.ones(B)], axis=1))
    params = result.params
    if kind == "dict":
        params = np.stack([params["a"], params["k"]], axis=1)
    np.testing.assert_array_equal(params, expected.x)
    np.testing.assert_array_equal(result.nfev, expected.nfev)


def test_integer_p0_is_computed_as_floats(plain):
    np.testing.assert_array_equal(fit(decay, T, Y, [1, 1]).x, plain.x)


# --- jac and settings ------------------------------------------------------------


@pytest.mark.long_but("2-point", "decay_jac")
@pytest.mark.parametrize("jac", ["2-point", "3-point", "jacrev", decay_jac])
def test_every_jacobian_leads_to_the_same_minimum(plain, jac):
    result = fit(decay, T, Y, P0, jac=jac)
    assert_same(result, plain, rtol=1e-5)
    each = {"2-point": 2, "3-point": 4}.get(jac, 0) if isinstance(jac, str) else 0
    evaluations = result.nfev - each * result.njev
    assert np.abs(evaluations - plain.nfev).max() <= 2


def test_a_jacobian_by_names(plain):
    result = fit(decay, T, Y, {"a": 1.0, "k": 1.0}, jac=lambda t, *, a, k: decay_jac(t, a, k))
    np.testing.assert_allclose(result.x, plain.x, rtol=1e-6)


def test_a_wrong_jacobian_is_used():
    result = fit(decay, T, Y, P0, jac=lambda t, a, k: -decay_jac(t, a, k))
    assert np.all(result.nit == 0)
    np.testing.assert_array_equal(result.x, np.ones((B, 2)))


def test_max_nfev_ends_fits_that_need_more(plain):
    limit = int(plain.nfev.min())
    result = fit(decay, T, Y, P0, max_nfev=limit)
    assert result.nfev.max() == limit
    ended = result.status == Status.MAX_NFEV
    assert ended.any()
    assert not ended.all()
    np.testing.assert_array_equal(result.x[~ended], plain.x[~ended])
    # The last good parameters, better than the start.
    start = 0.5 * np.sum((decay_np(T, *P0) - Y) ** 2, axis=1)
    assert np.all(result.cost[ended] < start[ended])


def test_tolerances_are_obeyed(plain):
    loose, tight = fit(decay, T, Y, P0, ftol=1e-2), fit(decay, T, Y, P0, **TIGHT)
    assert loose.nfev.sum() < plain.nfev.sum() < tight.nfev.sum()
    assert np.all(fit(decay, T, Y, P0, ftol=0.0, xtol=1e-2).status == Status.XTOL)
    assert np.all(fit(decay, T, Y, P0, ftol=0.0, xtol=0.0, gtol=1e-4).status == Status.GTOL)
    assert np.all(tight.optimality <= plain.optimality.max())


def test_x_scale_changes_the_path_and_not_the_minimum(plain):
    result = fit(decay, T, Y, P0, x_scale=[1e-2, 1e2])
    assert_same(result, plain)
    assert np.any(result.nfev != plain.nfev)


# --- starts ----------------------------------------------------------------------


def wave(t, a, w):
    return a * jnp.sin(w * t)


WAVES = 2.0 * np.sin(np.linspace(2.0, 4.5, B)[:, None] * T) + noise((B, T.size), 6)
WAVE_START = (1.0, 2.6)


def test_more_starts_find_better_minima():
    one = fit(wave, T, WAVES, WAVE_START)
    more = fit(wave, T, WAVES, WAVE_START, starts=8)
    assert np.all(one.agreed == 1)
    assert np.all(more.cost <= one.cost * (1 + 1e-9))
    worse = one.cost > 10 * more.cost
    assert 0 < worse.sum() < B
    assert np.all(more.cost < 0.5 * T.size * 0.04**2)  # all of them the noise
    assert np.all((more.agreed >= 1) & (more.agreed <= 8))
    assert np.all(more.agreed[worse] < 8)


def test_explicit_starts_are_used_and_counted():
    truth = np.stack([np.full(B, 2.0), np.linspace(2.0, 4.5, B)], axis=1)
    near = truth[:, None] * np.linspace(0.99, 1.01, 7)[:, None]  # (B, k, n)
    one = fit(wave, T, WAVES, WAVE_START)
    result = fit(wave, T, WAVES, WAVE_START, starts=near)
    np.testing.assert_allclose(np.abs(result.x), truth, rtol=0.02)
    same = np.isclose(one.cost, result.cost, rtol=1e-6)
    np.testing.assert_array_equal(result.agreed, 7 + same)
    shaped = fit(wave, T, WAVES.reshape(3, 4, -1), WAVE_START, starts=near.reshape(3, 4, 7, 2))
    np.testing.assert_array_equal(shaped.x.reshape(B, 2), result.x)
    shared = fit(wave, T, WAVES, WAVE_START, starts=near[4])
    assert np.all(shared.agreed[4] >= 7)
    np.testing.assert_allclose(shared.cost[4], result.cost[4], rtol=1e-6)
