"""Functions that JAX cannot trace: exceptions, freedom of the user's code, counts, compiles."""

import functools
import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

import jaxlsq.single.solve
from jaxlsq import curve_fit, leastsq
from jaxlsq.tracing.cache import PROGRAMS

X = np.linspace(0.0, 4.0, 50)
TRUTH = np.array([2.5, 1.3])
Y = TRUTH[0] * np.exp(-TRUTH[1] * X)
NOISY = Y + 0.05 * np.random.default_rng(3).standard_normal(50)
START = (1.0, 1.0)


@pytest.fixture(autouse=True)
def nothing_known_untraceable():
    """Each test's functions are tried with a tracer first."""
    jaxlsq.single.tried.UNTRACEABLE.clear()


def decay(p, x=X, y=Y):
    return p[0] * np.exp(-p[1] * x) - y


def assert_fits(func, x0=START, truth=TRUTH, **options):
    x, _, info, _, ier = leastsq(func, x0, full_output=True, **options)
    assert ier in (1, 2, 3, 4)
    np.testing.assert_allclose(x, truth, rtol=1e-7)
    return info


# --- exceptions ---------------------------------------------------------------


class CustomError(Exception):
    pass


class CustomInterrupt(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [
        CustomError("mine"),
        KeyboardInterrupt(),
        ZeroDivisionError("mine"),
        TypeError("mine"),
        ValueError("mine"),
        CustomInterrupt(),
        StopIteration(),
        SystemExit(3),
    ],
    ids=repr,
)
@pytest.mark.parametrize("at_call", [1, 2, 5])
def test_exception_of_func_is_the_same_object(error, at_call):
    calls = []

    def func(p):
        f = decay(p)  # fails with a tracer
        calls.append(p)
        if len(calls) == at_call:
            raise error
        return f

    with pytest.raises(type(error)) as caught:
        leastsq(func, START)
    assert caught.value is error
    assert len(calls) == at_call


@pytest.mark.parametrize("error", [CustomError("mine"), KeyboardInterrupt()], ids=repr)
def test_exception_with_a_tracer_too_is_the_same_object(error):
    def func(p):
        raise error

    with pytest.raises(type(error)) as caught:
        leastsq(func, START)
    assert caught.value is error


@pytest.mark.parametrize("at_call", [1, 2])
def test_exception_of_dfun_is_the_same_object(at_call):
    error, calls = CustomError("mine"), []

    def dfun(p):
        e = np.exp(-p[1] * X)
        calls.append(p)
        if len(calls) == at_call:
            raise error
        return np.stack([e, -p[0] * X * e], axis=1)

    with pytest.raises(CustomError) as caught:
        leastsq(decay, START, Dfun=dfun)
    assert caught.value is error


def test_real_zero_division_and_math_errors_reach_the_user():
    with pytest.raises(ZeroDivisionError):
        leastsq(lambda p: [float(p[0]) / 0, 1.0], START)
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        leastsq(lambda p: [math.sqrt(-1.0 - float(p[0])), 1.0], START)


def test_a_fit_after_an_exception_works():
    calls = []

    def func(p):
        f = decay(p)
        calls.append(p)
        if len(calls) == 5:
            raise CustomError
        return f

    with pytest.raises(CustomError):
        leastsq(func, START)
    assert_fits(func)


# --- what the user's code may do ----------------------------------------------


def test_func_may_change_its_parameters():
    addresses = []

    def func(p):
        f = decay(p)
        addresses.append(p)  # kept, so that no two can be at the same place
        p[:] = np.nan
        return f

    assert_fits(func)
    assert len({a.ctypes.data for a in addresses}) == len(addresses) > 5


def test_dfun_may_change_its_parameters():
    def dfun(p):
        e = np.exp(-p[1] * X)
        jac = np.stack([e, -p[0] * X * e], axis=1)
        p[:] = np.nan
        return jac

    assert_fits(decay, Dfun=dfun)


def test_a_jax_function_with_a_numpy_jacobian_is_in_float64():
    def jacobian(p):
        column = np.exp(-p[1] * X)
        return np.stack([column, -p[0] * X * column], axis=1)

    def decay_in_jax(p):
        return p[0] * jnp.exp(-p[1] * X) - NOISY

    expected = scipy.optimize.leastsq(decay, START, args=(X, NOISY), xtol=1e-12, ftol=1e-12)[0]
    found = leastsq(decay_in_jax, START, Dfun=jacobian, xtol=1e-12, ftol=1e-12)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    for method in ("lm", "trf"):
        found = curve_fit(
            lambda x, a, k: a * jnp.exp(-k * x),
            X,
            NOISY,
            START,
            jac=lambda x, a, k: jacobian((a, k)),
            method=method,
            xtol=1e-12,
            ftol=1e-12,
        )[0]
        np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_func_gets_a_writable_float64_vector_that_is_not_the_start():
    x0, seen = np.array(START), []

    def func(p):
        seen.append((type(p), p.dtype, p.shape, p.flags.writeable, np.shares_memory(p, x0)))
        return decay(p)

    leastsq(func, x0)
    assert set(seen[1:]) == {(np.ndarray, np.dtype(np.float64), (2,), True, False)}


def test_func_may_reuse_one_buffer_for_its_result():
    buffer = np.empty(50)

    def func(p):
        buffer[:] = decay(p)
        return buffer

    info = assert_fits(func)
    assert not np.shares_memory(info["fvec"], buffer)


def test_dfun_may_reuse_one_buffer_for_its_result():
    buffer = np.empty((50, 2))

    def dfun(p):
        buffer[:, 0] = np.exp(-p[1] * X)
        buffer[:, 1] = -p[0] * X * buffer[:, 0]
        return buffer

    assert_fits(decay, Dfun=dfun)


def branch(p):
    if p[0] > 1.5:
        return decay(p)
    return p[0] * np.exp(-p[1] * X) - Y + 0.0


def while_loop(p):
    total, term, k = np.zeros(50), np.ones(50), 0
    while np.abs(term).max() > 1e-17:
        total += term
        k += 1
        term = term * (-p[1] * X) / k
    return p[0] * total - Y


def scalar_math(p):
    return [p[0] * math.exp(-p[1] * x) - y for x, y in zip(X, Y, strict=True)]


def in_place(p):
    out = np.empty(50)
    out[:] = X
    out *= -p[1]
    np.exp(out, out=out)
    out[0] = 1.0
    out *= p[0]
    out -= Y
    return out


def floats(p):
    a, b = float(p[0]), p[1].item()
    return a * np.exp(-b * X) - Y


def formatted(p):
    a, b = map(float, f"{p[0]!r},{p[1]!r}".replace("np.float64(", "").replace(")", "").split(","))
    return a * np.exp(-b * X) - Y


def special(p):
    return p[0] * (scipy.special.expm1(-p[1] * X) + 1.0) - Y


def tuple_of_scalars(p):
    return tuple(decay(p))


def swallows(p):
    try:
        return p[0] * np.exp(-p[1] * X) - Y
    except Exception:
        return np.ones(50)


def swallows_and_returns_nan(p):
    try:
        return p[0] * np.exp(-p[1] * X) - Y
    except Exception:
        return np.full(50, np.nan)


def swallows_with_another_length(p):
    try:
        return p[0] * np.exp(-p[1] * X) - Y
    except Exception:
        return np.zeros(3)


def guarded(p):
    if not isinstance(p, np.ndarray):
        return np.zeros(50)
    return decay(p)


class Model:
    def __init__(self, y):
        self.y = y

    def residual(self, p):
        return decay(p, y=self.y)

    def __call__(self, p):
        return decay(p, y=self.y)

    @classmethod
    def of_class(cls, p):
        return decay(p)

    @staticmethod
    def static(p):
        return decay(p)


@pytest.mark.parametrize(
    "func",
    [
        branch,
        while_loop,
        scalar_math,
        in_place,
        floats,
        formatted,
        special,
        tuple_of_scalars,
        swallows,
        swallows_and_returns_nan,
        swallows_with_another_length,
        guarded,
        functools.partial(decay, x=X, y=Y),
        functools.partial(Model.residual, Model(Y)),
        Model(Y).residual,
        Model(Y),
        Model.of_class,
        Model.static,
        np.vectorize(lambda p: p - 2.5),
    ],
    ids=lambda f: getattr(f, "__name__", type(f).__name__),
)
def test_python_of_all_kinds_fits(func):
    truth = np.full(2, 2.5) if isinstance(func, np.vectorize) else TRUTH
    for _ in range(2):  # the second time it is known to be untraceable
        info = assert_fits(func, truth=truth)
        assert np.abs(info["fvec"]).max() < 1e-7


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_result_of_another_float_type_is_taken(dtype):
    x, ier = leastsq(lambda p: decay(p).astype(dtype), START)
    assert ier in (1, 2, 3)
    np.testing.assert_allclose(x, TRUTH, rtol=1e-5)


def test_object_that_changes_between_fits_is_read_again():
    model = Model(Y)
    assert_fits(model)
    model.y = 2.0 * Y
    assert_fits(model, truth=TRUTH * [2.0, 1.0])


def test_curve_fit_takes_python_of_all_kinds():
    def f(x, a, b):
        return np.array([a * math.exp(-b * v) for v in x])

    np.testing.assert_allclose(curve_fit(f, X, Y)[0], TRUTH, rtol=1e-7)


def test_func_may_fit_inside():
    inner_fits = []

    def func(p):
        # The amplitude is fitted inside for each rate: variable projection.
        shape = np.exp(-p[0] * X)
        amplitude, ier = leastsq(lambda q: np.multiply(q[0], shape) - NOISY, 1.0)
        inner_fits.append(ier)
        return amplitude[0] * shape - NOISY

    x, ier = leastsq(func, 1.0)
    assert ier in (1, 2, 3)
    assert len(inner_fits) > 5
    np.testing.assert_allclose(x, leastsq(decay, START, args=(X, NOISY))[0][1], rtol=1e-6)


# --- counts and compiles ------------------------------------------------------


@pytest.mark.parametrize("method", [None, "2-point", "3-point"])
@pytest.mark.parametrize("options", [{}, {"factor": 0.1}, {"maxfev": 7}])
def test_nfev_is_the_number_of_real_calls(method, options):
    calls = []

    def func(p):
        f = decay(p, X, NOISY)
        calls.append(p.copy())
        return f

    info = leastsq(func, START, Dfun=method, full_output=True, **options)[2]
    assert info["nfev"] == len(calls)


def test_nfev_and_njev_are_the_numbers_of_calls_with_dfun():
    calls = {"func": 0, "dfun": 0}

    def func(p):
        f = decay(p, X, NOISY)
        calls["func"] += 1
        return f

    def dfun(p):
        e = np.exp(-p[1] * X)
        calls["dfun"] += 1
        return np.stack([e, -p[0] * X * e], axis=1)

    info = leastsq(func, START, Dfun=dfun, full_output=True)[2]
    assert info["nfev"] == calls["func"]
    assert info["njev"] == calls["dfun"] - 1  # one more for its shape, as in SciPy
    theirs = scipy.optimize.leastsq(func, START, Dfun=dfun, full_output=True)[2]
    assert (info["nfev"], info["njev"]) == (theirs["nfev"], theirs["njev"])


def test_evaluations_are_at_scipys_points():
    def points(solver):
        seen = []

        def func(p):
            f = decay(p, X, NOISY)
            if not seen or not np.array_equal(seen[-1], p):
                seen.append(p.copy())
            return f

        solver(func, START)
        return np.array(seen)

    np.testing.assert_allclose(points(leastsq), points(scipy.optimize.leastsq), rtol=1e-6)


def test_new_lambda_and_new_length_do_not_compile(compiles):
    leastsq(lambda p: decay(p), START)
    before = compiles()
    assert len(PROGRAMS) > 0
    for m in (2, 3, 50, 51, 400):
        x = np.linspace(0.0, 4.0, m)
        y = 2.5 * np.exp(-1.3 * x)
        assert_fits(lambda p, x=x, y=y: decay(p, x, y))
        assert_fits(lambda p, x, y: np.exp(-p[1] * x) * p[0] - y, args=(x, y))
    assert compiles() == before


def test_options_and_methods_do_not_compile(compiles):
    leastsq(decay, START)
    before = compiles()
    for options in (
        {"ftol": 1e-3, "xtol": 1e-4, "gtol": 1e-5},
        {"factor": 1.0, "diag": (1.0, 2.0), "maxfev": 50},
        {"epsfcn": 1e-9},
        {"Dfun": "3-point"},
        {"Dfun": lambda p: np.stack([np.exp(-p[1] * X), -p[0] * X * np.exp(-p[1] * X)], axis=1)},
    ):
        leastsq(decay, START, **options)
    assert compiles() == before


def test_number_of_parameters_does_compile_and_only_once(compiles):
    def fit(n):
        leastsq(lambda p: np.exp(p) - 2.0, np.zeros(n))

    before = compiles()
    fit(5)
    after = compiles()
    assert after > before
    fit(5)
    assert compiles() == after
