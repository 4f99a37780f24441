"""Compiled lanes against the XLA pool, and what holds of them to the bit."""

import _thread
import os
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxlsq import Status, fit, least_squares_batch
from jaxlsq.lowering.engine import LANES, using

RNG = np.random.default_rng(0)
B, M = 300, 40
X = np.linspace(0.0, 4.0, M)
TRUE = np.stack([RNG.uniform(1, 3, B), RNG.uniform(0.5, 2, B), RNG.uniform(0, 0.5, B)], 1)
Y = TRUE[:, :1] * np.exp(-TRUE[:, 1:2] * X) + TRUE[:, 2:] + 0.05 * RNG.normal(size=(B, M))
P0 = (1.0, 1.0, 0.0)
SIGMA = RNG.uniform(0.05, 0.1, (B, M))
MASK = RNG.uniform(size=(B, M)) > 0.1
OUTLIERS = np.where(RNG.uniform(size=Y.shape) < 0.05, Y + 2.0, Y)
COUNTS = RNG.poisson(20.0 * (Y - Y.min()) + 1.0).astype(float)


def decay(x, a, k, c):
    return a * jnp.exp(-k * x) + c


def decay_jac(x, a, k, c):
    e = jnp.exp(-k * x)
    return jnp.stack([e, -a * x * e, jnp.ones_like(x)], axis=1)


CASES = {
    "plain": {},
    "bounds": {"bounds": ([0.0, 0.0, -0.1], [2.0, 1.2, 0.3])},
    "bounds-and-differences": {"bounds": ([0.0, 0.0, -0.1], [2.0, 1.2, 0.3]), "jac": "2-point"},
    "fixed": {"fixed": [False, False, True]},
    "sigma": {"sigma": SIGMA},
    "sigma-of-all": {"sigma": SIGMA[0]},
    "mask": {"mask": MASK, "sigma": SIGMA},
    "soft_l1": {"ydata": OUTLIERS, "loss": "soft_l1", "f_scale": 0.1},
    "cauchy": {"ydata": OUTLIERS, "loss": "cauchy", "f_scale": SIGMA},
    "poisson": {"ydata": COUNTS, "loss": "poisson", "p0": [30.0, 1.0, 5.0]},
    "omit": {"ydata": np.where(MASK, Y, np.nan), "nan_policy": "omit"},
    "x-of-each": {"xdata": X + RNG.uniform(0, 0.02, (B, M))},
    "starts": {"starts": 3, "bounds": ([0.0, 0.0, -1.0], [5.0, 5.0, 1.0])},
    "jac": {"jac": decay_jac},
    "2-point": {"jac": "2-point"},
    "3-point": {"jac": "3-point"},
    "scales": {"x_scale": [2.0, 1.0, 0.5]},
    "p0-of-each": {"p0": TRUE * 1.3 + 0.1},
}


@pytest.mark.long_but("plain")
@pytest.mark.parametrize("name", CASES)
def test_the_same_as_the_pool(name):
    how = {"xdata": X, "ydata": Y, "p0": P0} | CASES[name]
    lanes = fit(decay, **how)
    with using("xla"):
        pool = fit(decay, **how)
    assert lanes.engine == LANES
    assert pool.engine == "XLA: it was asked for"
    assert len(np.unique(lanes.nfev)) > 1
    if name != "starts":  # of which one or another may be the best to the last digit
        assert np.mean(lanes.nfev == pool.nfev) > 0.98
    if "bounds" not in how:  # where nothing is left to gain, rounding says which test holds
        assert np.mean(lanes.status == pool.status) > 0.98
    np.testing.assert_array_equal(lanes.success, pool.success)
    # Forward differences round by the root of a rounding, and fits stop so far apart.
    atol = 1e-6 if name == "2-point" else 1e-7
    np.testing.assert_allclose(lanes.x, pool.x, rtol=1e-5, atol=atol)
    np.testing.assert_allclose(lanes.cost, pool.cost, rtol=1e-9)
    np.testing.assert_allclose(lanes.optimality, pool.optimality, rtol=0.02, atol=1e-4)
    np.testing.assert_array_equal(lanes.dof, pool.dof)
    np.testing.assert_array_equal(lanes.active_mask, pool.active_mask)


def test_the_same_as_minpack():
    result = fit(decay, X, Y[:20], P0)
    for i in range(20):

        def residual(p, i=i):
            return p[0] * np.exp(-p[1] * X) + p[2] - Y[i]

        def jacobian(p):
            e = np.exp(-p[1] * X)
            return np.stack([e, -p[0] * X * e, np.ones_like(X)], axis=1)

        x, _, info, _, code = scipy.optimize.leastsq(residual, P0, Dfun=jacobian, full_output=True)
        np.testing.assert_allclose(result.x[i], x, rtol=1e-6)
        assert (result.nfev[i], result.status[i]) == (info["nfev"], code)


# Where the model's derivatives leave the range themselves, nothing can be done.
RANGE = [
    (scale, size)
    for scale in (1e-30, 1e-12, 1.0, 1e12, 1e30)
    for size in (1e-15, 1.0, 1e15)
    if abs(np.log10(scale / size)) < 40
]


@pytest.mark.parametrize(("scale", "size"), RANGE)
def test_the_whole_range_of_float32(scale, size):
    def model(x, a, k, c):
        return a * jnp.exp(-(k / size) * x) + c

    y = (scale * Y).astype(np.float32)
    result = fit(model, X.astype(np.float32), y, [scale, size, 0.0], polish=None)
    assert result.engine == LANES
    assert result.success.all()
    expected = fit(decay, X, Y, P0).x * [scale, size, scale]
    np.testing.assert_allclose(result.x / [scale, size, scale], expected / [scale, size, scale],
                               rtol=0.01, atol=2e-4)  # fmt: skip


# --- to the bit ---------------------------------------------------------------------


FIELDS = ("x", "cost", "status", "nfev", "njev", "nit", "optimality")


def assert_bits(result, expected):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name), name)


@pytest.fixture(scope="module", params=[np.float64, np.float32], ids=["f64", "f32"])
def y(request):
    return Y.astype(request.param)


@pytest.fixture(scope="module")
def whole(y):
    return fit(decay, X.astype(y.dtype), y, P0)


def test_a_lane_is_the_fit_alone(y, whole):
    for i in (0, 7, 299):
        assert_bits(fit(decay, X.astype(y.dtype), y[i], P0), whole[i])


@pytest.mark.parametrize("size", [2, 16, 31, 200])
def test_any_batch_size(y, whole, size):
    assert_bits(fit(decay, X.astype(y.dtype), y[:size], P0), whole[:size])


def test_any_order_and_any_number_of_threads(y, whole):
    order = np.random.default_rng(1).permutation(B)
    assert_bits(fit(decay, X.astype(y.dtype), y[order], P0, workers=2), whole[order])


def test_any_neighbours(y, whole):
    poisoned = y.copy()
    poisoned[::3] = np.resize([np.nan, np.inf, 0.0, 1e30, -1e-30], (100, 1))
    poisoned[1::3] *= 1e20 if y.dtype == np.float32 else 1e150
    result = fit(decay, X.astype(y.dtype), poisoned, P0, max_nfev=50, polish=None)
    unpolished = fit(decay, X.astype(y.dtype), y, P0, max_nfev=50, polish=None)
    assert_bits(result[2::3], unpolished[2::3])


# --- what is compiled, and what is not ---------------------------------------------------


def test_what_compiles_nothing(compiles):
    def model(x, a, k, c):
        return a * jnp.exp(-k * x) + c * jnp.cos(x)

    fit(model, X, Y, P0)
    before = compiles()
    fit(model, X[:-3], Y[:, :-3], P0)
    fit(model, X, Y[:17], [2.0, 1.0, 0.1], ftol=1e-3, max_nfev=9)
    fit(model, X + 1.0, list(Y[:5]), P0)
    assert compiles() == before
    # An x of each data set, and masks, are another program: one for all lengths.
    fit(model, [X[:30], X[:20], X], [Y[0, :30], Y[1, :20], Y[2]], P0)
    assert compiles() == before + 1
    fit(model, [X[:9], X[:21]], [Y[0, :9], Y[1, :21]], P0)
    assert compiles() == before + 1


@pytest.mark.long_but("convolution")
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda x, a, k: jnp.convolve(a * jnp.exp(-k * x), jnp.ones(3) / 3, "same"), "conv"),
        (lambda x, a, k: jnp.cumsum(a * jnp.exp(-k * x)), "cumsum"),
        (lambda x, a, k: a * jnp.sort(jnp.exp(-k * x)), "along the points"),
    ],
    ids=["convolution", "cumsum", "sort"],
)
def test_what_is_not_of_one_point_goes_to_the_pool(model, reason):
    x, y = np.tile(X, 3), np.tile(Y[:8] + 5.0, 3)
    result = fit(model, x, y, [1.0, 0.5])
    assert result.engine.startswith("XLA: ")
    assert reason in result.engine


def walk(x, a, k):
    """What is at a point depends on all before it."""
    return jnp.cumsum(a * jnp.exp(-k * x)) / (1.0 + x)


def two_pieces(x, a, k):
    return jnp.concatenate([a * jnp.exp(-k * x[:20]), a * k * x[20:]])


def stepped(x, a, k):
    """Euler's method for y' = -k y^2, in a loop whose results are the residuals."""
    _, y = jax.lax.scan(lambda y, h: (y - h * k * y * y,) * 2, a, jnp.diff(x, prepend=0.0))
    return y


MIXED = [{}, {"loss": "cauchy"}, {"bounds": ([0.5, 0.3], [4.0, 0.9])}]


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("options", MIXED)
@pytest.mark.parametrize("model", [walk, two_pieces, stepped])
def test_a_few_points_that_are_mixed(model, options, dtype):
    rng = np.random.default_rng(5)
    truth = rng.uniform((1.0, 0.4), (3.0, 1.2), (40, 2))
    with jax.enable_x64(True):
        clean = np.stack([model(jnp.asarray(X), *p) for p in truth])
    y = (clean * (1.0 + 0.02 * rng.normal(size=clean.shape))).astype(dtype)
    start = np.clip(truth * rng.uniform(0.8, 1.2, truth.shape), 0.55, 3.9)
    start[:, 1] = np.clip(start[:, 1], 0.35, 0.85)
    lanes = fit(model, X.astype(dtype), y, start, **options)
    with using("xla"):
        pool = fit(model, X.astype(dtype), y, start, **options)
    assert (lanes.engine, pool.engine) == (LANES, "XLA: it was asked for")
    assert len(np.unique(lanes.nfev)) > 1
    assert lanes.success.all()
    rtol = 1e-6 if dtype == np.float64 else 2e-3
    np.testing.assert_allclose(lanes.x, pool.x, rtol=rtol)
    np.testing.assert_allclose(lanes.cost, pool.cost, rtol=rtol)


@pytest.mark.long
def test_derivatives_that_are_not_finite_of_points_as_one():
    """The root's at zero, which its points have in common, is infinite: differences instead."""

    def model(x, a, k):
        return jnp.cumsum(jnp.sqrt(a) * jnp.exp(-k * x))

    y = np.stack([model(X, a, 0.8) for a in (1.0, 2.0)])
    start = [[0.0, 0.7], [1.0, 0.7]]
    lanes = fit(model, X, y, start, bounds=([0.0, 0.1], [9.0, 5.0]))
    with using("xla"):
        pool = fit(model, X, y, start, bounds=([0.0, 0.1], [9.0, 5.0]))
    assert lanes.engine == LANES
    np.testing.assert_allclose(lanes.x, pool.x, rtol=1e-4)
    np.testing.assert_array_equal(lanes.status, pool.status)


@pytest.mark.long_but("bounds")
@pytest.mark.parametrize(
    "options", [{}, {"bounds": (0.0, 5.0)}, {"loss": "soft_l1"}], ids=["plain", "bounds", "loss"]
)
def test_one_parameter(options):
    """Whose matrices are numbers, and a loop over the rest of their rows is over nothing."""
    rates = TRUE[:40, 1]

    def rate(x, k):
        return jnp.exp(-k * x)

    y = np.exp(-rates[:, None] * X)
    result = fit(rate, X, y, [1.0], **options)
    assert result.engine == LANES
    np.testing.assert_allclose(result.x[:, 0], rates, rtol=1e-7)
    with using("xla"):
        pool = fit(rate, X, y, [1.0], **options)
    np.testing.assert_allclose(result.x, pool.x, rtol=1e-7)


@pytest.mark.long
def test_many_parameters():
    y = np.polyval(RNG.normal(size=20), X / 4.0)[None]
    result = fit(lambda x, *c: jnp.polyval(jnp.stack(c), x / 4.0), X, y, np.zeros(20), max_nfev=5)
    assert result.engine.startswith("XLA: more than")


def test_engine_is_known_of_a_saved_result(tmp_path):
    result = fit(decay, X, Y[:4], P0)
    result.save(tmp_path / "fits.npz")
    assert type(result).load(tmp_path / "fits.npz").engine == LANES


def test_unknown_engine():
    with pytest.raises(ValueError, match="engine must be one of"), using("gpu"):
        pass


def test_environment(monkeypatch):
    monkeypatch.setenv("JAXLSQ_ENGINE", "xla")
    assert fit(decay, X, Y[:4], P0).engine == "XLA: it was asked for"
    monkeypatch.setenv("JAXLSQ_ENGINE", "fast")
    with pytest.raises(ValueError, match="JAXLSQ_ENGINE must be one of"):
        fit(decay, X, Y[:4], P0)


# --- general functions ------------------------------------------------------------------


@pytest.mark.long
def test_least_squares_batch():
    def residual(p, data):
        x, y = data
        return p["a"] * jnp.exp(-p["k"] * x) + p["c"] - y

    x0 = {"a": 1.0, "k": 1.0, "c": 0.0}
    x = np.broadcast_to(X, Y.shape)
    lanes = least_squares_batch(residual, x0, (x, Y))
    with using("xla"):
        pool = least_squares_batch(residual, x0, (x, Y))
    assert lanes.engine == LANES
    np.testing.assert_allclose(lanes.x, pool.x, rtol=1e-6)
    assert np.mean(lanes.nfev == pool.nfev) > 0.98


def test_stops_when_asked():
    """A run of minutes leaves the machine code soon after Ctrl-C."""
    raised = []

    def interrupt():
        time.sleep(0.5)
        _thread.interrupt_main()

    data = np.tile(Y, (3000, 1))
    thread = threading.Thread(target=interrupt)
    begin = time.process_time()  # not of the clock: others may be at work on the machine
    thread.start()
    try:
        fit(decay, X, data, P0, ftol=0.0, xtol=0.0, gtol=0.0, max_nfev=10**6)
    except KeyboardInterrupt as error:
        raised.append(error)
    took = time.process_time() - begin
    thread.join()
    assert raised
    assert took < 1.5 * (os.cpu_count() or 1)
    result = raised[0].result
    assert np.all(np.isin(result.status, [Status.INTERRUPTED, *range(1, 9)]))


OF_OTHER_TYPES = {
    "bfloat16": (jnp.asarray([0.5, 1.25, -2.0, 3.5], jnp.bfloat16), lambda v: v * v),
    "float8_e4m3fn": (jnp.asarray([0.5, 1.25, -2.0, 3.5], jnp.float8_e4m3fn), lambda v: v + v),
    "int4": (jnp.asarray([1, -2, 3, 7], jnp.int4), lambda v: v + v),
    "float16": (jnp.asarray([0.5, 1.25, -2.0, 3.5], jnp.float16), lambda v: v > v[0]),
    "complex128": (np.array([1.0, 2j, -1.0, 3.0 - 4j]), jnp.abs),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OF_OTHER_TYPES)
def test_types_that_have_no_registers_go_through_xla(name, dtype):
    values, function = OF_OTHER_TYPES[name]
    with jax.enable_x64(dtype == np.float64):
        factor = np.asarray(function(jnp.asarray(values))).astype(float)

    def model(x, a, b):
        return a * function(jnp.asarray(values)).astype(x.dtype) * x + b

    x = np.linspace(0.5, 2.0, 4)
    truth = np.array([[2.0, -1.0], [0.5, 3.0]])
    y = truth[:, :1] * factor * x + truth[:, 1:]
    result = fit(model, x.astype(dtype), y.astype(dtype), [1.0, 1.0])
    assert f"numbers of type {name}".replace("128", "") in result.engine
    assert result.success.all()
    np.testing.assert_allclose(result.x, truth, rtol=1e-4 if dtype == np.float32 else 1e-9)


def test_parameters_in_half_precision_on_the_way_go_through_xla():
    def model(x, a, b):
        return (a * x).astype(jnp.bfloat16).astype(x.dtype) + b * x**2

    x, p = np.linspace(0.5, 2.0, 8), np.array([[1.3, 0.7], [0.2, 2.0]])
    with jax.enable_x64(True):
        start = jax.vmap(lambda p: model(jnp.asarray(x), *p))(p)
    result = fit(model, x, np.asarray(start), p)
    assert "numbers of type bfloat16" in result.engine
    np.testing.assert_allclose(result.cost, 0.0, atol=1e-25)
