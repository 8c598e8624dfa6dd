"""What a collection is in Elasticsearch's words: its mapping, settings and index options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vecbench.errors import UnsupportedIndex
from vecbench.index import HNSW, Index, NativeIndex
from vecbench.spec import CollectionSpec
from vecbench.types import Metric
from vecbench_elasticsearch.filters import NUMBERS, TOKENS

__all__ = ["DOCUMENT", "MAX_CANDIDATES", "default_candidates", "index_options", "is_quantised", "mappings", "settings"]

MAX_CANDIDATES = 10_000  # num_candidates, and with it k
DOCUMENT = {"type": "text", "index": False, "norms": False}  # kept only; see words.py
_SIMILARITIES = {Metric.EUCLIDEAN: "l2_norm", Metric.COSINE: "cosine", Metric.DOT: "max_inner_product"}
_SETTINGS = frozenset({"number_of_replicas", "refresh_interval"})
_QUANTISERS = ("int8", "int4", "bbq")
_MAX_FIELDS = 10_000


def index_options(index: Index) -> dict[str, Any]:
    """`index_options` of the vector field: always with a type, because the server's default is a quantised one."""
    options: dict[str, Any] = {"type": index.kind}
    known: set[str] = set()
    if isinstance(index, HNSW):
        # The server takes any m and ef_construction here, and then refuses every record.
        if not 2 <= index.m <= 512 or index.ef_construction > 3_200 or index.ef_search > MAX_CANDIDATES:
            raise UnsupportedIndex(
                "elasticsearch takes m from 2 to 512, ef_construction to 3,200 and ef_search to 10,000, "
                f"got {index.m}, {index.ef_construction} and {index.ef_search}"
            )
        options |= {"m": index.m, "ef_construction": index.ef_construction}
    elif isinstance(index, NativeIndex):
        if not index.name.startswith(_QUANTISERS):
            raise UnsupportedIndex(
                f"elasticsearch has no index {index.name!r} beside flat and hnsw; "
                "it has int8_hnsw, int4_hnsw, bbq_hnsw, int8_flat, int4_flat, bbq_flat, and from 9.2 on bbq_disk"
            )
        options["type"] = index.name
        known = {"m", "ef_construction", "confidence_interval", "rescore_vector"}
        if index.name == "bbq_disk":
            known = {"cluster_size", "default_visit_percentage", "rescore_vector"}
        if not index.name.startswith("bbq"):  # those rescore by themselves
            options["rescore_vector"] = {"oversample": 1.0}
    unknown = set(index.native) - known - _SETTINGS
    if unknown:
        raise UnsupportedIndex(
            f"elasticsearch has no parameter {', '.join(sorted(unknown))} for a {options['type']} index; "
            f"it has {', '.join(sorted(known | _SETTINGS))}"
        )
    return options | {key: value for key, value in index.native.items() if key in known}


def is_quantised(index: Index) -> bool:
    """Whether the engine searches compressed vectors."""
    return isinstance(index, NativeIndex)


def default_candidates(index: Index) -> int | None:
    """`num_candidates` where a search does not say; None for a plain flat index, which compares with all."""
    if isinstance(index, HNSW):
        return index.ef_search
    return 100 if isinstance(index, NativeIndex) else None


def settings(index: Index, version: str) -> dict[str, Any]:
    """One shard, so that one graph holds all rows; no replica unless `native` asks for it."""
    made: dict[str, Any] = {
        "number_of_shards": 1,
        "number_of_replicas": 0,
        "mapping": {"total_fields": {"limit": _MAX_FIELDS}},
    }
    if _major_minor(version) >= (9, 2):
        made["mapping"]["exclude_source_vectors"] = False  # otherwise a cosine field gives back rounded vectors
    return made | {key: value for key, value in index.native.items() if key in _SETTINGS}


def mappings(spec: CollectionSpec, options: Mapping[str, Any]) -> dict[str, Any]:
    """The vector, tokens and numbers for filters; metadata and document are kept and never looked into."""
    return {
        "dynamic": "strict",
        "_meta": {"vecbench": spec.to_json()},
        "dynamic_templates": [{"numbers": {"path_match": f"{NUMBERS}.*", "mapping": {"type": "double"}}}],
        "properties": {
            "v": {
                "type": "dense_vector",
                "dims": spec.dim,
                "index": True,
                "similarity": _SIMILARITIES[spec.metric],
                "index_options": dict(options),
            },
            TOKENS: {"type": "keyword", "doc_values": False},
            NUMBERS: {"type": "object", "dynamic": True},
            "meta": {"type": "object", "enabled": False},  # takes a text, too
            "doc": DOCUMENT,
        },
    }


def _major_minor(version: str) -> tuple[int, int]:
    parts = version.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return 8, 0  # a version nobody has seen yet: the oldest that this adapter knows
