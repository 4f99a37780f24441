"""The documentation's pages: all code on them runs, and they leave out no public name."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import jaxlsq
from jaxlsq.status import Status

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
NOT_RUN = "Not run here: "
# What makes a page, and is no code.
STRUCTURE = {"{toctree}", "{eval-rst}", "{thumbnails}", "{include}"}
MODULES = ("jaxlsq", "jaxlsq.models", "jaxlsq.xarray", "jaxlsq.datasets")


def blocks_of(page):
    """Kind, language and lines of each fenced block."""
    fence = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1 *$", re.M | re.S)
    for found in fence.finditer(page.read_text()):
        kind, _, language = found[2].strip().partition(" ")
        yield kind, language, found[3]


def words_and_code(block):
    """Options of a directive, and what comes after them."""
    lines = block.split("\n")
    count = next((i for i, line in enumerate(lines) if not line.startswith(":")), len(lines))
    return lines[:count], "\n".join(lines[count:])


def headings(*pages):
    return {name for page in pages for name in re.findall(r"^#+ (\w+)$", page.read_text(), re.M)}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_every_block_is_run_or_says_why_it_is_not(page):
    runs = False
    for kind, language, block in blocks_of(page):
        options, code = words_and_code(block)
        if kind == "{code-cell}":
            runs = True
            ast.parse(code)
            assert all(len(line) <= 100 for line in code.splitlines()), code
            assert not any("raises-exception" in option for option in options), code
        elif kind == "{code-block}":
            caption = f':caption: "{NOT_RUN}'
            assert any(option.startswith(caption) for option in options), f"no reason: {block}"
            if language == "python":
                ast.parse(code)
        else:
            assert kind in STRUCTURE, f"neither run nor said why not: {kind} {block}"
    # Without this head Sphinx would show the cells, and not run them.
    assert runs == page.read_text().startswith("---\nfile_format: mystnb\n")


def test_links_of_the_readme_lead_somewhere():
    """To a file, and to a heading of it if they name one."""
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", (DOCS.parent / "README.md").read_text())
    assert len(links) > 25
    for link in links:
        path, _, anchor = link.partition("#")
        text = (DOCS.parent / path).read_text()
        titles = {line.lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)}
        assert not anchor or anchor in titles, link


def test_every_status_has_a_section():
    assert {status.name for status in Status} <= headings(DOCS / "when_a_fit_fails.md")


def test_every_model_has_a_section():
    ready = set(jaxlsq.models.__all__) - {"Model"}
    assert ready <= headings(*(DOCS / "models").glob("*.md"))


def test_the_gallery_shows_all_its_pages():
    text = (DOCS / "gallery" / "index.md").read_text()
    pages = {path.stem for path in (DOCS / "gallery").glob("*.md")} - {"index"}
    for kind in ("thumbnails", "toctree"):
        block = next(b for k, _, b in blocks_of(DOCS / "gallery" / "index.md") if kind in k)
        assert set(words_and_code(block)[1].split()) == pages, text


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_public_name(module):
    text = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    public = importlib.import_module(module)
    if not re.search(rf"^\.\. automodule:: {re.escape(module)}\n +:members:", text, re.M):
        named = set(re.findall(r"^\.\. auto(?:function|class):: (\w+)$", text, re.M))
        assert set(public.__all__) == named
    for name in public.__all__:
        value = getattr(public, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert_documented(name, value)


def assert_documented(name, value):
    assert inspect.getdoc(value), name
    if not inspect.isclass(value) or not value.__module__.startswith("jaxlsq"):
        return
    for owner in value.__mro__:
        if not owner.__module__.startswith("jaxlsq"):
            continue
        for member, what in vars(owner).items():
            described = isinstance(what, (property, classmethod, staticmethod))
            if not member.startswith("_") and (described or callable(what)):
                assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"
