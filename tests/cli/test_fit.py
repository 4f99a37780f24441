"""``jaxlsq fit``: what it fits is what `jaxlsq.fit` fits, and every option reaches it."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import polars
import pytest
import scipy.optimize
import zarr

import jaxlsq
from jaxlsq import FitResult, fit
from jaxlsq.cli.__main__ import main

ROOT = Path(__file__).parents[2]
T = np.linspace(0.0, 4.0, 30)
RNG = np.random.default_rng(11)
TRUTH = RNG.uniform((2.0, 0.5, 0.1), (3.0, 2.0, 0.4), (6, 3))
NAMES = [f"d{i}" for i in range(len(TRUTH))]


def decay(x, a, b, c):
    return a * jnp.exp(-b * x) + c


Y = np.stack([np.asarray(p[0] * np.exp(-p[1] * T) + p[2]) for p in TRUTH])
Y += 0.02 * RNG.normal(size=Y.shape)
FORMULA, P0 = "a*exp(-b*x) + c", {"a": 1.0, "b": 1.0, "c": 0.0}
BEGIN = ["--p0", "a=1", "b=1", "c=0"]


def table(path, y=Y, names=NAMES, t=T):
    """A CSV file that gives every number back."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["t", *names])
        writer.writerows(np.column_stack([t, y.T]).tolist())


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    table("data.csv")


@pytest.fixture(scope="module")
def expected():
    return fit(decay, T, Y, P0)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def run(*arguments):
    return main(["fit", "data.csv", "--model", FORMULA, *arguments])


def found(*arguments, model=FORMULA, data="data.csv"):
    """The result of a command that converges."""
    command = ["fit", data, "--model", model, *arguments, "-q", "--out", "r.npz"]
    assert main(command) == 0
    return FitResult.load("r.npz")


def assert_same(one, other):
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.cost, other.cost)
    np.testing.assert_allclose(one.cov, other.cov, rtol=1e-12)
    assert one.names == other.names


# --- files ---------------------------------------------------------------------------


def test_csv_has_a_row_for_each_fit(expected, capsys):
    assert run(*BEGIN, "--out", "out.csv") == 0
    table = rows("out.csv")
    errors = np.stack(list(expected.stderr.values()), axis=1)
    assert list(table[0]) == [
        *("fit", "a", "a_stderr", "b", "b_stderr", "c", "c_stderr"),
        *("success", "status", "message", "cost", "redchi", "nfev"),
    ]
    for i, row in enumerate(table):
        assert row["fit"] == NAMES[i]
        assert [float(row[k]) for k in "abc"] == expected.x[i].tolist()
        assert [float(row[f"{k}_stderr"]) for k in "abc"] == errors[i].tolist()
        assert float(row["cost"]) == expected.cost[i]
        assert float(row["redchi"]) == expected.redchi[i]
        assert int(row["nfev"]) == expected.nfev[i]
        assert (row["success"], row["message"]) == ("True", "")
        assert row["status"] == jaxlsq.Status(int(expected.status[i])).name
    printed = capsys.readouterr().out
    assert "data.csv: 6 data sets of 30 points, one a column; x is the column 't'." in printed
    assert str(expected.summary()) in printed
    assert "Wrote out.csv: a row for each of 6 fits." in printed


def test_the_other_formats_have_the_same(expected):
    for path in ("out.csv", "out.tsv", "out.parquet", "out.zarr", "out.npz"):
        assert run(*BEGIN, "-q", "--out", path) == 0
    assert_same(FitResult.load("out.npz"), expected)
    index, _ = FitResult.load("out.npz").labels.of_each()
    assert index["fit"].tolist() == NAMES
    of_csv = polars.read_csv("out.csv", schema_overrides={"message": polars.String})
    of_tsv = polars.read_csv("out.tsv", separator="\t", schema_overrides={"message": polars.String})
    assert of_csv.equals(of_tsv, null_equal=True)
    frame = polars.read_parquet("out.parquet")
    group = zarr.open_group("out.zarr", mode="r")
    assert frame.columns == of_csv.columns
    assert sorted(group) == sorted(frame.columns)
    for name in frame.columns:
        values = frame[name].to_list()
        assert group[name][...].tolist() == values
        assert [v if v is not None else "" for v in of_csv[name]] == values


def test_single_precision_is_written_with_its_own_digits():
    np.save("y.npy", Y.astype(np.float32))
    np.save("t.npy", T.astype(np.float32))
    command = ["fit", "y.npy", "--x", "t.npy", "--model", FORMULA, *BEGIN, "-q", "--out"]
    assert main([*command, "out.csv"]) == 0
    result = fit(decay, T.astype(np.float32), Y.astype(np.float32), P0)
    assert result.x.dtype == np.float32
    values = [row["a"] for row in rows("out.csv")]
    assert np.array(values, np.float32).tolist() == result.x[:, 0].tolist()
    assert max(map(len, values)) < 12
    assert [row["fit"] for row in rows("out.csv")] == list("012345")


def test_parameters_with_the_names_of_columns_are_told_apart():
    assert run("-q", "--p0", "a=1", "b=1", "c=0", "--out", "out.csv") == 0
    model = "cost*exp(-fit*x) + status"
    command = ["fit", "data.csv", "--model", model, "--p0", "cost=1", "fit=1", "status=0"]
    assert main([*command, "-q", "--out", "other.csv"]) == 0
    for one, two in zip(rows("out.csv"), rows("other.csv"), strict=True):
        assert two["fit"] == one["fit"]
        assert [two[f"{name}_param"] for name in ("cost", "fit", "status")] == [
            one[k] for k in "abc"
        ]
        assert two["cost"] == one["cost"]


def test_images_have_two_labels():
    np.save("y.npy", Y.reshape(2, 3, -1))
    command = ["fit", "y.npy", "--x", "0:4:30", "--model", FORMULA, *BEGIN, "-q"]
    assert main([*command, "--out", "out.csv"]) == 0
    places = [(row["fit_0"], row["fit_1"]) for row in rows("out.csv")]
    assert places == [(i, j) for i in "01" for j in "012"]


# --- options -------------------------------------------------------------------------


def test_options_reach_the_fit():
    y = Y + 0.5 * (np.random.default_rng(2).random(Y.shape) > 0.95)
    table("data.csv", y)
    bounds = {"a": (0, 2.4), "b": (0.6, None), "c": (None, 0.3)}
    tolerances = {"ftol": 1e-4, "xtol": 1e-4, "gtol": 1e-3}
    for text, options in {
        "--bounds a=0:2.4 b=0.6: c=:0.3": {"bounds": bounds},
        "--fixed c": {"fixed": ["c"]},
        "--loss soft_l1 --f-scale 0.1": {"loss": "soft_l1", "f_scale": 0.1},
        "--sigma 0.02 --absolute-sigma": {"sigma": 0.02, "absolute_sigma": True},
        "--sigma 0.02 --xsigma 0.1": {"sigma": 0.02, "xsigma": 0.1},
        "--xsigma 0.5 --x-errors effective_variance": {
            "xsigma": 0.5,
            "x_errors": "effective_variance",
        },
        "--ftol 1e-4 --xtol 1e-4 --gtol 1e-3": tolerances,
        "--starts 3 --workers 1": {"starts": 3},
    }.items():
        assert_same(found(*BEGIN, *text.split()), fit(decay, T, y, P0, **options))
    single = found(*BEGIN, "--float32")
    assert single.x.dtype == np.float32
    again = fit(decay, T.astype(np.float32), y.astype(np.float32), P0)
    np.testing.assert_array_equal(single.x, again.x)


def test_a_limit_on_evaluations_is_the_exit_code_1(capsys):
    assert run(*BEGIN, "--max-nfev", "3") == 1
    printed = capsys.readouterr().out
    assert "MAX_NFEV" in printed
    assert run(*BEGIN, "--max-nfev", "3", "--out", "out.csv", "-q") == 1
    assert {row["success"] for row in rows("out.csv")} == {"False"}
    assert rows("out.csv")[0]["message"].startswith("The limit on function evaluations")


def test_empty_cells(capsys):
    holes = Y.copy()
    holes[2, 5:8] = np.nan
    with open("data.csv", "w") as file:
        file.write("t," + ",".join(NAMES) + "\n")
        for t, row in zip(T.tolist(), holes.T.tolist(), strict=True):
            file.write(f"{t!r}," + ",".join("" if v != v else repr(v) for v in row) + "\n")
    assert run(*BEGIN, "--out", "out.csv") == 1
    assert [row["fit"] for row in rows("out.csv") if row["status"] == "NONFINITE_DATA"] == ["d2"]
    assert_same(found(*BEGIN, "--nan", "omit"), fit(decay, T, holes, P0, nan_policy="omit"))
    capsys.readouterr()
    assert run(*BEGIN, "--nan", "raise") == 2
    assert capsys.readouterr().err.startswith("jaxlsq: ")


def test_groups_of_different_lengths():
    sizes = [30, 20, 25, 30, 12, 28]
    with open("long.csv", "w") as file:
        file.write("id,t,y\n")
        for j in range(30):
            for i, size in enumerate(sizes):
                if j < size:
                    file.write(f"s{i},{float(T[j])!r},{float(Y[i, j])!r}\n")
    result = found(*BEGIN, "--group", "id", data="long.csv")
    lists = [[v[:size] for v, size in zip(rows, sizes, strict=True)] for rows in ([T] * 6, Y)]
    assert_same(result, fit(decay, *lists, P0))
    assert result.labels.of_each()[0]["id"].tolist() == [f"s{i}" for i in range(6)]


def test_a_table_on_the_screen_for_a_few_fits(expected, capsys):
    run(*BEGIN)
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("  d3 "))
    errors = np.array(list(expected.stderr.values()))[:, 3]
    for value, error in zip(expected.x[3], errors, strict=True):
        assert f"{value:.6g} +- {error:.2g}" in line
    assert line.endswith(jaxlsq.Status(int(expected.status[3])).name)
    limits = ["--fixed", "c", "--bounds", "a=:1.5"]
    assert run(*BEGIN, *limits) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  d3 "))
    assert "1.5 (at upper bound)" in line
    assert "0 (fixed)" in line
    assert run(*BEGIN, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert run(*BEGIN, "--quiet", "--progress") == 0
    assert "6.00/6.00" in capsys.readouterr().err


# --- models --------------------------------------------------------------------------

MODULE = """
import numpy as np

def decay(x, a, b=1.0, c=0.0):
    return a * np.exp(-b * x) + c

def several(x, *params):
    a, b, c = params
    return a * np.exp(-b * x) + c

def guess(x, y):
    return {"a": y[0] - y[-1], "b": 1.0, "c": y[-1]}

def in_order(x, y):
    return [y[0], 1.0, 0.0]

class Decay:
    names = ("a", "b", "c")
    bounds = {"b": (0.0, None)}
    def __call__(self, x, a, b, c):
        return decay(x, a, b, c)
    def guess(self, x, y):
        return guess(x, y)

model = Decay()
number = 3

def broken(x, a):
    return a * undefined
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The module `mine` in the current folder."""
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield "mine"
    sys.modules.pop("mine", None)


def test_functions_of_modules(module, expected):
    for name, arguments in {
        "mine:decay": ["--p0", "a=1"],
        "mine:several": BEGIN,
        "mine:model": [],
    }.items():
        result = found(*arguments, model=name)
        np.testing.assert_allclose(result.x, expected.x, rtol=1e-5)
        assert result.names == ("a", "b", "c")
    np.testing.assert_array_equal(found("--p0", "a=1", model="mine:decay").x, expected.x)


def test_guesses(module, expected):
    for arguments in (
        ["--guess", "mine:guess"],
        ["--guess", "mine"],
        ["--guess", "mine:guess", "--p0", "b=1.5"],
        ["--guess", "mine:in_order"],
    ):
        result = found(*arguments)
        np.testing.assert_allclose(result.x, expected.x, rtol=1e-5)
    fixed = found("--guess", "mine:guess", "--p0", "b=1.25", "--fixed", "b")
    assert (fixed.x[:, 1] == 1.25).all()


@pytest.mark.long
def test_names_of_ready_models():
    models = pytest.importorskip("jaxlsq.models")
    x = np.linspace(-3, 3, 60)
    rng = np.random.default_rng(4)
    peaks = 2.0 * np.exp(-0.5 * ((x - 0.4) / 0.6) ** 2) + 0.01 * rng.normal(size=(4, x.size))
    table("data.csv", peaks, NAMES[:4], x)
    for name in ("gaussian", "Gaussian", "GAUSSIAN"):
        assert_same(found(model=name), fit(models.Gaussian(), x, peaks))
    two = models.Gaussian(prefix="p1_") + models.Linear()
    assert_same(found(model="gaussian(p1_) + linear"), fit(two, x, peaks))
    assert_same(found(model="polynomial(2)"), fit(models.Polynomial(2), x, peaks))


def test_ready_models_that_are_not_known(capsys):
    pytest.importorskip("jaxlsq.models")
    for model, words in {
        "gausian": "Did you mean gaussian",
        "gaussian + lineer": "lineer is no model's name. Did you mean linear",
        "polynomial": "polynomial needs a number in parentheses: polynomial(2)",
    }.items():
        assert main(["fit", "data.csv", "--model", model]) == 2
        assert words in capsys.readouterr().err


# --- 10,000 columns, as a user runs it -------------------------------------------------


@pytest.mark.long
def test_ten_thousand_columns_in_one_line(tmp_path):
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.5, 2.0, 10_000)
    y = 2.5 * np.exp(-rates[:, None] * T) + 0.3 + 0.02 * rng.normal(size=(10_000, T.size))
    table("wide.csv", y, [f"d{i}" for i in range(10_000)])
    command = [sys.executable, "-m", "jaxlsq.cli", "fit", "wide.csv", "--model", FORMULA, *BEGIN]
    done = subprocess.run(
        [*command, "--out", "out.csv"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "wide.csv: 10,000 data sets of 30 points" in done.stdout
    assert "FitResult: 10,000 fits, 10,000 converged" in done.stdout
    assert done.stderr == ""
    result = rows("out.csv")
    for i in range(0, 10_000, 1_000):
        params, cov = scipy.optimize.curve_fit(
            lambda x, a, b, c: a * np.exp(-b * x) + c, T, y[i], [1, 1, 0], ftol=1e-13, xtol=1e-13
        )
        assert result[i]["fit"] == f"d{i}"
        np.testing.assert_allclose([float(result[i][k]) for k in "abc"], params, rtol=1e-5)
        errors = [float(result[i][f"{k}_stderr"]) for k in "abc"]
        np.testing.assert_allclose(errors, np.sqrt(np.diag(cov)), rtol=1e-3)


def test_parameters_are_in_the_models_order(expected):
    assert_same(found("--p0", "c=0", "b=1", "a=1"), expected)
