"""Sphinx's settings.

From the repository's root, with the extra ``docs``: ``python -m sphinx -W docs docs/_build/html``.
From nothing that takes some five minutes of one core, to execute all pages. A page is executed
again when its own code changes; delete ``docs/_build`` when the package has changed, or
``models/drawing.py``.
"""

import os
import sys
import zlib
from dataclasses import is_dataclass
from pathlib import Path

import jaxlsq

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
# Figures of all pages look alike; the kernels that execute them inherit this.
os.environ["MATPLOTLIBRC"] = str(HERE / "matplotlibrc")

project = "jaxlsq"
author = "The authors of jaxlsq"
release = version = jaxlsq.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "thumbnails",
]
exclude_patterns = ["_build"]
default_role = "py:obj"  # a link where there is something of that name, else only code

# --- pages that run -------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "warn"  # which -W makes an error: pages run without a warning
nb_render_markdown_format = "myst"
nb_merge_streams = True

# --- the reference, from docstrings -----------------------------------------------------

autodoc_typehints = "none"  # numpydoc's sections say it in words
autodoc_member_order = "bysource"
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False


def _nothing_known():
    """An inventory without entries: links to projects that can't be reached stay plain code."""
    path = HERE / "_build" / "nothing.inv"
    path.parent.mkdir(exist_ok=True)
    head = "# Sphinx inventory version 2\n# Project: none\n# Version: 0\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    path.write_bytes(head.encode() + zlib.compress(b""))
    return str(path)


_NOTHING = _nothing_known()
intersphinx_mapping = {
    name: (address, (None, _NOTHING))
    for name, address in {
        "python": "https://docs.python.org/3/",
        "jax": "https://docs.jax.dev/en/latest/",
        "numpy": "https://numpy.org/doc/stable/",
        "scipy": "https://docs.scipy.org/doc/scipy/",
        "xarray": "https://docs.xarray.dev/en/stable/",
    }.items()
}
intersphinx_timeout = 5

# --- looks ------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "jaxlsq"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
# Pages that have none beside them need no list of those.
_ALONE = ("start", "when_a_fit_fails", "uncertainties", "speed", "how_it_works", "changelog")
html_sidebars = {page: [] for page in _ALONE}
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 5,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_show_sourcelink = False


def _changes(app, docname, source):
    """The page of changes is the repository's, where there is one."""
    path = HERE.parent / "CHANGELOG.md"
    if docname == "changelog" and path.exists():
        app.env.note_dependency(str(path))
        source[0] = path.read_text()


def _signature(app, what, name, obj, options, signature, returns):
    """None for classes of results: the library makes those, and attributes say what is in them."""
    made = what == "class" and obj.__module__.startswith(("jaxlsq.results", "jaxlsq.datasets"))
    return ("", returns) if made and is_dataclass(obj) else (signature, returns)


def setup(app):
    """What Sphinx calls."""
    app.connect("source-read", _changes)
    app.connect("autodoc-process-signature", _signature)
