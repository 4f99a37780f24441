"""How often a ready model's guess leads to the fit that the truth leads to."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from jaxlsq import fit, models
from jaxlsq.models import Model

COUNT = 1000
NOISES = (0.05, 0.1)
# Costs that differ by less are those of one minimum.
SAME = 1e-4


@dataclass(frozen=True)
class Case:
    """A model, where it is measured, and how its truths are drawn.

    `draw(rng, count) -> dict` of (count,) arrays.
    """

    model: Model
    x: np.ndarray
    draw: Callable


def uniform(low, high):
    """Draws between two numbers."""
    return lambda rng, count: rng.uniform(low, high, count)


def geometric(low, high, signs=(1.0,)):
    """Draws whose logarithm is uniform, of one of some signs."""
    return lambda rng, count: (
        np.exp(rng.uniform(np.log(low), np.log(high), count)) * rng.choice(signs, count)
    )


BOTH = (-1.0, 1.0)


def drawn(**draws):
    """Of some parameters, each by itself."""
    return lambda rng, count: {name: draw(rng, count) for name, draw in draws.items()}


LINE = np.linspace(0.0, 10.0, 101)
AWAY = np.linspace(-3.0, 7.0, 101)
POSITIVE = np.linspace(0.1, 10.0, 101)
DOSES = np.geomspace(1e-3, 1e3, 101)
KELVIN = np.linspace(280.0, 380.0, 101)
PIXELS = np.stack([v.ravel() for v in np.meshgrid(np.arange(11.0), np.arange(9.0))])
VOXELS = np.stack(
    [v.ravel() for v in np.meshgrid(np.arange(9.0), np.arange(9.0), 2.0 * np.arange(7))]
)

PEAK = {
    "amplitude": geometric(0.3, 30.0, BOTH),
    "center": uniform(1.0, 9.0),
    "sigma": geometric(0.15, 2.5),
}
SPOT = {
    "amplitude": geometric(1.0, 100.0, BOTH),
    "centerx": uniform(1.5, 8.5),
    "centery": uniform(1.5, 6.5),
    "sigmax": geometric(0.7, 3.0),
    "sigmay": geometric(0.7, 3.0),
}
DOSE = {"ec50": geometric(1e-2, 1e2), "hill": geometric(0.5, 4.0)}
LEVELS = {"bottom": uniform(-2.0, 2.0), "top": uniform(-5.0, 5.0)}


def _arrhenius(rng, count):
    """Rates of about one in the middle of the temperatures."""
    energy = rng.uniform(1e4, 1e5, count)
    rate = np.exp(rng.uniform(-3, 3, count))
    return {"prefactor": rate * np.exp(energy / (8.314462618 * 330.0)), "energy": energy}


CASES = {
    "Constant": Case(models.Constant(), LINE, drawn(c=uniform(-5, 5))),
    "Linear": Case(models.Linear(), LINE, drawn(slope=uniform(-5, 5), intercept=uniform(-9, 9))),
    "Quadratic": Case(
        models.Quadratic(), AWAY, drawn(a=uniform(-2, 2), b=uniform(-5, 5), c=uniform(-9, 9))
    ),
    "Polynomial(5)": Case(
        models.Polynomial(5), AWAY / 5, drawn(**{f"c{k}": uniform(-3, 3) for k in range(6)})
    ),
    "Gaussian": Case(models.Gaussian(), LINE, drawn(**PEAK)),
    "Gaussian2D": Case(models.Gaussian2D(), PIXELS, drawn(**SPOT)),
    "RotatedGaussian2D": Case(
        models.RotatedGaussian2D(), PIXELS, drawn(**SPOT, rotation=uniform(-1.5, 1.5))
    ),
    "Lorentzian": Case(models.Lorentzian(), LINE, drawn(**PEAK)),
    "Voigt": Case(models.Voigt(), LINE, drawn(**PEAK, gamma=geometric(0.03, 1.5))),
    "PseudoVoigt": Case(models.PseudoVoigt(), LINE, drawn(**PEAK, fraction=uniform(0, 1))),
    "Moffat": Case(models.Moffat(), LINE, drawn(**PEAK, beta=geometric(0.8, 5))),
    "PearsonVII": Case(models.PearsonVII(), LINE, drawn(**PEAK, expon=geometric(0.8, 6))),
    "Fano": Case(models.Fano(), LINE, drawn(**PEAK, q=geometric(0.2, 6, BOTH))),
    "Lognormal": Case(
        models.Lognormal(),
        LINE,
        drawn(
            amplitude=geometric(0.3, 30, BOTH), center=uniform(0, 1.9), sigma=geometric(0.06, 0.8)
        ),
    ),
    "ExponentialGaussian": Case(
        models.ExponentialGaussian(), LINE, drawn(**PEAK, gamma=geometric(0.3, 10))
    ),
    "SkewedGaussian": Case(models.SkewedGaussian(), LINE, drawn(**PEAK, gamma=uniform(-6, 6))),
    "Doniach": Case(models.Doniach(), LINE, drawn(**PEAK, gamma=uniform(0, 0.6))),
    "PowerLaw": Case(
        models.PowerLaw(),
        POSITIVE,
        drawn(amplitude=geometric(0.1, 10, BOTH), exponent=uniform(-3, 3)),
    ),
    "Exponential": Case(
        models.Exponential(),
        LINE,
        drawn(amplitude=geometric(0.1, 10, BOTH), decay=geometric(0.3, 30, BOTH)),
    ),
    "ExponentialOffset": Case(
        models.ExponentialOffset(),
        LINE,
        drawn(
            amplitude=geometric(0.1, 10, BOTH),
            decay=geometric(0.3, 10, BOTH),
            offset=uniform(-5, 5),
        ),
    ),
    "BiExponential": Case(
        models.BiExponential(),
        LINE,
        drawn(
            amplitude1=geometric(0.5, 5),
            decay1=geometric(0.2, 0.8),
            amplitude2=geometric(0.5, 5),
            decay2=geometric(2, 6),
            offset=uniform(-1, 1),
        ),
    ),
    "StretchedExponential": Case(
        models.StretchedExponential(),
        LINE,
        drawn(
            amplitude=geometric(0.1, 10, BOTH), decay=geometric(0.3, 8), beta=geometric(0.3, 2.5)
        ),
    ),
    "T1Recovery": Case(
        models.T1Recovery(),
        LINE,
        drawn(amplitude=geometric(0.1, 10, BOTH), t1=geometric(0.3, 5), inversion=uniform(0.8, 2)),
    ),
    "Sine": Case(
        models.Sine(),
        LINE,
        drawn(
            amplitude=geometric(0.1, 10),
            frequency=geometric(0.4, 25),
            shift=uniform(-np.pi, np.pi),
        ),
    ),
    "DampedSine": Case(
        models.DampedSine(),
        LINE,
        drawn(
            amplitude=geometric(0.1, 10),
            frequency=geometric(1.5, 20),
            shift=uniform(-np.pi, np.pi),
            decay=geometric(0.02, 0.5),
        ),
    ),
    **{
        f"Step({form})": Case(
            models.Step(form=form),
            LINE,
            drawn(
                amplitude=geometric(0.1, 10, BOTH),
                center=uniform(2, 8),
                sigma=geometric(0.15, 2, BOTH),
            ),
        )
        for form in ("erf", "logistic", "atan", "linear")
    },
    "MichaelisMenten": Case(
        models.MichaelisMenten(), LINE, drawn(vmax=geometric(0.1, 10), km=geometric(0.05, 20))
    ),
    "Hill": Case(models.Hill(), DOSES, drawn(amplitude=geometric(0.1, 10, BOTH), **DOSE)),
    "FourPL": Case(models.FourPL(), DOSES, drawn(**LEVELS, **DOSE)),
    "FivePL": Case(models.FivePL(), DOSES, drawn(**LEVELS, **DOSE, asymmetry=geometric(0.3, 3))),
    "Association": Case(
        models.Association(),
        LINE,
        drawn(amplitude=geometric(0.1, 10, BOTH), rate=geometric(0.1, 3), offset=uniform(-2, 2)),
    ),
    "Dissociation": Case(
        models.Dissociation(),
        LINE,
        drawn(amplitude=geometric(0.1, 10, BOTH), rate=geometric(0.1, 3), offset=uniform(-2, 2)),
    ),
    "Arrhenius": Case(
        models.Arrhenius(),
        KELVIN,
        _arrhenius,
    ),
    "Spot3D": Case(
        models.Spot3D(),
        VOXELS,
        drawn(
            amplitude=geometric(1, 1000, BOTH),
            centerx=uniform(1.5, 6.5),
            centery=uniform(1.5, 6.5),
            centerz=uniform(2, 10),
            sigma=geometric(0.7, 2.5),
            sigmaz=geometric(1.2, 4),
        ),
    ),
}


def data(case, count, noise, seed=0):
    """Truths, and data with normal errors, whose deviation is a part of each data set's range."""
    rng = np.random.default_rng(seed)
    truth = case.draw(rng, count)
    with jax.enable_x64(True):
        clean = np.asarray(jax.vmap(lambda params: case.model(case.x, **params))(truth))
    size = np.ptp(clean, axis=1, keepdims=True)
    size = np.where(size > 0, size, 1.0)
    return truth, clean + noise * size * rng.normal(size=clean.shape)


def reached(name, count, noise, dtype="float64", seed=0):
    """A row: the part of the fits from the guess whose cost is that from the truth, or below."""
    case = CASES[name]
    truth, y = data(case, count, noise, seed)
    x, y = case.x.astype(dtype), y.astype(dtype)
    results = [fit(case.model, x, y, p0=start) for start in (case.model.guess, truth)]
    ours, theirs = (np.where(np.isfinite(r.cost), r.cost, np.inf) for r in results)
    return {
        "model": name,
        "noise": noise,
        "reached": float(np.mean(ours <= theirs * (1.0 + SAME))),
        "evaluations": [float(r.nfev.mean()) for r in results],
        "converged": [float(r.success.mean()) for r in results],
        "engine": results[0].engine,
    }


def measure(count):
    """A row for each model and noise."""
    return [reached(name, count, noise) for name in CASES for noise in NOISES]


def table(rows):
    """As text."""
    lines = [
        "Fits from the guess that end at the cost of the fit from the truth, or below; their "
        "evaluations, and those from the truth.",
        f"{'model':<22}{'noise':>6}{'reached':>9}{'evaluations':>13}{'from truth':>12}  engine",
    ]
    for row in rows:
        ours, theirs = row["evaluations"]
        lines.append(
            f"{row['model']:<22}{row['noise']:>6.0%}{row['reached']:>9.1%}{ours:>13.1f}"
            f"{theirs:>12.1f}  {row['engine']}"
        )
    return "\n".join(lines)
