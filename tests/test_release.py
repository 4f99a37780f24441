"""What a release is made of agrees: versions, changelog, names of JAX, lists of tests."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jaxlsq

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version():
    assert PROJECT["version"] == jaxlsq.__version__
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert versions[0] == jaxlsq.__version__
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert numbers == sorted(numbers, reverse=True)


def test_jax_has_every_name_that_is_used():
    run = subprocess.run([sys.executable, ROOT / ".ci/names"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    assert int(re.search(r"(\d+) names, 0 missing", run.stdout)[1]) > 100


def test_a_name_that_jax_lacks_is_found(tmp_path):
    (tmp_path / ".ci").mkdir()
    (tmp_path / "jaxlsq").mkdir()
    script = tmp_path / ".ci" / "names"
    script.write_text((ROOT / ".ci/names").read_text())
    text = "from jax import lax as l\nimport jax.numpy as jnp\njnp.sin\nl.no_such\njnp.linalg.nor\n"
    (tmp_path / "jaxlsq" / "one.py").write_text(text)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert run.returncode == 1
    lines = run.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        "jax.lax.no_such",
        "jax.numpy.linalg.nor",
    ]
    assert lines[-1].endswith("6 names, 2 missing")


def test_the_oldest_versions_are_those_that_are_required():
    matrix = (ROOT / ".ci/matrix").read_text()
    oldest = re.search(r"oldest\) .*packages=\((.*)\)", matrix)[1]
    for name, version in re.findall(r"'(\w+)==([\d.]+?)(?:\.\*)?'", oldest):
        required = next(d for d in PROJECT["dependencies"] if d.startswith(f"{name}>="))
        assert version.startswith(required.split(">=")[1])


def test_short_tests_are_there():
    lines = (ROOT / ".ci/smoke").read_text().splitlines()
    tests = [line for line in lines if not line.startswith("#")]
    assert len(tests) > 10
    assert all((ROOT / test).exists() for test in tests)


def test_documents_name_commands_that_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`(\.ci/\w+)", text))
    there = {f".ci/{path.stem}" for path in (ROOT / ".ci").iterdir()} - {".ci/smoke"}
    assert named == there
    for path in re.findall(r"`((?:jaxlsq|tests)/[\w/]+\.py)`", text):
        assert (ROOT / path).exists(), path
