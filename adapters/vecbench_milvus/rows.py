"""How one record becomes a row of a Milvus collection and back, and what does not fit into one.

A row holds the record (`id`, percent-encoded; `vector`; `metadata`, JSON text so that ints come back as ints;
`document`) and what serves filters only: `tokens` and `numbers` of `vecbench.typed`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vecbench.errors import InvalidMetadata
from vecbench.spec import CollectionSpec
from vecbench.typed import dump_metadata, load_metadata, numbers, tokens
from vecbench.types import Include, Metadata, Records, Vectors
from vecbench_milvus.filters import ID, MAX_PK, NUMBERS, TOKENS, id_of, pk

__all__ = ["MAX_TEXT", "VECTOR", "add_fields", "check_sizes", "columns", "encode", "fields", "row_bytes"]

VECTOR, METADATA, DOCUMENT = "vector", "metadata", "document"
_NAMES: dict[Include, str] = {"vectors": VECTOR, "metadata": METADATA, "documents": DOCUMENT}
MAX_TEXT = 65_535  # bytes of UTF-8 in one VARCHAR
_MAX_JSON = 65_536
_MAX_TOKENS = 4_096
_TEXT_MARK = "="  # before every document: Milvus 2.3 has no null, and an empty text is not the same as none


def add_fields(schema: Any, spec: CollectionSpec, kinds: Any) -> None:
    """Add the fields of a collection to pymilvus's schema; kinds: its `DataType`."""
    schema.add_field(ID, kinds.VARCHAR, is_primary=True, max_length=MAX_PK)
    schema.add_field(VECTOR, kinds.FLOAT_VECTOR, dim=spec.dim)
    schema.add_field(METADATA, kinds.VARCHAR, max_length=MAX_TEXT)
    schema.add_field(DOCUMENT, kinds.VARCHAR, max_length=MAX_TEXT)
    schema.add_field(NUMBERS, kinds.JSON)
    schema.add_field(TOKENS, kinds.ARRAY, element_type=kinds.VARCHAR, max_capacity=_MAX_TOKENS, max_length=128)


def check_sizes(records: Records) -> None:
    """Raise `InvalidMetadata`, naming the row, for a document or metadata larger than Milvus's fields."""
    for row, text in enumerate(records.documents or ()):
        if text is not None and len(text) > MAX_TEXT // 4 and len(text.encode()) > MAX_TEXT - len(_TEXT_MARK):
            raise InvalidMetadata(
                f"row {row}: the document has {len(text.encode())} bytes of UTF-8; "
                f"Milvus holds up to {MAX_TEXT - len(_TEXT_MARK)}. Split it"
            )
    for row, metadata in enumerate(records.metadata or ()):
        size = len(dump_metadata(metadata).encode())
        if size > MAX_TEXT:
            raise InvalidMetadata(f"row {row}: the metadata has {size} bytes of JSON; Milvus holds up to {MAX_TEXT}")
        if size <= _MAX_TOKENS:  # too small for so many tokens or numbers
            continue
        if (count := len(tokens(metadata))) > _MAX_TOKENS:
            raise InvalidMetadata(f"row {row}: {count} fields, values and list items; Milvus filters by {_MAX_TOKENS}")
        if (size := len(json.dumps(numbers(metadata)))) > _MAX_JSON:
            raise InvalidMetadata(f"row {row}: its numbers take {size} bytes of JSON; Milvus holds up to {_MAX_JSON}")


def encode(records: Records) -> list[dict[str, Any]]:
    """One row per record; every field is given, so that an upsert replaces the whole record."""
    assert records.vectors is not None  # noqa: S101  checked by the base class; tells the type checker
    metadata = records.metadata or [{}] * len(records)
    documents = records.documents or [None] * len(records)
    return [
        {
            ID: pk(id_),
            VECTOR: vector,
            METADATA: dump_metadata(held) if held else "",
            DOCUMENT: "" if text is None else _TEXT_MARK + text,
            NUMBERS: numbers(held),
            TOKENS: tokens(held),
        }
        for id_, vector, held, text in zip(records.ids, records.vectors, metadata, documents, strict=True)
    ]


def fields(include: Sequence[Include]) -> list[str]:
    """The fields to ask for. The primary key is always named: lite returns everything when nothing is."""
    return [ID, *(_NAMES[column] for column in include)]


def row_bytes(include: Sequence[Include], dim: int) -> int:
    """What one row of an answer may take."""
    return MAX_PK + sum(4 * dim if column == "vectors" else MAX_TEXT for column in include)


def columns(rows: Sequence[Mapping[str, Any]], include: Sequence[Include], dim: int) -> Records:
    """Rows as fetched as records."""
    vectors: Vectors | None = None
    metadata: list[Metadata] | None = None
    if "vectors" in include:
        vectors = np.array([row[VECTOR] for row in rows], np.float32).reshape(len(rows), dim)
    if "metadata" in include:
        metadata = [load_metadata(row[METADATA]) for row in rows]
    documents = [row[DOCUMENT][1:] if row[DOCUMENT] else None for row in rows] if "documents" in include else None
    return Records([id_of(row[ID]) for row in rows], vectors, metadata, documents)
