"""Doors beside the plain fit, which is tested in `tests.api`: each small, and what comes out."""

import contextlib
import io
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxlsq import FitResult, compare, fit
from jaxlsq.cli.__main__ import main
from jaxlsq.models import Gaussian
from jaxlsq.xarray import curvefit

T = np.linspace(0.0, 3.0, 16)
RATES = np.array([0.5, 0.9, 1.4])
Y = 2.0 * np.exp(-RATES[:, None] * T) + 0.01 * np.cos(9.0 * T)
BELL = 3.0 * np.exp(-0.5 * ((T - [[1.2], [1.5]]) / 0.4) ** 2) + 0.01 * np.cos(9.0 * T)
P0 = {"a": 1.0, "k": 1.0}


def decay(t, a, k):
    return a * jnp.exp(-k * t)


def of_python(t, a, k):
    """What JAX can't trace."""
    return float(a) * np.exp(-float(k) * t)


def flat(t, a):
    return a + 0.0 * t


def of(result):
    return result.x, result.cost, result.cov, result.status


def fitted(**options):
    return fit(decay, T, Y, P0, **options)


def neighbours():
    return of(fit(decay, T, np.stack([Y, Y[::-1]]), P0, starts="neighbours"))


def bootstrap():
    found = fitted().bootstrap(20, seed=3)
    return list(found.stderr.values()), found.interval(0.9)


def contour():
    return fitted()[0].contour("a", "k", size=5).rise


def comparison():
    found = compare(fitted(), fit(flat, T, Y, {"a": 1.0}))
    return found.aicc, found.f_test(1, 0).p, fitted().suspect.astype(float)


def through_xarray():
    table = xr.DataArray(Y, {"t": T, "x": [0, 1, 2]}, ("x", "t"))
    return curvefit(table, "t", decay, p0=P0).curvefit_coefficients.values


def command():
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder, "data.csv"), Path(folder, "out.npz")
        np.savetxt(data, np.column_stack([T, Y.T]), delimiter=",", header="t,u,v,w", comments="")
        call = ["fit", str(data), "--model", "a*exp(-k*x)", "--p0", "a=1", "k=1", "--out", str(out)]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(call)
        assert code == 0, said.getvalue()
        return of(FitResult.load(str(out)))


DOORS = {
    "shared": lambda: of(fitted(shared=["a"])),
    "linear": lambda: of(fitted(linear=["a"])),
    "xsigma": lambda: of(fitted(xsigma=0.01, sigma=0.1)),
    "neighbours": neighbours,
    "profile": lambda: fitted().interval(method="profile"),
    "bootstrap": bootstrap,
    "contour": contour,
    "compare": comparison,
    "python": lambda: of(fit(of_python, T, Y, P0)),
    "guesses": lambda: of(fit(Gaussian(), T, BELL)),
    "xarray": through_xarray,
    "command": command,
}


def called(door):
    """What comes out of a door, flat."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(DOORS[door]())]
