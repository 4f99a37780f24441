"""Bounds and fixed parameters at every front door: lanes, masks, statistics, derivatives."""

from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax import export

from jaxlsq import Status, fit, least_squares, least_squares_batch, using
from tests.decays import P0, TRUTH, B, T, Y, decay, decay_np, noise

LOWER, UPPER = np.array([1.2, 0.5]), np.array([2.4, 1.6])
BOUNDS = (LOWER, UPPER)
START = (1.5, 1.0)


@pytest.fixture(scope="module")
def result():
    return fit(decay, T, Y, START, bounds=BOUNDS)


def scipy_solution(y, bounds=BOUNDS, x0=START):
    return scipy.optimize.least_squares(
        lambda p: decay_np(T, *p) - y, x0, bounds=bounds, **dict.fromkeys(("ftol", "xtol"), 1e-14)
    )


# --- fit ----------------------------------------------------------------------------


def test_every_lane_is_scipys_solution(result):
    assert result.success.all()
    assert len(np.unique(result.nfev)) > 2
    for i in range(B):
        expected = scipy_solution(Y[i])
        np.testing.assert_allclose(result.x[i], expected.x, rtol=1e-6)
        assert result.cost[i] <= expected.cost * (1 + 1e-9)
        # trf ends beside a bound, with its last digits to go.
        near = np.isclose(expected.x, UPPER, rtol=1e-8).astype(int)
        near -= np.isclose(expected.x, LOWER, rtol=1e-8)
        np.testing.assert_array_equal(result.active_mask[i], near)
    kinds = {tuple(row) for row in result.active_mask}
    assert len(kinds) >= 4  # inside, on one bound, in corners


def test_on_a_bound_means_exactly_on_it(result):
    assert np.all((result.x >= LOWER) & (result.x <= UPPER))
    np.testing.assert_array_equal(result.active_mask == -1, result.x == LOWER)
    np.testing.assert_array_equal(result.active_mask == 1, result.x == UPPER)
    assert np.any(result.active_mask == -1)
    assert np.any(result.active_mask == 1)


def test_a_lane_is_the_single_fit(result):
    order = np.random.default_rng(0).permutation(B)
    other = fit(decay, T, Y[order], START, bounds=BOUNDS)
    np.testing.assert_array_equal(other.x, result.x[order])
    np.testing.assert_array_equal(other.nfev, result.nfev[order])
    for i in range(4):
        alone = fit(decay, T, Y[i], START, bounds=BOUNDS)
        np.testing.assert_allclose(alone.x, result.x[i], rtol=1e-7)
        np.testing.assert_array_equal(alone.active_mask, result.active_mask[i])


def test_a_broken_lane_changes_no_bit_of_the_others(result):
    y = Y.copy()
    y[3, 2] = np.nan
    broken = fit(decay, T, y, START, bounds=BOUNDS)
    assert broken.status[3] == Status.NONFINITE_DATA
    others = np.arange(B) != 3
    np.testing.assert_array_equal(broken.x[others], result.x[others])


def test_optimality_is_that_of_the_conditions(result):
    """The gradient of what may move, and it is not that of all."""
    rows = np.stack(
        [np.exp(-result.x[:, 1:] * T), -result.x[:, :1] * T * np.exp(-result.x[:, 1:] * T)]
    )
    gradient = np.einsum("jbm,bm->bj", rows, result.residuals)
    out = ((result.x == LOWER) & (gradient >= 0)) | ((result.x == UPPER) & (gradient <= 0))
    expected = np.max(np.where(out, 0.0, np.abs(gradient)), axis=1)
    ended_with_jacobian = result.status == Status.GTOL
    np.testing.assert_allclose(
        result.optimality[ended_with_jacobian], expected[ended_with_jacobian], atol=1e-12
    )
    assert np.all(result.optimality < 1e-3)
    assert np.max(np.abs(gradient)) > 0.01


def test_covariance_is_that_of_what_is_free(result):
    cov = result.cov
    for i in range(B):
        rows = np.stack(
            [np.exp(-result.x[i, 1] * T), -result.x[i, 0] * T * np.exp(-result.x[i, 1] * T)], axis=1
        )
        free = result.active_mask[i] == 0
        expected = np.zeros((2, 2))
        part = np.linalg.inv(rows[:, free].T @ rows[:, free]) if free.any() else np.empty((0, 0))
        expected[np.ix_(free, free)] = part * result.redchi[i]
        np.testing.assert_allclose(cov[i], expected, rtol=1e-6)
    np.testing.assert_array_equal(result.free, result.active_mask == 0)
    assert np.all(result.dof == T.size - 2)


def test_report_says_which_bound(result):
    corner = np.flatnonzero((result.active_mask != 0).any(axis=1))[0]
    text = result.report(int(corner))
    j = int(np.flatnonzero(result.active_mask[corner])[0])
    side = "upper" if result.active_mask[corner, j] > 0 else "lower"
    assert f"(at its {side} bound)" in text


@pytest.mark.parametrize(
    "bounds",
    [
        list(BOUNDS),
        np.array(BOUNDS),
        scipy.optimize.Bounds(LOWER, UPPER),
        (np.tile(LOWER, (B, 1)), UPPER),
        {"a": (1.2, 2.4), "k": (0.5, np.full(B, 1.6))},
    ],
    ids=["list", "array", "Bounds", "per lane", "dict"],
)
def test_spellings(result, bounds):
    p0 = dict(zip("ak", START, strict=True)) if isinstance(bounds, dict) else START
    other = fit(decay, T, Y, p0, bounds=bounds)
    np.testing.assert_allclose(other.x, result.x, rtol=1e-7)
    np.testing.assert_array_equal(other.active_mask, result.active_mask)


def test_one_sided_infinite_and_per_lane_bounds():
    upper = np.column_stack([np.full(B, np.inf), TRUTH[:, 1] * np.where(np.arange(B) % 2, 0.5, 2)])
    found = fit(decay, T, Y, (1.5, 0.01), bounds=(-np.inf, upper))
    free = fit(decay, T, Y, P0)
    inside = np.arange(B) % 2 == 0
    np.testing.assert_allclose(found.x[inside], free.x[inside], rtol=1e-6)
    np.testing.assert_array_equal(found.x[~inside, 1], upper[~inside, 1])
    named = fit(decay, T, Y, {"a": 1.5, "k": 0.01}, bounds={"k": (None, upper[:, 1])})
    np.testing.assert_allclose(named.x, found.x, rtol=1e-7)


def test_infinite_bounds_are_none(compiles):
    plain = fit(decay, T, Y, P0)
    before = compiles()
    unbounded = fit(decay, T, Y, P0, bounds=(-np.inf, np.inf))
    assert compiles() == before
    np.testing.assert_array_equal(unbounded.x, plain.x)
    assert not plain.active_mask.any()
    assert not plain.fixed.any()


def test_new_bounds_compile_nothing(compiles):
    result = fit(decay, T, Y, START, bounds=BOUNDS)
    before = compiles()
    other = fit(decay, T, Y, START, bounds=(LOWER - 0.1, UPPER + 0.1))
    held = fit(decay, T, Y, START, fixed=[True, False])
    each = fit(decay, T, Y, START, fixed=np.arange(B)[:, None] % 2 == [0, 1])
    assert compiles() == before
    assert not np.array_equal(other.x, result.x)
    assert np.all(held.x[:, 0] == START[0])
    np.testing.assert_array_equal(each.x[::2, 0], START[0])
    np.testing.assert_array_equal(each.x[1::2, 1], START[1])
    np.testing.assert_array_equal(each.fixed[:, 0], np.arange(B) % 2 == 0)


def test_starts_on_bounds_and_guesses_outside_of_them():
    corner = fit(decay, T, Y, LOWER, bounds=BOUNDS)
    outside = fit(decay, T, Y, lambda t, y: (9.0, -9.0), bounds=BOUNDS)
    several = fit(decay, T, Y, START, bounds=BOUNDS, starts=5)
    expected = [scipy_solution(y).cost for y in Y]
    for found in (corner, outside, several):
        assert found.success.all()
        np.testing.assert_allclose(found.cost, expected, rtol=1e-6)


def test_float32_is_inside_to_the_last_bit():
    y = Y.astype(np.float32)
    lower, upper = np.array([1.1, 0.3 + 1e-9]), np.array([2.4 - 1e-9, 1.6])
    found = fit(decay, T.astype(np.float32), y, START, bounds=(lower, upper))
    assert found.x.dtype == np.float32
    assert found.success.all()
    assert np.all((found.x.astype(float) >= lower) & (found.x.astype(float) <= upper))
    wide = fit(decay, T, Y, START, bounds=(lower, upper))
    np.testing.assert_array_equal(found.active_mask, wide.active_mask)
    np.testing.assert_allclose(found.x, wide.x, rtol=1e-3)
    polished = fit(decay, T.astype(np.float32), y, START, bounds=(lower, upper), polish="float64")
    np.testing.assert_array_equal(polished.active_mask, wide.active_mask)
    assert np.all((polished.x >= lower) & (polished.x <= upper))


@pytest.mark.long_but("lanes")
@pytest.mark.parametrize("engine", ["lanes", "xla"])
def test_float32_does_not_believe_a_bound_that_rounding_holds(engine):
    """Two columns are parallel but for 1e-3, and one of them starts at its bound."""
    rng = np.random.default_rng(3)
    x = np.linspace(0.0, 1.0, 20)
    bent = x + 1e-3 * np.sin(7.0 * x)
    a, b, c = rng.normal(0.0, [[3.0], [150.0], [1.0]], (3, 200))
    y = a[:, None] * x + b[:, None] * bent + np.exp(c[:, None] * x)
    y = (y + 1e-3 * rng.normal(size=y.shape)).astype(np.float32)

    def model(x, a, b, c):
        return a * x + b * (x + 1e-3 * jnp.sin(7.0 * x)) + jnp.exp(c * x)

    x = x.astype(np.float32)
    how = {"p0": (0.0, 0.0, 0.5), "bounds": ((-np.inf, 0.0, -np.inf), np.inf)}
    with using("xla") if engine == "xla" else nullcontext():
        narrow = fit(model, x, y, **how)
    wide = fit(model, x.astype(float), y.astype(float), **how)
    good = narrow.success & wide.success
    assert good.mean() > 0.95
    assert 0.2 < np.mean(wide.active_mask[good, 1] == 0) < 0.8
    np.testing.assert_array_equal(narrow.active_mask[good], wide.active_mask[good])
    np.testing.assert_allclose(narrow.cost[good], wide.cost[good], rtol=1e-2)


@pytest.mark.long
def test_ragged_refit_index_and_file(tmp_path):
    ys = [Y[i, : 12 + i % 3] for i in range(6)]
    xs = [T[: len(y)] for y in ys]
    found = fit(decay, xs, ys, START, bounds=BOUNDS, max_nfev=2)
    again = found.refit(max_nfev=100)
    assert again.success.all()
    for i in range(6):
        alone = fit(decay, xs[i], ys[i], START, bounds=BOUNDS)
        np.testing.assert_allclose(again.x[i], alone.x, rtol=1e-6)
        np.testing.assert_array_equal(again[i].active_mask, alone.active_mask)
    again.save(tmp_path / "fits")
    loaded = type(again).load(tmp_path / "fits")
    np.testing.assert_array_equal(loaded.active_mask, again.active_mask)
    np.testing.assert_array_equal(loaded.fixed, again.fixed)
    with pytest.raises(ValueError, match="`p0` is infeasible"):
        again.refit(where=True, p0=(0.0, 0.0))


def test_images_keep_their_shape(result):
    image = fit(decay, T, Y.reshape(3, 4, -1), START, bounds=(np.tile(LOWER, (3, 4, 1)), UPPER))
    assert image.active_mask.shape == (3, 4, 2)
    np.testing.assert_allclose(image.x.reshape(B, 2), result.x, rtol=1e-8)


def test_too_few_points_counts_what_is_fitted():
    y = np.full((2, T.size), np.nan)
    y[:, :1] = 1.0
    found = fit(decay, T, y, P0, nan_policy="omit", fixed=[[False, True], [False, False]])
    assert found.status.tolist()[1] == Status.TOO_FEW_POINTS
    assert found.status[0] != Status.TOO_FEW_POINTS
    assert found.dof.tolist() == [0, -1]


# --- least_squares --------------------------------------------------------------------


def solve(y, bounds=BOUNDS, x0=START, **options):
    return least_squares(
        lambda p: decay(T, p[0], p[1]) - y, jnp.array(x0), bounds=bounds, **options
    )


def test_least_squares_under_vmap_is_fit(x64, result):
    lanes = jax.vmap(solve)(jnp.asarray(Y))
    np.testing.assert_allclose(lanes.x, result.x, rtol=1e-7)
    np.testing.assert_array_equal(lanes.active_mask, result.active_mask)
    np.testing.assert_allclose(lanes.cov, result.cov, rtol=1e-4, atol=1e-12)
    np.testing.assert_array_equal(lanes.dof, result.dof)
    assert np.all(lanes.optimality < 1e-3)


def test_bounds_may_be_traced_batched_and_infeasible(x64):
    y = jnp.asarray(Y[:3])
    upper = jnp.asarray([UPPER, [np.inf, np.inf], [0.0, 0.0]])
    lanes = jax.jit(jax.vmap(lambda y, upper: solve(y, (LOWER, upper))))(y, upper)
    np.testing.assert_allclose(lanes.x[0], solve(y[0]).x, rtol=1e-7)
    np.testing.assert_allclose(lanes.x[1], solve(y[1], (LOWER, np.inf)).x, rtol=1e-7)
    assert lanes.status[2] == Status.INFEASIBLE_BOUNDS
    assert not lanes.success[2]
    history = jax.jit(lambda upper: solve(y[2], (LOWER, upper), return_history=3))(upper[2])
    assert history.status == Status.INFEASIBLE_BOUNDS


@pytest.mark.long
def test_pytrees_and_histories(x64):
    y = Y[4]

    def residual(p):
        return decay(T, p["a"], p["k"]) - y

    x0 = {"a": 1.5, "k": 1.0}
    tree = least_squares(
        residual, x0, bounds=({"a": 1.2, "k": 0.5}, {"a": 2.4, "k": 1.6}), return_history=20
    )
    plain = solve(y)
    np.testing.assert_allclose([tree.x["a"], tree.x["k"]], plain.x, rtol=1e-7)
    kept = tree.history.nfev > 0
    inside = (tree.history.x["a"] >= 1.2) & (tree.history.x["a"] <= 2.4)
    assert np.all(inside | ~kept)


def test_equal_bounds_fix(x64):
    found = solve(Y[0], ([1.5, 0.1], [1.5, 3.0]))
    free = scipy.optimize.least_squares(lambda p: decay_np(T, 1.5, p[0]) - Y[0], [1.0])
    np.testing.assert_allclose(found.x, [1.5, free.x[0]], rtol=1e-6)
    assert found.active_mask.tolist() == [-1, 0]
    assert found.dof == T.size - 1
    assert found.cov[0, 0] == 0
    assert found.cov[1, 1] > 0


@pytest.mark.long_but("gauss-newton")
@pytest.mark.parametrize("hessian", ["full", "gauss-newton"])
def test_derivatives_by_the_data_are_those_of_the_reduced_system(x64, result, hessian):
    """Zero for a parameter at a bound; for the others as if it were a constant."""
    pairs = result.active_mask.tolist()
    for mask in ([1, 0], [-1, 0], [0, 0]):
        if mask not in pairs:
            continue
        y = jnp.asarray(Y[pairs.index(mask)])
        tight = {"ftol": 1e-14, "xtol": 1e-14}
        found, reverse = (
            d(lambda y: solve(y, hessian=hessian, ftol=1e-14, xtol=1e-14).x)(y)
            for d in (jax.jacfwd, jax.jacrev)
        )
        np.testing.assert_allclose(found, reverse, rtol=1e-9, atol=1e-12)
        h = 1e-3
        for j in (0, 7):
            step = h * np.eye(T.size)[j]
            central = (solve(y + step, **tight).x - solve(y - step, **tight).x) / (2 * h)
            close = 1e-4 if hessian == "full" else 0.1
            np.testing.assert_allclose(found[:, j], central, rtol=close, atol=close * 0.1)
        assert np.all(found[np.array(mask) != 0] == 0)


def test_derivatives_by_the_bounds(x64, result):
    """A parameter at a bound moves with it, and drags the others along."""
    i = result.active_mask.tolist().index([1, 0])
    y, tight = jnp.asarray(Y[i]), {"ftol": 1e-14, "xtol": 1e-14}

    def of(upper):
        return solve(y, (LOWER, jnp.array([upper, 1.6])), **tight).x

    found = jax.grad(lambda u: of(u)[1])(2.4)
    assert jax.grad(lambda u: of(u)[0])(2.4) == 1.0
    central = (of(2.4 + 1e-5)[1] - of(2.4 - 1e-5)[1]) / 2e-5
    np.testing.assert_allclose(found, central, rtol=1e-6)


def test_gradients_through_many_bounded_fits(x64):
    total = jax.jit(jax.grad(lambda y: jnp.sum(jax.vmap(solve)(y).x)))(jnp.asarray(Y))
    each = jnp.stack([jax.grad(lambda y: jnp.sum(solve(y).x))(jnp.asarray(y)) for y in Y[:3]])
    np.testing.assert_allclose(total[:3], each, rtol=1e-6, atol=1e-9)


def test_lowered_for_a_gpu_bounds_and_losses_call_no_library(x64):
    def lanes(y):
        return jax.vmap(lambda y: solve(y, loss="cauchy").x)(y)

    program = export.export(jax.jit(lanes), platforms=["cuda"])(jnp.asarray(Y))
    assert "while" in program.mlir_module()
    assert "custom_call" not in program.mlir_module()


# --- least_squares_batch ----------------------------------------------------------------


def test_least_squares_batch(result):
    def residual(p, y):
        return decay(T, p["a"], p["k"]) - y

    found = least_squares_batch(
        residual,
        {"a": 1.5, "k": 1.0},
        Y,
        bounds=({"a": 1.2, "k": 0.5}, {"a": 2.4, "k": 1.6}),
    )
    np.testing.assert_allclose(found.x, result.x, rtol=1e-7)
    held = least_squares_batch(residual, {"a": 1.5, "k": 1.0}, Y, fixed={"a": True, "k": False})
    assert np.all(held.params["a"] == 1.5)
    vector = least_squares_batch(
        lambda p, y: decay(T, p["v"][0], p["v"][1]) - y,
        {"v": np.array(START)},
        Y,
        fixed={"v": [True, False]},
        bounds=({"v": [1.0, 0.0]}, {"v": 9.0}),
    )
    np.testing.assert_allclose(vector.x, held.x, rtol=2e-4)


def test_many_lanes_that_end_at_different_times():
    """A pool of more lanes than fit at once, some of which cross bounds again and again."""
    rng = np.random.default_rng(6)
    truth = rng.uniform((0.5, 0.2), (4.0, 3.0), (600, 2))
    y = decay_np(T, *truth.T[:, :, None]) + noise((600, T.size), 7)
    start = rng.uniform(LOWER, UPPER, (600, 2))
    found = fit(decay, T, y, start, bounds=BOUNDS)
    assert found.success.all()
    assert len(np.unique(found.nfev)) > 4
    for i in range(0, 600, 60):
        expected = scipy_solution(y[i], x0=start[i].clip(LOWER + 1e-9, UPPER - 1e-9))
        assert found.cost[i] <= expected.cost * (1 + 1e-7)


@pytest.mark.parametrize("upper", [0.6, np.inf], ids=["box", "not negative"])
def test_linear_models_are_solved_as_by_scipys_linear_solvers(upper):
    """With eight parameters, of which most end on a bound, in a few evaluations."""
    rng = np.random.default_rng(12)
    rows = rng.normal(size=(50, 8))
    y = rng.normal(size=(100, 8)) @ rows.T + 0.1 * rng.normal(size=(100, 50))

    def model(x, *p):
        return sum(p[j] * x[j] for j in range(8))

    found = fit(model, rows.T, y, np.full(8, 0.3), bounds=(0.0, upper))
    assert found.success.all()
    assert found.nfev.mean() < 4
    assert np.mean(found.active_mask != 0) > 0.3
    for i in range(0, 100, 10):
        best = scipy.optimize.lsq_linear(rows, y[i], (0.0, upper), tol=1e-14)
        np.testing.assert_allclose(found.cost[i], best.cost, rtol=1e-8)
        np.testing.assert_allclose(found.x[i], best.x, atol=1e-6)


def test_scaled_data_in_float32_take_the_same_way():
    t, y = T.astype(np.float32), Y.astype(np.float32)
    plain = fit(decay, t, y, START, bounds=BOUNDS)
    for scale in (1e-15, 1e15):
        sides = [side * np.array([scale, 1.0]) for side in BOUNDS]
        start = np.array(START) * np.array([scale, 1.0])
        found = fit(decay, t, (y * scale).astype(np.float32), start, bounds=sides)
        np.testing.assert_allclose(found.x / [scale, 1.0], plain.x, rtol=1e-4)
        np.testing.assert_array_equal(found.active_mask, plain.active_mask)


def test_a_corner_where_columns_are_nearly_parallel_is_left():
    """A peak between two points of the data: only one of them says anything of it."""
    x = np.array([-5.0, -5 / 3, 5 / 3, 5.0])
    y = np.array([1.1e-3, -4.3e-4, 1.149, 1.1e-3])

    def peak(x, area, center, sigma):
        return area / (2.5066282746 * sigma) * jnp.exp(-0.5 * ((x - center) / sigma) ** 2)

    start = np.array([1.869, 1.8356, 0.4564])
    bounds = ([start[0], -7.1, -np.inf], [3.54, 10.8, start[2]])
    found = fit(peak, x, y, start, bounds=bounds)
    assert found.status == Status.SINGULAR_JACOBIAN
    assert found.cost < 2e-6  # 0.07 at the start
