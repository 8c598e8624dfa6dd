"""A collection of a Weaviate server: reading and writing over gRPC, its schema over REST."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vecbench.distance import from_squared
from vecbench.errors import CollectionNotFound, PartialWriteError, StoreRejected, StoreTimeout, UnsupportedOperation
from vecbench.filters import Filter, matches
from vecbench.index import HNSW, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.store import import_client
from vecbench.typed import all_keys, dump_metadata, load_metadata, numbers, tokens, translate
from vecbench.types import INCLUDE_ALL, Include, Metric, Records, SearchResult, Vectors
from vecbench_weaviate.faults import grpc_codes
from vecbench_weaviate.filters import EVERY, SLICES, TOKENS, WeaviateDialect, property_name, slice_token
from vecbench_weaviate.words import DOC, ID, LANGUAGE, WordCollection
from vecbench_weaviate.words import MOST as _MOST

if TYPE_CHECKING:
    from vecbench_weaviate.store import WeaviateStore

__all__ = ["PROPERTIES", "WeaviateCollection"]

META = "meta"
PROPERTIES = ((ID, "text", False), (META, "text", False), (DOC, "text", False), (TOKENS, "text[]", True))
"""What every collection has: name, type, whether filters test it."""

_COLUMNS: dict[Include, str] = {"metadata": META, "documents": DOC}
_NAMESPACE = uuid.UUID("0c6a3d0e-5b0a-5d4c-9a51-2f6d7b1c9e84")
_PAGE = 500  # records in one answer
_TOO_LARGE = "RESOURCE_EXHAUSTED"  # the status of an answer beyond the limit of a gRPC message


class WeaviateCollection(WordCollection):
    """One class of the server. Its spec is the class's description."""

    def __init__(self, store: WeaviateStore, spec: CollectionSpec, handle: Any, config: Any) -> None:
        super().__init__(store, spec)
        self._server, self._handle = store, handle
        self._query: Any = import_client("weaviate.classes.query", store="weaviate", extra="weaviate")
        self._object: Any = import_client("weaviate.classes.data", store="weaviate", extra="weaviate").DataObject
        self._dialect = WeaviateDialect(self._query.Filter, self._has_property)
        self._distance = self._query.MetadataQuery(distance=True)
        self._schema_lock = threading.Lock()
        self._properties = _names(config)
        self._note_words(config)
        index = config.vector_config["default"].vector_index_config
        self._quantised = index.quantizer is not None
        self._cutoff: int | None = getattr(index, "flat_search_cutoff", None)

    @property
    def native(self) -> Any:
        """The client's collection."""
        return self._handle

    # Writing ----------------------------------------------------------------------------------------------------------

    def _record_bytes(self, records: Records, row: int) -> int:
        size = 4 * self.spec.dim + 400
        if records.documents is not None:
            size += 4 * len(records.documents[row] or "")
        if records.metadata is not None:
            size += sum(18 * (len(key) + len(str(value))) + 300 for key, value in records.metadata[row].items())
        return size

    def _upsert(self, records: Records) -> None:
        assert records.vectors is not None  # noqa: S101  checked by the base class; tells the type checker
        rows = records.metadata or [{}] * len(records)
        texts = records.documents or [None] * len(records)
        self._declare(all_keys(rows))
        objects = []
        for id_, metadata, text, vector in zip(records.ids, rows, texts, records.vectors.tolist(), strict=True):
            key = _uuid(id_)
            properties: dict[str, Any] = {ID: id_, TOKENS: [EVERY, slice_token(key.bytes[0]), *tokens(metadata)]}
            if metadata:
                properties[META] = dump_metadata(metadata)
                properties |= {property_name(name): number for name, number in numbers(metadata).items()}
            if text is not None:
                properties[DOC] = text
            objects.append(self._object(properties=properties, uuid=key, vector=vector))
        result = self._handle.data.insert_many(objects)
        if result.has_errors:
            reason = self._server.masked(str(next(iter(result.errors.values())).message))
            raise PartialWriteError(
                f"weaviate refused {len(result.errors)} of {len(objects)} records: {reason}",
                accepted=[id_ for i, id_ in enumerate(records.ids) if i not in result.errors],
                failed=[id_ for i, id_ in enumerate(records.ids) if i in result.errors],
            )

    def _declare(self, keys: Iterable[str]) -> None:
        """Give the class the number properties that it lacks."""
        wanted = {property_name(key) for key in keys}
        if wanted <= self._properties:
            return
        c = self._server.config
        with self._schema_lock:
            for name in sorted(wanted - self._properties):
                try:
                    self._handle.config.add_property(
                        c.Property(
                            name=name,
                            data_type=c.DataType.NUMBER,
                            index_filterable=False,
                            index_searchable=False,
                            index_range_filters=True,
                        )
                    )
                except Exception:
                    if not self._has_property(name):  # else somebody else was first
                        raise
                self._properties |= {name}

    def _has_property(self, name: str) -> bool:
        if name not in self._properties:
            self._properties = _names(self._handle.config.get())
        return name in self._properties

    def _delete_ids(self, ids: list[str]) -> None:
        for start in range(0, len(ids), _PAGE):
            chosen = [_uuid(id_) for id_ in ids[start : start + _PAGE]]
            self._delete(self._query.Filter.by_id().contains_any(chosen))

    def _delete_where(self, where: Filter) -> None:
        self._delete(translate(where, self._dialect))

    def _delete(self, condition: Any) -> None:
        """One request deletes up to QUERY_MAXIMUM_RESULTS records."""
        while True:
            done = self._handle.data.delete_many(where=condition)
            if done.failed:
                raise StoreRejected(f"weaviate could not delete {done.failed} of {done.matches} matching records")
            if not done.successful:
                return

    # Reading ----------------------------------------------------------------------------------------------------------

    def _wanted(self, include: Sequence[Include]) -> dict[str, Any]:
        return {
            "include_vector": "vectors" in include,
            "return_properties": [ID, *(_COLUMNS[i] for i in include if i in _COLUMNS)],
        }

    def _columns(self, objects: Sequence[Any], include: Sequence[Include]) -> Records:
        vectors: Vectors | None = None
        if "vectors" in include:
            vectors = np.array([o.vector["default"] for o in objects], np.float32).reshape(len(objects), self.spec.dim)
        return Records(
            [o.properties[ID] for o in objects],
            vectors,
            [load_metadata(o.properties.get(META)) for o in objects] if "metadata" in include else None,
            [o.properties.get(DOC) for o in objects] if "documents" in include else None,
        )

    def _fetch(self, uuids: Sequence[uuid.UUID], include: Sequence[Include]) -> list[Any]:
        condition = self._query.Filter.by_id().contains_any(list(uuids))
        try:
            found = self._handle.query.fetch_objects(filters=condition, limit=len(uuids), **self._wanted(include))
        except Exception as e:
            half = len(uuids) // 2
            if not half or _TOO_LARGE not in grpc_codes(e):
                raise
            return self._fetch(uuids[:half], include) + self._fetch(uuids[half:], include)
        return list(found.objects)

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        objects: list[Any] = []
        for start in range(0, len(ids), _PAGE):
            objects += self._fetch([_uuid(id_) for id_ in ids[start : start + _PAGE]], include)
        return self._columns(objects, include)

    def _count(self, where: Filter | None) -> int:
        return self._number(None if where is None else translate(where, self._dialect))

    def _number(self, condition: Any) -> int:
        return int(self._handle.aggregate.over_all(filters=condition, total_count=True).total_count)

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        if params.native:
            raise UnsupportedOperation(
                f"weaviate has no search parameter {', '.join(sorted(params.native))}; it takes none with a query"
            )
        condition = None if where is None else translate(where, self._dialect)
        parts = self._exactly(condition) if params.exact else [condition]
        answers = self._ask(queries, k, parts, include)
        short = [i for i, objects in enumerate(answers) if len(objects) < k]
        if short and self._cutoff is not None and not params.exact:
            # Fewer records, or a part of the graph that no path leads to: have them all compared.
            parts = self._split(condition)
            if len(parts) > 1 or (parts and condition is None):  # one filter alone has been answered like that
                for i, objects in zip(short, self._ask(queries[short], k, parts, include), strict=True):
                    answers[i] = objects
        raw = [np.array([o.metadata.distance for o in objects], np.float64) for objects in answers]
        euclidean = self.spec.metric is Metric.EUCLIDEAN
        return SearchResult(
            [[o.properties[ID] for o in objects] for objects in answers],
            [from_squared(r) for r in raw] if euclidean else list(raw),
            self.spec.metric,
            raw=list(raw),
            records=[self._columns(objects, include) for objects in answers] if include else None,
        )

    def _ask(self, queries: Vectors, k: int, parts: Sequence[Any], include: Sequence[Include]) -> list[list[Any]]:
        """The nearest of each query over all parts, whose conditions exclude each other."""
        wanted = self._wanted(include)

        def answer(query: list[float]) -> list[Any]:
            found: list[Any] = []
            for part in parts:
                found += self._handle.query.near_vector(
                    near_vector=query, limit=k, filters=part, return_metadata=self._distance, **wanted
                ).objects
            return sorted(found, key=lambda o: float(o.metadata.distance))[:k] if len(parts) > 1 else found

        rows = queries.tolist()
        return [answer(rows[0])] if len(rows) == 1 else list(self._server.pool.map(answer, rows))

    def _exactly(self, condition: Any) -> list[Any]:
        """Conditions under which a search compares with every match."""
        if self._quantised:
            raise UnsupportedOperation("weaviate compares quantised vectors; it has no exact search beside them")
        parts = [condition] if self._cutoff is None else self._split(condition)
        if not parts:
            raise UnsupportedOperation(
                f"weaviate searches exactly among fewer than flat_search_cutoff ({self._cutoff}) records; here even "
                f"one of {SLICES} slices has more. Create the collection with a greater one, or with a Flat index"
            )
        return parts

    def _split(self, condition: Any) -> list[Any]:
        """The condition in parts that pass fewer records than the cutoff, so that each leaves the graph aside."""
        parts = 1
        while parts <= SLICES:
            each = SLICES // parts
            slices = [[slice_token(n) for n in range(first, first + each)] for first in range(0, SLICES, each)]
            own = [self._dialect.any_token([EVERY] if parts == 1 else tokens_) for tokens_ in slices]
            out = own if condition is None else [self._dialect.all_of([one, condition]) for one in own]
            if all(self._number(one) < (self._cutoff or 0) for one in out):
                return out
            parts *= 2
        return []

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        if where is not None:
            condition = translate(where, self._dialect)
            listed = self._handle.query.fetch_objects(filters=condition, limit=_MOST, return_properties=[]).objects
            if len(listed) < _MOST:
                for start in range(0, len(listed), batch_size):
                    found = self._fetch([o.uuid for o in listed[start : start + batch_size]], include)
                    if found:
                        yield self._columns(found, include)
                return
        yield from self._scan_all(where, batch_size, include)

    def _scan_all(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        """By the cursor, which knows no filter: more matches than one answer holds are told by their metadata."""
        after: uuid.UUID | None = None
        wanted = self._wanted(INCLUDE_ALL if where is not None else include)
        limit = min(batch_size, _PAGE)
        while True:
            try:
                page = self._handle.query.fetch_objects(limit=limit, after=after, **wanted).objects
            except Exception as e:
                if limit == 1 or _TOO_LARGE not in grpc_codes(e):
                    raise
                limit //= 2
                continue
            if not page:
                return
            after = page[-1].uuid
            if where is not None:
                page = [o for o in page if matches(where, load_metadata(o.properties.get(META)))]
            if page:
                yield self._columns(page, include)

    # Looking after it -------------------------------------------------------------------------------------------------

    def _flush(self, timeout: float) -> None:
        """Writes are visible when they are accepted, unless the server indexes behind (ASYNC_INDEXING)."""
        self._await_index(timeout)

    def _optimize(self, timeout: float) -> None:
        self._await_index(timeout)

    def _queued(self) -> int:
        """Vectors that wait to be indexed."""
        nodes = self._server.client.cluster.nodes(collection=self._handle.name, output="verbose")
        shards = [shard for node in nodes for shard in node.shards or []]
        if not shards:
            raise CollectionNotFound(f"weaviate has no collection {self.spec.name!r} any more")
        return sum(shard.vector_queue_length for shard in shards)

    def _await_index(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while (queued := self._queued()) > 0:
            if time.monotonic() > deadline:
                raise StoreTimeout(
                    f"weaviate: {queued} vectors of {self.spec.name!r} wait for the index after {timeout} s"
                )
            pause.wait(0.05)

    def _describe(self) -> dict[str, Any]:
        config = self._handle.config.get().vector_config["default"]
        index = dict(config.to_dict()["vectorIndexConfig"])
        rows, quantizer = self._count(None), config.vector_index_config.quantizer
        told: dict[str, Any] = {
            "native_name": self._handle.name,
            "index": {"kind": config.vector_index_config.vector_index_type(), **index},
            "rows": rows,
            "indexed_rows": max(0, rows - self._queued()),
        }
        told["index"]["quantizer"] = "none" if quantizer is None else _short(quantizer)
        if self._words_are_there():
            told["words"] = LANGUAGE
        service = self._server.service
        if service is not None:
            told["disk_bytes"] = _size(service.folder / "data" / self._handle.name.lower())
        return told

    def _reconfigure(self, spec: CollectionSpec) -> None:
        """One request changes the graph's ef and the spec."""
        assert isinstance(spec.index, HNSW)  # noqa: S101  the base class asks of no other; tells the type checker
        if "ef" in spec.index.native:
            raise UnsupportedOperation("this collection was created with a native ef, which would stay in its spec")
        r, ef = self._server.config.Reconfigure, spec.index.ef_search
        self._handle.config.update(
            description=spec.to_json(),
            vector_config=r.Vectors.update(vector_index_config=r.VectorIndex.hnsw(ef=ef)),
        )


def _names(config: Any) -> frozenset[str]:
    return frozenset(p.name for p in config.properties)


def _uuid(id_: str) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, id_)


def _short(quantizer: Any) -> str:
    return type(quantizer).__name__.strip("_").removesuffix("Config").lower()


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # segments are merged meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total
