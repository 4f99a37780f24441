"""Robust losses against SciPy's, at every front door, and what is made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from scipy.optimize._lsq.least_squares import IMPLEMENTED_LOSSES

from jaxlsq import curve_fit, fit, least_squares, least_squares_batch
from jaxlsq.numerics.loss import RHOS, Robust, scaled, sum_of, weighted
from tests.decays import P0, B, T, Y, decay, decay_np

LOSSES = ("soft_l1", "huber", "cauchy", "arctan")
SCALE = 0.05
OUTLIERS = Y + np.where(np.random.default_rng(8).random(Y.shape) < 0.1, 1.0, 0.0)
TIGHT = {"ftol": 1e-12, "xtol": 1e-12}


def log_cosh_like(z):
    """A callable loss, which is soft_l1 by another name."""
    return RHOS["soft_l1"](z)


def log_cosh_like_np(z):
    t = 1 + z
    return np.stack([2 * (np.sqrt(t) - 1), t**-0.5, -0.5 * t**-1.5])


def scipy_fit(y, loss, f_scale=SCALE, **options):
    return scipy.optimize.least_squares(
        lambda p: decay_np(T, *p) - y,
        P0,
        loss=loss,
        f_scale=f_scale,
        **dict.fromkeys(("ftol", "xtol", "gtol"), 1e-14),
        **options,
    )


# --- the functions ------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_values_and_derivatives(x64, loss):
    z = np.concatenate([np.geomspace(1e-12, 1e6, 300), [0.0]])
    value, first, second = RHOS[loss](z)
    expected = np.empty((3, z.size))
    IMPLEMENTED_LOSSES[loss](z, expected, False)
    np.testing.assert_allclose(value, expected[0], rtol=1e-3, atol=1e-15)  # SciPy cancels
    big = z > 1e-3
    np.testing.assert_allclose(np.asarray(value)[big], expected[0][big], rtol=1e-12)
    np.testing.assert_allclose(first, expected[1], rtol=1e-12)
    np.testing.assert_allclose(second, expected[2], rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(np.asarray(value)[:50], z[:50], rtol=1e-6)  # a square, near zero


@pytest.mark.long_but("huber", "cauchy")
@pytest.mark.parametrize("loss", LOSSES)
def test_rows_give_gradient_curvature_and_cost(x64, loss):
    rng = np.random.default_rng(1)
    f, jac = jnp.asarray(rng.normal(size=9)), rng.normal(size=(9, 2))
    scale = jnp.asarray(rng.uniform(0.5, 2.0, 9))
    rho = RHOS[loss]

    def cost(d):
        return 0.5 * jnp.sum(scale**2 * rho(((f + jac @ d) / scale) ** 2)[0])

    rows, columns = weighted(Robust(rho).exact, f, tuple(jac.T), scale)
    np.testing.assert_allclose(0.5 * sum_of(rows), cost(jnp.zeros(2)), rtol=1e-13)
    gradient = [column @ rows[0] for column in columns]
    np.testing.assert_allclose(gradient, jax.grad(cost)(jnp.zeros(2)), rtol=1e-10)
    z = np.square(f / scale)
    _, first, second = rho(z)
    true = np.maximum(first + 2 * second * z, np.finfo(float).eps)
    np.testing.assert_allclose(columns[0] ** 2, true * jac[:, 0] ** 2, rtol=1e-10)
    steady = weighted(Robust(rho), f, tuple(jac.T), scale)[1][0] ** 2
    np.testing.assert_allclose(steady, np.maximum(true, 0.5 * first) * jac[:, 0] ** 2, rtol=1e-10)
    half = scaled(rows, 0.5)
    np.testing.assert_allclose(sum_of(half), 0.25 * sum_of(rows), rtol=1e-13)


# --- fits ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=LOSSES)
def both(request):
    """A loss, and its fits of all data sets."""
    return request.param, fit(decay, T, OUTLIERS, P0, loss=request.param, f_scale=SCALE)


def test_fits_are_scipys(both):
    loss, result = both
    assert result.success.all()
    assert len(np.unique(result.nfev)) > 2
    best = 0
    for i in range(B):
        expected = scipy_fit(OUTLIERS[i], loss)
        if abs(result.cost[i] / expected.cost - 1) < 1e-6:
            np.testing.assert_allclose(result.x[i], expected.x, rtol=2e-3)
            best += 1
        else:  # arctan has several minima
            assert loss == "arctan"
    assert best >= (8 if loss == "arctan" else B)


@pytest.mark.long_but("huber")
def test_one_fit_inside_jax_is_a_lane(both, x64):
    loss, result = both

    def solve(y):
        return least_squares(
            lambda p: decay(T, p[0], p[1]) - y, jnp.array(P0), loss=loss, f_scale=SCALE
        )

    lanes = jax.vmap(solve)(jnp.asarray(OUTLIERS))
    np.testing.assert_allclose(lanes.cost, result.cost, rtol=1e-7)
    np.testing.assert_allclose(lanes.cov, result.cov, rtol=2e-2)
    one = solve(jnp.asarray(OUTLIERS[2]))
    expected = scipy_fit(OUTLIERS[2], loss)
    np.testing.assert_allclose(one.cost, expected.cost, rtol=1e-7)
    np.testing.assert_allclose(one.fun, expected.fun, atol=1e-3)
    tight = least_squares(
        lambda p: decay(T, p[0], p[1]) - OUTLIERS[2],
        jnp.asarray(expected.x),
        loss=loss,
        f_scale=SCALE,
    )
    np.testing.assert_allclose(np.abs(tight.jac), np.abs(expected.jac), rtol=1e-2, atol=1e-4)


@pytest.mark.long_but("cauchy")
def test_curve_fit_has_scipys_covariance(both):
    loss, _ = both
    options = {"method": "trf", "loss": loss, "f_scale": SCALE}
    y = OUTLIERS[2]
    expected = scipy.optimize.curve_fit(decay_np, T, y, P0, **options, ftol=1e-14, xtol=1e-14)
    for model in (decay, decay_np):
        ours = curve_fit(model, T, y, P0, **options, **TIGHT)
        np.testing.assert_allclose(ours[0], expected[0], rtol=1e-5)
        np.testing.assert_allclose(ours[1], expected[1], rtol=1e-3)


def test_outliers_hurt_squares_and_not_the_loss(both):
    _, result = both
    clean, square = fit(decay, T, Y, P0), fit(decay, T, OUTLIERS, P0)
    assert np.median(np.abs(result.x - clean.x)) < 0.3 * np.median(np.abs(square.x - clean.x))
    np.testing.assert_allclose(result.residuals, result.predict() - OUTLIERS, atol=1e-14)
    assert np.all(result.r2 < 1)


@pytest.mark.long
def test_derivatives_are_those_of_the_minimum(both, x64):
    loss, _ = both
    y = jnp.asarray(OUTLIERS[0])

    def solve(y, scale, hessian="full"):
        return least_squares(
            lambda p: decay(T, p[0], p[1]) - y,
            jnp.array(P0),
            loss=loss,
            f_scale=scale,
            hessian=hessian,
            ftol=1e-15,
            xtol=1e-13,
        ).x

    h = 1e-4
    found, reverse = (d(solve)(y, SCALE) for d in (jax.jacfwd, jax.jacrev))
    np.testing.assert_allclose(found, reverse, rtol=1e-8, atol=1e-10)
    for j in (1, 11):
        step = h * np.eye(T.size)[j]
        central = (solve(y + step, SCALE) - solve(y - step, SCALE)) / (2 * h)
        np.testing.assert_allclose(found[:, j], central, rtol=2e-3, atol=1e-4)
    by_scale = jax.jacfwd(lambda s: solve(y, s))(SCALE)
    central = (solve(y, SCALE + h) - solve(y, SCALE - h)) / (2 * h)
    np.testing.assert_allclose(by_scale, central, rtol=1e-2, atol=1e-3)
    rough = jax.jacfwd(lambda y: solve(y, SCALE, "gauss-newton"))(y)
    assert np.max(np.abs(rough - found)) < 0.3 * np.max(np.abs(found))


def test_a_callable_is_the_loss_of_its_name():
    named = fit(decay, T, OUTLIERS, P0, loss="soft_l1", f_scale=SCALE)
    given = fit(decay, T, OUTLIERS, P0, loss=log_cosh_like, f_scale=SCALE)
    np.testing.assert_allclose(given.x, named.x, rtol=1e-9)
    expected = scipy_fit(OUTLIERS[1], log_cosh_like_np)
    np.testing.assert_allclose(given.cost[1], expected.cost, rtol=1e-8)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: z,
        lambda z: (z, jnp.ones_like(z)),
        lambda z: (z, 1.0, 0.0),
        lambda z: jnp.stack([z, z]),
    ],
)
def test_a_callable_that_returns_another_thing_raises(loss):
    with pytest.raises(ValueError, match="must return its value, first and second derivative"):
        fit(decay, T, OUTLIERS, P0, loss=loss)


def test_scales_per_point_and_per_lane():
    scale = np.random.default_rng(2).uniform(0.02, 0.1, T.size)
    per_point = fit(decay, T, OUTLIERS, P0, loss="huber", f_scale=scale)
    for y, x, cost in zip(OUTLIERS[:4], per_point.x, per_point.cost, strict=False):

        def total(p, y=y):  # SciPy's own takes one scale for all
            z = np.square((decay_np(T, *p) - y) / scale)
            return 0.5 * np.sum(scale**2 * np.where(z <= 1, z, 2 * np.sqrt(z) - 1))

        np.testing.assert_allclose(cost, total(x), rtol=1e-12)
        other = scipy.optimize.minimize(total, x * 1.05, method="Nelder-Mead", tol=1e-10)
        assert cost <= other.fun * (1 + 1e-7)
    each = np.linspace(0.02, 0.2, B)[:, None]
    per_lane = fit(decay, T, OUTLIERS, P0, loss="huber", f_scale=each)
    expected = [scipy_fit(OUTLIERS[i], "huber", each[i, 0]).cost for i in range(0, B, 3)]
    np.testing.assert_allclose(per_lane.cost[::3], expected, rtol=1e-7)
    batch = least_squares_batch(
        lambda p, y: decay(T, p[0], p[1]) - y, P0, OUTLIERS, loss="huber", f_scale=each
    )
    np.testing.assert_allclose(batch.cost, per_lane.cost, rtol=1e-9)


def test_a_new_scale_compiles_nothing(compiles):
    def once(scale):
        return fit(decay, T, OUTLIERS, P0, loss="huber", f_scale=scale)

    once(0.1)
    before = compiles()
    assert once(0.2).success.all()
    assert compiles() == before


def test_sigma_masks_and_bounds_go_with_a_loss():
    """A residual is over its sigma before its loss; what is masked counts nothing."""
    sigma = np.full(T.size, 0.02)
    mask = np.arange(T.size) != 5
    found = fit(
        decay,
        T,
        OUTLIERS,
        (1.4, 1.0),
        sigma=sigma,
        mask=mask,
        loss="cauchy",
        f_scale=2.0,
        bounds=([1.2, 0.4], [2.5, 1.8]),
    )
    assert found.success.all()
    for i in range(0, B, 2):
        expected = scipy.optimize.least_squares(
            lambda p, i=i: ((decay_np(T, *p) - OUTLIERS[i]) / sigma)[mask],
            (1.4, 1.0),
            loss="cauchy",
            f_scale=2.0,
            bounds=([1.2, 0.4], [2.5, 1.8]),
            **dict.fromkeys(("ftol", "xtol", "gtol"), 1e-12),
        )
        assert found.cost[i] <= expected.cost * (1 + 1e-6)


def test_float32(both):
    loss, result = both
    y = OUTLIERS.astype(np.float32)
    narrow = fit(decay, T.astype(np.float32), y, P0, loss=loss, f_scale=SCALE)
    assert narrow.x.dtype == np.float32
    assert narrow.success.mean() > 0.9
    same = np.abs(narrow.cost / result.cost - 1) < 1e-3
    assert same.mean() > 0.9
    tiny = fit(
        decay,
        T.astype(np.float32),
        y * np.float32(1e-12),
        (1e-12, 1.0),
        loss=loss,
        f_scale=SCALE * 1e-12,
    )
    np.testing.assert_allclose(tiny.x[:, 1][same], narrow.x[:, 1][same], rtol=0.05)


@pytest.mark.long_but("huber-float64", "cauchy-float32")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy"])
def test_a_start_that_is_far_by_many_scales_is_no_plateau(loss, dtype):
    """Starts at a rate that makes the curve 1e5 and 1e9 times the scale C."""
    x = np.linspace(280.0, 400.0, 12)
    a, b = 2.9e9, np.array([8400.0, 8000.0, 7600.0])
    y = a * np.exp(-b[:, None] / x)
    starts = np.array([[2.5e9, 3500.0], [2.5e9, 3000.0], [2.5e9, 1500.0]])
    found = fit(
        lambda x, a, b: a * jnp.exp(-b / x), x.astype(dtype), y.astype(dtype), starts, loss=loss
    )
    assert found.success.all()
    np.testing.assert_allclose(found.x[:, 1], b, rtol=1e-3)
    assert np.all(found.cost < 1e-6)
    assert found.nfev.min() > 20


def test_huge_residuals_are_rejected_not_raised():
    found = fit(lambda t, a, k: a * jnp.exp(k * t), T, OUTLIERS, (1.0, 200.0), loss="cauchy")
    assert np.all(np.isfinite(found.x))
