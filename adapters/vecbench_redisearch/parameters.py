"""Index and search parameters in RediSearch's words."""

from __future__ import annotations

from typing import Any

from vecbench.errors import UnsupportedIndex, UnsupportedOperation
from vecbench.index import HNSW, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.types import Metric

__all__ = ["index_parameters", "search_parameters"]

_METRICS = {Metric.EUCLIDEAN: "L2", Metric.COSINE: "COSINE", Metric.DOT: "IP"}
_NATIVE_INDEX = {
    "hnsw": frozenset({"M", "EF_CONSTRUCTION", "EF_RUNTIME", "INITIAL_CAP"}),
    "flat": frozenset({"BLOCK_SIZE", "INITIAL_CAP"}),
}
_POLICIES = ("ADHOC_BF", "BATCHES")
# Beyond these the server says OK, keeps no index, and dies when it is asked about it (seen in 2.10.5).
_LEAST_M, _MOST_M = 2, 32_767


def index_parameters(spec: CollectionSpec) -> dict[str, Any]:
    """The attributes of the vector field, `native` merged last; vectors are held as float32, never as less."""
    index = spec.index
    out: dict[str, Any] = {"TYPE": "FLOAT32", "DIM": spec.dim, "DISTANCE_METRIC": _METRICS[spec.metric]}
    if isinstance(index, HNSW):
        out |= {"M": index.m, "EF_CONSTRUCTION": index.ef_construction, "EF_RUNTIME": index.ef_search}
    known = _NATIVE_INDEX[index.kind]
    for name, value in index.native.items():
        if name not in known:
            raise UnsupportedIndex(
                f"redisearch has no parameter {name} for a {index.kind} index; it has {', '.join(sorted(known))}"
            )
        if type(value) is not int or value < 1:
            raise UnsupportedIndex(f"redisearch: {name} is a whole number of at least 1, got {value!r}")
        out[name] = value
    if not _LEAST_M <= out.get("M", _LEAST_M) <= _MOST_M:
        raise UnsupportedIndex(f"redisearch: m is {_LEAST_M} to {_MOST_M} links per node, got {out['M']}")
    return out


def search_parameters(ef: int | None, k: int, params: SearchParams) -> dict[str, Any]:
    """The attributes of the KNN clause, `native` merged last; they are checked here because they become query text.

    ef: the collection's EF_RUNTIME, None for a flat index. Comparing with every vector is RediSearch's brute force over
    what a filter left (ADHOC_BF), under a filter that leaves everything.
    """
    graph = ef is not None
    known = {"HYBRID_POLICY", "BATCH_SIZE", *(["EF_RUNTIME"] if graph else [])}
    out: dict[str, Any] = {}
    if graph and params.exact:
        out["HYBRID_POLICY"] = "ADHOC_BF"
    elif graph:
        out["EF_RUNTIME"] = max(params.ef_search or ef or k, k)
    for name, value in params.native.items():
        if name not in known:
            raise UnsupportedOperation(
                f"redisearch has no search parameter {name} here; it has {', '.join(sorted(known))}"
            )
        if name == "HYBRID_POLICY" and value not in _POLICIES:
            raise UnsupportedOperation(f"redisearch: HYBRID_POLICY is {' or '.join(_POLICIES)}, got {value!r}")
        if name != "HYBRID_POLICY" and (type(value) is not int or value < 1):
            raise UnsupportedOperation(f"redisearch: {name} is a whole number of at least 1, got {value!r}")
        out[name] = value
    if out.get("HYBRID_POLICY") == "ADHOC_BF" and "EF_RUNTIME" not in params.native:
        out.pop("EF_RUNTIME", None)  # the server refuses the two together
    return out
