"""What is kept of a `FitResult` without its data: `to_dict`, `save`, `load`, `concat`."""

import numpy as np
import pytest

from jaxlsq import FitResult, fit, least_squares_batch
from tests.decays import P0, T, Y, decay

IMAGE = Y.reshape(3, 4, -1).copy()
IMAGE[1, 3, 5] = np.nan
NAMED = {"a": 1.0, "k": 1.0}
PER_FIT = ("cost", "status", "nfev", "njev", "nit", "optimality", "dof", "agreed")


@pytest.fixture(scope="module", params=["array", "dict"])
def result(request):
    """A (3, 4) batch in which one fit has failed."""
    return fit(decay, T, IMAGE, P0 if request.param == "array" else NAMED)


def assert_same_fits(one, other):
    for name in ("x", *PER_FIT):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype


def test_to_dict(result):
    columns = result.to_dict()
    assert list(columns) == ["a", "k", *PER_FIT, "success", "at_bound"]
    np.testing.assert_array_equal(columns["k"], result.x[..., 1])
    np.testing.assert_array_equal(columns["success"], result.success)
    for name in PER_FIT:
        np.testing.assert_array_equal(columns[name], getattr(result, name))


def test_to_dict_keeps_a_parameter_that_is_called_cost():
    result = fit(lambda t, cost, k: decay(t, cost, k), T, Y, P0)
    assert any(
        column is not result.cost and np.array_equal(column, result.x[:, 0])
        for column in result.to_dict().values()
    )


def test_load_reads_what_save_wrote(result, tmp_path):
    result.save(tmp_path / "fits.npz")
    loaded = FitResult.load(tmp_path / "fits.npz")
    assert_same_fits(loaded, result)
    assert loaded.layout == result.layout
    if isinstance(result.params, dict):
        np.testing.assert_array_equal(loaded.params["k"], result.params["k"])
    else:
        np.testing.assert_array_equal(loaded.params, result.params)
    assert repr(loaded) == repr(result)
    assert loaded.to_dict().keys() == result.to_dict().keys()
    assert loaded.counts() == result.counts()
    np.testing.assert_array_equal(loaded[1].x, result[1].x)
    assert loaded.message((1, 3)) == result.message((1, 3))
    loaded.save(tmp_path / "again.npz")
    assert_same_fits(FitResult.load(tmp_path / "again.npz"), result)


def test_save_and_load_agree_on_the_file(result, tmp_path):
    result.save(tmp_path / "fits")
    assert_same_fits(FitResult.load(tmp_path / "fits"), result)
    result[0, 0].save(tmp_path / "one.npz")
    assert FitResult.load(tmp_path / "one.npz").shape == ()


def test_many_parameters_keep_their_order(tmp_path):
    targets = np.tile(np.arange(1.0, 13.0), (5, 1))
    result = least_squares_batch(lambda p, d: p["b"] - d, {"b": np.zeros(12)}, targets)
    np.testing.assert_allclose(result.params["b"], targets)
    result.save(tmp_path / "fits.npz")
    loaded = FitResult.load(tmp_path / "fits.npz")
    assert_same_fits(loaded, result)
    before, after = result.to_dict(), loaded.to_dict()
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    columns = loaded.params
    if "b" in columns:
        np.testing.assert_array_equal(columns["b"], result.params["b"])
    else:
        for j in range(12):
            np.testing.assert_array_equal(columns[f"b[{j}]"], result.params["b"][:, j])


NEEDS_DATA = {
    "r2": lambda result: result.r2,
    "band": lambda result: result.band(),
    "residuals": lambda result: result.residuals,
    "predict": lambda result: result.predict(),
    "refit": lambda result: result.refit(),
}


@pytest.mark.parametrize("call", NEEDS_DATA.values(), ids=NEEDS_DATA)
def test_what_needs_the_data_says_so(result, tmp_path, call):
    result.save(tmp_path / "fits.npz")
    loaded = FitResult.load(tmp_path / "fits.npz")
    for kept in (loaded, loaded[0], FitResult.concat([result, result])):
        with pytest.raises(ValueError, match="needs the data"):
            call(kept)


def test_predict_needs_a_model():
    result = least_squares_batch(lambda p, y: decay(T, *p) - y, P0, Y)
    with pytest.raises(ValueError, match="predict needs a model"):
        result.predict()


def test_concat(result, tmp_path):
    result.save(tmp_path / "fits.npz")
    loaded = FitResult.load(tmp_path / "fits.npz")
    whole = FitResult.concat(iter([result[:1], loaded[1:], result]))
    assert whole.shape == (6, 4)
    np.testing.assert_array_equal(whole.x, np.concatenate([result.x, result.x]))
    assert_same_fits(whole[3:], result)
    assert sum(whole.counts().values()) == 24
    assert repr(whole).startswith("FitResult: 6 x 4 fits, 22 converged, 2 did not")


def test_concat_of_what_does_not_fit(result):
    other = {"a": 1.0, "rate": 1.0}
    renamed = fit(lambda t, a, rate: decay(t, a, rate), T, Y.reshape(3, 4, -1), other)
    with pytest.raises(ValueError, match="same parameters"):
        FitResult.concat([result, renamed])
    with pytest.raises(ValueError):
        FitResult.concat([])
    with pytest.raises(ValueError):
        FitResult.concat([result[0, 0], result[0, 1]])
