"""Data sets in tables: groups of a column, columns of arrays, starts by name."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr

from jaxlsq import Status, fit
from jaxlsq.models import Gaussian

T = np.linspace(0.0, 4.0, 40)
RNG = np.random.default_rng(1)
COUNT = 300
K = RNG.uniform(0.5, 2.0, COUNT)
LONG = pd.DataFrame(
    {
        "well": np.repeat(RNG.permutation(COUNT), T.size),
        "t": np.tile(T, COUNT),
        "y": (2.5 * np.exp(-K[:, None] * T) + 0.01 * RNG.normal(size=(COUNT, T.size))).ravel(),
    }
)
LONG = LONG[RNG.uniform(size=len(LONG)) > RNG.uniform(0.0, 0.6, COUNT).repeat(T.size)]
LONG = LONG.sample(frac=1.0, random_state=3)


def decay(t, a, k=1.0):
    return a * jnp.exp(-k * t)


@pytest.fixture(scope="module")
def by_well():
    wells = LONG.groupby("well")
    result = fit(decay, wells["t"], wells["y"], [1.0, 1.0])
    assert result.success.all()
    assert len(np.unique(result.nfev)) > 1
    return result


def test_groups_are_one_call(by_well):
    wells = LONG.groupby("well")
    lists = [[group[name].to_numpy() for _, group in wells] for name in ("t", "y")]
    expected = fit(decay, *lists, [1.0, 1.0])
    np.testing.assert_array_equal(by_well.x, expected.x)
    frame = by_well.to_frame()
    assert frame.index.name == "well"
    assert list(frame.index) == list(range(COUNT))
    one = LONG[LONG.well == 17]
    alone = fit(decay, one.t, one.y, [1.0, 1.0])
    np.testing.assert_allclose(frame.loc[17, ["a", "k"]].astype(float), alone.x, rtol=1e-9)


def test_groups_by_two_columns():
    two = LONG.assign(plate=LONG.well % 3)
    groups = two.groupby(["plate", "well"])
    frame = fit(decay, groups["t"], groups["y"], [1.0, 1.0]).to_frame()
    assert frame.index.names == ["plate", "well"]
    assert (frame.index.get_level_values("plate") == frame.index.get_level_values("well") % 3).all()
    merged = LONG.groupby("well").size().to_frame("size").join(frame.reset_index("plate"))
    assert (merged["dof"] == merged["size"] - 2).all()


def test_categories_without_rows_are_no_data_sets():
    some = LONG[LONG.well < 5]
    kinds = pd.Categorical(some.well, categories=range(10))
    groups = some.assign(well=kinds).groupby("well", observed=False)
    result = fit(decay, groups["t"], groups["y"], [1.0, 1.0])
    assert list(result.to_frame().index) == [0, 1, 2, 3, 4]


def test_a_whole_grouped_table_is_refused():
    groups = LONG.groupby("well")
    with pytest.raises(TypeError, match=r"ydata is a grouped table with the columns.*choose one"):
        fit(decay, groups["t"], groups, [1.0, 1.0])


def test_columns_of_arrays(by_well):
    table = pl.from_pandas(LONG).group_by("well", maintain_order=True).agg("t", "y").sort("well")
    result = fit(decay, table["t"], table["y"], [1.0, 1.0])
    np.testing.assert_array_equal(result.x, by_well.x)
    cells = LONG.groupby("well").agg(list)
    cells = cells.map(np.array)
    result = fit(decay, cells["t"], cells["y"], [1.0, 1.0])
    np.testing.assert_array_equal(result.x, by_well.x)
    assert result.to_frame().index.name == "well"


def test_a_cell_that_is_no_array():
    column = pd.Series([T, None, T], dtype=object)
    with pytest.raises(TypeError, match="ydata must hold an array in each cell; cell 1 has None"):
        fit(decay, T, column, [1.0, 1.0])


def test_plain_columns_of_polars():
    one = pl.DataFrame({"t": T, "y": 2.0 * np.exp(-0.7 * T)})
    result = fit(decay, one["t"], one["y"], [1.0, 1.0])
    np.testing.assert_allclose(result.x, [2.0, 0.7], rtol=1e-8)
    result = fit(decay, one["t"], [one["y"], one["y"]], [1.0, 1.0])
    np.testing.assert_allclose(result.x, [[2.0, 0.7]] * 2, rtol=1e-8)


def test_any_index():
    index = RNG.permutation(T.size) + 1000
    x, y = pd.Series(T, index), pd.Series(2.0 * np.exp(-0.7 * T), index[::-1] + 1000)
    np.testing.assert_allclose(fit(decay, x, y, [1.0, 1.0]).x, [2.0, 0.7], rtol=1e-8)


# --- starts by name ---------------------------------------------------------------

Y = np.array([2.0, 3.0])[:, None] * np.exp(-np.array([[0.7], [1.4]]) * T)


def test_the_model_has_the_starts_that_are_not_given():
    for p0 in ({"a": 1.0}, {"a": [1.0, 2.0]}, pd.Series({"a": 1.0}), pd.DataFrame({"a": [1.0, 2]})):
        result = fit(decay, T, Y, p0)
        assert result.names == ("a", "k")
        assert list(result.params) == ["a", "k"]
        np.testing.assert_allclose(result.x, [[2.0, 0.7], [3.0, 1.4]], rtol=1e-8)
    same = fit(decay, T, Y, {"a": 1.0, "k": 1.0})
    np.testing.assert_array_equal(fit(decay, T, Y, {"a": 1.0}).nfev, same.nfev)


def test_a_dataset_of_starts():
    start = xr.Dataset({"a": 1.0, "k": ("pixel", [0.7, 1.4])})
    y = xr.DataArray(Y, dims=("pixel", "time"))
    np.testing.assert_allclose(fit(decay, T, y, start).x, [[2.0, 0.7], [3.0, 1.4]], rtol=1e-8)
    np.testing.assert_allclose(fit(decay, T, Y, start).x, [[2.0, 0.7], [3.0, 1.4]], rtol=1e-8)


ONE = np.float64(1.0)


def test_no_p0_at_all():
    def model(t, a=1, k=ONE, *, offset=0.0):
        return a * jnp.exp(-k * t) + offset

    result = fit(model, T, Y)
    assert result.names == ("a", "k")
    np.testing.assert_array_equal(result.nfev, fit(model, T, Y, [1.0, 1.0]).nfev)
    with pytest.raises(TypeError, match=r"no default for \['a'\]; pass one starting value"):
        fit(decay, T, Y)
    with pytest.raises(TypeError, match="does not name its parameters"):
        fit(lambda t, *p: p[0] * t, T, Y)


def test_options_are_no_parameters():
    def model(t, a, k=1.0, flag=True, kind="exp", *, power=1.0):
        assert flag is True
        assert kind == "exp"
        return a * jnp.exp(-k * t**power)

    assert fit(model, T, Y, {"a": 1.0}).names == ("a", "k")
    assert fit(model, T, Y, {"a": 1.0, "power": 1.0}).names == ("a", "k", "power")


class Guessing:
    """A model with a guess and bounds of its own."""

    def __init__(self, bounds=None):
        self.bounds = bounds or {}

    def __call__(self, t, a, k):
        return a * jnp.exp(-k * t)

    def guess(self, t, y):
        return {"k": 1.0, "a": y[0]}


def test_a_models_own_guess():
    result = fit(Guessing(), T, Y)
    np.testing.assert_allclose(result.x, [[2.0, 0.7], [3.0, 1.4]], rtol=1e-8)
    assert result.names == ("a", "k")  # the model's order, not that of its guess
    some = fit(Guessing(), T, Y, {"k": [0.7, 1.4]})
    np.testing.assert_allclose(some.x, [[2.0, 0.7], [3.0, 1.4]], rtol=1e-8)
    assert some.nfev.max() < result.nfev.max()
    held = fit(Guessing(), T, Y, {"k": [0.7, 1.0]}, fixed=["k"])
    np.testing.assert_array_equal(held.params["k"], [0.7, 1.0])
    assert held.success.all()
    assert held.refit(where=True).success.all()


def test_starts_in_float32_with_a_guess_are_polished():
    y = Y.astype(np.float32)
    result = fit(Guessing(), T.astype(np.float32), y, {"k": 1.0}, polish="float64")
    assert result.x.dtype == np.float64
    np.testing.assert_allclose(result.x, [[2.0, 0.7], [3.0, 1.4]], rtol=1e-6)


def test_a_guess_of_other_parameters():
    class Wrong(Guessing):
        def guess(self, t, y):
            return {"k": 1.0, "b": y[0]}

    with pytest.raises(TypeError, match=r"parameters \('a', 'k'\), and the model's guess"):
        fit(Wrong(), T, Y, {"k": 1.0})


def test_a_models_own_bounds():
    model = Guessing({"k": (0.0, 1.0)})
    np.testing.assert_allclose(fit(model, T, Y).params["k"], [0.7, 1.0])
    both = fit(model, T, Y, bounds={"a": (0.0, 2.5)})
    assert (both.params["k"] <= 1.0).all()
    assert (both.params["a"] <= 2.5).all()
    np.testing.assert_allclose(fit(model, T, Y, bounds={"k": (0, 9)}).params["k"], [0.7, 1.4])


def test_a_models_own_derived_quantities():
    class Decay(Guessing):
        def derived(self, params):
            return {"half_life": jnp.log(2.0) / params["k"]}

    for p0 in (None, [1.0, 1.0]):
        result = fit(Decay(), T, Y, p0)
        values, errors = result.derived()
        np.testing.assert_allclose(values["half_life"], np.log(2.0) / np.array([0.7, 1.4]))
        assert errors["half_life"].shape == (2,)
    with pytest.raises(TypeError, match="derived needs a function"):
        fit(decay, T, Y, [1.0, 1.0]).derived()


# --- rows by their keys -----------------------------------------------------------

WELLS = pd.Index(["C3", "A1", "B2", "D4"], name="well")
RATES = pd.Series([0.7, 1.4, 1.0, 0.5], WELLS)
SHUFFLED = RATES[["B2", "D4", "A1", "C3"]]
TABLE = pd.DataFrame(2.0 * np.exp(-RATES.to_numpy()[:, None] * T), WELLS)
ROWS = TABLE.reset_index().melt("well", var_name="t", value_name="y")
ROWS["t"] = T[ROWS.t.astype(int)]
GROUPS = ROWS.groupby("well")


@pytest.mark.parametrize(
    ("x", "y", "axis"),
    [(T, TABLE, -1), (T, TABLE.T, 0), (GROUPS["t"], GROUPS["y"], -1)],
    ids=["rows", "columns", "groups"],
)
def test_rows_come_in_the_order_of_the_data_sets(x, y, axis):
    options = {"axis": axis, "fixed": ["k"]}
    every = pd.concat([SHUFFLED, pd.Series([9.0], ["Z9"])])  # a well that is not among the data
    for rates in (SHUFFLED, every):
        for p0 in ({"a": 1.0, "k": rates}, pd.DataFrame({"a": 1.0, "k": rates})):
            frame = fit(decay, x, y, p0, **options).to_frame()
            np.testing.assert_array_equal(frame.k, RATES[frame.index])
            np.testing.assert_allclose(frame.a, 2.0)
    limits = {"k": (None, 0.5 * SHUFFLED)}
    frame = fit(decay, x, y, {"a": 1.0, "k": 0.1}, bounds=limits, axis=axis).to_frame()
    np.testing.assert_array_equal(frame.k, 0.5 * RATES[frame.index])
    box = pd.DataFrame({"a": 0.0, "k": 0.0}, WELLS), pd.DataFrame({"a": 9.0, "k": 0.5 * SHUFFLED})
    frame = fit(decay, x, y, {"a": 1.0, "k": 0.1}, bounds=box, axis=axis).to_frame()
    np.testing.assert_array_equal(frame.k, 0.5 * RATES[frame.index])
    held = fit(decay, x, y, {"a": 1.0, "k": 1.0}, fixed={"k": SHUFFLED > 0.9}, axis=axis)
    frame = held.to_frame()
    np.testing.assert_allclose(frame.k, np.where(RATES > 0.9, 1.0, RATES)[
        WELLS.get_indexer(frame.index)])  # fmt: skip


def test_weights_of_a_table_come_in_the_order_of_the_data_sets():
    noise = TABLE * 0.0 + np.linspace(0.1, 0.4, 4)[:, None]
    y = TABLE + 0.1 * np.cos(7.0 * T)
    expected = fit(decay, T, y, [1.0, 1.0], sigma=noise, absolute_sigma=True)
    other = noise.loc[SHUFFLED.index]
    for values, sigma, axis in ((y, other, -1), (y.T, other.T, 0)):
        found = fit(decay, T, values, [1.0, 1.0], sigma=sigma, absolute_sigma=True, axis=axis)
        np.testing.assert_array_equal(found.stderr, expected.stderr)
    masks = (noise > 0.15).loc[SHUFFLED.index]
    found = fit(decay, T, y, [1.0, 1.0], mask=masks)
    assert found.masked_out.tolist() == [True, False, False, False]


def test_rows_that_are_counted_are_taken_by_position():
    for rates in (RATES.reset_index(drop=True), RATES.to_numpy(), RATES.tolist()):
        found = fit(decay, T, TABLE, {"a": 1.0, "k": rates}, fixed=["k"])
        np.testing.assert_array_equal(found.params["k"], RATES)


@pytest.mark.parametrize(
    "rates", [RATES[:3], RATES.rename({"A1": "A7"}), RATES.rename({"A1": "B2"})]
)
def test_rows_that_are_missing(rates):
    with pytest.raises(
        ValueError, match=r"p0\['k'\] must have one row for each of ydata's \['C3', "
    ):
        fit(decay, T, TABLE, {"a": 1.0, "k": rates})


def test_groups_of_other_tables():
    some = ROWS[ROWS.well != "A1"].groupby("well")
    other = ROWS.groupby("well", sort=False)
    for groups in (some, other):
        with pytest.raises(ValueError, match=r"xdata has the groups .* Take both from one groupby"):
            fit(decay, groups["t"], GROUPS["y"], [1.0, 1.0])
    with pytest.raises(ValueError, match="sigma has the groups"):
        fit(decay, GROUPS["t"], GROUPS["y"], [1.0, 1.0], sigma=other["y"])


@pytest.mark.parametrize(
    "keys",
    [
        WELLS,
        pd.MultiIndex.from_tuples([(1, "u"), (0, "u"), (1, "v"), (0, "v")]),
        pd.date_range("2026-01-01", periods=4, tz="Europe/Vienna")[[2, 0, 3, 1]],
        pd.date_range("2026-01-01", periods=4)[[2, 0, 3, 1]],
        pd.Index([7, 3, 5, 1]),
    ],
    ids=["names", "pairs", "times", "days", "numbers"],
)
def test_results_are_read_by_their_keys(keys):
    result = fit(decay, T, pd.DataFrame(TABLE.to_numpy(), keys), {"a": 1.0, "k": 1.0})
    rates = pd.Series(RATES.to_numpy(), keys)
    fast = rates.iloc[[2, 0, 3, 1]] > 0.9
    np.testing.assert_allclose(result[fast].params["k"], [1.4, 1.0])
    np.testing.assert_allclose(result[fast.to_numpy()[[1, 3, 0, 2]]].params["k"], [1.4, 1.0])
    start = {"a": 1.0, "k": rates.iloc[::-1]}
    some = fit(decay, T, pd.DataFrame(TABLE.to_numpy(), keys), start, fixed=["k"], max_nfev=1)
    again = some.refit(where=fast, max_nfev=50)
    np.testing.assert_array_equal(again.success, [False, True, True, False])
    short = fit(decay, T, pd.DataFrame(TABLE.to_numpy(), keys), {"a": 1.0, "k": 1.0}, max_nfev=1)
    exact = short.refit(p0={"a": 2.0, "k": rates.iloc[::-1]}, max_nfev=2)
    np.testing.assert_array_equal(exact.params["k"], RATES)
    with pytest.raises(ValueError, match="where must have one row for each of ydata's"):
        result.refit(where=fast[:2])


@pytest.mark.parametrize("kind", ["groups", "ragged", "rows", "columns"])
def test_a_series_has_a_weight_for_each_data_set(kind):
    rng = np.random.default_rng(2)
    t, names = np.linspace(0.0, 4.0, 30), list("badc")
    y = np.exp(-np.array([[0.5], [1.0], [1.5], [2.0]]) * t) + 0.01 * rng.normal(size=(4, 30))
    table = pd.DataFrame({"well": np.repeat(names, 30), "t": np.tile(t, 4), "y": y.ravel()})
    if kind == "ragged":
        table = table[table.index % 11 != 3]
    wells = table.groupby("well")
    rows = pd.DataFrame(y, index=names)
    x, data, axis = {
        "rows": (t, rows, -1),
        "columns": (t, rows.T, 0),
    }.get(kind, (wells["t"], wells["y"], -1))
    order = names if kind in ("rows", "columns") else sorted(names)
    weights = pd.Series({"c": 0.3, "a": 0.1, "d": 0.4, "b": 0.2, "not used": 9.0})
    start = {"a": 1.0, "k": 1.0}

    def model(t, a, k):
        return a * jnp.exp(-k * t)

    result = fit(model, x, data, start, sigma=weights, absolute_sigma=True, axis=axis)
    for number, name in enumerate(order):
        own = table[table["well"] == name]
        one = fit(model, own["t"], own["y"], start, sigma=weights[name], absolute_sigma=True)
        np.testing.assert_allclose(result.stderr["k"][number], one.stderr["k"], rtol=1e-6)
    masked = fit(model, x, data, start, mask=weights > 0.15, axis=axis)
    np.testing.assert_array_equal(masked.status == Status.MASKED_OUT, np.array(order) == "a")
    with pytest.raises(ValueError, match="must have one row for each of ydata's"):
        fit(model, x, data, start, sigma=weights.drop("c"), axis=axis)
    if kind == "ragged":
        return
    again = result.refit(where=np.ones(4, bool), mask=weights > 0.15)
    np.testing.assert_array_equal(again.status == Status.MASKED_OUT, np.array(order) == "a")


def test_a_series_that_could_be_of_points_or_of_data_sets_is_refused():
    x, table = np.arange(3.0), pd.DataFrame(np.eye(3) + 1.0, index=list("abc"))

    def line(x, a, b):
        return a * x + b

    each = pd.Series([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="can be of the 3 data sets or of their 3 points"):
        fit(line, x, table, [1.0, 1.0], sigma=each)
    named = fit(line, x, table, [1.0, 1.0], sigma=each.set_axis(list("cba")), absolute_sigma=True)
    spelled = fit(line, x, table, [1.0, 1.0], sigma=[[3.0], [2.0], [1.0]], absolute_sigma=True)
    np.testing.assert_array_equal(named.cov, spelled.cov)


def test_tables_of_polars_name_their_data_sets():
    y = 2.0 * np.exp(-np.array([[0.5], [1.0], [2.0]]) * T)
    names = ["c", "a", "b"]
    long = pl.DataFrame({"well": np.repeat(names, T.size), "plate": 7, "t": np.tile(T, 3)})
    long = long.with_columns(y=pl.Series(y.ravel()))
    cells = long.group_by("well", "plate", maintain_order=True).agg("t", "y")
    by_cells = fit(decay, cells["t"], cells.select("well", "plate", "y"), {"a": 1.0})
    frame = by_cells.to_frame("polars")
    assert frame.columns[:4] == ["well", "plate", "a", "a_stderr"]
    assert frame["well"].to_list() == names
    np.testing.assert_allclose(frame["k"], [0.5, 1.0, 2.0], rtol=1e-6)
    wide = pl.DataFrame(dict(zip(names, y, strict=True)))
    by_column = fit(decay, T, wide, {"a": 1.0}, axis=0).to_frame("polars")
    assert by_column["fit"].to_list() == names
    np.testing.assert_allclose(by_column["k"], [0.5, 1.0, 2.0], rtol=1e-6)
    with pytest.raises(ValueError, match="has other keys than ydata, or in another order"):
        fit(decay, cells.select("well", "t")[::-1], cells.select("well", "y"), {"a": 1.0})


def test_parameters_are_in_the_models_order_unless_p0_names_all():
    y = 2.5 * np.exp(-0.7 * T)

    def model(t, a=1.0, k=1.0, c=0.0):
        return a * jnp.exp(-k * t) + c

    box = ([0.0, 0.0, -0.5], [5.0, 4.0, 0.5])  # of a, k and c
    for p0 in (None, {"c": 0.1}, {"k": 0.5, "a": 2.0}):
        result = fit(model, T, y, p0, bounds=box)
        assert result.names == ("a", "k", "c")
        assert list(result.params) == ["a", "k", "c"]
        np.testing.assert_allclose(result.x, [2.5, 0.7, 0.0], atol=1e-6)
    assert fit(model, T, y, {"c": 0.1, "a": 1.0, "k": 1.0}).names == ("c", "a", "k")
    guessed = fit(Gaussian(), T, y, {"sigma": 1.0}).names
    assert guessed == ("amplitude", "center", "sigma")


def test_a_name_that_a_model_with_a_guess_does_not_have():
    with pytest.raises(TypeError, match=r"names \['centre'\].*Did you mean 'center'"):
        fit(Gaussian(), T, np.exp(-T), {"centre": 3.0})


def test_one_sigma_for_data_sets_of_different_lengths():
    lengths = (40, 25)
    x, y = [T[:m] for m in lengths], [2.0 * np.exp(-0.7 * T[:m]) for m in lengths]
    one = fit(decay, x, y, {"a": 1.0}, sigma=0.2, absolute_sigma=True)
    spelled = [np.full(m, 0.2) for m in lengths]
    each = fit(decay, x, y, {"a": 1.0}, sigma=spelled, absolute_sigma=True)
    np.testing.assert_array_equal(one.cov, each.cov)
