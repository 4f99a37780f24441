"""The house: one-way imports, public names, the README's claims, lazy optional packages."""

import ast
import inspect
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import jaxlsq
import jaxlsq.models

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxlsq"

# The rooms, each of which may import those above it.
ROOMS = (
    "status",
    "numerics",
    "tracing",
    "problem",
    ("schedule", "results"),
    "lowering",
    ("single", "transforms", "batch"),
    "api",
    "xarray",
    ("datasets", "models"),
    "__init__",
    "cli",
    "demo",
    "__main__",
)
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


def rank_of(part):
    return next(i for i, rooms in enumerate(ROOMS) if part == rooms or part in rooms)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_up_the_list(path):
    own = part_of(path)
    others = set(imports_of(path)) - {own}
    assert all(rank_of(other) < rank_of(own) for other in others), others


def test_numerics_stand_alone():
    imports = {part for path in (PACKAGE / "numerics").glob("*.py") for part in imports_of(path)}
    assert imports <= {"status", "numerics"}
    imports = {part for path in (PACKAGE / "models").glob("*.py") for part in imports_of(path)}
    assert imports <= {"models", "numerics", "tracing"}
    imports = {part for path in (PACKAGE / "tracing").glob("*.py") for part in imports_of(path)}
    assert imports == {"tracing", "numerics"}


@pytest.mark.parametrize("room", [*sorted({part_of(f) for f in FILES if f.parent != PACKAGE})])
def test_imports_in_a_room_have_no_cycle(room):
    graph = {}
    for path in (PACKAGE / room).rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        nodes = ast.walk(ast.parse(path.read_text()))
        graph[name] = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    list(TopologicalSorter(graph).static_order())  # raises on a cycle


def test_tests_are_in_folders_of_the_same_names():
    tests = Path(__file__).parent
    rooms = {part_of(f) for f in FILES if f.parent != PACKAGE}
    folders = {f.parent.name for f in tests.rglob("test_*.py") if f.parent != tests}
    assert folders == rooms | {"docs", "ecosystem", "faults", "fuzz"}


# Every public name, and the arguments of those that are functions, in their order.
COMMON = "ftol xtol gtol x_scale max_nfev starts polish progress workers devices"
PUBLIC = {
    "Distribution": None,
    "FitResult": None,
    "Interrupted": None,
    "LeastSquaresResult": None,
    "OptimizeWarning": None,
    "Status": None,
    "StoredResult": None,
    "clear_cache": "",
    "compare": "results names",
    "curve_fit": "f xdata ydata p0 sigma absolute_sigma check_finite bounds method jac full_output "
    "nan_policy kwargs",
    "fit": "model xdata ydata p0 sigma absolute_sigma mask axis nan_policy bounds fixed expand "
    f"linear shared loss f_scale jac xsigma x_errors {COMMON} out",
    "least_squares": "fun x0 jac bounds ftol xtol gtol x_scale loss f_scale max_nfev args kwargs "
    "hessian on_singular return_history",
    "least_squares_batch": f"fun x0 data bounds fixed loss f_scale jac {COMMON}",
    "leastsq": "func x0 args Dfun full_output col_deriv ftol xtol gtol maxfev epsfcn factor diag "
    "warning unknown",
    "precompile": "model xdata ydata p0 options",
    "using": "engine",
}


def test_public_names_and_their_arguments():
    assert set(jaxlsq.__all__) == set(PUBLIC)
    for name, arguments in PUBLIC.items():
        if arguments is not None:
            assert " ".join(inspect.signature(getattr(jaxlsq, name)).parameters) == arguments


def test_names_are_read_from_the_files_that_a_type_checker_reads():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    [checked] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in checked.body for alias in node.names}
    assert seen == {"models": "jaxlsq", **jaxlsq._FILES}
    assert {*PUBLIC, "models"} <= set(dir(jaxlsq))
    with pytest.raises(AttributeError, match="'jaxlsq' has no attribute 'curvefit'"):
        _ = jaxlsq.curvefit


def test_the_table_of_models_lists_what_all_lists():
    page = (ROOT / "docs" / "models" / "index.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| (`\w.*) \|$", page, re.M)
    names = {name for row in rows for name in re.findall(r"`(\w+)(?:\([^`]*\))?`", row)}
    assert names == set(jaxlsq.models.__all__)


def test_every_claim_in_the_readmes_table_has_its_test():
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| \[[^|]+\]\((tests/[^)]+)\)[^|]* \|", text, re.M)
    assert len(rows) == 16
    for path in rows:
        assert "def test_" in (ROOT / path).read_text(), path


def output_of(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_import_reads_nothing_but_the_watch_for_forks():
    code = "import sys, jaxlsq; print(*sorted(m for m in sys.modules if m.startswith('jaxlsq')))"
    assert output_of(code).split() == ["jaxlsq", "jaxlsq.tracing", "jaxlsq.tracing.forked"]


def test_import_loads_no_optional_package_and_starts_no_backend():
    def seen_by(imports):
        return output_of(
            f"import sys; {imports}\nfrom jax._src.xla_bridge import backends_are_initialized\n"
            "print({'scipy', 'matplotlib', 'tqdm'} & set(sys.modules), backends_are_initialized())"
        )

    everything = "from jaxlsq import *; import jaxlsq.models, jaxlsq.cli.__main__"
    assert seen_by(everything) == seen_by("import jax")
