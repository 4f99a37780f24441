"""Guesses: how often they lead to the fit that the truth leads to, and data that are odd."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from benchmarks.model_guesses import CASES, reached
from jaxlsq import fit, models
from jaxlsq.models import Gaussian, Linear, Model

# Its corners are minima of their own.
CORNERS = {"Step(linear)": 0.85}
# One that is hard; the long test has all.
SOME = ("Sine",)


@pytest.mark.parametrize("name", SOME)
def test_guess_leads_where_the_truth_does(name):
    row = reached(name, 200, 0.05)
    assert row["reached"] >= CORNERS.get(name, 0.96)
    assert row["engine"] == "compiled lanes"


@pytest.mark.long
@pytest.mark.parametrize("noise", [0.05, 0.1])
@pytest.mark.parametrize("name", CASES)
def test_guess_leads_where_the_truth_does_in_many_draws(name, noise):
    row, least = reached(name, 1000, noise), 0.98 if noise == 0.05 else 0.95
    assert row["reached"] >= CORNERS.get(name, least)
    assert row["engine"] == "compiled lanes"


@pytest.mark.long_but("Gaussian")
@pytest.mark.parametrize("name", ["Gaussian", "Voigt", "Fano", "ExponentialGaussian", "Sine"])
def test_guess_leads_there_in_float32(name):
    assert reached(name, 200, 0.05, dtype="float32")["reached"] >= 0.96


def odd_data(x):
    """x and y that a guess may meet."""
    m = x.shape[-1]
    rng = np.random.default_rng(0)
    return {
        "zero": (x, np.zeros(m)),
        "constant": (x, np.full(m, 3.0)),
        "noise": (x, rng.normal(size=m)),
        "tiny": (x, 1e-30 * rng.normal(size=m)),
        "huge": (x, 1e30 * rng.normal(size=m)),
        "one": (x[..., :1], np.ones(1)),
        "two": (x[..., :2], np.array([1.0, 2.0])),
        "three": (x[..., :3], np.array([1.0, 3.0, -2.0])),
        "same x": (np.ones_like(x), rng.normal(size=m)),
        "one point": (np.ones_like(x), np.ones(m)),
        "negative": (x, -1.0 - rng.uniform(size=m)),
        "spike": (x, np.where(np.arange(m) == m // 2, 1.0, 0.0)),
    }


ODD = [(name, dtype) for name in CASES for dtype in ("float64", "float32")]


@pytest.mark.long_but("Exponential-float32")
@pytest.mark.parametrize(("name", "dtype"), ODD, ids=["-".join(pair) for pair in ODD])
def test_guess_of_odd_data_is_finite_and_within_bounds(name, dtype, x64):
    case = CASES[name]
    guess = jax.jit(case.model.guess)
    for what, (x, y) in odd_data(case.x).items():
        found = guess(jnp.asarray(x, dtype), jnp.asarray(y, dtype))
        assert set(found) == set(case.model.names)
        for key, value in found.items():
            assert value.dtype == dtype, what
            assert np.isfinite(value), (what, key)
            low, high = case.model.bounds.get(key, (None, None))
            assert low is None or value >= low, (what, key)
            assert high is None or value <= high, (what, key)


@pytest.mark.long_but("DampedSine")
@pytest.mark.parametrize("name", CASES)
def test_guess_has_the_models_order_and_no_care_for_that_of_points(name, x64):
    case = CASES[name]
    truth = case.draw(np.random.default_rng(2), 1)
    y = np.asarray(case.model(case.x, **{key: value[0] for key, value in truth.items()}))
    order = np.random.default_rng(3).permutation(y.size)
    first = case.model.guess(case.x, y)
    # A jitted function sorts the names.
    assert tuple(first) == case.model.names
    second = case.model.guess(case.x[..., order], y[order])
    values = [case.model(case.x, **found) for found in (first, second)]
    np.testing.assert_allclose(*values, atol=1e-6 * np.abs(y).max())


@pytest.mark.long
def test_points_that_repeat_the_last_one_weigh_nothing(x64):
    model, x = models.Gaussian(), np.linspace(0, 10, 60)
    y = np.asarray(model(x, 3.0, 4.0, 0.8)) + 0.01 * np.random.default_rng(0).normal(size=60)
    longer = (np.append(x, np.full(20, x[-1])), np.append(y, np.full(20, y[-1])))
    first, second = model.guess(x, y), model.guess(*longer)
    for name in model.names:
        assert float(first[name]) == pytest.approx(float(second[name]))


def test_a_fit_needs_no_start_and_knows_bounds_and_what_is_derived():
    x, height = np.linspace(0, 10, 80), np.array([1.0, 2.0, 5.0])
    y = height[:, None] * np.exp(-0.5 * ((x - 4.0) / 0.7) ** 2)
    result = fit(models.Gaussian(), x, y)
    assert result.names == ("amplitude", "center", "sigma")
    values, errors = result.derived()
    np.testing.assert_allclose(values["height"], height, rtol=1e-6)
    np.testing.assert_allclose(values["fwhm"], 0.7 * 2 * np.sqrt(2 * np.log(2)), rtol=1e-6)
    assert np.isfinite(errors["height"]).all()
    with pytest.raises(ValueError, match="outside"):
        fit(models.Gaussian(), x, y, p0={"amplitude": 1.0, "center": 1.0, "sigma": -1.0})


@pytest.mark.long_but("9-float64")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("count", [1, 9, 130])
def test_a_guess_does_not_depend_on_its_batch(count, dtype):
    """XLA sums in another order where there are fewer, if it is not kept from that."""
    rng = np.random.default_rng(0)
    x = np.linspace(0.1, 10.0, 60).astype(dtype)
    center, width = rng.uniform(3.0, 7.0, (300, 1)), rng.uniform(0.5, 2.0, (300, 1))
    y = 12.0 * np.exp(-0.5 * ((x - center) / width) ** 2) + 0.1 * rng.normal(size=(300, 60))
    y = y.astype(dtype)
    settings = {"max_nfev": 1, "polish": None}
    together = fit(models.Gaussian(), x, y, **settings)
    assert np.ptp(together.x[:, 0]) > 1.0
    some = rng.permutation(300)[:count]
    apart = fit(models.Gaussian(), x, y[some], **settings)
    np.testing.assert_array_equal(apart.x, together.x[some])


@pytest.mark.parametrize("name", ["Gaussian", "Linear", "Sine", "Constant"])
def test_a_guess_of_a_batch_says_how(name):
    x, y = np.linspace(0.0, 1.0, 9), np.ones((3, 9))
    with pytest.raises(ValueError, match=r"one data set.*vmap\(model.guess"):
        getattr(models, name)().guess(x, y)


@pytest.mark.long_but("alone")
@pytest.mark.parametrize(
    "make", [lambda: Gaussian("p_"), lambda: Gaussian("p_") + Linear()], ids=["alone", "sum"]
)
def test_a_guess_of_numbers_is_compiled_once(make, compiles):
    model, rng = make(), np.random.default_rng(0)
    x = np.linspace(0.0, 10.0, 60)
    y = 3.0 * np.exp(-0.5 * (x - 4.0) ** 2) + 0.3 * x + 0.01 * rng.normal(size=(3, 60))
    first = [model.guess(x, row) for row in y]
    before = compiles()
    again = [make().guess(series(x), series(row)) for row in y]
    assert compiles() == before
    assert first == again
    assert first[0] != first[1]
    traced = jax.jit(jax.vmap(model.guess, (None, 0)))(x, y)
    for name, values in traced.items():
        np.testing.assert_allclose(values, [one[name] for one in first], rtol=1e-4)
        assert all(isinstance(one[name], jax.Array) for one in first)


def test_a_guess_beside_a_function_that_has_changed():
    x, beside = np.linspace(0.0, 10.0, 60), np.zeros(60)

    def background(x, level=1.0):
        return level * jnp.asarray(beside)

    model = Model(background) + Linear()
    assert abs(model.guess(x, np.full(60, 2.0))["intercept"] - 2.0) < 1e-5
    beside[:] = np.exp(x)
    assert abs(model.guess(x, beside + 2.0)["intercept"] - 2.0) < 0.01


def series(values):
    return pd.Series(values, index=np.arange(values.size)[::-1])
