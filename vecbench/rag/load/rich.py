"""PDF and DOCX: the text that a reader sees, with headings and pages by their offsets in it."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecbench.errors import DocumentError, MissingDependency
from vecbench.rag.load.encodings import printable
from vecbench.rag.load.formats import check_size
from vecbench.rag.load.writer import Writer
from vecbench.rag.types import Document
from vecbench.types import MetadataValue

__all__ = ["DocxLoader", "PdfLoader"]

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_LEFT_OUT = {_W + "del", _W + "moveFrom", _W + "txbxContent", _MC + "Fallback"}
_MARKS = {_W + "tab": "\t", _W + "br": "\n", _W + "cr": "\n", _W + "noBreakHyphen": "-"}
_MOST_UNPACKED = 400_000_000  # bytes of a DOCX, unpacked: a real one of that size is hundreds of pages of text alone


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
        logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of every harmless flaw of a file
        check_size(path)
        try:
            reader = PdfReader(path)
            if reader.is_encrypted and not reader.decrypt(""):
                raise DocumentError("it is encrypted, and needs a password")
            parts: list[str] = []
            pages: list[int] = []
            size = empty = 0
            for page in reader.pages:
                text = printable(page.extract_text())
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
        metadata |= {name: printable(str(fact)) for name, fact in facts.items() if fact and str(fact).strip()}
        if empty:
            metadata["pages_without_text"] = empty
        yield Document("\n\n".join(parts), source, metadata, (), tuple(pages))


@dataclass(frozen=True)
class DocxLoader:
    """Paragraphs and tables of a DOCX in their order, an empty line between them; heading styles give the headings."""

    suffixes: tuple[str, ...] = (".docx",)

    def load(self, path: Path, source: str) -> Iterator[Document]:
        """One document."""
        try:
            import docx
            from docx.text.paragraph import Paragraph
        except ImportError as error:
            raise MissingDependency("Reading DOCX", module="docx", extra="rag") from error
        check_size(path)
        try:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(part.file_size for part in archive.infolist())
            if unpacked > _MOST_UNPACKED:
                raise DocumentError(f"it unpacks to {unpacked:,} bytes; no document is that large")
            document = docx.Document(str(path))
            writer = Writer()
            for element in _blocks(document.element.body):
                if element.tag == _W + "tbl":
                    writer.block("\n".join(_rows(element)))
                else:
                    writer.block(_words(element), _level(Paragraph(element, document)))
            facts = {"title": document.core_properties.title, "author": document.core_properties.author}
        except DocumentError:
            raise
        except Exception as e:  # a damaged file fails in zipfile, lxml and python-docx, each in its own ways
            raise DocumentError(f"it is not a readable DOCX ({type(e).__name__}: {str(e)[:200]})") from e
        metadata: dict[str, MetadataValue] = {"format": "docx"}
        metadata |= {name: printable(fact) for name, fact in facts.items() if fact and fact.strip()}
        yield Document(writer.text(), source, metadata, tuple(writer.headings))


def _blocks(parent: Any) -> Iterator[Any]:
    """Paragraphs and tables in their order; those in content controls too, which python-docx passes over."""
    stack = [iter(parent)]
    while stack:
        element = next(stack[-1], None)
        if element is None:
            stack.pop()
        elif element.tag in {_W + "p", _W + "tbl"}:
            yield element
        elif element.tag in {_W + "sdt", _W + "sdtContent", _W + "customXml", _W + "ins", _W + "moveTo"}:
            stack.append(iter(element))


def _words(paragraph: Any) -> str:
    """The text of a paragraph as it reads with all changes accepted: what was inserted, without what was deleted."""
    parts: list[str] = []
    stack = [iter(paragraph)]
    while stack:
        element = next(stack[-1], None)
        if element is None:
            stack.pop()
        elif element.tag == _W + "t":
            parts.append(element.text or "")
        elif element.tag in _MARKS:
            parts.append(_MARKS[element.tag])
        elif element.tag not in _LEFT_OUT and element.tag != _W + "pPr":
            stack.append(iter(element))
    return printable("".join(parts))


def _rows(table: Any) -> Iterator[str]:
    """The rows of a table, ` | ` between cells; a merged cell once, a table inside a cell in its place."""
    for row in table.iter(_W + "tr"):
        if next(row.iterancestors(_W + "tbl")) is table:
            cells = (cell for cell in row.iter(_W + "tc") if next(cell.iterancestors(_W + "tr")) is row)
            yield " | ".join(" ".join(" ".join(map(_words, cell.iter(_W + "p"))).split()) for cell in cells)


def _level(paragraph: Any) -> int | None:
    """The level of a heading: by the outline that the paragraph or its style gives, or by the style's name."""
    style = paragraph.style
    name = (style.name if style is not None else "") or ""
    if name == "Title":
        return 1
    properties = [paragraph._p.pPr]
    seen: set[str] = set()
    while style is not None and style.style_id not in seen:  # a style can be based on itself, by way of others
        seen.add(style.style_id)
        properties.append(style.element.pPr)
        style = style.base_style
    for given in properties:
        level = None if given is None else given.find(_W + "outlineLvl")
        if level is not None:
            number = int(level.get(_W + "val", "9"))
            return number + 1 if number < 9 else None  # 9 is the level of a text
    found = re.fullmatch(r"[Hh]eading ([1-9])", name)
    return int(found[1]) if found else None
