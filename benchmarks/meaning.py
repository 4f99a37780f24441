"""Shared and linear parameters, errors in x, profiles and bootstraps: beside plain fits."""

import statistics
import time

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc

from benchmarks.workloads import WORKLOADS, data
from jaxlsq import fit
from jaxlsq.models import Voigt

ROUNDS = 7
COUNT = 10_000
PEAK = ["amplitude", "centre", "width"]


def timed(call):
    """What a call returns, and its seconds."""
    begin = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begin


def pair(call, beside):
    """Medians of seconds of two calls in turn, after a first one of each."""
    (result, first), (plain, _) = timed(call), timed(beside)
    seconds = [(timed(call)[1], timed(beside)[1]) for _ in range(ROUNDS)]
    own, other = (statistics.median(side) for side in zip(*seconds, strict=True))
    return result, plain, {"seconds": own, "plain_s": other, "first_s": first}


def largest_error(found, names, truth):
    """How far the shared parameters are from the truth at most, in their standard errors."""
    pairs = zip(names, truth, strict=True)
    return max(abs(found[name] - value) / found.stderr[name] for name, value in pairs)


def biexponential(t, a, b, fast, slow, part):
    """Two decays whose rates, and parts of the amplitude, are shared."""
    return a * (part * jnp.exp(-fast * t) + (1.0 - part) * jnp.exp(-slow * t)) + b


def shared(count):
    """1,000 decays of two common rates, beside fits of each for itself."""
    rng = np.random.default_rng(0)
    t = np.linspace(0.0, 5.0, 50)
    truth = [2.0, 0.5, 0.3]
    a, b = rng.uniform(1.0, 5.0, (count, 1)), rng.uniform(0.0, 1.0, (count, 1))
    y = a * (0.3 * np.exp(-2.0 * t) + 0.7 * np.exp(-0.5 * t)) + b
    y = y + 0.02 * rng.normal(size=y.shape)
    p0 = [2.0, 0.5, 3.0, 0.4, 0.5]
    names = ["fast", "slow", "part"]
    result, _, row = pair(
        lambda: fit(biexponential, t, y, p0, shared=names),
        lambda: fit(biexponential, t, y, p0),
    )
    good, off = result.success.mean(), largest_error(result.shared, names, truth)
    return row | {"quality": f"converged {good:.1%}, largest error {off:.1f} sigma"}


def transient(t, a1, a2, a3, k1, k2, k3, begin, width):
    """Three decays after a Gaussian flash."""

    def one(k):
        shift = t - begin
        rise = k * (0.5 * k * width**2 - shift)
        return (
            0.5 * jnp.exp(jnp.minimum(rise, 500.0)) * erfc((k * width**2 - shift) / width / 2**0.5)
        )

    return a1 * one(k1) + a2 * one(k2) + a3 * one(k3)


def global_analysis(_):
    """72 wavelengths at 2,100 times: shared rates, an amplitude of each for each wavelength."""
    rng = np.random.default_rng(1)
    t = np.linspace(-1.0, 20.0, 2100)
    amplitudes = 3.0 * rng.normal(size=(72, 3))
    truth = [0.5, 0.3, 0.1, 0.3, 0.1]
    basis = np.stack([transient(t, *one, *truth) for one in np.eye(3)])
    y = amplitudes @ basis.astype(float) + 0.01 * rng.normal(size=(72, t.size))
    names = ["k1", "k2", "k3", "begin", "width"]
    p0 = dict(zip(names, [0.6, 0.25, 0.08, 0.25, 0.12], strict=True))

    def call():
        return fit(transient, t, y, p0, shared=names, linear=["a1", "a2", "a3"])

    result, _, row = pair(call, lambda: None)
    return row | {
        "quality": f"largest error {largest_error(result.shared, names, truth):.1f} sigma",
        "plain_s": None,
    }


def linear(count):
    """W5, four peaks on a line: amplitudes and line eliminated, beside the fit of all."""
    workload = WORKLOADS["W5"]
    x, y, p0 = data(workload, count, np.dtype(np.float64))
    names = [f"{name}{j}" for j in range(4) for name in PEAK] + ["intercept", "slope"]
    arguments = ", ".join(names)
    space = {"peaks": workload.model, "jnp": jnp}
    model = eval(f"lambda x, {arguments}: peaks(x, {arguments}, xp=jnp)", space)
    some = [name for name in names if name.startswith(("amplitude", "intercept", "slope"))]
    result, plain, row = pair(
        lambda: fit(model, x, y, p0, linear=some), lambda: fit(model, x, y, p0)
    )
    lower = float(np.mean(result.cost <= plain.cost * (1 + 1e-6)))
    counts = f"{result.nfev.mean():.1f} evaluations for {plain.nfev.mean():.1f}"
    return row | {"quality": f"as good or better {lower:.1%}, {counts}"}


def decay(t, a, k, c):
    """A decay on an offset."""
    return a * jnp.exp(-k * t) + c


def decays(count):
    """W2's decays, and where their fits begin."""
    x, y, p0 = data(WORKLOADS["W2"], count, np.dtype(np.float64))
    return x, y, np.asarray(p0, float)


def errors_in_x(count):
    """Decays of 50 points with errors in t too, beside the plain fits."""
    t, y, p0 = decays(count)
    result, _, row = pair(
        lambda: fit(decay, t, y, p0, sigma=0.03, xsigma=0.02), lambda: fit(decay, t, y, p0)
    )
    return row | {"quality": f"converged {result.success.mean():.1%}"}


def profiles(count):
    """Profile intervals of three parameters, beside the fits."""
    t, y, p0 = decays(count)
    result = fit(decay, t, y, p0)
    found, _, row = pair(lambda: result.interval(method="profile"), lambda: fit(decay, t, y, p0))
    open_ = float(np.mean(~np.isfinite(found)))
    return row | {"quality": f"ends that are not finite {open_:.2%}"}


def bootstraps(count):
    """100 replicates of each fit, beside 100 times the fits."""
    t, y, p0 = decays(count // 100)
    result = fit(decay, t, y, p0)
    found, _, row = pair(
        lambda: result.bootstrap(100, seed=0),
        lambda: fit(decay, t, np.tile(y, (100, 1)), np.tile(p0, (100, 1))),
    )
    ratio = np.median(found.stderr / result.stderr)
    return row | {"quality": f"median error over that of the fit {ratio:.2f}"}


def voigt(count):
    """A thousand Voigt profiles with their guesses, beside lmfit's."""
    from lmfit.models import VoigtModel

    rng = np.random.default_rng(0)
    x = np.linspace(-10.0, 10.0, 101)
    size = count // 10
    truth = rng.uniform([5.0, -3.0, 0.6, 0.3], [20.0, 3.0, 1.5, 1.0], (size, 4))
    model = Voigt()
    y = np.stack([np.asarray(model(x, *row)) for row in truth])
    y = y + 0.02 * rng.normal(size=y.shape)
    theirs, some = VoigtModel(), 20

    def loop():
        for row in y[:some]:
            begin = theirs.guess(row, x=x)
            begin["gamma"].set(expr="", vary=True)
            theirs.fit(row, begin, x=x)

    result, _, row = pair(lambda: fit(model, x, y), loop)
    row["plain_s"] *= size / some
    return row | {"quality": f"converged {result.success.mean():.1%}"}


CASES = {
    "1,000 decays, three parameters shared": (shared, lambda count: count // 10),
    "2,100 x 72 global analysis, linear amplitudes": (global_analysis, lambda count: count),
    "four peaks (W5), linear parameters eliminated": (linear, lambda count: count // 2),
    "errors in x, 50 points": (errors_in_x, lambda count: count),
    "profile intervals of three parameters": (profiles, lambda count: count),
    "bootstrap of 100, beside as many fits": (bootstraps, lambda count: count),
    "Voigt profiles with guesses, beside lmfit": (voigt, lambda count: count),
}


def measure(count):
    """A row for each case."""
    return {name: function(size(count)) for name, (function, size) in CASES.items()}


def table(rows):
    """As text."""
    lines = [
        "What fits mean: seconds, those of the plain fits beside them (of lmfit in the last row), "
        "their ratio, and quality; one core, float64.",
        f"{'':<48}{'s':>9}{'plain, s':>10}{'ratio':>9}{'first, s':>10}  quality",
    ]
    for name, row in rows.items():
        plain = row["plain_s"]
        beside = f"{plain:>10.4f}{row['seconds'] / plain:>9.3f}" if plain else f"{'':>19}"
        lines.append(
            f"{name:<48}{row['seconds']:>9.4f}{beside}{row['first_s']:>10.1f}  {row['quality']}"
        )
    return "\n".join(lines)
