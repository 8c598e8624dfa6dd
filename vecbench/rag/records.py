"""A document's chunks as records of a collection, and a record as a passage: ids, reserved keys, what they mean.

Every record carries, beside the metadata of its document,

    source, origin      the document, and where it was loaded from: together they name it
    start, end          where the chunk stands in the document's text, in characters
    part, parts         its number, from 0, and how many there are
    previous, next      ids of the chunks before and after it; absent at the ends
    page                from 1; absent where the format has no pages
    headings            those it stands under, highest first; absent where there are none
    gap                 the whitespace between the chunk before and this one; absent where there is none
    content_sha256      of the document: its text, metadata, headings and pages
    splitter            of the splitter's fingerprint and of what is embedded with a chunk
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from vecbench import checks
from vecbench.errors import DocumentError, InvalidMetadata
from vecbench.rag.load.encodings import printable
from vecbench.rag.load.places import headings_at, page_at
from vecbench.rag.types import Chunk, Document, Passage
from vecbench.spec import FieldType
from vecbench.types import Metadata, MetadataValue

__all__ = ["FIELDS", "RESERVED", "Context", "Row", "content_sha256", "number", "passage", "rows_of", "splitter_sha256"]

Context: TypeAlias = Literal["none", "headings"]
"""What is embedded with a chunk: nothing, or a line with the headings that it stands under."""

RESERVED = frozenset(
    {
        "source", "origin", "start", "end", "part", "parts", "previous", "next", "page", "headings", "gap",
        "content_sha256", "splitter",
    }
)  # fmt: skip
FIELDS: Mapping[str, FieldType] = {"source": "str", "origin": "str", "part": "int", "page": "int"}
"""The fields that vecbench itself filters by."""

_LONGEST_GAP = 1000  # characters; beyond, neighbours are not joined


@dataclass(frozen=True, slots=True)
class Row:
    """One chunk as it is stored; `embedded` is the text that its vector is of."""

    id: str
    text: str
    embedded: str
    metadata: dict[str, MetadataValue]


def rows_of(
    document: Document, chunks: Sequence[Chunk], *, origin: str, content: str, splitter: str, context: Context
) -> list[Row]:
    """The rows of a document. content, splitter: their hashes, made first. DocumentError for chunks not of its text.

    An id is made of origin, source, what is embedded and stored, and a number among equal chunks of the document: the
    same text at another place keeps its id, and with it its vector.
    """
    equal: Counter[tuple[str, str]] = Counter()
    rows: list[Row] = []
    done = 0
    for part, chunk in enumerate(chunks):
        if not 0 <= chunk.start < chunk.end or document.text[chunk.start : chunk.end] != chunk.text:
            raise DocumentError(
                f"{document.source}: chunk {part} is not the text from {chunk.start} to {chunk.end}; "
                "the splitter's offsets are wrong"
            )
        headings = headings_at(document, chunk.start)
        above = " > ".join(headings) if context == "headings" else ""
        id_ = _sha256_json([origin, document.source, above, chunk.text, equal[above, chunk.text]])[:32]
        equal[above, chunk.text] += 1
        metadata: dict[str, MetadataValue] = {
            **document.metadata,
            "source": document.source,
            "origin": origin,
            "start": chunk.start,
            "end": chunk.end,
            "part": part,
            "parts": len(chunks),
            "content_sha256": content,
            "splitter": splitter,
        }
        if rows:
            metadata["previous"] = rows[-1].id
            rows[-1].metadata["next"] = id_
        if headings:
            metadata["headings"] = headings
        if (page := page_at(document, chunk.start)) is not None:
            metadata["page"] = page
        gap = document.text[done : chunk.start] if rows else ""
        if gap.isspace() and len(gap) <= _LONGEST_GAP:
            metadata["gap"] = gap
        done = max(done, chunk.end)
        rows.append(Row(id_, chunk.text, f"{above}\n{chunk.text}" if above else chunk.text, metadata))
    return rows


def content_sha256(document: Document) -> str:
    """Of everything in a document that its records depend on; DocumentError for what no store could keep."""
    _check(document)
    about = [dict(document.metadata), [[h.start, h.level, h.title] for h in document.headings], list(document.pages)]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())  # JSON has an end: nothing runs together
    digest.update(document.text.encode())
    return digest.hexdigest()


def splitter_sha256(fingerprint: str, context: Context) -> str:
    """The first 16 hex digits of the hash of what decides how a text becomes chunks and vectors."""
    return _sha256_json([fingerprint, context])[:16]


def _sha256_json(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _check(document: Document) -> None:
    if not document.source:
        raise DocumentError("a document without a source; name it, by its path say")
    source = printable(str(document.source))
    for what, value in ("source", document.source), ("text", document.text):
        if type(value) is not str:
            raise DocumentError(f"{source}: a document's {what} is a str, got {type(value).__name__}")
    if not isinstance(document.metadata, Mapping):
        raise DocumentError(f"{source}: metadata is a mapping, got {type(document.metadata).__name__}; {{}} for none")
    if taken := sorted(RESERVED & set(document.metadata)):
        raise DocumentError(f"{source}: metadata {', '.join(taken)} would hide what vecbench keeps there; rename it")
    titles = [heading.title for heading in document.headings]
    try:
        checks.check_metadata([{**document.metadata, "source": document.source, "headings": titles}])
        checks.check_documents([document.text])
    except InvalidMetadata as error:
        raise DocumentError(f"{source}: {str(error).removeprefix('row 0, ').removeprefix('row 0: ')}") from error


def number(metadata: Metadata, key: str) -> int:
    """The whole number under a key; -1 where there is none."""
    value = metadata.get(key)
    return value if type(value) is int else -1


def passage(
    id_: str, text: str | None, metadata: Metadata | None, *, distance: float | None = None, score: float | None = None
) -> Passage:
    """A record as a passage; DocumentError for one without a text.

    A record that `ChunkIndex` did not write has its id for a source, and stands at 0.
    """
    if text is None:
        raise DocumentError(
            f"record {id_!r} has no document, so there is no text to show: write it again with one, or delete it; a "
            "collection of vectors alone cannot be asked"
        )
    held = metadata or {}
    source, start = held.get("source"), held.get("start")
    first = start if type(start) is int else 0
    return Passage(id_, text, source if type(source) is str else id_, first, first + len(text), held, distance, score)
