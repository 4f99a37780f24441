"""Pivoted QR against NumPy and SciPy, in both types and at the range's ends, and its step."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import qr as scipy_qr

from jaxlsq.numerics.factor import Factor, qr
from jaxlsq.numerics.householder import BLOCK_ROWS, inverse, reflector, triangle
from jaxlsq.numerics.linear_model import Region

QR = jax.jit(qr)
SHAPE = (12, 4)


def random_problem(seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    jac = rng.standard_normal(shape) * rng.uniform(0.2, 5.0, shape[1])
    return jac, rng.standard_normal(shape[0])


def safe_norms(jac):
    """Column norms in float64, without squares of what is outside the range."""
    largest = np.max(np.abs(jac), axis=0).astype(np.float64)
    unit = np.where(largest == 0, 1.0, largest)
    return unit * np.linalg.norm(jac / unit, axis=0)


def assert_factorizes(factor, jac, f, tol):
    """J P = Q R with Q'Q = 1, in terms of R'R and R'Q'f, with columns scaled to norm one."""
    r, perm = np.asarray(factor.r, np.float64), np.asarray(factor.perm)
    qtf = np.asarray(factor.qtf, np.float64)
    norms = safe_norms(jac)
    np.testing.assert_allclose(factor.column_norms, norms, rtol=tol)
    np.testing.assert_array_equal(np.sort(perm), np.arange(jac.shape[1]))
    np.testing.assert_array_equal(r, np.triu(r))
    unit = np.where(norms == 0, 1.0, norms)[perm]
    scaled_r, scaled_jac = r / unit, jac[:, perm].astype(np.float64) / unit
    np.testing.assert_allclose(scaled_r.T @ scaled_r, scaled_jac.T @ scaled_jac, atol=tol)
    size = np.linalg.norm(f)
    np.testing.assert_allclose(scaled_r.T @ qtf, scaled_jac.T @ f, atol=tol * size)


def pivots(factor):
    """|diag R| in elimination order."""
    return np.abs(np.diag(factor.r))


@pytest.mark.long_but("shape2")
@pytest.mark.parametrize("shape", [SHAPE, (4, 4), (5, 1)])
def test_factors_reproduce_the_jacobian(x64, shape):
    jac, f = random_problem(0, shape)
    assert_factorizes(QR(jac, f), jac, f, 1e-13)


def test_float32_stays_float32():
    jac, f = (v.astype(np.float32) for v in random_problem(1))
    factor = QR(jac, f)
    assert {factor.r.dtype, factor.qtf.dtype, factor.column_norms.dtype} == {np.dtype("float32")}
    assert_factorizes(factor, jac, f, 1e-5)


def test_pivots_do_not_increase(x64):
    for seed in range(5):
        size = pivots(QR(*random_problem(seed)))
        assert np.all(np.diff(size) <= 1e-14)


def test_qr_agrees_with_scipys_pivoted_qr(x64):
    orders = set()
    for seed in range(8):
        jac, f = random_problem(seed)
        q, r, perm = scipy_qr(jac, mode="economic", pivoting=True)
        factor = QR(jac, f)
        np.testing.assert_array_equal(factor.perm, perm)
        np.testing.assert_allclose(np.abs(factor.r), np.abs(r), atol=1e-13)
        np.testing.assert_allclose(np.abs(factor.qtf), np.abs(q.T @ f), atol=1e-13)
        orders.add(tuple(perm.tolist()))
    assert len(orders) > 3


def test_repeated_column_gives_a_tiny_last_pivot_and_finite_values(x64):
    jac, f = random_problem(3)
    jac[:, 2] = jac[:, 0]
    factor = QR(jac, f)
    relative = pivots(factor) / np.asarray(factor.column_norms)[factor.perm]
    assert relative[-1] < 1e-14
    assert relative[-2] > 0.1
    assert np.all(np.isfinite(factor.r))
    assert np.all(np.isfinite(factor.qtf))
    assert_factorizes(factor, jac, f, 1e-13)


def test_zero_column_comes_last_with_a_zero_pivot(x64):
    jac, f = random_problem(4)
    jac[:, 1] = 0.0
    factor = QR(jac, f)
    assert factor.perm[-1] == 1
    assert factor.r[-1, -1] == 0.0
    assert factor.column_norms[1] == 0.0
    assert np.all(np.isfinite(factor.qtf))
    assert_factorizes(factor, jac, f, 1e-13)


def test_zero_jacobian_gives_zero(x64):
    factor = QR(np.zeros(SHAPE), np.ones(SHAPE[0]))
    np.testing.assert_array_equal(factor.r, np.zeros((4, 4)))
    np.testing.assert_array_equal(np.sort(factor.perm), np.arange(4))


def test_zero_residual_gives_zero_qtf(x64):
    jac, _ = random_problem(5)
    factor = QR(jac, np.zeros(SHAPE[0]))
    np.testing.assert_array_equal(factor.qtf, np.zeros(4))
    assert_factorizes(factor, jac, np.zeros(SHAPE[0]), 1e-13)


def test_columns_of_wildly_different_size_in_float64(x64):
    jac, f = random_problem(6)
    jac = jac * np.array([1e-150, 1e150, 1.0, 1e-75])
    factor = QR(jac, f)
    assert_factorizes(factor, jac, f, 1e-13)
    np.testing.assert_array_equal(factor.perm, [1, 2, 3, 0])


def test_columns_of_wildly_different_size_in_float32():
    jac, f = random_problem(7)
    jac = (jac * np.array([1e-20, 1e15, 1.0, 1e-10])).astype(np.float32)
    factor = QR(jac, f.astype(np.float32))
    assert_factorizes(factor, jac, f.astype(np.float32), 1e-5)


@pytest.mark.parametrize("size", [1e180, 1e-180])
def test_a_jacobian_whose_squares_leave_the_range(x64, size):
    jac, f = random_problem(8)
    assert_factorizes(QR(jac * size, f), jac * size, f, 1e-13)


def test_a_residual_whose_square_leaves_the_range(x64):
    jac, f = random_problem(9)
    large, plain = QR(jac, f * 2.0**800), QR(jac, f)
    np.testing.assert_array_equal(large.qtf, np.asarray(plain.qtf) * 2.0**800)


@pytest.mark.long_but("12288")
@pytest.mark.parametrize("m", [2 * BLOCK_ROWS + 1, 3 * BLOCK_ROWS])
def test_blocks_of_rows_agree_with_numpy(x64, m):
    jac, f = random_problem(10, (m, 3))
    factor = QR(jac, f)
    assert_factorizes(factor, jac, f, 1e-12)
    perm = scipy_qr(jac, mode="r", pivoting=True)[1]
    np.testing.assert_array_equal(factor.perm, perm)
    expected = np.linalg.qr(jac[:, perm], mode="r")
    np.testing.assert_allclose(np.abs(factor.r), np.abs(expected), rtol=1e-11, atol=1e-11)


@pytest.mark.long
def test_every_block_counts(x64):
    """One row that matters, in the first, a middle and the last block."""
    m = 2 * BLOCK_ROWS + 10
    for row in (0, BLOCK_ROWS + 5, m - 1):
        jac, f = np.zeros((m, 2)), np.zeros(m)
        jac[row], f[row] = (3.0, 4.0), 5.0
        factor = QR(jac, f)
        np.testing.assert_array_equal(factor.perm, [1, 0])
        np.testing.assert_allclose(np.abs(factor.r), [[4.0, 3.0], [0.0, 0.0]], atol=1e-15)
        np.testing.assert_allclose(np.abs(factor.qtf[0]), 5.0, rtol=1e-15)


@pytest.mark.long
def test_vmap_equals_a_loop(x64):
    lanes = [random_problem(seed) for seed in range(6)]
    batch = jax.vmap(QR)(np.stack([j for j, _ in lanes]), np.stack([f for _, f in lanes]))
    assert len({tuple(perm) for perm in np.asarray(batch.perm).tolist()}) > 1
    for k, (jac, f) in enumerate(lanes):
        single = QR(jac, f)
        np.testing.assert_array_equal(batch.perm[k], single.perm)
        np.testing.assert_allclose(batch.r[k], single.r, atol=1e-13)
        np.testing.assert_allclose(batch.qtf[k], single.qtf, atol=1e-13)
        np.testing.assert_allclose(batch.column_norms[k], single.column_norms, rtol=1e-14)


def test_triangle_keeps_lengths_and_angles(x64):
    jac, f = random_problem(11)
    rows = np.vstack([jac.T, f])
    reduced = np.asarray(jax.jit(triangle, static_argnums=1)(rows, 4))
    np.testing.assert_array_equal(reduced[:4], np.tril(reduced[:4]))
    np.testing.assert_allclose(reduced @ reduced.T, rows @ rows.T, atol=1e-12)
    np.testing.assert_allclose(
        np.abs(reduced[:4, :4].T), np.abs(np.linalg.qr(jac, mode="r")), atol=1e-13
    )


def test_triangle_passes_a_zero_column(x64):
    jac, f = random_problem(12)
    jac[:, 1] = 0.0
    rows = np.vstack([jac.T, f])
    reduced = np.asarray(jax.jit(triangle, static_argnums=1)(rows, 4))
    np.testing.assert_array_equal(reduced[1], np.zeros(12))
    np.testing.assert_allclose(reduced @ reduced.T, rows @ rows.T, atol=1e-12)


def test_inverse_undoes_every_permutation_of_four():
    for perm in permutations(range(4)):
        perm = np.array(perm)
        back = inverse(jnp.asarray(perm))
        assert back.dtype == jnp.int32
        np.testing.assert_array_equal(back, np.argsort(perm))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_reflector_maps_the_vector_onto_one_element(x64, sign):
    v = np.array([0.0, 0.0, sign * 2.0, -3.0, 6.0])
    u, pivot, diagonal = (np.asarray(part) for part in reflector(jnp.asarray(v), 2))
    reflection = np.eye(5) - np.outer(u, u) / pivot
    np.testing.assert_allclose(reflection @ v, [0, 0, -sign * 7.0, 0, 0], atol=1e-14)
    np.testing.assert_allclose(reflection @ reflection, np.eye(5), atol=1e-14)
    assert diagonal == -sign * 7.0
    assert pivot == u[2] >= 1.0


def test_reflector_of_a_zero_vector_is_the_identity(x64):
    u, pivot, diagonal = reflector(jnp.zeros(4), 1)
    np.testing.assert_array_equal(u, np.zeros(4))
    assert pivot == 1.0
    assert diagonal == 0.0


@jax.jit
def find_step(jac, f, scale, step_bound, damping):
    factor, fnorm = qr(jac, f), jnp.sqrt(jnp.sum(f * f))
    return factor.step(Region(scale, fnorm, step_bound, damping))


@pytest.mark.parametrize("size", [1.0, 1e120, 1e-120])
@pytest.mark.parametrize("fraction", [2.0, 0.5, 1e-3])
def test_step_solves_the_damped_problem_in_the_order_of_the_parameters(x64, fraction, size):
    orders = set()
    for seed in range(4):
        jac, f = random_problem(20 + seed)
        scale = np.random.default_rng(seed).uniform(0.5, 3.0, 4)
        bound = fraction * np.linalg.norm(scale * np.linalg.lstsq(jac, f)[0])
        step = find_step(jac * size, f * size, scale * size, bound * size, 0.0)
        damping, p, step_norm, model, _, full_rank = map(np.asarray, step)
        assert (damping == 0.0) == (fraction > 1)
        expected = np.linalg.solve(jac.T @ jac + damping * np.diag(scale**2), jac.T @ f)
        np.testing.assert_allclose(p, expected, rtol=1e-11)
        np.testing.assert_allclose(step_norm / size, np.linalg.norm(scale * p), rtol=1e-13)
        ratio = np.linalg.norm(jac @ p) / np.linalg.norm(f)
        np.testing.assert_allclose(model, ratio**2, rtol=1e-12)
        assert full_rank
        orders.add(tuple(np.asarray(QR(jac, f).perm).tolist()))
    assert len(orders) > 1


def test_step_along_a_zero_column_is_zero_and_told(x64):
    jac, f = random_problem(24)
    jac[:, 1] = 0.0
    damping, p, *_, full_rank = find_step(jac, f, np.ones(4), 1e6, 0.0)
    assert (damping, p[1], full_rank) == (0.0, 0.0, False)
    np.testing.assert_allclose(p, np.linalg.lstsq(jac, f)[0], rtol=1e-12, atol=1e-14)


def test_cosines_between_residual_and_columns(x64):
    jac, f = random_problem(25)
    jac[:, 2] = 0.0
    factor, norms = QR(jac, f), np.linalg.norm(jac, axis=0)
    cosines = np.abs(jac.T @ f) / np.where(norms == 0, 1.0, norms) / np.linalg.norm(f)
    result = factor.cosines(np.linalg.norm(f))
    np.testing.assert_allclose(result, cosines, rtol=1e-12)
    assert result[2] == 0.0


def test_empty_has_the_shapes_of_a_factor():
    x0 = jnp.ones(4, jnp.float32)
    empty = Factor.empty(x0)
    factor = QR(*(v.astype(np.float32) for v in random_problem(26)))
    shapes = [(v.shape, v.dtype) for v in jax.tree.leaves(factor)]
    assert [(v.shape, v.dtype) for v in jax.tree.leaves(empty)] == shapes
