"""Reading of sources: few reads, of what is wanted alone, from files, by several threads."""

import threading
import time

import numpy as np
import pytest

import jaxlsq.batch.group
import jaxlsq.batch.kept
from jaxlsq import fit, least_squares_batch
from jaxlsq.problem.sources import Source, rectangles
from tests.decays import P0, T, Y, decay

ROW = np.dtype(np.float64)


class Counting:
    """Slices of the leading axes; remembers what was read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.boxes = array, array.shape, array.dtype, []

    def __getitem__(self, index):
        part = self.array[index]
        self.boxes.append(part.shape)
        return part

    @property
    def values_read(self):
        return sum(int(np.prod(box)) for box in self.boxes)


@pytest.mark.parametrize("shape", [(7,), (3, 4), (1, 5, 6), (3, 1, 4, 2)])
def test_rectangles_hold_every_range_once_and_in_order(shape):
    numbers = np.arange(np.prod(shape)).reshape(shape)
    for first in range(numbers.size):
        for last in range(first + 1, numbers.size + 1):
            boxes = rectangles(shape, first, last)
            assert len(boxes) < 2 * len(shape)
            read = np.concatenate([numbers[box].ravel() for box in boxes])
            np.testing.assert_array_equal(read, np.arange(first, last))


@pytest.mark.parametrize("shape", [(12,), (1, 64, 64), (2, 1, 50)])
@pytest.mark.parametrize("block", [1, 7, 256])
def test_blocks_read_every_value_once(shape, block):
    array = Counting(np.random.default_rng(0).normal(size=(*shape, 5)))
    source, total = Source(array, shape, ROW), int(np.prod(shape))
    blocks = [source.read(k, min(k + block, total)) for k in range(0, total, block)]
    np.testing.assert_array_equal(np.concatenate(blocks), array.array.reshape(-1, 5))
    assert array.values_read == array.array.size


@pytest.mark.parametrize("wrap", [np.asarray, np.asfortranarray, Counting])
@pytest.mark.parametrize("index", [[], [5], [3, 3, 2], np.arange(250), np.arange(0, 900, 300)])
def test_chosen_problems(wrap, index):
    values = np.random.default_rng(0).normal(size=(30, 40, 2))
    array = wrap(values)
    source = Source(array, (30, 40), ROW, np.asarray(index, int))
    np.testing.assert_array_equal(
        source.read(0, len(index)), values.reshape(-1, 2)[np.asarray(index, int)]
    )
    if wrap is Counting:
        assert len(array.boxes) <= 4


def test_neighbours_are_read_together():
    array = Counting(np.random.default_rng(0).normal(size=(1000, 20)))
    index = np.flatnonzero(np.random.default_rng(1).uniform(size=1000) < 0.3)
    rows = Source(array, (1000,), ROW, index).read(0, len(index))
    np.testing.assert_array_equal(rows, array.array[index])
    assert len(array.boxes) < 20


def test_what_a_result_of_some_fits_reads():
    array = Counting(np.tile(Y, (25, 1)))
    result = fit(decay, T, array, P0)
    some = result[50:]
    array.boxes.clear()
    residuals = some.residuals
    assert len(array.boxes) <= 4
    np.testing.assert_allclose(residuals, result.residuals[50:], rtol=1e-12)


class Fragile(Counting):
    """Notices two reads at once."""

    def __init__(self, array):
        super().__init__(array)
        self.readers, self.most = 0, 0

    def __getitem__(self, index):
        self.readers += 1
        self.most = max(self.most, self.readers)
        time.sleep(0.002)
        part = super().__getitem__(index)
        self.readers -= 1
        return part


@pytest.fixture
def several_threads(monkeypatch):
    monkeypatch.setattr(jaxlsq.batch.group, "workers_of", lambda _: 4)
    monkeypatch.setattr(jaxlsq.batch.group, "LEAST_PROBLEMS", 8)


def test_sources_that_are_not_known_are_read_by_one_thread_at_a_time(several_threads):
    data = np.tile(Y, (20, 1))
    one, other = Fragile(data), Fragile(data)
    other.readers = one.readers
    result = fit(decay, T, one, P0, sigma=Fragile(np.ones_like(data)))
    np.testing.assert_allclose(result.x[:12], fit(decay, T, Y, P0).x, rtol=1e-7)
    assert len(one.boxes) > 4
    assert one.most == 1


def test_an_error_of_a_source_comes_through_and_says_where(several_threads):
    class Gone(OSError):
        pass

    class Failing(Counting):
        def __getitem__(self, index):
            if threading.current_thread() is not threading.main_thread():
                raise Gone("the disk is gone")
            return super().__getitem__(index)

    with pytest.raises(Gone, match="the disk is gone") as info:
        fit(decay, T, Failing(np.tile(Y, (20, 1))), P0)
    assert any("ydata" in note for note in info.value.__notes__)


@pytest.fixture
def store(tmp_path):
    """An HDF5 file with ydata, xdata and sigma, and its path."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["y"] = Y.reshape(3, 4, -1)
        file["x"] = np.broadcast_to(T, (3, 4, T.size))
        file["sigma"] = np.full((3, 4, T.size), 0.5)
    return lambda: h5py.File(tmp_path / "data.h5", "r")


@pytest.mark.parametrize("copied", [0, 1 << 21])
def test_hdf5(store, copied, monkeypatch):
    monkeypatch.setattr(jaxlsq.batch.kept, "COPIED_BYTES", copied)
    with store() as file:
        result = fit(decay, file["x"], file["y"], P0, sigma=file["sigma"])
        expected = fit(decay, T, Y.reshape(3, 4, -1), P0, sigma=0.5)
        np.testing.assert_allclose(result.x, expected.x, rtol=1e-12)
        np.testing.assert_allclose(result.cov, expected.cov, rtol=1e-9)
        np.testing.assert_allclose(result[1, 2].residuals, expected.residuals[1, 2], atol=1e-12)


@pytest.mark.parametrize("copied", [0, 1 << 21])
def test_zarr(tmp_path, copied, monkeypatch):
    zarr = pytest.importorskip("zarr")
    monkeypatch.setattr(jaxlsq.batch.kept, "COPIED_BYTES", copied)
    array = zarr.create_array(tmp_path / "data.zarr", data=Y.reshape(3, 4, -1), chunks=(1, 2, 20))
    result = fit(decay, T, array, P0)
    expected = fit(decay, T, Y.reshape(3, 4, -1), P0)
    np.testing.assert_allclose(result.x, expected.x, rtol=1e-12)
    np.testing.assert_allclose(result.stderr[2], expected.stderr[2], rtol=1e-9)


QUESTIONS = {
    "residuals": lambda result: result.residuals,
    "cov": lambda result: result.cov,
    "predict": lambda result: result.predict(),
    "refit": lambda result: result.refit(where=result.success),
}


@pytest.fixture
def all_is_large(monkeypatch):
    monkeypatch.setattr(jaxlsq.batch.kept, "COPIED_BYTES", 0)


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_file_that_was_closed_is_named(all_is_large, store, question):
    with store() as file:
        result = fit(decay, T, file["y"], P0)
    with pytest.raises(ValueError, match="ydata can't be read: its HDF5 file is closed"):
        question(result)


@pytest.mark.parametrize("name", ["ydata", "xdata", "sigma"])
def test_a_file_that_is_closed_already_is_named(store, name):
    with store() as file:
        arrays = {"xdata": file["x"], "ydata": file["y"], "sigma": file["sigma"]}
        arrays = {k: v if k == name else v[:] for k, v in arrays.items()}
    with pytest.raises(ValueError, match=f"{name} can't be read: its HDF5 file is closed"):
        fit(decay, arrays["xdata"], arrays["ydata"], P0, sigma=arrays["sigma"])


def test_a_closed_file_as_data_of_a_residual(store):
    with store() as file:
        data = file["y"]
    with pytest.raises(ValueError, match="data can't be read: its HDF5 file is closed"):
        least_squares_batch(lambda p, y: decay(T, *p) - y[0], P0, data)
