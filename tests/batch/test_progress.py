"""What is shown of a run: rate, time left, compilations that take a while."""

import re
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import tqdm.auto

from jaxlsq import fit
from jaxlsq.batch import group, progress
from tests.decays import P0, B, T, Y, decay


def slow_compile(monkeypatch, time_s):
    """Programs take so long to compile, and compilations are announced after 0.1 s."""
    compile_task = group.compile_task

    def slowly(*arguments):
        time.sleep(time_s)
        return compile_task(*arguments)

    monkeypatch.setattr(group, "compile_task", slowly)
    monkeypatch.setattr(progress, "SOON_S", 0.1)


@pytest.fixture
def no_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)


def test_a_line_has_rate_and_time_left(capsys, no_tqdm, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.reporter(True, 4000) as report:
        assert report is not None
        for done, at in ((0, 100.2), (1000, 110.0), (1001, 110.01), (2000, 120.0), (4000, 140.0)):
            now[0] = at
            report(done)
    lines = [line.rstrip() for line in capsys.readouterr().err.split("\r")]
    assert lines == [
        "",
        "0 of 4,000 fits (0%)",
        "1,000 of 4,000 fits (25%), 100 a second, 30 s left",
        "2,000 of 4,000 fits (50%), 100 a second, 20 s left",
        "4,000 of 4,000 fits (100%), 100 a second",
    ]


@pytest.mark.parametrize(("time_s", "words"), [(3, "3 s"), (150, "2 min"), (9000, "2.5 h")])
def test_spans_of_time(time_s, words):
    assert progress._in_words(time_s) == words


def test_a_compilation_that_takes_time_is_announced(capsys, no_tqdm, monkeypatch):
    slow_compile(monkeypatch, 0.3)
    fit(decay, T, Y, P0, progress=True)
    said = capsys.readouterr().err
    assert said.count("compiling the model") == 1
    rate = float(re.search(r"([\d,]+) a second", said)[1].replace(",", ""))
    assert rate > B / 0.3 / 0.9  # without the time that it took
    assert said.endswith(f"{B} of {B} fits (100%), {rate:,.0f} a second\n")


def test_one_that_does_not_is_not(capsys, no_tqdm, monkeypatch):
    fit(decay, T, Y, P0)
    fit(decay, T, Y, P0, progress=True)
    assert "compiling" not in capsys.readouterr().err


def test_nothing_is_said_unasked(capsys, monkeypatch):
    slow_compile(monkeypatch, 0.3)
    fit(decay, T, Y, P0)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_bars_announce_it_too(capsys, monkeypatch):
    slow_compile(monkeypatch, 0.3)
    fit(decay, T, Y, P0, progress=True)
    said = capsys.readouterr().err
    assert "compiling the model" in said
    assert "compiling" not in said.split("\r")[-1]
    assert f"{B}.0/{B}.0" in said.split("\r")[-1]


def test_portions_announce_it_and_count_on(capsys, no_tqdm, monkeypatch, tmp_path):
    monkeypatch.setattr("jaxlsq.batch.portions.MOST_FITS", 5)
    slow_compile(monkeypatch, 0.3)
    fit(decay, T, Y, P0, progress=True, out=tmp_path / "out")
    said = capsys.readouterr().err
    assert "compiling the model" in said
    counts = [int(n) for n in re.findall(r"\r(\d+) of 12 fits", said)]
    assert counts == sorted(counts)
    assert counts[-1] == B


def test_a_function_is_told_numbers():
    told = []
    fit(decay, T, np.tile(Y, (2, 1)), P0, progress=lambda *numbers: told.append(numbers))
    assert told[-1] == (2 * B, 2 * B)


def test_a_notebook_without_widgets_does_not_warn():
    code = """
        import sys, types, warnings
        shell = types.SimpleNamespace(config={"IPKernelApp": {}})
        sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
        sys.modules["ipywidgets"] = None
        from jaxlsq.batch.progress import reporter
        with reporter(True, 10) as report:
            report(10)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "10.0/10.0" in run.stderr
    assert "IProgress" not in run.stderr
    assert tqdm.auto.tqdm is not None
