"""The step in a box: against all of its faces, the unbounded step, and its own conditions."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq.batch.polish import LEAST_CERTAINTY
from jaxlsq.numerics.bounds import GramBox, blocked, box_steps, feasible
from jaxlsq.numerics.linear_model import Box, Region
from jaxlsq.numerics.normal import normal_equations
from jaxlsq.numerics.sweep import least_rank
from jaxlsq.numerics.trust_region import levenberg_parameter

LANES = 200


def by_enumeration(matrix, g, low, high):
    """The best of all faces of the box whose minimum is inside."""
    n, best = len(g), (np.inf, None)
    for face in product((-1, 0, 1), repeat=n):
        face = np.array(face)
        free = face == 0
        q = np.where(face > 0, high, np.where(face < 0, low, 0.0))
        if not np.all(np.isfinite(q)):
            continue
        if free.any():
            q[free] = np.linalg.solve(
                matrix[np.ix_(free, free)], g[free] - matrix[np.ix_(free, ~free)] @ q[~free]
            )
        if np.all((q >= low - 1e-12) & (q <= high + 1e-12)):
            value = 0.5 * q @ matrix @ q - g @ q
            best = min(best, (value, tuple(q)))
    return np.array(best[1])


def problems(n, seed, rows=6):
    rng = np.random.default_rng(seed)
    jac = rng.normal(size=(LANES, rows, n)) * rng.uniform(0.1, 3.0, (LANES, 1, n))
    gram = np.einsum("bij,bik->jkb", jac, jac)
    gradient = rng.normal(size=(n, LANES)) * 3.0
    low, high = -rng.exponential(0.5, (n, LANES)), rng.exponential(0.5, (n, LANES))
    kind = rng.integers(0, 5, (n, LANES))
    low = np.where(kind == 0, -np.inf, np.where(kind == 1, 0.0, low))
    high = np.where(kind == 2, np.inf, np.where(kind == 3, 0.0, high))
    return gram, gradient, low, high


def solve(gram, gradient, low, high, damping):
    problem = GramBox(gram, gradient)
    attempt, sides = box_steps(problem, (low, high), problem.doubt)
    return attempt(damping, sides)


@pytest.mark.long_but("0.7-2")
@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("damping", [0.0, 0.7])
def test_the_step_is_the_best_of_all_faces(x64, n, damping):
    gram, gradient, low, high = problems(n, seed=n)
    q, length, slope, full_rank, _ = solve(gram, gradient, low, high, jnp.full(LANES, damping))
    assert np.all(full_rank)
    held = 0
    for i in range(LANES):
        matrix = gram[..., i] + damping * np.eye(n)
        best = by_enumeration(matrix, gradient[:, i], low[:, i], high[:, i])
        np.testing.assert_allclose(q[:, i], best, atol=1e-9)
        held += np.any((best == low[:, i]) | (best == high[:, i]))
    assert held > LANES / 3
    np.testing.assert_allclose(length, np.linalg.norm(q, axis=0), rtol=1e-12)
    # The slope is that of the length in the damping, where no parameter changes sides.
    more = solve(gram, gradient, low, high, jnp.full(LANES, damping + 1e-7))
    same = np.all(
        np.asarray(more[4]) == np.asarray(solve(gram, gradient, low, high, damping)[4]), 0
    )
    relative = -(np.asarray(more[1]) - length) / 1e-7 / np.where(length == 0, 1.0, length)
    np.testing.assert_allclose(np.square(slope)[same], relative[same], rtol=1e-4, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("n", [8, 14])
def test_many_parameters_meet_the_conditions(x64, n):
    """Feasible, and no multiplier of the wrong sign: what makes it the minimum."""
    gram, gradient, low, high = problems(n, seed=n, rows=2 * n)
    q, *_ = (np.asarray(v) for v in solve(gram, gradient, low, high, jnp.full(LANES, 0.01)))
    assert np.all((q >= low) & (q <= high))
    force = gradient - np.einsum("jkb,kb->jb", gram, q) - 0.01 * q
    inside = (q > low) & (q < high)
    assert np.max(np.abs(force[inside])) < 1e-9 * np.max(np.abs(gradient))
    slack = 1e-9 * np.abs(gradient).max()
    assert np.all(force[(q >= high) & (high > low)] >= -slack)
    assert np.all(force[(q <= low) & (high > low)] <= slack)
    assert np.mean(inside) < 0.8


def polynomials(n, size=400):
    """Problems of polynomials of n coefficients, whose columns are nearly parallel."""
    rng = np.random.default_rng(n)
    jac = rng.uniform(0.0, 1.0, (size, 40, 1)) ** np.arange(n)
    jac /= np.linalg.norm(jac, axis=1, keepdims=True)
    gram = np.einsum("bij,bik->jkb", jac, jac)
    gradient = np.einsum("bij,bi->jb", jac, rng.normal(size=(size, 40)))
    low, high = -(10.0 ** rng.uniform(-2, 2, (n, size))), 10.0 ** rng.uniform(-2, 2, (n, size))
    kind = rng.integers(0, 5, (n, size))
    low = np.where(kind == 0, -np.inf, np.where(kind == 1, 0.0, low))
    high = np.where(kind == 2, np.inf, np.where(kind == 3, 0.0, high))
    return gram, gradient, low, high


@pytest.mark.long_but("4")
@pytest.mark.parametrize("n", [4, 6, 8])
def test_a_step_meets_the_conditions_also_where_columns_are_nearly_parallel(x64, n):
    """Their boxes take many passes; where that is too many, with some damping."""
    gram, gradient, low, high = polynomials(n)
    attempt, sides = box_steps(GramBox(gram, gradient), (low, high))
    bound = jnp.full(gradient.shape[1], 1e6)
    none = jnp.zeros_like(bound)
    damping, q, _ = levenberg_parameter(attempt, gradient, bound, none, sides=sides)
    damping, q = np.asarray(damping), np.asarray(q)
    assert np.all((q >= low) & (q <= high))
    assert np.mean(damping == 0) > (0.9 if n == 8 else 0.99)
    force = gradient - np.einsum("jkb,kb->jb", gram, q) - damping * q
    slack = 1e-7 * np.linalg.norm(gradient, axis=0)
    assert np.all(np.abs(force)[:, (q > low).all(0) & (q < high).all(0)] < 1e-7)
    assert np.all((force >= -slack) | (q <= low))
    assert np.all((force <= slack) | (q >= high))


def test_a_held_parameter_that_the_free_ones_span_stays(x64):
    """Two columns are parallel but for rounding: to free the one would only lose the other."""
    row = np.array([1.0, -1.0, -1.0])
    gram = np.outer(row, row)[..., None]
    gradient = 1.5 * row[:, None] - np.array([[3e-12], [0.0], [6e-12]])
    low, high = np.array([[-5.0], [-44.0], [0.0]]), np.array([[0.0], [44.0], [np.inf]])
    q, length, *_ = solve(gram, gradient, low, high, jnp.zeros(1))
    assert length[0] < np.inf
    np.testing.assert_allclose(q[:, 0], [0.0, -1.5, 0.0], atol=1e-9)


@pytest.mark.long
def test_without_bounds_it_is_the_unbounded_step(x64):
    rng = np.random.default_rng(4)
    jac, f = rng.normal(size=(10, 3)), rng.normal(size=10)
    normal, fnorm = normal_equations(tuple(jac.T), (f,), jnp.ones(()))
    scale = jnp.array([1.0, 2.0, 0.5])
    infinite = Box(jnp.full(3, -jnp.inf), jnp.full(3, jnp.inf))
    for bound in (100.0, 0.1):
        region = Region(scale, fnorm, bound, jnp.zeros(()))
        free, boxed = normal.step(region), normal.step_in_box(infinite, region)
        length, expected = float(boxed.step_norm), float(free.step_norm)
        if bound == 100.0:
            np.testing.assert_allclose(boxed.p, free.p, rtol=1e-12)
            np.testing.assert_allclose(boxed.model, free.model, rtol=1e-12)
        assert abs(length - expected) <= 0.2 * expected
        # g'p - |Jp|^2 is the damping times |Dp|^2
        np.testing.assert_allclose(
            boxed.damped, boxed.damping * np.square(length / fnorm), rtol=1e-9, atol=1e-14
        )


def test_directions_that_nothing_determines_do_not_move(x64):
    gram = np.array([[1.0, 1.0], [1.0, 1.0]])[..., None]
    q, _, _, full_rank, _ = solve(
        gram, np.ones((2, 1)), np.full((2, 1), -9.0), np.full((2, 1), 9.0), jnp.zeros(1)
    )
    assert not full_rank[0]
    np.testing.assert_allclose(q[:, 0], [1.0, 0.0])


@pytest.mark.long_but("0.3-False-1", "0.0001-True--1")
@pytest.mark.parametrize("end", [1, -1])
@pytest.mark.parametrize(("part", "doubtful"), [(1e-4, True), (0.3, False)])
def test_whether_a_nearly_spanned_parameter_is_held_is_in_doubt(part, doubtful, end):
    """In float32, whichever end holds it; what the column's remainder says decides it."""
    rng = np.random.default_rng(0)
    jac, f = rng.normal(size=(12, 3)), rng.normal(size=12)
    jac[:, 2] = jac[:, 0] + part * jac[:, 2]
    narrow = jac.astype(np.float32)
    low, high = np.full((3, 1), -9.0, np.float32), np.full((3, 1), 9.0, np.float32)
    (high if end > 0 else low)[2] = 0.0
    gram, gradient = (narrow.T @ narrow)[..., None], (narrow.T @ f.astype(np.float32))[:, None]
    *_, rank, _ = solve(gram, gradient, low, high, jnp.zeros(1, jnp.float32))
    assert least_rank(3, np.float32) < rank[0]
    assert (rank[0] < LEAST_CERTAINTY) == doubtful
    # A column of nothing is no doubt.
    gram[2], gram[:, 2], gradient[2] = 0.0, 0.0, 0.0
    assert solve(gram, gradient, low, high, jnp.zeros(1, jnp.float32))[3][0] > 0.1


def test_blocked_and_feasible():
    x, bounds = jnp.array([0.0, 0.0, 1.0, 1.0, 0.5]), (jnp.zeros(5), jnp.ones(5))
    descent = jnp.array([1.0, -1.0, -1.0, 1.0, 9.0])
    np.testing.assert_array_equal(blocked(x, descent, bounds), [True, False, True, False, False])
    assert feasible(bounds)
    assert not feasible((jnp.array([0.0, jnp.nan]), jnp.ones(2)))
    assert not feasible((jnp.array([0.0, 2.0]), jnp.ones(2)))


@pytest.mark.long
def test_it_is_one_program_for_all_lanes(x64):
    """Idle lanes hold nothing up, and lanes do not see each other."""
    gram, gradient, low, high = problems(3, seed=9)
    whole = solve(gram, gradient, low, high, jnp.zeros(LANES))[0]
    alone = jax.vmap(
        lambda a, g, lo, hi: solve(a, g, lo, hi, jnp.zeros(()))[0], in_axes=(2, 1, 1, 1)
    )(gram, gradient, low, high)
    np.testing.assert_allclose(whole, alone.T, rtol=1e-12, atol=1e-14)
