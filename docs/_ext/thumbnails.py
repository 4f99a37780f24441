"""The directive ``thumbnails``: a card for each page, with the last figure that is on it."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger


class Thumbnails(nodes.General, nodes.Element):
    """Stands for the cards until all pages are read."""


class ThumbnailsDirective(SphinxDirective):
    """Names of pages beside this one, a line each."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """A node that is replaced when this page is written."""
        folder = self.env.docname.rpartition("/")[0]
        pages = [f"{folder}/{line.strip()}" for line in self.content if line.strip()]
        for page in pages:
            self.env.note_dependency(self.env.doc2path(page))
        return [Thumbnails(pages=pages)]


def _place(app, doctree, docname):
    for place in list(doctree.findall(Thumbnails)):
        cards = nodes.container(classes=["cards"])
        for page in place["pages"]:
            cards += _card(app, docname, page)
        place.replace_self(cards)


def _card(app, docname, page):
    """A link with the title of a page and its figure."""
    title = app.env.titles[page].astext()
    link = nodes.reference("", "", refuri=app.builder.get_relative_uri(docname, page))
    images = [node.deepcopy() for node in app.env.get_doctree(page).findall(nodes.image)]
    if not images:
        getLogger(__name__).warning("no figure on the page %s", page)
    for image in images[-1:]:
        image["alt"] = title
        link += image
    link += nodes.inline(title, title)
    return nodes.container("", nodes.paragraph("", "", link), classes=["card-of-page"])


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_node(Thumbnails)
    app.add_directive("thumbnails", ThumbnailsDirective)
    app.connect("doctree-resolved", _place)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
