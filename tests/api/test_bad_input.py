"""What is wrong with the input of `leastsq` raises, names the argument, and never hangs."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxlsq.single.solve
from jaxlsq import leastsq

X = np.linspace(0.0, 4.0, 50)
Y = 2.5 * np.exp(-1.3 * X)
START = (1.0, 1.0)
INF, NAN = float("inf"), float("nan")


@pytest.fixture(autouse=True)
def nothing_known_untraceable():
    """Tests build NumPy and jax.numpy functions from the same code."""
    jaxlsq.single.tried.UNTRACEABLE.clear()


def decay(p):
    return p[0] * np.exp(-p[1] * X) - Y


def decay_jnp(p):
    return p[0] * jnp.exp(-p[1] * X) - Y


def rows(p, xp=np):
    e = xp.exp(-p[1] * X)
    return xp.stack([e, -p[0] * X * e], axis=1)


def rows_jnp(p):
    return rows(p, jnp)


both = pytest.mark.parametrize("func", [decay, decay_jnp])


def counted(func):
    """`func` and the list of the points, not tracers, that it was called at."""
    calls = []

    def wrapper(p):
        if isinstance(p, np.ndarray):
            calls.append(p.copy())
        return func(p)

    return wrapper, calls


# --- arguments, before any compilation ----------------------------------------


def assert_raises_before_compiling(compiles, error, match, func=decay, x0=START, **options):
    func, calls = counted(func)
    before = compiles()
    with pytest.raises(error, match=match):
        leastsq(func, x0, **options)
    assert compiles() == before
    assert calls == []


@both
@pytest.mark.parametrize(
    ("diag", "match"),
    [
        ((1.0, 0.0), "diag must be positive"),
        ((1.0, -2.0), "diag must be positive"),
        ((NAN, 1.0), "diag must be positive"),
        ((INF, 1.0), "diag must be positive"),
        ((1.0,), "diag must have one scale per parameter, 2, got 1"),
        ((1.0, 1.0, 1.0), "diag must have one scale per parameter, 2, got 3"),
        ((), "diag must have one scale per parameter, 2, got 0"),
    ],
)
def test_bad_diag_raises_before_any_compile(compiles, func, diag, match):
    assert_raises_before_compiling(compiles, TypeError, match, func=func, diag=diag)


@both
@pytest.mark.parametrize("factor", [0, 0.0, -1.0, INF, -INF, NAN])
def test_bad_factor_raises_before_any_compile(compiles, func, factor):
    assert_raises_before_compiling(compiles, TypeError, "factor must be", func=func, factor=factor)


@both
@pytest.mark.parametrize("name", ["ftol", "xtol", "gtol"])
@pytest.mark.parametrize("value", [-1e-8, -INF, NAN])
@pytest.mark.parametrize("full_output", [False, True])
def test_bad_tolerance_raises_before_any_compile(compiles, func, name, value, full_output):
    options = {name: value, "full_output": full_output}
    assert_raises_before_compiling(compiles, TypeError, f"{name} must be", func=func, **options)


@both
@pytest.mark.parametrize(
    ("x0", "match"),
    [
        ([], "x0 is empty"),
        (np.empty((0, 2)), "x0 is empty"),
        ((1.0, 1.0j), "x0 must be real, got dtype complex"),
        (np.ones(2, np.complex64), "x0 must be real, got dtype complex64"),
        ("ab", "x0 must be an array of real numbers"),
        (["1", "2"], "x0 must be an array of real numbers"),
        (None, "x0 must be an array of real numbers"),
        ([1.0, None], "x0 must be an array of real numbers"),
    ],
)
def test_bad_start_raises_before_any_compile(compiles, func, x0, match):
    assert_raises_before_compiling(compiles, TypeError, match, func=func, x0=x0)


@both
@pytest.mark.parametrize("dfun", ["jac", "", "2-Point", "central", 3, 1.5, True, np.eye(2), [rows]])
def test_bad_dfun_type_raises_before_any_compile(compiles, func, dfun):
    match = r"Dfun must be callable, None or one of .*'2-point'.*'jacfwd'"
    assert_raises_before_compiling(compiles, TypeError, match, func=func, Dfun=dfun)


@pytest.mark.parametrize("func", [None, 3, "decay", np.ones(3)])
def test_func_that_is_not_callable_raises_type_error(compiles, func):
    before = compiles()
    with pytest.raises(TypeError, match="callable"):
        leastsq(func, START)
    assert compiles() == before


# --- what func returns --------------------------------------------------------


@pytest.mark.parametrize("xp", [np, jnp])
def test_fewer_residuals_than_parameters_raises_and_names_both(compiles, xp):
    before = compiles()
    with pytest.raises(
        TypeError, match=r"func input vector length N=3 .* output vector length M=2"
    ):
        leastsq(lambda p: xp.exp(p[:2]) - p[2], np.ones(3))
    assert compiles() - before <= 5  # jax.numpy's own operations, not a fit


def returned(xp, kind):
    """A function with a wrong result, which does depend on the parameters."""
    return {
        "none": lambda p: None if xp.exp(p) is not None else p,
        "complex": lambda p: xp.exp(p) * 1j,
        "2-d": lambda p: xp.exp(p)[:, None],
        "2-d square": lambda p: xp.exp(p)[:, None] * xp.ones((1, 50)),
    }[kind]


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize(
    ("kind", "error", "match"),
    [
        ("none", TypeError, "func returned None"),
        ("complex", TypeError, "func must return an array of real numbers, got dtype complex"),
        ("2-d", ValueError, r"func must return a 1-D array of residuals, got shape \(2, 1\)"),
        ("2-d square", ValueError, r"func must return a 1-D array .* got shape \(2, 50\)"),
    ],
)
@pytest.mark.parametrize("dfun", [None, "2-point"])
def test_wrong_result_of_func_raises_and_names_func(xp, kind, error, match, dfun):
    with pytest.raises(error, match=match):
        leastsq(returned(xp, kind), START, Dfun=dfun)


@pytest.mark.parametrize(
    "value", ["text", ["a", "b"], [None, 1.0], [{}, 1.0], {"a": 1.0}, np.array([1, None])]
)
def test_result_of_func_that_is_not_numeric_raises_and_names_func(value):
    with pytest.raises(TypeError, match="func must return an array of real numbers"):
        leastsq(lambda p: value, START)


def test_dict_of_tracers_from_func_raises_and_names_func():
    with pytest.raises(TypeError, match="func must return an array of real numbers"):
        leastsq(lambda p: {"residual": jnp.exp(p)}, START)


@pytest.mark.parametrize("at_call", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [49, 51, 1])
def test_result_of_func_that_changes_its_length_raises(at_call, size):
    count = 0

    def func(p):
        nonlocal count
        f = decay(p)
        count += 1
        return f if count <= at_call else np.resize(f, size)

    with pytest.raises(ValueError, match=f"func changed size .* 50 residuals at x0, now {size}"):
        leastsq(func, START)
    assert count == at_call + 1


# --- Dfun ---------------------------------------------------------------------


@pytest.mark.parametrize(("func", "dfun"), [(decay, rows), (decay_jnp, rows_jnp)])
@pytest.mark.parametrize("col_deriv", [False, True])
def test_transposed_dfun_raises_and_hints_at_col_deriv(func, dfun, col_deriv):
    def transposed(p):
        return dfun(p) if col_deriv else dfun(p).T

    expected = r"\(2, 50\)" if col_deriv else r"\(50, 2\)"
    with pytest.raises(TypeError, match=rf"'transposed' argument. Shape should be {expected}") as e:
        leastsq(func, START, Dfun=transposed, col_deriv=col_deriv)
    assert f"It is transposed: with col_deriv={col_deriv}" in str(e.value)
    assert f"set col_deriv={not col_deriv}" in str(e.value)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("col_deriv", [False, True])
@pytest.mark.parametrize("shape", [(100,), (49, 2), (50, 3), (2, 51), (50,), (1,)])
def test_dfun_of_wrong_shape_raises_and_names_it(xp, col_deriv, shape):
    def wrong(p):
        return xp.exp(p[0]) * np.ones(shape)

    with pytest.raises(TypeError, match=r"'wrong' argument\. Shape should be") as e:
        leastsq(decay_jnp if xp is jnp else decay, START, Dfun=wrong, col_deriv=col_deriv)
    assert "transposed" not in str(e.value)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.ones((50, 2), complex), "bad must return .* got dtype complex"),
        (None, "bad must return .* got dtype object"),
        ("text", "bad must return"),
    ],
)
@both
def test_dfun_with_a_result_of_wrong_type_raises_and_names_it(func, value, match):
    def bad(p):
        return value

    with pytest.raises(TypeError, match=match):
        leastsq(func, START, Dfun=bad)


@pytest.mark.parametrize("method", ["jacfwd", "jacrev"])
def test_automatic_derivative_of_an_untraceable_function_raises(method):
    with pytest.raises(TypeError, match=f"Dfun='{method}' needs a function that JAX can trace"):
        leastsq(lambda p: np.exp(p) - 2.0, START, Dfun=method)


@pytest.mark.parametrize("method", ["jacfwd", "jacrev"])
def test_automatic_derivative_of_an_untraceable_function_raises_after_another_fit(method):
    def func(p):
        return np.exp(p) - 2.0

    leastsq(func, START)
    with pytest.raises(TypeError, match=f"Dfun='{method}' needs a function that JAX can trace"):
        leastsq(func, START, Dfun=method)


@pytest.mark.parametrize("method", ["jacfwd", "jacrev"])
def test_error_of_func_comes_before_that_of_an_automatic_derivative(method):
    def func(p):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        leastsq(func, START, Dfun=method)


def test_automatic_derivative_comes_back_after_a_mistake_in_the_data():
    def func(p, x, y):
        return p[0] * jnp.exp(-p[1] * x) - y

    with pytest.raises((TypeError, ValueError)):
        leastsq(func, START, args=(X, Y[:-1]))
    assert "njev" in leastsq(func, START, args=(X, Y), full_output=True)[2]


# --- not finite ---------------------------------------------------------------


def nonfinite(xp, value):
    def func(p):
        return p[0] * xp.exp(-p[1] * X) * np.where(X > 2.0, value, 1.0)

    return func


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("dfun", [None, "2-point", "given"])
def test_func_not_finite_at_the_start_is_ier_minus_1(xp, value, dfun):
    func, calls = counted(nonfinite(xp, value))
    x0 = np.array(START)
    dfun = {"given": rows_jnp if xp is jnp else rows}.get(dfun, dfun)
    x, cov_x, info, message, ier = leastsq(func, x0, Dfun=dfun, full_output=True)
    assert ier == -1
    assert "function returned a NaN or an infinity at the starting parameters" in message
    assert info["nfev"] == 1
    # Before a new program is used, it is compared with the function in Python.
    assert len(calls) in ([1] if xp is np else [0, 2])
    np.testing.assert_array_equal(x, START)
    assert cov_x is None
    assert info["fvec"].shape == (50,)
    np.testing.assert_array_equal(np.isfinite(info["fvec"]), X <= 2.0)


@pytest.mark.parametrize("xp", [np, jnp])
def test_func_not_finite_at_the_start_warns(xp):
    with pytest.warns(RuntimeWarning, match="function returned a NaN") as record:
        x, ier = leastsq(nonfinite(xp, NAN), START)
    assert ier == -1
    assert record[-1].filename == __file__
    np.testing.assert_array_equal(x, START)


@pytest.mark.parametrize("func", [decay, decay_jnp])
def test_start_that_is_not_finite_is_ier_minus_1(func):
    x, _, info, _, ier = leastsq(func, (NAN, 1.0), full_output=True)
    assert (ier, info["nfev"]) == (-1, 1)
    np.testing.assert_array_equal(x, (NAN, 1.0))


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("dfun", [None, "2-point"])
def test_nan_at_a_trial_is_a_rejected_step(xp, dfun):
    def func(p):  # the first step from 10 goes far below zero
        return xp.log(p * np.ones(2)) - np.log(2.0)

    func, calls = counted(func)
    with np.errstate(invalid="ignore"):
        x, _, info, _, ier = leastsq(func, 10.0, Dfun=dfun, full_output=True)
    assert ier in (1, 2, 3)
    np.testing.assert_allclose(x, 2.0, rtol=1e-8)
    assert np.isfinite(info["fvec"]).all()
    if xp is np:
        assert min(calls)[0] < 0


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("value", [INF, NAN, 1e200])
def test_inf_at_a_trial_is_a_rejected_step(xp, value):
    def func(p):
        return xp.where(p < 0.0, value, xp.sqrt(abs(p))) * np.ones(2) - 0.1

    x, _, _, _, ier = leastsq(func, 10.0, full_output=True)
    assert ier in (1, 2, 3)
    np.testing.assert_allclose(x, 0.01, rtol=1e-6)


@pytest.mark.parametrize("xp", [np, jnp])
def test_nan_everywhere_but_at_the_start_ends(xp):
    def func(p):
        return xp.where(p == 1.0, 1.0, NAN) * xp.exp(p)

    def dfun(p):
        return xp.exp(p)[:, None]

    x, _, info, message, ier = leastsq(func, 1.0, Dfun=dfun, full_output=True)
    np.testing.assert_array_equal(x, 1.0)
    assert info["nfev"] <= 200
    assert ier == -3
    assert "need not be a minimum" in message


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize(("func", "dfun"), [(decay, rows), (decay_jnp, rows_jnp)])
def test_given_jacobian_not_finite_is_taken_by_differences(func, dfun, value):
    def bad(p):
        return dfun(p) * np.where(X > 2.0, value, 1.0)[:, None]

    x, cov_x, info, _, ier = leastsq(func, START, Dfun=bad, full_output=True)
    assert ier in (1, 2, 3)
    best, best_cov = leastsq(func, START, full_output=True)[:2]
    np.testing.assert_allclose(x, best, rtol=1e-6)
    np.testing.assert_allclose(cov_x, best_cov, rtol=1e-5)
    assert info["nfev"] >= info["njev"] * 3


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize(
    ("func", "dfun", "xp"), [(decay, rows, np), (decay_jnp, rows_jnp, jnp)], ids=["numpy", "jax"]
)
def test_jacobian_without_differences_is_ier_minus_2(func, dfun, xp, value):
    """The function is finite at the start and nowhere beside it."""

    def alone(p):
        return func(p) * xp.where(xp.all(p == xp.asarray(START)), 1.0, NAN)

    def bad(p):
        return dfun(p) * np.where(X > 2.0, value, 1.0)[:, None]

    x, cov_x, info, message, ier = leastsq(alone, START, Dfun=bad, full_output=True)
    assert ier == -2
    assert "Jacobian has a NaN or an infinity" in message
    assert cov_x is None
    np.testing.assert_array_equal(x, START)
    assert (info["nfev"], info["njev"]) == (5, 1)
    with pytest.warns(RuntimeWarning, match="Jacobian has a NaN"):
        leastsq(alone, START, Dfun=bad)


def test_automatic_derivative_not_finite_is_taken_by_differences():
    """To the side where the function is finite."""
    x, _, info, _, ier = leastsq(lambda p: jnp.sqrt(p) * np.ones(2) - 2.0, 0.0, full_output=True)
    assert ier in (1, 2, 3)
    np.testing.assert_allclose(x, 4.0, rtol=1e-7)
    assert info["nfev"] > info["njev"]


@pytest.mark.parametrize("xp", [np, jnp])
def test_finite_difference_not_finite_is_ier_minus_2(xp):
    def func(p):
        return xp.sqrt(-p) * np.ones(2) - 2.0

    with np.errstate(invalid="ignore"):
        x, _, info, _, ier = leastsq(func, 0.0, Dfun="2-point", full_output=True)
    assert (ier, info["nfev"]) == (-2, 2)
    np.testing.assert_array_equal(x, 0.0)


@pytest.mark.parametrize("func", [decay, decay_jnp])
def test_jacobian_not_finite_later_is_taken_by_differences(func):
    def bad(p):
        xp = np if isinstance(p, np.ndarray) else jnp
        return rows(p, xp) * xp.where(p[0] == 1.0, 1.0, NAN)

    x, _, info, _, ier = leastsq(func, START, Dfun=bad, full_output=True)
    assert ier in (1, 2, 3)
    np.testing.assert_allclose(x, leastsq(func, START)[0], rtol=1e-6)
    np.testing.assert_allclose(info["fvec"], decay(x), atol=1e-14)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_function_that_does_not_depend_on_the_parameters_ends(xp, level):
    def func(p):
        return level + 0.0 * xp.abs(p[0]) * np.ones(50)

    x, cov_x, info, _, ier = leastsq(func, START, full_output=True)
    np.testing.assert_array_equal(x, START)
    assert ier in (1, 2, 3, 4)
    assert cov_x is None
    assert info["nfev"] <= 10


def test_steps_into_nan_before_a_minimum_inside_are_success():
    x, ier = leastsq(lambda p: jnp.log(p) - jnp.log(0.01), [5.0])
    assert ier in (1, 2, 3, 4)
    np.testing.assert_allclose(x, [0.01], rtol=1e-6)
