"""The embedded engine: Qdrant's Rust segments in this process, one shard per collection in a directory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from vecbench.capabilities import Capabilities, StoreInfo
from vecbench.collection import Collection
from vecbench.distance import from_similarity
from vecbench.errors import (
    CollectionNotFound,
    ConnectionFailed,
    DimensionMismatch,
    StoreError,
    StoreTimeout,
    UnsupportedIndex,
    UnsupportedOperation,
    redact,
)
from vecbench.filters import OPERATORS, Filter
from vecbench.index import HNSW, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore, import_client
from vecbench.types import Include, Metric, Records, SearchResult, Vectors
from vecbench_qdrant.filters import EdgeDialect, native_filter
from vecbench_qdrant.folder import Folder
from vecbench_qdrant.parameters import index_parameters
from vecbench_qdrant.payload import columns, encode, payload_indexes, point_id, selector
from vecbench_qdrant.words import EdgeWords, words_of

__all__ = ["EdgeCollection", "EdgeEngine"]

_DISTANCES = {Metric.EUCLIDEAN: "Euclid", Metric.COSINE: "Cosine", Metric.DOT: "Dot"}
_THRESHOLD = 1  # kilobytes of vectors; 0 would mean never
_GRAPH = frozenset({"m", "ef_construct", "full_scan_threshold", "max_indexing_threads", "payload_m", "inline_storage"})


class EdgeEngine:
    """A directory of shards; the shards that were opened are shared by all collections of the same name."""

    capabilities = Capabilities(
        metrics=frozenset(Metric),
        indexes=frozenset({"flat", "hnsw"}),
        filters=OPERATORS,
        ef_search="query",
        exact_search=True,
        persistent=True,
        preserves_vectors=False,  # a cosine collection keeps unit vectors; the length is restored to float32 rounding
        max_dim=65_535,
        max_batch=2_000,
    )
    native: Any = None
    secret: str | None = None

    def __init__(self, path: str | Path | None) -> None:
        self.qe: Any = import_client("qdrant_edge", store="qdrant", extra="qdrant")
        self.dialect = EdgeDialect(self.qe)
        self.folder = Folder(path)
        self._open: dict[str, _Shard] = {}
        self._lock = threading.Lock()
        client = version("qdrant-edge-py")
        self.info = StoreInfo(
            name="qdrant",
            label="qdrant-edge",
            deployment="embedded",
            engine="qdrant-edge",
            engine_version=client,
            client="qdrant-edge-py",
            client_version=client,
            target="" if path is None else str(self.folder.path),
        )
        if path is None:
            # A temporary directory serves this process alone, so it cannot be reopened in another.
            self.capabilities = replace(self.capabilities, persistent=False)

    def create(self, store: VectorStore, spec: CollectionSpec) -> Collection:
        """Shard first, spec last: a crash between leaves nothing that counts as a collection."""
        config, sent = self._config(spec)
        with self._lock:
            native = self.qe.EdgeShard.create(str(self.folder.begin(spec.name)), config)
            for key, schema in payload_indexes(spec):
                native.update(
                    self.qe.UpdateOperation.create_field_index(key, getattr(self.qe.PayloadSchemaType, schema))
                )
            native.flush()
            self.folder.commit(spec)
            shard = self._open[spec.name] = _Shard(native, sent)
        return EdgeCollection(store, spec, self, shard)

    def open(self, store: VectorStore, name: str) -> Collection:
        """The shard is loaded once and shared."""
        with self._lock:
            spec = self.folder.spec(name)
            shard = self._open.get(name)
            if shard is None:
                native = self.qe.EdgeShard.load(str(self.folder.collection(name) / "shard"))
                shard = self._open[name] = _Shard(native, self._config(spec)[1])
        return EdgeCollection(store, spec, self, shard)

    def names(self) -> list[str]:
        """Read from the directory."""
        return self.folder.names()

    def drop(self, name: str) -> None:
        """The shard is closed first; handles to it say from then on that it was dropped."""
        with self._lock:
            self.folder.spec(name)
            shard = self._open.pop(name, None)
            if shard is not None:
                shard.dropped = True
                shard.native.close()
            self.folder.remove(name)

    def close(self) -> None:
        """Close every shard, which makes it durable, and give the directory back."""
        with self._lock:
            try:
                while self._open:
                    self._open.popitem()[1].native.close()
            finally:
                self.folder.close()

    def translate(self, error: Exception, doing: str) -> StoreError | None:
        """The engine raises bare `Exception`, so only the text tells."""
        text = str(error)
        if "Can't init WAL" in text or "failed to open WAL" in text:
            return ConnectionFailed(f"qdrant: {doing} failed: {self.folder.path} is open elsewhere, or damaged: {text}")
        if "Vector dimension error" in text:
            return DimensionMismatch(f"qdrant: {doing} failed: {text}")
        if "Shard is not initialized" in text:
            return CollectionNotFound(
                f"qdrant: {doing} failed: the collection was dropped or its store closed meanwhile"
            )
        if isinstance(error, OSError):
            return ConnectionFailed(f"qdrant: {doing} failed in {self.folder.path}: {redact(str(error))}")
        return None

    def _config(self, spec: CollectionSpec) -> tuple[Any, dict[str, Any]]:
        """The engine's configuration, and what of it `describe` tells."""
        qe, index = self.qe, spec.index
        graph, optimizer = index_parameters(index, _GRAPH, threshold=_THRESHOLD)
        try:
            config = qe.EdgeConfig(
                vectors=qe.EdgeVectorParams(size=spec.dim, distance=getattr(qe.Distance, _DISTANCES[spec.metric])),
                hnsw_config=qe.HnswIndexConfig(**graph),
                optimizers=qe.EdgeOptimizersConfig(**optimizer),
            )
        except (TypeError, ValueError, OverflowError) as e:
            raise UnsupportedIndex(f"qdrant-edge refuses the index parameters { ({**graph, **optimizer}) }: {e}") from e
        if not isinstance(index, HNSW):
            graph = {}
        return config, {"kind": index.kind, **graph, **optimizer}


class _Shard:
    """A shard and whether it still exists, shared by the collections that use it."""

    def __init__(self, native: Any, sent: dict[str, Any]) -> None:
        self.native = native
        self.sent = sent
        self.dropped = False


class EdgeCollection(EdgeWords):
    """One shard. The engine locks for itself: calls from several threads run side by side."""

    def __init__(self, store: VectorStore, spec: CollectionSpec, engine: EdgeEngine, shard: _Shard) -> None:
        super().__init__(store, spec)
        self._engine, self._qe, self._shard = engine, engine.qe, shard
        self._is_cosine, self._is_dot = spec.metric is Metric.COSINE, spec.metric is Metric.DOT
        self._ef = spec.index.ef_search if isinstance(spec.index, HNSW) else None

    @property
    def native(self) -> Any:
        """The `EdgeShard`."""
        return self._live()

    def _live(self) -> Any:
        if self._shard.dropped:
            raise CollectionNotFound(f"qdrant: collection {self.spec.name!r} was dropped")
        return self._shard.native

    def _filter(self, where: Filter | None) -> Any:
        return None if where is None else native_filter(where, self._engine.dialect)

    def _upsert(self, records: Records) -> None:
        assert records.vectors is not None  # noqa: S101  checked by the base class; tells the type checker
        point = self._qe.Point
        points = [
            point(point_id(id_), vector, payload)
            for id_, vector, payload in zip(
                records.ids, records.vectors, encode(records, self.spec.metric), strict=True
            )
        ]
        self._live().update(self._qe.UpdateOperation.upsert_points(points))

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        found = self._live().retrieve(
            [point_id(i) for i in ids],
            with_payload=selector(include, self.spec.metric),
            with_vector="vectors" in include,
        )
        return self._columns(found, include)

    def _columns(self, points: list[Any], include: tuple[Include, ...]) -> Records:
        return columns(points, include, self.spec.dim, self.spec.metric)

    def _delete_ids(self, ids: list[str]) -> None:
        self._live().update(self._qe.UpdateOperation.delete_points([point_id(i) for i in ids]))

    def _delete_where(self, where: Filter) -> None:
        self._live().update(self._qe.UpdateOperation.delete_points_by_filter(self._filter(where)))

    def _count(self, where: Filter | None) -> int:
        return int(self._live().count(self._qe.CountRequest(exact=True, filter=self._filter(where))))

    def _search_params(self, params: SearchParams, k: int) -> Any:
        if self._ef is None:
            sent: dict[str, Any] = {"exact": True}
        else:
            sent = {"hnsw_ef": max(params.ef_search or self._ef, k), "exact": params.exact}
        if params.native:
            unknown = set(params.native) - {"hnsw_ef", "exact", "indexed_only"}
            if unknown:
                raise UnsupportedOperation(
                    f"qdrant-edge has no search parameter {', '.join(sorted(unknown))}; "
                    "it has exact, hnsw_ef, indexed_only"
                )
            sent |= params.native
        return self._qe.SearchParams(**sent)

    def _ask(self, queries: Vectors, options: dict[str, Any]) -> list[list[Any]]:
        qe, shard = self._qe, self._live()
        if len(queries) == 1:
            return [shard.search(qe.SearchRequest(query=qe.Query.Nearest(queries[0]), **options))]
        requests = [qe.QueryRequest(query=qe.Query.Nearest(q), **options) for q in queries]
        return list(shard.query_batch(qe.QueryBatchRequest(requests))) if requests else []

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        qe = self._qe
        options = {
            "limit": k,
            "filter": self._filter(where),
            "params": self._search_params(params, k),
            "with_payload": selector(include, self.spec.metric) if include else ["id"],
            "with_vector": "vectors" in include,
        }
        answers = self._ask(queries, options)
        short = [i for i, points in enumerate(answers) if len(points) < k]
        if short and self._ef is not None and not params.exact:
            # A filter can cut the graph into pieces, and the walk ends with the piece it is in: look everywhere.
            options["params"] = qe.SearchParams(exact=True)
            for i, points in zip(short, self._ask(queries[short], options), strict=True):
                answers[i] = points
        raw = [np.array([p.score for p in points]) for points in answers]
        return SearchResult(
            [[p.payload["id"] for p in points] for points in answers],
            [from_similarity(s) for s in raw] if self._is_cosine else [-s for s in raw] if self._is_dot else list(raw),
            self.spec.metric,
            raw=list(raw),
            records=[self._columns(points, include) for points in answers] if include else None,
        )

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        request = {
            "limit": batch_size,
            "filter": self._filter(where),
            "with_payload": selector(include, self.spec.metric),
            "with_vector": "vectors" in include,
        }
        offset: Any = None
        while True:
            points, offset = self._live().scroll(self._qe.ScrollRequest(offset=offset, **request))
            if points:
                yield self._columns(points, include)
            if offset is None:
                return

    def _flush(self, timeout: float) -> None:
        self._live().flush()

    def _optimize(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self._live().optimize():
            if time.monotonic() > deadline:
                raise StoreTimeout(f"qdrant: optimizing {self.spec.name!r} took more than {timeout} s")
        self._live().flush()

    def _describe(self) -> dict[str, Any]:
        info = self._live().info()
        home = self._engine.folder.collection(self.spec.name)
        indexed = min(info.indexed_vectors_count, info.points_count)
        words = words_of(info.payload_schema)
        return {
            "index": {**self._shard.sent, "built": indexed > 0},
            "rows": info.points_count,
            "indexed_rows": indexed,  # the engine's count; it is not lowered by overwriting rows
            "segments": info.segments_count,
            "payload_indexes": sorted(info.payload_schema),
            **({"words": words} if words else {}),
            "disk_bytes": sum(f.stat().st_blocks * 512 for f in home.rglob("*") if f.is_file()),
            "note": f"vectors of less than {self._shard.sent['indexing_threshold']} KB in a segment have no graph",
        }
