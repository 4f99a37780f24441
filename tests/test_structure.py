"""The house: one-way imports, the README's reference, lazy optional packages."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
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
    "schedule": {"numerics", "schedule", "status"},
    "params": set(),
    "containers": {"schedule"},
    "names": set(),
    "implicit": {"jaxprs", "numerics", "status", "tracing"},
    "history": {"compiler", "contexts", "numerics", "schedule", "status", "tracing"},
    "lanes": {"cache", "compiler", "numerics", "schedule", "status", "tracing"},
    "constraints": {"numerics"},
    "problem": {"containers", "status"},
    "forked": set(),
    "differences": {"numerics"},
    "callbacks": set(),
    "jaxprs": {"callbacks", "signature"},
    "indices": {"jaxprs"},
    "structure": {"jaxprs"},
    "signature": set(),
    "tracing": {"cache", "jaxprs", "structure"},
    "tried": {"cache", "indices", "numerics", "problem", "signature", "structure", "tracing"},
    "unseen": {"numerics"},
    "unstacked": {"indices", "jaxprs", "structure", "tracing"},
    "cache": {"structure"},
    "compiler": set(),
    "host": {"compiler", "numerics", "status"},
    "solve": {
        *("cache", "compiler", "differences", "forked", "host", "numerics", "problem"),
        *("signature", "status", "tracing", "tried", "unseen"),
    },
    "batch": {
        *("batch", "cache", "compiler", "constraints", "containers", "forked", "jaxprs", "names"),
        *("numerics", "params", "results"),
        *("schedule", "status", "tracing", "unstacked"),
    },
    "results": {"history", "numerics", "params", "results", "status"},
    "api": {
        *(
            "forked",
            "api",
            "batch",
            "constraints",
            "containers",
            "history",
            "implicit",
            "lanes",
            "names",
        ),
        *("numerics", "params"),
        *("problem", "results", "schedule", "solve", "status", "tracing", "unstacked"),
    },
    "datasets": {"datasets"},
    "__init__": {"api", "cache", "results", "status"},
    "bootstrap": {"api", "datasets"},
    "__main__": {"api", "__init__", "bootstrap", "datasets", "results", "status"},
}
# What imports nothing of ours, and any part may import.
ANYWHERE = {"concrete", "contexts"}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Parts of the package that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            if node.module.split(".")[0] == "jaxlsq":
                yield (*node.module.split("."), "__init__")[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                assert not alias.name.startswith("jaxlsq"), path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_are_allowed(path):
    assert set(imports_of(path)) <= ALLOWED.get(part_of(path), set()) | ANYWHERE


def test_imports_go_one_way():
    assert set(ALLOWED) | ANYWHERE == {part_of(path) for path in FILES}
    graph = {part: allowed - {part} for part, allowed in ALLOWED.items()}
    order = list(TopologicalSorter(graph).static_order())  # raises on a cycle
    assert order.index("numerics") < order.index("schedule") < order.index("api")
    fronts = {part for part, allowed in graph.items() if "api" in allowed}
    assert fronts == {"__init__", "__main__", "bootstrap"}


def test_readme_lists_what_all_lists():
    reference = re.search(r"## Reference\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.S)[1]
    listed = dict(re.findall(r"`(jaxlsq[.\w]*)\.__all__`: ((?:`\w+`(?:,\s+)?)+)", reference))
    for module in (jaxlsq, jaxlsq.datasets):
        names = set(re.findall(r"`(\w+)`", listed[module.__name__]))
        assert names == set(module.__all__)
        for name in names:
            assert getattr(module, name).__doc__ or isinstance(getattr(module, name), tuple)


def test_every_claim_in_the_readmes_table_has_its_test():
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| \[[^|]+\]\((tests/[^)]+)\)[^|]* \|", text, re.M)
    assert len(rows) == 16
    for path in rows:
        assert "def test_" in (ROOT / path).read_text(), path


def test_import_loads_no_optional_package():
    def loaded_by(module):
        code = f"import sys, {module}; print({{'scipy', 'matplotlib', 'tqdm'}} & set(sys.modules))"
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert loaded_by("jaxlsq") == loaded_by("jax")
