"""Normal equations of one lane and of many, and their step, against NumPy and against QR."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq.numerics.factor import qr
from jaxlsq.numerics.linear_model import Region
from jaxlsq.numerics.normal import MOST_APART, Normal, normal_equations
from jaxlsq.numerics.sweep import floor_of, sweep, sweep_elements

M, N = 30, 4
EPS = np.finfo(np.float64).eps
FLOAT32 = np.dtype("float32")


def random_problem(seed=0, m=M, n=N):
    rng = np.random.default_rng(seed)
    jac = rng.standard_normal((m, n)) * rng.uniform(0.2, 5.0, n)
    return jac, rng.standard_normal(m), rng.uniform(0.5, 3.0, n)


def newton_length(jac, f, scale):
    return np.linalg.norm(scale * np.linalg.lstsq(jac, f)[0])


def damped_solution(jac, f, scale, damping):
    return np.linalg.solve(jac.T @ jac + damping * np.diag(scale**2), jac.T @ f)


def equations(jac, f, unit):
    """`normal_equations` of (..., m, n) and (..., m) that are not yet divided by the unit."""
    unit = jnp.asarray(unit, f.dtype)
    scaled = jac / unit[..., None, None]
    columns = [scaled[..., j] for j in range(jac.shape[-1])]
    return normal_equations(columns, (f / unit[..., None],), unit)


@jax.jit
def find_step(jac, f, scale, bound, damping=0.0, unit=1.0):
    """One lane's `Step`."""
    normal, fnorm = equations(jac, f, unit)
    damping = jnp.asarray(damping, f.dtype)
    return normal.step(Region(scale, fnorm, bound, damping))


@jax.jit
def find_steps(jac, f, scale, bound, damping, idle=False):
    """Many lanes, first in what is given and returned."""
    normal, fnorm = equations(jac, f, np.ones(f.shape[0]))
    step = normal.step(Region(scale.T, fnorm, bound, damping), idle)
    return step._replace(p=step.p.T)


@jax.jit
def find_qr_step(jac, f, scale, bound, damping):
    return qr(jac, f).step(Region(scale, jnp.sqrt(jnp.sum(f * f)), bound, damping))


@pytest.mark.parametrize("unit", [1.0, 0.25, 2.0**300])
def test_equations_equal_numpys(x64, unit):
    jac, f, _ = random_problem()
    normal, fnorm = equations(jac, f, unit)
    assert normal.unit == unit
    np.testing.assert_allclose(normal.gram * unit, jac.T @ jac / unit, rtol=1e-13)
    np.testing.assert_allclose(normal.gradient * unit, jac.T @ f / unit, rtol=1e-12)
    np.testing.assert_array_equal(normal.gram, np.asarray(normal.gram).T)
    np.testing.assert_allclose(fnorm, np.linalg.norm(f), rtol=1e-14)
    np.testing.assert_allclose(normal.column_norms, np.linalg.norm(jac, axis=0), rtol=1e-14)
    sizes = np.linalg.norm(jac, axis=0) * np.linalg.norm(f)
    np.testing.assert_allclose(normal.cosines(fnorm), np.abs(jac.T @ f) / sizes, rtol=1e-12)


def test_lanes_come_first_in_the_data_and_last_in_the_equations(x64):
    jac, f = (np.stack(v) for v in list(zip(*map(random_problem, range(5)), strict=True))[:2])
    unit = 2.0 ** np.arange(5)
    normal, fnorm = equations(jac, f, unit)
    assert normal.gram.shape == (N, N, 5)
    assert normal.gradient.shape == (N, 5)
    np.testing.assert_allclose(fnorm, np.linalg.norm(f, axis=1), rtol=1e-14)
    np.testing.assert_allclose(normal.column_norms.T, np.linalg.norm(jac, axis=1), rtol=1e-14)
    cosines = normal.cosines(fnorm)
    for k in range(5):
        single, single_norm = equations(jac[k], f[k], unit[k])
        np.testing.assert_allclose(normal.gram[..., k], single.gram, rtol=1e-14)
        np.testing.assert_allclose(normal.gradient[:, k], single.gradient, rtol=1e-13)
        np.testing.assert_allclose(cosines[:, k], single.cosines(single_norm), rtol=1e-13)


@pytest.mark.parametrize("lanes", [(), (5,)])
def test_empty_has_the_shapes_and_types_of_the_equations(lanes):
    jac, f = np.ones((*lanes, M, N), np.float32), np.ones((*lanes, M), np.float32)
    normal, _ = equations(jac, f, np.ones(lanes, np.float32))
    empty = Normal.empty(jnp.zeros((N, *lanes), jnp.float32))
    shapes = [(v.shape, v.dtype) for v in jax.tree.leaves(normal)]
    assert [(v.shape, v.dtype) for v in jax.tree.leaves(empty)] == shapes


@pytest.mark.parametrize("start", [0.0, 0.3, 1e6])
@pytest.mark.parametrize("fraction", [1.2, 0.92, 0.5, 1e-2, 1e-6])
def test_step_solves_the_damped_equations_within_the_bound(x64, fraction, start):
    for seed in range(4):
        jac, f, scale = random_problem(seed)
        bound = fraction * newton_length(jac, f, scale)
        step = find_step(jac, f, scale, bound, start, 4.0)
        damping, p, step_norm, model, _, full_rank = map(np.asarray, step)
        assert full_rank
        assert (damping == 0.0) == (1.1 * fraction > 1.0)
        if damping > 0:
            assert abs(step_norm - bound) <= 0.1 * bound
        np.testing.assert_allclose(p, damped_solution(jac, f, scale, damping), rtol=1e-11)
        np.testing.assert_allclose(step_norm, np.linalg.norm(scale * p), rtol=1e-13)
        ratio = np.linalg.norm(jac @ p) / np.linalg.norm(f)
        np.testing.assert_allclose(model, ratio**2, rtol=1e-12)


@pytest.mark.parametrize("fraction", [2.0, 0.5, 1e-3, 1e-6])
def test_step_equals_that_of_the_qr_factorization(x64, fraction):
    for seed in range(4):
        jac, f, scale = random_problem(seed)
        bound = fraction * newton_length(jac, f, scale)
        by_normal = find_step(jac, f, scale, bound, 0.1)
        by_qr = find_qr_step(jac, f, scale, bound, 0.1)
        *by_normal, rank = by_normal
        *by_qr, qr_rank = by_qr
        assert (rank > 0) & (qr_rank > 0)
        for mine, other in zip(by_normal, by_qr, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-10)


FRACTIONS = np.array([2.0, 1.05, 0.9, 0.3, 1e-2, 1e-6, 5.0])


def lanes_of_different_need():
    problems = [random_problem(seed) for seed in range(FRACTIONS.size)]
    bound = FRACTIONS * np.array([newton_length(*problem) for problem in problems])
    return *(np.stack(v) for v in zip(*problems, strict=True)), bound, np.linspace(0.0, 1.0, 7)


def test_lanes_of_different_need_equal_each_alone(x64):
    lanes = lanes_of_different_need()
    together = find_steps(*lanes)
    np.testing.assert_array_equal(np.asarray(together[0]) == 0, 1.1 * FRACTIONS > 1.0)
    for k in range(FRACTIONS.size):
        alone = find_steps(*(v[k : k + 1] for v in lanes))
        without_axis = find_step(*(v[k] for v in lanes))
        for several, one, bare in zip(together, alone, without_axis, strict=True):
            np.testing.assert_array_equal(several[k], one[0])
            np.testing.assert_allclose(several[k], bare, rtol=1e-12)


def test_a_lane_of_nan_or_zeros_changes_no_other(x64):
    lanes = lanes_of_different_need()
    plain = find_steps(*lanes)
    for bad in (np.nan, np.inf, 1e300, 0.0):
        jac, f, *rest = (v.copy() for v in lanes)
        jac[2], f[2] = bad, bad
        spoiled = find_steps(jac, f, *rest, np.arange(7) == 2)
        for before, after in zip(plain, spoiled, strict=True):
            np.testing.assert_array_equal(np.delete(before, 2, 0), np.delete(after, 2, 0))


@pytest.mark.parametrize("place", range(N))
def test_a_parameter_without_effect_does_not_move(x64, place):
    jac, f, scale = random_problem(1)
    jac[:, place] = 0.0
    others = np.delete(np.arange(N), place)
    for fraction in (2.0, 0.3):
        bound = fraction * newton_length(jac, f, scale)
        damping, p, *_, full_rank = map(np.asarray, find_step(jac, f, scale, bound))
        assert (damping > 0) == (fraction < 1)
        assert not full_rank
        assert p[place] == 0.0
        exact = damped_solution(jac[:, others], f, scale[others], damping)
        np.testing.assert_allclose(p[others], exact, rtol=1e-11)


@pytest.mark.parametrize("pair", [(0, 1), (0, 3), (2, 3)])
@pytest.mark.parametrize("factor", [1.0, -2.0])
def test_of_two_parallel_columns_the_later_one_does_not_move(x64, pair, factor):
    for seed in range(8):
        jac, f, scale = random_problem(seed)
        first, second = pair
        jac[:, second] = factor * jac[:, first]
        damping, p, *_, full_rank = map(np.asarray, find_step(jac, f, scale, 1e9))
        assert damping == 0.0
        assert not full_rank
        assert p[second] == 0.0
        others = np.delete(np.arange(N), second)
        exact = damped_solution(jac[:, others], f, scale[others], 0.0)
        np.testing.assert_allclose(p[others], exact, rtol=1e-10)
        bound = 0.1 * np.linalg.norm(scale * p)
        damping, p, *_, full_rank = map(np.asarray, find_step(jac, f, scale, bound))
        assert not full_rank
        assert damping > 0.0
        np.testing.assert_allclose(p, damped_solution(jac, f, scale, damping), rtol=1e-8)


def test_most_linear_combinations_of_columns_are_told_and_every_step_is_short(x64):
    """The pivot is rounding alone, of a few eps; the test for it finds most."""
    jac, f, scale = (np.stack(v) for v in zip(*map(random_problem, range(200)), strict=True))
    jac[..., 3] = 0.7 * jac[..., 0] + 1.3 * jac[..., 1]
    for length in (0.01, 1e6):
        bound = np.full(200, length)
        _, p, step_norm, model, _, full_rank = find_steps(jac, f, scale, bound, np.zeros(200))
        assert np.mean(full_rank > 0) < 0.1
        assert np.all(np.isfinite(p))
        assert np.all(np.asarray(step_norm) <= 1.1 * bound)
        assert np.all(np.asarray(p)[(np.asarray(full_rank) == 0) & (length > 1), 3] == 0.0)
        assert np.all(np.asarray(model) <= 1.0)


@pytest.mark.parametrize("residual", [0.0, 1.0])
def test_zero_jacobian_gives_a_zero_step(x64, residual):
    step = find_step(np.zeros((M, N)), np.full(M, residual), np.ones(N), 1.0)
    damping, p, step_norm, *_, full_rank = map(np.asarray, step)
    assert (damping, step_norm, full_rank) == (0.0, 0.0, False)
    np.testing.assert_array_equal(p, np.zeros(N))


@pytest.mark.parametrize("fraction", [2.0, 0.3])
@pytest.mark.parametrize("size", [1e-30, 1e-20, 1.0, 1e15, 1e30])
def test_float32_residuals_of_any_size_have_the_same_step(strict, size, fraction):
    jac, f, scale = random_problem(1)
    bound = fraction * newton_length(jac, f, scale)
    unit = 2.0 ** np.ceil(np.log2(size * np.max(np.abs(f))))
    given = (jac * size, f * size, scale * size, bound * size, 0.0, unit)
    step = find_step(*(np.asarray(v, np.float32) for v in given))
    damping, p, step_norm, model, _, full_rank = (np.asarray(v) for v in step)
    assert {v.dtype for v in (damping, p, step_norm, model)} == {FLOAT32}
    assert full_rank
    assert (damping == 0.0) == (fraction > 1)
    exact = damped_solution(jac, f, scale, float(damping))
    np.testing.assert_allclose(p, exact, rtol=1e-5)
    np.testing.assert_allclose(step_norm / size, np.linalg.norm(scale * exact), rtol=1e-5)
    ratio = np.linalg.norm(jac @ exact) / np.linalg.norm(f)
    np.testing.assert_allclose(model, ratio**2, rtol=1e-5)


def ill_conditioned(seed, condition):
    """J with evenly spread singular values from 1 down, and an f that is nearly in its range."""
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.standard_normal((M, N)))[0]
    v = np.linalg.qr(rng.standard_normal((N, N)))[0]
    jac = u * np.geomspace(1.0, 1.0 / condition, N) @ v.T
    return jac, jac @ np.ones(N) + 1e-3 * rng.standard_normal(M)


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6])
def test_error_of_the_step_grows_with_the_square_of_the_condition(x64, condition):
    for seed in range(5):
        jac, f = ill_conditioned(seed, condition)
        exact = np.linalg.lstsq(jac, f)[0]
        damping, p, *_, full_rank = map(np.asarray, find_step(jac, f, np.ones(N), 1e30))
        assert damping == 0.0
        assert full_rank
        assert np.linalg.norm(p - exact) <= 2 * EPS * condition**2 * np.linalg.norm(exact)


def test_beyond_half_of_the_digits_the_step_is_finite(x64):
    for seed in range(5):
        jac, f = ill_conditioned(seed, 1e10)
        bound = 0.1 * np.linalg.norm(np.linalg.lstsq(jac, f)[0])
        _, p, step_norm, model, *_ = map(np.asarray, find_step(jac, f, np.ones(N), bound))
        assert np.all(np.isfinite(p))
        assert step_norm <= 1.1 * bound
        assert model <= 1.0 + 1e-9


def test_a_sweep_written_out_is_the_sweep(x64):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(5, 7, 4))
    gram = np.einsum("imk,jmk->ijk", rows, rows)
    gram[1] = gram[0]
    gram[:, 1] = gram[:, 0]  # a row that another one spans
    free = np.ones((5, 4), bool)
    free[2, :2] = False
    floor = floor_of(5, np.float64)
    for flags in (np.ones((5, 4), bool), free):
        expected = sweep(jnp.asarray(gram), 3, floor, jnp.asarray(flags))
        lists = [[jnp.asarray(gram[i, j]) for j in range(5)] for i in range(5)]
        found = sweep_elements(lists, 3, floor, [*jnp.asarray(flags)])
        np.testing.assert_allclose(np.array(found), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch", [(), (5,)])
def test_many_columns_are_one_product(x64, batch):
    """More than `MOST_APART`; one that all lanes share, and some with factors."""
    rng = np.random.default_rng(0)
    n, m = MOST_APART + 3, 40
    jac, f = rng.normal(size=(n, *batch, m)), rng.normal(size=(*batch, m))
    jac[0] = jac[0].reshape(-1, m)[0]
    sizes = rng.uniform(1.0, 2.0, (n, *batch))
    factors = [jnp.asarray(size) if j % 2 else None for j, size in enumerate(sizes)]
    columns = [jnp.asarray(jac[0].reshape(-1, m)[0]), *map(jnp.asarray, jac[1:])]
    unit = jnp.full(batch, 2.0)
    normal, fnorm = normal_equations(columns, (jnp.asarray(f),), unit, 1.0, factors)
    whole = jac * np.where(np.arange(n) % 2, sizes.T, 1.0).T[..., None]
    np.testing.assert_allclose(
        normal.gram, np.einsum("i...m,j...m->ij...", whole, whole), rtol=1e-12
    )
    expected = np.einsum("i...m,...m->i...", whole, f)
    np.testing.assert_allclose(normal.gradient, expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(fnorm, 2.0 * np.linalg.norm(f, axis=-1), rtol=1e-14)
    assert normal.sizes.shape == (n, *batch)
