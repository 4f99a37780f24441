"""A result answers for what was fitted, whatever becomes of the caller's data and model."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlsq
import jaxlsq.batch.kept
from jaxlsq import fit, least_squares_batch

T = np.linspace(0.1, 4.0, 30)
TRUTH = np.random.default_rng(0).uniform((1.0, 0.3), (3.0, 2.5), (6, 2))
CLEAN = TRUTH[:, :1] * np.exp(-TRUTH[:, 1:] * T)
NOISE = 0.02 * np.random.default_rng(1).normal(size=(6, 30))
P0 = [1.0, 1.0]

SCALE = 1.0
SHAPE = np.ones(30)
SETTINGS = {"scale": 1.0, "powers": [1.0, 1.0]}


class Plain:
    def __init__(self):
        self.scale = 1.0

    def model(self, t, a, k):
        return self.scale * a * jnp.exp(-k * t)

    def __call__(self, t, a, k):
        return self.scale * a * jnp.exp(-k * t)


PLAIN = Plain()


def model(t, a, k):
    return a * jnp.exp(-k * t)


def helper(t, k):
    return jnp.exp(-k * t * SCALE)


def answers(result):
    return {
        "residuals": np.asarray(result.residuals),
        "predict": np.asarray(result.predict()),
        "elsewhere": np.asarray(result.predict(np.array([0.5, 1.5]))),
        "stderr": np.asarray(result.stderr),
        "r2": result.r2,
        "band": np.asarray(result.band()),
        "refit": result.refit(where=np.ones(6, bool)).x,
    }


def expected():
    return answers(fit(model, T.copy(), CLEAN + NOISE, P0))


def assert_answers(result, right, names=None):
    mine = answers(result)
    for name in names or right:
        np.testing.assert_allclose(mine[name], right[name], rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.long_but("float32")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_data_that_are_changed_in_place(dtype):
    x, y, sigma = T.astype(dtype), (CLEAN + NOISE).astype(dtype), np.full(30, 0.02, dtype)
    mask = np.ones((6, 30), bool)
    options = {"sigma": sigma, "mask": mask, "bounds": (np.zeros(2), np.full(2, 9.0))}
    right = answers(fit(model, x.copy(), y.copy(), P0, **options))
    result = fit(model, x, y, P0, **options)
    y *= 7
    x *= 3
    sigma *= 5
    mask[:] = False
    options["bounds"][1][:] = 0.1
    assert_answers(result, right)


@pytest.mark.long
def test_masked_and_missing_data_that_are_changed_in_place():
    y = np.ma.array(CLEAN + NOISE, mask=np.zeros((6, 30), bool))
    y[:, 4] = np.ma.masked
    right = answers(fit(model, T, y.copy(), P0))
    result = fit(model, T, y, P0)
    y *= 7
    y.mask = True
    assert_answers(result, right)
    y, x = CLEAN + NOISE, T.copy()
    y[:, 4], x[7] = np.nan, np.nan
    right = answers(fit(model, x.copy(), y.copy(), P0, nan_policy="omit"))
    result = fit(model, x, y, P0, nan_policy="omit")
    y *= 7
    x *= 2
    assert_answers(result, right, ["residuals", "stderr", "r2", "refit"])


class Moving:
    """What a model reads besides its arguments, and what changes it."""

    def global_number(monkeypatch):
        def changed():
            monkeypatch.setitem(globals(), "SCALE", 3.0)

        return (lambda t, a, k: SCALE * a * jnp.exp(-k * t)), changed

    def global_array(monkeypatch):
        monkeypatch.setitem(globals(), "SHAPE", np.ones(()))
        shape = SHAPE

        def changed():
            shape[...] = 4.0

        return (lambda t, a, k: SHAPE * a * jnp.exp(-k * t)), changed

    def global_of_a_helper(monkeypatch):
        def changed():
            monkeypatch.setitem(globals(), "SCALE", 3.0)

        return (lambda t, a, k: a * helper(t, k)), changed

    def a_helper(monkeypatch):
        def changed():
            monkeypatch.setitem(globals(), "helper", lambda t, k: 0.0 * t)

        return (lambda t, a, k: a * helper(t, k)), changed

    def settings(monkeypatch):
        monkeypatch.setitem(globals(), "SETTINGS", {"scale": 1.0, "powers": [1.0]})

        def changed():
            SETTINGS["scale"] = 2.0
            SETTINGS["powers"][0] = 2.0

        return (
            lambda t, a, k: SETTINGS["scale"] * a * jnp.exp(-k * t) ** SETTINGS["powers"][0]
        ), changed

    def closure(monkeypatch):
        scale, shape = 1.0, np.ones(())

        def changed():
            nonlocal scale
            scale = 3.0
            shape[...] = 2.0

        return (lambda t, a, k: scale * shape * a * jnp.exp(-k * t)), changed

    def closure_of_itself(monkeypatch):
        scale = 1.0

        def power(t, a, k, times=1):
            return power(t, a, k, times - 1) if times else scale * a * jnp.exp(-k * t)

        def changed():
            nonlocal scale
            scale = 3.0

        return (lambda t, a, k: power(t, a, k)), changed

    def method(monkeypatch):
        plain = Plain()
        return plain.model, lambda: setattr(plain, "scale", 2.0)

    def callable_object(monkeypatch):
        plain = Plain()
        return plain, lambda: setattr(plain, "scale", 2.0)

    def global_object(monkeypatch):
        monkeypatch.setitem(globals(), "PLAIN", Plain())
        plain = PLAIN
        return (lambda t, a, k: PLAIN.model(t, a, k)), lambda: setattr(plain, "scale", 2.0)

    def compiled(monkeypatch):
        def changed():
            monkeypatch.setitem(globals(), "SCALE", 3.0)

        return jax.jit(lambda t, a, k: SCALE * a * jnp.exp(-k * t)), changed

    def part(monkeypatch):
        shape = np.ones(())

        def changed():
            shape[...] = 2.0

        return partial(lambda t, a, k, by: by * a * jnp.exp(-k * t), by=shape), changed


CASES = {name: case for name, case in vars(Moving).items() if not name.startswith("_")}


@pytest.mark.parametrize("number", [np.float64(1), np.int32(1)])
def test_a_number_that_is_an_array_is_changed(number):
    """It stands in the equations of a trace, which is remembered by what it was."""

    def scaled(scale):
        return lambda t, a, k: scale * a * jnp.exp(-k * t) ** scale

    right = expected()
    jaxlsq.clear_cache()
    scale = np.array(number)
    result = fit(scaled(scale), T, CLEAN + NOISE, P0)
    scale[...] = 4
    assert_answers(result, right)
    assert_answers(fit(scaled(np.array(number)), T, CLEAN + NOISE, P0), right)


@pytest.mark.long_but(
    "global_array",
    "a_helper",
    "settings",
    "closure",
    "closure_of_itself",
    "method",
    "callable_object",
    "global_object",
    "compiled",
    "part",
)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_a_model_reads_is_changed(monkeypatch, case):
    moving, change = case(monkeypatch)
    result = fit(moving, T, CLEAN + NOISE, P0)
    change()
    assert_answers(result, expected())


def test_a_global_of_a_residual_is_changed(monkeypatch):
    def residual(p, y):
        return SCALE * p[0] * jnp.exp(-p[1] * T) - y

    result = least_squares_batch(residual, P0, CLEAN + NOISE)
    before = result.residuals, result.stderr
    fresh = least_squares_batch(residual, P0, CLEAN + NOISE)
    monkeypatch.setitem(globals(), "SCALE", 5.0)
    np.testing.assert_array_equal(fresh.residuals, before[0])
    np.testing.assert_array_equal(fresh.stderr, before[1])


@pytest.fixture
def all_is_large(monkeypatch):
    monkeypatch.setattr(jaxlsq.batch.kept, "COPIED_BYTES", 0)


def ask(result, name):
    return {
        "residuals": lambda: result.residuals,
        "cov": lambda: result[2].cov,
        "predict": lambda: result.predict(),
        "r2": lambda: result.r2,
        "refit": lambda: result.refit(where=np.ones(6, bool)),
    }[name]()


@pytest.mark.parametrize("question", ["residuals", "cov", "predict", "r2", "refit"])
@pytest.mark.parametrize("name", ["ydata", "xdata", "sigma", "model"])
def test_large_data_that_are_changed_in_place_are_noticed(all_is_large, name, question):
    shape = np.ones(30)
    arrays = {"xdata": T.copy(), "ydata": CLEAN + NOISE, "sigma": np.full((6, 30), 0.1)}
    result = fit(lambda t, a, k: shape * model(t, a, k), *list(arrays.values())[:2], P0,
                 sigma=arrays["sigma"])  # fmt: skip
    ask(result, question)
    changed = arrays.get(name, shape)
    changed *= 8
    named = name if name in arrays else "an array that the model reads"
    fresh = fit(model, T, CLEAN, P0)
    fresh.residuals  # noqa: B018 - others go on
    with pytest.raises(RuntimeError, match=f"{named} has changed since the fit"):
        ask(result, question)
    changed /= 8
    ask(result, question)


def test_a_memmap_that_is_written_to(all_is_large, tmp_path):
    y = np.memmap(tmp_path / "y", np.float64, "w+", shape=(6, 30))
    y[:] = CLEAN + NOISE
    result = fit(model, T, y, P0)
    before = result.residuals
    np.testing.assert_array_equal(result.residuals, before)
    y *= 2
    with pytest.raises(RuntimeError, match="ydata has changed"):
        result.predict()
    y /= 2
    result.predict()


def test_a_jax_array_that_shares_memory_with_one_of_numpy():
    y = CLEAN + NOISE
    with jax.enable_x64(True):
        shared = jnp.asarray(y)
    result = fit(model, T, shared, P0)
    y *= 7
    assert_answers(result, expected())


def test_what_a_model_refers_to_may_be_large_and_hold_itself(monkeypatch):
    many = {"scale": 1.0, "list": list(range(1_000_000))}
    many["self"] = many
    many["tree"] = [[many], (many["list"],)]
    monkeypatch.setitem(globals(), "SETTINGS", many)
    result = fit(lambda t, a, k: SETTINGS["scale"] * model(t, a, k), T, CLEAN + NOISE, P0)
    many["scale"] = 3.0
    assert_answers(result, expected(), ["predict", "residuals", "stderr"])


def test_small_data_of_a_file_that_is_closed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["y"], file["x"] = CLEAN + NOISE, np.broadcast_to(T, (6, 30))
        result = fit(model, file["x"], file["y"], P0)
        file["y"][...] = 3.0
    assert_answers(result, expected(), ["residuals", "predict", "stderr", "r2", "refit"])


def test_a_data_array_that_is_changed_in_place():
    xarray = pytest.importorskip("xarray")
    y = xarray.DataArray(CLEAN + NOISE, dims=("spectrum", "t"), coords={"t": T.copy()})
    result = fit(model, y.t, y, P0)
    y *= 7
    assert_answers(result, expected())


def test_a_file_that_is_written_to(all_is_large, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["y"] = CLEAN + NOISE
        result = fit(model, T, file["y"], P0)
        before = result.residuals
        np.testing.assert_array_equal(result.residuals, before)
        file["y"][...] = 3.0
        with pytest.raises(RuntimeError, match="ydata has changed"):
            result.residuals  # noqa: B018


def test_the_callers_arrays_stay_as_they_are():
    x, y = T.copy(), CLEAN + NOISE
    fit(model, x, y, P0).stderr  # noqa: B018
    np.testing.assert_array_equal(x, T)
    np.testing.assert_array_equal(y, CLEAN + NOISE)
    assert x.flags.writeable
    assert y.flags.writeable
