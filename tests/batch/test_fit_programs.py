"""What `fit` compiles, once, and JAX's flags, which it obeys and leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlsq.batch.group
from jaxlsq import Status, clear_cache, fit
from tests.decays import P0, T, Y, decay, decay_np, noise


@pytest.fixture(scope="module")
def plain():
    return fit(decay, T, Y, P0)


# --- compilation -----------------------------------------------------------------


def test_new_lambdas_and_new_data_compile_nothing(compiles):
    def once(scale):
        weights = scale * np.ones(T.size)  # an array that the lambda closes over
        result = fit(lambda t, a, k: weights[: t.size] * decay(t, a, k), T, 5.0 * scale * Y, P0)
        return result.x, result.cov, result.residuals, result.predict(T[:4])

    first = once(1.0)
    before = compiles()
    second = once(3.0)
    assert compiles() == before
    np.testing.assert_allclose(first[0], second[0], rtol=1e-6)
    for one, other in zip(first[1:], second[1:], strict=True):
        assert one.shape == other.shape
    np.testing.assert_allclose(3.0 * first[3], second[3], rtol=1e-6)


def test_one_program_for_one_model(compiles):
    def once(shift):
        return fit(lambda t, a, k: jnp.tanh(a) * jnp.exp(-k * t), T + shift, 0.5 * Y, [0.5, 1.0])

    before = compiles()
    once(0.0)
    first = compiles()
    assert 1 <= first - before <= 2  # the pool, and an empty one
    once(0.1)
    assert compiles() == first


def test_what_is_given_per_data_set_is_told_apart_by_its_name():
    # x for each and one sigma, or the reverse, which are arrays of the same shapes.
    clear_cache()
    x = np.stack([T, T + 0.3])
    sigma = np.linspace(0.05, 0.2, 2 * T.size).reshape(2, -1)
    rng = np.random.default_rng(5)
    for places, errors in ((x, sigma[0]), (T, sigma)):
        places_of, errors_of = (np.broadcast_to(v, x.shape) for v in (places, errors))
        y = decay_np(places_of, 2.0, 1.0) + errors_of * rng.normal(size=x.shape)
        given = {"sigma": errors, "absolute_sigma": True}
        result = fit(decay, places, y, P0, **given)
        assert result.success.all()
        moved = fit(decay, places, y, P0, xsigma=np.full(x.shape, 0.05), **given)
        for i in range(2):
            a, k = result.x[i]
            curve = a * np.exp(-k * places_of[i])
            np.testing.assert_allclose(result.predict()[i], curve, rtol=1e-12)
            rows = np.stack([curve / a, -places_of[i] * curve])
            cov = np.linalg.inv(rows / errors_of[i] ** 2 @ rows.T)
            np.testing.assert_allclose(result.cov[i], cov, rtol=1e-9)
            band = np.sqrt(np.einsum("im,ij,jm->m", rows, cov, rows))
            np.testing.assert_allclose(result.band()[i], band, rtol=1e-9)
            weights = 1.0 / errors_of[i] ** 2
            about = y[i] - np.average(y[i], weights=weights)
            whole = np.sum(weights * about**2)
            np.testing.assert_allclose(result.r2[i], 1.0 - result.chi2[i] / whole, rtol=1e-9)
            # The shifts are where the distance from the curve is least.
            a, k = moved.x[i]
            shifts = moved.x_shifts[i]
            there = a * np.exp(-k * (places_of[i] + shifts))
            slope = (there - y[i]) * -k * there / errors_of[i] ** 2 + shifts / 0.05**2
            np.testing.assert_allclose(slope, 0.0, atol=1e-5)


def test_guesses_are_compiled_once(compiles):
    def once(y):
        return fit(decay, T, y, lambda t, y: (jnp.max(y), 1.0))

    once(Y)
    before = compiles()
    result = once(2.0 * Y)
    assert compiles() == before
    assert result.success.all()


def test_settings_compile_nothing(compiles):
    fit(decay, T, Y, P0)
    before = compiles()
    fit(decay, T, Y, P0, ftol=1e-3, xtol=1e-3, gtol=1e-3, max_nfev=3, x_scale=[1.0, 2.0])
    fit(decay, T + 1.0, Y[:9], [2.0, 0.5])
    fit(decay, T, Y.reshape(3, 4, -1), {"a": 1.0, "k": 1.0})
    assert compiles() == before


# --- blocks ----------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(jaxlsq.batch.group, "BLOCK_PROBLEMS", 16)
    monkeypatch.setattr(jaxlsq.batch.group, "LEAST_PROBLEMS", 4)


MANY_TRUTH = np.random.default_rng(9).uniform((1.0, 0.3), (3.0, 2.5), (150, 2))
MANY = decay_np(T, *MANY_TRUTH.T[:, :, None]) + noise((150, T.size), 10)


def test_blocks_do_not_matter(small_blocks, monkeypatch):
    blocks = fit(decay, T, MANY, P0)
    monkeypatch.undo()
    whole = fit(decay, T, MANY, P0)
    assert_equal(blocks, whole)
    assert whole.success.all()
    assert len(np.unique(whole.nfev)) > 2


@pytest.mark.long
def test_blocks_do_not_matter_with_everything_per_data_set(small_blocks, monkeypatch):
    x = np.random.default_rng(11).uniform(0.0, 4.0, MANY.shape)
    y = decay_np(x, *MANY_TRUTH.T[:, :, None]) + noise(x.shape, 12)
    y[::7, 3] = np.nan
    y[1::7, 4] = np.inf
    options = {
        "sigma": np.random.default_rng(13).uniform(0.5, 2.0, y.shape),
        "mask": np.random.default_rng(14).uniform(size=y.shape) > 0.1,
        "nan_policy": "omit",
    }

    def run():
        starts = np.stack([MANY_TRUTH * 0.9, MANY_TRUTH * 1.2], axis=1)
        return fit(decay, x, y, lambda x, y: (jnp.nanmax(y), 1.0), starts=starts, **options)

    blocks = run()
    arrays = blocks.cov, blocks.residuals, blocks.predict()
    monkeypatch.undo()
    whole = run()
    # Which of several equal starts is taken is a matter of rounding.
    np.testing.assert_array_equal(blocks.success, whole.success)
    np.testing.assert_array_equal(blocks.agreed, whole.agreed)
    np.testing.assert_array_equal(blocks.dof, whole.dof)
    np.testing.assert_allclose(blocks.x, whole.x, rtol=1e-6)
    np.testing.assert_allclose(blocks.cost, whole.cost, rtol=1e-9)
    assert set(whole.counts()) > {Status.FTOL, Status.NONFINITE_DATA}
    for one, other in zip(arrays, (whole.cov, whole.residuals, whole.predict()), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def assert_equal(blocks, whole):
    """The same fits, but for how sums are rounded."""
    for name in ("status", "nfev", "njev", "nit", "dof", "agreed"):
        np.testing.assert_array_equal(getattr(blocks, name), getattr(whole, name))
    for name in ("x", "cost"):
        np.testing.assert_allclose(getattr(blocks, name), getattr(whole, name), rtol=1e-10)


def test_arrays_of_jax_are_read_without_a_compilation_for_each_block(small_blocks, compiles):
    with jax.enable_x64(True):
        on_device = jnp.asarray(MANY)
    fit(decay, T, on_device[:100], P0)  # 13 blocks of 8
    before = compiles()
    result = fit(decay, T, on_device, P0)  # 10 blocks of 16
    assert compiles() - before <= 6
    np.testing.assert_allclose(result.x, fit(decay, T, MANY, P0).x, rtol=1e-10)


# --- flags -----------------------------------------------------------------------


def test_no_flag_of_jax_changes(plain):
    names = ("jax_enable_x64", "jax_numpy_dtype_promotion", "jax_numpy_rank_promotion")
    before = [getattr(jax.config, name) for name in names]
    fit(decay, T, Y, lambda t, y: (y[0], 1.0), starts=2)
    assert [getattr(jax.config, name) for name in names] == before == [False, "standard", "allow"]
    assert jnp.asarray(np.ones(2)).dtype == np.float32
    with jax.enable_x64(True):
        np.testing.assert_array_equal(fit(decay, T, Y, P0).x, plain.x)
        assert jax.config.jax_enable_x64
        assert jnp.asarray(np.ones(2)).dtype == np.float64


def test_strict_promotion_is_obeyed(plain, strict):
    def model(t, a, k):
        return a * jnp.exp(-k * t) * (1.0 + 0.0 * a)  # compiled here, under the strict flags

    result = fit(model, T, Y, P0, starts=2)
    assert result.success.all()
    np.testing.assert_allclose(result.x, plain.x, rtol=1e-6)
