"""Files as data sets: tables in columns, rows and groups; arrays; what is damaged."""

import io
import sys
from contextlib import ExitStack

import h5py
import numpy as np
import polars
import pytest
import zarr

from jaxlsq import fit
from jaxlsq.cli.data import Wanted
from jaxlsq.cli.reading import read
from jaxlsq.cli.text import Style

X = np.array([0.0, 0.5, 1.0, 1.5])
Y = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.5], [9.0, 1.0, -2e-3, 0.25]])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def load():
    """Read a file, of a text if one is given."""
    with ExitStack() as files:

        def call(path, text=None, **wanted):
            if text is not None:
                with open(path, "w", encoding="utf-8", newline="") as file:
                    file.write(text)
            style = Style(**{k: wanted.pop(k) for k in ("decimal", "header") if k in wanted})
            return read(path, Wanted(**wanted, style=style), files)[0]

        yield call


def lines(rows, delimiter=","):
    return "".join(delimiter.join(map(str, row)) + "\n" for row in rows)


def labels(data):
    return {k: v.tolist() for k, v in data.labels.of_each()[0].items()} if data.labels else None


COLUMNS = np.vstack([X, Y]).T.tolist()
HEAD = ["t", "run1", "run2", "other"]
# The same table in each of these.
TEXTS = {
    "a.csv": lines([HEAD, *COLUMNS]),
    "bom.csv": "\ufeff" + lines([HEAD, *COLUMNS]),
    "crlf.csv": lines([HEAD, *COLUMNS]).replace("\n", "\r\n"),
    "blank lines.csv": lines([HEAD, *COLUMNS]).replace("\n", "\n\n"),
    "quoted.csv": '"t","run1","run2","other"\n' + lines(COLUMNS).replace("0.5", '"0.5"'),
    "spaces.csv": lines([HEAD, *COLUMNS], ", "),
    "a.tsv": lines([HEAD, *COLUMNS], "\t"),
    "semicolon.csv": lines([HEAD, *COLUMNS], ";"),
    "a.dat": lines([HEAD, *COLUMNS], "  "),
    "savetxt.txt": "# a comment\n# " + lines([HEAD, *COLUMNS], " "),
    "commas.txt": "# " + ", ".join(HEAD) + "\n" + lines(COLUMNS, " "),
}


@pytest.mark.parametrize("name", TEXTS)
def test_columns_of_text(load, name):
    data = load(name, TEXTS[name])
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)
    assert labels(data) == {"fit": HEAD[1:]}
    assert str(data) == f"{name}: 3 data sets of 4 points, one a column; x is the column 't'"


def test_a_decimal_comma(load):
    text = lines([HEAD, *COLUMNS], ";").replace(".", ",")
    with pytest.raises(ValueError, match=r"line 2, column 't': '0,0' is no number.*--decimal ,"):
        load("a.csv", text)
    np.testing.assert_array_equal(load("a.csv", decimal=",").y, Y)


def test_text_without_names(load):
    data = load("a.csv", lines(COLUMNS))
    np.testing.assert_array_equal(data.y, Y)
    assert labels(data) == {"fit": ["1", "2", "3"]}
    assert "no names in the first line" in str(data)
    assert load("a.csv", header=True).y.shape == (3, 3)
    years = lines([[0, 1990, 1991], [0, 1, 2], [1, 3, 4]])
    assert load("years.csv", years, header=True).y.tolist() == [[1.0, 3.0], [2.0, 4.0]]


def test_columns_are_chosen(load):
    text = lines([HEAD, *COLUMNS])
    for options, expected in {
        (("y", "run*"),): ("t", ["run1", "run2"]),
        (("y", "other,run1"),): ("t", ["other", "run1"]),
        (("y", "2"),): ("t", ["run2"]),
        (("x", "run1"),): ("run1", ["t", "run2", "other"]),
        (("x", "1"), ("y", "*r")): ("run1", ["other"]),
    }.items():
        data = load("a.csv", text, **dict(options))
        x, names = expected
        np.testing.assert_array_equal(data.x, np.array(COLUMNS)[:, HEAD.index(x)])
        assert labels(data) == {"fit": names}
        rows = [np.array(COLUMNS)[:, HEAD.index(name)] for name in names]
        np.testing.assert_array_equal(data.y, rows)


def test_places_from_elsewhere(load):
    np.save("x.npy", X)
    np.savez("x.npz", t=X, other=X + 1)
    with open("x.txt", "w") as file:
        file.write("\n".join(map(str, X)) + "\n")
    with open("table.csv", "w") as file:
        file.write(lines([("i", "t"), *enumerate(X.tolist())]))
    text = lines([HEAD[1:], *Y.T.tolist()])
    for x in ("0:1.5:4", "x.npy", "x.npz::t", "x.txt", "table.csv::t"):
        data = load("a.csv", text, x=x)
        np.testing.assert_array_equal(data.x, X)
        np.testing.assert_array_equal(data.y, Y)
    np.testing.assert_array_equal(load("a.csv", x="index").x, np.arange(4.0))
    with pytest.raises(ValueError, match=r"x has the shape \(5,\), not 4 points"):
        load("a.csv", x="0:1:5")
    with pytest.raises(ValueError, match=r"--x run3: neither .* Did you mean 'run2'"):
        load("a.csv", x="run3")
    with pytest.raises(ValueError, match="expected START:STOP:NUM"):
        load("a.csv", x="a:1:5")


def test_sigma(load):
    text = lines([[*HEAD, "s"], *(([*row, 0.1 * (i + 1)]) for i, row in enumerate(COLUMNS))])
    data = load("a.csv", text, sigma="s", y="run*")
    np.testing.assert_allclose(data.sigma, [0.1, 0.2, 0.3, 0.4])
    assert load("a.csv", sigma="0.25").sigma == 0.25
    np.save("s.npy", 0.1 * Y + 1)
    data = load("a.csv", text, sigma="s.npy", y="run*,other")
    np.testing.assert_array_equal(data.sigma, 0.1 * Y + 1)
    data = load("a.csv", text, sigma="0.5", xsigma="s", y="run*")
    assert data.sigma == 0.5
    np.testing.assert_allclose(data.xsigma, [0.1, 0.2, 0.3, 0.4])
    assert load("a.csv", xsigma="0.25").xsigma == 0.25


def test_rows(load):
    np.testing.assert_array_equal(load("a.csv", lines([X, *Y]), rows=True).y, Y)
    named = lines([["id", *X], *([f"s{i}", *y] for i, y in enumerate(Y))])
    numbered = lines([["", *X], *([i, *y] for i, y in enumerate(Y))])
    for text, expected in (
        (named, {"id": ["s0", "s1", "s2"]}),
        (numbered, {"fit": ["0", "1", "2"]}),
    ):
        data = load("a.csv", text, rows=True)
        np.testing.assert_array_equal(data.x, X)
        np.testing.assert_array_equal(data.y, Y)
        assert labels(data) == expected
    data = load("a.csv", lines(Y), rows=True, x="0:1.5:4")
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)
    data = load("a.csv", named.replace(",", ";").replace(".", ","), rows=True, decimal=",")
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)
    with pytest.raises(ValueError, match="names that are no numbers; give --x"):
        load("a.csv", lines([HEAD, *Y]), rows=True)
    data = load("a.csv", lines([HEAD, *Y]), rows=True, x="index")
    np.testing.assert_array_equal(data.y, Y)


def test_cells_without_a_value_are_nan(load):
    data = load("a.csv", "t,u,v\n0,1,2\n1,,NA\n2,nan,3\n")
    np.testing.assert_array_equal(data.y, [[1, np.nan, np.nan], [2, np.nan, 3]])


def test_delimiters_at_the_ends_of_lines_make_no_data_set(load):
    bare = "t,a,b\n0,1,2\n0.5,,3\n1,4,5\n"
    expected = load("bare.csv", bare)
    for name, text in (
        ("every", bare.replace("\n", ",\n")),
        ("two", bare.replace("\n", ",  ,\n")),
        ("of the first line", bare.replace("b\n", "b,\n")),
        ("between", "t,,a,b\n0,,1,2\n0.5,,,3\n1,,4,5\n"),
    ):
        data = load(f"{name}.csv", text)
        np.testing.assert_array_equal(data.y, expected.y)
        assert labels(data) == labels(expected)
    bare = load("numbers.csv", "0,1,2,\n0.5,,3,\n1,4,5,\n")
    np.testing.assert_array_equal(bare.y, expected.y)
    rows = load("rows.csv", "0,0.5,1,\n1,,4,\n2,3,5,\n", rows=True)
    np.testing.assert_array_equal(rows.y, expected.y)
    np.testing.assert_array_equal(rows.x, expected.x)
    groups = load("groups.csv", "k,t,a,\nu,0,1,\nu,1,2,\nv,0,3,\nv,1,4,\n", group=("k",))
    np.testing.assert_array_equal(groups.y, [[1.0, 2.0], [3.0, 4.0]])
    # What has a value is a data set, with a name or without one.
    assert labels(load("value.csv", "t,a,\n0,1,\n1,2,3\n")) == {"fit": ["a", ""]}
    assert load("last.csv", "0,1,\n0.5,2,\n1,3,7\n").y.shape == (2, 3)
    with open("every.csv", encoding="utf-8") as file, ExitStack() as files:
        assert file.readline().endswith(",\n")
        [note] = read("every.csv", Wanted(), files)[1]
    assert note == "every.csv: a column without name and values left out."
    with pytest.raises(ValueError, match="line 2: 4 cells, where the first line has 2"):
        load("wide.csv", "t,a,\n0,1,2,3\n")


def test_groups_of_different_lengths(load):
    rows = [
        ("b", 0, 1, 0.1),
        ("a", 0, 2, 0.2),
        ("b", 1, 3, 0.3),
        ("b", 2, 4, 0.4),
        ("a", 5, 6, 0.6),
    ]
    text = lines([("id", "t", "y", "s"), *rows])
    data = load("a.csv", text, group=("id",), x="t", y="y", sigma="s")
    assert labels(data) == {"id": ["b", "a"]}
    assert [v.tolist() for v in data.x] == [[0, 1, 2], [0, 5]]
    assert [v.tolist() for v in data.y] == [[1, 3, 4], [2, 6]]
    assert [v.tolist() for v in data.sigma] == [[0.1, 0.3, 0.4], [0.2, 0.6]]
    assert "2 data sets of 2 to 3 points" in str(data)
    data = load("a.csv", text, group=("id",), y="y", sigma="0.5")
    assert [v.tolist() for v in data.sigma] == [[0.5] * 3, [0.5] * 2]
    data = load("a.csv", text, group=("id",), x="t", y="y", sigma="0.5", xsigma="s")
    assert [v.tolist() for v in data.sigma] == [[0.5] * 3, [0.5] * 2]
    assert [v.tolist() for v in data.xsigma] == [[0.1, 0.3, 0.4], [0.2, 0.6]]
    with pytest.raises(ValueError, match=r"one column of data: --y NAME, one of \['y', 's'\]"):
        load("a.csv", group=("id",))
    with pytest.raises(ValueError, match="--group name: no such column"):
        load("a.csv", group=("name",))
    with pytest.raises(ValueError, match="--group goes with neither --rows nor --columns"):
        load("a.csv", group=("id",), rows=True)
    np.save("y.npy", Y)
    with pytest.raises(ValueError, match=r"--group is for tables, and y\.npy has arrays"):
        load("y.npy", group=("id",))


def test_groups_of_two_columns_and_one_length(load):
    rows = [(s, d, t, 10 * s + d + t) for t in range(3) for s in (1, 2) for d in (5, 6)]
    data = load("a.csv", lines([("site", "day", "t", "y"), *rows]), group=("site", "day"))
    assert labels(data) == {"site": ["1", "1", "2", "2"], "day": ["5", "6", "5", "6"]}
    assert data.y.tolist() == [[s + t for t in range(3)] for s in (15.0, 16.0, 25.0, 26.0)]
    assert data.x.tolist() == [[0.0, 1.0, 2.0]] * 4


def test_standard_input(load, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(TEXTS["a.csv"]))
    np.testing.assert_array_equal(load("-").y, Y)


def test_arrays(load):
    np.save("y.npy", Y)
    np.savez("y.npz", y=Y, x=X, s=0.1 * Y + 1)
    with h5py.File("y.h5", "w") as file:
        file["run/y"], file["run/x"] = Y, X
    zarr.create_array("one.zarr", data=Y)
    group = zarr.open_group("y.zarr", mode="w")
    group.create_array("y", data=Y)
    group.create_array("x", data=X)
    for path, options, x in (
        ("y.npy", {}, np.arange(4.0)),
        ("y.npy", {"rows": True, "x": "0:1.5:4"}, X),
        ("y.npz", {}, X),
        ("y.npz", {"y": "y", "x": "x", "sigma": "s"}, X),
        ("y.h5::/run/y", {"x": "run/x"}, X),
        ("y.h5", {"y": "run/y", "x": "/run/x"}, X),
        ("y.zarr", {}, X),
        ("one.zarr", {"x": "index"}, np.arange(4.0)),
    ):
        data = load(path, **options)
        np.testing.assert_array_equal(data.x, x)
        np.testing.assert_array_equal(data.y[...], Y)
        assert data.labels is None
    assert type(load("y.h5::run/y").y).__module__.startswith("h5py")
    assert type(load("y.zarr").y).__module__.startswith("zarr")
    assert isinstance(load("y.npy").y, np.memmap)
    with pytest.raises(ValueError, match="has no array 'z'; it has: y, x, s"):
        load("y.npz", y="z")
    with pytest.raises(ValueError, match="say which are the data: --y NAME"):
        load("y.h5")


def test_arrays_with_their_points_first_and_images(load):
    np.save("y.npy", Y.T)
    data = load("y.npy", rows=False, x="0:1.5:4")
    assert data.axis == 0
    assert "3 data sets of 4 points" in str(data)
    with pytest.raises(ValueError, match="--rows and --columns say which"):
        load("y.npy", x="0:1.5:4")
    np.save("images.npy", np.arange(24.0).reshape(2, 3, 4))
    assert "6 data sets of 4 points" in str(load("images.npy"))
    assert "12 data sets of 2 points" in str(load("images.npy", rows=False))
    np.save("one.npy", X)
    assert "1 data set of 4 points" in str(load("one.npy"))


def test_the_same_fit_from_every_file(load):
    t = np.linspace(0, 3, 20)
    y = np.exp(-np.array([0.5, 1.0, 2.0])[:, None] * t) + 0.01 * np.random.default_rng(0).normal(
        size=(3, 20)
    )
    with h5py.File("y.h5", "w") as file:
        file["y"], file["x"] = y, t
    with h5py.File("columns.h5", "w") as file:
        file["y"], file["x"] = y.T, t
    with open("y.csv", "w") as file:
        file.write(lines([["t", "a", "b", "c"], *np.vstack([t, y]).T.tolist()]))
    polars.read_csv("y.csv").write_parquet("y.parquet")

    def decay(x, k):
        return np.exp(-k * x)

    expected = fit(decay, t, y, [1.0])
    for path, options in (
        ("y.h5", {}),
        ("columns.h5", {"rows": False}),
        ("y.csv", {}),
        ("y.parquet", {}),
    ):
        data = load(path, **options)
        result = fit(decay, data.x, data.y, [1.0], axis=data.axis)
        np.testing.assert_array_equal(result.x, expected.x)
        narrow = data.in_float32()
        single = fit(decay, narrow.x, narrow.y, [1.0], axis=data.axis, polish=None)
        assert single.x.dtype == np.float32
        np.testing.assert_allclose(single.x, expected.x, rtol=1e-4)


def test_parquet(load, monkeypatch):
    table = polars.DataFrame({"id": ["a", "b", "a"], "t": [0, 1, 2], "y": [1.0, None, 3.0]})
    table.write_parquet("a.parquet")
    data = load("a.parquet", x="t", y="y")
    np.testing.assert_array_equal(data.y, [[1.0, np.nan, 3.0]])
    assert [v.tolist() for v in load("a.parquet", group=("id",)).x] == [[0, 2], [1]]
    with pytest.raises(ValueError, match=r"column 'id': .* no numbers\. Choose"):
        load("a.parquet")
    wide = {"id": ["a", "b"], **{str(x): Y[:2, i] for i, x in enumerate(X)}}
    polars.DataFrame(wide).write_parquet("wide.parquet")
    data = load("wide.parquet", rows=True)
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y[:2])
    assert labels(data) == {"id": ["a", "b"]}
    for name in ("polars", "pandas"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="need polars, or pandas with pyarrow"):
        load("a.parquet")


# --- what is damaged ----------------------------------------------------------------


def test_a_table_that_is_cut_off(load):
    whole = lines([HEAD, *COLUMNS])
    with pytest.raises(
        ValueError, match=r"line 5: 3 cells, where the first line has 4\. It is the"
    ):
        load("a.csv", whole[: whole.rindex(",")])
    with pytest.raises(ValueError, match=r"line 3: 2 cells, where the first line has 4\."):
        load("a.csv", lines([HEAD, COLUMNS[0], [1, 2], *COLUMNS[1:]]))


def test_a_table_whose_last_number_may_be_cut_off_is_noted():
    with open("a.csv", "w") as file:
        file.write(TEXTS["a.csv"][:-2])
    with ExitStack() as files:
        _, notes = read("a.csv", Wanted(), files)
    assert len(notes) == 1
    assert "the last line has no line end" in notes[0]


@pytest.mark.parametrize(
    ("text", "words"),
    {
        "": "has no data in it",
        "# only\n": "has no data in it",
        "t,u\n": "has no data in it",
        "t\n1\n": "has one column; where is x",
        "t,u\n1,two\n": r"line 2, column 'u': 'two' is no number\. Choose the columns",
        "t,u\n0,1\n1,1_0\n": r"line 3, column 'u': '1_0' is no number",
        "t,t\n0,1\n": "--x t: 2 columns have this name",
    }.items(),
)
def test_bad_tables_are_errors_with_the_line(load, text, words):
    with pytest.raises(ValueError, match=words):
        load("a.csv", text, **({"x": "t"} if "t,t" in text else {}))


def test_files_in_other_encodings(load):
    with open("a.csv", "wb") as file:
        file.write("t,µ\n0,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is no text in UTF-8"):
        load("a.csv")
    with open("a.csv", "wb") as file:
        file.write(b"t,a\n0,1\x00\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 2"):
        load("a.csv")


@pytest.mark.parametrize("path", ["y.npy", "y.npz", "y.h5", "y.parquet"])
def test_files_of_arrays_that_are_cut_off(load, path):
    y = np.random.default_rng(0).normal(size=(50, 40))
    if path == "y.npy":
        np.save(path, y)
    elif path == "y.npz":
        np.savez(path, y=y)
    elif path == "y.h5":
        with h5py.File(path, "w") as file:
            file["y"] = y
    else:
        polars.DataFrame(y).write_parquet(path)
    with open(path, "rb") as file:
        whole = file.read()
    for share in (0.0, 0.01, 0.66, 0.99):
        with open(path, "wb") as file:
            file.write(whole[: int(share * len(whole))])
        with pytest.raises((ValueError, OSError), match=rf"{path}.*(cut off|damaged)"):
            load(path)


def test_chunks_that_are_not_there_are_noted():
    """As zarr reads them as zeros."""
    array = zarr.create_array("y.zarr", shape=(6, 4), chunks=(2, 4), dtype="f8")
    array[:4] = 1.0
    with ExitStack() as files:
        _, notes = read("y.zarr", Wanted(), files)
    assert notes == ["y.zarr: 1 of 3 chunks of the array are not there, and read as 0.0."]
    with open("y.zarr/zarr.json", "w") as file:
        file.write('{"zarr_for')
    with ExitStack() as files, pytest.raises(ValueError, match=r"y\.zarr can't be read as zarr"):
        read("y.zarr", Wanted(), files)


def test_files_that_are_not_there_or_not_known(load):
    for path in ("a.csv", "a.npy", "a.h5::y", "a.zarr", "a.parquet"):
        with pytest.raises(FileNotFoundError):
            load(path)
    with pytest.raises(ValueError, match=r"ends in one of \.csv .* got '\.xlsx'"):
        load("a.xlsx")
