"""Models with errors in x: those of single points go through, and no others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import fit
from jaxlsq.batch import pointwise
from jaxlsq.batch.run import Problem
from jaxlsq.problem.fit_data import FitArguments, read
from jaxlsq.problem.settings import Settings

M = 25
X = np.linspace(0.1, 4.0, M)
Y = 2.0 * np.exp(-X)
GRID = np.linspace(-1.0, 9.0, 50)
RESPONSE = np.array([0.2, 0.6, 0.2])

# Of which the program says so, and of which only values do.
SEEN = {
    "formula": lambda x, a, k: a * jnp.exp(-k * x),
    "in NumPy": lambda x, a, k: a * np.exp(-k * x),
    "mapped": lambda x, a, k: jax.vmap(lambda one: a * jnp.exp(-k * one))(x),
    "features": lambda x, a, k: jnp.stack([x, x**2], axis=1) @ jnp.stack([a, k]),
    "terms": lambda x, a, k: jnp.sum(a * jnp.cos(k * x * jnp.arange(3)[:, None]), axis=0),
    "number of the point": lambda x, a, k: a * jnp.exp(-k * x) + jnp.arange(M),
    "constant": lambda x, a, k: a + k + 0.0 * x,
    "short loop": lambda x, a, k: jax.lax.fori_loop(0, 4, lambda _, v: k * v + a, x),
}
FOUND = {
    "table": lambda x, a, k: a * jnp.interp(k * x, GRID, np.exp(-GRID)),
    "long loop": lambda x, a, k: jax.lax.fori_loop(0, 3000, lambda _, v: k * v * 0.1 + a, x),
}
JOINED = {
    "mean": lambda x, a, k: a * jnp.exp(-k * (x - x.mean())),
    "first": lambda x, a, k: a * jnp.exp(-k * (x - x[0])),
    "last": lambda x, a, k: a * jnp.exp(-k * x / x[-1]),
    "step": lambda x, a, k: a * jnp.cumsum(jnp.exp(-k * x)) * (x[1] - x[0]),
    "response": lambda x, a, k: jnp.convolve(a * jnp.exp(-k * x), RESPONSE, "same"),
    "mirrored": lambda x, a, k: a * jnp.exp(-k * x) + 0.1 * jnp.exp(-x[::-1]),
    "neighbour": lambda x, a, k: a * jnp.exp(-k * jnp.roll(x, 8)),
    "sorted": lambda x, a, k: a * jnp.exp(-k * jnp.sort(x)),
    "not at the start": lambda x, a, k: a * jnp.exp(-x) + (k - 1.0) * x.sum(),
    "one value": lambda x, a, k: a + k * x[3],
}


def problem(model, **options):
    given = {"xdata": X, "ydata": Y, "p0": (2.0, 1.0), "xsigma": 0.1, "sigma": None} | options
    others = dict.fromkeys(("mask", "bounds", "fixed", "expand"))
    arguments = FitArguments(
        model=model,
        absolute_sigma=False,
        nan_policy="propagate",
        loss="linear",
        f_scale=1.0,
        jac="jacfwd",
        **given,
        **others,
    )
    return Problem.of_fit(read(arguments), Settings())


@pytest.mark.parametrize("name", SEEN)
def test_programs_show_it_without_a_number(name, monkeypatch):
    monkeypatch.setattr(pointwise, "_is_found", None)
    problem(SEEN[name])


@pytest.mark.parametrize("name", FOUND)
def test_values_show_it_where_the_program_does_not(name):
    problem(FOUND[name])


@pytest.mark.parametrize("name", JOINED)
@pytest.mark.parametrize("x_errors", ["odr", "effective_variance"])
def test_what_joins_points_is_refused(name, x_errors):
    with pytest.raises(ValueError, match="a model of single points"):
        problem(JOINED[name], x_errors=x_errors)


def test_exact_arrays_may_join_points():
    def model(x, a, k):
        t, gain = x
        return a * jnp.exp(-k * t) * jnp.cumsum(gain) / jnp.sum(gain)

    x = X, np.ones(M)
    problem(model, xdata=x, xsigma=(0.1, None))
    with pytest.raises(ValueError, match="a model of single points"):
        problem(model, xdata=x, xsigma=(0.1, 0.1))


def test_data_sets_of_several_lengths_and_guesses():
    x, y = [X, X[:10]], [Y, Y[:10]]

    def guess(x, y):
        return jnp.stack([y[0], 1.0])

    problem(FOUND["table"], xdata=x, ydata=y, p0=guess)
    with pytest.raises(ValueError, match="a model of single points"):
        problem(JOINED["mean"], xdata=x, ydata=y, p0=guess)


def test_what_jax_can_not_trace_is_refused():
    def model(x, a, k):
        return a * x if a > 0 else k * x

    with pytest.raises(TypeError, match=r"model, with xsigma, must be one that JAX can trace.*if"):
        fit(model, X, Y, (2.0, 1.0), xsigma=0.1)
