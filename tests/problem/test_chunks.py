"""Files in chunks: each chunk is read once, whatever the blocks of fits are."""

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
import zarr

from jaxlsq import fit
from jaxlsq.batch import group
from jaxlsq.problem import chunks
from jaxlsq.problem.chunks import Chunked, rows_of_chunks

T = np.linspace(0.0, 4.0, 30)
RNG = np.random.default_rng(0)
K = RNG.uniform(0.5, 2.0, (60, 200))
Y = 2.5 * np.exp(-K[..., None] * T) + 0.02 * RNG.normal(size=(60, 200, 30))
P0 = [1.0, 1.0]


def decay(t, a, k):
    return a * jnp.exp(-k * t)


class Counted:
    """An array in chunks that counts what is read of it."""

    def __init__(self, array, chunks):
        self.array, self.chunks = array, chunks
        self.shape, self.dtype = array.shape, array.dtype
        self.rows = np.zeros(array.shape[0], int)

    def __getitem__(self, index):
        first = index[0] if isinstance(index, tuple) else index
        self.rows[first] += 1
        return self.array[index]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(group, "BLOCK_PROBLEMS", 512)
    monkeypatch.setattr(group, "LEAST_PROBLEMS", 512)


@pytest.fixture(scope="module")
def expected():
    return fit(decay, T, Y, P0)


def test_each_row_is_read_once(expected):
    counted = Counted(Y, (20, 200, 1))
    result = fit(decay, T, counted, P0, workers=2)
    np.testing.assert_array_equal(result.x, expected.x)
    # A first look, at the beginning of the file; and some rows by which changes are noticed.
    assert counted.rows.max() <= 3


@pytest.mark.parametrize("rows", [7, 20, 60])
@pytest.mark.parametrize("slab", [1, 200 * 30 * 8 * 5, 1 << 30])
def test_any_chunks_and_slabs(expected, monkeypatch, rows, slab):
    monkeypatch.setattr(chunks, "SLAB_BYTES", slab)
    result = fit(decay, T, Counted(Y, (rows, 200, 1)), P0)
    np.testing.assert_array_equal(result.x, expected.x)
    np.testing.assert_allclose(result.cov, expected.cov, rtol=1e-12)


def test_files(expected, tmp_path):
    with h5py.File(tmp_path / "y.h5", "w") as file:
        planes = file.create_dataset("y", data=Y, chunks=(60, 200, 1), compression="gzip")
        first = file.create_dataset("p", data=np.moveaxis(Y, -1, 0), chunks=(1, 60, 200))
        whole = file.create_dataset("c", data=Y)
        for source, axis in ((planes, -1), (first, 0), (whole, -1)):
            result = fit(decay, T, source, P0, axis=axis)
            np.testing.assert_array_equal(result.x, expected.x)
            np.testing.assert_allclose(result.cov, expected.cov, rtol=1e-12)
    store = zarr.create_array(store=str(tmp_path / "y.zarr"), data=Y, chunks=(60, 200, 1))
    np.testing.assert_array_equal(fit(decay, T, store, P0).x, expected.x)


def test_dask(expected):
    import dask.array

    data = dask.array.from_array(Y, chunks=(20, 200, 30))
    np.testing.assert_array_equal(fit(decay, T, data, P0).x, expected.x)


@pytest.mark.parametrize(
    ("found", "rows"),
    [
        (None, None), ((5, 2), 5), (((5, 5, 2), (7,)), 5), (((5, 3, 5), (7,)), None),
        ((5,), None), ("auto", None), ((), None),
    ],
)  # fmt: skip
def test_what_chunks_may_look_like(found, rows):
    array = Counted(np.ones((12, 7)), found)
    assert rows_of_chunks(array) == rows


def test_every_slice_is_that_of_the_array():
    array = np.arange(23 * 4.0).reshape(23, 4)
    view = Chunked.of(Counted(array, (5, 1)))
    assert isinstance(view, Chunked)
    for first in range(0, 24, 3):
        for last in range(first, 26, 2):
            np.testing.assert_array_equal(view[first:last], array[first:last])
            index = slice(first, last), slice(1, 3)
            np.testing.assert_array_equal(view[index], array[index])
    np.testing.assert_array_equal(view[-4:], array[-4:])
