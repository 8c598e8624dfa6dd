"""Index parameters in Qdrant's words, the same for the embedded engine and a server."""

from __future__ import annotations

from typing import Any

from vecbench.errors import UnsupportedIndex
from vecbench.index import HNSW, Index

__all__ = ["OPTIMIZER", "index_parameters"]

OPTIMIZER = frozenset(
    {
        "deleted_threshold",
        "vacuum_min_vector_number",
        "default_segment_number",
        "max_segment_size",
        "indexing_threshold",
    }
)


def index_parameters(
    index: Index, graph_keys: frozenset[str], *, threshold: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of the graph and of the optimizer, `native` merged last; `UnsupportedIndex` for an unknown one.

    threshold: kilobytes of vectors from which a graph is built and used. Qdrant's own defaults are 10,000: smaller
    data would be searched exhaustively, and a benchmark of it would measure that.
    """
    known = OPTIMIZER
    graph: dict[str, Any] = {"m": 0, "ef_construct": 4}  # m=0: no graph
    if isinstance(index, HNSW):
        graph, known = {"m": index.m, "ef_construct": index.ef_construction}, OPTIMIZER | graph_keys
    unknown = set(index.native) - known
    if unknown:
        raise UnsupportedIndex(
            f"qdrant has no parameter {', '.join(sorted(unknown))} for a {index.kind} index; "
            f"it has {', '.join(sorted(known))}"
        )
    graph["full_scan_threshold"] = threshold
    optimizer: dict[str, Any] = {"indexing_threshold": threshold}
    for key, value in index.native.items():
        (optimizer if key in OPTIMIZER else graph)[key] = value
    return graph, optimizer
