"""`least_squares` in JAX programs: alone, in jit, under vmap, in scan, and its front door."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import OptimizeResult

import jaxlsq
from jaxlsq import least_squares
from jaxlsq.schedule.pool import run_pool

T = np.linspace(0.0, 4.0, 30)
LANES = 24


def data_sets(count=LANES, seed=0):
    rng = np.random.default_rng(seed)
    amplitude, rate = rng.uniform(0.5, 4.0, count), rng.uniform(0.2, 4.0, count)
    return amplitude[:, None] * np.exp(-rate[:, None] * T) + 0.02 * rng.normal(size=(count, T.size))


def residual(p, y):
    return p[0] * jnp.exp(-p[1] * T.astype(y.dtype)) - y


def solve(y, x0=None, **options):
    """The data are closed over, as users write it."""
    start = jnp.ones(2, y.dtype) if x0 is None else x0
    return least_squares(lambda p: residual(p, y), start, **options)


@pytest.fixture
def y(x64):
    return jnp.asarray(data_sets())


def singles(y, **options):
    results = [solve(row, **options) for row in y]
    assert len({int(r.nfev) for r in results}) > 3
    return results


def stacked(results, field):
    return np.stack([getattr(r, field) for r in results])


def test_equals_leastsq(y):
    for row, result in zip(y[:6], singles(y)[:6], strict=True):
        expected, _, info, _, ier = jaxlsq.leastsq(
            lambda p, row=row: residual(p, row), [1.0, 1.0], full_output=True
        )
        np.testing.assert_allclose(result.x, expected, rtol=1e-7)
        assert (result.nfev, result.status) == (info["nfev"], ier)
        np.testing.assert_allclose(result.fun, info["fvec"], atol=1e-7)


def test_fields_are_scipys_and_consistent(y):
    result = solve(y[0])
    fields = {"x", "cost", "fun", "jac", "grad", "optimality", "active_mask", "nfev", "njev"}
    assert fields <= set(vars(result))
    assert set(vars(result)) <= fields | {"status", "success", "history", "dof"} | set(
        OptimizeResult()
    )
    np.testing.assert_allclose(result.cost, 0.5 * np.sum(result.fun**2))
    np.testing.assert_allclose(result.grad, result.jac.T @ result.fun, atol=1e-15)
    assert result.optimality == np.max(np.abs(result.grad))
    assert result.success
    assert "ftol" in result.message


@pytest.mark.long_but("jit")
@pytest.mark.parametrize("outer", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_vmap_equals_a_loop(y, outer):
    expected = singles(y)
    got = outer(jax.vmap(solve))(y)
    np.testing.assert_allclose(got.x, stacked(expected, "x"), rtol=1e-12)
    for field in ("nfev", "njev", "status"):
        np.testing.assert_array_equal(getattr(got, field), stacked(expected, field))


@pytest.mark.long
def test_nested_vmap(y):
    expected = jax.vmap(solve)(y).x
    got = jax.jit(jax.vmap(jax.vmap(solve)))(y.reshape(4, 6, -1))
    np.testing.assert_allclose(got.x.reshape(LANES, 2), expected, rtol=1e-12)


@pytest.mark.long_but("in_axes2", "in_axes3")
@pytest.mark.parametrize("in_axes", [(1, None), (None, 0), (1, 0), (1, 1)])
def test_in_axes(y, in_axes):
    starts = jnp.asarray(np.random.default_rng(1).uniform(0.8, 1.2, (LANES, 2)))
    first = y.T if in_axes[0] is not None else y[0]
    second = {None: starts[0], 0: starts, 1: starts.T}[in_axes[1]]
    got = jax.vmap(solve, in_axes=in_axes)(first, second)
    for i in range(0, LANES, 5):
        row = y[i] if in_axes[0] is not None else y[0]
        start = starts[i] if in_axes[1] is not None else starts[0]
        np.testing.assert_allclose(got.x[i], solve(row, start).x, rtol=1e-10)


@pytest.mark.long
def test_vmap_over_a_further_axis_of_what_is_shared(y):
    scales = jnp.array([1.0, 2.0, 3.0])

    def scaled(scale, row):
        return least_squares(lambda p: scale * residual(p, row), jnp.ones(2)).x

    got = jax.vmap(jax.vmap(scaled, (None, 0)), (0, None))(scales, y[:5])
    assert got.shape == (3, 5, 2)
    for i in range(3):
        np.testing.assert_allclose(got[i], jax.vmap(solve)(y[:5]).x, rtol=1e-6)


@pytest.mark.long_but("vmap")
@pytest.mark.parametrize("transform", [jax.vmap, lambda f: jax.vmap(jax.grad(lambda y: f(y)[1]))])
def test_vmap_reaches_the_pool(y, transform, monkeypatch):
    """One pool with all problems, not as many pools with one."""
    shapes = []

    def spy(lane, queue, *rest):
        shapes.append(queue.x0.shape)
        return run_pool(lane, queue, *rest)

    monkeypatch.setattr("jaxlsq.transforms.vmap.run_pool", spy)
    jaxlsq.clear_cache()
    jax.make_jaxpr(transform(lambda row: solve(row).x))(y)
    assert (LANES, 2) in shapes


def test_warm_start_in_scan(y):
    def step(x, row):
        result = solve(row, x)
        return result.x, result.nfev

    near = y[0] + 1e-4 * jnp.arange(5)[:, None]
    _, nfev = jax.jit(lambda near: jax.lax.scan(step, solve(near[0]).x, near))(near)
    assert np.all(nfev <= 4)


def test_pytrees_args_and_kwargs(y):
    def fun(p, t, scale):
        return (p["a"] * jnp.exp(-p["rates"][0] * t["t"]) - y[0]) / scale

    x0 = {"a": 1.0, "rates": jnp.ones(1)}
    result = least_squares(fun, x0, args=({"t": jnp.asarray(T)},), kwargs={"scale": 0.1})
    expected = solve(y[0]).x
    np.testing.assert_allclose([result.x["a"], result.x["rates"][0]], expected, rtol=1e-6)
    assert result.x["rates"].shape == (1,)
    assert result.jac.shape == (30, 2)


def test_mixed_types_come_back_as_they_were(y):
    x0 = {"a": jnp.float32(1.0), "k": jnp.float64(1.0)}
    result = least_squares(lambda p: residual((p["a"], p["k"]), y[0]), x0)
    assert (result.x["a"].dtype, result.x["k"].dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(result.x["k"], solve(y[0]).x[1], rtol=1e-5)


def test_float32_without_x64():
    y = jnp.asarray(data_sets(), jnp.float32)
    result = jax.jit(jax.vmap(solve))(y)
    assert result.x.dtype == np.float32
    assert result.success.all()
    with jax.enable_x64(True):
        expected = jax.vmap(solve)(jnp.asarray(data_sets())).x
    np.testing.assert_allclose(result.x, expected, rtol=2e-3)


def test_complex_residuals(x64):
    t = jnp.asarray(T)
    data = (1.5 + 0j) * jnp.exp(1j * 1.1 * t)
    result = least_squares(lambda p: p[0] * jnp.exp(1j * p[1] * t) - data, jnp.array([1.0, 1.0]))
    np.testing.assert_allclose(result.x, [1.5, 1.1], rtol=1e-8)
    assert result.fun.shape == (60,)


@pytest.mark.long_but("3-point", "callable")
@pytest.mark.parametrize("jac", ["jacrev", "2-point", "3-point", "callable"])
def test_jacobians(y, jac):
    def exact(p):
        e = jnp.exp(-p[1] * T)
        return jnp.stack([e, -p[0] * T * e], axis=1)

    result = solve(y[0], jac=exact if jac == "callable" else jac)
    np.testing.assert_allclose(result.x, solve(y[0]).x, rtol=1e-6)
    assert result.nfev == solve(y[0]).nfev + {"2-point": 2, "3-point": 4}.get(jac, 0) * result.njev


def test_one_bad_lane_leaves_the_others_alone(y):
    bad = y.at[3, 5].set(jnp.nan)
    clean, got = jax.vmap(solve)(y), jax.vmap(solve)(bad)
    assert got.status[3] == jaxlsq.Status.NONFINITE_START
    others = np.arange(LANES) != 3
    np.testing.assert_array_equal(np.asarray(got.x)[others], np.asarray(clean.x)[others])


def test_eager_calls_compile_once(y, compiles):
    first, second, twice = y[0], y[1], 2 * y
    solve(first)
    jax.vmap(solve)(y)
    before = compiles()
    solve(second)
    jax.vmap(solve)(twice)
    assert compiles() == before


def test_limits(y):
    assert solve(y[0], max_nfev=2).status == jaxlsq.Status.MAX_NFEV
    assert solve(y[0], ftol=1e-2, xtol=1e-2).nfev < solve(y[0]).nfev
    np.testing.assert_allclose(solve(y[0], x_scale=[1.0, 10.0]).x, solve(y[0]).x, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (partial(least_squares, lambda p: p, []), TypeError, "x0 is empty"),
        (partial(least_squares, lambda p: None, jnp.ones(2)), TypeError, "returned None"),
        (partial(least_squares, lambda p: p, jnp.ones(2) * 1j), TypeError, "complex"),
        (partial(least_squares, lambda p: p[:1], jnp.ones(2)), ValueError, "fewer than the 2"),
        (partial(least_squares, lambda p: p[None], jnp.ones(2)), ValueError, "1-D"),
        (partial(least_squares, lambda p: p, jnp.ones(2), "magic"), ValueError, "jac must be"),
        (partial(least_squares, lambda p: p, jnp.ones(2), ftol=-1), ValueError, "ftol"),
        (partial(least_squares, lambda p: p, jnp.ones(2), max_nfev=0), ValueError, "max_nfev"),
        (
            partial(least_squares, lambda p: p, jnp.ones(2), jac=lambda p: jnp.ones((3, 2))),
            ValueError,
            "jac must return shape",
        ),
        (
            partial(least_squares, lambda p: p, jnp.ones(2), bounds=(0, 0.5)),
            ValueError,
            "`x0` is infeasible: parameter 0 starts at 1.0",
        ),
        (
            partial(least_squares, lambda p: p, jnp.ones(2), bounds=(0, [3, -1])),
            ValueError,
            "Each lower bound must be less than its upper bound",
        ),
        (
            partial(least_squares, lambda p: p, jnp.ones(2), bounds=(0, np.nan)),
            ValueError,
            "Each lower bound must be less",
        ),
        (
            partial(least_squares, lambda p: p, jnp.ones(2), bounds=(0, 1, 2)),
            ValueError,
            "`bounds` must contain 2 elements",
        ),
        (
            partial(least_squares, lambda p: p, jnp.ones(2), bounds=(np.zeros(3), 9)),
            ValueError,
            "Inconsistent shapes between bounds and `x0`",
        ),
        (
            partial(least_squares, lambda p: p, jnp.ones(2), loss="hubert"),
            ValueError,
            "`loss` must be one of",
        ),
        (
            partial(least_squares, lambda p: p, jnp.ones(2), loss="poisson"),
            ValueError,
            "use `fit`",
        ),
        (
            partial(least_squares, lambda p: p, jnp.ones(2), loss="huber", f_scale=0.0),
            ValueError,
            "`f_scale` must be positive",
        ),
        (
            partial(least_squares, lambda p: p, jnp.ones(2), loss="huber", f_scale=np.ones(3)),
            ValueError,
            "`f_scale` must be a number or one for each of the 2 residuals",
        ),
    ],
)
def test_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call()
