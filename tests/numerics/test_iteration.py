"""One lane's fit: against SciPy's MINPACK, in lanes, at its failures, and as a lowered program."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from scipy.optimize import leastsq as scipy_leastsq

from jaxlsq.numerics.householder import BLOCK_ROWS
from jaxlsq.numerics.jacobian import EVALUATIONS, differentiate
from jaxlsq.numerics.minimize import minimize
from jaxlsq.status import SUCCESS, Status
from tests.problems.lanes import options

T = np.linspace(0.0, 4.0, 20)
TRUTH = np.array([2.5, 1.3, 0.5])
Y = TRUTH[0] * np.exp(-TRUTH[1] * T) + TRUTH[2] + 0.05 * np.sin(17.0 * T)
STARTS = [(1.0, 1.0, 1.0), (10.0, 0.1, -3.0), (0.5, 5.0, 0.0)]


def model(p, t, exp):
    return p[0] * exp(-p[1] * t) + p[2]


def decay(p, y):
    return model(p, jnp.asarray(T, p.dtype), jnp.exp) - y


def fit(residual, x0, options, *data, method="jacfwd"):
    """`minimize` with one of the differentiation methods."""
    fun = lambda x: residual(x, *data)  # noqa: E731
    jacobian = differentiate(fun, method, options.epsfcn)
    evaluations = EVALUATIONS[method] * x0.shape[0]
    return minimize(fun, jacobian, x0, options, evaluations=evaluations)


FIT = jax.jit(partial(fit, decay))
FIT_LANES = jax.jit(jax.vmap(partial(fit, decay), in_axes=(0, None, 0)))
FIT_DIFFERENCES = jax.jit(partial(fit, decay, method="2-point"))


def scipy_fit(x0, dfun=True, **arguments):
    def residual(p):
        return model(p, T, np.exp) - Y

    def jacobian(p):
        e = np.exp(-p[1] * T)
        return np.stack([e, -p[0] * T * e, np.ones_like(T)], axis=1)

    dfun = jacobian if dfun else None
    x, _, info, _, ier = scipy_leastsq(residual, x0, Dfun=dfun, full_output=True, **arguments)
    return x, info, ier


def small_fit(residual, x0, **changes):
    """A fit compiled for itself."""
    x0 = np.array(x0)
    return jax.jit(partial(fit, residual))(x0, options(x0.size, **changes))


@pytest.mark.parametrize("x0", STARTS)
def test_equals_minpack_in_counts_exit_and_parameters(x64, x0):
    expected, info, ier = scipy_fit(x0)
    state, f = FIT(np.array(x0), options(), Y)
    assert (state.nfev, state.njev, state.status) == (info["nfev"], info["njev"], ier)
    np.testing.assert_allclose(state.point.x, expected, rtol=1e-8)
    np.testing.assert_allclose(f, info["fvec"], atol=1e-8)
    np.testing.assert_allclose(state.point.fnorm, np.linalg.norm(info["fvec"]), rtol=1e-12)


@pytest.mark.long
def test_finite_differences_equal_minpacks_in_counts_and_exit(x64):
    expected, info, ier = scipy_fit(STARTS[0], dfun=False)
    state, _ = FIT_DIFFERENCES(np.array(STARTS[0]), options(), Y)
    assert (state.nfev, state.status) == (info["nfev"], ier)
    assert state.nfev > 4 * state.njev
    np.testing.assert_allclose(state.point.x, expected, rtol=1e-7)


@pytest.mark.long
def test_float32_stays_float32_and_converges():
    x0, y = np.array(STARTS[0], np.float32), Y.astype(np.float32)
    loose = options(dtype=np.float32, ftol=1e-5, xtol=1e-5)
    state, f = FIT(x0, loose, y)
    floats = [v.dtype for v in jax.tree.leaves((state, f)) if v.dtype.kind == "f"]
    assert set(floats) == {np.dtype("float32")}
    assert int(state.status) in SUCCESS
    np.testing.assert_allclose(state.point.x, scipy_fit(STARTS[0])[0], rtol=1e-3)


@pytest.mark.long
def test_lanes_under_vmap_equal_single_fits(x64):
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 3.0, (20, 3))
    x0 = truth * rng.uniform(0.3, 3.0, (20, 3))
    y = np.stack([model(p, T, np.exp) for p in truth]) + 0.02 * rng.standard_normal((20, 20))
    lanes, f = FIT_LANES(x0, options(), y)
    assert len(set(np.asarray(lanes.nfev).tolist())) > 3
    for k in range(20):
        single, single_f = FIT(x0[k], options(), y[k])
        assert (lanes.status[k], lanes.nfev[k]) == (single.status, single.nfev)
        assert (lanes.njev[k], lanes.nit[k]) == (single.njev, single.nit)
        np.testing.assert_allclose(lanes.point.x[k], single.point.x, rtol=1e-12)
        np.testing.assert_allclose(f[k], single_f, atol=1e-12)


@pytest.mark.long
def test_a_failed_lane_leaves_the_others_alone(x64):
    x0, y = np.resize(STARTS, (20, 3)), np.stack([Y] * 20)
    y[1, 4] = np.nan
    lanes, _ = FIT_LANES(x0, options(), y)
    assert lanes.status[1] == Status.NONFINITE_START
    assert lanes.nfev[1] == 1
    np.testing.assert_array_equal(lanes.point.x[1], x0[1])
    for k in (0, 2):
        np.testing.assert_allclose(lanes.point.x[k], scipy_fit(STARTS[k])[0], rtol=1e-8)


def logarithm(x):
    return jnp.stack([jnp.log(x[0]) + 1.0, 0.01 * (jnp.log(x[0]) + x[1])])


FIT_LOGARITHM = jax.jit(partial(fit, logarithm))


@pytest.mark.long
def test_trial_that_is_nan_is_a_rejected_step(x64):
    x0 = np.array([20.0, 0.3])
    first_step = np.linalg.solve(jax.jacfwd(logarithm)(x0), logarithm(x0))
    assert (x0 - first_step)[0] < 0  # where the logarithm is NaN
    state, f = FIT_LOGARITHM(x0, options(2))
    assert int(state.status) in SUCCESS
    assert state.nfev > state.nit + 1
    np.testing.assert_allclose(state.point.x, [np.exp(-1.0), 1.0], rtol=1e-6)
    np.testing.assert_allclose(f, np.zeros(2), atol=1e-6)


def test_nan_at_the_start_ends_after_one_evaluation(x64):
    state, f = FIT_LOGARITHM(np.array([-2.0, 0.3]), options(2))
    assert state.status == Status.NONFINITE_START
    assert (state.nfev, state.njev, state.nit) == (1, 0, 0)
    np.testing.assert_array_equal(state.point.x, [-2.0, 0.3])
    assert np.isnan(f).all()


@pytest.mark.long
def test_infinite_residual_at_the_start_ends_after_one_evaluation(x64):
    state, _ = small_fit(lambda x: 1.0 / x, [0.0, 1.0])
    assert state.status == Status.NONFINITE_START
    assert state.nfev == 1


@pytest.mark.long
def test_nonfinite_jacobian_at_the_start_keeps_the_start(x64):
    def residual(x):
        """Finite at the start, and nowhere beside it."""
        here = jnp.where(x[0] == 0.0, 1.0, jnp.nan)
        return here * jnp.stack([jnp.sqrt(x[0]) - 1.0, x[0] + x[1]])

    state, f = small_fit(residual, [0.0, 2.0])
    assert state.status == Status.NONFINITE_JACOBIAN
    assert (state.nfev, state.njev) == (5, 1)  # two for each column
    np.testing.assert_array_equal(state.point.x, [0.0, 2.0])
    np.testing.assert_array_equal(f, [-1.0, 2.0])


@pytest.mark.long
def test_nonfinite_jacobian_later_keeps_the_last_accepted_parameters(x64):
    x0 = np.array(STARTS[0])

    def clean(p):
        return decay(p, Y)

    def jacobian(p, f):
        return jnp.where(jnp.all(p == x0), jax.jacfwd(clean)(p), jnp.nan)

    once, _ = jax.jit(partial(minimize, clean, lambda p, f: jax.jacfwd(clean)(p)))(
        x0, options(max_nfev=2)
    )
    second = once.point.x
    assert once.nit == 1

    def residual(p):
        """Finite at the first two points alone."""
        return jnp.where(jnp.all(p == x0) | jnp.all(p == second), clean(p), jnp.nan)

    state, f = jax.jit(partial(minimize, residual, jacobian))(x0, options())
    assert state.status == Status.NONFINITE_JACOBIAN
    assert (state.njev, state.nit) == (2, 1)
    assert np.all(np.isfinite(state.point.x))
    assert np.linalg.norm(f) < np.linalg.norm(decay(jnp.asarray(x0), Y))
    np.testing.assert_allclose(decay(state.point.x, Y), f, atol=1e-14)


@pytest.mark.parametrize("limit", [1, 3])
def test_max_nfev_stops_where_minpack_stops(x64, limit):
    expected, info, ier = scipy_fit(STARTS[1], maxfev=limit)
    state, _ = FIT(np.array(STARTS[1]), options(max_nfev=limit), Y)
    assert ier == Status.MAX_NFEV
    assert (state.status, state.nfev) == (ier, info["nfev"])
    np.testing.assert_allclose(state.point.x, expected, rtol=1e-10)


def test_fixed_diag_equals_minpacks(x64):
    diag = np.array([0.01, 10.0, 1.0])
    expected, info, ier = scipy_fit(STARTS[1], diag=diag, factor=0.5)
    state, _ = FIT(np.array(STARTS[1]), options(diag=diag, factor=0.5), Y)
    free, _ = FIT(np.array(STARTS[1]), options(factor=0.5), Y)
    assert (state.nfev, state.njev, state.status) == (info["nfev"], info["njev"], ier)
    assert state.nfev != free.nfev
    np.testing.assert_array_equal(state.point.scale, diag)
    np.testing.assert_allclose(state.point.x, expected, rtol=1e-8)


def test_scale_is_the_largest_column_norm_so_far(x64):
    one_step, _ = FIT(np.array(STARTS[1]), options(max_nfev=1), Y)
    state, _ = FIT(np.array(STARTS[1]), options(), Y)
    assert np.all(state.point.scale >= one_step.point.scale)
    assert np.all(state.point.scale >= state.point.factor.column_norms)
    assert np.any(state.point.scale > state.point.factor.column_norms)


@pytest.mark.parametrize("start", [TRUTH, STARTS[0]])
def test_zero_residual(x64, start):
    y = np.asarray(model(jnp.asarray(TRUTH), jnp.asarray(T), jnp.exp))
    state, f = FIT(np.array(start), options(), y)
    assert int(state.status) in SUCCESS
    np.testing.assert_allclose(state.point.x, TRUTH, rtol=1e-10)
    np.testing.assert_allclose(f, np.zeros(20), atol=1e-10)


@pytest.mark.long
def test_start_at_an_exact_zero_is_orthogonal_after_one_evaluation(x64):
    state, _ = small_fit(lambda x: 2.0 * (x - jnp.asarray([1.0, 2.0])), [1.0, 2.0])
    assert (state.status, state.nfev, state.njev) == (Status.GTOL, 1, 1)
    np.testing.assert_array_equal(state.point.x, [1.0, 2.0])


def test_gtol_ends_a_fit(x64):
    state, _ = FIT(np.array(STARTS[0]), options(ftol=0.0, xtol=0.0, gtol=1e-6), Y)
    assert state.status == Status.GTOL
    assert state.point.gnorm <= 1e-6


def test_options_are_data_and_do_not_recompile(x64, compiles):
    x0 = np.array(STARTS[0])
    FIT(x0, options(), Y)
    before = compiles()
    changed = replace(options(), ftol=np.array(1e-3), max_nfev=np.int32(7), diag=np.ones(3))
    FIT(x0, changed, 2.0 * Y)
    assert compiles() == before


@pytest.mark.long_but("jacfwd-50", "2-point-8193")
@pytest.mark.parametrize("m", [50, 2 * BLOCK_ROWS + 1])
@pytest.mark.parametrize("method", ["jacfwd", "2-point"])
def test_lowered_for_a_gpu_the_program_calls_no_library(x64, method, m):
    t = np.linspace(0.0, 4.0, m)

    def residual(p, y):
        return model(p, t, jnp.exp) - y

    program = jax.jit(partial(fit, residual, method=method))
    exported = export.export(program, platforms=["cuda"])(np.ones(3), options(), np.ones(m))
    assert "stablehlo.while" in exported.mlir_module()
    assert "custom_call" not in exported.mlir_module()


def test_a_call_of_lapack_would_be_seen():
    exported = export.export(jax.jit(jnp.linalg.qr), platforms=["cuda"])(np.eye(3, dtype="f"))
    assert "custom_call" in exported.mlir_module()
