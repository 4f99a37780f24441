"""Formulas beside lmfit's and SciPy's, and derivatives at the hard points."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lmfit import lineshapes
from scipy import special

from benchmarks.model_guesses import CASES, data
from jaxlsq import fit, models
from jaxlsq.models.special import erfcx, faddeeva, gamma_quotient

pytestmark = pytest.mark.usefixtures("x64")

# lmfit's functions, and further arguments of them.
SAME = {
    "Linear": (lineshapes.linear, {}),
    "Quadratic": (lineshapes.parabolic, {}),
    "Gaussian": (lineshapes.gaussian, {}),
    "Lorentzian": (lineshapes.lorentzian, {}),
    "Voigt": (lineshapes.voigt, {}),
    "PseudoVoigt": (lineshapes.pvoigt, {}),
    "Moffat": (lineshapes.moffat, {}),
    "PearsonVII": (lineshapes.pearson7, {}),
    "Fano": (lineshapes.breit_wigner, {}),
    "Lognormal": (lineshapes.lognormal, {}),
    "ExponentialGaussian": (lineshapes.expgaussian, {}),
    "SkewedGaussian": (lineshapes.skewed_gaussian, {}),
    "Doniach": (lineshapes.doniach, {}),
    "PowerLaw": (lineshapes.powerlaw, {}),
    "Exponential": (lineshapes.exponential, {}),
    "Sine": (lineshapes.sine, {}),
    "DampedSine": (lineshapes.expsine, {}),
    "Step(erf)": (lineshapes.step, {"form": "erf"}),
    "Step(logistic)": (lineshapes.step, {"form": "logistic"}),
    "Step(atan)": (lineshapes.step, {"form": "atan"}),
    "Step(linear)": (lineshapes.step, {"form": "linear"}),
}


@pytest.mark.parametrize("name", SAME)
def test_values_are_lmfits(name):
    theirs, options = SAME[name]
    case, rows = CASES[name], 30
    truth = case.draw(np.random.default_rng(1), rows)
    compared = 0
    for row in range(rows):
        params = {key: float(value[row]) for key, value in truth.items()}
        with np.errstate(all="ignore"):
            expected = theirs(case.x.copy(), **params, **options)
        found = np.asarray(case.model(case.x, **params))
        known = np.isfinite(expected)
        compared += known.sum()
        scale = np.abs(expected[known]).max()
        assert np.abs(found - expected)[known].max() <= 1e-12 * scale
    assert compared > 0.9 * rows * case.x.size


def test_spots_are_lmfits():
    x, rotated = CASES["Gaussian2D"].x, models.RotatedGaussian2D()
    params = {"amplitude": 7.0, "centerx": 3.0, "centery": 4.0, "sigmax": 1.5, "sigmay": 0.7}
    expected = lineshapes.gaussian2d(*x, **params)
    close = {"rtol": 1e-9, "atol": 1e-15}
    for form in (x, tuple(x)):
        np.testing.assert_allclose(models.Gaussian2D()(form, **params), expected, **close)
    np.testing.assert_allclose(rotated(x, **params, rotation=0.0), expected, **close)
    # A quarter of a turn exchanges the widths.
    turned = params | {"sigmax": 0.7, "sigmay": 1.5}
    np.testing.assert_allclose(rotated(x, **turned, rotation=np.pi / 2), expected, **close)


def test_the_amplitude_of_a_bead_is_its_volume():
    grid = np.stack(np.meshgrid(*[np.linspace(-8, 8, 41)] * 3)).reshape(3, -1)
    values = models.Spot3D()(grid, 2.5, 0.3, -0.2, 0.1, 1.0, 1.5)
    assert float(values.sum() * 0.4**3) == pytest.approx(2.5, rel=1e-6)


def _binding(x, c, n):
    return x**n / (c**n + x**n)


X = np.linspace(0.0, 5.0, 30)
WRITTEN = {
    models.StretchedExponential(): ((2.0, 1.5, 0.6), 2.0 * np.exp(-((X / 1.5) ** 0.6))),
    models.T1Recovery(): ((2.0, 1.5, 1.9), 2.0 * (1 - 1.9 * np.exp(-X / 1.5))),
    models.ExponentialOffset(): ((2.0, 1.5, 0.6), 2.0 * np.exp(-X / 1.5) + 0.6),
    models.BiExponential(): (
        (2.0, 0.5, 1.0, 3.0, 0.6),
        2.0 * np.exp(-X / 0.5) + np.exp(-X / 3.0) + 0.6,
    ),
    models.MichaelisMenten(): ((2.0, 1.5), 2.0 * X / (1.5 + X)),
    models.Hill(): ((2.0, 1.5, 0.7), 2.0 * _binding(X, 1.5, 0.7)),
    models.FourPL(): ((1.0, 3.0, 1.5, 0.7), 1.0 + 2.0 * _binding(X, 1.5, 0.7)),
    models.FivePL(): ((1.0, 3.0, 1.5, 0.7, 2.0), 1.0 + 2.0 * _binding(X, 1.5, 0.7) ** 2),
    models.Association(): ((2.0, 1.5, 0.6), 2.0 * (1 - np.exp(-1.5 * X)) + 0.6),
    models.Dissociation(): ((2.0, 1.5, 0.6), 2.0 * np.exp(-1.5 * X) + 0.6),
    models.Polynomial(3): ((1.0, 2.0, 3.0, 4.0), 1 + 2 * X + 3 * X**2 + 4 * X**3),
    models.Constant(): ((2.0,), np.full(30, 2.0)),
}


@pytest.mark.parametrize("model", WRITTEN, ids=lambda model: model.name)
def test_values_are_as_written(model):
    params, values = WRITTEN[model]
    np.testing.assert_allclose(model(X, *params), values, rtol=1e-12, atol=1e-30)


def test_arrhenius_in_joules_and_in_electronvolts():
    kelvin = np.array([250.0, 300.0])
    for options, energy, constant in (
        ({}, 5e4, 8.314462618),
        ({"gas_constant": 8.617333262e-5}, 0.5, 8.617333262e-5),
    ):
        expected = 1e9 * np.exp(-energy / (constant * kelvin))
        found = models.Arrhenius(**options)(kelvin, 1e9, energy)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_special_functions_are_scipys():
    x = np.concatenate([np.linspace(-30, 30, 121), [1e3, -1e8]])
    y = np.concatenate([[0.0], np.logspace(-10, 8, 40)])
    x, y = np.meshgrid(x, y)
    expected = special.wofz(x + 1j * y)
    real, imaginary = faddeeva(jnp.asarray(x), jnp.asarray(y))
    assert np.abs(real - expected.real).max() < 1e-13
    assert np.abs(imaginary - expected.imag).max() < 1e-13
    t = np.logspace(-10, 8, 100)
    np.testing.assert_allclose(erfcx(jnp.asarray(t)), special.erfcx(t), rtol=1e-13)
    z = np.logspace(-6, 2, 100)
    np.testing.assert_allclose(gamma_quotient(jnp.asarray(z)), special.poch(z, 0.5), rtol=1e-12)


def test_derivatives_of_w_are_exact():
    x, y = jnp.linspace(-6.0, 6.0, 41), jnp.full(41, 0.3)
    z = np.asarray(x) + 1j * np.asarray(y)
    expected = 2j / np.sqrt(np.pi) - 2 * z * special.wofz(z)
    for tangent, factor in (((1.0, 0.0), 1.0), ((0.0, 1.0), 1j)):
        tangents = tuple(jnp.full(41, t) for t in tangent)
        _, (real, imaginary) = jax.jvp(faddeeva, (x, y), tangents)
        found = np.asarray(real) + 1j * np.asarray(imaginary)
        np.testing.assert_allclose(found, factor * expected, atol=2e-12)


@pytest.mark.long_but("0.0-float64-1e-11", "0.0001-float64-1e-11", "1e-06-float32-3e-05")
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 3e-5)])
@pytest.mark.parametrize("sigma", [0.0, 1e-9, 1e-6, 1e-4, 1e-2])
def test_voigt_of_no_sigma_has_the_derivatives_of_the_lorentzian(sigma, dtype, tolerance):
    """Which are far out in w, where nothing is left of the difference of two large numbers."""
    with jax.enable_x64(dtype == np.float64):
        x = np.linspace(0.0, 10.0, 41).astype(dtype)
        at = [np.asarray(v, dtype) for v in (3.3, 6.3, sigma, 1.1)]
        found = jax.jacfwd(models.Voigt(), argnums=(1, 2, 4))(x, *at)
    bell = 1.1**2 + (x.astype(float) - 6.3) ** 2
    expected = (
        1.1 / (np.pi * bell),
        3.3 / np.pi * 2.2 * (x - 6.3) / bell**2,
        3.3 / np.pi * (1.0 - 2.0 * 1.1**2 / bell) / bell * np.ones(x.size),
    )
    for one, other in zip(found, expected, strict=True):
        error = np.max(np.abs(one - other)) / np.max(np.abs(other))
        assert error < tolerance + 10.0 * sigma**2  # and what sigma adds


def test_voigt_of_a_lorentzian_ends_at_its_minimum():
    """Where a fit once stood still short of it, with sigma at its bound."""
    rng = np.random.default_rng(0)
    x = np.linspace(0.0, 10.0, 60)
    y = 3.0 / (np.pi * (1.0 + (x - 6.0) ** 2)) + 0.02 * rng.normal(size=(40, x.size))
    voigt = fit(models.Voigt(), x, y, [2.0, 5.5, 0.0, 1.3])
    lorentzian = fit(models.Lorentzian(), x, y, [2.0, 5.5, 1.3])
    assert voigt.success.all()
    held = voigt.x[:, 2] == 0
    assert held.sum() > 10
    np.testing.assert_allclose(voigt.x[held][:, [0, 1, 3]], lorentzian.x[held], rtol=1e-5)
    assert np.all(voigt.cost <= lorentzian.cost * (1 + 1e-9))


# Where formulas as they are written are not finite, or their derivatives are not.
HARD = [
    (models.Gaussian, (1, 0, 0)),
    (models.Gaussian, (1, 0, 1e-9)),
    (models.Lorentzian, (1, 0, 0)),
    (models.Lorentzian, (1, 0, 1e-9)),
    (models.Voigt, (1, 0, 0, 0)),
    (models.Voigt, (1, 0, 0, 1)),
    (models.Voigt, (1, 0, 1, 0)),
    (models.Voigt, (1, 0, 1e-6, 1)),
    (models.PseudoVoigt, (1, 0, 0, 0)),
    (models.Moffat, (1, 0, 0, 0)),
    (models.Moffat, (1, 0, 1e-9, 30)),
    (models.PearsonVII, (1, 0, 0, 0.5)),
    (models.PearsonVII, (1, 0, 1, 0.5)),
    (models.PearsonVII, (1, 0, 1, 1e6)),
    (models.Fano, (1, 0, 0, 0)),
    (models.Fano, (1, 0, 1e-9, 3)),
    (models.Lognormal, (1, 0, 0)),
    (models.Lognormal, (1, 0, 1)),
    (models.ExponentialGaussian, (1, 0, 0, 1)),
    (models.ExponentialGaussian, (1, 0, 1, 0)),
    (models.ExponentialGaussian, (1, 0, 1, 100)),
    (models.ExponentialGaussian, (1, 0, 1, 1e6)),
    (models.SkewedGaussian, (1, 0, 0, 5)),
    (models.SkewedGaussian, (1, 0, 1, 1e3)),
    (models.Doniach, (1, 0, 0, 0)),
    (models.Doniach, (1, 0, 1, 1)),
    (models.PowerLaw, (1, 0.5)),
    (models.PowerLaw, (1, 2)),
    (models.Exponential, (1, 0)),
    (models.BiExponential, (0, 0, 0, 0, 0)),
    (models.StretchedExponential, (1, 0, 0)),
    (models.StretchedExponential, (1, 1, 0.3)),
    (models.StretchedExponential, (1, 1e-9, 3)),
    (models.T1Recovery, (1, 0, 2)),
    (models.Sine, (0, 0, 0)),
    (models.Step, (1, 0, 0)),
    (models.MichaelisMenten, (1, 0)),
    (models.Hill, (1, 0, 0)),
    (models.Hill, (1, 1, 0.5)),
    (models.FourPL, (0, 1, 1, 30)),
    (models.FivePL, (0, 1, 0, 0, 0)),
    (models.FivePL, (0, 1, 1, 0.5, 0.1)),
    (models.Association, (1, 0, 0)),
]


HARD_IDS = [f"{make.__name__}{params}" for make, params in HARD]
# Half of them, in one type or the other.
SHORT = [f"{name}-{('f32', 'f64')[k % 2]}" for k, name in enumerate(HARD_IDS[1::2])]


@pytest.mark.long_but(*SHORT)
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32], ids=["f64", "f32"])
@pytest.mark.parametrize(("make", "params"), HARD, ids=HARD_IDS)
def test_derivatives_are_finite(make, params, dtype):
    model = make()
    x = jnp.asarray([0.0, 1e-6, 0.5, 1.0, 30.0, 1e3, 1e5], dtype)
    vector = jnp.asarray(params, dtype)
    values = model(x, *vector)
    rows = jax.jacfwd(lambda p: model(x, *p))(vector)
    assert values.dtype == rows.dtype == dtype
    assert np.isfinite(values).all()
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("power", [-2.0, -0.03, 0.0, 0.03, 1.0])
def test_powers_of_zero_scales_and_places_are_their_limits(power, dtype):
    """A small power does not make the least float a number that counts."""
    x, scales = np.array([0.0, 0.5, 2.0]), (0.0, 1e-25, 1.0)
    for scale in scales:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = x / scale
            ratio[0] = 0.0  # also of nothing to nothing
            powers = ratio**power
        narrow = [dtype(v) for v in (1.0, scale, power)]
        found = models.Hill()(x.astype(dtype), *narrow)
        expected = 1.0 - 1.0 / (1.0 + powers)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-30)
        found = models.StretchedExponential()(x.astype(dtype), *narrow)
        np.testing.assert_allclose(found, np.exp(-powers), rtol=1e-5, atol=1e-30)


@pytest.mark.long_but(
    "Voigt", "Hill", "ExponentialGaussian", "Step(logistic)", "Fano", "DampedSine"
)
@pytest.mark.parametrize("name", [name for name in CASES if name != "Step(linear)"])
def test_derivatives_are_those_of_the_values(name):
    case = CASES[name]
    truth, _ = data(case, 2, 0.0)
    x = jnp.asarray(case.x)
    for row in range(2):
        vector = jnp.asarray([truth[key][row] for key in case.model.names])
        exact = np.asarray(jax.jacfwd(lambda p: case.model(x, *p))(vector))
        for k, step in enumerate(1e-6 * np.abs(vector)):
            shift = step * (jnp.arange(vector.size) == k)
            above, below = case.model(x, *(vector + shift)), case.model(x, *(vector - shift))
            slope = np.asarray(above - below) / (2 * step)
            noise = 1e-15 * np.abs(above).max() / step
            assert np.abs(exact[:, k] - slope).max() < 1e-5 * np.abs(exact[:, k]).max() + noise


def test_every_model_says_what_it_is():
    made = {name: getattr(models, name) for name in models.__all__ if name != "Model"}
    assert len(made) == 35  # BreitWigner is Fano
    for name, make in made.items():
        first = (2,) if name == "Polynomial" else ()
        model, prefixed = make(*first), make(*first, "p_")
        assert prefixed.names == tuple("p_" + n for n in model.names)
        assert set(model.units) == set(model.names)
        assert tuple(inspect.signature(model).parameters) == ("x", *model.names)
        assert prefixed == make(*first, "p_") != model
        assert hash(prefixed) == hash(make(*first, "p_"))
        for word in ("Parameters", "Guess", ".. math::", "Examples"):
            assert word in make.__doc__, name


def test_heights_and_widths():
    half = {
        models.Gaussian(): (2.0, 1.0, 0.7),
        models.Lorentzian(): (2.0, 1.0, 0.7),
        models.PseudoVoigt(): (2.0, 1.0, 0.7, 0.4),
        models.Moffat(): (2.0, 1.0, 0.7, 1.7),
        models.PearsonVII(): (2.0, 1.0, 0.7, 1.7),
        models.Voigt(): (2.0, 1.0, 0.7, 0.3),
    }
    for model, params in half.items():
        derived = model.derived(dict(zip(model.names, params, strict=True)))
        at_center = float(model(1.0, *params))
        assert float(derived["height"]) == pytest.approx(at_center, rel=1e-12)
        there = float(model(1.0 + 0.5 * float(derived["fwhm"]), *params))
        assert there == pytest.approx(0.5 * at_center, rel=5e-4), model.name


def test_what_else_is_derived():
    doniach, params = models.Doniach(), (2.0, 1.0, 0.7, 0.3)
    derived = doniach.derived(dict(zip(doniach.names, params, strict=True)))
    x = np.linspace(-2, 4, 60_001)
    values = np.asarray(doniach(x, *params))
    assert float(derived["maximum"]) == pytest.approx(x[values.argmax()], abs=2e-4)
    assert float(derived["height"]) == pytest.approx(values.max(), rel=1e-6)
    five, params = models.FivePL(), (1.0, 3.0, 2.0, 1.5, 0.6)
    derived = five.derived(dict(zip(five.names, params, strict=True)))
    assert float(five(derived["half_effect"], *params)) == pytest.approx(2.0)
    x = np.linspace(-30, 60, 200_001)
    for model, params in (
        (models.SkewedGaussian(), (1.0, 1.0, 0.7, 3.0)),
        (models.ExponentialGaussian(), (1.0, 1.0, 0.7, 0.5)),
    ):
        derived = model.derived(dict(zip(model.names, params, strict=True)))
        density = np.asarray(model(x, *params)) * (x[1] - x[0])
        mean = (density * x).sum()
        assert density.sum() == pytest.approx(1.0)
        assert float(derived["mean"]) == pytest.approx(mean)
        spread = np.sqrt((density * (x - mean) ** 2).sum())
        assert float(derived["deviation"]) == pytest.approx(spread)
