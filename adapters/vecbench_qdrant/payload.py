"""How one record becomes a Qdrant payload and back.

A payload holds the record as it was given, under `id`, `meta` (canonical JSON, so that ints come back as ints) and
`doc`, and beside it keys that serve filters only. There, a field name is written in hexadecimal, so that no name can
be read as a path, and every (field, type) has a key of its own, so that types are never blurred:

    has       names of all fields the record has
    e_<hex>   a single value as a typed text: "s:en", "b:true", "n:5"; equal numbers have equal texts, 5 and 5.0 too
    l_<hex>   a list of strings
    n_<hex>   a number as float64, for ranges
    r_<hex>   what an integer beyond 2**53 lost in that float64, so that ranges stay exact
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from vecbench.spec import CollectionSpec
from vecbench.types import Include, Metadata, MetadataValue, Metric, Records, Vectors

__all__ = [
    "ID",
    "columns",
    "encode",
    "field_key",
    "payload_indexes",
    "point_id",
    "scalar_text",
    "selector",
    "split_number",
]

ID, META, DOC, NORM, HAS = "id", "meta", "doc", "norm", "has"
_NAMESPACE = uuid.UUID("6f0b1f5e-0d3b-5c55-9d0c-3a8f6d0c7b11")


def point_id(id_: str) -> uuid.UUID:
    """The UUID under which Qdrant keeps the record of this id."""
    return uuid.uuid5(_NAMESPACE, id_)


def field_key(kind: str, field: str) -> str:
    """The payload key of a field for one kind of test: "e", "l", "n" or "r"."""
    return f"{kind}_{field.encode().hex()}"


def scalar_text(value: str | int | float | bool) -> str:
    """A single value as a text that is equal exactly where the values are; a bool is not a number."""
    if isinstance(value, str):
        return "s:" + value
    if isinstance(value, bool):
        return "b:true" if value else "b:false"
    if isinstance(value, float):
        return f"n:{int(value)}" if value.is_integer() else "n:" + value.hex()
    return f"n:{value}"


def split_number(value: int | float) -> tuple[float, int]:
    """The nearest float64 and what is missing to the value; OverflowError for an integer beyond float64."""
    nearest = float(value)
    return nearest, 0 if isinstance(value, float) else value - int(nearest)


def payload_indexes(spec: CollectionSpec) -> list[tuple[str, str]]:
    """Key and schema of each payload index that filters on the declared fields can use."""
    out = [(HAS, "Keyword")]
    for field, kind in spec.fields.items():
        if kind == "list[str]":
            out.append((field_key("l", field), "Keyword"))
        else:
            out.append((field_key("e", field), "Keyword"))
        if kind in {"int", "float"}:
            out.append((field_key("n", field), "Float"))
    return out if spec.fields else []


def _filter_keys(metadata: Metadata) -> dict[str, Any]:
    out: dict[str, Any] = {HAS: [field.encode().hex() for field in metadata]}
    for field, value in metadata.items():
        name = field.encode().hex()
        if isinstance(value, list):
            out["l_" + name] = value
            continue
        out["e_" + name] = scalar_text(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            nearest, rest = split_number(value)
            out["n_" + name] = nearest
            if rest:
                out["r_" + name] = float(rest)
    return out


def encode(records: Records, metric: Metric) -> list[dict[str, Any]]:
    """One payload per record."""
    out: list[dict[str, Any]] = [{ID: id_} for id_ in records.ids]
    if records.metadata is not None:
        for payload, metadata in zip(out, records.metadata, strict=True):
            if metadata:
                payload[META] = json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":"))
                payload.update(_filter_keys(metadata))
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
        metadata = [_metadata(p.get(META)) for p in payloads]
    documents = [p.get(DOC) for p in payloads] if "documents" in include else None
    return Records([p[ID] for p in payloads], vectors, metadata, documents)


def _metadata(text: str | None) -> dict[str, MetadataValue]:
    if text is None:
        return {}
    found: dict[str, MetadataValue] = json.loads(text)
    return found


def _lengthen(vectors: Vectors, norms: list[float]) -> Vectors:
    """Vectors with the length they were written with; one that Qdrant left alone keeps its bits."""
    held = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return np.ascontiguousarray(vectors * (np.array(norms) / held)[:, None], np.float32)
