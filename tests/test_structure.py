"""The house: one-way imports, the README's reference, lazy optional packages."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxlsq
import jaxlsq.datasets

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxlsq"

# What each part of the package may import of ours.
ALLOWED = {
    "status": set(),
    "numerics": {"status", "numerics"},
    "problem": {"status"},
    "tracing": set(),
    "cache": set(),
    "compiler": set(),
    "host": {"compiler", "numerics", "status"},
    "solve": {"cache", "compiler", "host", "numerics", "problem", "tracing"},
    "results": {"status", "results"},
    "api": {"api", "solve", "numerics", "problem", "results", "status"},
    "datasets": {"datasets"},
    "__init__": {"api"},
    "__main__": {"api", "__init__", "datasets", "results", "status"},
}


def imports_of(path):
    """Parts of the package that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxlsq"):
            yield (*node.module.split("."), "__init__")[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                assert not alias.name.startswith("jaxlsq"), path


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_imports_go_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert set(imports_of(path)) <= ALLOWED[part]


def test_readme_lists_what_all_lists():
    reference = re.search(r"## Reference\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.S)[1]
    listed = dict(re.findall(r"`(jaxlsq[.\w]*)\.__all__`: ((?:`\w+`(?:,\s+)?)+)", reference))
    for module in (jaxlsq, jaxlsq.datasets):
        names = set(re.findall(r"`(\w+)`", listed[module.__name__]))
        assert names == set(module.__all__)
        for name in names:
            assert getattr(module, name).__doc__ or isinstance(getattr(module, name), tuple)


def test_readme_example_runs():
    readme = (ROOT / "README.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", readme, re.S))
    names = {}
    exec(code, names)
    assert abs(names["popt"][1] - 1.3) < 0.2


def test_import_loads_no_optional_package():
    def loaded_by(module):
        code = f"import sys, {module}; print({{'scipy', 'matplotlib', 'tqdm'}} & set(sys.modules))"
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert loaded_by("jaxlsq") == loaded_by("jax")


def test_main_prints_the_table(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "jaxlsq"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "51 of 54 fits agree with NIST" in run.stdout
    assert "fitting 54/54: Thurber, start 2" in run.stderr
    assert (tmp_path / "nist.png").stat().st_size > 50_000
