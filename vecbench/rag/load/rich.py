"""HTML, PDF and DOCX: the text that a reader sees, with headings and pages by their offsets in it."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecbench.errors import DocumentError, MissingDependency
from vecbench.rag.types import Document, Heading
from vecbench.types import MetadataValue

__all__ = ["DocxLoader", "HtmlLoader", "PdfLoader"]

_UNSEEN = {"script", "style", "template", "noscript", "nav", "head", "svg", "iframe", "object", "button", "form"}
_BLOCKS = {
    "p", "div", "section", "article", "main", "header", "footer", "aside", "ul", "ol", "li", "dl", "dt", "dd", "table",
    "tr", "blockquote", "pre", "figure", "figcaption", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "br", "body",
}  # fmt: skip
_CHARSET = re.compile(rb"""<meta[^>]+charset=["']?\s*([\w-]+)""", re.IGNORECASE)
_MOST_UNPACKED = 400_000_000  # bytes of a DOCX, unpacked: a real one of that size is hundreds of pages of text alone


class _Writer:
    """Collects blocks of text; knows the offset at which each stands."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.size = 0
        self.headings: list[Heading] = []

    def block(self, text: str, level: int | None = None) -> None:
        """A block, set off by an empty line; with a level it is a heading."""
        if not text.strip():
            return
        if self.parts:
            self._put("\n\n")
        if level is not None:
            self.headings.append(Heading(self.size, level, " ".join(text.split())))
        self._put(text)

    def _put(self, text: str) -> None:
        self.parts.append(text)
        self.size += len(text)

    def text(self) -> str:
        """All of it."""
        return "".join(self.parts)


@dataclass(frozen=True)
class HtmlLoader:
    """The visible text of a page: no scripts, styles, navigation or forms; an empty line between blocks."""

    suffixes: tuple[str, ...] = (".html", ".htm", ".xhtml")

    def load(self, path: Path, source: str) -> Iterator[Document]:
        """One document."""
        try:
            from bs4 import BeautifulSoup
            from bs4.element import NavigableString, PreformattedString, Tag
        except ImportError as error:
            raise MissingDependency("Reading HTML", module="bs4", extra="rag") from error
        from vecbench.rag.load.encodings import as_text
        from vecbench.rag.load.formats import read_whole

        data = read_whole(path)
        declared = _CHARSET.search(data[:4096])
        text = as_text(data, declared[1].decode("ascii") if declared else None)
        try:
            soup = BeautifulSoup(text, "lxml")
        except RecursionError as e:
            raise DocumentError("its elements are nested too deeply") from e
        writer = _Writer()
        line: list[str] = []
        level: int | None = None

        def end_block() -> None:
            nonlocal line
            writer.block(" ".join("".join(line).split()), level)
            line = []

        # Walked with a stack of its own: a page can be nested deeper than Python's calls may be.
        stack: list[Any] = [soup]
        while stack:
            node = stack.pop()
            if node is None:  # the end of a block
                end_block()
                level = None
            elif isinstance(node, str) and not isinstance(node, Tag):
                if not isinstance(node, PreformattedString) and isinstance(node, NavigableString):
                    line.append(str(node))
            elif node.name == "pre":
                end_block()
                writer.block(node.get_text().strip("\n"))
            elif node.name not in _UNSEEN:
                block = node.name in _BLOCKS
                if block:
                    end_block()
                    level = int(node.name[1]) if re.fullmatch("h[1-6]", node.name) else level
                    stack.append(None)
                stack.extend(reversed(list(node.children)))
        end_block()
        metadata: dict[str, MetadataValue] = {"format": "html"}
        if soup.title is not None and (title := " ".join(soup.title.get_text().split())):
            metadata["title"] = title
        language = soup.html.get("lang") if soup.html is not None else None
        if isinstance(language, str) and language.strip():
            metadata["language"] = language.strip()
        yield Document(writer.text(), source, metadata, writer.headings)


@dataclass(frozen=True)
class PdfLoader:
    """The text of a PDF, page by page, an empty line between pages. A scan holds no text, and is an error."""

    suffixes: tuple[str, ...] = (".pdf",)

    def load(self, path: Path, source: str) -> Iterator[Document]:
        """One document."""
        try:
            from pypdf import PdfReader
        except ImportError as error:
            raise MissingDependency("Reading PDF", module="pypdf", extra="rag") from error
        from vecbench.rag.load.formats import read_whole

        logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of every harmless flaw of a file
        read_whole(path)  # for its size alone
        try:
            reader = PdfReader(path)
            if reader.is_encrypted and not reader.decrypt(""):
                raise DocumentError("it is encrypted, and needs a password")
            parts: list[str] = []
            pages: list[int] = []
            size = empty = 0
            for page in reader.pages:
                text = _printable(page.extract_text())
                empty += not text.strip()
                pages.append(size)
                parts.append(text)
                size += len(text) + 2
            information = reader.metadata or {}
            facts = {"title": information.get("/Title"), "author": information.get("/Author")}
        except DocumentError:
            raise
        except Exception as e:  # a damaged file fails in the library in more ways than it names
            raise DocumentError(f"it is not a readable PDF ({type(e).__name__}: {str(e)[:200]})") from e
        if pages and empty == len(pages):
            raise DocumentError(f"none of its {len(pages)} pages holds text; it may be a scan: run OCR first")
        metadata: dict[str, MetadataValue] = {"format": "pdf"}
        metadata |= {name: _printable(str(fact)) for name, fact in facts.items() if fact and str(fact).strip()}
        if empty:
            metadata["pages_without_text"] = empty
        yield Document("\n\n".join(parts), source, metadata, (), pages)


@dataclass(frozen=True)
class DocxLoader:
    """Paragraphs and tables of a DOCX in their order, an empty line between them; heading styles give the headings."""

    suffixes: tuple[str, ...] = (".docx",)

    def load(self, path: Path, source: str) -> Iterator[Document]:
        """One document."""
        try:
            import docx
            from docx.table import Table
        except ImportError as error:
            raise MissingDependency("Reading DOCX", module="docx", extra="rag") from error
        from vecbench.rag.load.formats import read_whole

        read_whole(path)
        try:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(part.file_size for part in archive.infolist())
            if unpacked > _MOST_UNPACKED:
                raise DocumentError(f"it unpacks to {unpacked:,} bytes; no document is that large")
            document = docx.Document(str(path))
            writer = _Writer()
            for item in document.iter_inner_content():
                if isinstance(item, Table):
                    rows = [" | ".join(cell.text.strip() for cell in row.cells) for row in item.rows]
                    writer.block(_printable("\n".join(rows)))
                else:
                    writer.block(_printable(item.text), _style_level(item))
            facts = {"title": document.core_properties.title, "author": document.core_properties.author}
        except DocumentError:
            raise
        except Exception as e:  # a damaged file fails in zipfile, lxml and python-docx, each in its own ways
            raise DocumentError(f"it is not a readable DOCX ({type(e).__name__}: {str(e)[:200]})") from e
        metadata: dict[str, MetadataValue] = {"format": "docx"}
        metadata |= {name: _printable(fact) for name, fact in facts.items() if fact and fact.strip()}
        yield Document(writer.text(), source, metadata, writer.headings)


def _style_level(paragraph: Any) -> int | None:
    name = (paragraph.style.name if paragraph.style is not None else "") or ""
    if name == "Title":
        return 1
    found = re.fullmatch(r"[Hh]eading (\d)", name)
    return int(found[1]) if found else None


def _printable(text: str) -> str:
    """Without NUL, and without lone surrogates, which damaged fonts give."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
