"""Global analysis beside pyglotaran: rates of all wavelengths, amplitudes of each eliminated."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import fit

pytest.importorskip("glotaran")

import xarray as xr
from glotaran.builtin.megacomplexes.decay import (
    DecayParallelMegacomplex,
    DecaySequentialMegacomplex,
)
from glotaran.model import Model
from glotaran.optimization.optimize import optimize
from glotaran.parameter import Parameters
from glotaran.project import Scheme

pytestmark = pytest.mark.ecosystem
RATES = 0.8, 0.15
START = {"k1": 0.5, "k2": 0.1}
WAVELENGTHS = np.linspace(400.0, 600.0, 12)
SPECTRA = np.stack(
    [
        np.exp(-0.5 * ((WAVELENGTHS - 450) / 40) ** 2),
        0.7 * np.exp(-((WAVELENGTHS - 540) ** 2) / 1800),
    ]
)


def parallel(t, k1, k2, xp):
    """Two compartments, each with half of what there is, that decay beside each other."""
    return 0.5 * xp.exp(-k1 * t), 0.5 * xp.exp(-k2 * t)


def sequential(t, k1, k2, xp):
    """A compartment that decays to another one, which decays."""
    first, second = xp.exp(-k1 * t), xp.exp(-k2 * t)
    return first, k1 / (k2 - k1) * (first - second)


SCHEMES = {"decay-parallel": parallel, "decay-sequential": sequential}


def measured(scheme, times, seed):
    """A signal at each time and wavelength."""
    clean = np.stack(scheme(times, *RATES, np), axis=-1) @ SPECTRA
    return clean + 0.01 * np.random.default_rng(seed).normal(size=clean.shape)


def theirs(kind, signals, weights):
    """pyglotaran's result for a list of pairs of times and signals, and of their weights."""
    both = [DecayParallelMegacomplex, DecaySequentialMegacomplex]
    names = [f"d{i}" for i in range(len(signals))]
    model = Model.create_class_from_megacomplexes(both)(
        megacomplex={"m": {"type": kind, "compartments": ["a", "b"], "rates": ["k.1", "k.2"]}},
        dataset={name: {"megacomplex": ["m"]} for name in names},
        dataset_groups={"default": {"link_clp": False}},
        clp_relations=[],
        clp_penalties=[],
    )
    data = {}
    for name, (times, signal), weight in zip(names, signals, weights, strict=True):
        axes = {"time": times, "spectral": WAVELENGTHS}
        data[name] = xr.Dataset({"data": (tuple(axes), signal)}, coords=axes)
        if weight is not None:
            data[name]["weight"] = (tuple(axes), weight)
    scheme = Scheme(
        model=model,
        parameters=Parameters.from_dict({"k": list(START.values())}),
        data=data,
        optimization_method="Levenberg-Marquardt",
        **dict.fromkeys(("ftol", "xtol", "gtol"), 1e-14),
    )
    return optimize(scheme, verbose=False)


@pytest.mark.filterwarnings("ignore")  # of pyglotaran's own
@pytest.mark.parametrize("kind", SCHEMES)
@pytest.mark.parametrize("case", ["one signal", "two signals", "weights"])
def test_rates_errors_and_spectra(kind, case):
    scheme = SCHEMES[kind]
    lengths = (120, 75) if case == "two signals" else (120,)
    times = [np.linspace(0.0, 20.0, length) for length in lengths]
    signals = [(t, measured(scheme, t, seed)) for seed, t in enumerate(times)]
    weights = [None] * len(times)
    if case == "weights":
        weights = [1.0 / np.random.default_rng(9).uniform(0.5, 2.0, signals[0][1].shape)]
    expected = theirs(kind, signals, weights)

    def model(t, a, b, k1, k2):
        first, second = scheme(t, k1, k2, jnp)
        return a * first + b * second

    ours = fit(
        model,
        [t for t, signal in signals for _ in signal.T],
        [row for _, signal in signals for row in signal.T],
        START,
        sigma=None if weights[0] is None else [1.0 / column for column in weights[0].T],
        shared=list(START),
        linear=["a", "b"],
        ftol=1e-14,
        xtol=1e-14,
    )
    assert ours.success.all()
    assert ours.sharing.dof[0] == expected.degrees_of_freedom
    np.testing.assert_allclose(2 * ours.sharing.cost[0], expected.chi_square, rtol=1e-10)
    for number, name in enumerate(START, 1):
        rate = expected.optimized_parameters.get(f"k.{number}")
        np.testing.assert_allclose(ours.params[name][0], rate.value, rtol=1e-8)
        # Theirs are of forward differences.
        np.testing.assert_allclose(ours.stderr[name][0], rate.standard_error, rtol=1e-3)
    spectra = np.concatenate([one.clp.values for one in expected.data.values()])
    found = np.stack([ours.params[name] for name in "ab"], axis=-1)
    np.testing.assert_allclose(found, spectra, rtol=1e-6, atol=1e-8)
