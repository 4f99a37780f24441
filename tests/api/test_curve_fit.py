"""`curve_fit` against `scipy.optimize.curve_fit`: data, sigma, covariance, what it refuses."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxlsq.single.solve
from jaxlsq import OptimizeWarning, curve_fit

X = np.linspace(0.0, 4.0, 50)
RNG = np.random.default_rng(5)
SIGMA = RNG.uniform(0.02, 0.2, 50)
Y = 2.5 * np.exp(-1.3 * X) + SIGMA * RNG.standard_normal(50)
COVARIANCE = 0.01 * np.exp(-np.abs(X[:, None] - X) / 0.3) + np.diag(SIGMA**2)
SIGMAS = {
    "none": None,
    "scalar": 0.1,
    "0-d": np.array(0.1),
    "one": [0.1],
    "1-d": SIGMA,
    "list": SIGMA.tolist(),
    "2-d": COVARIANCE,
}


@pytest.fixture(autouse=True)
def nothing_known_untraceable():
    """Tests build NumPy and jax.numpy functions from the same code."""
    jaxlsq.single.tried.UNTRACEABLE.clear()


def decay(x, a, b):
    return a * np.exp(-b * x)


def decay_jnp(x, a, b):
    return a * jnp.exp(-b * x)


def rows(x, a, b):
    e = np.exp(-b * x)
    return np.stack([e, -a * x * e], axis=1)


def rows_jnp(x, a, b):
    e = jnp.exp(-b * x)
    return jnp.stack([e, -a * x * e], axis=1)


both = pytest.mark.parametrize("f", [decay, decay_jnp])
all_sigmas = pytest.mark.parametrize("sigma", list(SIGMAS.values()), ids=list(SIGMAS))


def assert_scipys(ours, *arguments, rtol=1e-6, **options):
    """`ours` is what SciPy returns for these arguments."""
    theirs = scipy.optimize.curve_fit(*arguments, **options)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=rtol)


# --- parameters ---------------------------------------------------------------


def test_arguments_have_scipys_names_order_kinds_and_defaults():
    ours = inspect.signature(curve_fit).parameters
    theirs = inspect.signature(scipy.optimize.curve_fit).parameters
    assert [(p.name, p.kind) for p in ours.values()] == [(p.name, p.kind) for p in theirs.values()]
    assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]


@both
def test_result_is_scipys_with_and_without_full_output(f):
    ours = curve_fit(f, X, Y)
    assert len(ours) == 2
    assert_scipys(ours, decay, X, Y, jac=rows if f is decay_jnp else None)
    popt, pcov, info, message, ier = curve_fit(f, X, Y, full_output=True)
    np.testing.assert_array_equal(popt, ours[0])
    np.testing.assert_array_equal(pcov, ours[1])
    theirs = scipy.optimize.curve_fit(decay, X, Y, full_output=True)
    assert set(info) - {"njev"} == set(theirs[2])
    np.testing.assert_allclose(info["fvec"], theirs[2]["fvec"], atol=1e-6)
    assert message.split() == theirs[3].split()
    assert ier == theirs[4]
    if f is decay:
        assert info["nfev"] == theirs[2]["nfev"]


class Model:
    def method(self, x, a, b):
        return decay(x, a, b)

    def __call__(self, x, a, b):
        return decay(x, a, b)


@pytest.mark.parametrize(
    "f",
    [
        decay,
        jax.jit(decay_jnp),
        Model().method,
        Model(),
        lambda x, a, b=7.0: decay(x, a, b),
        lambda x, a, b, *, scale=1.0: scale * decay(x, a, b),
    ],
    ids=["function", "jit", "method", "object", "default", "keyword-only"],
)
def test_parameters_are_counted_from_the_signature_and_start_at_one(f):
    popt, _ = curve_fit(f, X, Y)
    assert popt.shape == (2,)
    np.testing.assert_allclose(popt, scipy.optimize.curve_fit(decay, X, Y)[0], rtol=1e-6)
    starts = []
    curve_fit(lambda x, a, b: (starts.append((a, b)), f(np.asarray(x), a, b))[1], X, Y)
    real = [s for s in starts if isinstance(s[0], float)]
    # Compiled, the function is called in Python only to be compared, at other points.
    assert hasattr(f, "lower") or real[0] == (1.0, 1.0)


@pytest.mark.parametrize("f", [lambda x, *p: p[0] * x, lambda x: x, lambda *a: a[0], lambda: 1])
def test_parameters_that_cannot_be_counted_raise(f):
    with pytest.raises(ValueError, match="Unable to determine number of fit parameters"):
        curve_fit(f, X, Y)


@pytest.mark.parametrize("p0", [(2.0, 1.0), [2, 1], np.array([2.0, 1.0])])
def test_start_is_taken_also_for_varargs(p0):
    popt, _ = curve_fit(lambda x, *p: decay(x, *p), X, Y, p0)
    np.testing.assert_allclose(popt, scipy.optimize.curve_fit(decay, X, Y, p0)[0], rtol=1e-6)


def test_scalar_start():
    popt, pcov = curve_fit(lambda x, b: decay(x, 2.5, b), X, Y, 1.0)
    assert (popt.shape, pcov.shape) == ((1,), (1, 1))
    np.testing.assert_allclose(
        popt, scipy.optimize.curve_fit(lambda x, b: decay(x, 2.5, b), X, Y, 1.0)[0], rtol=1e-6
    )


def test_leastsqs_options_pass_through():
    for options in (
        {"ftol": 1e-2, "xtol": 1e-2},
        {"gtol": 0.1},
        {"epsfcn": 1e-4},
        {"factor": 0.1},
        {"diag": (100.0, 1.0), "factor": 0.1},
    ):
        ours = curve_fit(decay, X, Y, full_output=True, **options)
        theirs = scipy.optimize.curve_fit(decay, X, Y, full_output=True, **options)
        assert ours[2]["nfev"] == theirs[2]["nfev"]
        assert ours[4] == theirs[4]
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5)


@pytest.mark.long_but("1-d-3-point", "2-d-None")
@pytest.mark.parametrize("jac", [None, "3-point"])
@pytest.mark.parametrize("kind", ["none", "scalar", "1-d", "2-d"])
def test_jax_numpy_model_gives_the_numpy_models_parameters(kind, jac):
    tight = {"sigma": SIGMAS[kind], "ftol": 1e-14, "xtol": 1e-14}
    traced, numpy = curve_fit(decay_jnp, X, Y, jac=jac, **tight), curve_fit(decay, X, Y, **tight)
    np.testing.assert_allclose(traced[0], numpy[0], rtol=1e-7)
    np.testing.assert_allclose(traced[1], numpy[1], rtol=1e-5)


# --- sigma and Jacobians ------------------------------------------------------


@all_sigmas
@pytest.mark.parametrize("absolute_sigma", [False, True])
def test_sigma_of_all_shapes_is_scipys(sigma, absolute_sigma):
    options = {"sigma": sigma, "absolute_sigma": absolute_sigma}
    assert_scipys(curve_fit(decay, X, Y, **options), decay, X, Y, **options)


@pytest.mark.parametrize("f", [decay, decay_jnp])
@pytest.mark.parametrize("kind", ["none", "1-d", "2-d"])
def test_given_jacobian_is_whitened_as_scipys(f, kind):
    sigma = SIGMAS[kind]
    ours = curve_fit(f, X, Y, sigma=sigma, jac=rows if f is decay else rows_jnp, full_output=True)
    theirs = scipy.optimize.curve_fit(decay, X, Y, sigma=sigma, jac=rows, full_output=True)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-6)
    assert (ours[2]["nfev"], ours[2]["njev"]) == (theirs[2]["nfev"], theirs[2]["njev"])


@pytest.mark.parametrize("kind", ["none", "1-d", "2-d"])
def test_given_jacobian_may_be_a_list(kind):
    sigma = SIGMAS[kind]
    ours = curve_fit(decay, X, Y, sigma=sigma, jac=lambda *p: rows(*p).tolist())
    assert_scipys(ours, decay, X, Y, sigma=sigma, jac=rows)


def test_covariance_of_absolute_sigma_is_not_scaled_and_otherwise_scale_free():
    relative = [curve_fit(decay, X, Y, sigma=s * SIGMA)[1] for s in (1.0, 10.0)]
    absolute = [
        curve_fit(decay, X, Y, sigma=s * SIGMA, absolute_sigma=True)[1] for s in (1.0, 10.0)
    ]
    np.testing.assert_allclose(relative[0], relative[1], rtol=1e-6)
    np.testing.assert_allclose(100.0 * absolute[0], absolute[1], rtol=1e-6)


@both
@pytest.mark.parametrize("m", [2, 3, 49])
@pytest.mark.parametrize("shape", [(50,), (50, 1), (1, 50), (50, 50, 1), "square"])
def test_sigma_of_wrong_shape_raises(f, m, shape):
    if shape == (50,) or shape == "square":
        shape = (m,) if shape == (50,) else (m, m)
    with pytest.raises(ValueError, match="`sigma` has incorrect shape"):
        curve_fit(f, X, Y, sigma=np.ones(shape))


@both
def test_covariance_that_is_not_positive_definite_raises(f):
    for sigma in (-np.eye(50), np.ones((50, 50)) - np.eye(50)):
        with pytest.raises(ValueError, match="`sigma` must be positive definite"):
            curve_fit(f, X, Y, sigma=sigma)


@both
@pytest.mark.parametrize("bad", [0.0, -0.1, np.nan])
def test_sigma_that_is_not_positive_raises(f, bad):
    for sigma in (bad, np.where(X > 2.0, bad, 1.0)):
        with pytest.raises(ValueError, match="`sigma` must be positive"):
            curve_fit(f, X, Y, sigma=sigma)


# --- covariance that can't be estimated ---------------------------------------


@both
def test_as_many_data_as_parameters_gives_inf_and_warns(f):
    with pytest.warns(OptimizeWarning, match="Covariance of the parameters") as record:
        popt, pcov = curve_fit(f, X[[0, 20]], Y[[0, 20]])
    assert [w.filename for w in record] == [__file__]
    np.testing.assert_array_equal(pcov, np.full((2, 2), np.inf))
    np.testing.assert_allclose(decay(X[[0, 20]], *popt), Y[[0, 20]], rtol=1e-6)


def test_as_many_data_as_parameters_with_absolute_sigma_is_finite():
    some = np.array([0, 20])
    options = {"sigma": SIGMA[some], "absolute_sigma": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = curve_fit(decay, X[some], Y[some], **options)
    assert_scipys(ours, decay, X[some], Y[some], **options)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("absolute_sigma", [False, True])
def test_parameter_that_does_nothing_gives_inf_and_warns(xp, absolute_sigma):
    def idle(x, a, b):
        return a * xp.exp(-x) + 0.0 * b

    with pytest.warns(OptimizeWarning, match="Covariance of the parameters"):
        popt, pcov = curve_fit(idle, X, Y, absolute_sigma=absolute_sigma)
    np.testing.assert_array_equal(pcov, np.full((2, 2), np.inf))
    assert popt[1] == 1.0


def test_estimated_covariance_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve_fit(decay, X, Y)


@both
def test_fit_that_fails_raises_with_scipys_text(f):
    with pytest.raises(RuntimeError, match=r"Optimal parameters not found: .* maxfev = 4\."):
        curve_fit(f, X, Y, maxfev=4)
    with pytest.raises(RuntimeError) as theirs:
        scipy.optimize.curve_fit(decay, X, Y, maxfev=4)
    with pytest.raises(RuntimeError) as ours:
        curve_fit(f, X, Y, maxfev=4)
    assert str(ours.value).split() == str(theirs.value).split()


@both
def test_model_not_finite_at_the_start_raises(f):
    with pytest.raises(RuntimeError, match=r"Optimal parameters not found: .*NaN or an infinity"):
        curve_fit(f, X, Y, p0=(np.nan, 1.0))


# --- data ---------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("xdata", "ydata"),
    [(X.tolist(), Y.tolist()), (tuple(X), Y), (X, tuple(Y)), (X.astype("f4"), Y.astype("f4"))],
    ids=["lists", "tuple", "tuple-y", "float32"],
)
def test_data_of_all_types_become_float64(f, xdata, ydata):
    ours = curve_fit(f, xdata, ydata)
    x, y = np.asarray(xdata, float), np.asarray(ydata, float)
    assert_scipys(ours, decay, x, y, rtol=1e-5, jac=rows if f is decay_jnp else None)


@both
def test_jax_arrays_of_float32_become_float64(f):
    seen = []

    def noting(x, a, b):
        seen.append((type(x), x.dtype))
        return f(x, a, b)

    xdata, ydata = jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32)
    popt, pcov = curve_fit(noting, xdata, ydata)
    assert set(seen) == {(np.ndarray, np.dtype(np.float64))}
    x, y = np.asarray(xdata, float), np.asarray(ydata, float)
    assert_scipys((popt, pcov), decay, x, y, jac=rows if f is decay_jnp else None)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("kind", ["array", "tuple", "list", "3-d"])
def test_independent_variables_of_any_shape_are_passed_on(xp, kind):
    grid = np.stack([X, X[::-1]])
    xdata = {"array": grid, "tuple": tuple(grid), "list": grid.tolist(), "3-d": grid[None]}[kind]
    shapes = set()

    def plane(x, a, b):
        shapes.add(x.shape)
        u, v = x.reshape(2, 50)
        return a * xp.exp(-u) + b * xp.exp(-v)

    ydata = 2.0 * np.exp(-grid[0]) - 3.0 * np.exp(-grid[1]) + 0.01 * np.sin(9.0 * X)
    ours = curve_fit(plane, xdata, ydata)
    assert shapes == {(1, 2, 50) if kind == "3-d" else (2, 50)}
    np.testing.assert_allclose(ours[0], [2.0, -3.0], atol=0.02)
    numpy = scipy.optimize.curve_fit(
        lambda x, a, b: a * np.exp(-x[0]) + b * np.exp(-x[1]), grid, ydata
    )
    np.testing.assert_allclose(ours[0], numpy[0], rtol=1e-6)
    np.testing.assert_allclose(ours[1], numpy[1], rtol=1e-6, atol=1e-12)


class Data:
    def __init__(self, x):
        self.x = x


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("kind", ["dict", "object", "none"])
def test_other_independent_variables_are_passed_through_untouched(xp, kind):
    xdata, get = {
        "dict": ({"x": X}, lambda d: d["x"]),
        "object": (Data(X), lambda d: d.x),
        "none": (None, lambda d: X),
    }[kind]
    seen = []

    def f(data, a, b):
        seen.append(data)
        return a * xp.exp(-b * get(data))

    ours = curve_fit(f, xdata, Y)
    assert all(s is xdata for s in seen)
    np.testing.assert_allclose(ours[0], scipy.optimize.curve_fit(decay, X, Y)[0], rtol=1e-6)


@both
def test_empty_data_raise(f):
    with pytest.raises(ValueError, match="`ydata` must not be empty"):
        curve_fit(f, [], [])
    with pytest.raises(ValueError, match="`ydata` must not be empty"):
        curve_fit(f, X, [])


@both
@pytest.mark.parametrize("m", [49, 51, 3])
def test_data_of_different_lengths_raise(f, m):
    with pytest.raises(ValueError):
        curve_fit(f, X, np.ones(m))


@both
def test_fewer_data_than_parameters_raise(f):
    with pytest.raises(TypeError, match=r"func parameters=3 must not .* data points=2"):
        curve_fit(lambda x, a, b, c: f(x, a, b) + c, X[:2], Y[:2])


# --- NaN and infinity ---------------------------------------------------------


@both
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("check_finite", [None, True])
def test_data_not_finite_raise_and_name_which(f, bad, check_finite):
    wrong = np.where(X > 3.0, bad, X)
    count = np.count_nonzero(X > 3.0)
    for name, xdata, ydata in (("xdata", wrong, Y), ("ydata", X, wrong)):
        with pytest.raises(ValueError, match="must not contain infs or NaNs") as error:
            curve_fit(f, xdata, ydata, check_finite=check_finite)
        assert f"{name} has {count} of 50" in str(error.value)


@both
def test_unchecked_nan_fails_instead_of_fitting(f):
    with pytest.raises(RuntimeError, match="NaN or an infinity at the starting parameters"):
        curve_fit(f, X, np.where(X > 3.0, np.nan, Y), check_finite=False)


HOLES = np.isin(np.arange(50), [3, 17, 40])
KEEP = ~HOLES


def punctured():
    """Data with NaN in xdata and in ydata, each at other places."""
    x, y = X.copy(), Y.copy()
    x[3] = x[17] = y[17] = y[40] = np.nan
    return x, y


@both
def test_nan_policy_raise(f):
    x, y = punctured()
    for xdata, ydata in ((x, Y), (X, y)):
        with pytest.raises(ValueError, match="The input contains nan values"):
            curve_fit(f, xdata, ydata, nan_policy="raise")
    np.testing.assert_array_equal(curve_fit(f, X, Y, nan_policy="raise")[0], curve_fit(f, X, Y)[0])


@both
@all_sigmas
def test_nan_policy_omit_is_the_fit_without_them(f, sigma):
    x, y = punctured()
    kept = sigma
    if np.ndim(sigma) == 1 and len(sigma) == 50:
        kept = np.asarray(sigma)[KEEP]
    elif np.ndim(sigma) == 2:
        kept = sigma[np.ix_(KEEP, KEEP)]
    ours = curve_fit(f, x, y, sigma=sigma, nan_policy="omit")
    options = {"sigma": kept, "jac": rows if f is decay_jnp and np.ndim(kept) else None}
    assert_scipys(ours, decay, X[KEEP], Y[KEEP], rtol=1e-5, **options)


@pytest.mark.parametrize("kind", ["none", "1-d", "2-d"])
def test_nan_policy_omit_with_two_independent_variables(kind):
    sigma = SIGMAS[kind]
    kept = {"none": None, "1-d": SIGMA[KEEP], "2-d": COVARIANCE[np.ix_(KEEP, KEEP)]}[kind]
    grid = np.stack([X, X**2])
    holes = grid.copy()
    holes[0, 3] = holes[1, 17] = np.nan
    y = np.where(np.arange(50) == 40, np.nan, Y)

    def f(x, a, b):
        return a * np.exp(-b * x[0]) + 0.001 * x[1]

    ours = curve_fit(f, holes, y, sigma=sigma, nan_policy="omit")
    assert_scipys(ours, f, grid[:, KEEP], Y[KEEP], sigma=kept)


@both
def test_nan_policy_propagate_and_unknown_raise(f):
    with pytest.raises(ValueError, match=r"nan_policy='propagate'. is not supported"):
        curve_fit(f, X, Y, nan_policy="propagate")
    with pytest.raises(ValueError, match=r"nan_policy must be one of \{None, 'raise', 'omit'\}"):
        curve_fit(f, X, Y, nan_policy="hi")


def test_check_finite_goes_before_nan_policy():
    x, y = punctured()
    with pytest.raises(ValueError, match="must not contain infs or NaNs"):
        curve_fit(decay, x, y, check_finite=True, nan_policy="omit")


# --- what it refuses ----------------------------------------------------------


@both
@pytest.mark.parametrize(
    "bounds",
    [
        (-np.inf, np.inf),
        ([-np.inf, -np.inf], [np.inf, np.inf]),
        (-np.inf, [np.inf, np.inf]),
        (np.full(2, -np.inf), np.inf),
        [-np.inf, np.inf],
        scipy.optimize.Bounds(),
        scipy.optimize.Bounds(np.full(2, -np.inf), np.full(2, np.inf)),
    ],
)
@pytest.mark.parametrize("method", [None, "lm"])
def test_infinite_bounds_of_all_forms_are_fine(f, bounds, method):
    ours = curve_fit(f, X, Y, bounds=bounds, method=method)
    np.testing.assert_array_equal(ours[0], curve_fit(f, X, Y)[0])


@pytest.mark.parametrize(
    "bounds",
    [(0.0, np.inf), (-np.inf, 9.0), ([0.0, -np.inf], np.inf), scipy.optimize.Bounds(0.0, 9.0)],
)
def test_finite_bounds_with_lm_raise_as_in_scipy(bounds):
    with pytest.raises(ValueError, match="Method 'lm' only works for unconstrained problems"):
        curve_fit(decay, X, Y, bounds=bounds, method="lm")


def test_unknown_method_raises():
    with pytest.raises(ValueError, match="`method` must be 'trf', 'dogbox' or 'lm', got 'bfgs'"):
        curve_fit(decay, X, Y, method="bfgs")


def test_unknown_keyword_raises():
    with pytest.raises(TypeError, match="nonsense"):
        curve_fit(decay, X, Y, nonsense=1)


def test_args_keyword_raises():
    with pytest.raises(ValueError, match="'args' is not a supported keyword argument"):
        curve_fit(decay, X, Y, args=(1.0,))


@pytest.mark.parametrize("jac", ["central", 3])
def test_unknown_jac_raises(jac):
    with pytest.raises(TypeError, match="must be callable, None or one of"):
        curve_fit(decay, X, Y, jac=jac)


def test_jac_of_wrong_shape_raises():
    with pytest.raises(TypeError, match=r"Shape should be \(50, 2\) but it is \(2, 50\)"):
        curve_fit(decay, X, Y, jac=lambda *p: rows(*p).T)
