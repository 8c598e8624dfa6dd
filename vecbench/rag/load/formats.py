"""One loader for each kind of file; your own is a class with the same two members."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from vecbench.errors import DocumentError, MissingDependency
from vecbench.rag.load.encodings import as_text, clean
from vecbench.rag.types import Document, Heading
from vecbench.types import MetadataValue

__all__ = ["LOADERS", "CsvLoader", "JsonLinesLoader", "Loader", "MarkdownLoader", "TextLoader"]

MAX_BYTES = 64_000_000  # of a file that is read whole; CSV and JSONL are read line by line and may be of any size
_MAX_FIELD = 10_000_000
_SNIFF = 65_536


class Loader(Protocol):
    """Reads the files of some suffixes."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """In lower case, each with its dot."""
        ...

    def load(self, path: Path, source: str) -> Iterator[Document]:
        """The documents of a file; DocumentError, without its name, where it cannot be read."""
        ...


def read_whole(path: Path) -> bytes:
    """The bytes of a file that is not too large to be read whole."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DocumentError(f"it has {size:,} bytes; {MAX_BYTES:,} are read whole at most: divide it")
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
    """Markdown, as it stands: offsets count in the file's own text. Headings are CommonMark's, not those in code."""

    suffixes: tuple[str, ...] = (".md", ".markdown")

    def load(self, path: Path, source: str) -> Iterator[Document]:
        """One document."""
        try:
            from markdown_it import MarkdownIt
        except ImportError as error:
            raise MissingDependency("Reading Markdown", module="markdown_it", extra="rag") from error
        text = as_text(read_whole(path))
        starts = [0]
        starts += [i + 1 for i, character in enumerate(text) if character == "\n"]
        headings: list[Heading] = []
        tokens = MarkdownIt("commonmark").parse(text)
        for token, inline in pairwise(tokens):
            if token.type == "heading_open" and token.map is not None:
                title = "".join(
                    child.content for child in inline.children or () if child.type in {"text", "code_inline"}
                )
                if title.strip():
                    headings.append(Heading(starts[token.map[0]], int(token.tag[1]), title.strip()))
        metadata: dict[str, MetadataValue] = {"format": "markdown"}
        if headings:
            metadata["title"] = headings[0].title
        yield Document(text, source, metadata, headings)


@dataclass(frozen=True)
class CsvLoader:
    """A document for each row of a CSV or TSV file with a header: `column: value` lines, or one column's text.

    text_column: this column is the text and the others are metadata, as strings; without it all are text. A source is
    the file's and the number of the row, from 1 below the header.
    """

    text_column: str | None = None
    suffixes: tuple[str, ...] = (".csv", ".tsv")

    def load(self, path: Path, source: str) -> Iterator[Document]:
        """One document for each row that has text."""
        with path.open("rb") as file:
            sample = file.read(_SNIFF)
        encoding = _line_encoding(sample)
        csv.field_size_limit(_MAX_FIELD)
        try:
            with path.open(encoding=encoding, newline="") as file:
                rows = csv.reader(file, delimiter=_delimiter(path, sample.decode(encoding, "ignore")), strict=True)
                header = next(rows, None)
                if header is None:
                    return
                if self.text_column is not None and self.text_column not in header:
                    raise DocumentError(f"it has no column {self.text_column!r}; it has: {', '.join(header)}")
                for number, row in enumerate(rows, 1):
                    if len(row) > len(header):
                        raise DocumentError(f"row {number} has {len(row)} fields under {len(header)} columns")
                    if (made := self._document(header, row, f"{source}#row={number}")) is not None:
                        yield made
        except (csv.Error, UnicodeError) as e:
            raise DocumentError(f"it is not readable as CSV: {e}") from e

    def _document(self, header: list[str], row: list[str], source: str) -> Document | None:
        cells = {name: clean(value) for name, value in zip(header, row, strict=False) if value.strip()}
        metadata: dict[str, MetadataValue] = {"format": "csv"}
        if self.text_column is None:
            text = "\n".join(f"{name}: {value}" for name, value in cells.items())
        else:
            text = cells.pop(self.text_column, "")
            metadata |= {name: value for name, value in cells.items() if name}
        return Document(text, source, metadata) if text else None


@dataclass(frozen=True)
class JsonLinesLoader:
    """A document for each line of JSON: a field is its text, other plain fields are its metadata.

    id_field: its value names the document within the file; without it the number of the line does. Lines that are not
    usable are an error only when the rest has been read, so that they cost no good one.
    """

    text_field: str = "text"
    id_field: str | None = None
    suffixes: tuple[str, ...] = (".jsonl", ".ndjson")
    renamed: Mapping[str, str] = field(default_factory=dict)

    def load(self, path: Path, source: str) -> Iterator[Document]:
        """One document for each usable line; then DocumentError, if others were not."""
        wrong: list[str] = []
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield self._document(json.loads(line), source, number)
                except (ValueError, RecursionError) as e:
                    wrong.append(f"line {number} is no usable JSON ({type(e).__name__})")
                except DocumentError as e:
                    wrong.append(f"line {number}: {e}")
        if wrong:
            more = f", and {len(wrong) - 3:,} more" if len(wrong) > 3 else ""
            raise DocumentError(f"{'; '.join(wrong[:3])}{more}; the other lines were read")

    def _document(self, row: Any, source: str, number: int) -> Document:
        if not isinstance(row, dict):
            raise DocumentError(f"expected an object, got {type(row).__name__}")
        text = row.pop(self.text_field, None)
        if not isinstance(text, str) or not _is_unicode(text):
            raise DocumentError(f"the field {self.text_field!r} is no text")
        name = f"line={number}" if self.id_field is None else f"id={row.get(self.id_field, number)}"
        metadata: dict[str, MetadataValue] = {"format": "jsonl"}
        metadata |= {self.renamed.get(k, k): v for k, v in row.items() if k and _is_plain(v)}
        return Document(clean(text), f"{source}#{name}", metadata)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) and _is_unicode(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return value - value == 0
    return isinstance(value, bool) or (isinstance(value, str) and _is_unicode(value))


def _is_unicode(text: str) -> bool:
    """Neither lone surrogates, which JSON can write, nor NUL."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _line_encoding(sample: bytes) -> str:
    """The encoding of a file that is read line by line, from its beginning."""
    cut = sample.rfind(b"\n") + 1 or len(sample)
    if sample.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        sample[:cut].decode("utf-8")
    except UnicodeDecodeError:
        from vecbench.rag.load.encodings import _detected

        return _detected(sample[:cut])
    return "utf-8"


def _delimiter(path: Path, sample: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = sample.split("\n", 1)[0]
    return max(",;\t|", key=first.count) if first else ","


def _standard() -> tuple[Loader, ...]:
    from vecbench.rag.load.rich import DocxLoader, HtmlLoader, PdfLoader

    return (TextLoader(), MarkdownLoader(), CsvLoader(), JsonLinesLoader(), HtmlLoader(), PdfLoader(), DocxLoader())


LOADERS: tuple[Loader, ...] = _standard()
