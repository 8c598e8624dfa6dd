"""How a record becomes one of Pinecone's and back, and how a collection's spec is kept in the tags of its index.

Pinecone's metadata is flat and its numbers are float64, so a record's own metadata is kept whole as JSON:

    v           the version of this layout, in every record
    m, d        metadata as JSON, document; absent where there is none
    t           tokens that serve filters, see `vecbench.typed`; absent where there are none
    n_…, r_…    numbers that serve filters
    i           the id, where Pinecone's own is a hash of it

Ids are 1 to 512 ASCII characters there. Blanks, control and other characters, and "%", are written as in a URL, so that
most ids can be told from Pinecone's own; those that grow too long become "%#" and a hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from vecbench.errors import CollectionMismatch, UnsupportedOperation
from vecbench.spec import CollectionSpec
from vecbench.typed import dump_metadata, load_metadata, numbers, tokens
from vecbench.types import Include, Metadata, Records, Vectors

__all__ = [
    "EVERYTHING",
    "HASHED",
    "LAYOUT",
    "MAX_METADATA_BYTES",
    "NOBODY",
    "TOKENS",
    "columns",
    "encode",
    "from_tags",
    "metadata_bytes",
    "native_id",
    "own_id",
    "stored_metadata",
    "to_tags",
]

ID, META, DOC, TOKENS = "i", "m", "d", "t"
LAYOUT: dict[str, Any] = {"v": 1}
EVERYTHING: dict[str, Any] = {"v": {"$eq": 1}}
MAX_METADATA_BYTES = 40_960
HASHED = "%#"
NOBODY = "%nobody"  # no record has this id: a "%" of ours is followed by two digits or by "#"
_MAX_ID = 512
_PLAIN = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"

_TAG, _TAG_VALUE, _TAGS = "vecbench-spec-", 120, 20


def native_id(id_: str) -> str:
    """The id under which Pinecone keeps the record."""
    quoted = quote(id_, safe=_PLAIN)
    return quoted if len(quoted) <= _MAX_ID else HASHED + hashlib.sha256(id_.encode()).hexdigest()


def own_id(record: Any) -> str:
    """The id of a record as Pinecone gives it; one whose id is hashed must have come with its metadata."""
    if record.id.startswith(HASHED):
        return str(record.metadata[ID])
    return unquote(record.id)


def stored_metadata(id_: str, metadata: Metadata | None, document: str | None) -> dict[str, Any]:
    """What Pinecone keeps beside a vector."""
    out = dict(LAYOUT)
    if metadata:
        out[META] = dump_metadata(metadata)
        out[TOKENS] = tokens(metadata)
        out.update(numbers(metadata))
    if document is not None:
        out[DOC] = document
    if native_id(id_).startswith(HASHED):
        out[ID] = id_
    return out


def metadata_bytes(stored: Mapping[str, Any]) -> int:
    """The size of the metadata as the service counts it, in JSON."""
    return len(json.dumps(stored, ensure_ascii=False, separators=(",", ":")).encode())


def encode(records: Records) -> list[dict[str, Any]]:
    """The records as `Index.upsert` takes them."""
    assert records.vectors is not None  # noqa: S101  checked by the base class; tells the type checker
    n = len(records)
    metadata: Sequence[Metadata] = [{}] * n if records.metadata is None else records.metadata
    documents: Sequence[str | None] = [None] * n if records.documents is None else records.documents
    return [
        {"id": native_id(id_), "values": values, "metadata": stored_metadata(id_, meta, document)}
        for id_, values, meta, document in zip(records.ids, records.vectors.tolist(), metadata, documents, strict=True)
    ]


def columns(found: Iterable[Any], include: tuple[Include, ...], dim: int) -> Records:
    """Records as Pinecone gives them, as columns."""
    rows = list(found)
    vectors: Vectors | None = None
    if "vectors" in include:
        vectors = np.array([r.values for r in rows], np.float32).reshape(len(rows), dim)
    return Records(
        [own_id(r) for r in rows],
        vectors,
        [load_metadata(r.metadata.get(META)) for r in rows] if "metadata" in include else None,
        [r.metadata.get(DOC) for r in rows] if "documents" in include else None,
    )


def to_tags(spec: CollectionSpec) -> dict[str, str]:
    """The spec in the 20 tags of 120 characters that an index can have; `UnsupportedOperation` where it is larger."""
    text = base64.urlsafe_b64encode(zlib.compress(spec.to_json().encode(), 9)).decode().rstrip("=")
    if len(text) > _TAGS * _TAG_VALUE:
        raise UnsupportedOperation(
            f"pinecone keeps {_TAGS * _TAG_VALUE} characters of a collection's spec, this one takes {len(text)}; "
            "declare fewer fields: pinecone can filter by undeclared ones"
        )
    parts = range(0, len(text), _TAG_VALUE)
    return {f"{_TAG}{i:02d}": text[start : start + _TAG_VALUE] for i, start in enumerate(parts)}


def from_tags(tags: Mapping[str, str] | None) -> CollectionSpec | None:
    """The spec that `to_tags` wrote; None where there is none, `CollectionMismatch` where it is damaged."""
    text = "".join((tags or {})[key] for key in sorted(tags or {}) if key.startswith(_TAG))
    if not text:
        return None
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return CollectionSpec.from_json(zlib.decompress(packed).decode())
    except (ValueError, zlib.error) as e:
        raise CollectionMismatch(f"the tags that hold a collection's spec were changed: {e}") from e
