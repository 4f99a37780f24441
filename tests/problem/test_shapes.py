"""Shapes that could be meant in two ways: the model decides, or an error says how to say which."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import curve_fit, fit, least_squares_batch

T = np.linspace(0.0, 4.0, 30)
TRUTH = [2.5, 1.3, 0.3]
Y = 2.5 * np.exp(-1.3 * T) + 0.3
P0 = [1.0, 1.0, 0.0]


def two_variables(x, a, k, c):
    return a * jnp.exp(-k * x[0]) + c * x[1]


def decay(x, a, k, c):
    return a * jnp.exp(-k * x) + c


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("guessed", [False, True])
def test_as_many_data_sets_as_variables(n, guessed):
    x = np.stack([T, np.ones(30)])
    p0 = (lambda x, y: (y[0] - y[-1], 1.0 + 0 * x[0, 0], y[-1])) if guessed else P0
    result = fit(two_variables, x, np.stack([Y] * n), p0)
    np.testing.assert_allclose(result.params, [TRUTH] * n, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_one_variable_in_an_array_of_two_axes(n):
    result = fit(lambda x, a, k, c: decay(x[0], a, k, c), T[None], np.stack([Y] * n), P0)
    np.testing.assert_allclose(result.params, [TRUTH] * n, rtol=1e-6)
    whole = fit(decay, T[None], np.stack([Y] * n), P0)
    np.testing.assert_allclose(whole.params, [TRUTH] * n, rtol=1e-6)


def test_x_of_each_data_set_is_still_that():
    x = np.stack([T, 2 * T])
    y = decay(x, *TRUTH)
    for given in (x, [x[0], x[1]]):
        np.testing.assert_allclose(fit(decay, given, y, P0).params, [TRUTH] * 2, rtol=1e-6)
        result = fit(decay, given, list(np.asarray(y)), P0)
        np.testing.assert_allclose(result.params, [TRUTH] * 2, rtol=1e-6)


def test_a_list_of_variables_as_many_as_data_sets():
    x = [T, np.ones(30)]
    for y in (np.stack([Y] * 2), [Y, Y]):
        np.testing.assert_allclose(fit(two_variables, x, y, P0).params, [TRUTH] * 2, rtol=1e-6)


def test_arrays_of_both_kinds_in_a_pytree():
    each = np.stack([T, 1.5 * T])
    shared = np.stack([np.ones(30), np.zeros(30)])  # as many variables as data sets

    def model(x, a, k, c):
        return a * jnp.exp(-k * x["t"]) + c * x["other"][0, :] + x["other"][1, :]

    y = np.asarray(decay(each, *TRUTH))
    result = fit(model, {"t": each, "other": shared}, y, P0)
    np.testing.assert_allclose(result.params, [TRUTH] * 2, rtol=1e-6)


def test_a_batch_of_two_axes():
    x = np.random.default_rng(0).normal(size=(2, 3, 30))

    def model(x, a, b):
        return a * x[0, 1] + b * x[1, 2]

    y = np.broadcast_to(2 * x[0, 1] - 3 * x[1, 2], (2, 3, 30))
    np.testing.assert_allclose(fit(model, x, y, [1, 1]).params[1, 2], [2, -3], rtol=1e-6)


def either(x, a, b):
    return a * x[0] + b * jnp.linspace(0, 1, 30)


def test_what_the_model_takes_both_ways_raises_and_says_how_to_say_either():
    x = np.random.default_rng(1).uniform(1, 2, (2, 30))
    grid = np.linspace(0, 1, 30)
    y = np.stack([2 * x[0] + 3 * grid] * 2)
    with pytest.raises(ValueError, match=r"xdata\[None\].*list\(xdata\) with list\(ydata\)"):
        fit(either, x, y, [1.0, 1.0])
    shared = fit(either, x[None], y, [1.0, 1.0])
    np.testing.assert_allclose(shared.params, [[2, 3]] * 2, rtol=1e-6)
    first = np.stack([2 * x[i, 0] + 3 * grid for i in range(2)])
    each = fit(either, list(x), list(first), [1.0, 1.0])
    np.testing.assert_allclose(each.params, [[2, 3]] * 2, rtol=1e-6)
    with pytest.raises(ValueError, match=r"For variables pass a tuple"):
        fit(either, list(x), y, [1.0, 1.0])
    variables = fit(either, tuple(x), y, [1.0, 1.0])
    np.testing.assert_allclose(variables.params, [[2, 3]] * 2, rtol=1e-6)


def test_a_model_that_fails_both_ways_raises_its_own_error():
    with pytest.raises(ZeroDivisionError):
        fit(lambda x, a: 1 / 0, np.ones((2, 30)), np.ones((2, 30)), [1.0])


# --- values of the model ------------------------------------------------------------


def test_one_value_for_all_points_only_where_x_has_one_axis():
    y = np.stack([np.full(30, 3.0)] * 2)
    np.testing.assert_allclose(fit(lambda t, a: a, T, y, [1.0]).params, [[3.0]] * 2)
    for wrong in (lambda x, a: a * jnp.mean(x[0]), lambda x, a: jnp.ones(1) * a):
        with pytest.raises(ValueError, match=r"one value per point, shape \(30,\), got \(1?,?\)"):
            fit(wrong, np.ones((3, 30)), y, [1.0])
    with pytest.raises(ValueError, match=r"shape \(30,\), got \(1,\)"):
        fit(lambda t, a: jnp.ones(1) * a, T, y, [1.0])
    one = fit(lambda x, a: jnp.ones(1) * a * x[0], np.ones((3, 1)), np.full((2, 1), 4.0), [1.0])
    np.testing.assert_allclose(one.params, [[4.0]] * 2)


def test_curve_fit_broadcasts_as_scipy_for_x_of_one_axis_only():
    np.testing.assert_allclose(curve_fit(lambda x, a: a, T, np.full(30, 3.0), [1.0])[0], 3.0)
    with pytest.raises(ValueError, match=r"must have ydata's shape \(30,\), got \(\)"):
        curve_fit(lambda x, a: a * x[0, 0], np.ones((2, 30)), np.ones(30), [1.0])


@pytest.mark.long_but("options0")
@pytest.mark.parametrize("options", [{}, {"bounds": (0, 10)}])
def test_a_number_for_ydata_broadcasts(options):
    scipy_optimize = pytest.importorskip("scipy.optimize")
    noisy = Y + 0.01 * np.cos(7 * T)

    def model(x, a, k, c, xp=jnp):
        return a * xp.exp(-k * x) + c - noisy

    popt, pcov = curve_fit(model, T, 0, P0, **options)
    expected = scipy_optimize.curve_fit(lambda x, *p: model(x, *p, np), T, 0, P0, **options)
    np.testing.assert_allclose(popt, expected[0], rtol=1e-5)
    np.testing.assert_allclose(pcov, expected[1], rtol=1e-3)


# --- sigma and x0 -------------------------------------------------------------------


def test_sigma_of_as_many_points_as_data_sets():
    m = 5
    x, rng = np.arange(m) / m, np.random.default_rng(0)
    y = 1.0 + 2.0 * x + 0.1 * rng.normal(size=(m, m))
    root = rng.normal(size=(m, m))
    cov = root @ root.T + np.eye(m)
    model = lambda x, a, b: a + b * x  # noqa: E731
    with pytest.raises(ValueError, match=r"sigma\[None\].*list\(sigma\)"):
        fit(model, x, y, [1.0, 1.0], sigma=cov)
    shared = fit(model, x, y, [1.0, 1.0], sigma=cov[None]).params
    alone = fit(model, x, y[2], [1.0, 1.0], sigma=cov).params
    np.testing.assert_allclose(shared[2], alone, rtol=1e-6)
    each = rng.uniform(0.5, 2.0, (m, m))
    result = fit(model, x, y, [1.0, 1.0], sigma=each).params
    np.testing.assert_allclose(fit(model, x, y, [1.0, 1.0], sigma=list(each)).params, result)
    np.testing.assert_allclose(
        result[3], fit(model, x, y[3], [1.0, 1.0], sigma=each[3]).params, rtol=1e-6
    )


def test_a_one_by_one_sigma_is_a_standard_deviation():
    result = fit(
        lambda x, a: a * x, np.ones(1), [[2.0], [3.0]], [1.0], sigma=[[0.1]], absolute_sigma=True
    )
    np.testing.assert_allclose(result.stderr, [[0.1], [0.1]], rtol=1e-6)
    _, pcov = curve_fit(lambda x, a: a * x, [1.0], [2.0], [1.0], sigma=[[0.1]], absolute_sigma=True)
    np.testing.assert_allclose(np.sqrt(pcov), [[0.1]], rtol=1e-6)


def test_a_pytree_x0_whose_leaves_begin_with_the_number_of_problems():
    rng = np.random.default_rng(2)
    basis = rng.normal(size=(3, 20))
    weights = rng.normal(size=(3, 3))

    def shared(p, d):  # three weights in each problem, of which there are three
        return p["w"] @ basis - d

    result = least_squares_batch(shared, {"w": np.ones(3)}, weights @ basis)
    np.testing.assert_allclose(result.params["w"], weights, rtol=1e-6)

    def each(p, d):
        return jnp.reshape(p["w"], ()) * basis[0] - d

    targets = weights[:, :1] * basis[0]
    result = least_squares_batch(each, {"w": np.array([1.0, 2.0, 3.0])}, targets)
    np.testing.assert_allclose(result.params["w"], weights[:, 0], rtol=1e-6)

    def both(p, d):
        return jnp.sum(p["w"]) * basis[0] - d

    with pytest.raises(ValueError, match="can be meant per problem or shared"):
        least_squares_batch(both, {"w": np.ones(3)}, targets)
    as_array = least_squares_batch(lambda p, d: both({"w": p}, d), np.ones((3, 1)), targets)
    np.testing.assert_allclose(as_array.params[:, 0], weights[:, 0], rtol=1e-6)
