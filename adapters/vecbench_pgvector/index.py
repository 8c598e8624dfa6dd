"""Indexes in pgvector's words: how one is made, what a search may set, and what PostgreSQL says is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vecbench.errors import UnsupportedIndex, UnsupportedOperation
from vecbench.index import HNSW, Index, IVFFlat, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.types import Metric

__all__ = ["INDEXED_DIM", "OPERATORS", "Build", "build", "effective", "order", "search_settings"]

OPERATORS = {Metric.EUCLIDEAN: "<->", Metric.COSINE: "<=>", Metric.DOT: "<#>"}
INDEXED_DIM = 2000  # of a vector; of a halfvec twice as many
_CLASSES = {Metric.EUCLIDEAN: "l2_ops", Metric.COSINE: "cosine_ops", Metric.DOT: "ip_ops"}
_MAX_EF = 1000  # pgvector's bound of hnsw.ef_search
_BUILD_SETTINGS = frozenset({"maintenance_work_mem", "max_parallel_maintenance_workers"})
_SEARCH_DEFAULTS = {
    # relaxed_order: candidates beyond ef_search come in batches, each in order; the answer is sorted by us.
    "hnsw": {"hnsw.iterative_scan": "relaxed_order", "hnsw.max_scan_tuples": "20000", "hnsw.scan_mem_multiplier": "1"},
    "ivf_flat": {"ivfflat.iterative_scan": "relaxed_order", "ivfflat.max_probes": "32768"},
    "flat": {},
}


class Build(NamedTuple):
    """How an index is made: settings while it is, its method, what it is over, and its options."""

    settings: Mapping[str, str]
    method: str
    over: str
    options: Mapping[str, int]

    def sql(self, name: str, table: str) -> str:
        """The statement; names are ours, options are checked numbers."""
        options = ", ".join(f"{k} = {v}" for k, v in self.options.items())
        return f"create index {name} on {table} using {self.method} ({self.over}) with ({options})"


def build(spec: CollectionSpec) -> Build | None:
    """How the index of a collection is made; None for a flat one. `UnsupportedIndex` for what pgvector lacks."""
    index = spec.index
    known = set() if index.kind == "flat" else {"halfvec", *_BUILD_SETTINGS}
    unknown = set(index.native) - known
    if unknown:
        raise UnsupportedIndex(
            f"pgvector has no parameter {', '.join(sorted(unknown))} for a {index.kind} index; "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )
    if not isinstance(index, HNSW | IVFFlat):
        return None
    if isinstance(index, HNSW):
        if index.ef_search > _MAX_EF:
            raise UnsupportedIndex(f"pgvector's ef_search is at most {_MAX_EF}, asked for {index.ef_search}")
        method, options = "hnsw", {"m": index.m, "ef_construction": index.ef_construction}
    else:
        method, options = "ivfflat", {"lists": index.nlist}
    half = _half(index)
    most = INDEXED_DIM * (2 if half else 1)
    if spec.dim > most:
        cure = "" if half else "; native={'halfvec': True} indexes 16-bit copies of up to 4000, Flat() takes 16000"
        raise UnsupportedIndex(f"pgvector indexes vectors of up to {most} dimensions, asked for {spec.dim}{cure}")
    kind = "halfvec" if half else "vector"
    over = f"{_indexed(spec)} {kind}_{_CLASSES[spec.metric]}"
    settings = {k: str(v) for k, v in index.native.items() if k in _BUILD_SETTINGS}
    return Build(settings, method, over, options)


def _half(index: Index) -> bool:
    asked = index.native.get("halfvec", False)
    if type(asked) is not bool:
        raise UnsupportedIndex(f"pgvector: halfvec is True or False, got {asked!r}")
    return asked


def _indexed(spec: CollectionSpec) -> str:
    return f"(embedding::halfvec({spec.dim}))" if _half(spec.index) else "embedding"


def order(spec: CollectionSpec) -> str | None:
    """What a search through the index orders by, with a placeholder; None where it is the distance itself."""
    if not _half(spec.index):
        return None
    return f"{_indexed(spec)} {OPERATORS[spec.metric]} %s::halfvec({spec.dim})"


def search_settings(index: Index, params: SearchParams, k: int) -> dict[str, str]:
    """All settings that a search depends on; `UnsupportedOperation` for what pgvector lacks."""
    settings: dict[str, str] = dict(_SEARCH_DEFAULTS[index.kind])
    if isinstance(index, HNSW):
        asked = params.ef_search or index.ef_search
        if asked > _MAX_EF:
            raise UnsupportedOperation(f"pgvector's ef_search is at most {_MAX_EF}, asked for {asked}")
        settings["hnsw.ef_search"] = str(min(max(asked, k), _MAX_EF))
    elif isinstance(index, IVFFlat):
        settings["ivfflat.probes"] = str(min(params.nprobe or index.nprobe, index.nlist))
    unknown = set(params.native) - set(settings)
    if unknown:
        raise UnsupportedOperation(
            f"pgvector has no search parameter {', '.join(sorted(unknown))} for a {index.kind} index; "
            f"it has {', '.join(sorted(settings)) or 'none'}"
        )
    settings.update((key, str(value)) for key, value in params.native.items())
    return settings


def effective(spec: CollectionSpec, method: str | None, options: list[str] | None, definition: str) -> dict[str, Any]:
    """The index in force, from PostgreSQL's catalogue; flat where there is none yet."""
    if method is None:
        told: dict[str, Any] = {"kind": "flat"}
        if spec.index.kind != "flat":
            told["note"] = f"the {spec.index.kind} index is built by optimize; until then every search is exact"
        return told
    told = {"kind": spec.index.kind, "method": method, "definition": definition}
    for option in options or []:
        key, _, value = option.partition("=")
        told[key] = int(value) if value.isdigit() else value
    if isinstance(spec.index, HNSW):
        told["ef_search"] = spec.index.ef_search
    elif isinstance(spec.index, IVFFlat):
        told["nprobe"] = spec.index.nprobe
    return told
