"""A function that runs in Python sees the user's settings, and gets steps for its own type."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxlsq import curve_fit, leastsq

T = np.linspace(0.1, 4.0, 40)
Y = 2.5 * np.exp(-1.3 * T) + 0.2


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0, 9)])
def test_the_users_types_in_a_numpy_model(wide, bounds):
    seen = set()

    def model(t, a, k, c):
        if not isinstance(a, jax.core.Tracer):  # a trace is of float64
            seen.add(jnp.ones(2).dtype)
            seen.add(jax.jit(lambda v: v * 1.0)(1.0).dtype)
        return a * np.exp(-k * t) + c

    with jax.enable_x64(wide):
        popt, _ = curve_fit(model, T, Y, [1.0, 1.0, 0.0], bounds=bounds)
    np.testing.assert_allclose(popt, [2.5, 1.3, 0.2], rtol=1e-6)
    assert seen == {np.dtype(np.float64 if wide else np.float32)}


def test_the_users_device_in_a_numpy_model():
    device, seen = jax.devices()[-1], set()

    def residual(p):
        seen.update(jnp.ones(2).devices())
        seen.add(jax.config.jax_default_device)
        return p[0] * np.exp(-p[1] * T) + p[2] - Y

    with jax.default_device(device):
        leastsq(residual, [1.0, 1.0, 0.0])
    assert seen == {device}


def by_series(t, a, k, c):
    return a * np.exp(-k * pd.Series(t).astype("float32")) + c


def by_cast(t, a, k, c):
    return (a * np.exp(-k * t) + c).astype(np.float32).astype(np.float64)


def by_jitted_part(t, a, k, c):
    return np.asarray(jax.jit(lambda a: a * jnp.exp(-k * t) + c)(a)) + np.zeros(t.size)


def in_float32(t, a, k, c):
    return (a * np.exp(-k * t) + c).astype(np.float32)


@pytest.mark.parametrize("model", [by_series, by_cast, by_jitted_part, in_float32])
@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (-1, 9)])
def test_functions_in_float32(model, bounds):
    popt, _ = curve_fit(model, T, Y, [1.0, 1.0, 0.0], bounds=bounds)
    np.testing.assert_allclose(popt, [2.5, 1.3, 0.2], rtol=1e-3)


def test_a_series_in_float32():
    for t in (pd.Series(T).astype("float32"), T.astype("float32")):
        model = lambda t, a, k, c: a * np.exp(-k * t) + c  # noqa: E731
        popt, _ = curve_fit(model, t, Y, [1.0, 1.0, 0.0])
        np.testing.assert_allclose(popt, [2.5, 1.3, 0.2], rtol=1e-3)


def test_a_sparse_function_keeps_its_steps():
    def residual(p):
        return np.abs(np.array([10 * (p[1] - p[0] ** 2), 1 - p[0], p[2] - 1, p[3] - 1, p[2] * 0]))

    x, _, info, _, _ = leastsq(lambda p: residual(p), [-1.2, 1.0, 2.0, 3.0], full_output=True)
    np.testing.assert_allclose(x, np.ones(4), rtol=1e-5)
    assert "njev" not in info
