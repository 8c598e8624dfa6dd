"""How one record becomes a Redis hash and back.

key   <prefix><id>, the prefix being the collection's
v     the vector, float32, as it was given
meta  the metadata as JSON, "{}" where there is none: a hash without it does not exist
doc   the document, where there is one
t     the tokens of `vecbench.typed`, for filters
n_…   numbers for range filters, r_… what float64 lost of an integer
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vecbench.typed import dump_metadata, load_metadata, numbers, tokens
from vecbench.types import Include, Metadata, MetadataValue, Records, Vectors

__all__ = ["SEPARATOR", "columns", "encode", "wanted_fields"]

SEPARATOR = "\x1f"  # between tokens, which are printable
_FIELDS: dict[Include, str] = {"vectors": "v", "metadata": "meta", "documents": "doc"}


def encode(records: Records) -> tuple[list[list[Any]], set[str]]:
    """Field, value, field, value … of each record, and the keys of all their numbers."""
    assert records.vectors is not None  # noqa: S101  checked by the base class; tells the type checker
    keys: set[str] = set()
    rows: list[list[Any]] = []
    for row, vector in enumerate(records.vectors):
        metadata = records.metadata[row] if records.metadata is not None else {}
        fields: list[Any] = ["v", vector.tobytes(), "meta", dump_metadata(metadata)]
        if records.documents is not None and (text := records.documents[row]) is not None:
            fields += ["doc", text]
        if metadata:
            fields += ["t", SEPARATOR.join(tokens(metadata))]
            for key, number in numbers(metadata).items():
                keys.add(key)
                fields += [key, repr(number)]
        rows.append(fields)
    return rows, keys


def wanted_fields(include: Sequence[Include]) -> list[str]:
    """The fields of a hash that hold these columns."""
    return [_FIELDS[column] for column in include]


def columns(ids: list[str], hashes: Sequence[dict[str, bytes | None]], include: Sequence[Include], dim: int) -> Records:
    """Hashes as read, by the names of `wanted_fields`, as records."""
    vectors: Vectors | None = None
    if "vectors" in include:
        vectors = np.frombuffer(b"".join(h["v"] or b"" for h in hashes), np.float32).reshape(len(hashes), dim).copy()
    metadata: list[Metadata] | None = None
    if "metadata" in include:
        metadata = [_metadata(h.get("meta")) for h in hashes]
    documents: list[str | None] | None = None
    if "documents" in include:
        documents = [None if (text := h.get("doc")) is None else text.decode() for h in hashes]
    return Records(ids, vectors, metadata, documents)


def _metadata(text: bytes | None) -> dict[str, MetadataValue]:
    return load_metadata(None if text is None else text.decode())
