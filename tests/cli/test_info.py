"""``jaxlsq info``, ``--help``, and plots."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import matplotlib.image
import numpy as np
import pytest

import jaxlsq
from jaxlsq.cli.__main__ import main
from jaxlsq.cli.drawing import WHICH
from jaxlsq.lowering import engine

ROOT = Path(__file__).parents[2]
COMMAND = ["fit", "data.csv", "--model", "a*x + b", "--p0", "a=1", "b=1", "-q", "--plot"]


def test_info_has_the_versions_and_the_engine(capsys):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["jaxlsq"] == jaxlsq.__version__
    assert facts["packages"]["jax"] == jax.__version__
    assert facts["packages"]["numpy"] == np.__version__
    assert len(facts["devices"]) == len(jax.devices())
    assert facts["jax_cache"] == jax.config.jax_compilation_cache_dir
    assert facts["engine"].startswith(engine.LANES)
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for fact in (jax.__version__, facts["platform"], facts["engine"], *facts["devices"]):
        assert str(fact) in text


def test_info_says_why_the_engine_is_another(capsys, monkeypatch):
    for choice, words in (
        ("xla", "XLA: it was asked for"),
        ("gpu", "JAXLSQ_ENGINE must be one of"),
    ):
        monkeypatch.setenv("JAXLSQ_ENGINE", choice)
        assert main(["info"]) == 0
        text = capsys.readouterr().out
        assert words in text
        assert f"JAXLSQ_ENGINE={choice}" in text


def test_info_without_llvmlite(capsys, monkeypatch):
    monkeypatch.setattr(engine, "host", lambda: None)
    assert main(["info"]) == 0
    assert "XLA: llvmlite is not installed" in capsys.readouterr().out


def test_optional_packages_are_loaded_where_they_are_used():
    names = {"scipy", "matplotlib", "tqdm", "pandas", "polars", "pyarrow", "h5py", "zarr"}
    code = f"import sys, jaxlsq.cli.__main__; print({names} & set(sys.modules))"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert set(done.stdout.strip("{}\n").replace("'", "").split(", ")) <= {"scipy", "set()"}


def test_help_has_examples_that_run(capsys, tmp_path, monkeypatch):
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    monkeypatch.chdir(tmp_path)
    t = np.linspace(0, 3, 20)
    y = np.exp(-t) + 0.01 * np.random.default_rng(0).normal(size=(2, 20))
    rows = np.vstack([t, y]).T
    np.savetxt("decays.csv", rows, delimiter=",", header="t,u,v", comments="")
    np.savetxt("runs.csv", rows, delimiter=",", header="time,run1,other", comments="")
    tidy = [(i, *pair) for i in range(2) for pair in zip(t, y[i], strict=True)]
    np.savetxt("long.csv", tidy, delimiter=",", header="id,t,signal", comments="")
    examples = text.partition("examples:")[2].partition("formulas:")[0].replace("\\\n", " ")
    commands = [line.strip() for line in examples.splitlines() if " jaxlsq fit" in line]
    assert len(commands) == 4
    (tmp_path / "model.py").write_text(
        "import numpy as np\ndef decay(x, a=1.0, b=1.0):\n    return a * np.exp(-b * x)\n"
    )
    import h5py

    with h5py.File("data.h5", "w") as file:
        file["run/y"], file["run/x"] = y, t
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    for command in commands:
        line = command.replace("jaxlsq", f"{sys.executable} -m jaxlsq.cli", 1)
        done = subprocess.run(line, shell=True, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
    assert {"fits.csv", "worst.png", "fits.parquet"} <= set(os.listdir())


@pytest.mark.long_but("12-worst", "2-random", "1-best", "12-params", "12-failed")
@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("sets", [1, 2, 12])
def test_plots(which, sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    t = np.linspace(0, 3, 20)
    y = 2 * t + 0.1 * np.random.default_rng(0).normal(size=(sets, 20))
    y[0, 3] = np.nan if sets == 12 else 0.0
    np.savetxt("data.csv", np.vstack([t, y]).T, delimiter=",")
    assert main([*COMMAND, "out.png", "--plot-which", which]) == int(sets == 12)
    if which == "failed" and sets < 12:
        assert not os.path.exists("out.png")
        return
    image = matplotlib.image.imread("out.png")
    assert image.shape[0] > 200
    assert image.std() > 0.05
    for suffix, begin in ((".pdf", b"%PDF"), (".svg", b"<?xml")) if sets == 2 else ():
        main([*COMMAND, f"out{suffix}"])
        assert Path(f"out{suffix}").read_bytes().startswith(begin)
