"""NaN in x and sigma, sigma without weight, and what is said about them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import Status, curve_fit, fit

T = np.linspace(0.1, 4.0, 30)
P0 = [1.0, 1.0]
Y = 2.5 * np.exp(-1.3 * T) + 0.02 * np.random.default_rng(0).normal(size=(3, 30))
BAD = np.arange(30) == 7


def decay(t, a, k):
    return a * jnp.exp(-k * t)


@pytest.fixture(scope="module")
def without():
    return fit(decay, T, Y, P0, mask=~BAD)


@pytest.mark.long_but("x-False-jacfwd", "sigma-True-jacrev", "y-False-jacfwd")
@pytest.mark.parametrize("jac", ["jacfwd", "jacrev"])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("where", ["x", "sigma", "y"])
def test_omit_looks_at_x_y_and_sigma(without, jac, each, where):
    def holed(values):
        values = np.where(BAD, np.nan, values)
        return np.broadcast_to(values, Y.shape) if each else values

    x, y, sigma = T, Y, None
    if where == "x":
        x = holed(T)
    elif where == "y":
        y = np.where(BAD, np.nan, Y)
    else:
        sigma = holed(1.0)
    result = fit(decay, x, y, P0, sigma=sigma, nan_policy="omit", jac=jac)
    np.testing.assert_allclose(result.params, without.params, rtol=1e-6)
    np.testing.assert_array_equal(result.dof, [27] * 3)
    np.testing.assert_allclose(result.cov, without.cov, rtol=1e-5)
    with pytest.raises(ValueError, match=f"{where if where == 'sigma' else where + 'data'} contai"):
        fit(decay, x, y, P0, sigma=sigma, nan_policy="raise")


def test_omit_of_any_variable_and_of_ragged_lists(without):
    x = np.stack([T, np.where(BAD, np.nan, 1.0)])
    model = lambda x, a, k: decay(x[0], a, k) * x[1]  # noqa: E731
    result = fit(model, x[None], Y, P0, nan_policy="omit")
    np.testing.assert_allclose(result.params, without.params, rtol=1e-6)
    xs = [np.where(BAD, np.nan, T), T[:20]]
    ragged = fit(decay, xs, [Y[0], Y[1, :20]], P0, nan_policy="omit")
    np.testing.assert_allclose(ragged.params[0], without.params[0], rtol=1e-6)
    np.testing.assert_array_equal(ragged.dof, [27, 18])


@pytest.mark.long_but("False")
@pytest.mark.parametrize("each", [False, True])
def test_nan_in_x_is_blamed_on_the_data(each):
    x = np.where(BAD, np.nan, T)
    if each:
        x = np.stack([T, x, T])
    result = fit(decay, x, Y, P0)
    expected = [Status.NONFINITE_DATA] * 3
    if each:
        expected[::2] = result.status[::2]
        assert result.success[::2].all()
    np.testing.assert_array_equal(result.status, expected)
    assert "xdata" in result.message(1)
    masked = fit(decay, x, Y, P0, mask=~BAD, jac="jacrev")
    assert masked.success.all()


def test_x_may_be_infinite():
    x = np.append(T, np.inf)
    y = np.append(Y[0], 0.0)
    result = fit(decay, x, y, P0)
    np.testing.assert_allclose(result.params, fit(decay, T, Y[0], P0).params, rtol=1e-6)


@pytest.mark.parametrize("absolute", [False, True])
def test_infinite_sigma_is_no_weight_as_in_scipy(absolute):
    scipy_optimize = pytest.importorskip("scipy.optimize")
    sigma = np.where(BAD, np.inf, 0.5 + T)
    y = np.where(BAD, 50.0, Y[0])
    options = {"sigma": sigma, "absolute_sigma": absolute}
    popt, pcov = scipy_optimize.curve_fit(
        lambda t, a, k: a * np.exp(-k * t), T, y, P0, ftol=1e-12, xtol=1e-12, **options
    )
    tight = {"ftol": 1e-12, "xtol": 1e-12}
    for given in (sigma, np.stack([sigma] * 2)):
        result = fit(decay, T, np.stack([y] * 2), P0, **(options | {"sigma": given}), **tight)
        np.testing.assert_allclose(result.params, [popt] * 2, rtol=1e-6)
        np.testing.assert_allclose(result.cov, [pcov] * 2, rtol=1e-5)
    for bounds in ((-np.inf, np.inf), (0, 10)):
        ours = curve_fit(decay, T, y, P0, bounds=bounds, **options, **tight)
        np.testing.assert_allclose(ours[0], popt, rtol=1e-6)
        np.testing.assert_allclose(ours[1], pcov, rtol=1e-4)


def test_a_guess_does_not_see_points_without_weight():
    def guess(t, y):
        return {"a": jnp.max(y), "k": 1.0}

    y = np.where(BAD, 1e6, Y)
    expected = np.max(np.where(BAD, -np.inf, Y), axis=-1)
    sigma = np.where(BAD, np.inf, 0.1)
    for given in (sigma, np.broadcast_to(sigma, Y.shape).copy()):
        result = fit(decay, T, y, guess, sigma=given, fixed=["a"])
        np.testing.assert_array_equal(result.params["a"], expected)
    hidden = fit(decay, T, y, guess, sigma=0.1, mask=~BAD, fixed=["a"])
    np.testing.assert_array_equal(hidden.params["a"], expected)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_a_bad_sigma_is_named(value):
    sigma = np.where(BAD, value, 1.0)
    with pytest.raises(ValueError, match="sigma must be positive"):
        fit(decay, T, Y, P0, sigma=sigma)
    with pytest.raises(ValueError, match=r"sigma.*must be positive"):
        curve_fit(decay, T, Y[0], P0, sigma=sigma)
    each = np.ones((3, 30))
    each[1] = sigma
    result = fit(decay, T, Y, P0, sigma=each)
    assert result.status[1] == Status.NONFINITE_DATA
    assert "sigma is zero or negative" in result.message(1)
    assert result.success[[0, 2]].all()


@pytest.mark.long_but("1.0-bounds", "1000000000.0-bounds")
@pytest.mark.parametrize(
    "options",
    [{"bounds": (0, np.inf)}, {"method": "trf"}, {"method": "dogbox"}],
    ids=["bounds", "trf", "dogbox"],
)
@pytest.mark.parametrize("scale", [1.0, 1e9])
def test_errors_of_parameters_of_any_size_under_bounds_that_do_not_hold(scale, options):
    w = 2 * np.pi * np.logspace(5, 0, 40)

    def model(w, r, c, xp=jnp):
        q = w * r * c
        return xp.concatenate([r / (1 + q**2), -q * r / (1 + q**2)])

    noise = 1 + 0.01 * np.random.default_rng(0).normal(size=80)
    y = model(w, scale, 1e-3 / scale, np) * noise
    start = [0.1 * scale, 1e-2 / scale]
    free = curve_fit(model, w, y, start)
    popt, pcov = curve_fit(model, w, y, start, **options)
    np.testing.assert_allclose(popt, free[0], rtol=1e-5)
    np.testing.assert_allclose(np.diag(pcov), np.diag(free[1]), rtol=1e-3)
