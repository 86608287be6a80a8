"""What the pages have besides Markdown: pictures, tables, and the pages of `spec/`.

    ```{picture} crashes        a picture of `docs.pictures`, with its caption
    ```{measured} sizes         a table of `docs.tables`
    ```{vectors} R5             the golden histories of a rule, drawn; the first one is open
    ```{broken}                 every broken protocol with its shortest history

A page that belongs to another place of the tree, such as `spec/RULES.md`, stays there. The site has
a file of one line in its stead, and its text is put in when the file is read.
"""

from __future__ import annotations

import os
import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from docs import pictures, tables
from docs.pictures import histories
from oracle.check.broken import BROKEN

DOCS = Path(__file__).parent
ROOT = DOCS.parent

BORROWED = {
    "spec/rules": "spec/RULES.md",
    "spec/protocol": "spec/PROTOCOL.md",
    "spec/design": "spec/DESIGN.md",
    "spec/verification": "spec/VERIFICATION.md",
    "spec/ports": "spec/PORTS.md",
    "spec/upstream": "spec/UPSTREAM.md",
    "benchmarks": "benchmarks/RESULTS.md",
    "changelog": "CHANGELOG.md",
    "security": "SECURITY.md",
}
"""Pages of the site, and the files of the tree that have their text."""

_PAGE_OF = {ROOT / file: DOCS / f"{page}.md" for page, file in BORROWED.items()}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def borrow(app: Sphinx, page: str, text: list[str]) -> None:
    """Put in the text of a page that lives elsewhere in the tree."""
    if page in BORROWED:
        file = ROOT / BORROWED[page]
        app.env.note_dependency(str(file))
        text[0] = with_links_of_the_site(file.read_text("utf-8"), file.parent, DOCS / page)


def with_links_of_the_site(text: str, folder: Path, page: Path) -> str:
    """A page of the tree with its links as they have to be on the site.

    Links to what is not on the site become plain words: the file's name in the tree, as code.
    """

    def link(found: re.Match[str]) -> str:
        image, words, target, anchor = found[1], found[2], found[3], found[4] or ""
        if not target or target.startswith(("http:", "https:")):
            return found[0]
        file = Path(os.path.normpath(folder / target))
        if not file.exists():
            raise ExtensionError(f"{page.name}: there is no {target} beside the page in the tree")
        if file in _PAGE_OF:
            return f"[{words}]({os.path.relpath(_PAGE_OF[file], page.parent)}{anchor})"
        if image:
            return f"![{words}]({os.path.relpath(file, page.parent)})"
        name = f"`{file.relative_to(ROOT)}`"
        return name if words.strip("`") in name else f"{words} ({name})"

    # Drawing a Mermaid diagram takes a script from the network: the site shows its text.
    return _LINK.sub(link, text).replace("```mermaid", "```text")


class PictureDirective(SphinxDirective):
    """A picture, drawn when the page is built."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {"class": directives.class_option}  # noqa: RUF012 - docutils declares it so

    def run(self) -> list[nodes.Node]:
        try:
            svg = pictures.draw(self.arguments[0])
        except LookupError as error:
            raise self.error(f"no picture: {error}") from error
        for file in pictures.SOURCES:
            self.env.note_dependency(str(file))
        figure = nodes.figure(classes=["picture", *self.options.get("class", [])])
        figure += nodes.raw("", f'<div class="drawn">{svg}</div>', format="html")
        caption = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, caption)
        if caption.children:
            first = caption.children[0]
            figure += nodes.caption("", "", *first.children)
            if caption.children[1:]:
                figure += nodes.legend("", *caption.children[1:])
        return [figure]


class VectorsDirective(SphinxDirective):
    """The golden histories of a rule as space-time diagrams."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        try:
            found = histories.vectors_of(self.arguments[0])
        except LookupError as error:
            raise self.error(str(error)) from error
        for file in pictures.SOURCES:
            self.env.note_dependency(str(file))
        shown = [_folded(one.comment, histories.vector(one), place == 0)
                 for place, one in enumerate(found)]  # fmt: skip
        return [nodes.raw("", "".join(shown), format="html")]


class BrokenDirective(SphinxDirective):
    """Every broken protocol, with the shortest history that breaks it."""

    def run(self) -> list[nodes.Node]:
        shown = [_folded(name, histories.broken(name), False) for name in BROKEN]
        return [nodes.raw("", "".join(shown), format="html")]


def _folded(title: str, svg: str, is_open: bool) -> str:
    """A drawing that can be folded."""
    opened = " open" if is_open else ""
    return (
        f'<details class="history"{opened}><summary>{escape(title)}</summary>'
        f'<figure class="picture"><div class="drawn">{svg}</div></figure></details>'
    )


class MeasuredDirective(SphinxDirective):
    """A table of measured numbers."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        try:
            lines = list(tables.table(self.arguments[0]))
        except LookupError as error:
            raise self.error(f"no table: {error}") from error
        around = nodes.Element()
        self.state.nested_parse(StringList(lines, self.arguments[0]), 0, around)
        return around.children


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("picture", PictureDirective)
    app.add_directive("measured", MeasuredDirective)
    app.add_directive("vectors", VectorsDirective)
    app.add_directive("broken", BrokenDirective)
    app.connect("source-read", borrow)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
