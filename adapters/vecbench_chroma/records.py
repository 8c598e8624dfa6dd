"""How one record becomes Chroma's columns and back.

The id, the vector and the document are Chroma's own. Its metadata hold ours whole, as JSON under `m` (so that ints come
back as ints), and beside it what serves filters only: the tokens of `vecbench.typed` under a key of the collection's
own, its numbers under theirs. `none` marks a document that was taken away: Chroma can replace a text, not remove it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vecbench.errors import InvalidMetadata
from vecbench.typed import dump_metadata, load_metadata, numbers, tokens
from vecbench.types import Include, Metadata, Records
from vecbench_chroma.filters import ordered

__all__ = ["check_size", "columns", "encode", "native_include", "tokens_key"]

_META, _NO_DOCUMENT = "m", "none"


def tokens_key(native: Any) -> str:
    """The metadata key of a collection's tokens, used by no other collection before or after it.

    Dropping a collection leaves its lists in the database, and records of later collections come to have them
    (https://github.com/chroma-core/chroma/issues/7594): under a key that nobody asks for, they do no harm.
    """
    return f"t_{native.id.hex[:12]}"


def check_size(records: Records, most: int) -> None:
    """Raise `InvalidMetadata` for a record with more tokens than SQLite takes values.

    Chroma accepts such a record into its log, fails to apply it, and then fails every later write of the collection.
    """
    for row, metadata in enumerate(records.metadata or ()):
        size = sum(1 + len(v) if isinstance(v, list) else 4 for v in metadata.values())
        if size > most:
            raise InvalidMetadata(
                f"row {row}: {size} values in {len(metadata)} fields are too many for one record of Chroma, which "
                f"takes {most}: an item of a list counts as one, its field as one more, a single value as four"
            )


def encode(
    records: Records, before: Mapping[str, Mapping[str, Any] | None], tokens_key: str
) -> tuple[list[dict[str, Any] | None] | None, list[str | None] | None]:
    """Chroma's metadata and documents for an upsert that replaces the records whole.

    before: the metadata of those that exist. Chroma's upsert merges: a key goes only where it is set to None.
    """
    documents: list[str | None] = [None] * len(records) if records.documents is None else list(records.documents)
    metadatas: list[dict[str, Any] | None] = []
    for row, id_ in enumerate(records.ids):
        given = {} if records.metadata is None else records.metadata[row]
        new: dict[str, Any] = {}
        if given:
            new = {_META: dump_metadata(given), tokens_key: tokens(given)}
            new |= {key: ordered(value) for key, value in numbers(given).items()}
        if id_ in before:
            if documents[row] is None:
                documents[row], new[_NO_DOCUMENT] = "", True
            new = {**dict.fromkeys(before[id_] or ()), **new}
        metadatas.append(new or None)
    return (
        metadatas if any(metadatas) else None,
        documents if any(text is not None for text in documents) else None,
    )


def native_include(include: Sequence[Include]) -> list[str]:
    """Chroma's names of the columns; whether an empty document is one stands in the metadata."""
    names = []
    if "vectors" in include:
        names.append("embeddings")
    if "metadata" in include or "documents" in include:
        names.append("metadatas")
    if "documents" in include:
        names.append("documents")
    return names


def columns(ids: list[str], found: Mapping[str, Any], include: Sequence[Include], dim: int) -> Records:
    """Chroma's columns as records."""
    held: list[Mapping[str, Any]] = [m or {} for m in found["metadatas"]] if found["metadatas"] is not None else []
    metadata: list[Metadata] | None = None
    documents: list[str | None] | None = None
    if "metadata" in include:
        metadata = [load_metadata(m.get(_META)) for m in held]
    if "documents" in include:
        texts = found["documents"]
        documents = [None if _NO_DOCUMENT in m else text for text, m in zip(texts, held, strict=True)]
    vectors = np.array(found["embeddings"], np.float32).reshape(len(ids), dim) if "vectors" in include else None
    return Records(ids, vectors, metadata, documents)
