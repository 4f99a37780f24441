"""``fit(..., out=...)``: results in files as they come, resumed, or reduced."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from jaxlsq import Distribution, Interrupted, Status, StoredResult, fit
from jaxlsq.batch import portions
from jaxlsq.results.grid import Grid

T = np.linspace(0.0, 4.0, 30)
RNG = np.random.default_rng(0)
K = RNG.uniform(0.5, 2.0, (50, 40))
Y = 2.5 * np.exp(-K[..., None] * T) + 0.02 * RNG.normal(size=(50, 40, 30))
Y[7, 3, 2] = np.nan
P0 = {"a": 1.0, "k": 1.0}


def decay(t, a, k):
    return a * jnp.exp(-k * t)


@pytest.fixture(autouse=True)
def small_portions(monkeypatch):
    monkeypatch.setattr(portions, "MOST_FITS", 300)


@pytest.fixture(scope="module")
def expected():
    result = fit(decay, T, Y, P0)
    assert len(np.unique(result.nfev)) > 2
    return result


def same(one, other):
    for name in ("x", "cost", "status", "nfev", "njev", "nit", "dof", "agreed", "fixed"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_allclose(one.cov, other.cov, rtol=1e-12)
    assert one.names == other.names
    assert one.layout == other.layout


@pytest.mark.parametrize("name", ["out.zarr", "folder"])
def test_the_same_result_from_files(expected, tmp_path, name):
    stored = fit(decay, T, Y, P0, out=tmp_path / name)
    assert len(stored.grid) == 8
    assert stored.complete
    assert stored.counts() == expected.counts()
    same(stored.load(), expected)
    same(stored.load(5, 20), expected[5:20])
    assert stored.load(9, 3).x.shape == (0, 40, 2)
    parts = [block for _, block in stored.blocks()]
    same(type(expected).concat(parts), expected)
    assert "1,999 of 2,000 converged" in repr(stored)
    opened = StoredResult.open(str(tmp_path / name))
    assert (opened.names, opened.shape, len(opened)) == (("a", "k"), (50, 40), 50)
    same(opened.load(), expected)
    assert stored.engine == opened.engine == opened.load(3, 4).engine == expected.engine != ""
    assert {part.engine for part in parts} == {expected.engine}


def test_what_xarray_sees_of_a_store_says_what_it_is(tmp_path):
    fit(decay, T, Y[:2, :3], P0, out=tmp_path / "out.zarr")
    opened = xr.open_zarr(tmp_path / "out.zarr", consolidated=False)
    codes, words = (opened.status.attrs[f"flag_{what}"] for what in ("values", "meanings"))
    assert dict(zip(words.split(), codes, strict=True))["FTOL"] == opened.status.values[0, 0]
    assert opened.inverse.attrs["long_name"].startswith("inverse of J'J")
    assert opened.cost.attrs["long_name"].startswith("half the sum of squares")


@pytest.mark.parametrize("batch", [(50,), (3, 900), (2, 1, 50), (1, 1, 1)])
def test_any_shape_of_the_batch(tmp_path, batch):
    k = RNG.uniform(0.5, 2.0, batch)
    y = 2.5 * np.exp(-k[..., None] * T)
    p0 = np.stack([np.ones(batch), k * 1.1], axis=-1)
    out = fit(decay, T, y, p0, bounds={"k": (0.0, k * 2)}, sigma=k[..., None], out=tmp_path / "o")
    same(out.load(), fit(decay, T, y, p0, bounds={"k": (0.0, k * 2)}, sigma=k[..., None]))


def test_labels_are_kept(tmp_path):
    y = xr.DataArray(
        Y,
        {
            "row": ("row", np.arange(50) * 0.5, {"units": "mm"}),
            "column": [f"c{i}" for i in range(40)],
            "day": ("row", np.datetime64("2026-01-01", "ns") + np.arange(50)),
        },
        ("row", "column", "time"),
    )
    whole = fit(decay, T, y, P0)
    for name in ("out.zarr", "folder"):
        stored = fit(decay, T, y, P0, out=tmp_path / name)
        xr.testing.assert_allclose(stored.load().to_dataset(), whole.to_dataset(), rtol=1e-12)
        xr.testing.assert_allclose(
            stored.load(3, 9).to_dataset(), whole[3:9].to_dataset(), rtol=1e-12
        )
    lazy = StoredResult.open(tmp_path / "out.zarr").to_dataset()
    assert lazy.k.chunks is not None
    xr.testing.assert_allclose(lazy.k_stderr.compute(), whole.to_dataset().k_stderr, rtol=1e-12)
    assert lazy.success.chunks is not None
    assert int((~lazy.success).sum()) == 1
    xr.testing.assert_equal(lazy.success.compute(), whole.to_dataset().success)
    assert lazy.status.attrs.keys() == whole.to_dataset().status.attrs.keys()
    np.testing.assert_array_equal(lazy.day, y.day)
    with pytest.raises(ValueError, match="to_dataset is of zarr groups"):
        StoredResult.open(tmp_path / "folder").to_dataset()


def test_data_of_different_lengths(tmp_path):
    lengths = RNG.integers(20, 31, 700)
    x = [T[:m] for m in lengths]
    y = [row[:m] for row, m in zip(Y.reshape(-1, 30)[800:1500], lengths, strict=True)]
    same(fit(decay, x, y, P0, out=tmp_path / "o").load(), fit(decay, x, y, P0))


# --- resuming ---------------------------------------------------------------------------


@pytest.fixture
def fits(monkeypatch):
    """Portions that are fitted."""
    seen = []
    solve = portions.Problem.solve

    def counted(self):
        if self.total:
            seen.append(self.total)
        return solve(self)

    monkeypatch.setattr(portions.Problem, "solve", counted)
    return seen


@pytest.mark.parametrize("name", ["out.zarr", "folder"])
def test_a_run_goes_on_where_it_was(expected, tmp_path, fits, monkeypatch, name):
    real, left = portions.Problem.solve, [3]

    def failing(self):
        if self.total:
            left[0] -= 1
            if left[0] < 0:
                raise OSError("No space left on device")
        return real(self)

    monkeypatch.setattr(portions.Problem, "solve", failing)
    with pytest.raises(OSError, match="No space"):
        fit(decay, T, Y, P0, out=tmp_path / name)
    half = StoredResult.open(tmp_path / name)
    assert not half.complete
    assert half.counts()[Status.INTERRUPTED] == 2000 - 3 * 280
    assert (half.load().status[30:] == Status.INTERRUPTED).all()
    same(half.load(0, 21), expected[:21])
    monkeypatch.setattr(portions.Problem, "solve", real)
    fits.clear()
    same(fit(decay, T, Y, P0, out=tmp_path / name).load(), expected)
    assert len(fits) == 5
    fits.clear()
    fit(decay, T, Y, P0, out=tmp_path / name)
    assert not fits


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ftol": 1e-3}, "ftol"),
        ({"p0": {"a": 1.0, "k": 2.0}}, "p0"),
        ({"p0": {"k": 1.0, "a": 1.0}}, "parameters"),
        ({"bounds": {"k": (0, 9)}}, "bounds or fixed"),
        ({"xdata": 2 * T}, "shared data"),
        ({"model": lambda t, a, k: a * jnp.exp(-2 * k * t)}, "model, loss or jac"),
        ({"loss": "huber"}, "model, loss or jac"),
        ({"jac": "2-point"}, "model, loss or jac"),
        ({"absolute_sigma": True, "sigma": 1.0}, "absolute_sigma"),
        ({"starts": 2}, "starts"),
        ({"ydata": Y[:40]}, "the shape of the batch"),
        ({"ydata": Y.astype(np.float32), "xdata": T.astype(np.float32)}, "the type of the data"),
    ],
)
def test_another_run_is_refused(tmp_path, change, words):
    arguments = {"model": decay, "xdata": T, "ydata": Y, "p0": P0, "out": tmp_path / "o"}
    fit(**arguments)
    with pytest.raises(ValueError, match=f"holds another run: .*{words}.*differ"):
        fit(**(arguments | change))


def test_changed_data_are_refused(tmp_path):
    fit(decay, T, Y, P0, out=tmp_path / "o")
    y = Y.copy()
    y[20, 5, 7] += 1e-12
    with pytest.raises(ValueError, match="the data of fits 560 to 839 are not those"):
        fit(decay, T, y, P0, out=tmp_path / "o")


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for name in (tmp_path, tmp_path / "o.zarr"):
        if name.suffix:
            name.mkdir()
            (name / "notes.txt").write_text("mine")
        with pytest.raises(ValueError, match="holds no results of fit"):
            fit(decay, T, Y, P0, out=name)
        assert (name / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match=r"must be a folder, which may be there, or end with"):
        fit(decay, T, Y, P0, out=tmp_path / "o.npz")
    with pytest.raises(ValueError, match="must be a folder"):
        fit(decay, T, Y, P0, out=tmp_path / "notes.txt")
    with pytest.raises(TypeError, match="out must be the path"):
        fit(decay, T, Y, P0, out=3)
    with pytest.raises(ValueError, match=r"has the batch shape \(\)"):
        fit(decay, T, Y[0, 0], P0, out=tmp_path / "one")
    with pytest.raises(FileNotFoundError, match="there are no results"):
        StoredResult.open(tmp_path / "nothing")


def test_an_interrupt_keeps_what_is_written(expected, tmp_path):
    def stop(done, total):
        if done > 900:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as stopped:
        fit(decay, T, Y, P0, out=tmp_path / "o", progress=stop)
    part = stopped.value.result
    assert "the same call goes on" in str(stopped.value)
    assert 0 < len(part.store.done()) < 8
    same(fit(decay, T, Y, P0, out=tmp_path / "o").load(), expected)


@pytest.mark.parametrize("name", ["out.zarr", "folder"])
def test_an_interrupt_between_portions(expected, tmp_path, monkeypatch, name):
    load, left = portions._loaded, [3]

    def pressed(problem, box):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return load(problem, box)

    monkeypatch.setattr(portions, "_loaded", pressed)
    with pytest.raises(Interrupted) as stopped:
        fit(decay, T, Y, P0, out=tmp_path / name)
    part = stopped.value.result
    assert len(part.store.done()) == 3
    assert part.counts()[Status.INTERRUPTED] == 2000 - 3 * 280
    assert "1,160 INTERRUPTED: They are not there; the same call of fit" in repr(part)
    monkeypatch.setattr(portions, "_loaded", load)
    same(fit(decay, T, Y, P0, out=tmp_path / name).load(), expected)


RUN = """
    import sys, time
    import numpy as np
    from jaxlsq import fit
    from jaxlsq.batch import portions
    portions.MOST_FITS = 300
    t = np.linspace(0.0, 4.0, 30)
    y = np.load(sys.argv[1])
    print("ready", flush=True)
    fit(lambda t, a, k: a * np.exp(-k * t), t, y, {"a": 1.0, "k": 1.0}, out=sys.argv[2])
    print("done", flush=True)
"""


@pytest.mark.long_but("out.zarr-1")
@pytest.mark.parametrize(("name", "kills"), [("out.zarr", 1), ("out.zarr", 2), ("folder", 10)])
def test_kills_lose_nothing(expected, tmp_path, name, kills):
    data, out = tmp_path / "y.npy", tmp_path / name
    np.save(data, Y)
    command = [sys.executable, "-c", textwrap.dedent(RUN), str(data), str(out)]
    rng, before = np.random.default_rng(1), 0
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        # Compilation takes most of a run: the kill comes some time after the next portion.
        for _ in range(1000):
            done = len(StoredResult.open(out).store.done()) if _is_begun(out, name) else 0
            if done > before or process.poll() is not None:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.05))
        process.kill()
        process.wait()
        if not _is_begun(out, name):
            continue
        done = len(StoredResult.open(out).store.done())
        assert done >= before
        before = done
    last = subprocess.run(command, capture_output=True, text=True, check=True)
    assert last.stdout.endswith("done\n")
    stored = StoredResult.open(out)
    assert stored.complete
    same(stored.load(), expected)


def _is_begun(out, name):
    if name.endswith(".zarr"):
        return out.is_dir()
    return (out / "run.json").exists() and json.loads((out / "run.json").read_text())


@pytest.mark.parametrize("name", ["out.zarr", "folder"])
def test_a_full_disk(expected, tmp_path, monkeypatch, name):
    from jaxlsq.results import stores

    kind = stores._Zarr if name.endswith("zarr") else stores._Folder
    real, left = kind.write, [4]

    def write(self, *block):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(self, *block)

    monkeypatch.setattr(kind, "write", write)
    with pytest.raises(OSError, match="No space left") as full:
        fit(decay, T, Y, P0, out=tmp_path / name)
    assert "the same call goes on after them" in full.value.__notes__[0]
    monkeypatch.setattr(kind, "write", real)
    assert len(StoredResult.open(tmp_path / name).store.done()) == 4
    same(fit(decay, T, Y, P0, out=tmp_path / name).load(), expected)


def test_a_file_that_is_cut_off(expected, tmp_path):
    fit(decay, T, Y, P0, out=tmp_path / "o")
    file = tmp_path / "o" / "block-000002.npz"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"block-000002.npz' is damaged .*remove it"):
        fit(decay, T, Y, P0, out=tmp_path / "o")
    file.unlink()
    same(fit(decay, T, Y, P0, out=tmp_path / "o").load(), expected)


# --- reducing ---------------------------------------------------------------------------


def test_a_distribution(expected):
    out = fit(decay, T, Y, P0, out=Distribution(bins=2000))
    x = expected.x[expected.success]
    assert out.count == len(x) == 1999
    assert out.counts == expected.counts()
    np.testing.assert_allclose(out.mean, x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(out.std, x.std(axis=0, ddof=1), rtol=1e-12)
    edges, counts, below, above = out.histogram("k")
    assert (below, above) == (0, 0)
    np.testing.assert_array_equal(counts, np.histogram(x[:, 1], edges)[0])
    q = np.array([0.05, 0.5, 0.95])
    np.testing.assert_allclose(
        out.quantile(q, "k"), np.quantile(x[:, 1], q), atol=2 * (edges[1] - edges[0])
    )
    assert "1,999 converged" in repr(out)


def test_a_distribution_outside_of_its_range():
    out = fit(decay, T, Y, P0, out=Distribution(bins=10, ranges={"k": (1.0, 1.5)}))
    _, counts, below, above = out.histogram("k")
    assert below + counts.sum() + above == 1999
    assert out.quantile(0.01, "k") == -np.inf
    assert out.quantile(0.99, "k") == np.inf


def test_a_distribution_of_nothing():
    out = fit(decay, T, np.full((3, 30), np.nan), P0, out=Distribution())
    assert out.count == 0
    assert np.isnan(out.mean).all()
    assert np.isnan(out.quantile(0.5, "a"))
    one = fit(decay, T, Y[:1, 0], P0, out=Distribution())
    assert np.isnan(one.std).all()
    assert np.isfinite(one.quantile(0.5, "a"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bins": 0}, "bins must be"),
        ({"ranges": {"k": (2, 1)}}, "must be .lower, upper."),
        ({"ranges": {"k": 3}}, "must be .lower, upper."),
    ],
)
def test_an_improper_distribution(arguments, words):
    with pytest.raises(ValueError, match=words):
        Distribution(**arguments)


def test_a_distribution_of_unknown_names():
    with pytest.raises(ValueError, match=r"ranges names \['q'\]"):
        fit(decay, T, Y, P0, out=Distribution(ranges={"q": (0, 1)}))


def test_any_object_with_add(expected):
    class Worst:
        def __init__(self):
            self.found = []

        def add(self, result):
            self.found += [int(np.count_nonzero(result.failed))]
            assert result.residuals.shape[-1] == 30

    out = fit(decay, T, Y, P0, out=Worst())
    assert sum(out.found) == np.count_nonzero(expected.failed)
    assert len(out.found) == 8


@pytest.mark.parametrize("batch", [(7,), (3, 4), (2, 3, 5), (1, 9), (9, 1), (2, 0)])
@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_blocks_cover_a_batch_in_order(batch, most):
    grid, last = Grid.of(batch, most), 0
    places = np.arange(int(np.prod(batch))).reshape(batch)
    boxes = list(grid)
    assert len(boxes) == len(grid)
    for box in boxes:
        assert box.first == last
        last = box.last
        assert box.last - box.first <= most
        np.testing.assert_array_equal(places[box.slices].ravel(), np.arange(box.first, box.last))
        assert box.shape == places[box.slices].shape
    assert last == places.size
