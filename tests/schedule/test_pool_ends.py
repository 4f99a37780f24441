"""How fits in the lane pool end: every status, float32, against QR, and as a lowered program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxlsq.numerics.jacobian import EVALUATIONS, differentiate
from jaxlsq.numerics.minimize import minimize
from jaxlsq.schedule.pool import run_pool
from jaxlsq.schedule.queue import Queue
from jaxlsq.status import SUCCESS, Status
from jaxlsq.tracing.compiler import COMPILER_OPTIONS
from tests.problems.lanes import SIZE, compiled, decay, fit, lane_of, options, problems


def small_fit(residual, x0, data=None, **changes):
    """A few fits compiled for themselves; x0 (B, n)."""
    x0 = np.array(x0, float)
    data = np.zeros(len(x0)) if data is None else data
    run = compiled(residual, width=2)
    return jax.tree.map(np.asarray, run(x0, data, options(x0.shape[1], **changes)))


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        (Status.FTOL, {"ftol": 1e-3, "xtol": 0.0}),
        (Status.XTOL, {"ftol": 0.0, "xtol": 1e-3}),
        (Status.GTOL, {"ftol": 0.0, "xtol": 0.0, "gtol": 1e-6}),
    ],
)
def test_one_test_of_convergence(x64, expected, changes):
    x0, y = problems()
    result, tight = fit(x0, y, **changes), fit(x0, y)
    np.testing.assert_array_equal(result.status, expected)
    np.testing.assert_allclose(result.x, tight.x, rtol=1e-3)
    np.testing.assert_allclose(result.cost, tight.cost, rtol=1e-5)


def test_two_tests_of_convergence_at_once(x64):
    x0, y = problems()
    result = fit(x0, y, ftol=1e-3, xtol=1e-3)
    assert set(result.status.tolist()) <= {Status.FTOL, Status.XTOL, Status.FTOL_AND_XTOL}
    assert np.mean(result.status == Status.FTOL_AND_XTOL) > 0.5


def test_limit_on_evaluations(x64):
    x0, y = problems()
    result = fit(x0, y, max_nfev=4)
    np.testing.assert_array_equal(result.status, Status.MAX_NFEV)
    np.testing.assert_array_equal(result.nfev, 4)
    assert np.all(result.cost > fit(x0, y).cost)


def test_without_tolerances_the_arithmetic_ends_a_fit(x64):
    x0, y = problems()
    result = fit(x0, y, ftol=0.0, xtol=0.0)
    codes = {Status.FTOL_TOO_SMALL, Status.XTOL_TOO_SMALL, Status.GTOL_TOO_SMALL}
    assert set(result.status.tolist()) <= codes
    np.testing.assert_allclose(result.x, fit(x0, y).x, rtol=1e-5)


def test_start_at_an_exact_zero(x64):
    result = small_fit(lambda a, b, y: jnp.stack([2.0 * (a - y), b - 3.0]), [[0.0, 3.0]] * 3)
    np.testing.assert_array_equal(result.status, Status.GTOL)
    np.testing.assert_array_equal(result.x, [[0.0, 3.0]] * 3)
    counts = np.stack([result.nfev, result.njev, result.nit])
    np.testing.assert_array_equal(counts, [[1] * 3, [1] * 3, [0] * 3])
    np.testing.assert_array_equal([result.cost, result.optimality], np.zeros((2, 3)))


def test_nonfinite_start(x64):
    start = [[-2.0], [0.0], [5.0]]
    result = small_fit(lambda a, y: jnp.stack([jnp.log(a) - 1.0, 0.0 * a - y]), start)
    np.testing.assert_array_equal(result.status[:2], Status.NONFINITE_START)
    np.testing.assert_array_equal(result.x[:2], start[:2])
    np.testing.assert_array_equal((result.nfev[:2], result.njev[:2]), [[1, 1], [0, 0]])
    assert np.all(np.isnan(result.cost[:2]) & np.isnan(result.optimality[:2]))
    assert result.status[2] in SUCCESS
    np.testing.assert_allclose(result.x[2], np.e, rtol=1e-7)


def test_nonfinite_jacobian_at_the_start(x64):
    start = [[0.0, 2.0], [1.5, 2.0]]
    result = small_fit(lambda a, b, y: jnp.stack([jnp.sqrt(a) - 1.0, a + b - y]), start)
    assert result.status[0] == Status.NONFINITE_JACOBIAN
    np.testing.assert_array_equal(result.x[0], start[0])
    assert (result.nfev[0], result.njev[0], result.nit[0]) == (1, 1, 0)
    np.testing.assert_allclose(result.cost[0], 2.5, rtol=1e-14)
    assert result.status[1] in SUCCESS
    np.testing.assert_allclose(result.x[1], [1.0, -1.0], rtol=1e-7)


def test_nonfinite_jacobian_later(x64):
    def residual(a, y):
        return jnp.stack([jnp.where(a <= 0.5, jnp.sqrt(a * 0.0) + 0.25, a), 0.0 * y])

    result = small_fit(residual, [[1.0], [2.0]])
    np.testing.assert_array_equal(result.status, Status.NONFINITE_JACOBIAN)
    np.testing.assert_array_equal((result.njev, result.nit), [[2, 2], [1, 1]])
    np.testing.assert_allclose(result.x, np.zeros((2, 1)), atol=1e-12)
    np.testing.assert_array_equal(result.cost, [0.5 * 0.25**2] * 2)


def test_steps_that_end_where_the_function_is_nan(x64):
    result = small_fit(
        lambda a, b, y: jnp.stack([jnp.where(a < 1.0, jnp.nan, a), b - y]), [[1.0, 2.0], [2.0, 1.0]]
    )
    np.testing.assert_array_equal(result.status, Status.NONFINITE_STEPS)
    np.testing.assert_array_equal(result.x[0], [1.0, 2.0])
    assert 1.0 <= result.x[1, 0] < 1.0 + 1e-6
    assert np.all(np.isfinite(result.cost))


def product(a, b, y):
    return a * b * jnp.exp(-jnp.linspace(0.0, 4.0, 20)) - y


def test_parameters_that_occur_as_a_product_alone(x64):
    _, y = problems(size=5)
    result = small_fit(product, [[1.0, 2.0], [3.0, 0.5], [2.0, 2.0], [0.1, 4.0], [10.0, 0.3]], y)
    np.testing.assert_array_equal(result.status, Status.SINGULAR_JACOBIAN)
    shape = np.exp(-np.linspace(0.0, 4.0, 20))
    best = y @ shape / (shape @ shape)
    np.testing.assert_allclose(result.x[:, 0] * result.x[:, 1], best, rtol=1e-10)


def test_a_parameter_without_effect(x64):
    result = small_fit(
        lambda a, b, y: jnp.stack([jnp.exp(a) - y, a, 0.0 * b]), [[1.0, 7.0], [2.0, -7.0]]
    )
    np.testing.assert_array_equal(result.status, Status.SINGULAR_JACOBIAN)
    np.testing.assert_array_equal(result.x[:, 1], [7.0, -7.0])
    np.testing.assert_allclose(result.x[0, 0], result.x[1, 0], rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("method", ["jacfwd", "2-point"])
def test_agrees_with_one_fit_by_qr(x64, method):
    evaluations = 3 * EVALUATIONS[method]

    def one(x0, y):
        fun = lambda x: decay(*x, y)  # noqa: E731
        jacobian = differentiate(fun, method, 0.0)
        return minimize(fun, jacobian, x0, options(), evaluations=evaluations)[0]

    x0, y = problems()
    by_qr = jax.jit(jax.vmap(one), compiler_options=COMPILER_OPTIONS)(x0, y)
    pooled = compiled(decay, method, evaluations=evaluations)(x0, y, options())
    assert np.max(pooled.nfev) >= 2 * np.min(pooled.nfev)
    np.testing.assert_allclose(pooled.x, by_qr.point.x, rtol=1e-7)
    np.testing.assert_allclose(pooled.cost, 0.5 * by_qr.point.fnorm**2, rtol=1e-10)
    for field in ("status", "nfev", "njev", "nit"):
        same = np.asarray(getattr(pooled, field)) == np.asarray(getattr(by_qr, field))
        assert np.sum(same) >= SIZE - 1, field


def scaled(a, b, c, data):
    return data["size"] * decay(a, b, c, data["y"])


RUN_SCALED = compiled(scaled)


def fit_scaled(size):
    x0, y = problems()
    data = {"y": y, "size": np.full((SIZE, 1), size)}
    x0, data = jax.tree.map(lambda v: v.astype(np.float32), (x0, data))
    loose = options(dtype=np.float32, ftol=1e-5, xtol=1e-5)
    return jax.tree.map(np.asarray, RUN_SCALED(x0, data, loose))


@pytest.mark.long
@pytest.mark.parametrize("power", [-66, 50])
def test_float32_residuals_of_any_size_give_the_same_fit(strict, power):
    """Of size 1e-20 and 1e15: powers of two, so that nothing is rounded differently."""
    result, plain = fit_scaled(2.0**power), fit_scaled(1.0)
    assert {result.x.dtype, result.cost.dtype, result.optimality.dtype} == {np.dtype("float32")}
    for field in ("x", "status", "nfev", "njev", "nit"):
        np.testing.assert_array_equal(getattr(result, field), getattr(plain, field))
    if power > 0:
        np.testing.assert_array_equal(result.cost, plain.cost * 2.0 ** (2 * power))


@pytest.mark.long
@pytest.mark.parametrize("size", [1e-30, 1e-17, 1e-10, 1.0, 1e10, 1e18, 1e30])
def test_float32_data_of_any_size_are_fitted_as_well(strict, size):
    x0, y = problems()
    unit = np.array([size, 1.0, size])
    result = fit(x0 * unit, (size * y).astype(np.float32), ftol=1e-5, xtol=1e-5)
    assert {result.x.dtype, result.cost.dtype, result.optimality.dtype} == {np.dtype("float32")}
    assert set(result.status.tolist()) <= SUCCESS
    with jax.enable_x64(True):
        exact = fit(x0, y)
    np.testing.assert_allclose(result.x / unit, exact.x, rtol=3e-4)
    if 1e-17 <= size <= 1e18:  # beyond, the square is not in the type's range
        np.testing.assert_allclose(result.cost / size**2, exact.cost, rtol=2e-5)


@pytest.mark.long
def test_strict_promotion_changes_nothing(x64, strict):
    """Not compiled as a whole either."""
    x0, y = (jnp.asarray(v[:3]) for v in problems())
    result = run_pool(lane_of(decay), Queue.of(x0, y), options(), 2)[0]
    np.testing.assert_allclose(result.x, fit(*problems()).x[:3], rtol=1e-12)


@pytest.mark.long_but("float64-jacfwd", "float32-2-point")
@pytest.mark.parametrize("method", ["jacfwd", "2-point"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_lowered_for_a_gpu_the_pool_calls_no_library(x64, method, dtype):
    x0, y = (v.astype(dtype) for v in problems())
    program = export.export(compiled(decay, method), platforms=["cuda"])
    exported = program(x0, y, options(dtype=dtype))
    assert "stablehlo.while" in exported.mlir_module()
    assert "custom_call" not in exported.mlir_module()
