"""`axis`: data whose points are not along the last axis."""

import h5py
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from jaxlsq import fit

T = np.linspace(0.0, 4.0, 30)
RNG = np.random.default_rng(0)
K = RNG.uniform(0.5, 2.0, (4, 5))
Y = 2.5 * np.exp(-K[..., None] * T) + 0.01 * RNG.normal(size=(4, 5, 30))
SIGMA = RNG.uniform(0.5, 2.0, Y.shape)
MASK = RNG.uniform(size=Y.shape) > 0.2
P0 = [1.0, 1.0]


def decay(t, a, k):
    return a * jnp.exp(-k * t)


@pytest.fixture(scope="module")
def plain():
    result = fit(decay, T, Y, P0, sigma=SIGMA, mask=MASK)
    assert result.success.all()
    assert len(np.unique(result.nfev)) > 1
    return result


@pytest.mark.parametrize("axis", [0, 1, -2, -3])
def test_an_axis_is_the_last_moved_there(plain, axis):
    moved = [np.moveaxis(array, -1, axis).copy() for array in (Y, SIGMA, MASK)]
    y, sigma, mask = moved
    result = fit(decay, T, y, P0, sigma=sigma, mask=mask, axis=axis)
    np.testing.assert_array_equal(result.x, plain.x)
    np.testing.assert_array_equal(result.nfev, plain.nfev)


@pytest.mark.parametrize("name", ["sigma", "mask", "f_scale", "xsigma"])
def test_nested_lists_move_as_arrays_do(name):
    # As many data sets as points: read the wrong way round they would fit too.
    y = Y.reshape(-1, T.size)[:, : Y.shape[0] * Y.shape[1]]
    t = T[: y.shape[1]]
    value = RNG.uniform(0.5, 2.0, y.shape)
    if name == "mask":
        value = value > 0.8
    if name == "xsigma":
        value = 0.01 * value
    options = {"loss": "soft_l1"} if name == "f_scale" else {}
    expected = fit(decay, t, y, P0, **{name: value}, **options)
    given = {name: value.T.tolist()}
    result = fit(decay, t, y.T, P0, **given, **options, axis=0)
    np.testing.assert_array_equal(result.x, expected.x)
    assert np.abs(fit(decay, t, y, P0, **{name: value.T}, **options).x - expected.x).max() > 1e-6


def test_xdata_per_data_set_moves_too(plain):
    x = np.broadcast_to(T, Y.shape) * RNG.uniform(0.9, 1.1, Y.shape)
    expected = fit(decay, x, Y, P0)
    x, y = (np.moveaxis(array, -1, 0) for array in (x, Y))
    np.testing.assert_array_equal(fit(decay, x, y, P0, axis=0).x, expected.x)


def test_sigma_of_each_point_stays(plain):
    sigma = np.linspace(1.0, 2.0, T.size)
    expected = fit(decay, T, Y, P0, sigma=sigma)
    y = np.moveaxis(Y, -1, 0)
    np.testing.assert_array_equal(fit(decay, T, y, P0, sigma=sigma, axis=0).x, expected.x)
    each = sigma[:, None, None]
    np.testing.assert_array_equal(fit(decay, T, y, P0, sigma=each, axis=0).x, expected.x)


def test_planes_of_a_file(plain, tmp_path):
    planes = np.moveaxis(Y, -1, 0)
    with h5py.File(tmp_path / "planes.h5", "w") as file:
        file["y"] = planes
        file["sigma"] = np.moveaxis(SIGMA, -1, 0)
        result = fit(decay, T, file["y"], P0, sigma=file["sigma"], axis=0)
        expected = fit(decay, T, Y, P0, sigma=SIGMA)
        np.testing.assert_array_equal(result.x, expected.x)
        some = np.arange(20).reshape(4, 5) % 3 == 0
        assert result[some].cov.shape == (7, 2, 2)
    store = zarr.create_array(store=str(tmp_path / "y.zarr"), data=planes, chunks=(1, 4, 5))
    sigma = np.moveaxis(SIGMA, -1, 0)
    result = fit(decay, T, store, P0, sigma=sigma, axis=0)
    np.testing.assert_array_equal(result.x, expected.x)


def test_masked_planes():
    hidden = np.ma.array(np.moveaxis(Y, -1, 0), mask=np.moveaxis(~MASK, -1, 0))
    expected = fit(decay, T, Y, P0, mask=MASK)
    np.testing.assert_array_equal(fit(decay, T, hidden, P0, axis=0).x, expected.x)


def test_the_name_of_a_dim():
    planes = xr.DataArray(np.moveaxis(Y, -1, 0), dims=("time", "row", "column"))
    expected = fit(decay, T, Y, P0)
    for axis in ("time", 0, -3):
        np.testing.assert_array_equal(fit(decay, T, planes, P0, axis=axis).x, expected.x)
    gain = xr.DataArray(K, dims=("row", "column"))
    result = fit(decay, T, planes, {"a": 1.0, "k": gain.T}, axis="time")
    assert result.nfev.mean() < expected.nfev.mean()


def test_a_table_with_a_data_set_in_each_column():
    table = pd.DataFrame(Y.reshape(20, 30).T, index=T, columns=[f"w{i}" for i in range(20)])
    result = fit(decay, table.index, table, P0, axis=0)
    np.testing.assert_array_equal(result.x, fit(decay, T, Y.reshape(20, 30), P0).x)
    assert list(result.to_frame().index) == list(table.columns)


@pytest.mark.parametrize(
    ("axis", "error", "words"),
    [
        (3, ValueError, r"axis must be a number from -3 to 2.*shape \(4, 5, 30\); got 3"),
        (0.5, TypeError, "axis must be a number"),
        ("time", ValueError, "no named dims; got 'time'"),
    ],
)
def test_an_axis_that_is_not_there(axis, error, words):
    with pytest.raises(error, match=words):
        fit(decay, T, Y, P0, axis=axis)


def test_a_dim_that_is_not_there():
    with pytest.raises(ValueError, match=r"has the dims \('a', 'b'\); got 'time'"):
        fit(decay, T, xr.DataArray(Y[0], dims=("a", "b")), P0, axis="time")
