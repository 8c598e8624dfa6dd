"""How one record becomes a Qdrant payload and back.

A payload holds the record as it was given, under `id`, `meta` (JSON, so that ints come back as ints) and `doc`, and
beside it what serves filters only: the tokens of `vecbench.typed` under `t`, and its numbers under their own keys.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from vecbench.spec import CollectionSpec
from vecbench.typed import dump_metadata, load_metadata, number_key, numbers, tokens
from vecbench.types import Include, Metadata, Metric, Records, Vectors

__all__ = ["ID", "TOKENS", "columns", "encode", "payload_indexes", "point_id", "selector"]

ID, META, DOC, NORM, TOKENS = "id", "meta", "doc", "norm", "t"
_NAMESPACE = uuid.UUID("6f0b1f5e-0d3b-5c55-9d0c-3a8f6d0c7b11")


def point_id(id_: str) -> uuid.UUID:
    """The UUID under which Qdrant keeps the record of this id."""
    return uuid.uuid5(_NAMESPACE, id_)


def payload_indexes(spec: CollectionSpec) -> list[tuple[str, str]]:
    """Key and schema of each payload index: of the tokens, and of the numbers of declared fields."""
    declared = [field for field, kind in spec.fields.items() if kind in {"int", "float"}]
    return [(TOKENS, "Keyword"), *((number_key("n", field), "Float") for field in declared)] if spec.fields else []


def encode(records: Records, metric: Metric) -> list[dict[str, Any]]:
    """One payload per record."""
    out: list[dict[str, Any]] = [{ID: id_} for id_ in records.ids]
    if records.metadata is not None:
        for payload, metadata in zip(out, records.metadata, strict=True):
            if metadata:
                payload |= {META: dump_metadata(metadata), TOKENS: tokens(metadata), **numbers(metadata)}
    if records.documents is not None:
        for payload, text in zip(out, records.documents, strict=True):
            if text is not None:
                payload[DOC] = text
    if metric is Metric.COSINE and records.vectors is not None:  # Qdrant keeps the unit vector only
        norms = np.sqrt(np.einsum("ij,ij->i", records.vectors, records.vectors, dtype=np.float64))
        for payload, norm in zip(out, norms.tolist(), strict=True):
            payload[NORM] = norm
    return out


def selector(include: Sequence[Include], metric: Metric) -> list[str]:
    """The payload keys to fetch for these columns, the id always among them."""
    keys = [ID]
    if "metadata" in include:
        keys.append(META)
    if "documents" in include:
        keys.append(DOC)
    if "vectors" in include and metric is Metric.COSINE:
        keys.append(NORM)
    return keys


def columns(points: Sequence[Any], include: Sequence[Include], dim: int, metric: Metric) -> Records:
    """Points as fetched (objects with `payload` and `vector`) as records."""
    payloads = [p.payload for p in points]
    vectors: Vectors | None = None
    if "vectors" in include:
        vectors = np.array([p.vector for p in points], np.float32).reshape(len(points), dim)
        if metric is Metric.COSINE:
            vectors = _lengthen(vectors, [p[NORM] for p in payloads])
    metadata: list[Metadata] | None = None
    if "metadata" in include:
        metadata = [load_metadata(p.get(META)) for p in payloads]
    documents = [p.get(DOC) for p in payloads] if "documents" in include else None
    return Records([p[ID] for p in payloads], vectors, metadata, documents)


def _lengthen(vectors: Vectors, norms: list[float]) -> Vectors:
    """Vectors with the length they were written with; one that Qdrant left alone keeps its bits."""
    held = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return np.ascontiguousarray(vectors * (np.array(norms) / held)[:, None], np.float32)
