"""Index and search parameters in Milvus's words; `native` merged last, an unknown name refused.

The engines are not asked: a server takes search parameters that it does not know without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vecbench.errors import UnsupportedIndex, UnsupportedOperation
from vecbench.index import HNSW, Index, IVFFlat, NativeIndex, SearchParams

__all__ = ["LITE_KINDS", "SERVER_KINDS", "index_parameters", "search_parameters"]

_IVF = frozenset({"nlist"})
_GRAPH = frozenset({"M", "efConstruction"})
SERVER_KINDS: Mapping[str, frozenset[str]] = {
    "FLAT": frozenset(),
    "HNSW": _GRAPH,
    "IVF_FLAT": _IVF,
    "IVF_SQ8": _IVF,
    "IVF_PQ": _IVF | {"m", "nbits"},
    "SCANN": _IVF | {"with_raw_data"},
}
"""What can be built, with the parameters of each; what an index has beside its portable parameters is native."""
LITE_KINDS: Mapping[str, frozenset[str]] = {
    "FLAT": frozenset(),
    "HNSW": _GRAPH,
    "IVF_FLAT": _IVF,
    "IVF_SQ8": _IVF,
    "HNSW_SQ": _GRAPH | {"sq_type"},
}
_PORTABLE = {"flat": "FLAT", "hnsw": "HNSW", "ivf_flat": "IVF_FLAT"}


def index_parameters(index: Index, kinds: Mapping[str, frozenset[str]]) -> tuple[str, dict[str, Any]]:
    """Milvus's name of the index and its parameters; `UnsupportedIndex`."""
    kind = index.name if isinstance(index, NativeIndex) else _PORTABLE[index.kind]
    if kind not in kinds:
        raise UnsupportedIndex(f"milvus: no index {kind!r} is known here; known: {', '.join(kinds)}")
    known = kinds[kind]
    unknown = set(index.native) - known
    if unknown:
        raise UnsupportedIndex(
            f"milvus: a {kind} index has no parameter {', '.join(sorted(unknown))}; "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )
    sent: dict[str, Any] = {}
    if isinstance(index, HNSW):
        sent = {"M": index.m, "efConstruction": index.ef_construction}
    elif isinstance(index, IVFFlat):
        sent = {"nlist": index.nlist}
    return kind, {**sent, **index.native}


def search_parameters(index: Index, params: SearchParams, k: int) -> dict[str, Any]:
    """What a search sends; ef is at least k, as Milvus demands. `UnsupportedOperation`."""
    kind = index.name if isinstance(index, NativeIndex) else _PORTABLE[index.kind]
    known = {"ef"} if "HNSW" in kind else set() if kind == "FLAT" else {"nprobe"}
    if kind == "SCANN":
        known |= {"reorder_k"}
    ef, nprobe = params.ef_search, params.nprobe
    if isinstance(index, HNSW):
        ef = ef or index.ef_search
    elif isinstance(index, IVFFlat):
        nprobe = nprobe or index.nprobe
    sent = {name: value for name, value in (("ef", ef), ("nprobe", nprobe)) if value is not None}
    sent.update(params.native)
    unknown = set(sent) - known
    if unknown:
        raise UnsupportedOperation(
            f"milvus: a search of a {kind} index has no parameter {', '.join(sorted(unknown))}; "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )
    if "ef" in known and type(sent.get("ef", 64)) is int:
        sent["ef"] = max(sent.get("ef", 64), k)
    return sent
