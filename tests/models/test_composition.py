"""Models that are made of models: their values, names, guesses, ties and responses."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from jaxlsq import FitResult, Status, curve_fit, fit
from jaxlsq.models import (
    Constant,
    Exponential,
    Gaussian,
    Gaussian2D,
    Linear,
    Lorentzian,
    Model,
    RotatedGaussian2D,
    Sine,
    Spot3D,
)

X = np.linspace(0.0, 20.0, 201)


def same_cost(model, truth, noise, **options):
    """The part of the fits without a start whose cost is that from the truth, or below."""
    with jax.enable_x64(True):
        clean = np.asarray(jax.vmap(lambda p: model(X, **p))(truth))
    errors = np.random.default_rng(5).normal(size=clean.shape)
    y = clean + noise * np.ptp(clean, axis=1, keepdims=True) * errors
    costs = [fit(model, X, y, p0=p0, **options).cost for p0 in (None, truth)]
    return np.mean(costs[0] <= costs[1] * (1 + 1e-4))


def draws(count, **ranges):
    """Uniform truths."""
    rng = np.random.default_rng(4)
    return {name: rng.uniform(*pair, count) for name, pair in ranges.items()}


def test_arithmetic_is_that_of_values(x64):
    peak, line = Gaussian("p_"), Linear()
    a, b = (2.0, 9.0, 1.5), (0.3, 1.0)
    f, g = np.asarray(peak(X, *a)), np.asarray(line(X, *b))
    for model, expected in (
        (peak + line, f + g),
        (peak - line, f - g),
        (peak * line, f * g),
        (peak / line, f / g),
        (line - (peak - Constant("c_")), None),
    ):
        if expected is not None:
            assert model.names == peak.names + line.names
            np.testing.assert_allclose(model(X, *a, *b), expected, rtol=1e-14)
    nested = line - (peak - Constant("c_"))
    np.testing.assert_allclose(nested(X, *b, *a, 0.7), g - f + 0.7, rtol=1e-13)


def test_a_sum_has_components_bounds_derived_and_units(x64):
    model = Gaussian("p1_") + Gaussian("p2_") - Linear()
    params = dict(zip(model.names, (2.0, 5.0, 1.0, 3.0, 12.0, 1.5, 0.1, 0.2), strict=True))
    parts = model.components(X, **params)
    assert list(parts) == ["p1_", "p2_", "linear"]
    np.testing.assert_allclose(sum(parts.values()), model(X, **params), rtol=1e-13)
    np.testing.assert_allclose(parts["linear"], -(0.1 * X + 0.2))
    assert set(model.bounds) == {"p1_sigma", "p2_sigma"}
    assert model.units["p2_amplitude"] == "x*y"
    assert set(model.derived(params)) == {"p1_fwhm", "p1_height", "p2_fwhm", "p2_height"}


def test_names_that_clash_are_refused():
    with pytest.raises(ValueError, match=r"prefixes, such as Gaussian\('p1_'\)"):
        Gaussian() + Lorentzian()
    with pytest.raises(ValueError, match="begin a name"):
        Gaussian("1 ")
    with pytest.raises(TypeError, match="prefix must be a string"):
        Gaussian(3)
    with pytest.raises(TypeError):
        Gaussian() + 3


def test_wrong_parameters_are_refused():
    model = Gaussian()
    for params, named in (((1, 2), {}), ((1, 2, 3, 4), {}), ((1, 2), {"center": 3})):
        with pytest.raises(TypeError, match="gaussian takes the parameters"):
            model(X, *params, **named)
    with pytest.raises(ValueError, match="bounds names 'd'"):
        Model(lambda x, a: a * x, bounds={"d": (0, 1)})
    with pytest.raises(TypeError, match="one argument for each parameter"):
        Model(lambda x, *params: x)
    with pytest.raises(TypeError, match="must be callable"):
        Model(3)


def test_what_comes_by_keyword_alone_is_an_option():
    def bent(x, a, b, *, power=2.0):
        return a * x + b * x**power

    model = Model(bent)
    assert model.names == ("a", "b")
    np.testing.assert_allclose(fit(model, X, 3.0 * X + 0.5 * X**2, [1.0, 1.0]).x, [3.0, 0.5])
    with pytest.raises(TypeError, match=r"one argument for each parameter, got \(x, a, \*, b\)"):
        Model(lambda x, a, *, b: a * x + b)


def test_plain_functions_become_models():
    def bent(x, height=2.0, rate=1.0):
        return height * np.exp(-rate * x)  # NumPy's

    model = Model(bent, bounds={"rate": (0.0, None)}, derived=lambda p: {"life": 1 / p["rate"]})
    assert {k: float(v) for k, v in model.guess(X, X).items()} == {"height": 2.0, "rate": 1.0}
    assert Model(lambda x, a: a * x).guess is None
    both = Gaussian() + model
    truth = {"amplitude": 5.0, "center": 9.0, "sigma": 1.0, "height": 3.0, "rate": 0.5}
    y = np.asarray(both(X, **truth))
    result = fit(both, X, y)
    for name, value in truth.items():
        assert float(result.params[name]) == pytest.approx(value, rel=1e-4)
    assert float(result.derived()[0]["life"]) == pytest.approx(2.0, rel=1e-4)
    assert (Gaussian() + bent).names == both.names


def test_models_are_equal_by_value_and_can_be_pickled():
    first, second = (Gaussian("p_") + Linear() for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != Gaussian("q_") + Linear()
    model = pickle.loads(pickle.dumps(first.tied(slope="intercept")))
    assert model == second.tied(slope="intercept")


@pytest.mark.long
@pytest.mark.parametrize("make", [Gaussian, Lorentzian])
def test_guess_of_two_separated_peaks_on_a_line(make):
    model = make("p1_") + make("p2_") + Linear()
    truth = draws(
        150,
        p1_amplitude=(1, 4),
        p1_center=(4, 7),
        p1_sigma=(0.4, 0.8),
        p2_amplitude=(1, 4),
        p2_center=(11, 16),
        p2_sigma=(0.4, 0.8),
        slope=(-0.1, 0.1),
        intercept=(-1, 1),
    )
    assert same_cost(model, truth, 0.05) >= 0.98


@pytest.mark.long
def test_guess_of_two_peaks_that_overlap():
    truth = draws(
        150, p1_amplitude=(1, 4), p1_center=(6, 8), p1_sigma=(0.5, 0.8), p2_amplitude=(1, 4)
    )
    truth["p2_sigma"] = truth["p1_sigma"] * 1.1
    truth["p2_center"] = truth["p1_center"] + 3.0 * truth["p1_sigma"]
    assert same_cost(Gaussian("p1_") + Gaussian("p2_"), truth, 0.05) >= 0.9


@pytest.mark.long
def test_guess_of_a_peak_on_a_decay():
    truth = draws(
        150,
        amplitude=(1, 4),
        center=(4, 16),
        sigma=(0.3, 1),
        e_amplitude=(1, 4),
        e_decay=(2, 8),
        c=(-1, 1),
    )
    assert same_cost(Gaussian() + Exponential("e_") + Constant(), truth, 0.05) >= 0.98


@pytest.mark.long
def test_guess_of_two_waves():
    truth = draws(
        150,
        a_amplitude=(1, 4),
        a_frequency=(1, 3),
        a_shift=(-3, 3),
        b_amplitude=(1, 4),
        b_frequency=(4, 8),
        b_shift=(-3, 3),
    )
    assert same_cost(Sine("a_") + Sine("b_"), truth, 0.05) >= 0.98


@pytest.mark.long
def test_peaks_of_a_kind_come_in_the_order_of_their_centers(x64):
    model = Gaussian("p1_") + Gaussian("p2_")
    y = model(X, 5.0, 15.0, 0.8, 2.0, 5.0, 0.8)
    guess = model.guess(X, y)
    assert float(guess["p1_center"]) == pytest.approx(5.0, abs=0.5)
    assert float(guess["p2_center"]) == pytest.approx(15.0, abs=0.5)


@pytest.mark.long_but("given")
@pytest.mark.parametrize("start", [(2.5, 5.2, 0.9, 2.2), None], ids=["given", "guessed"])
def test_ties_are_followed(start):
    two = Gaussian("p1_") + Gaussian("p2_")
    model = two.tied(p2_sigma="p1_sigma", p2_center=lambda p: p["p1_center"] + 6.0)
    assert model.names == ("p1_amplitude", "p1_center", "p1_sigma", "p2_amplitude")
    y = np.asarray(two(X, 3.0, 5.0, 1.0, 2.0, 11.0, 1.0))
    result = fit(model, X, y, start and dict(zip(model.names, start, strict=True)))
    np.testing.assert_allclose(result.x, [3.0, 5.0, 1.0, 2.0], rtol=1e-4)
    assert set(result.derived()[0]) == {"p1_fwhm", "p1_height", "p2_fwhm", "p2_height"}
    assert list(model.components(X, **result.params)) == ["p1_", "p2_"]
    for ties, error, match in (
        ({"p3_sigma": "p1_sigma"}, ValueError, "names 'p3_sigma'"),
        ({"p2_sigma": "p2_sigma"}, ValueError, "none of the parameters"),
        ({"p2_sigma": 1.0}, TypeError, "fixed="),
        (dict.fromkeys(two.names, lambda p: 1.0), ValueError, "keep one"),
    ):
        with pytest.raises(error, match=match):
            two.tied(**ties)
    chained = two.tied(p2_sigma="p1_sigma", p2_center=lambda p: p["p2_sigma"])
    with pytest.raises(KeyError, match="'p2_sigma', which is none of the parameters left"):
        chained(X, 1.0, 2.0, 3.0, 4.0)


def test_no_parameter_is_called_as_the_first_argument_is():
    def scaled(t, x):
        return t * x

    with pytest.raises(ValueError, match="can't be called 'x'"):
        Model(scaled)
    np.testing.assert_allclose(Model(scaled, names=("x0",))(X, x0=2.0), 2.0 * X)


def test_a_response_is_a_causal_convolution(x64):
    response = np.exp(-0.5 * ((np.arange(40) - 12) / 4) ** 2)
    model = Exponential().convolved(response) + Constant()
    expected = np.convolve(2.0 * np.exp(-X / 3.0), response / response.sum())[: X.size] + 0.5
    np.testing.assert_allclose(model(X, 2.0, 3.0, 0.5), expected, rtol=1e-12)
    short = jnp.asarray(X[:10])  # fewer points than the response has
    np.testing.assert_allclose(model(short, 2.0, 3.0, 0.5), expected[:10], rtol=1e-12)
    whole = (Exponential() + Constant()).convolved(response)
    parts = sum(
        np.convolve(v, response / response.sum())[: X.size]
        for v in (2.0 * np.exp(-X / 3.0), np.full(X.size, 0.5))
    )
    np.testing.assert_allclose(whole(X, 2.0, 3.0, 0.5), parts, rtol=1e-12)
    for wrong in ([], [np.nan, 1.0], [1.0, -1.0], np.ones((2, 2))):
        with pytest.raises(ValueError, match="response must be"):
            Exponential().convolved(wrong)


@pytest.mark.long
@pytest.mark.parametrize("is_tied", [False, True])
def test_a_response_keeps_its_grid_wherever_the_model_is_asked(is_tied):
    response = np.exp(-0.5 * ((np.arange(40) - 12) / 4) ** 2)
    taps = response / response.sum()
    curve = np.convolve(2.0 * np.exp(-X / 1.5), taps)[: X.size]
    places = [X[::3], X[20:60], X[::-1], np.array([-1.0, X[0], X[7]])]
    values = [curve[::3], curve[20:60], curve[::-1], curve[[0, 0, 7]] * [0.0, 1.0, 1.0]]
    model = Exponential().convolved(response) + Constant()
    if is_tied:
        model = model.tied(c=lambda p: 0.25 * p["amplitude"])
    result = fit(model, X, curve + 0.5)
    np.testing.assert_allclose(result.predict(), curve + 0.5, rtol=1e-10)
    for x, expected in zip(places, values, strict=True):
        np.testing.assert_allclose(result.predict(x), expected + 0.5, rtol=1e-10)
        parts = result.components(x)
        np.testing.assert_allclose(parts["exponential"], expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(result.band(X[::3]), result.band()[::3], rtol=1e-6, atol=1e-14)


@pytest.mark.long
def test_each_data_set_has_a_grid_of_its_own_and_its_length():
    response = np.exp(-0.5 * ((np.arange(40) - 12) / 4) ** 2)
    model = Exponential().convolved(response) + Constant()
    curve = np.convolve(2.0 * np.exp(-X / 1.5), response / response.sum())[: X.size]
    grids = [X, 2.0 * X + 5.0, X[:50]]
    several = fit(model, grids, [curve, curve, curve[:50]])
    for number, grid in enumerate(grids):
        at = several.predict(grid[1:40:4])[number]
        np.testing.assert_allclose(at, curve[1:40:4], rtol=1e-8)


def test_a_response_needs_a_grid():
    model = Exponential().convolved([0.5, 0.5])
    for wrong in (X[::-1], X**2, np.zeros(5)):
        with pytest.raises(ValueError, match="must rise in equal steps"):
            model(wrong, 2.0, 1.5)
    for wrong in (3.0, np.ones((2, 5))):
        with pytest.raises(ValueError, match=r"must be the \(m,\) grid"):
            model(wrong, 2.0, 1.5)
    rounded = np.round(X, 2) + 2458000.0
    assert np.all(np.isfinite(model(rounded, 2.0, 1.5)))
    result = fit(model, X[::-1], np.exp(-X))
    assert result.status == Status.NONFINITE_START


def test_models_of_numpy_are_float64_whatever_jax_is_set_to():
    x = 2458000.5 + np.linspace(0.0, 1.0, 101)
    model = Gaussian() + Constant()
    truth = {"amplitude": 0.4, "center": 2458001.0, "sigma": 0.05, "c": 1.0}
    curve = norm.pdf(x, 2458001.0, 0.05) * 0.4 + 1.0
    assert not jax.config.jax_enable_x64
    values = model(x, **truth)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, curve, rtol=1e-9)
    assert model(x.astype(np.float32), **truth).dtype == np.float32
    result = fit(model, x, curve, xtol=1e-15)
    np.testing.assert_allclose(sum(result.components(x).values()), curve, rtol=1e-9)
    assert isinstance(model(jnp.arange(3.0), **truth), jax.Array)


@pytest.mark.long
def test_guess_through_a_response():
    response = np.exp(-0.5 * ((np.arange(40) - 12) / 4) ** 2)
    truth = draws(100, amplitude=(1, 4), decay=(0.5, 5), c=(-1, 1))
    assert same_cost(Exponential().convolved(response) + Constant(), truth, 0.05) >= 0.98


@pytest.mark.long
def test_reports_and_plots_show_components():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    model = Gaussian("p1_") + Gaussian("p2_") + Linear()
    x = np.linspace(0.0, 10.0, 101)
    y = np.asarray(model(x, 5.0, 3.0, 0.5, 3.0, 6.5, 0.8, 0.1, 1.0))
    p0 = dict(zip(model.names, (4.0, 3.2, 0.6, 3.0, 6.3, 0.7, 0.0, 1.0), strict=True))
    result = fit(model, x, np.stack([y, 2 * y]), p0)
    parts = result[1].components(x)
    assert list(parts) == ["p1_", "p2_", "linear"]
    np.testing.assert_allclose(sum(parts.values()), 2 * y, atol=1e-6)
    assert "p1_fwhm            1.17741  +- " in result.report(0)
    upper, _ = result.plot(0)
    legend = [text.get_text() for text in upper.get_legend().get_texts()]
    assert legend == ["p1_", "p2_", "linear"]
    plt.close(upper.figure)
    alone = fit(Gaussian(), x, y - np.asarray(Linear()(x, 0.1, 1.0)), [3.0, 3.0, 1.0])
    upper, _ = alone.plot()
    assert upper.get_legend() is None
    plt.close(upper.figure)
    plain = fit(lambda x, a: a * x, x, x, [2.0])
    assert plain.components(x) == {}


def test_what_is_derived_is_in_the_order_in_which_it_is_written(tmp_path):
    def derived(p):
        return {"width": 2 * p["s"], "half": p["a"] / 2, "again": {"y": p["a"], "b": p["s"]}}

    def line(x, s=1.0, a=1.0):
        return s * x + a

    result = fit(Model(line, derived=derived), X, 3 * X + 4.0)
    values, errors = result.derived()
    assert list(values) == list(errors) == ["width", "half", "again"]
    assert list(values["again"]) == ["y", "b"]
    np.testing.assert_allclose([values["width"], values["half"]], [6.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose([*values["again"].values()], [4.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(errors["width"], 2 * result.stderr["s"], rtol=1e-6)
    assert [v for v in result.report().split() if v in ("width", "half")] == ["width", "half"]
    result.save(tmp_path / "line.npz")
    loaded = FitResult.load(tmp_path / "line.npz")
    assert list(loaded.derived_by_name()) == ["width", "half"]
    own = result.derived(lambda p: {name: p[name] for name in p})[0]
    assert list(own) == ["s", "a"]
    nothing = result.derived(lambda p: {})
    assert nothing == ({}, {})


ONE, TWO = np.linspace(0.0, 1.0, 12), np.linspace(0.0, 1.0, 24).reshape(2, 12)


@pytest.mark.parametrize(
    ("model", "x", "words"),
    [
        (Gaussian2D(), ONE, r"x must be a \(2, m\) array or a tuple of 2"),
        (Gaussian2D(), np.stack([ONE] * 3), r"x must be a \(2, m\) array or a tuple of 2"),
        (RotatedGaussian2D(), np.stack([ONE] * 3), r"x must be a \(2, m\) array or a tuple of 2"),
        (Spot3D(), TWO, r"x must be a \(3, m\) array or a tuple of 3"),
    ],
)
def test_spots_have_so_many_variables(model, x, words, x64):
    params, y = [1.0] * len(model.names), np.ones((2, 12))
    for call in (
        lambda: model(x, *params),
        lambda: fit(model, x, y, params),
        lambda: fit(model, x, y),
        lambda: curve_fit(model, x, y[0], params),
        lambda: model.guess(x, y[0]),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("model", [Gaussian(), Linear(), Gaussian() + Linear()])
def test_a_guess_says_what_is_wrong_with_its_data(model):
    for call in (
        lambda: fit(model, ONE, np.ones((3, 13))),
        lambda: model.guess(ONE, np.ones(11)),
        lambda: fit(model, ONE[:1], np.ones((3, 13))),
    ):
        with pytest.raises(ValueError, match=r"xdata and ydata of a fit.* must have the same"):
            call()
    with pytest.raises(ValueError, match=r"x must be an \(m,\) array.* got 2 variables"):
        fit(model, TWO, np.ones((3, 12)))
