"""What goes wrong: a line that says it, the right exit code, and nothing that was computed lost."""

import csv
import errno
import io
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jaxlsq
from jaxlsq import FitResult, Status, fit
from jaxlsq.cli import fitting
from jaxlsq.cli.__main__ import main

FORMULA = "a*exp(-b*x)"
X = np.linspace(0.0, 3.0, 20)
Y = np.exp(-np.array([0.5, 1.0, 2.0])[:, None] * X) + 0.01 * np.random.default_rng(0).normal(
    size=(3, 20)
)
COMMAND = ["fit", "data.csv", "--model", FORMULA, "--p0", "a=1", "b=1", "-q"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    np.savetxt("data.csv", np.vstack([X, Y]).T, delimiter=",", header="t,u,v,w", comments="")


def said(capsys, *arguments, code=2):
    """What a command that can't work says, in a few lines."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("jaxlsq: ")
    assert captured.err.count("\n") <= 3
    assert "Traceback" not in captured.err
    return captured.err


# --- input ---------------------------------------------------------------------------

IMPROPER = {
    ("--model", "a*b.__class__"): "an attribute",
    ("--model", "a*exec(x)"): "exec is no function of a formula",
    ("--model", "a*exp(-c*x)"): "--p0 b: the parameters of 'a.exp.-c.x.' are a, c",
    ("--model", "a*exp(-b*t)"): "does not have the variable x",
    ("--model", "a*exp(-b*t) + 0*x"): "--p0: where do t of .* All names of a formula but functions",
    ("--model", "nomodule:f"): "there is no module nomodule",
    ("--model", "json:lods"): "json has no lods. Did you mean loads",
    ("--model", "model.py:f"): "a module's name, not a file's: model:f",
    ("--model", "json:__name__"): "expected a function",
    ("--bounds", "c=0:1"): "--bounds c: the parameters of",
    ("--bounds", "a=2:3"): "p0",
    ("--bounds", "a=0:", "a=:1"): "--bounds a is given twice",
    ("--p0", "a=2"): "--p0 a is given twice",
    ("--f-scale", "2"): "--f-scale is of a --loss such as soft_l1",
    ("--fixed", "d"): "--fixed d: the parameters",
    ("--fixed", "a", "b"): "all parameters of data set 0 are fixed",
    ("--x", "foo"): "--x foo: neither",
    ("--y", "foo*"): "--y foo.: no such column",
    ("--sigma", "foo"): "--sigma foo: neither a name in the data, nor a number",
    ("--xsigma", "foo"): "--xsigma foo: neither a name in the data, nor a number",
    ("--xsigma", "-1"): "xsigma must be positive",
    ("--x-errors", "effective_variance"): "pass xsigma too",
    ("--ftol", "-1"): "ftol",
    ("--workers", "0"): "workers",
    ("--out", "data.csv"): "data.csv is the file of the data",
    ("--out", "nowhere/out.csv"): "nowhere: No such folder",
    ("--out", "out.xlsx"): r"ends in one of .csv .tsv .parquet .npz .zarr; got '.xlsx'",
    ("--out", "temporary"): "got ''",
    ("--plot", "out.gif"): "ends in one of .png .pdf .svg",
}


@pytest.mark.parametrize("arguments", IMPROPER, ids=" ".join)
def test_improper_input_is_a_line_before_anything_is_compiled(arguments, capsys, compiles):
    before = compiles()
    message = said(capsys, *COMMAND, *arguments)
    assert re.search(IMPROPER[arguments], message), message
    assert compiles() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    {
        ("--p0", "1"): "expected NAME=VALUE, such as a=1",
        ("--p0", "a=one"): "'one' is no number",
        ("--p0", "a=1,b=2"): "with spaces between several",
        ("--p0", "a=1", "data.csv"): "the file goes before the options",
        ("--bounds", "a=0"): "expected NAME=LOW:HIGH",
        ("--loss", "square"): "invalid choice",
        ("--rows", "--columns"): "not allowed with",
        ("--nothing",): "unrecognized arguments",
    }.items(),
)
def test_options_that_are_not_right_are_usage_errors(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*COMMAND, *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_file_that_is_cut_off_is_said(capsys):
    whole = Path("data.csv").read_text()
    Path("data.csv").write_text(whole[: int(0.8 * len(whole))].rpartition(",")[0])
    assert "is the file cut off?" in said(capsys, *COMMAND)


def test_errors_of_a_model_are_said_with_their_kind(capsys, tmp_path, monkeypatch):
    (tmp_path / "broken_model.py").write_text("def f(x, a):\n    return a * undefined\n")
    command = ["fit", "data.csv", "--model", "broken_model:f", "--p0", "a=1", "-q"]
    assert "NameError: name 'undefined'" in said(capsys, *command)
    with pytest.raises(NameError):
        main([*command, "--debug"])


def test_a_library_that_is_not_there_is_said_before_the_fit(capsys, monkeypatch, compiles):
    for names, arguments, words in (
        (("polars", "pandas"), ("--out", "out.parquet"), "pip install polars"),
        (("matplotlib",), ("--plot", "out.png"), "pip install 'jaxlsq[plot]'"),
    ):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)
        before = compiles()
        assert words in said(capsys, *COMMAND, *arguments)
        assert compiles() == before


# --- output --------------------------------------------------------------------------


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("path", ["out.csv", "out.npz", "out.parquet", "out.zarr"])
def test_a_full_disk_loses_nothing(path, capsys, monkeypatch):
    assert main([*COMMAND, "--out", path]) == 0
    before = everything(path)
    expected = fit(lambda x, a, b: a * jnp.exp(-b * x), X, data(), {"a": 1.0, "b": 1.0})
    replace = os.replace

    def replaced(source, target):
        return replace(source, target) if "temporary" in str(target) else full()

    monkeypatch.setattr(os, "replace", replaced)
    message = said(capsys, *COMMAND, "--out", path, "--max-nfev", "50", code=3)
    assert f"{path} could not be written: No space left on device." in message
    place = re.search(r"The results are in (\S+\.npz)", message)[1]
    result = FitResult.load(place)
    np.testing.assert_array_equal(result.x, expected.x)
    np.testing.assert_allclose(result.cov, expected.cov)
    assert result.labels.of_each()[0]["fit"].tolist() == ["u", "v", "w"]
    assert everything(path) == before
    assert sorted(os.listdir()) == ["data.csv", path, "temporary"]


def data():
    return np.loadtxt("data.csv", delimiter=",", skiprows=1).T[1:]


def everything(path):
    """What a file or a folder holds."""
    files = sorted(Path(path).rglob("*")) if os.path.isdir(path) else [Path(path)]
    return [(str(file), file.read_bytes()) for file in files if file.is_file()]


def test_where_no_file_can_be_written_the_results_are_printed(capsys):
    """With a real limit of the system's."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        assert main([*COMMAND, "--out", "out.csv"]) == 3
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    captured = capsys.readouterr()
    assert "out.csv could not be written: File too large" in captured.err
    assert "on standard output, as CSV" in captured.err
    table = list(csv.DictReader(io.StringIO(captured.out)))
    assert main([*COMMAND, "--out", "out.csv"]) == 0
    with open("out.csv", newline="") as file:
        for one, two in zip(table, csv.DictReader(file), strict=True):
            assert one == {name: two[name] for name in one}
    assert {"fit", "a", "b", "status"} <= set(table[0])


def test_a_plot_that_cant_be_written_leaves_the_results(capsys, monkeypatch):
    replace = os.replace

    def replaced(source, target):
        return full() if str(target).endswith(".png") else replace(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    message = said(capsys, *COMMAND, "--out", "out.csv", "--plot", "out.png", code=3)
    assert "out.png could not be written: No space left on device." in message
    assert len(Path("out.csv").read_text().splitlines()) == 4


def test_a_zarr_folder_is_replaced_whole():
    assert main([*COMMAND, "--out", "out.zarr"]) == 0
    Path("out.zarr/left over").write_text("from before")
    assert main([*COMMAND, "--out", "out.zarr"]) == 0
    assert not Path("out.zarr/left over").exists()
    assert sorted(os.listdir()) == ["data.csv", "out.zarr", "temporary"]
    shutil.rmtree("out.zarr")


# --- Ctrl-C --------------------------------------------------------------------------

SLOW = """
import jax, jax.numpy as jnp

def slow(x, a, b):
    value = a * jnp.exp(-b * x)
    return jax.lax.fori_loop(0, 400, lambda i, v: v + 1e-9 * jnp.sin(v), value)
"""


def test_ctrl_c_keeps_what_is_done(capsys, tmp_path, monkeypatch):
    """A real signal, when the first fits are done."""
    (tmp_path / "slow_model.py").write_text(SLOW)
    rates = np.random.default_rng(0).uniform(0.5, 2.0, 30_000)
    np.save("many.npy", 2.0 * np.exp(-rates[:, None] * X))
    pressed = []

    def pressing(*arguments, **options):
        def progress(done, total):
            if done and not pressed:
                pressed.append(done)
                signal.raise_signal(signal.SIGINT)

        return fit(*arguments, **options | {"progress": progress})

    monkeypatch.setattr(fitting, "fit", pressing)
    command = ["fit", "many.npy", "--x", "0:3:20", "--model", "slow_model:slow"]
    assert main([*command, "--p0", "a=1", "b=1", "--out", "out.npz"]) == 130
    captured = capsys.readouterr()
    result = FitResult.load("out.npz")
    left = result.status == Status.INTERRUPTED
    assert 0 < left.sum() < 30_000
    np.testing.assert_allclose(result.x[~left, 1], rates[~left], rtol=1e-4)
    done = 30_000 - int(left.sum())
    assert f"interrupted: {done:,} of 30,000 fits are in out.npz." in captured.err
    assert "INTERRUPTED" in captured.out


def test_ctrl_c_before_the_fit(capsys, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxlsq.cli.__main__.read", pressed)
    assert main(COMMAND) == 130
    assert capsys.readouterr().err == "jaxlsq: interrupted.\n"


def test_ctrl_c_while_the_results_are_written(capsys, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: signal.raise_signal(signal.SIGINT))
    message = said(capsys, *COMMAND, "--out", "out.csv", code=3)
    place = re.search(r"The results are in (\S+\.npz)", message)[1]
    assert FitResult.load(place).success.all()
    assert not os.path.exists("out.csv")


def test_version_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"jaxlsq {jaxlsq.__version__}\n"
