"""One loader for each kind of file; your own is a class with the same two members."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from vecbench.errors import DocumentError, MissingDependency
from vecbench.rag.load.encodings import as_text
from vecbench.rag.load.reports import Unreadable
from vecbench.rag.types import Document, Heading
from vecbench.types import MetadataValue

__all__ = ["LOADERS", "Loader", "MarkdownLoader", "TextLoader", "check_size", "read_whole"]

MAX_BYTES = 64_000_000  # of a file that is read whole; CSV and JSONL are read line by line and may be of any size
_FRONT_MATTER = re.compile(r"---[ \t]*\n([\w-]+:[ \t\n].{0,20000}?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(
    r"""^title:[ \t]+(?:"([^"\\\n]+)"|'([^'\n]+)'|([^\s"'\[{&*!|>%@`#][^#\n]*?))[ \t]*$""", re.MULTILINE
)


class Loader(Protocol):
    """Reads the files of some suffixes."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """In lower case, each with its dot."""
        ...

    def load(self, path: Path, source: str) -> Iterator[Document | Unreadable]:
        """The documents of a file, and what of it cannot be read where the rest can.

        DocumentError, without the file's name, where nothing more of it can be read.
        """
        ...


def check_size(path: Path) -> None:
    """DocumentError for a file that is too large to be read whole."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DocumentError(f"it has {size:,} bytes; {MAX_BYTES:,} are read whole at most: divide it")


def read_whole(path: Path) -> bytes:
    """The bytes of a file that is not too large to be read whole."""
    check_size(path)
    return path.read_bytes()


@dataclass(frozen=True)
class TextLoader:
    """Plain text, as it stands but for line ends."""

    suffixes: tuple[str, ...] = (
        ".txt", ".text", ".rst", ".log", ".tex", ".py", ".js", ".ts", ".java", ".go", ".rs", ".c", ".h", ".cpp", ".hpp",
        ".cc", ".rb", ".sh", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".sql",
    )  # fmt: skip

    def load(self, path: Path, source: str) -> Iterator[Document]:
        """One document."""
        yield Document(as_text(read_whole(path)), source, {"format": "text"})


@dataclass(frozen=True)
class MarkdownLoader:
    """Markdown, as it stands: offsets count in the file's own text. Headings are CommonMark's, not those in code.

    Headings inside quotations and lists are not the document's. YAML at the beginning stays in the text and is read for
    its title only, where that is written plainly.
    """

    suffixes: tuple[str, ...] = (".md", ".markdown")

    def load(self, path: Path, source: str) -> Iterator[Document]:
        """One document."""
        try:
            from markdown_it import MarkdownIt
        except ImportError as error:
            raise MissingDependency("Reading Markdown", module="markdown_it", extra="rag") from error
        text = as_text(read_whole(path))
        front = _FRONT_MATTER.match(text)
        body = front.end() if front else 0
        starts = [body]
        starts += [at.end() for at in re.compile("\n").finditer(text, body)]
        headings: list[Heading] = []
        for token, inline in pairwise(MarkdownIt("commonmark").parse(text[body:])):
            if token.type == "heading_open" and token.map is not None and token.level == 0:
                words = (" " if c.type in {"softbreak", "hardbreak"} else c.content for c in inline.children or ())
                if title := " ".join("".join(words).split()):
                    headings.append(Heading(starts[token.map[0]], int(token.tag[1]), title))
        metadata: dict[str, MetadataValue] = {"format": "markdown"}
        if front and (named := _TITLE.search(front[1])):
            metadata["title"] = next(filter(None, named.groups()))
        elif headings:
            metadata["title"] = headings[0].title
        yield Document(text, source, metadata, tuple(headings))


def _standard() -> tuple[Loader, ...]:
    from vecbench.rag.load.html import HtmlLoader
    from vecbench.rag.load.rich import DocxLoader, PdfLoader
    from vecbench.rag.load.rows import CsvLoader, JsonLinesLoader

    return (TextLoader(), MarkdownLoader(), CsvLoader(), JsonLinesLoader(), HtmlLoader(), PdfLoader(), DocxLoader())


LOADERS: tuple[Loader, ...] = _standard()
