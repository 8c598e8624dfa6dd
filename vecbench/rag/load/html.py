"""HTML: the text that a reader sees, with headings by their offsets in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecbench.errors import DocumentError, MissingDependency
from vecbench.rag.load.encodings import as_text
from vecbench.rag.load.formats import read_whole
from vecbench.rag.load.writer import Writer
from vecbench.rag.types import Document
from vecbench.types import MetadataValue

__all__ = ["HtmlLoader"]

_UNSEEN = {
    "script", "style", "template", "noscript", "nav", "head", "svg", "iframe", "object", "button", "select", "textarea",
}  # fmt: skip
_BLOCKS = {
    "p", "div", "section", "article", "main", "header", "footer", "aside", "ul", "ol", "li", "dl", "dt", "dd", "table",
    "tr", "caption", "blockquote", "pre", "figure", "figcaption", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "body",
    "form", "fieldset", "legend", "address", "details", "summary", "hgroup", "search", "dialog", "center",
}  # fmt: skip
_BREAK, _CELL = "\x1e", "\x1f"  # while text is collected: a line has ended, a cell has; whitespace to `strip` as well
_HIDDEN = re.compile(r"(?:^|[;\s])display\s*:\s*none", re.IGNORECASE)
_CHARSET = re.compile(rb"""<meta[^>]+charset=["']?\s*([\w-]+)""", re.IGNORECASE)


@dataclass(frozen=True)
class HtmlLoader:
    """The visible text of a page: no scripts, styles, navigation or what is hidden; an empty line between blocks.

    The cells of a table's row are parted by ` | `.
    """

    suffixes: tuple[str, ...] = (".html", ".htm", ".xhtml")

    def load(self, path: Path, source: str) -> Iterator[Document]:
        """One document."""
        try:
            from bs4 import BeautifulSoup
        except ImportError as error:
            raise MissingDependency("Reading HTML", module="bs4", extra="rag") from error
        data = read_whole(path)
        declared = _CHARSET.search(data[:4096])
        text = as_text(data, declared[1].decode("ascii") if declared else None)
        try:
            soup = BeautifulSoup(text, "lxml")
        except RecursionError as e:
            raise DocumentError("its elements are nested too deeply") from e
        page = _Page()
        page.read(soup)
        metadata: dict[str, MetadataValue] = {"format": "html"}
        if soup.title is not None and (title := " ".join(soup.title.get_text().split())):
            metadata["title"] = title
        language = soup.html.get("lang") if soup.html is not None else None
        if isinstance(language, str) and language.strip():
            metadata["language"] = language.strip()
        yield Document(page.writer.text(), source, metadata, tuple(page.writer.headings))


class _Page:
    """Collects the blocks of a page."""

    def __init__(self) -> None:
        self.writer = Writer()
        self.line: list[str] = []
        self.level: int | None = None

    def read(self, soup: Any) -> None:
        """Every element, by a stack of its own: a page can be nested deeper than Python's calls may be."""
        from bs4.element import NavigableString, PreformattedString

        stack: list[Any] = [soup]
        while stack:
            node = stack.pop()
            if node is None:
                self.end_block()
                self.level = None
            elif isinstance(node, NavigableString):
                if not isinstance(node, PreformattedString):  # comments and the like
                    self.line.append(str(node))
            elif isinstance(node, str):  # the end of a cell
                self.line.append(node)
            elif node.name == "pre":
                self.end_block()
                self.writer.block(node.get_text().strip("\n"))
            elif node.name == "br":
                self.line.append(_BREAK)
            elif node.name not in _UNSEEN and not _is_hidden(node):
                self.enter(node, stack)
        self.end_block()

    def enter(self, node: Any, stack: list[Any]) -> None:
        """Put the children of an element on the stack, above what is to be done at its end."""
        if node.name in _BLOCKS:
            self.end_block()
            if re.fullmatch("h[1-6]", node.name):
                self.level = int(node.name[1])
            stack.append(None)
        elif node.name in {"td", "th"}:
            stack.append(_CELL)
        stack.extend(reversed(list(node.children)))

    def end_block(self) -> None:
        """Write what was collected, if it is anything."""
        lines = (one.strip().split(_CELL) for one in "".join(self.line).split(_BREAK))
        text = "\n".join(" | ".join(" ".join(cell.split()) for cell in cells) for cells in lines)
        self.writer.block(text.strip(), self.level)
        self.line = []


def _is_hidden(tag: Any) -> bool:
    return bool(tag.has_attr("hidden") or _HIDDEN.search(str(tag.get("style") or "")))
