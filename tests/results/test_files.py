"""Results in files, joined, pickled and copied: they have their `cov`, and bad ones say so."""

import copy
import io
import os
import pickle
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jaxlsq.batch.kept
import jaxlsq.results.storage
from jaxlsq import FitResult, Status, fit, least_squares_batch
from jaxlsq.models import Polynomial
from tests.decays import P0, T, Y, decay

IMAGE = Y.reshape(3, 4, -1).copy()
IMAGE[1, 3, 5] = np.nan
OPTIONS = {
    "array": (P0, {}),
    "dict": ({"a": 1.0, "k": 1.0}, {"bounds": {"a": (0.0, 2.0)}}),
    "other order": ({"k": 1.0, "a": 1.0}, {"sigma": 0.02, "absolute_sigma": True}),
}


@pytest.fixture(scope="module", params=OPTIONS)
def result(request):
    p0, options = OPTIONS[request.param]
    return fit(decay, T, IMAGE, p0, **options)


def assert_same(one, other):
    """In all that does not need the data."""
    for name in (*jaxlsq.results.storage.ARRAYS, "cov", "correlation", "aic", "redchi"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype
    assert one.names == other.names
    assert type(one.stderr) is type(other.stderr)
    if isinstance(one.params, dict):
        for key, value in one.params.items():
            np.testing.assert_array_equal(value, other.params[key], err_msg=key)
            np.testing.assert_array_equal(one.stderr[key], other.stderr[key], err_msg=key)
    assert str(one.summary()) == str(other.summary())
    for place in ((0, 0), (1, 3)):
        assert str(one.report(place)) == str(other.report(place))
        assert one.undetermined(place) == other.undetermined(place)


def by_file(result, path):
    result.save(path / "fits")
    assert os.listdir(path) == ["fits.npz"]
    return FitResult.load(path / "fits")


def by_file_object(result, path):
    file = io.BytesIO()
    result.save(file)
    file.seek(0)
    return FitResult.load(file)


def by_open_file(result, path):
    with open(path / "fits.dat", "wb") as file:
        result.save(file)
    with open(path / "fits.dat", "rb") as file:
        return FitResult.load(file)


WAYS = {
    "file": by_file,
    "file object": by_file_object,
    "open file": by_open_file,
    "pickle": lambda result, _: pickle.loads(pickle.dumps(result)),
    "concat": lambda result, _: FitResult.concat([result[:1], result[1:]]),
    "concat of loaded": lambda result, path: FitResult.concat(
        [by_file(result[:2], path), result[2:]]
    ),
    "copy": lambda result, _: copy.copy(result),
    "deepcopy": lambda result, _: copy.deepcopy(result),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_comes_back_has_its_cov(result, way, tmp_path):
    again = way(result, tmp_path)
    assert_same(again, result)
    assert_same(way(again, tmp_path), result)


def test_a_path_may_be_a_string_or_a_path(result, tmp_path):
    for path in (tmp_path / "one.npz", str(tmp_path / "two")):
        result.save(path)
        assert_same(FitResult.load(path), result)
    assert sorted(os.listdir(tmp_path)) == ["one.npz", "two.npz"]


def test_pickles_and_copies_of_what_does_not_pickle(tmp_path):
    shape = jnp.ones(())
    result = fit(lambda t, a, k: shape * decay(t, a, k), T, Y, lambda t, y: (y[0], 1.0))
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.cov, result.cov)
    with pytest.raises(ValueError, match=r"predict needs the data and the model.*pickled"):
        again.predict()
    for same in (copy.copy(result), copy.deepcopy(result)):
        np.testing.assert_array_equal(same.predict(), result.predict())
    assert not np.shares_memory(copy.deepcopy(result).x, result.x)


def test_results_compare_by_identity(result):
    assert result == result
    assert result != copy.copy(result)
    assert len({result, result}) == 1


def test_pytrees_pickle_and_keep_their_structure():
    targets = np.arange(10.0).reshape(2, 5)
    start = {"b": [np.zeros(2), 0.0], "a": (np.zeros(2),)}
    result = least_squares_batch(
        lambda p, d: jnp.concatenate([p["b"][0], p["b"][1][None], p["a"][0]]) - d, start, targets
    )
    again = pickle.loads(pickle.dumps(result))
    assert again.names == result.names
    np.testing.assert_array_equal(again.params["b"][0], result.params["b"][0])
    np.testing.assert_array_equal(again.params["a"][0], targets[:, 3:])


# --- files that are no results ------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    fit(decay, T, Y, P0).save(tmp_path / "fits.npz")
    return tmp_path / "fits.npz"


def changed(path, **arrays):
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files}
    kept = {k: v for k, v in (kept | arrays).items() if v is not None}
    np.savez(path, **kept)


def npy(path):
    with open(path, "wb") as file:
        np.save(file, np.ones(3))


def flipped(path):
    """One bit of the parameters."""
    value, content = fit(decay, T, Y, P0).x[5].tobytes(), bytearray(path.read_bytes())
    content[content.index(value)] ^= 1
    path.write_bytes(content)


SPOILED = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-200]), "damaged"),
    "half": (lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "damaged"),
    "empty": (lambda p: p.write_bytes(b""), "damaged"),
    "text": (lambda p: p.write_text("a, k\n1, 2\n"), "damaged, or no .npz"),
    "one array": (npy, "one array alone"),
    "foreign": (lambda p: np.savez(p, x=np.ones(3)), "it has no .*cost"),
    "flipped": (flipped, "damaged"),
    "older": (lambda p: changed(p, version=None), "older version"),
    "newer": (lambda p: changed(p, version=99), "its format is 99"),
    "missing": (lambda p: changed(p, status=None), "it has no status"),
    "lengths": (lambda p: changed(p, x=np.ones((3, 2))), "x has the shape"),
    "names": (lambda p: changed(p, names=np.array(["a"])), "has the shape"),
    "shapes": (lambda p: changed(p, shapes='[["a", [3]]]'), "2 names of 3 parameters"),
    "no json": (lambda p: changed(p, shapes="{"), "Expecting"),
    "cov": (lambda p: changed(p, inverse=np.ones((12, 3, 3))), "inverse has the shape"),
}


@pytest.mark.parametrize(("spoil", "why"), SPOILED.values(), ids=SPOILED)
def test_a_file_that_is_no_result_is_named(path, spoil, why):
    spoil(path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is not a result.*{why}"):
        FitResult.load(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing.npz"):
        FitResult.load(tmp_path / "nothing")


def test_a_save_that_fails_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def full(file, **arrays):
        file.write(b"begun")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        fit(decay, T, Y[:2], P0).save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["fits.npz"]


def test_a_saved_file_has_the_permissions_that_it_had(path):
    os.chmod(path, 0o640)
    fit(decay, T, Y[:2], P0).save(path)
    assert path.stat().st_mode & 0o777 == 0o640
    assert FitResult.load(path).shape == (2,)


def test_a_link_to_a_file_stays_one(path):
    link = path.parent / "link.npz"
    link.symlink_to(path)
    fit(decay, T, Y[:2], P0).save(link)
    assert link.is_symlink()
    assert FitResult.load(path).shape == (2,)


def test_a_result_without_its_data_is_saved_without_cov(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr(jaxlsq.batch.kept, "COPIED_BYTES", 0)
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["y"] = Y
        result, known = fit(decay, T, file["y"], P0), fit(decay, T, file["y"], P0)
        cov = known.cov
    for one, has_cov in ((result, False), (known, True)):
        one.save(tmp_path / "fits")
        loaded = FitResult.load(tmp_path / "fits")
        np.testing.assert_array_equal(loaded.x, result.x)
        if has_cov:
            np.testing.assert_array_equal(loaded.cov, cov)
        else:
            with pytest.raises(ValueError, match="cov needs the data"):
                loaded.cov  # noqa: B018
            assert "FTOL" in loaded.report(0)


# --- concat, indexing, caching --------------------------------------------------------


def test_concat_of_single_fits_says_how():
    result = fit(decay, T, Y, P0)
    with pytest.raises(ValueError, match=r"single fits have none.*i:i \+ 1"):
        FitResult.concat([result[0], result[1]])
    both = FitResult.concat([result[:1], result[1:2]])
    np.testing.assert_array_equal(both.cov, result.cov[:2])


def test_concat_of_other_shapes_says_which():
    image = fit(decay, T, IMAGE, P0)
    with pytest.raises(ValueError, match=r"differ along their first axis, got"):
        FitResult.concat([image, fit(decay, T, Y, P0)])


def test_an_empty_selection_of_ragged_fits():
    ys = [y[: 20 - 7 * (i % 2)] for i, y in enumerate(Y)]
    result = fit(decay, [T[: len(y)] for y in ys], ys, P0)
    nothing = result[[]]
    assert nothing.cov.shape == (0, 2, 2)
    assert nothing.stderr.shape == (0, 2)
    assert nothing.residuals == []
    assert nothing.refit() is nothing
    assert result[result.failed].cov.shape == (0, 2, 2)


def counted(monkeypatch):
    calls = []
    gram = jaxlsq.batch.run.Problem.gram
    monkeypatch.setattr(
        jaxlsq.batch.run.Problem, "gram", lambda self, x: (calls.append(1), gram(self, x))[1]
    )
    return calls


def test_cov_is_computed_once(monkeypatch):
    result, calls = fit(decay, T, Y, P0), counted(monkeypatch)
    assert result.cov is result.cov
    result.stderr, result.correlation, result.band(), result.undetermined(0)
    result[3].report(), result[2:].cov, pickle.dumps(result)
    assert len(calls) == 1
    with pytest.raises(ValueError, match="read-only"):
        result.cov[0] = 0.0
    np.testing.assert_array_equal(result[2:].cov, result.cov[2:])


def test_a_report_is_one_pass(monkeypatch):
    result, calls = fit(decay, T, Y, P0), counted(monkeypatch)
    result.report(3)
    assert len(calls) == 1


def test_refit_has_the_cov_of_its_parameters():
    short = fit(decay, T, Y, P0, max_nfev=2)
    short.cov  # noqa: B018
    whole, direct = short.refit(max_nfev=100), fit(decay, T, Y, P0)
    np.testing.assert_allclose(whole.cov, direct.cov, rtol=1e-5)


# --- float32 ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-17, 1.0, 1e17])
def test_float32_bands_and_derived_errors_of_any_size(size):
    y = (size * Y).astype(np.float32)
    result = fit(decay, T.astype(np.float32), y, [size, 1.0])
    exact = fit(decay, T, size * Y, [size, 1.0])
    np.testing.assert_allclose(result.band(), exact.band(), rtol=1e-2)
    values, errors = result.derived(lambda p: p[0] * p[1])
    right, its = exact.derived(lambda p: p[0] * p[1])
    np.testing.assert_allclose(values, right, rtol=1e-3)
    np.testing.assert_allclose(errors, its, rtol=1e-2)
    np.testing.assert_allclose(result.band(np.array([0.5, 9.0])), exact.band([0.5, 9.0]), rtol=1e-2)
    assert np.all(result.band() > 0)


@pytest.mark.parametrize("polish", [None, "auto"])
def test_refit_in_float64_is_in_float64(polish):
    narrow = fit(decay, T.astype(np.float32), Y.astype(np.float32), P0, ftol=1e-3, polish=polish)
    wide = narrow.refit(where=np.ones(len(Y), bool), polish="float64")
    data = Y.astype(np.float32).astype(float)
    exact = fit(decay, T.astype(np.float32).astype(float), data, P0, ftol=1e-12, xtol=1e-12)
    assert wide.x.dtype == wide.cost.dtype == wide.optimality.dtype == np.float64
    np.testing.assert_allclose(wide.x, exact.x, rtol=1e-6)
    np.testing.assert_allclose(wide.cost, exact.cost, rtol=1e-10)
    np.testing.assert_allclose(wide.residuals, exact.residuals, atol=1e-6)
    assert wide.residuals.dtype == np.float64


def test_fits_that_did_not_begin_again_stay_as_they_were():
    bad = np.vstack([Y[:2], np.full((1, 20), np.nan)])
    result = fit(decay, T, bad, P0)

    def progress(done, total):
        raise KeyboardInterrupt

    with pytest.raises(jaxlsq.Interrupted) as info:
        result.refit(where=np.ones(3, bool), progress=progress)
    kept = info.value.result
    assert kept.status[2] == Status.NONFINITE_DATA
    np.testing.assert_allclose(kept.x[:2], result.x[:2], rtol=1e-6)
    assert np.isnan(kept.x[2]).sum() == np.isnan(result.x[2]).sum()


def test_no_file_is_left_where_there_was_none(tmp_path):
    result = fit(decay, T, Y[:2], P0)
    with pytest.raises(FileNotFoundError):
        result.save(tmp_path / "no" / "such" / "folder")
    assert not list(Path(tmp_path).iterdir())


def test_a_model_that_derives_nothing_keeps_its_covariance(tmp_path):
    x = np.linspace(-1.0, 1.0, 20)
    result = fit(Polynomial(2), x, 1.0 + x * x + 0.01 * np.sin(30 * x))
    assert result.derived() == ({}, {})
    result.save(tmp_path / "polynomial.npz")
    np.testing.assert_array_equal(FitResult.load(tmp_path / "polynomial.npz").cov, result.cov)
