"""What is wrong with the input of `fit` and `least_squares_batch` raises at the door.

With the argument's name in the message, before anything is compiled.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import fit, least_squares_batch
from tests.decays import P0, SIGMA, B, T, Y, decay, decay_jac

NAN, INF = float("nan"), float("inf")
RAGGED_X, RAGGED_Y = [T[:9], T[:12]], [Y[0, :9], Y[1, :12]]
NAMED = {"a": 1.0, "k": 1.0}


@pytest.fixture
def raises(compiles):
    """``raises(error, match, call, *arguments)``, and that nothing was compiled."""

    def check(error, match, call, *arguments, **options):
        before = compiles()
        with pytest.raises(error, match=match):
            call(*arguments, **options)
        assert compiles() == before

    return check


def by_name(value):
    """The argument that is wrong, for a test's name."""
    return next(iter(value)) if isinstance(value, dict) else ""


def residual(p, y):
    return decay(T, p[0], p[1]) - y


# --- settings, the same for both ---------------------------------------------------

SETTINGS = [
    ({"bounds": (0.0, 0.5)}, ValueError, r"`p0` is infeasible: '(a|p\[0\])' starts at 1.0"),
    ({"bounds": (3.0, 1.0)}, ValueError, "Each lower bound must be less than its upper bound"),
    ({"bounds": (NAN, 1.0)}, ValueError, "Each lower bound must be less than its upper bound"),
    ({"bounds": (0.0, 1.0, 2.0)}, ValueError, "`bounds` must contain 2 elements"),
    ({"bounds": 1.0}, ValueError, "`bounds` must contain 2 elements"),
    ({"bounds": (0.0, np.ones(3))}, ValueError, "Inconsistent shapes between bounds"),
    ({"bounds": (0.0, "far")}, TypeError, "must be real numbers"),
    ({"bounds": (1.0, 1.0)}, ValueError, "all parameters are fixed"),
    ({"fixed": [True, True]}, ValueError, "all parameters are fixed"),
    ({"fixed": [1.0, 0.0]}, TypeError, "fixed must be true or false for each parameter"),
    ({"fixed": [True, False, False]}, ValueError, "Inconsistent shapes between fixed"),
    ({"loss": "hubert"}, ValueError, "`loss` must be one of .*'hubert'"),
    ({"loss": "huber", "f_scale": -1.0}, ValueError, "`f_scale` must be positive"),
    ({"loss": "huber", "f_scale": "wide"}, ValueError, "`f_scale` must be positive"),
    ({"jac": None}, ValueError, "jac must be callable or one of"),
    ({"jac": "4-point"}, ValueError, "jac must be callable or one of .*'4-point'"),
    ({"jac": ["2-point"]}, (TypeError, ValueError), "jac"),
    ({"ftol": -1e-3}, ValueError, "ftol must be >= 0"),
    ({"xtol": NAN}, ValueError, "xtol must be >= 0"),
    ({"gtol": -INF}, ValueError, "gtol must be >= 0"),
    ({"ftol": "small"}, (TypeError, ValueError), "ftol"),
    ({"xtol": np.ones(3)}, (TypeError, ValueError), "xtol"),
    ({"x_scale": [1.0, 0.0]}, ValueError, "x_scale must be positive"),
    ({"x_scale": [1.0, -1.0]}, ValueError, "x_scale must be positive"),
    ({"x_scale": [1.0, NAN]}, ValueError, "x_scale must be positive"),
    ({"x_scale": [1.0, 1.0, 1.0]}, ValueError, "x_scale"),
    ({"x_scale": np.ones((B, 2))}, ValueError, "x_scale"),
    ({"x_scale": "jac"}, (TypeError, ValueError), "x_scale"),
    ({"max_nfev": 0}, ValueError, "max_nfev must be at least 1"),
    ({"max_nfev": -3}, ValueError, "max_nfev must be at least 1"),
    ({"max_nfev": "many"}, (TypeError, ValueError), "max_nfev"),
    ({"loss": np.ones(2)}, ValueError, "`loss` must be one of"),
    ({"polish": np.ones(2)}, ValueError, "polish must be 'auto', 'float64' or None"),
    ({"max_nfev": 2.5}, (TypeError, ValueError), "max_nfev"),
    ({"starts": 0}, ValueError, "starts must be at least 1"),
    ({"starts": 2.5}, ValueError, "starts must be a number, 'neighbours', or an array"),
    ({"starts": "all"}, ValueError, "starts must be a number, 'neighbours', .*got 'all'"),
    ({"starts": np.ones(2)}, ValueError, "starts must be .*shape"),
    ({"starts": np.ones((4, 3))}, ValueError, r"starts must be .*\(k, 2\).*\(4, 3\)"),
    ({"starts": np.ones((5, 4, 2))}, ValueError, r"starts must be .*\(5, 4, 2\)"),
    ({"starts": "few"}, (TypeError, ValueError), "starts"),
    ({"polish": True}, ValueError, "polish must be 'auto', 'float64' or None"),
    ({"polish": "float32"}, ValueError, "polish must be 'auto', 'float64' or None"),
    ({"maxfev": 10}, TypeError, "maxfev"),
]


@pytest.mark.parametrize(("options", "error", "match"), SETTINGS, ids=by_name)
def test_settings(raises, options, error, match):
    raises(error, match, fit, decay, T, Y, P0, **options)
    raises(error, match, least_squares_batch, residual, P0, Y, **options)


# --- fit ------------------------------------------------------------------------------

FIT = [
    ({"fixed": {"a": 1.0}}, TypeError, "fixed must be true or false .* that of p0"),
    ({"fixed": ["rate"]}, ValueError, r"fixed names 'rate', but the parameters are \('a', 'k'\)"),
    ({"fixed": "kk"}, ValueError, "Did you mean 'k'"),
    ({"fixed": {"a": np.ones(5, bool)}}, ValueError, r"fixed\['a'\] must be .*\(12,\)"),
    ({"bounds": {"aa": (0, 1)}}, ValueError, "bounds names 'aa'.*Did you mean 'a'"),
    ({"bounds": {"a": 1.0}}, ValueError, r"bounds\['a'\] must be a pair"),
    ({"bounds": {"a": (0.0, np.ones(5))}}, ValueError, r"bounds\['a'\] must be .*\(12,\)"),
    ({"expand": 3}, TypeError, "expand must be callable"),
    ({"expand": lambda p: p, "jac": decay_jac}, ValueError, "does not go with expand"),
    ({"absolute_sigma": True}, ValueError, "pass sigma too"),
    ({"loss": "poisson", "sigma": 1.0}, ValueError, "takes no sigma"),
    ({"loss": "poisson"}, ValueError, "needs counts, whole numbers from zero on"),
    ({"loss": "poisson", "ydata": -np.ones((12, 20), int)}, ValueError, "needs counts"),
    ({"loss": "huber", "f_scale": np.ones(3)}, ValueError, "f_scale must broadcast"),
    ({"sigma": np.ones((12, 7, 20, 20))}, ValueError, "sigma must broadcast"),
    ({"sigma": -np.eye(20)}, ValueError, "`sigma` must be positive definite"),
    ({"sigma": np.tri(20) + np.eye(20)}, ValueError, "`sigma` must be positive definite"),
    ({"sigma": np.eye(20), "mask": T < 3}, ValueError, "goes with neither mask"),
    ({"nan_policy": "drop"}, ValueError, r"nan_policy must be one of .*'drop'"),
    ({"nan_policy": None}, ValueError, "nan_policy must be one of"),
    ({"nan_policy": np.ones(2)}, ValueError, "nan_policy must be one of"),
    # ydata
    ({"ydata": 3.0}, ValueError, r"ydata must have shape \(\.\.\., m\)"),
    ({"ydata": []}, ValueError, "ydata must have shape"),
    ({"ydata": np.ones((3, 0))}, ValueError, r"ydata must have shape .*\(3, 0\)"),
    ({"ydata": Y + 1j}, TypeError, "ydata must be an array of real numbers, got dtype complex"),
    ({"ydata": "spectra"}, TypeError, "ydata must be an array of real numbers"),
    ({"ydata": None}, TypeError, "ydata must be an array of real numbers"),
    ({"ydata": [Y[:2], Y[:3]]}, ValueError, "ydata"),
    ({"ydata": Y.astype(object)}, TypeError, "ydata must be an array of real numbers"),
    # xdata
    ({"xdata": None}, TypeError, "xdata must be an array or a pytree of arrays, got None"),
    ({"xdata": "axis"}, TypeError, "xdata must be an array of real numbers"),
    ({"xdata": {"t": T, "z": T + 1j}}, TypeError, "xdata must be an array of real numbers"),
    ({"xdata": T[:-1]}, ValueError, r"one value per point.*xdata and ydata"),
    # p0
    ({"p0": None}, TypeError, "p0 is None.*pass one starting value"),
    ({"p0": [[1.0, 2.0], [1.0]]}, ValueError, "p0 must be an array"),
    ({"p0": {"a": 1.0, 2: 1.0}}, TypeError, r"p0's keys must be .*names, got \['a', 2\]"),
    ({"p0": []}, TypeError, "p0 is empty"),
    ({"p0": {}}, TypeError, "p0 is empty"),
    ({"p0": "guess"}, TypeError, "p0 must be an array of real numbers"),
    ({"p0": [1.0, 1j]}, TypeError, "p0 must be real, got dtype complex"),
    ({"p0": np.ones((3, 2))}, ValueError, r"p0 must have shape \(n,\) or \(12, n\).*\(3, 2\)"),
    ({"p0": np.ones((1, B, 2))}, ValueError, "p0 must have shape"),
    ({"p0": {"a": np.ones(3), "k": 1.0}}, ValueError, r"p0\['a'\] must be .*\(12,\).*\(3,\)"),
    ({"p0": {"a": 1j, "k": 1.0}}, TypeError, "p0 must be real"),
    ({"p0": lambda t, y: ()}, (TypeError, ValueError), "p0"),
    ({"p0": lambda t, y: 1.0}, (TypeError, ValueError), "p0"),
    # sigma and mask
    ({"sigma": np.ones(B)}, ValueError, r"sigma must broadcast .*\(12, 20\).*axis of length one"),
    ({"sigma": np.ones((1, B, 20))}, ValueError, "sigma must broadcast"),
    ({"sigma": -1.0}, ValueError, "sigma must be positive"),
    ({"sigma": np.zeros(20)}, ValueError, "sigma must be positive"),
    ({"sigma": [NAN] * 20}, ValueError, "sigma must be positive"),
    ({"sigma": SIGMA + 1j}, TypeError, "sigma must be an array of real numbers"),
    ({"sigma": "wide"}, TypeError, "sigma must be an array of real numbers"),
    ({"mask": np.ones(3, bool)}, ValueError, r"mask must broadcast .*\(3,\)"),
    ({"mask": np.ones((B, 20, 1), bool)}, ValueError, "mask must broadcast"),
    ({"mask": "some"}, TypeError, "mask must be an array"),
    # model and jac
    ({"model": 3.0}, TypeError, "model"),
    ({"model": lambda t, a, k: decay(t, a, k)[None]}, ValueError, r"model\(x, .*\(1, 20\)"),
    ({"model": lambda t, a, k: (decay(t, a, k),) * 2}, ValueError, r"model\(x, .*\(2, 20\)"),
    ({"model": lambda t, a, k: decay(t, a, k) * 1j}, (TypeError, ValueError), "model"),
    ({"jac": lambda t, a, k: decay_jac(t, a, k).T}, (TypeError, ValueError), "jac"),
    ({"jac": lambda t, a, k: decay_jac(t, a, k)[:, :1]}, (TypeError, ValueError), "jac"),
    ({"jac": lambda t, a, k: jnp.ones((20, 3))}, (TypeError, ValueError), "jac"),
    ({"jac": lambda t, a, k: jnp.ones((19, 2))}, (TypeError, ValueError), "jac"),
    ({"jac": lambda t, a, k: jnp.ones(20)}, (TypeError, ValueError, IndexError), "jac"),
]


@pytest.mark.parametrize(("options", "error", "match"), FIT, ids=by_name)
def test_fit(raises, options, error, match):
    good = {"model": decay, "xdata": T, "ydata": Y, "p0": P0}
    raises(error, match, fit, **(good | options))


def test_an_untraceable_model_says_what_to_write(raises):
    def numpy_model(t, a, k):
        return np.array([a, k])[0] * np.exp(-k * t)

    raises(TypeError, r"jax\.numpy", fit, numpy_model, T, Y, P0, jac="jacrev")

    def branching(t, a, k):
        return decay(t, a, k) if a > 0 else decay(t, -a, k)

    raises(TypeError, "jax", fit, branching, T, Y, P0, jac="jacrev")


def test_an_exception_of_the_model_reaches_the_caller(raises):
    raises(ZeroDivisionError, "division", fit, lambda t, a, k: 1 / 0, T, Y, P0)
    raises(ZeroDivisionError, "division", fit, decay, T, Y, lambda t, y: 1 / 0)
    raises(TypeError, "p0 has 3 values, the model takes 2: a, k", fit, decay, T, Y, (1.0,) * 3)
    raises(TypeError, "'rate'", fit, decay, T, Y, {"a": 1.0, "rate": 1.0})


def test_the_first_problem_is_named_whatever_the_second_is(raises):
    raises(ValueError, "nan_policy", fit, decay, T, Y, [], nan_policy="x")
    raises(TypeError, "p0", fit, decay, T[:3], Y, [])


RAGGED = [
    ({"xdata": T}, ValueError, "xdata must be a list of 2 arrays, as ydata is; got ndarray"),
    ({"xdata": RAGGED_X[:1]}, ValueError, "xdata must be a list of 2 arrays"),
    ({"xdata": RAGGED_X[::-1]}, ValueError, r"xdata\[0\] must have 9 points.*\(12,\)"),
    ({"sigma": np.ones((3, 1))}, ValueError, r"sigma must be a list of 2 .* of shape \(3, 1\)"),
    ({"sigma": RAGGED_X[::-1]}, ValueError, r"sigma\[0\] must have 9 points"),
    ({"mask": np.ones(20, bool)}, ValueError, "mask must be a list of 2 arrays"),
    ({"mask": [np.ones(9, bool), np.ones(9, bool)]}, ValueError, r"mask\[1\] must have 12 points"),
    ({"ydata": [Y[0, :9], Y[0, :0]]}, ValueError, r"ydata\[1\] is empty"),
    ({"ydata": [RAGGED_Y[0] + 1j, RAGGED_Y[1]]}, TypeError, "ydata must be .*real numbers"),
    ({"ydata": [["a"] * 9, ["b"] * 12]}, TypeError, "ydata must be .*real numbers"),
    ({"xdata": [RAGGED_X[0] + 1j, RAGGED_X[1]]}, TypeError, "xdata must be .*real numbers"),
    ({"p0": np.ones((3, 2))}, ValueError, r"p0 must have shape \(n,\) or \(2, n\)"),
    ({"ydata": [[1.0, NAN] + 7 * [1.0], RAGGED_Y[1]]}, ValueError, "ydata contains NaN"),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("options", "error", "match"), RAGGED, ids=by_name)
def test_ragged(raises, options, error, match):
    good = {"model": decay, "xdata": RAGGED_X, "ydata": RAGGED_Y, "p0": P0, "nan_policy": "raise"}
    raises(error, match, fit, **(good | options))


# --- least_squares_batch ----------------------------------------------------------------

BATCH = [
    ({"data": None}, ValueError, "every array of data must have the problems along its first"),
    ({"data": {}}, ValueError, "every array of data"),
    ({"data": 3.0}, ValueError, "every array of data"),
    ({"data": (Y, 1.0)}, ValueError, r"every array of data .*\[\(12, 20\), \(\)\]"),
    ({"data": (Y, Y[:3])}, ValueError, r"every array of data .*\(3, 20\)"),
    ({"data": "spectra"}, TypeError, "data must be an array of real numbers"),
    ({"data": Y + 1j}, TypeError, "data must be an array of real numbers"),
    ({"data": {"y": Y, "names": np.array(["a"] * B)}}, TypeError, "data must be an array of real"),
    ({"x0": None}, TypeError, "x0 is empty"),
    ({"x0": []}, TypeError, "x0 is empty"),
    ({"x0": {}}, TypeError, "x0 is empty"),
    ({"x0": {"a": np.ones(0)}}, TypeError, "x0 is empty"),
    ({"x0": "guess"}, TypeError, "x0 must be an array of real numbers"),
    ({"x0": [1.0, 1j]}, TypeError, "x0 must be real, got dtype complex"),
    ({"x0": {"a": 1.0, "k": "b"}}, TypeError, "x0 must be an array of real numbers"),
    ({"x0": np.ones((3, 2))}, ValueError, r"x0 must have shape \(n,\) or \(12, n\).*\(3, 2\)"),
    ({"x0": lambda d: d}, TypeError, "x0 must be an array of real numbers"),
    ({"fun": 3.0}, TypeError, "fun"),
    ({"fun": lambda p, d: jnp.sum(residual(p, d))}, ValueError, r"fun must return a 1-D .*\(\)"),
    ({"fun": lambda p, d: residual(p, d)[None]}, ValueError, r"fun must return .*\(1, 20\).*ravel"),
    ({"fun": lambda p, d: residual(p, d) * 1j}, (TypeError, ValueError), "fun"),
    ({"fun": lambda p, d: np.array(p[0]) - d, "jac": "jacrev"}, TypeError, r"jax\.numpy"),
    ({"jac": lambda p, d: jnp.ones((2, 20))}, (TypeError, ValueError), "jac"),
    ({"jac": lambda p, d: jnp.ones((20, 3))}, (TypeError, ValueError), "jac"),
    ({"jac": lambda p, d: jnp.ones(20)}, (TypeError, ValueError, IndexError), "jac"),
    ({"sigma": 1.0}, TypeError, "sigma"),
]


@pytest.mark.parametrize(("options", "error", "match"), BATCH, ids=by_name)
def test_least_squares_batch(raises, options, error, match):
    good = {"fun": residual, "x0": P0, "data": Y}
    raises(error, match, least_squares_batch, **(good | options))
