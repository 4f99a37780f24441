"""Models that only Python can call: every option of `fit`, isolation of lanes, errors."""

import _thread
import ctypes
import math
import pickle
import threading
import time

import jax
import numpy as np
import pytest
import scipy.optimize

from jaxlsq import Interrupted, Status, fit, least_squares_batch
from jaxlsq.problem.host_models import HostModel

X = np.linspace(0.1, 4.0, 30)
RNG = np.random.default_rng(0)
TRUE = RNG.uniform((1.0, 0.5, 0.1), (2.0, 1.5, 0.3), (40, 3))
Y = TRUE[:, :1] * np.exp(-TRUE[:, 1:2] * X) + TRUE[:, 2:] + 0.02 * RNG.normal(size=(40, 30))
P0 = [1.5, 0.7, 0.2]


def traced(x, a, b, c):
    return a * jax.numpy.exp(-b * x) + c


def decides(x, a, b, c):
    return a * np.exp(-b * x) + c if b > 0 else a * np.exp(b * x) + c


def scalar(x, a, b, c):
    return np.array([a * math.exp(-b * v) for v in x]) + c


def together(x, a, b, c):
    return np.array(a * np.exp(-b * x) + c)


EXPONENTIAL = ctypes.CDLL(None).exp
EXPONENTIAL.restype, EXPONENTIAL.argtypes = ctypes.c_double, [ctypes.c_double]


def of_c(x, a, b, c):
    return np.array([a * EXPONENTIAL(-b * v) for v in x]) + c


def mixes_lanes(x, a, b, c):
    """Right shapes from several lanes, and wrong values: b is one number where it is alone."""
    return np.array(a * np.exp(-np.max(b) * x) + c)


@pytest.mark.parametrize("model", [decides, scalar, together, of_c, mixes_lanes])
def test_they_find_what_the_traced_model_finds(model):
    result, expected = fit(model, X, Y, P0), fit(traced, X, Y, P0)
    assert result.engine.startswith("Python, and XLA: the model")
    assert len(np.unique(result.nfev)) > 1
    assert result.success.all()
    np.testing.assert_allclose(result.x, expected.x, rtol=2e-5)
    np.testing.assert_allclose(result.cost, expected.cost, rtol=1e-9)
    np.testing.assert_allclose(result.stderr, expected.stderr, rtol=1e-4)
    np.testing.assert_allclose(result.predict(), expected.predict(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        result.predict([0.5, 1.5]), expected.predict([0.5, 1.5]), rtol=1e-4, atol=1e-5
    )


MASK = RNG.uniform(size=Y.shape) > 0.2
OPTIONS = {
    "bounds": {"bounds": ([0.5, 0.6, 0.0], [1.8, 1.2, 1.0])},
    "loss": {"loss": "soft_l1", "f_scale": 0.05},
    "mask and sigma": {"mask": MASK, "sigma": RNG.uniform(0.01, 0.05, Y.shape)},
    "fixed": {"fixed": [False, False, True]},
    "starts": {"starts": 3},
    "central": {"jac": "3-point"},
}


@pytest.mark.long_but("mask and sigma")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options(options):
    result = fit(decides, X, Y, P0, **options)
    expected = fit(traced, X, Y, P0, **options)
    np.testing.assert_allclose(result.cost, expected.cost, rtol=1e-6)
    np.testing.assert_allclose(result.x, expected.x, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(result.success, expected.success)


def test_models_of_names_tables_and_lengths():
    def model(x, rate, height):
        return height * np.exp(-rate * x[0]) + (0.1 * x[1] if rate > 0 else 0.0)

    lengths = [10, 25, 30]
    x = [np.stack([X[:m], X[:m] ** 2]) for m in lengths]
    y = [model(v, 0.5 + 0.2 * k, 2.0) for k, v in enumerate(x)]
    result = fit(model, x, y, {"rate": 1.0, "height": 1.0})
    np.testing.assert_allclose(result.params["rate"], [0.5, 0.7, 0.9], rtol=1e-6)


def test_in_float32():
    start = np.array([1.5, 0.5, 0.25], np.float32)
    how = {"xdata": X.astype(np.float32), "ydata": Y.astype(np.float32), "p0": start}
    result, expected = (fit(m, polish=None, **how) for m in (decides, traced))
    np.testing.assert_allclose(result.x, expected.x, rtol=2e-2)


def test_a_new_model_and_new_data_compile_nothing(compiles):
    fit(decides, X, Y, P0)
    before = compiles()
    fit(scalar, X, Y[::-1] + 0.1, P0)
    assert compiles() == before


def test_a_lane_where_the_model_raises_ends_alone():
    def fussy(x, a, b, c):
        if b > 5.0:
            raise OverflowError("too fast")
        return a * np.exp(-b * x) + math.sqrt(c)

    starts = np.tile(P0, (40, 1))
    starts[3, 1] = 9.0
    starts[7, 2] = -1.0  # of which math.sqrt raises ValueError
    result = fit(fussy, X, Y, starts)
    assert (result.status[[3, 7]] == Status.NONFINITE_START).all()
    others = np.delete(np.arange(40), [3, 7])
    expected = fit(fussy, X, Y[others], starts[others])
    np.testing.assert_array_equal(result.x[others], expected.x)


def test_it_is_not_called_again_where_nothing_moves():
    calls = []

    def counted(x, a, b, c):
        calls.append(1)
        return a * np.exp(-b * x) + c if b > 0 else a + 0 * x

    result = fit(counted, X, Y, P0)
    assert len(calls) < 2.5 * result.nfev.sum()


@pytest.mark.long
def test_at_least_the_solution_of_scipy():
    for y, x in zip(Y[:5], fit(decides, X, Y[:5], P0).x, strict=True):
        np.testing.assert_allclose(x, scipy.optimize.curve_fit(decides, X, y, P0)[0], rtol=1e-5)


@pytest.mark.long
def test_ctrl_c_ends_a_slow_model_and_it_can_be_fitted_again():
    calls, pause = [], [0.01]

    def slow(x, a, b, c):
        calls.append(time.monotonic())
        time.sleep(pause[0])
        return decides(x, a, b, c)

    timer = threading.Timer(2.0, _thread.interrupt_main)
    timer.start()
    with pytest.raises(Interrupted) as stopped:
        fit(slow, X, np.tile(Y, (20, 1)), P0)
    timer.join()
    raised = time.monotonic()
    pause[0] = 0.0
    result = stopped.value.result
    assert (result.status == Status.INTERRUPTED).all()
    time.sleep(1.0)
    assert not calls or calls[-1] < raised + 0.5
    np.testing.assert_allclose(result.refit().x[:40], fit(traced, X, Y, P0).x, rtol=2e-5)


# --- errors -----------------------------------------------------------------------------------


def test_an_error_of_the_model_is_the_one_that_is_raised():
    def broken(x, a, b, c):
        return {}["missing"] if b > 0 else x

    with pytest.raises(KeyError, match="missing"):
        fit(broken, X, Y, P0)
    with pytest.raises(ValueError, match="negative"):
        fit(lambda x, a, b, c: np.full(-3, a) if b > 0 else x, X, Y, P0)
    with pytest.raises(TypeError, match=r"one value per point, shape \(30,\), got \(29,\)"):
        fit(lambda x, a, b, c: decides(x, a, b, c)[1:], X, Y, P0)
    with pytest.raises(TypeError, match="Is a return missing"):
        fit(lambda x, a, b, c: None if b > 0 else x, X, Y, P0)


def test_what_asks_for_jaxs_derivatives():
    with pytest.raises(TypeError, match="decides with `if`"):
        fit(decides, X, Y, P0, jac="jacrev")


@pytest.mark.long_but("together")
@pytest.mark.parametrize("model", [decides, together])
def test_a_general_residual(model):
    """Of vectors and of named parameters, with data of several kinds."""

    def fun(p, data):
        return model(X, *p) * data["scale"] - data["y"]

    scale = RNG.uniform(0.5, 2.0, 40)
    data = {"y": Y * scale[:, None], "scale": scale}
    result = least_squares_batch(fun, P0, data)
    expected = least_squares_batch(lambda p, d: traced(X, *p) * d["scale"] - d["y"], P0, data)
    assert result.engine.startswith("Python, and XLA")
    np.testing.assert_allclose(result.x, expected.x, rtol=1e-5)
    np.testing.assert_allclose(result.cost, expected.cost, rtol=1e-9)
    named = least_squares_batch(
        lambda p, y: model(X, p["ab"][0], p["ab"][1], p["c"]) - y, {"ab": [1.5, 0.7], "c": 0.2}, Y
    )
    np.testing.assert_allclose(named.params["c"], fit(traced, X, Y, P0).x[:, 2], rtol=1e-5)


def test_an_error_of_a_general_residual_comes_before_a_compile(compiles):
    before = compiles()
    with pytest.raises(KeyError, match="mine"):
        # Of as many parameters as no other test here has, for which nothing is compiled yet.
        least_squares_batch(lambda p, y: {}["mine"] if p[0] > 0 else y, np.ones(11), Y)
    assert compiles() == before


def test_a_model_can_be_pickled():
    again = pickle.loads(pickle.dumps(HostModel(decides)))
    assert again.model is decides
    assert again.together is None
