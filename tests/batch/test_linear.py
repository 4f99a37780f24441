"""`fit` with linear parameters eliminated: published answers, NIST's, and the fit of all."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import FitResult, Status, fit
from jaxlsq.datasets import load_nist
from jaxlsq.models import Gaussian, Linear, Model
from tests.decays import noise

# O'Leary and Rust, "Variable projection for nonlinear least squares problems" (2013): varpro.m.
OLEARY_T = np.array([0, 0.1, 0.22, 0.31, 0.46, 0.5, 0.63, 0.78, 0.85, 0.97])
OLEARY_Y = np.array(
    [6.9842, 5.1851, 2.8907, 1.4199, -0.2473, -0.5243, -1.0156, -1.0260, -0.9165, -0.6805]
)
OLEARY_WEIGHTS = np.array([1, 1, 1, 0.5, 0.5, 1, 0.5, 1, 0.5, 0.5])
# Osborne's first problem, MGH 17.
OSBORNE_Y = np.array(
    [0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685,
     0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448,
     0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406]
)  # fmt: skip
OSBORNE_T = 10.0 * np.arange(33)
T = np.linspace(0.0, 5.0, 60)


def olearys(t, a1, a2, a3, c1, c2):
    return c1 * jnp.exp(-a2 * t) * jnp.cos(a3 * t) + c2 * jnp.exp(-a1 * t) * jnp.cos(a2 * t)


def osbornes(t, c1, c2, c3, k1, k2):
    return c1 + c2 * jnp.exp(-k1 * t) + c3 * jnp.exp(-k2 * t)


def decays(t, a, b, k, offset):
    return a * jnp.exp(-k * t) + b * t + offset


def many(size, seed=0):
    rng = np.random.default_rng(seed)
    true = np.array([3.0, -0.2, 0.8, 0.5]) * rng.uniform(0.7, 1.4, (size, 4))
    y = np.stack([np.asarray(decays(T, *row)) for row in true])
    return y + 0.02 * noise(y.shape, seed)


@pytest.mark.long
def test_olearys_and_rusts_example():
    result = fit(
        olearys, OLEARY_T, OLEARY_Y, {"a1": 0.5, "a2": 2.0, "a3": 3.0},
        sigma=1 / OLEARY_WEIGHTS, linear=["c1", "c2"], ftol=1e-15, xtol=1e-12,
    )  # fmt: skip
    assert list(result.params) == ["a1", "a2", "a3", "c1", "c2"]
    expected = [1.01322644, 2.49686595, 4.06251053, 5.84164522, 1.14367589]
    np.testing.assert_allclose(result.x, expected, rtol=1e-8)
    np.testing.assert_allclose(np.sqrt(2 * result.cost), 0.00615798696, rtol=1e-8)
    errors = [0.0164, 0.00926, 0.0287, 0.0670, 0.0662]
    np.testing.assert_allclose(list(result.stderr.values()), errors, rtol=3e-3)
    assert result.success
    assert result.dof == 5
    assert result.nfev < 20


@pytest.mark.long
def test_osbornes_first_problem():
    start = {"k1": 0.01, "k2": 0.02}
    result = fit(osbornes, OSBORNE_T, OSBORNE_Y, start, linear=["c1", "c2", "c3"])
    expected = [0.3754100502, 1.9358466883, -1.4646869108, 0.0128675342, 0.0221227006]
    np.testing.assert_allclose(result.x, expected, rtol=1e-6)
    np.testing.assert_allclose(2 * result.cost, 5.4648946975e-5, rtol=1e-10)
    assert result.nfev <= 16


# The linear parameters of NIST's separable problems, by their numbers.
SEPARABLE = {
    "Misra1a": [0], "Gauss1": [0, 2, 5], "Gauss2": [0, 2, 5], "Gauss3": [0, 2, 5],
    "Lanczos1": [0, 2, 4], "Lanczos2": [0, 2, 4], "Lanczos3": [0, 2, 4], "MGH17": [0, 1, 2],
    "ENSO": [0, 1, 2, 4, 5, 7, 8], "BoxBOD": [0], "Thurber": [0, 1, 2, 3],
}  # fmt: skip


@pytest.mark.long_but("Misra1a-0", "MGH17-1", "BoxBOD-0", "Lanczos1-0")
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", SEPARABLE)
def test_nist(name, start):
    problem = load_nist(name)
    names = [f"b{j + 1}" for j in range(len(problem.starts[start]))]

    def model(x, **params):
        return problem.model(x, *(params[key] for key in names))

    linear = [names[j] for j in SEPARABLE[name]]
    p0 = dict(zip(names, problem.starts[start], strict=True))
    result = fit(model, problem.x, problem.y, p0, linear=linear, max_nfev=2000, ftol=1e-14)
    assert result.success
    found = result.x
    if (name, start) == ("MGH17", 0):  # with its two decays in the other order
        found = found[[0, 2, 1, 4, 3]]
    np.testing.assert_allclose(found, problem.params, rtol=1e-4 if name == "Lanczos1" else 2e-5)


@pytest.fixture(scope="module")
def together():
    return fit(decays, T, many(200), [1.0, 1.0, 0.5, 0.0], linear=["a", "b", "offset"])


def test_solutions_are_those_of_the_fit_of_all(together):
    whole = fit(decays, T, many(200), [3.0, -0.2, 0.8, 0.5])
    assert together.success.all()
    assert whole.success.all()
    np.testing.assert_allclose(together.x, whole.x, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(together.cost, whole.cost, rtol=1e-9)
    np.testing.assert_allclose(together.cov, whole.cov, rtol=2e-3, atol=1e-9)
    np.testing.assert_array_equal(together.dof, whole.dof)
    assert len(np.unique(together.nit)) > 2


def test_a_lane_is_the_fit_of_its_data_alone(together):
    y = many(200)
    for i in (0, 77):
        alone = fit(decays, T, y[i], [1.0, 1.0, 0.5, 0.0], linear=["a", "b", "offset"])
        np.testing.assert_allclose(alone.x, together.x[i], rtol=1e-12)
        assert alone.nfev == together.nfev[i]


def test_no_values_are_needed_for_linear_parameters(together):
    y = many(200)
    named = fit(decays, T, y, {"k": 0.5}, linear=["a", "b", "offset"])
    assert list(named.params) == ["a", "b", "k", "offset"]
    np.testing.assert_array_equal(named.x, together.x)
    far = fit(decays, T, y, [1e9, -1e-9, 0.5, 7.0], linear=["a", "b", "offset"])
    np.testing.assert_array_equal(far.x, together.x)


def test_bad_data_hurt_no_other_fit():
    y, mask = many(200), np.ones((200, T.size), bool)
    clean = fit(decays, T, y, {"k": 0.5}, mask=mask, linear=["a", "b", "offset"])
    y[3, 7], mask[5], mask[6, 3:] = np.nan, False, False
    result = fit(decays, T, y, {"k": 0.5}, mask=mask, linear=["a", "b", "offset"])
    expected = [Status.NONFINITE_DATA, Status.MASKED_OUT, Status.TOO_FEW_POINTS]
    assert result.status[[3, 5, 6]].tolist() == expected
    others = np.delete(np.arange(200), [3, 5, 6])
    np.testing.assert_array_equal(result.x[others], clean.x[others])
    assert np.isnan(result.x[5]).all()


def test_float32():
    y = many(200)
    narrow = fit(decays, T.astype("f4"), y.astype("f4"), {"k": 0.5}, linear=["a", "b", "offset"])
    wide = fit(decays, T, y, {"k": 0.5}, linear=["a", "b", "offset"])
    assert narrow.success.all()
    np.testing.assert_allclose(narrow.x, wide.x, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(narrow.cost, wide.cost, rtol=1e-3)


def test_what_the_basis_does_not_determine_is_singular():
    def twins(t, a, b, k):
        return a * jnp.exp(-k * t) + b * jnp.exp(-k * t)

    result = fit(twins, T, np.exp(-T) + 0.01 * noise(T.shape), {"k": 0.5}, linear=["a", "b"])
    assert result.status == Status.SINGULAR_JACOBIAN
    assert not result.success


def test_bounds_of_other_parameters_masks_and_ragged_data():
    y = many(20)
    mask = np.random.default_rng(1).random(y.shape) > 0.2
    bounds = {"k": (0.0, 0.75)}
    linear = ["a", "b", "offset"]
    result = fit(decays, T, y, {"k": 0.5}, mask=mask, bounds=bounds, linear=linear)
    whole = fit(decays, T, y, [3.0, -0.2, 0.7, 0.5], mask=mask, bounds=bounds)
    np.testing.assert_allclose(result.cost, whole.cost, rtol=1e-8)
    assert 0 < np.count_nonzero(result.active_mask[:, 2]) < 20
    np.testing.assert_array_equal(result.active_mask, whole.active_mask)
    ragged = fit(decays, [T[:40], T], [y[0, :40], y[1]], {"k": 0.5}, linear=linear)
    np.testing.assert_allclose(ragged.x[1], fit(decays, T, y[1], {"k": 0.5}, linear=linear).x)


@pytest.mark.long
def test_a_model_of_the_library():
    x = np.linspace(-5.0, 5.0, 100)
    model = Gaussian("p_") + Linear()
    y = np.asarray(model(x, 3.0, 0.5, 0.8, 0.1, 1.0)) + 0.02 * noise(x.shape)
    linear = ["p_amplitude", "slope", "intercept"]
    result = fit(model, x, y, linear=linear)
    whole = fit(model, x, y)
    np.testing.assert_allclose(result.x, whole.x, rtol=1e-5)


def test_results_answer_as_others_do(together, tmp_path):
    again = together.refit(where=np.ones(200, bool), xtol=1e-12, ftol=1e-14)
    assert (again.cost <= together.cost).all()
    one = together[3]
    np.testing.assert_allclose(one.predict(T), np.asarray(decays(T, *one.x)), atol=1e-6)
    np.testing.assert_allclose(one.cov, together.cov[3], rtol=1e-12)
    together.save(tmp_path / "linear.npz")
    loaded = FitResult.load(tmp_path / "linear.npz")
    np.testing.assert_array_equal(loaded.cov, together.cov)
    stored = fit(
        decays, T, many(200), [1.0, 1.0, 0.5, 0.0], linear=["a", "b", "offset"],
        out=tmp_path / "store",
    )  # fmt: skip
    np.testing.assert_array_equal(stored.load().x, together.x)
    with pytest.raises(ValueError, match="linear differ"):
        fit(decays, T, many(200), [1.0, 1.0, 0.5, 0.0], linear=["a"], out=tmp_path / "store")


def test_profiles_hold_linear_parameters_too(together):
    some = slice(0, 5)
    result = fit(decays, T, many(200)[some], {"k": 0.5}, linear=["a", "b", "offset"])
    whole = fit(decays, T, many(200)[some], [3.0, -0.2, 0.8, 0.5])
    expected = whole.interval(method="profile")
    np.testing.assert_allclose(result.interval(method="profile"), expected, rtol=1e-6, atol=1e-7)


WRONG = {
    "not linear": ({"linear": ["k"]}, ValueError, "the model's derivative by it depends on itself"),
    "a product": ({"linear": ["a", "s"]}, ValueError, "depends on 'a'"),
    "no name": ({"linear": "c"}, ValueError, "linear names 'c', but the parameters are"),
    "all": ({"linear": ["a", "k", "s"]}, ValueError, "linear names all parameters"),
    "loss": ({"linear": "a", "loss": "huber"}, ValueError, "linear needs least squares"),
    "jac": ({"linear": "a", "jac": "2-point"}, ValueError, "leave jac out"),
    "bounds": ({"linear": "a", "bounds": {"a": (0, 1)}}, ValueError, "has bounds or is fixed"),
    "fixed": ({"linear": "a", "fixed": "a"}, ValueError, "has bounds or is fixed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_has_no_answer_raises_before_anything_is_compiled(name, compiles):
    options, kind, message = WRONG[name]

    def model(t, a, k, s):
        return a * s * jnp.exp(-k * t)

    before = compiles()
    with pytest.raises(kind, match=message):
        fit(model, T, np.exp(-T), [1.0, 1.0, 1.0], **options)
    assert compiles() == before


def test_a_model_that_jax_cannot_trace_says_so():
    def model(t, a, k):
        return np.array([float(a) * np.exp(-float(k) * s) for s in t])

    with pytest.raises(TypeError, match="linear parameters"):
        fit(model, T, np.exp(-T), [1.0, 1.0], linear="a")


def test_polynomials_by_horners_scheme_are_linear():
    def model(t, c0, c1, c2, k):
        return jnp.polyval(jnp.stack([c0, c1, c2]), t) * jnp.exp(-k * t)

    y = np.asarray(model(T, 0.3, -1.0, 2.0, 0.4))
    result = fit(model, T, y, [1.0, 1.0, 1.0, 0.5], linear=["c0", "c1", "c2"])
    np.testing.assert_allclose(result.x, [0.3, -1.0, 2.0, 0.4], rtol=1e-6)


def test_a_model_is_not_asked_to_guess_what_is_linear():
    asked = []

    def guess(x, y):
        asked.append(x)
        return {"a": 1.0, "b": 0.0, "k": 0.7, "offset": 0.0}

    y, linear = many(3), ["a", "b", "offset"]
    result = fit(Model(decays, guess=guess), T, y, {"k": 1.0}, linear=linear)
    assert not asked
    assert result.names == ("a", "b", "k", "offset")
    np.testing.assert_array_equal(result.x, fit(decays, T, y, {"k": 1.0}, linear=linear).x)
    fit(Model(decays, guess=guess), T, y, {"a": 1.0}, linear=linear)  # k, which is not, is guessed
    assert asked
