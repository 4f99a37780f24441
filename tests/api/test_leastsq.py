"""`leastsq` against `scipy.optimize.leastsq`: arguments, results, counts, messages, warnings."""

import inspect
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxlsq.single.solve
from jaxlsq import leastsq

X = np.linspace(0.0, 4.0, 50)
Y = 2.5 * np.exp(-1.3 * X) + 0.05 * np.random.default_rng(7).standard_normal(50)
START = (1.0, 1.0)


@pytest.fixture(autouse=True)
def nothing_known_untraceable():
    """Tests build NumPy and jax.numpy functions from the same code."""
    jaxlsq.single.tried.UNTRACEABLE.clear()


def decay(p, x, y):
    return p[0] * np.exp(-p[1] * x) - y


def decay_rows(p, x, y):
    e = np.exp(-p[1] * x)
    return np.stack([e, -p[0] * x * e], axis=1)


def decay_columns(p, x, y):
    return decay_rows(p, x, y).T


def decay_jnp(p, x, y):
    return p[0] * jnp.exp(-p[1] * x) - y


def idle_jnp(p, x, y):
    return p[0] * jnp.exp(-x) + 0.0 * p[1] - y


def slide(p):
    """Its infimum is at infinity: no tolerance holds before hundreds of evaluations."""
    return np.array([np.exp(-p[0])])


def slide_jacobian(p):
    return np.array([[-np.exp(-p[0])]])


def words(text):
    return text.split()


def triangle(info):
    """R of the last Jacobian, and Q'f, with a positive diagonal."""
    n = len(info["ipvt"])
    r = np.triu(info["fjac"].T[:n, :])
    signs = np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return signs[:, None] * r, signs * info["qtf"]


def both(func, x0, **options):
    """Ours and SciPy's answer, in full."""
    return (
        leastsq(func, x0, full_output=True, **options),
        scipy.optimize.leastsq(func, x0, full_output=True, **options),
    )


def assert_same(ours, theirs, rtol=1e-6):
    x, cov_x, info, message, ier = ours
    np.testing.assert_allclose(x, theirs[0], rtol=rtol, atol=1e-9)
    assert ier == theirs[4]
    assert words(message) == words(theirs[3])
    assert set(info) == set(theirs[2])
    assert info["nfev"] == theirs[2]["nfev"]
    assert info.get("njev") == theirs[2].get("njev")
    np.testing.assert_allclose(info["fvec"], theirs[2]["fvec"], atol=1e-6)
    their_ipvt = theirs[2]["ipvt"]
    np.testing.assert_array_equal(info["ipvt"], their_ipvt - their_ipvt.min())
    (r, qtf), (their_r, their_qtf) = triangle(info), triangle(theirs[2])
    np.testing.assert_allclose(r, their_r, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(qtf, their_qtf, atol=1e-5)
    np.testing.assert_allclose(cov_x, theirs[1], rtol=1e-5, atol=1e-7 * np.abs(cov_x).max())


# --- arguments ----------------------------------------------------------------


def test_arguments_have_scipys_names_order_and_defaults():
    ours = inspect.signature(leastsq).parameters
    ours = {k: p for k, p in ours.items() if p.kind != p.VAR_KEYWORD}  # for its messages
    theirs = inspect.signature(scipy.optimize.leastsq).parameters
    assert [*ours] == [*theirs, "warning"]
    assert {k: ours[k].default for k in theirs} == {k: p.default for k, p in theirs.items()}


def test_all_fourteen_arguments_are_taken_by_position():
    given = [decay, START, (X, Y), decay_columns, True, True]
    given += [1e-3, 2e-3, 0.0, 40, None, 10.0, (2.0, 0.5)]
    with pytest.warns(DeprecationWarning, match="warning keyword"):
        ours = leastsq(*given, False)
    assert_same(ours, scipy.optimize.leastsq(*given))


def test_returns_two_without_and_five_with_full_output():
    assert len(leastsq(decay, START, args=(X, Y))) == 2
    for full_output in (True, 1):
        assert len(leastsq(decay, START, args=(X, Y), full_output=full_output)) == 5
    x, ier = leastsq(decay, START, args=(X, Y))
    assert x.shape == (2,)
    assert type(ier) is int
    assert ier == 1


@pytest.mark.parametrize("x0", [1, 1.0, [1], (1.0,), np.array(1), np.array([[1.0]]), np.float32(1)])
def test_start_may_be_scalar_list_integer_or_0d(x0):
    ours, theirs = both(lambda p: np.exp(-p[0] * X) - Y, x0)
    assert ours[0].shape == theirs[0].shape == (1,)
    assert ours[0].dtype == np.float64
    assert_same(ours, theirs)


@pytest.mark.parametrize("x0", [[[1], [1]], np.ones((1, 2)), np.array([1, 1]), [True, True]])
def test_start_of_two_axes_or_of_integers_is_flattened_to_float64(x0):
    x, _ = leastsq(decay, x0, args=(X, Y))
    assert x.shape == (2,)
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, leastsq(decay, START, args=(X, Y))[0])


def test_start_array_is_not_changed():
    x0 = np.array(START)
    for func in (decay, decay_jnp):
        x, _ = leastsq(func, x0, args=(X, Y))
        assert not np.shares_memory(x, x0)
        np.testing.assert_array_equal(x0, START)


@pytest.mark.parametrize("xp", [np, jnp])
def test_single_argument_need_not_be_a_tuple(xp):
    def func(p, y):
        return p[0] * xp.exp(-p[1] * X) - y

    np.testing.assert_array_equal(
        leastsq(func, START, args=Y)[0], leastsq(func, START, args=(Y,))[0]
    )


def test_args_reach_func_and_dfun():
    ours, theirs = both(decay, START, args=(X, 2.0 * Y), Dfun=decay_rows)
    assert_same(ours, theirs)
    np.testing.assert_allclose(ours[0][0], 2.0 * leastsq(decay, START, args=(X, Y))[0][0])


@pytest.mark.parametrize(("dfun", "col_deriv"), [(decay_rows, False), (decay_columns, True)])
def test_dfun_by_rows_and_by_columns_is_scipys(dfun, col_deriv):
    ours, theirs = both(decay, START, args=(X, Y), Dfun=dfun, col_deriv=col_deriv)
    assert_same(ours, theirs)
    assert "njev" in ours[2]


@pytest.mark.long_but("1")
@pytest.mark.parametrize("col_deriv", [0, 1])
def test_traceable_dfun_by_rows_and_by_columns_is_scipys(col_deriv):
    def dfun(p, x, y):
        e = jnp.exp(-p[1] * x)
        return jnp.stack([e, -p[0] * x * e], axis=0 if col_deriv else 1)

    numpy_dfun = decay_columns if col_deriv else decay_rows
    ours = leastsq(decay_jnp, START, args=(X, Y), Dfun=dfun, col_deriv=col_deriv, full_output=True)
    theirs = scipy.optimize.leastsq(
        decay, START, args=(X, Y), Dfun=numpy_dfun, col_deriv=col_deriv, full_output=True
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"epsfcn": 1e-6},
        {"epsfcn": 1e-3},
        {"factor": 0.1},
        {"factor": 1.0},
        {"diag": (1.0, 10.0)},
        {"diag": [100.0, 1.0], "factor": 0.1},
        {"ftol": 1e-3, "xtol": 1e-3},
        {"ftol": 1e-12, "xtol": 1e-12},
        {"gtol": 1e-3},
    ],
)
def test_options_give_scipys_counts_and_parameters(options):
    ours, theirs = both(decay, START, args=(X, Y), **options)
    assert_same(ours, theirs)


def test_options_in_that_test_make_a_difference():
    def nfev(**options):
        return leastsq(decay, START, args=(X, Y), full_output=True, **options)[2]["nfev"]

    assert len({nfev(), nfev(factor=0.1), nfev(ftol=1e-3, xtol=1e-3)}) == 3
    assert nfev(diag=(100.0, 1.0), factor=0.1) != nfev(factor=0.1)


def test_float32_residual_sets_the_difference_step_as_in_scipy():
    def fit(solver):
        seen = []

        def func(p):
            if isinstance(p, np.ndarray):
                seen.append(p.copy())
            return decay(p, X, Y).astype(np.float32)

        return solver(func, START, full_output=True), np.array(seen)

    (ours, points), (theirs, their_points) = fit(leastsq), fit(scipy.optimize.leastsq)
    step = np.sqrt(float(np.finfo(np.float32).eps))
    np.testing.assert_allclose(points[1] - START, [step, 0.0], rtol=1e-9)
    at_start = (their_points == START).all(axis=1)  # SciPy checks func there before it fits
    np.testing.assert_array_equal(points[1:3], their_points[~at_start][:2])
    assert ours[2]["nfev"] == theirs[2]["nfev"]
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    assert ours[2]["fvec"].dtype == np.float64


# --- limits, failures and warnings --------------------------------------------


@pytest.mark.parametrize(
    ("dfun", "limit"), [(None, 400), (slide_jacobian, 200)], ids=["differences", "Dfun"]
)
def test_default_maxfev_is_named_when_reached(dfun, limit):
    ours, theirs = both(slide, 0.0, Dfun=dfun)
    assert ours[4] == theirs[4] == 5
    assert words(ours[3]) == words(theirs[3])
    assert ours[3].endswith(f"maxfev = {limit}.")
    assert ours[2]["nfev"] == theirs[2]["nfev"] >= limit
    assert ours[1] is theirs[1] is None
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)


def test_default_maxfev_counts_an_automatic_jacobian_as_a_jacobian():
    _, _, info, message, ier = leastsq(lambda p: jnp.exp(-p), 0.0, full_output=True)
    assert ier == 5
    assert info["nfev"] == 200
    assert message.endswith("maxfev = 200.")


@pytest.mark.parametrize("func", [decay, decay_jnp])
def test_reached_maxfev_is_ier_5_and_warns_where_it_was_called(func):
    with pytest.warns(RuntimeWarning, match=r"maxfev = 4\.") as record:
        x, ier = leastsq(func, START, args=(X, Y), maxfev=4)
    assert ier == 5
    assert [w.filename for w in record] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        full = leastsq(func, START, args=(X, Y), maxfev=4, full_output=True)
    assert full[4] == 5
    assert full[1] is None
    np.testing.assert_array_equal(full[0], x)


def test_reached_maxfev_leaves_scipys_parameters_and_count():
    ours, theirs = both(decay, START, args=(X, Y), maxfev=4)
    assert ours[4] == theirs[4] == 5
    assert ours[2]["nfev"] == theirs[2]["nfev"]
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
    assert words(ours[3]) == words(theirs[3])


def test_success_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for func in (decay, decay_jnp):
            leastsq(func, START, args=(X, Y))


@pytest.mark.parametrize("value", [True, False])
def test_warning_keyword_is_deprecated(value):
    with pytest.warns(DeprecationWarning, match="warning keyword") as record:
        leastsq(decay, START, args=(X, Y), warning=value)
    assert record[0].filename == __file__


def test_warning_false_silences_and_true_does_not():
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        leastsq(decay, START, args=(X, Y), maxfev=4, warning=False)
    assert [w.category for w in record] == [DeprecationWarning]
    with pytest.warns(RuntimeWarning, match="maxfev"), pytest.deprecated_call():
        leastsq(decay, START, args=(X, Y), maxfev=4, warning=True)


@pytest.mark.parametrize(
    ("ier", "options"),
    [
        (1, {"ftol": 1e-3, "xtol": 0.0}),
        (2, {"ftol": 0.0, "xtol": 2e-3}),
        (3, {"ftol": 1e-3, "xtol": 1e-3}),
        (4, {"gtol": 0.3}),
    ],
)
def test_messages_of_success_are_scipys(ier, options):
    ours, theirs = both(decay, (2.4, 1.2), args=(X, Y), **options)
    assert theirs[4] == ier
    assert_same(ours, theirs)


# --- infodict and covariance --------------------------------------------------


@pytest.mark.parametrize("func", [decay, decay_jnp])
def test_infodict_has_scipys_shapes_and_dtypes(func):
    options = {"args": (X, Y), "Dfun": "2-point", "full_output": True}
    info = leastsq(func, START, **options)[2]
    assert set(info) == {"fvec", "nfev", "fjac", "ipvt", "qtf"}
    shapes = {"fvec": (50,), "fjac": (2, 50), "qtf": (2,), "ipvt": (2,)}
    for key, shape in shapes.items():
        assert info[key].shape == shape
        assert info[key].dtype == (np.int32 if key == "ipvt" else np.float64)
    assert type(info["nfev"]) is int
    theirs = scipy.optimize.leastsq(decay, START, args=(X, Y), full_output=True)[2]
    assert {k: (v.shape, v.dtype) for k, v in theirs.items() if k != "nfev"} == {
        k: (v.shape, v.dtype) for k, v in info.items() if k != "nfev"
    }


def test_njev_is_there_only_with_a_jacobian():
    def info(func, **options):
        return leastsq(func, START, args=(X, Y), full_output=True, **options)[2]

    assert "njev" not in info(decay)
    assert "njev" not in info(decay_jnp, epsfcn=1e-10)
    assert type(info(decay, Dfun=decay_rows)["njev"]) is int
    assert info(decay_jnp)["njev"] > 1


@pytest.mark.parametrize("func", [decay, decay_jnp])
def test_fvec_is_func_at_the_solution(func):
    x, _, info, _, _ = leastsq(func, START, args=(X, Y), full_output=True)
    np.testing.assert_allclose(info["fvec"], decay(x, X, Y), atol=1e-14)


@pytest.mark.parametrize("func", [decay, decay_jnp])
def test_cov_x_is_scipys(func):
    cov_x = leastsq(func, START, args=(X, Y), Dfun=None, full_output=True)[1]
    theirs = scipy.optimize.leastsq(decay, START, args=(X, Y), Dfun=decay_rows, full_output=True)
    np.testing.assert_allclose(cov_x, theirs[1], rtol=1e-6 if func is decay_jnp else 1e-5)
    if func is decay:
        theirs = scipy.optimize.leastsq(decay, START, args=(X, Y), full_output=True)
        np.testing.assert_allclose(cov_x, theirs[1], rtol=1e-6)
    np.testing.assert_array_equal(cov_x, cov_x.T)


@pytest.mark.parametrize("func", [decay, decay_jnp])
def test_cov_x_can_be_rebuilt_from_fjac_and_ipvt(func):
    _, cov_x, info, _, _ = leastsq(func, START, args=(X, Y), full_output=True)
    n = 2
    perm = np.take(np.eye(n), info["ipvt"], 0)
    r = np.triu(np.transpose(info["fjac"])[:n, :])
    big_r = r @ perm
    np.testing.assert_allclose(np.linalg.inv(big_r.T @ big_r), cov_x, rtol=1e-9)
    assert not np.array_equal(info["ipvt"], np.arange(n)) or r[0, 1] != 0


def test_qtf_and_r_give_the_gradient_of_the_last_jacobian():
    # With ftol and xtol as they are the last Jacobian is at the point before the solution,
    # so that the gradient is small there, but not zero; gtol ends right after a Jacobian.
    x, _, info, _, ier = leastsq(
        decay, START, args=(X, Y), Dfun=decay_rows, gtol=0.3, full_output=True
    )
    assert ier == 4
    r = np.triu(info["fjac"].T[:2])
    gradient = np.empty(2)
    gradient[info["ipvt"]] = r.T @ info["qtf"]
    np.testing.assert_allclose(gradient, decay_rows(x, X, Y).T @ info["fvec"], rtol=1e-9)


def test_cov_x_is_none_for_a_parameter_that_does_nothing():
    def idle(p, x, y):
        return p[0] * np.exp(-x) + 0.0 * p[1] - y

    ours, theirs = both(idle, START, args=(X, Y))
    assert ours[4] in (1, 2, 3)
    assert ours[1] is theirs[1] is None
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
    traced = leastsq(idle_jnp, START, args=(X, Y), full_output=True)
    assert traced[4] in (1, 2, 3)
    assert traced[1] is None
    assert traced[0][1] == 1.0


@pytest.mark.parametrize("func", [decay, decay_jnp])
def test_results_are_writable_numpy_arrays_of_float64(func):
    x, cov_x, info, _, _ = leastsq(func, START, args=(X, Y), full_output=True)
    again = leastsq(func, START, args=(X, Y), full_output=True)
    for array in (x, cov_x, info["fvec"], info["fjac"], info["qtf"]):
        assert type(array) is np.ndarray
        assert array.dtype == np.float64
        array[...] = 0.0
    info["ipvt"][...] = 0
    third = leastsq(func, START, args=(X, Y), full_output=True)
    np.testing.assert_array_equal(third[0], again[0])
    np.testing.assert_array_equal(third[2]["fjac"], again[2]["fjac"])


# --- which Jacobian -----------------------------------------------------------


def test_automatic_derivative_for_traceable_and_differences_when_epsfcn_is_given():
    truth = scipy.optimize.leastsq(decay, START, args=(X, Y), Dfun=decay_rows, full_output=True)
    automatic = leastsq(decay_jnp, START, args=(X, Y), full_output=True)
    assert_same(automatic, truth)
    ours = leastsq(decay_jnp, START, args=(X, Y), epsfcn=1e-6, full_output=True)
    theirs = scipy.optimize.leastsq(decay, START, args=(X, Y), epsfcn=1e-6, full_output=True)
    assert_same(ours, theirs)


@pytest.mark.long
@pytest.mark.parametrize("method", ["jacfwd", "jacrev"])
def test_automatic_methods_by_name_are_as_good_as_a_given_jacobian(method):
    ours = leastsq(decay_jnp, START, args=(X, Y), Dfun=method, full_output=True)
    theirs = scipy.optimize.leastsq(decay, START, args=(X, Y), Dfun=decay_rows, full_output=True)
    assert_same(ours, theirs)


@pytest.mark.parametrize("func", [decay, decay_jnp])
def test_two_point_by_name_is_scipys_own_difference(func):
    ours = leastsq(func, START, args=(X, Y), Dfun="2-point", full_output=True)
    assert_same(ours, scipy.optimize.leastsq(decay, START, args=(X, Y), full_output=True))


@pytest.mark.parametrize("func", [decay, decay_jnp])
def test_three_point_by_name_is_more_accurate_and_counts_2n(func):
    _, cov_x, info, _, ier = leastsq(func, START, args=(X, Y), Dfun="3-point", full_output=True)
    truth = scipy.optimize.leastsq(decay, START, args=(X, Y), Dfun=decay_rows, full_output=True)
    assert ier == truth[4]
    assert "njev" not in info
    assert info["nfev"] == truth[2]["nfev"] + 4 * truth[2]["njev"]
    r, their_r = triangle(info)[0], triangle(truth[2])[0]
    np.testing.assert_allclose(r, their_r, rtol=1e-8)
    np.testing.assert_allclose(cov_x, truth[1], rtol=1e-7)


# --- three textbook fits ------------------------------------------------------


def quadratic(xp):
    return lambda p, x, y: y - xp.polyval(p, x)


def exponential(xp):
    return lambda p, x, y: p[0] * xp.exp(-p[1] * x) + p[2] - y


def sinusoid(xp):
    return lambda p, x, y: p[0] * xp.sin(2 * np.pi * p[1] * x + p[2]) - y


def textbook(name):
    rng = np.random.default_rng(11)
    if name == "quadratic":
        x = np.linspace(-5, 5, 100)
        return quadratic, (1.0, 1.0, 1.0), x, 2 * x**2 - 3 * x + 1 + rng.standard_normal(100)
    if name == "exponential":
        x = np.linspace(0, 4, 50)
        y = 2.5 * np.exp(-1.3 * x) + 0.5 + 0.1 * rng.standard_normal(50)
        return exponential, (1.0, 1.0, 0.0), x, y
    x = np.linspace(0, 2, 100)
    y = 3.0 * np.sin(2 * np.pi * 1.2 * x + 0.5) + 0.2 * rng.standard_normal(100)
    return sinusoid, (2.5, 1.15, 0.3), x, y


@pytest.mark.parametrize("name", ["quadratic", "exponential", "sinusoid"])
def test_textbook_fit_has_scipys_numbers_and_counts(name):
    model, x0, x, y = textbook(name)
    ours, theirs = both(model(np), x0, args=(x, y))
    assert ours[4] in (1, 2, 3)
    assert_same(ours, theirs)


@pytest.mark.long_but("exponential")
@pytest.mark.parametrize("name", ["quadratic", "exponential", "sinusoid"])
def test_textbook_fit_in_jax_numpy_has_the_same_parameters(name):
    model, x0, x, y = textbook(name)
    tight = {"ftol": 1e-14, "xtol": 1e-14, "full_output": True}
    traced = leastsq(model(jnp), x0, args=(x, y), **tight)
    numpy = leastsq(model(np), x0, args=(x, y), **tight)
    np.testing.assert_allclose(traced[0], numpy[0], rtol=1e-7)


def test_numpy_model_does_not_take_the_derivative_from_its_jax_numpy_twin():
    def offset(xp):
        return lambda p: xp.exp(-p[0] * X) + p[1] - Y

    assert "njev" not in leastsq(offset(np), START, full_output=True)[2]
    assert "njev" in leastsq(offset(jnp), START, full_output=True)[2]


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("xp", [np, jnp])
def test_parameters_whose_squares_leave_the_range(scale, xp):
    def residual(p):
        return p[0] / scale * xp.exp(-p[1] * X) - Y

    found, ier = leastsq(residual, [scale, 1.0])
    expected, _ = leastsq(decay, START, args=(X, Y))
    assert ier == 1
    np.testing.assert_allclose(found / [scale, 1.0], expected, rtol=1e-7)
