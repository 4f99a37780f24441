"""`FitResult.refit` with another question, and `FitResult.where`."""

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import xarray

import jaxlsq
from jaxlsq import Interrupted, Status, least_squares_batch
from jaxlsq.models import Gaussian
from tests.decays import P0, SIGMA, B, T, Y, decay, noise

# Where fits end depends on where they began, by less than their tolerances.
fit = partial(jaxlsq.fit, ftol=1e-13, xtol=1e-13)
NAMED = {"a": 1.0, "k": 1.0}


@pytest.fixture(scope="module")
def result():
    return fit(decay, T, Y, NAMED)


def agrees(found, expected):
    """Whether two results are the same fits, with the same statistics of them."""
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-5)
    np.testing.assert_allclose(found.cost, expected.cost, rtol=1e-9)
    np.testing.assert_allclose(found.cov, expected.cov, rtol=1e-4, atol=1e-12)
    for name in ("dof", "fixed", "active_mask", "success"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (found.of_counts, found.absolute_sigma) == (expected.of_counts, expected.absolute_sigma)


# --- starts ---------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["linear", "poisson"])
def test_what_could_not_begin_is_guessed_again_behind_a_mask(loss):
    """A guess of NaN is none, and of the few points behind another mask a bad one."""
    peak, x = Gaussian(), np.linspace(0.0, 10.0, 60)
    rng = np.random.default_rng(2)
    clean = 40.0 * np.exp(-0.5 * (x - rng.uniform(3.0, 7.0, (4, 1))) ** 2)
    y, mask = rng.poisson(clean + 0.5).astype(float), np.ones((4, 60), bool)
    y[1, 30], mask[2, 2:] = np.nan, False
    found = fit(peak, x, y, mask=mask, loss=loss)
    assert found.where(["NONFINITE_DATA", "TOO_FEW_POINTS"]).tolist() == [False, True, True, False]
    expected = fit(peak, x, y, mask=np.isfinite(y), loss=loss)
    again = found.refit(mask=np.isfinite(y))
    assert again.success.all()
    np.testing.assert_allclose(again.x, expected.x, rtol=1e-5)
    some = found.refit(where=found.failed, mask=np.isfinite(y))
    np.testing.assert_allclose(some.x, expected.x, rtol=1e-5)


# --- where ---------------------------------------------------------------------------


def test_where_finds_statuses():
    y = Y.copy()
    y[3, 2] = np.nan
    y[5] = np.nan
    found = fit(decay, T, y, P0, mask=np.arange(B)[:, None] != 5, max_nfev=5)
    names = [Status(code).name for code in found.status]
    for name in {*names, "GTOL"}:
        expected = [other == name for other in names]
        assert found.where(status=name).tolist() == expected
        assert found.where(status=Status[name]).tolist() == expected
        assert found.where(int(Status[name])).tolist() == expected
    both = found.where(status=["max_nfev", Status.NONFINITE_DATA])
    assert both.tolist() == [name in ("MAX_NFEV", "NONFINITE_DATA") for name in names]
    assert "MASKED_OUT" in names
    assert not found.failed[names.index("MASKED_OUT")]
    again = found.refit(where=found.where(status="MAX_NFEV"), max_nfev=100, ftol=None, xtol=None)
    assert again.where(status="NONFINITE_DATA").sum() == 1
    assert again.success.sum() == B - 2


def test_where_knows_its_statuses(result):
    for wrong in ("CONVERGED", 99, ["FTOL", "no"]):
        with pytest.raises(ValueError, match="status must be one of NONFINITE_COST, MASKED_OUT"):
            result.where(status=wrong)


# --- bounds and fixed parameters -------------------------------------------------------


def test_other_bounds(result):
    bounds = {"a": (0.0, 1.9)}
    again = result.refit(bounds=bounds)
    expected = fit(decay, T, Y, {"a": 1.0, "k": result.params["k"]}, bounds=bounds)
    agrees(again, expected)
    assert np.any(again.active_mask[:, 0] == 1)
    assert result.active_mask.sum() == 0  # that it was is not changed
    agrees(again.refit(bounds=None), result)
    np.testing.assert_array_equal(again.refit().x, again.x)


def test_other_fixed_parameters_stay_where_they_ended(result):
    again = result.refit(fixed="k")
    agrees(again, fit(decay, T, Y, {"a": 1.0, "k": result.params["k"]}, fixed="k"))
    moved = result.refit(fixed="k", p0={"a": 1.0, "k": 0.7})
    agrees(moved, fit(decay, T, Y, {"a": 1.0, "k": 0.7}, fixed="k"))
    agrees(moved.refit(fixed=None), result)
    agrees(moved.refit(fixed=[]), result)


def test_what_is_not_changed_stays(result):
    held = fit(decay, T, Y, {"a": 1.0, "k": 0.7}, fixed="k", bounds={"a": (0.0, 1.9)})
    agrees(held.refit(bounds={"a": (0.0, 1.5)}), fit(decay, T, Y, {"a": 1.0, "k": 0.7}, fixed="k",
                                                     bounds={"a": (0.0, 1.5)}))  # fmt: skip
    free = fit(decay, T, Y, NAMED, bounds={"a": (0.0, 1.9)})
    agrees(held.refit(fixed=None), free)


def test_some_of_the_fits(result):
    where = np.arange(B) % 3 == 0
    again = result.refit(where=where, bounds={"a": (None, 1.9)}, loss="soft_l1", f_scale=0.02)
    bounded = result.refit(bounds={"a": (None, 1.9)}, loss="soft_l1", f_scale=0.02)
    for name in ("x", "cost", "dof", "active_mask"):
        expected = np.where(where.reshape(-1, *[1] * (getattr(result, name).ndim - 1)),
                            getattr(bounded, name), getattr(result, name))  # fmt: skip
        np.testing.assert_allclose(getattr(again, name), expected, rtol=1e-9)
    # Each of them answers for its own question, and goes on with it.
    np.testing.assert_allclose(again.cov[where], bounded.cov[where], rtol=1e-9)
    np.testing.assert_allclose(again.cov[~where], result.cov[~where], rtol=1e-9)
    later = again.refit(where=np.ones(B, bool), p0=NAMED)
    np.testing.assert_allclose(later.x, again.x, rtol=1e-5)
    np.testing.assert_allclose(again[0].cov, bounded[0].cov, rtol=1e-9)


def test_models_bounds_are_those_of_what_is_not_named():
    def model(t, a, k):
        return decay(t, a, k)

    model.bounds = {"a": (0.0, 1.9)}
    once = fit(model, T, Y, {"a": 1.0, "k": 1.0})
    again = once.refit(bounds={"k": (0.0, 1.0)})
    agrees(again, fit(model, T, Y, {"a": 1.0, "k": 0.9}, bounds={"k": (0.0, 1.0)}))


# --- losses and masks ------------------------------------------------------------------


@pytest.fixture(scope="module")
def outliers():
    y = Y.copy()
    y[:, 4] += 3.0
    return y


def test_another_loss(result, outliers):
    squares = fit(decay, T, outliers, NAMED)
    robust = fit(decay, T, outliers, squares.params, loss="cauchy", f_scale=0.05)
    again = squares.refit(loss="cauchy", f_scale=0.05)
    agrees(again, robust)
    wide = again.refit(f_scale=0.5)
    agrees(wide, fit(decay, T, outliers, again.params, loss="cauchy", f_scale=0.5))
    agrees(again.refit(loss="huber"), fit(decay, T, outliers, again.params, loss="huber",
                                          f_scale=0.05))  # fmt: skip
    agrees(again.refit(loss="linear"), squares)
    each = np.linspace(0.02, 0.2, B)[:, None]
    agrees(squares.refit(loss="cauchy", f_scale=each),
           fit(decay, T, outliers, squares.params, loss="cauchy", f_scale=each))  # fmt: skip


def test_counts():
    counts = np.random.default_rng(3).poisson(50 * Y.clip(0)).astype(float)
    squares = fit(decay, T, counts, (50.0, 1.0))
    likely = fit(decay, T, counts, (50.0, 1.0), loss="poisson")
    again = squares.refit(loss="poisson")
    agrees(again, likely)
    np.testing.assert_allclose(again.residuals, likely.residuals, rtol=1e-5, atol=1e-8)
    agrees(again.refit(loss="linear"), squares)
    with pytest.raises(ValueError, match="for all fits of a result or for none"):
        squares.refit(where=np.arange(B) < 3, loss="poisson")
    with pytest.raises(ValueError, match="needs counts, whole numbers from zero on; ydata has"):
        fit(decay, T, Y, P0).refit(loss="poisson")
    with pytest.raises(ValueError, match="takes no sigma"):
        fit(decay, T, counts, (50.0, 1.0), sigma=SIGMA).refit(loss="poisson")


def test_another_mask(outliers):
    squares = fit(decay, T, outliers, NAMED)
    mask = np.arange(T.size) != 4
    agrees(squares.refit(mask=mask), fit(decay, T, outliers, NAMED, mask=mask))
    each = np.random.default_rng(2).random(Y.shape) > 0.2
    masked = squares.refit(mask=each)
    agrees(masked, fit(decay, T, outliers, NAMED, mask=each))
    assert np.all(masked.residuals[~each] == 0.0)
    agrees(masked.refit(mask=True), squares)
    where = np.arange(B) < 4
    some = squares.refit(where=where, mask=each)
    np.testing.assert_allclose(some.x, np.where(where[:, None], masked.x, squares.x), rtol=1e-6)
    np.testing.assert_array_equal(some.dof, np.where(where, masked.dof, squares.dof))
    np.testing.assert_allclose(some.cov[where], masked.cov[where], rtol=1e-6)
    robust = masked.refit(loss="soft_l1", f_scale=0.1)
    agrees(robust, fit(decay, T, outliers, masked.params, mask=each, loss="soft_l1", f_scale=0.1))


def test_a_mask_over_what_is_not_finite():
    x, y = np.tile(T, (B, 1)), Y.copy()
    x[2, 7], y[3, 5] = np.nan, np.nan
    first = fit(decay, x, y, NAMED)
    assert first.failed.tolist() == [k in (2, 3) for k in range(B)]
    mask = np.isfinite(x) & np.isfinite(y)
    agrees(first.refit(mask=mask), fit(decay, x, y, NAMED, mask=mask))
    still = first.refit(mask=np.arange(T.size) != 5)
    assert still.failed.tolist() == [k == 2 for k in range(B)]
    assert still.status[2] == Status.NONFINITE_DATA
    shared = fit(decay, np.where(np.arange(20) == 7, np.nan, T), Y, NAMED)
    assert shared.failed.all()
    agrees(shared.refit(mask=np.arange(20) != 7), fit(decay, T, Y, NAMED, mask=np.arange(20) != 7))


def test_jacobian_and_counts_follow_the_mask():
    counts = np.random.default_rng(3).poisson(50 * Y.clip(0)).astype(float)

    def jac(t, a, k):
        e = jnp.exp(-k * t)
        return jnp.stack([e, -a * t * e], axis=1)

    mask = np.random.default_rng(2).random(Y.shape) > 0.2
    for options in ({"loss": "poisson"}, {}):
        first = fit(decay, T, counts, (50.0, 1.0), jac=jac, **options)
        expected = fit(decay, T, counts, (50.0, 1.0), jac=jac, mask=mask, **options)
        agrees(first.refit(mask=mask), expected)


# --- what has labels, other doors, and what does not go ---------------------------------


def test_tables_and_dims_are_read_by_their_labels():
    keys = [f"s{k}" for k in range(B)]
    table = pandas.DataFrame(Y, index=keys)
    found = fit(decay, T, table, NAMED)
    upper = pandas.Series(np.linspace(1.2, 3.0, B), index=keys)
    shuffled = upper.sample(frac=1.0, random_state=1)
    agrees(found.refit(bounds={"a": (0.0, shuffled)}), found.refit(bounds={"a": (0.0, upper)}))
    mask = pandas.DataFrame(np.random.default_rng(2).random(Y.shape) > 0.2, index=keys)
    agrees(found.refit(mask=mask.sample(frac=1.0, random_state=1)), found.refit(mask=mask.values))

    array = xarray.DataArray(Y.T.reshape(20, 3, 4), dims=("t", "y", "x"))
    images = fit(decay, T, array, NAMED, axis="t")
    live = xarray.DataArray(mask.values.reshape(3, 4, 20), dims=("y", "x", "t"))
    expected = images.refit(mask=np.moveaxis(live.values, -1, 0))
    agrees(images.refit(mask=live), expected)
    np.testing.assert_allclose(expected.x.reshape(B, 2), found.refit(mask=mask.values).x, rtol=1e-9)
    lower = xarray.DataArray(np.full((4, 3), 1.9), dims=("x", "y"))
    assert images.refit(bounds={"a": (0.0, lower)}).shape == (3, 4)
    with pytest.raises(TypeError, match="mask has dims, and these are some of the fits"):
        images[0].refit(mask=live)
    with pytest.raises(TypeError, match="bounds has dims"):
        images[0].refit(bounds={"a": (0.0, lower)})
    assert images[0].refit(mask=live.values[0]).shape == (4,)


@pytest.mark.long
def test_a_general_function_and_a_model_in_python():
    first = least_squares_batch(lambda p, y: decay(T, p[0], p[1]) - y, P0, Y)
    options = {"bounds": ([0.0, 0.0], [1.9, 9.0]), "loss": "cauchy", "f_scale": 0.05}
    expected = least_squares_batch(
        lambda p, y: decay(T, p[0], p[1]) - y, np.minimum(first.x, [1.9, 9.0]), Y, **options
    )
    agrees(first.refit(**options), expected)
    each = np.linspace(0.02, 0.2, B)[:, None]
    assert first.refit(loss="cauchy", f_scale=each).success.all()
    with pytest.raises(ValueError, match="mask is of data that are fitted by a model"):
        first.refit(mask=np.ones(20, bool))

    def model(t, a, k):
        return np.asarray([float(a) * np.exp(-float(k) * v) for v in t])

    called = fit(model, T, Y[:2], P0)
    assert called.engine.startswith("Python")
    np.testing.assert_allclose(called.refit(fixed=[False, True]).x[:, 1], called.x[:, 1])


def test_ragged_data():
    lengths = (20, 9, 13)
    xs, ys = [T[:k] for k in lengths], [y[:k] for y, k in zip(Y, lengths, strict=False)]
    ragged = fit(decay, xs, ys, NAMED)
    robust = ragged.refit(loss="cauchy", f_scale=0.05, bounds={"a": (0.0, 1.9)})
    expected = fit(decay, xs, ys, {"a": 1.0, "k": 1.0}, loss="cauchy", f_scale=0.05,
                   bounds={"a": (0.0, 1.9)})  # fmt: skip
    agrees(robust, expected)
    with pytest.raises(ValueError, match="no mask where data sets differ in length"):
        ragged.refit(mask=[np.ones(k, bool) for k in lengths])


def test_improper_questions(result):
    for options, words in (
        ({"bounds": {"b": (0, 1)}}, "bounds names 'b'"),
        ({"bounds": (2.0, 1.0)}, "Each lower bound must be less"),
        ({"loss": "tukey"}, "`loss` must be one of"),
        ({"f_scale": 2.0}, "f_scale goes with a robust loss"),
        ({"loss": "cauchy", "f_scale": -1.0}, "`f_scale` must be positive"),
        ({"mask": np.ones(7, bool)}, "mask must broadcast to the shape of ydata"),
        ({"fixed": True}, "all parameters are fixed"),
        ({"p0": {"a": 5.0, "k": 1.0}, "bounds": {"a": (0, 2)}}, "`p0` is infeasible"),
    ):
        with pytest.raises(ValueError, match=words):
            result.refit(**options)
    with pytest.raises(TypeError, match=r"\['sigma'\] can't be changed; what can is .*'mask'"):
        result.refit(sigma=2.0)
    cov = fit(decay, T, Y, P0, sigma=np.eye(20)[None])
    with pytest.raises(ValueError, match="a covariance matrix as sigma goes with neither mask"):
        cov.refit(mask=np.arange(20) > 2)


def test_what_was_given_may_change_afterwards(result):
    mask = np.arange(20) != 4
    again = result.refit(mask=mask)
    cov = again.cov.copy()
    mask[:] = False
    np.testing.assert_array_equal(replace(again).cov, cov)
    assert again.problem.watched is not None


def test_an_interrupt_of_a_refit(result, monkeypatch):
    def stop(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxlsq.batch.stream.POLL_S", 1e-3)  # before a fast machine is done

    many = fit(decay, T, np.tile(Y, (5000, 1)) + noise((60000, 20)), P0)
    with pytest.raises(Interrupted) as stopped:
        many.refit(loss="cauchy", f_scale=0.05, progress=stop)
    found = stopped.value.result
    assert found.where(status="INTERRUPTED").any()
    assert found.problem.loss is not None


def test_shared_and_linear_parameters_take_no_other_question():
    for options in ({"shared": ["k"]}, {"linear": ["a"]}):
        found = fit(decay, T, Y, NAMED, **options)
        with pytest.raises(ValueError, match="does not change loss where parameters are shared"):
            found.refit(loss="soft_l1")


def test_errors_in_x_take_no_other_loss():
    found = fit(decay, T, Y, NAMED, sigma=0.02, xsigma=0.01)
    with pytest.raises(ValueError, match="neither loss nor mask where x has errors"):
        found.refit(loss="soft_l1")
    assert np.all(found.refit(fixed="k").fixed[:, 1])
