"""The last points of a fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import least_squares

pytestmark = pytest.mark.usefixtures("x64")

START = np.array([-1.2, 1.0])


def rosenbrock(p, scale=10.0):
    return jnp.stack([scale * (p[1] - p[0] ** 2), 1.0 - p[0]])


def test_it_is_the_path_of_the_fit():
    result = least_squares(rosenbrock, START, return_history=100)
    plain = least_squares(rosenbrock, START)
    assert plain.history is None
    np.testing.assert_allclose(result.x, plain.x, rtol=1e-9)
    assert (result.status, result.nfev, result.njev) == (plain.status, plain.nfev, plain.njev)
    history = result.history
    used = history.nfev > 0
    assert used.sum() == result.njev + 1 or used.sum() == result.njev
    np.testing.assert_array_equal(used, np.sort(used))  # the newest last
    np.testing.assert_array_equal(history.x[used][0], START)
    np.testing.assert_array_equal(history.x[-1], result.x)
    costs = [0.5 * float(jnp.sum(rosenbrock(x) ** 2)) for x in history.x[used]]
    np.testing.assert_allclose(history.cost[used], costs, rtol=1e-12)
    assert np.all(np.diff(history.cost[used]) < 0)
    assert np.all(history.step_bound[used] > 0)
    assert np.all(np.diff(history.nfev[used]) >= 1)
    assert np.any(np.diff(history.nfev[used]) > 1)  # some trials were rejected
    assert np.all(np.isnan(history.x[~used]))


def test_only_the_last_ones_are_kept():
    whole = least_squares(rosenbrock, START, return_history=100).history
    last = least_squares(rosenbrock, START, return_history=3).history
    for part, all_ in zip(jax.tree.leaves(last), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(part, all_[-3:])


@pytest.mark.long
def test_in_jit_with_a_pytree_and_a_derivative():
    @jax.jit
    def fitted(scale):
        def residual(p):
            return rosenbrock(jnp.stack([p["a"], p["b"]]), scale)

        result = least_squares(residual, {"a": -1.2, "b": 1.0}, return_history=5)
        return result.x["a"], result.history

    value, history = fitted(10.0)
    assert history.x["a"].shape == history.cost.shape == (5,)
    assert history.x["a"][-1] == value
    _, (slope, still) = jax.jvp(fitted, (10.0,), (1.0,))
    np.testing.assert_allclose(slope, 0.0, atol=1e-9)
    np.testing.assert_array_equal(still.cost, 0.0)


@pytest.mark.long_but("float64")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_start_that_is_not_finite(dtype):
    result = least_squares(
        lambda p: jnp.log(p) * jnp.ones(3, dtype), np.array([-1.0], dtype), return_history=2
    )
    assert not result.success
    assert np.all(result.history.nfev == 0)
