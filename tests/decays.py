"""Decays that the tests of batches share: one model and one shape, so that little is compiled."""

import jax.numpy as jnp
import numpy as np
import scipy.optimize

T = np.linspace(0.0, 4.0, 20)
P0 = (1.0, 1.0)
B = 12
SIGMA = np.random.default_rng(5).uniform(0.5, 2.0, (B, T.size))


def decay(t, a, k):
    return a * jnp.exp(-k * t)


def decay_np(t, a, k):
    return a * np.exp(-k * t)


def decay_jac(t, a, k, xp=jnp):
    e = xp.exp(-k * t)
    return xp.stack([e, -a * t * e], axis=1)


def decay_jac_np(t, a, k):
    return decay_jac(t, a, k, np)


def noise(shape, seed=1):
    return 0.02 * np.random.default_rng(seed).normal(size=shape)


TRUTH = np.random.default_rng(0).uniform((1.0, 0.3), (3.0, 2.5), (B, 2))
Y = decay_np(T, *TRUTH.T[:, :, None]) + noise((B, T.size))


def scipy_fits(x, ydata, p0=P0, model=decay_np, jac=decay_jac_np, sigma=None, **options):
    """`scipy.optimize.curve_fit` of each row: parameters and covariances."""
    pairs = []
    for i, y in enumerate(ydata):
        one_x = x[i] if isinstance(x, list) else x
        one_sigma = None if sigma is None else sigma[i]
        options = {"ftol": 1e-12, "xtol": 1e-12} | options
        pairs.append(
            scipy.optimize.curve_fit(model, one_x, y, p0, sigma=one_sigma, jac=jac, **options)
        )
    return np.array([p for p, _ in pairs]), np.array([c for _, c in pairs])


class Sliced:
    """The least that is read in blocks: `shape`, `dtype` and slices of the leading axes."""

    def __init__(self, array, before=None):
        self._array, self._before = array, before
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, index):
        slices = index if isinstance(index, tuple) else (index,)
        if not all(isinstance(part, slice) for part in slices):
            raise TypeError(f"only slices, got {index!r}")
        if self._before:
            self._before(index)
        return self._array[index]
