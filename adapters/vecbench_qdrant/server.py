"""A Qdrant server, through qdrant-client; and the same calls on the client's in-process imitation."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np

from vecbench.capabilities import Capabilities, StoreInfo, deployment_of
from vecbench.collection import Collection
from vecbench.distance import from_similarity
from vecbench.errors import (
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    StoreError,
    StoreTimeout,
    UnsupportedIndex,
    UnsupportedOperation,
    cause_of,
    redact,
)
from vecbench.filters import OPERATORS, Filter
from vecbench.index import HNSW, SearchParams
from vecbench.spec import CollectionSpec, hashed_name
from vecbench.store import VectorStore, import_client
from vecbench.types import Include, Metric, Records, SearchResult, Vectors
from vecbench_qdrant.faults import mask, translate_error
from vecbench_qdrant.filters import ClientDialect, native_filter
from vecbench_qdrant.parameters import index_parameters
from vecbench_qdrant.payload import columns, encode, payload_indexes, point_id, selector
from vecbench_qdrant.words import ClientWords, words_of

__all__ = ["ClientCollection", "ClientEngine"]

_DISTANCES = {Metric.EUCLIDEAN: "EUCLID", Metric.COSINE: "COSINE", Metric.DOT: "DOT"}
_PREFIX = "vecbench-"
_THRESHOLD = 10  # kilobytes of vectors, see vecbench_qdrant.parameters; smaller was not tried on a server
_GRAPH = frozenset({"m", "ef_construct", "full_scan_threshold", "max_indexing_threads", "payload_m", "on_disk"})
_REQUEST_BYTES = 16_000_000  # half of the server's default limit of 32 MB a request

_SERVER = Capabilities(
    metrics=frozenset(Metric),
    indexes=frozenset({"flat", "hnsw"}),
    filters=OPERATORS,
    ef_search="query",
    exact_search=True,
    persistent=True,
    concurrent_writers=True,
    max_dim=65_535,
    max_batch=1_000,
    max_batch_bytes=_REQUEST_BYTES,
)


class _OneAtATime:
    """The imitation under a lock: a store may be used from several threads, and the imitation breaks when it is."""

    def __init__(self, client: Any) -> None:
        self._client, self._lock = client, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                return verb(*args, **kwargs)

        return call


class ClientEngine:
    """A `QdrantClient`, closed with the store."""

    def __init__(self, client: Any, info: StoreInfo, *, local: bool, secret: str | None = None) -> None:
        self.native = client
        self.client = _OneAtATime(client) if local else client
        self.info = info
        self.local = local
        self.models: Any = import_client("qdrant_client.models", store="qdrant", extra="qdrant")
        self.dialect = ClientDialect(self.models)
        self.capabilities = replace(_SERVER, persistent=False, concurrent_writers=False) if local else _SERVER
        self.secret = secret

    @classmethod
    def in_memory(cls) -> Self:
        """The imitation: every answer is exact, whatever index was asked for."""
        made = import_client("qdrant_client", store="qdrant", extra="qdrant").QdrantClient(":memory:")
        client = version("qdrant-client")
        info = StoreInfo(
            name="qdrant",
            label="qdrant-client local (imitation)",
            deployment="embedded",
            engine="qdrant-client local",
            engine_version=client,
            client="qdrant-client",
            client_version=client,
            benchmarkable=False,
            why_not="it is NumPy brute force inside the Python client, not Qdrant; use qdrant (edge) or a server",
        )
        return cls(made, info, local=True)

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        api_key: str | None = None,
        grpc: bool | None = None,
        grpc_port: int = 6334,
        timeout: int = 60,
    ) -> Self:
        """Connect and ask for the version and the collections, so that a wrong address or key is known now."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"qdrant needs a url like http://localhost:6333, got {redact(url)!r}")
        use_grpc = _answers(parts.hostname, grpc_port) if grpc is None else grpc
        target = f"{parts.scheme}://{parts.hostname}:{parts.port or 6333}"
        try:
            client = import_client("qdrant_client", store="qdrant", extra="qdrant").QdrantClient(
                url=url,
                port=parts.port or 6333,
                api_key=api_key,
                prefer_grpc=use_grpc,
                grpc_port=grpc_port,
                timeout=timeout,
                check_compatibility=False,  # it warns; the version is asked for below
            )
        except (ValueError, TypeError) as e:
            raise ConfigError(f"qdrant: {mask(redact(str(e)), api_key)}") from cause_of(e, [api_key])
        try:
            engine_version = str(client.info().version)
            client.get_collections()
        except Exception as e:
            client.close()
            ours = translate_error(e, f"connecting to {target}", api_key)
            raise (
                ours
                if isinstance(ours, ConnectionFailed | StoreTimeout)
                else ConnectionFailed(
                    f"qdrant: something else than Qdrant answers at {target}: {mask(redact(str(e)), api_key)[:200]}"
                )
            ) from cause_of(e, [api_key])
        info = StoreInfo(
            name="qdrant",
            label="qdrant",
            deployment=deployment_of(url),
            engine="qdrant",
            engine_version=engine_version,
            client="qdrant-client" + (" (gRPC)" if use_grpc else " (REST)"),
            client_version=version("qdrant-client"),
            target=target,
        )
        return cls(client, info, local=False, secret=api_key)

    def create(self, store: VectorStore, spec: CollectionSpec) -> Collection:
        """The spec goes into the collection's own metadata."""
        m = self.models
        graph, optimizer = index_parameters(spec.index, _GRAPH, threshold=_THRESHOLD)
        try:
            configs = {
                "hnsw_config": m.HnswConfigDiff(**graph),
                "optimizers_config": m.OptimizersConfigDiff(**optimizer),
            }
        except ValueError as e:  # pydantic's
            raise UnsupportedIndex(f"qdrant refuses the index parameters { ({**graph, **optimizer}) }: {e}") from e
        name = _PREFIX + hashed_name(spec.name)
        self.client.create_collection(
            name,
            vectors_config=m.VectorParams(size=spec.dim, distance=getattr(m.Distance, _DISTANCES[spec.metric])),
            metadata={"vecbench": spec.to_json()},
            **configs,
        )
        if not self.local:  # the imitation has no payload indexes, and warns
            for key, schema in payload_indexes(spec):
                self.client.create_payload_index(name, key, getattr(m.PayloadSchemaType, schema.upper()), wait=True)
        return ClientCollection(store, spec, self)

    def open(self, store: VectorStore, name: str) -> Collection:
        """Read the spec back."""
        native_name = _PREFIX + hashed_name(name)
        if not self.client.collection_exists(native_name):
            raise CollectionNotFound(f"qdrant has no collection {name!r}")
        return ClientCollection(store, self._spec(native_name), self)

    def _spec(self, native_name: str) -> CollectionSpec:
        metadata = self.client.get_collection(native_name).config.metadata or {}
        return CollectionSpec.from_json(metadata.get("vecbench", ""))

    def names(self) -> list[str]:
        """Only collections with our prefix are ours."""
        all_names = [c.name for c in self.client.get_collections().collections]
        return [self._spec(n).name for n in all_names if n.startswith(_PREFIX)]

    def drop(self, name: str) -> None:
        """See `Engine`."""
        native_name = _PREFIX + hashed_name(name)
        if not self.client.collection_exists(native_name):
            raise CollectionNotFound(f"qdrant has no collection {name!r}")
        self.client.delete_collection(native_name)

    def close(self) -> None:
        """Close the client."""
        self.client.close()

    def translate(self, error: Exception, doing: str) -> StoreError | None:
        """See `Engine`; the key is masked in whatever the server says."""
        return translate_error(error, doing, self.secret)


class ClientCollection(ClientWords):
    """A collection of the server. Every write waits until the server has applied it."""

    def __init__(self, store: VectorStore, spec: CollectionSpec, engine: ClientEngine) -> None:
        super().__init__(store, spec)
        self._engine, self._client, self._models = engine, engine.client, engine.models
        self._name = _PREFIX + hashed_name(spec.name)
        self._ef = spec.index.ef_search if isinstance(spec.index, HNSW) else None

    @property
    def native(self) -> Any:
        """The `QdrantClient`; the collection's name on the server is in `describe()["native_name"]`."""
        return self._engine.native

    def _filter(self, where: Filter | None) -> Any:
        return None if where is None else native_filter(where, self._engine.dialect)

    def _upsert(self, records: Records) -> None:
        assert records.vectors is not None  # noqa: S101  checked by the base class; tells the type checker
        batch = self._models.Batch(
            ids=[str(point_id(i)) for i in records.ids],
            vectors=records.vectors.tolist(),
            payloads=encode(records, self.spec.metric),
        )
        self._client.upsert(self._name, points=batch, wait=True)

    def _columns(self, points: list[Any], include: tuple[Include, ...]) -> Records:
        return columns(points, include, self.spec.dim, self.spec.metric)

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        points: list[Any] = []
        for start in range(0, len(ids), 1_000):
            points += self._client.retrieve(
                self._name,
                [str(point_id(i)) for i in ids[start : start + 1_000]],
                with_payload=selector(include, self.spec.metric),
                with_vectors="vectors" in include,
            )
        return self._columns(points, include)

    def _delete_ids(self, ids: list[str]) -> None:
        for start in range(0, len(ids), 10_000):
            chosen = [str(point_id(i)) for i in ids[start : start + 10_000]]
            self._client.delete(self._name, self._models.PointIdsList(points=chosen), wait=True)

    def _delete_where(self, where: Filter) -> None:
        self._client.delete(self._name, self._models.FilterSelector(filter=self._filter(where)), wait=True)

    def _count(self, where: Filter | None) -> int:
        return int(self._client.count(self._name, count_filter=self._filter(where), exact=True).count)

    def _search_params(self, params: SearchParams, k: int) -> Any:
        if self._ef is None:
            sent: dict[str, Any] = {"exact": True}
        else:
            sent = {"hnsw_ef": max(params.ef_search or self._ef, k), "exact": params.exact}
        unknown = set(params.native) - {"hnsw_ef", "exact", "indexed_only"}
        if unknown:
            raise UnsupportedOperation(
                f"qdrant has no search parameter {', '.join(sorted(unknown))}; it has exact, hnsw_ef, indexed_only"
            )
        if self._engine.local:
            return None  # the imitation searches exhaustively whatever it is told, and warns
        return self._models.SearchParams(**{**sent, **params.native})

    def _ask(self, queries: Vectors, options: dict[str, Any]) -> list[list[Any]]:
        answers: list[list[Any]] = []
        for start in range(0, len(queries), 100):
            requests = [self._models.QueryRequest(query=q, **options) for q in queries[start : start + 100].tolist()]
            answers += [r.points for r in self._client.query_batch_points(self._name, requests)]
        return answers

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        options = {
            "limit": k,
            "filter": self._filter(where),
            "params": self._search_params(params, k),
            "with_payload": selector(include, self.spec.metric),
            "with_vector": "vectors" in include,
        }
        answers = self._ask(queries, options)
        short = [i for i, points in enumerate(answers) if len(points) < k]
        if short and self._ef is not None and not params.exact and not self._engine.local:
            # A filter can cut the graph into pieces, and the walk ends with the piece it is in: look everywhere.
            options["params"] = self._models.SearchParams(exact=True)
            for i, points in zip(short, self._ask(queries[short], options), strict=True):
                answers[i] = points
        raw = [np.array([p.score for p in points]) for points in answers]
        metric = self.spec.metric
        return SearchResult(
            [[p.payload["id"] for p in points] for points in answers],
            [from_similarity(s) if metric is Metric.COSINE else -s if metric is Metric.DOT else s for s in raw],
            metric,
            raw=list(raw),
            records=[self._columns(points, include) for points in answers] if include else None,
        )

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        filtered, offset = self._filter(where), None
        while True:
            points, offset = self._client.scroll(
                self._name,
                scroll_filter=filtered,
                limit=batch_size,
                offset=offset,
                with_payload=selector(include, self.spec.metric),
                with_vectors="vectors" in include,
            )
            if points:
                yield self._columns(points, include)
            if offset is None:
                return

    def _flush(self, timeout: float) -> None:
        self._client.get_collection(self._name)  # writes waited already; a dropped collection is told

    def _optimize(self, timeout: float) -> None:
        """Poll until the server's optimizer rests: green means that nothing is left to build."""
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while str(self._client.get_collection(self._name).status) != "green":
            if time.monotonic() > deadline:
                raise StoreTimeout(f"qdrant: {self.spec.name!r} was not optimized within {timeout} s")
            pause.wait(0.1)

    def _describe(self) -> dict[str, Any]:
        info = self._client.get_collection(self._name)
        config = info.config.model_dump(mode="json", include={"hnsw_config", "optimizer_config"})
        index = {"kind": "flat"} if self._engine.local else {"kind": self.spec.index.kind, **config}
        words = words_of(info.payload_schema)
        return {
            "native_name": self._name,
            "index": index,
            "rows": info.points_count,
            "indexed_rows": info.points_count if self._engine.local else info.indexed_vectors_count,
            "segments": info.segments_count,
            "status": str(info.status),
            **({"words": words} if words else {}),
        }


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
