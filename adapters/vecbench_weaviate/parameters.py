"""Index parameters in Weaviate's words, as weaviate-client names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vecbench.errors import UnsupportedIndex
from vecbench.index import HNSW, Index
from vecbench.types import Metric

__all__ = ["vector_index"]

_DISTANCES = {Metric.EUCLIDEAN: "L2_SQUARED", Metric.COSINE: "COSINE", Metric.DOT: "DOT"}
_FLAT = frozenset({"vector_cache_max_objects", "quantizer"})
_HNSW = _FLAT | {
    "cleanup_interval_seconds",
    "dynamic_ef_factor",
    "dynamic_ef_max",
    "dynamic_ef_min",
    "ef",
    "ef_construction",
    "filter_strategy",
    "flat_search_cutoff",
    "max_connections",
}
_QUANTIZERS = frozenset({"none", "pq", "bq", "sq", "rq"})


def vector_index(index: Index, metric: Metric, config: Any) -> Any:
    """The client's object for an index; config: `weaviate.classes.config`. `UnsupportedIndex` for what it has not.

    A server may have a quantiser as its default, so that none is asked for as such.
    """
    known, sent = _FLAT, {"quantizer": "none"}
    if isinstance(index, HNSW):
        known = _HNSW
        sent |= {"max_connections": index.m, "ef_construction": index.ef_construction, "ef": index.ef_search}  # type: ignore[dict-item]  # of several types
    unknown = set(index.native) - known
    if unknown:
        raise UnsupportedIndex(
            f"weaviate has no parameter {', '.join(sorted(unknown))} for a {index.kind} index; "
            f"it has {', '.join(sorted(known))}"
        )
    values: dict[str, Any] = {**sent, **index.native}
    values["quantizer"] = _quantizer(values["quantizer"], config)
    make = config.Configure.VectorIndex.hnsw if isinstance(index, HNSW) else config.Configure.VectorIndex.flat
    try:
        if "filter_strategy" in values:
            values["filter_strategy"] = config.VectorFilterStrategy(values["filter_strategy"])
        return make(distance_metric=getattr(config.VectorDistances, _DISTANCES[metric]), **values)
    except ValueError as e:  # pydantic's, too
        raise UnsupportedIndex(f"weaviate refuses the index parameters {dict(index.native)}: {e}") from e


def _quantizer(asked: object, config: Any) -> Any:
    """A quantiser by name, or by name with its parameters: `{"rq": {"bits": 8}}`."""
    name: object = asked
    parameters: object = {}
    if isinstance(asked, Mapping) and len(asked) == 1:
        name, parameters = next(iter(asked.items()))
    if name not in _QUANTIZERS or not isinstance(parameters, Mapping):
        raise UnsupportedIndex(
            f"weaviate has no quantizer {asked!r}; it has {', '.join(sorted(_QUANTIZERS))}, as a name or as "
            "{name: {parameter: value}}"
        )
    try:
        return getattr(config.Configure.VectorIndex.Quantizer, str(name))(**dict(parameters))
    except (TypeError, ValueError) as e:
        raise UnsupportedIndex(f"weaviate refuses the quantizer {asked!r}: {e}") from e
