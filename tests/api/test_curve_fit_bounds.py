"""`curve_fit` with bounds: SciPy's documented examples, covariances, codes and errors."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxlsq import OptimizeWarning, curve_fit

X = np.linspace(0, 4, 50)


def func(x, a, b, c):
    return a * np.exp(-b * x) + c


def traced(x, a, b, c):
    return a * jnp.exp(-b * x) + c


# The data of SciPy's documentation.
Y = func(X, 2.5, 1.3, 0.5) + 0.2 * np.random.RandomState(1729).normal(size=X.size)
both = pytest.mark.parametrize("f", [func, traced], ids=["numpy", "jax"])
TIGHT = {"ftol": 1e-13, "xtol": 1e-13}


@both
@pytest.mark.parametrize(
    "options",
    [
        {"bounds": (0, [3.0, 1.0, 0.5])},  # the example in SciPy's documentation
        {"bounds": ([0, 0, 0], [3.0, 1.0, 0.5]), "method": "dogbox"},
        {"bounds": ([0, 1.2, 0.1], np.inf), "p0": [1, 1.2, 0.5]},  # starts on a bound
        {"bounds": (-np.inf, [np.inf, 1.0, np.inf]), "p0": [1, 0.5, 1]},
        {"bounds": scipy.optimize.Bounds(0, [3.0, 1.0, 0.5]), "sigma": np.full(50, 2.0)},
        {"bounds": (0, 9), "sigma": 0.04 * np.eye(50) + 0.01, "absolute_sigma": True},
        {"method": "trf"},
        {"method": "trf", "x_scale": [1.0, 0.1, 2.0]},
        {
            "bounds": (0, 9),
            "jac": lambda x, a, b, c: np.stack(
                [np.exp(-b * x), -a * x * np.exp(-b * x), np.ones_like(x)], axis=1
            ),
        },
        {"bounds": (0, 9), "jac": "3-point"},
    ],
    ids=lambda v: ",".join(v),
)
def test_parameters_and_covariances_are_scipys(f, options):
    if f is traced and callable(options.get("jac")):
        options = options | {
            "jac": lambda x, a, b, c: jnp.stack(
                [jnp.exp(-b * x), -a * x * jnp.exp(-b * x), jnp.ones_like(x)], axis=1
            )
        }
        given = options | {"jac": None}
    else:
        given = options
    popt, pcov, info, message, ier = curve_fit(f, X, Y, **options, **TIGHT, full_output=True)
    given = given | {"method": "trf", "max_nfev": 5000}  # dogbox does not come to an end here
    expected = scipy.optimize.curve_fit(func, X, Y, **given, ftol=1e-10, xtol=1e-10, gtol=1e-10)
    np.testing.assert_allclose(popt, expected[0], rtol=3e-6)
    np.testing.assert_allclose(pcov, expected[1], rtol=1e-4)
    np.testing.assert_allclose(info["fvec"].shape, (50,))
    assert info["nfev"] > 0
    assert ier in (1, 2, 3, 4)
    assert "termination condition" in message


@both
def test_the_example_of_the_documentation(f):
    popt, _ = curve_fit(f, X, Y, bounds=(0, [3.0, 1.0, 0.5]))
    np.testing.assert_allclose(popt, [2.43708906, 1.0, 0.35015434], rtol=1e-5)
    assert popt[1] == 1.0


@both
def test_starts_are_scipys_where_none_is_given(f):
    """The middle, one from the only end, or one: seen where a single evaluation is allowed."""
    seen = []

    def spy(x, a, b, c):
        if not seen and not hasattr(a, "aval"):
            seen.append((float(a), float(b), float(c)))
        return f(x, a, b, c) if f is func else func(x, a, b, c)

    curve_fit(spy, X, Y, bounds=([0, 0.5, -np.inf], [4, np.inf, 3.0]))
    assert seen == [(2.0, 1.5, 2.0)]


@both
def test_equal_bounds_fix(f):
    popt, pcov = curve_fit(f, X, Y, bounds=([0, 1.3, 0], [9, 1.3, 9]))
    rest = scipy.optimize.curve_fit(lambda x, a, c: func(x, a, 1.3, c), X, Y)
    np.testing.assert_allclose(popt, [rest[0][0], 1.3, rest[0][1]], rtol=1e-6)
    np.testing.assert_allclose(pcov[np.ix_([0, 2], [0, 2])], rest[1], rtol=1e-5)
    assert np.all(pcov[1] == 0)


def test_fewer_points_than_parameters():
    """SciPy allows it with bounds, and warns."""
    with pytest.warns(OptimizeWarning):
        popt, pcov = curve_fit(func, X[:2], Y[:2], bounds=(0, 9))
    assert np.all(pcov == np.inf)
    assert np.all((popt >= 0) & (popt <= 9))


def test_the_function_is_never_called_outside():
    visited = []

    def careful(x, a, b, c):
        visited.append((float(a), float(b), float(c)))
        return func(x, a, b, c)

    lower, upper = np.array([0, 0, 0.2]), np.array([3.0, 1.0, 0.5])
    for jac in (None, "2-point", "3-point"):
        curve_fit(careful, X, Y, bounds=(lower, upper), p0=[3.0, 1.0, 0.2], jac=jac)
    points = np.array(visited)
    assert np.all((points >= lower) & (points <= upper))
    assert len(points) > 20


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"bounds": (0,)}, ValueError, "`bounds` must contain 2 elements"),
        ({"bounds": ([2, 0, 0], 1)}, ValueError, "Each lower bound must be"),
        ({"bounds": (0, np.nan)}, ValueError, "Each lower bound must be"),
        ({"bounds": ([0, 0], 1)}, ValueError, "Inconsistent shapes between bounds"),
        ({"bounds": (0, 1), "p0": [2, 0.5, 0.5]}, ValueError, "`p0` is infeasible"),
        ({"bounds": (0, 1), "method": "lm"}, ValueError, "'lm' only works for unconstrained"),
        ({"bounds": (0, 1), "loss": "foo"}, ValueError, "`loss` must be one of"),
        ({"bounds": (0, 1), "foo": 1}, TypeError, "foo"),
        ({"bounds": (0, 1), "jac": "magic"}, ValueError, "jac must be"),
        ({"bounds": (0, 9), "max_nfev": 2}, RuntimeError, "Optimal parameters not found"),
        ({"bounds": (0, 9), "maxfev": 2}, RuntimeError, "Optimal parameters not found"),
        ({"method": "nope"}, ValueError, "`method` must be"),
    ],
    ids=str,
)
def test_errors_are_of_scipys_types(options, error, text):
    with pytest.raises(error, match=text):
        curve_fit(func, X, Y, **options)
    with pytest.raises((error, ValueError)):
        scipy.optimize.curve_fit(func, X, Y, **options)


def test_a_new_bound_compiles_nothing(compiles):
    curve_fit(traced, X, Y, bounds=(0, [3.0, 1.0, 0.5]))
    curve_fit(func, X, Y, bounds=(0, [3.0, 1.0, 0.5]))
    before = compiles()
    curve_fit(traced, X, Y + 0.1, bounds=(0, [3.0, 1.2, 0.6]))
    curve_fit(func, X, Y + 0.1, bounds=(0, [3.0, 1.2, 0.6]))
    assert compiles() == before


@both
def test_a_box_narrower_than_the_step_of_a_difference(f):
    """MINPACK's step from zero is 1.5e-8, and times in seconds have bounds that are nearer."""
    y = func(X, 2.0, 0.7, 0.5)

    def model(x, a, tau, c):
        return f(x, a, 1e9 * tau, c)

    options = {"p0": [1.0, 0.0, 0.4], "bounds": ([0, 0, 0], [9, 5e-9, 9]), "jac": "2-point"}
    popt, _ = curve_fit(model, X, y, **options)
    np.testing.assert_allclose(popt, [2.0, 0.7e-9, 0.5], rtol=1e-6)
