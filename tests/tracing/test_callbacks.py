"""Callbacks in models: float64 where the fit is, in every door; and `shard_map` in a residual."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxlsq import curve_fit, fit, least_squares_batch, leastsq

T = np.linspace(0.1, 4.0, 24)
Y = 2.5 * np.exp(-1.3 * T)


def called(k, method, seen):
    def on_the_host(k):
        seen.add(str(k.dtype))
        k = np.asarray(k)
        return np.asarray(np.exp(-k[..., None] * T), k.dtype)

    shape = jax.ShapeDtypeStruct((*jnp.shape(k), T.size), k.dtype)
    return jax.pure_callback(on_the_host, shape, k, vmap_method=method)


@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "jac"),
    [
        ("sequential", "2-point"),
        ("expand_dims", "3-point"),
        pytest.param("broadcast_all", "2-point", marks=pytest.mark.long),
    ],
)
def test_callbacks_in_every_door(method, jac):
    seen = set()

    def model(t, a, k):
        return a * called(k, method, seen)

    y = np.stack([Y, 2 * Y, Y])
    for _ in range(2):
        result = fit(model, T, y, [1.0, 1.0], jac=jac)
        np.testing.assert_allclose(result.x, [[2.5, 1.3], [5, 1.3], [2.5, 1.3]], rtol=1e-6)
    batch = least_squares_batch(lambda p, y: model(T, *p) - y, [1.0, 1.0], y, jac=jac)
    np.testing.assert_allclose(batch.x[1], [5, 1.3], rtol=1e-6)
    for bounds in ((-np.inf, np.inf), (0, 9)):
        popt, _ = curve_fit(model, T, Y, [1.0, 1.0], bounds=bounds, jac=jac)
        np.testing.assert_allclose(popt, [2.5, 1.3], rtol=1e-6)
    x, _ = leastsq(lambda p: model(T, *p) - Y, [1.0, 1.0], Dfun=jac)
    np.testing.assert_allclose(x, [2.5, 1.3], rtol=1e-6)
    assert seen == {"float64"}


def test_a_callback_in_a_float32_fit_gets_float32():
    seen = set()
    y = np.stack([Y, Y]).astype(np.float32)
    model = lambda t, a, k: a * called(k, "sequential", seen)  # noqa: E731
    result = fit(model, T.astype(np.float32), y, [1.0, 1.0], jac="2-point")
    np.testing.assert_allclose(result.x[0], [2.5, 1.3], rtol=1e-3)
    assert "float64" not in seen or result.x.dtype == np.float64


@pytest.mark.long
def test_shard_map_in_a_residual():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("points",))
    spec = PartitionSpec("points")

    @partial(jax.shard_map, mesh=mesh, in_specs=(PartitionSpec(), spec), out_specs=spec)
    def sharded(p, t):
        return p[0] * jnp.exp(-p[1] * t)

    for _ in range(2):
        x, ier = leastsq(lambda p: sharded(p, T) - Y, [1.0, 1.0])
        assert ier in (1, 2, 3)
        np.testing.assert_allclose(x, [2.5, 1.3], rtol=1e-6)
