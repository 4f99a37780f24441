"""The Levenberg parameter's conditions, and the trust region's update rule by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq.numerics.factor import damped_steps
from jaxlsq.numerics.trust_region import levenberg_parameter, norm, reductions, resize

N = 4


@jax.jit
def find_step(r, qtf, scale, bound, damping, idle=False):
    return levenberg_parameter(*damped_steps(r, qtf, scale), bound, damping, idle)


def triangular_problem(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    r = np.triu(rng.standard_normal((N, N)))
    r[np.diag_indices(N)] = rng.choice([-1.0, 1.0], N) * rng.uniform(0.5, 2.0, N)
    qtf, scale = rng.standard_normal(N), rng.uniform(0.5, 3.0, N)
    return r.astype(dtype), qtf.astype(dtype), scale.astype(dtype)


def scaled_length(scale, p):
    return np.linalg.norm(scale * np.asarray(p))


def solve(r, qtf, scale, bound, damping=0.0, full_rank=True):
    """Damping and p; what is said of the rank is checked here."""
    float_ = qtf.dtype.type
    damping, p, rank = find_step(r, qtf, scale, float_(bound), float_(damping))
    assert bool(rank) is full_rank
    return float(damping), np.asarray(p)


def damped_solution(r, qtf, scale, damping):
    return np.linalg.solve(r.T @ r + damping * np.diag(scale**2), r.T @ qtf)


@pytest.mark.parametrize("seed", range(3))
def test_gauss_newton_step_within_110_percent_is_taken_undamped(x64, seed):
    r, qtf, scale = triangular_problem(seed)
    newton = np.linalg.solve(r, qtf)
    bound = scaled_length(scale, newton) / 1.0999
    damping, p = solve(r, qtf, scale, bound, damping=0.7)
    assert damping == 0.0
    np.testing.assert_allclose(p, newton, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_gauss_newton_step_just_beyond_110_percent_is_damped(x64, seed):
    r, qtf, scale = triangular_problem(seed)
    newton_length = scaled_length(scale, np.linalg.solve(r, qtf))
    damping, p = solve(r, qtf, scale, newton_length / 1.1001)
    assert damping > 0.0
    assert scaled_length(scale, p) < newton_length


@pytest.mark.parametrize("start", [0.0, 0.3, 1e6])
@pytest.mark.parametrize("fraction", [0.8, 0.3, 1e-2, 1e-6])
def test_step_is_as_long_as_the_bound_and_solves_the_normal_equations(x64, fraction, start):
    for seed in range(4):
        r, qtf, scale = triangular_problem(seed)
        bound = fraction * scaled_length(scale, np.linalg.solve(r, qtf))
        damping, p = solve(r, qtf, scale, bound, start)
        assert damping > 0.0
        assert abs(scaled_length(scale, p) - bound) <= 0.1 * bound
        np.testing.assert_allclose(p, damped_solution(r, qtf, scale, damping), rtol=1e-9)


def test_singular_triangle_undamped_is_zero_from_the_first_zero_pivot_on(x64):
    r, qtf, scale = triangular_problem(5)
    r[2, 2] = 0.0
    damping, p = solve(r, qtf, scale, 1e3, full_rank=False)
    assert damping == 0.0
    np.testing.assert_allclose(p[:2], np.linalg.solve(r[:2, :2], qtf[:2]), rtol=1e-13)
    np.testing.assert_array_equal(p[2:], np.zeros(2))


@pytest.mark.parametrize("fraction", [0.5, 1e-2])
def test_singular_triangle_damped(x64, fraction):
    for seed in range(4):
        r, qtf, scale = triangular_problem(seed)
        r[-1, -1] = 0.0
        basic = np.linalg.solve(r[:-1, :-1], qtf[:-1])
        bound = fraction * scaled_length(scale[:-1], basic)
        damping, p = solve(r, qtf, scale, bound, full_rank=False)
        assert damping > 0.0
        assert scaled_length(scale, p) <= 1.1 * bound
        np.testing.assert_allclose(p, damped_solution(r, qtf, scale, damping), rtol=1e-6)


def test_singular_triangle_gives_no_lower_bound_of_the_damping(x64):
    """The undamped step, (1, 0), is longer than those of a small damping, 2 ** -0.5."""
    r, bound = np.array([[1.0, 1.0], [0.0, 0.0]]), 0.65
    damping, p = solve(r, np.array([1.0, 0.0]), np.ones(2), bound, full_rank=False)
    np.testing.assert_allclose(p, np.ones(2) / (2.0 + damping), rtol=1e-12)
    assert abs(np.linalg.norm(p) - bound) <= 0.1 * bound
    assert damping < 1.0 / bound - 1.0  # Newton's step from there, the bound of a regular one


def test_zero_triangle_gives_a_zero_step(x64):
    damping, p = solve(np.zeros((N, N)), np.ones(N), np.ones(N), 1.0, full_rank=False)
    assert damping == 0.0
    np.testing.assert_array_equal(p, np.zeros(N))


def test_zero_residual_gives_a_zero_step(x64):
    r, qtf, scale = triangular_problem(1)
    damping, p = solve(r, 0.0 * qtf, scale, 1.0)
    assert damping == 0.0
    np.testing.assert_array_equal(p, np.zeros(N))


@pytest.mark.parametrize("fraction", [2.0, 0.3, 1e-3])
def test_float32(strict, fraction):
    r, qtf, scale = triangular_problem(2, np.float32)
    newton = np.linalg.solve(r.astype(float), qtf)
    bound = fraction * scaled_length(scale, newton)
    damping, p = solve(r, qtf, scale, bound)
    assert p.dtype == np.float32
    if fraction > 1:
        assert damping == 0.0
    else:
        assert abs(scaled_length(scale, p) - bound) <= 0.1 * bound
    exact = damped_solution(r.astype(float), qtf.astype(float), scale.astype(float), damping)
    np.testing.assert_allclose(p, exact, rtol=1e-4)


@pytest.mark.long
def test_vmap_over_lanes_of_different_need_equals_a_loop(x64):
    fractions = np.array([2.0, 1.05, 0.9, 0.3, 1e-2, 1e-6])
    lanes = [triangular_problem(seed) for seed in range(fractions.size)]
    r, qtf, scale = (np.stack(part) for part in zip(*lanes, strict=True))
    newton = np.stack([np.linalg.solve(r_, q_) for r_, q_, _ in lanes])
    bound = fractions * np.linalg.norm(scale * newton, axis=1)
    start = np.linspace(0.0, 1.0, fractions.size)
    damping, p, full_rank = jax.vmap(find_step)(r, qtf, scale, bound, start)
    assert np.all(full_rank)
    np.testing.assert_array_equal(damping[:2], [0.0, 0.0])
    assert np.all(damping[2:] > 0)
    for k in range(fractions.size):
        single_damping, single_p = solve(r[k], qtf[k], scale[k], bound[k], start[k])
        np.testing.assert_allclose(damping[k], single_damping, rtol=1e-10)
        np.testing.assert_allclose(p[k], single_p, rtol=1e-10)


def diagonal_attempt(squares, gradient):
    """The damped problem of a diagonal J, lanes last, which counts the tries."""
    tries = []

    def attempt(damping):
        jax.debug.callback(lambda d: tries.append(np.array(d)), damping)
        p = gradient / (squares + damping)
        length = norm(p)
        slope = jnp.sqrt(jnp.sum(p * p / (squares + damping), axis=0)) / length
        return p, length, slope, jnp.ones(gradient.shape[1:], bool)

    return attempt, tries


def test_lanes_last_that_are_done_keep_their_step_while_others_search(x64):
    rng = np.random.default_rng(3)
    squares, gradient = rng.uniform(0.1, 9.0, (3, 5)), rng.standard_normal((3, 5))
    newton = np.linalg.norm(gradient / squares, axis=0)
    bound = newton * np.array([2.0, 0.95, 0.5, 1e-2, 1e-5])
    start = np.array([0.3, 0.0, 10.0, 0.0, 1.0])
    attempt, _ = diagonal_attempt(squares, gradient)
    damping, p, _ = levenberg_parameter(attempt, gradient, bound, start)
    np.testing.assert_array_equal(np.asarray(damping) > 0, [False, False, True, True, True])
    for k in range(5):
        attempt, _ = diagonal_attempt(squares[:, k], gradient[:, k])
        single = levenberg_parameter(attempt, gradient[:, k], bound[k], start[k])
        np.testing.assert_allclose(damping[k], single[0], rtol=1e-14)
        np.testing.assert_allclose(p[:, k], single[1], rtol=1e-14)
        np.testing.assert_allclose(p[:, k], gradient[:, k] / (squares[:, k] + damping[k]))


@pytest.mark.parametrize("idle", [False, True])
def test_nobody_waits_for_idle_lanes_but_their_rank_is_told(x64, idle):
    gradient, bound = np.ones((2, 2)), np.array([10.0, 1e-6])  # the second needs damping
    attempt, tries = diagonal_attempt(np.ones((2, 2)), gradient)
    result = levenberg_parameter(attempt, gradient, bound, np.zeros(2), np.array([False, idle]))
    damping, p, full_rank = result
    jax.effects_barrier()
    assert (len(tries) == 1) == idle
    assert (float(damping[1]) == 0.0) == idle
    np.testing.assert_array_equal(p[:, 0], [1.0, 1.0])
    np.testing.assert_array_equal(full_rank, [True, True])


def test_norm_along_the_first_axis(x64):
    v = np.random.default_rng(4).standard_normal((3, 5))
    np.testing.assert_allclose(norm(v), np.linalg.norm(v, axis=0), rtol=1e-15)
    np.testing.assert_allclose(norm(v[:, 0]), np.linalg.norm(v[:, 0]), rtol=1e-15)


def test_reductions_by_hand(x64):
    actual, predicted, ratio = reductions(jnp.float64(0.5), jnp.float64(0.6), jnp.float64(0.1))
    np.testing.assert_allclose([actual, predicted, ratio], [0.75, 0.8, 0.9375], rtol=1e-15)


def test_reduction_of_a_worse_trial_is_negative(x64):
    actual, _, ratio = reductions(jnp.float64(2.0), jnp.float64(0.5), jnp.float64(0.5))
    np.testing.assert_allclose([actual, ratio], [-3.0, -2.0], rtol=1e-15)


@pytest.mark.parametrize("relative_norm", [10.0, 11.0, 1e300, np.inf, np.nan])
def test_far_or_nonfinite_trial_has_reduction_minus_one(x64, relative_norm):
    result = reductions(jnp.float64(relative_norm), jnp.float64(0.4), jnp.float64(0.05))
    np.testing.assert_allclose(result, [-1.0, 0.5, -2.0], rtol=1e-15)


def test_trial_just_below_ten_times_is_not_far(x64):
    actual, _, _ = reductions(jnp.float64(9.5), jnp.float64(0.4), jnp.float64(0.0))
    assert actual == 1.0 - 9.5**2


def test_no_predicted_reduction_has_ratio_zero(x64):
    result = reductions(jnp.float64(0.5), jnp.float64(0.0), jnp.float64(0.0))
    np.testing.assert_array_equal(result, [0.75, 0.0, 0.0])


def resized(ratio, actual=0.5, slope=-0.5, *, bound=2.0, damping=0.4, step=1.5, relative=0.7):
    values = (bound, damping, step, actual, ratio, slope, relative)
    bound, damping, step, actual, ratio, slope, relative = map(jnp.float64, values)
    return np.array(resize(bound, damping, step, (actual, ratio, slope), relative))


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (0.25, (1.0, 0.8)),
        (np.nextafter(0.25, 1), (2.0, 0.4)),
        (np.nextafter(0.75, 0), (2.0, 0.4)),
        (0.75, (3.0, 0.2)),
        (1.5, (3.0, 0.2)),
    ],
)
def test_resize_on_both_sides_of_each_ratio(x64, ratio, expected):
    np.testing.assert_allclose(resized(ratio), expected, rtol=1e-15)


def test_resize_without_damping_doubles_the_step_at_a_fair_ratio(x64):
    np.testing.assert_allclose(resized(0.5, damping=0.0), (3.0, 0.0), rtol=1e-15)


def test_resize_without_damping_shrinks_at_a_poor_ratio(x64):
    np.testing.assert_allclose(resized(0.2, damping=0.0), (1.0, 0.0), rtol=1e-15)


@pytest.mark.parametrize(
    ("actual", "slope", "relative", "shrink"),
    [
        (-1.0, -0.5, 2**0.5, 0.25),  # 0.5 * 0.5 / (0.5 + 0.5)
        (-3.0, -0.01, 2.0, 0.1),  # 0.005 / 1.51, below the limit
        (-1e-300, -0.5, 1.0, 0.5),  # the most that the quadratic gives
        (0.0, -0.5, 1.0, 0.5),
        (0.01, -0.5, 0.99, 0.5),  # not 0.25 / 0.495
        (-1.0, -50.0, 9.99, 25 / 50.5),
        (-1.0, -50.0, 10.0, 0.1),
        (-1.0, -50.0, np.inf, 0.1),
        (-1.0, -50.0, np.nan, 0.1),
    ],
)
def test_resize_shrinks_by_the_clipped_interpolation(x64, actual, slope, relative, shrink):
    result = resized(-1.0, actual, slope, relative=relative)
    np.testing.assert_allclose(result, (2.0 * shrink, 0.4 / shrink), rtol=1e-14)


def test_resize_shrinks_from_ten_steps_where_the_bound_is_longer(x64):
    np.testing.assert_allclose(resized(0.1, step=0.1), (0.5, 0.8), rtol=1e-15)
