"""Errors in x beside ODRPACK95, of which `odrpack` is the package."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import fit

odrpack = pytest.importorskip("odrpack")

pytestmark = pytest.mark.ecosystem
RNG = np.random.default_rng(1)
T = np.linspace(0.0, 10.0, 30)
# Models, their true parameters, and errors of x and y.
MODELS = {
    "decay": (lambda x, p, xp: p[0] * xp.exp(-p[1] * x) + p[2], (3.0, 0.5, 1.0), 0.1, 0.05),
    "peak": (
        lambda x, p, xp: p[0] * xp.exp(-0.5 * ((x - p[1]) / p[2]) ** 2),
        (2.0, 5.0, 1.5),
        0.1,
        0.05,
    ),
    "saturation": (lambda x, p, xp: p[0] * x / (p[1] + x) + p[2], (4.0, 2.0, 0.5), 0.2, 0.05),
    "wave": (lambda x, p, xp: p[0] * xp.sin(p[1] * x + p[2]), (1.0, 1.3, 0.4), 0.05, 0.05),
}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_errors_and_shifts(name):
    function, truth, sx, sy = MODELS[name]
    x = T + sx * RNG.normal(size=(5, T.size))
    y = function(T, truth, np) + sy * RNG.normal(size=x.shape)
    begin = np.multiply(truth, 1.1)
    ours = fit(
        lambda x, a, b, c: function(x, (a, b, c), jnp), x, y, begin, sigma=sy, xsigma=sx,
        ftol=1e-14, xtol=1e-14,
    )  # fmt: skip
    for i in range(len(x)):
        theirs = odrpack.odr_fit(
            lambda x, beta: function(x, beta, np),
            x[i],
            y[i],
            begin,
            weight_x=sx**-2,
            weight_y=sy**-2,
            diff_scheme="central",
            sstol=1e-14,
            partol=1e-12,
            maxit=1000,
        )
        np.testing.assert_allclose(ours.x[i], theirs.beta, rtol=1e-5)
        np.testing.assert_allclose(ours.chi2[i], theirs.sum_square, rtol=1e-9)
        np.testing.assert_allclose(ours.stderr[i], theirs.sd_beta, rtol=1e-4)
        np.testing.assert_allclose(ours.x_shifts[i], theirs.delta, atol=1e-5)
