"""More parameters than compiled lanes take: the pool, with its matrix products."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import curve_fit

from jaxlsq import fit

PEAKS = 6
X = np.linspace(0.0, 4.0 * PEAKS, 120)


def model(x, *params):
    out = 0.0 * x
    for k in range(PEAKS):
        height, center, width = params[3 * k : 3 * k + 3]
        out = out + height * jnp.exp(-0.5 * ((x - center) / width) ** 2)
    return out


def in_numpy(x, *params):
    parts = np.array(params).reshape(PEAKS, 3, 1)
    return np.sum(parts[:, 0] * np.exp(-0.5 * ((x - parts[:, 1]) / parts[:, 2]) ** 2), axis=0)


TRUE = np.array([[3.0, 4.0 * k + 2.0, 0.8] for k in range(PEAKS)]).ravel()


@pytest.mark.long_but("float64")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_eighteen_parameters(dtype):
    rng = np.random.default_rng(0)
    y = in_numpy(X, *TRUE) + 0.05 * rng.normal(size=(9, X.size))
    y[4, 7] = np.nan
    starts = TRUE + np.linspace(0.01, 0.4, 9)[:, None] * rng.uniform(-1.0, 1.0, (9, TRUE.size))
    result = fit(model, X.astype(dtype), y.astype(dtype), starts.astype(dtype))
    assert "more than 16 parameters" in result.engine
    whole = np.arange(9) != 4
    assert result.success[whole].all()
    assert not result.success[4]
    assert np.ptp(result.nfev[whole]) > 0
    for k in np.flatnonzero(whole):
        popt, pcov = curve_fit(in_numpy, X, y[k].astype(dtype), starts[k], ftol=1e-12, xtol=1e-12)
        errors = np.sqrt(np.diag(pcov))
        assert np.all(np.abs(result.x[k] - popt) < (1e-4 if dtype == np.float64 else 1e-2) * errors)
        np.testing.assert_allclose(np.sqrt(np.diag(result.cov[k])), errors, rtol=2e-3)
