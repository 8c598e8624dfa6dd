"""CSV and JSON lines: a document for each row, read one by one; a row that is wrong is reported and the rest go on."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vecbench.checks import check_documents, check_metadata
from vecbench.errors import DocumentError, InvalidMetadata
from vecbench.rag.load.encodings import clean, encoding_of
from vecbench.rag.load.reports import Unreadable
from vecbench.rag.records import RESERVED
from vecbench.rag.types import Document
from vecbench.types import MetadataValue

__all__ = ["CsvLoader", "JsonLinesLoader"]

_TAKEN = RESERVED | {"format"}
_SAMPLE = 65_536
_DELIMITERS = ",;\t|"
_LONGEST_CELL = 10_000_000
_LONGEST_LINE = 16_000_000  # bytes of JSON; a longer line is passed over without being held


@dataclass(frozen=True)
class CsvLoader:
    """A document for each row of a CSV or TSV file with a header: `column: value` lines, or one column's text.

    text_column: this column is the text and the others are metadata, as strings; without it all are text. A column
    whose name vecbench keeps for itself (`source`, `page` …) becomes `source_`. A source is the file's and the number
    of the row, from 1 below the header. A row with another number of cells than the header is reported; after a quote
    that is not closed nobody can say where a row begins, and the rest is not read.
    """

    text_column: str | None = None
    suffixes: tuple[str, ...] = (".csv", ".tsv")

    def load(self, path: Path, source: str) -> Iterator[Document | Unreadable]:
        """One document for each row that has text."""
        with path.open("rb") as file:
            sample = file.read(_SAMPLE)
        whole = len(sample) < _SAMPLE
        encoding = encoding_of(sample if whole else sample[: sample.rfind(b"\n") + 1] or sample, whole=whole)
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))  # of the process; raised, never lowered
        number = 0
        try:
            with path.open(encoding=encoding, newline="") as file:
                delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(sample.decode(encoding, "ignore"))
                rows = csv.reader(file, delimiter=delimiter, strict=True)
                header = self._header(next(rows, []))
                for number, row in enumerate(rows, 1):
                    name = f"{source}#row={number}"
                    if row and len(row) != len(header):
                        yield Unreadable(name, f"it has {len(row)} cells under {len(header)} columns")
                    elif any(cell.strip() for cell in row):
                        yield _checked(name, *self._content(header, row))
        except (csv.Error, UnicodeError) as e:
            raise DocumentError(f"it is not readable as CSV after row {number}: {e}") from e

    def _header(self, header: list[str]) -> list[str]:
        names = [name.strip() for name in header]
        if twice := [name for name, times in Counter(names).items() if times > 1 and name]:
            raise DocumentError(f"two of its columns are called {twice[0]!r}")
        if self.text_column is not None and names and self.text_column not in names:
            raise DocumentError(f"it has no column {self.text_column!r}; it has: {', '.join(names)}")
        return names

    def _content(self, header: list[str], row: list[str]) -> tuple[str, dict[str, MetadataValue]]:
        cells = {name: value for name, value in zip(header, row, strict=True) if value.strip()}
        metadata: dict[str, MetadataValue] = {"format": "csv"}
        if self.text_column is None:
            return "\n".join(f"{name}: {value}" if name else value for name, value in cells.items()), metadata
        text = cells.pop(self.text_column, "")
        return text, metadata | {_free(name, header): value for name, value in cells.items() if name}


@dataclass(frozen=True)
class JsonLinesLoader:
    """A document for each line of JSON: a field is its text, other plain fields are its metadata.

    id_field: its value, a string or a whole number, names the document within the file; without it the number of the
    line does. renamed: other names for fields; one that vecbench keeps for itself (`source`, `page` …) becomes
    `source_` by itself. Lines that are not usable are reported.
    """

    text_field: str = "text"
    id_field: str | None = None
    suffixes: tuple[str, ...] = (".jsonl", ".ndjson")
    renamed: Mapping[str, str] = field(default_factory=dict)

    def load(self, path: Path, source: str) -> Iterator[Document | Unreadable]:
        """One document for each usable line."""
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                name = f"{source}#line={number}"
                if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                    while (more := file.readline(_LONGEST_LINE)) and not more.endswith(b"\n"):
                        pass
                    yield Unreadable(name, f"it has more than {_LONGEST_LINE:,} bytes")
                elif line.strip():
                    try:
                        yield self._document(json.loads(line), source, name)
                    except (ValueError, RecursionError) as e:
                        yield Unreadable(name, f"it is no usable JSON ({type(e).__name__})")
                    except DocumentError as e:
                        yield Unreadable(name, str(e))

    def _document(self, row: Any, source: str, name: str) -> Document | Unreadable:
        if not isinstance(row, dict):
            raise DocumentError(f"expected an object, got {type(row).__name__}")
        text = row.pop(self.text_field, None)
        if not isinstance(text, str):
            raise DocumentError(f"the field {self.text_field!r} is no text")
        if self.id_field is not None:
            id_ = row.get(self.id_field)
            if type(id_) not in (str, int) or id_ == "":
                raise DocumentError(f"the field {self.id_field!r} is no name: a string or a whole number")
            name = f"{source}#id={id_}"
        metadata: dict[str, MetadataValue] = {"format": "jsonl"}
        metadata |= {_free(self.renamed.get(k, k), row): v for k, v in row.items() if k and _is_plain(v)}
        return _checked(name, text, metadata)


def _checked(name: str, text: str, metadata: dict[str, MetadataValue]) -> Document | Unreadable:
    """A document that a store will take; what it would refuse (NUL, lone surrogates) is reported here, by the row."""
    try:
        check_documents([text])
        check_metadata([{**metadata, "source": name}])
    except InvalidMetadata as e:
        reason = str(e).removeprefix("row 0, ").removeprefix("row 0: ")
        return Unreadable(name.encode("utf-8", "replace").decode(), reason)
    return Document(clean(text), name, metadata)


def _free(name: str, others: Collection[str]) -> str:
    """`name`, or where vecbench keeps that for itself the first of `name_`, `name__` … that no other field has."""
    if name in _TAKEN:
        name += "_"
        while name in others:
            name += "_"
    return name


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, str)


def _delimiter(sample: str) -> str:
    """The one of which the header, outside of its quotes, has the most."""
    header = "".join(sample.split("\n", 1)[0].split('"')[::2])
    return max(_DELIMITERS, key=header.count)
