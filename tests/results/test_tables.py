"""`to_frame`, `to_dataset`, `to_dict`: results as tables, with the data's labels."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr

from jaxlsq import FitResult, Status, fit
from jaxlsq.models import Model

T = np.linspace(0.0, 4.0, 30)
RNG = np.random.default_rng(0)
K = RNG.uniform(0.5, 2.0, (4, 5))
Y = 2.5 * np.exp(-K[..., None] * T) + 0.01 * RNG.normal(size=(4, 5, 30))
Y[1, 2, 3] = np.nan
P0 = {"a": 1.0, "k": 1.0}


def decay(t, a, k):
    return a * jnp.exp(-k * t)


@pytest.fixture(scope="module")
def named():
    y = xr.DataArray(
        Y,
        dims=("row", "column", "time"),
        coords={
            "row": ("row", [10, 20, 30, 40], {"units": "mm"}),
            "column": list("abcde"),
            "depth": (("row", "column"), K),
            "day": np.datetime64("2026-11-27", "ns"),
            "time": T,
        },
    )
    return fit(decay, T, y, P0)


@pytest.fixture(scope="module")
def plain():
    return fit(decay, T, Y, P0)


def test_a_dataset_has_the_dims_and_coordinates(named):
    out = named.to_dataset(cov=True)
    assert out.a.dims == ("row", "column")
    assert out["cov"].dims[2:] == ("param_i", "param_j")
    np.testing.assert_array_equal(out.k, named.params["k"])
    np.testing.assert_array_equal(out.k_stderr, named.stderr["k"])
    np.testing.assert_array_equal(out["cov"], named.cov)
    assert out.row.attrs == {"units": "mm"}
    assert out.day == np.datetime64("2026-11-27")
    np.testing.assert_array_equal(out.depth, K)
    assert "time" not in out.coords
    failed = out.status.sel(row=20, column="c")
    meanings = dict(zip(out.status.flag_values, out.status.flag_meanings.split(), strict=True))
    assert meanings[int(failed)] == "NONFINITE_DATA"


@pytest.mark.parametrize(
    "index",
    [
        np.s_[1:3, ::2],
        np.s_[2],
        np.s_[:, 0],
        np.s_[2, 3],
        np.s_[..., [4, 1]],
        np.s_[1:2, 0:1],
        np.s_[::-1],
    ],
)
def test_an_index_keeps_labels_as_xarray_does(named, index):
    expected = named.to_dataset()
    index_of = index if isinstance(index, tuple) else (index,)
    if index_of[0] is Ellipsis:
        index_of = (slice(None), *index_of[1:])
    selected = expected.isel(dict(zip(("row", "column"), index_of, strict=False)))
    xr.testing.assert_identical(named[index].to_dataset(), selected)


def test_any_choice_of_fits_keeps_their_coordinates(named):
    some = named[named.success]
    out = some.to_dataset()
    assert out.sizes == {"fit": 19}
    for number, (i, j) in enumerate(np.argwhere(named.success)):
        one = out.isel(fit=number)
        assert (one.row.item(), one.column.item()) == ([10, 20, 30, 40][i], "abcde"[j])
        assert float(one.depth) == K[i, j]


def test_files_pickles_and_concat_keep_labels(named, tmp_path):
    expected = named.to_dataset()
    named.save(tmp_path / "r.npz")
    loaded = FitResult.load(tmp_path / "r.npz")
    xr.testing.assert_identical(loaded.to_dataset(), expected)
    joined = FitResult.concat([loaded[:1], loaded[1:]])
    xr.testing.assert_identical(joined.to_dataset(), expected)
    assert FitResult.concat([loaded[:1], loaded[1:, ::-1]]).labels is None
    again = named.refit(where=True)
    assert list(again.to_frame().index.names) == ["row", "column"]


def test_a_frame_has_a_row_for_each_fit(named):
    frame = named.to_frame()
    assert frame.index.names == ["row", "column"]
    assert len(frame) == 20
    row = frame.loc[(20, "c")]
    assert row.status == "NONFINITE_DATA"
    assert not row.success
    assert row.message == named.message((1, 2))
    row = frame.loc[(30, "d")]
    assert (row.a, row.k_stderr) == (named.params["a"][2, 3], named.stderr["k"][2, 3])
    assert row.depth == K[2, 3]
    assert row.status == Status(int(named.status[2, 3])).name
    assert "k_stderr" not in named.to_frame(stderr=False)


def test_a_table_says_which_fits_have_a_parameter_at_a_bound():
    result = fit(decay, T, Y, P0, bounds={"k": (0, 1.2)})
    held = result.active_mask[..., 1] == 1
    assert 0 < held.sum() < held.size
    np.testing.assert_array_equal(result.stderr["k"] == 0, held)
    np.testing.assert_array_equal(result.to_dataset().at_bound, held)
    np.testing.assert_array_equal(result.to_dict()["at_bound"], held)
    for library in ("pandas", "polars"):
        np.testing.assert_array_equal(result.to_frame(library)["at_bound"], held.ravel())


def test_polars(named):
    frame = named.to_frame("polars")
    assert isinstance(frame, pl.DataFrame)
    row = frame.row(by_predicate=(pl.col("row") == 30) & (pl.col("column") == "d"), named=True)
    assert row["a"] == named.params["a"][2, 3]
    assert row["status"] in Status.__members__
    pandas = named.to_frame().reset_index()
    assert frame.columns == list(pandas.columns)
    np.testing.assert_array_equal(frame["cost"], pandas["cost"])


def test_without_labels_fits_are_counted(plain):
    frame = plain.to_frame()
    assert frame.index.names == ["fit_0", "fit_1"]
    assert frame.index[7] == (1, 2)
    assert plain.to_dataset().sizes == {"fit_0": 4, "fit_1": 5}
    assert list(plain[0].to_frame().index) == [0, 1, 2, 3, 4]
    one = plain[0, 0].to_frame()
    assert len(one) == 1
    assert one.a[0] == plain.params["a"][0, 0]


def test_tables_keep_their_index():
    days = pd.date_range("2026-01-01", periods=4, tz="Europe/Vienna", name="day")
    table = pd.DataFrame(Y[:, 0], index=days)
    frame = fit(decay, T, table, P0).to_frame()
    assert list(frame.index) == list(days)
    assert frame.index.tz is not None
    series = [pd.Series(y, name=name) for name, y in zip("pqr", Y[:3, 0], strict=True)]
    assert list(fit(decay, T, series, P0).to_frame().index) == ["p", "q", "r"]
    pairs = pd.MultiIndex.from_tuples([(0, "u"), (0, "v"), (1, "u"), (1, "v")], names=["i", "s"])
    frame = fit(decay, T, pd.DataFrame(Y[:, 0], index=pairs), P0).to_frame()
    pd.testing.assert_index_equal(frame.index, pairs)


def test_names_that_are_taken():
    def model(t, cost, row):
        return cost * jnp.exp(-row * t)

    y = xr.DataArray(Y[:, 0], dims=("row", "time"))
    result = fit(model, T, y, [1.0, 1.0])
    assert list(result.to_dataset())[:4] == ["cost_param", "cost_param_stderr", "row_param",
                                             "row_param_stderr"]  # fmt: skip
    assert {"cost_param", "row_param", "cost"} <= set(result.to_frame())


@pytest.mark.parametrize("names", [("a_stderr", "a"), ("a", "a_stderr")])
def test_a_name_that_is_that_of_an_error(names, tmp_path):
    """Each has its value and its error, in every table: none takes another's place."""
    import jaxlsq.xarray  # noqa: F401

    own = {name: name if k == 0 else f"{name}_param" for k, name in enumerate(names)}
    model = Model(lambda t, p, q: p * jnp.exp(-q * t), names=names)
    start = dict.fromkeys(names, 1.0)
    y = xr.DataArray(Y[:, 0], dims=("row", "time"), coords={"time": T})
    result = fit(model, T, y, start, nan_policy="omit")
    stored = fit(model, T, y, start, nan_policy="omit", out=tmp_path / "out.zarr")
    np.testing.assert_array_equal(stored.load().x, result.x)
    accessor = y.lsq.fit(model, "time", start)
    tables = (
        result.to_frame(),
        result.to_frame("polars"),
        result.to_dataset(),
        result.to_dict(stderr=True),
        stored.to_dataset(),
        accessor,
    )
    for table in tables:
        for name, column in own.items():
            np.testing.assert_allclose(table[column], result.params[name], rtol=1e-9)
            np.testing.assert_allclose(table[f"{column}_stderr"], result.stderr[name], rtol=1e-9)


def test_names_of_a_store_and_of_a_covariance(tmp_path):
    import jaxlsq.xarray  # noqa: F401

    def model(t, run, param_i):
        return run * jnp.exp(-param_i * t)

    y = xr.DataArray(Y[:, 0], dims=("row", "time"), coords={"time": T})
    result = fit(model, T, y, [1.0, 1.0])
    stored = fit(model, T, y, [1.0, 1.0], out=tmp_path / "out.zarr")
    np.testing.assert_array_equal(stored.to_dataset()["run_param"], result.x[:, 0])
    for out in (result.to_dataset(cov=True), y.lsq.fit(model, "time", [1.0, 1.0], cov=True)):
        np.testing.assert_allclose(out["param_i_param"], result.x[:, 1], rtol=1e-9)
        np.testing.assert_allclose(out["cov"], result.cov, rtol=1e-6)


def test_a_dict_with_errors(plain):
    columns = plain.to_dict(stderr=True)
    assert list(columns)[:4] == ["a", "a_stderr", "k", "k_stderr"]
    np.testing.assert_array_equal(columns["k_stderr"], plain.stderr["k"])
    assert list(plain.to_dict())[:2] == ["a", "k"]


def test_a_library_that_is_not_one(plain):
    with pytest.raises(ValueError, match=r"library must be one of \('pandas', 'polars'\)"):
        plain.to_frame("dask")


def test_parameters_that_are_arrays():
    from jaxlsq import least_squares_batch

    targets = np.arange(1.0, 7.0).reshape(3, 2)
    result = least_squares_batch(lambda p, d: p["v"] ** 2 - d, {"v": np.ones(2)}, targets)
    frame = result.to_frame()
    np.testing.assert_allclose(frame[["v[0]", "v[1]"]].to_numpy() ** 2, targets)
