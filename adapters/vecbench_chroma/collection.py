"""One collection of Chroma, through whichever client its connection has."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from vecbench.collection import Collection
from vecbench.distance import from_squared, paired_distances
from vecbench.errors import CollectionNotFound, StoreRejected, UnsupportedOperation
from vecbench.filters import Filter
from vecbench.index import HNSW, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore
from vecbench.types import Distances, Include, Metric, Records, SearchResult, Vectors
from vecbench_chroma.connection import Connection
from vecbench_chroma.filters import where_clause
from vecbench_chroma.records import check_size, columns, encode, native_include, tokens_key

__all__ = ["SPEC_KEY", "ChromaCollection", "Common"]

SPEC_KEY = "vecbench"
_READ_ROWS = 2_000  # records of one answer: vectors come back as Python floats
_QUERY_FLOATS = 500_000  # of one request: about 10 MB of JSON, where a server takes 40
_COLUMNS = ("embeddings", "metadatas", "documents")


@dataclass(slots=True)
class _Answer:
    """One query's; raw: Chroma's own numbers."""

    ids: list[str]
    raw: npt.NDArray[np.float64]
    records: Records = field(default_factory=lambda: Records([]))

    def take(self, fetched: Records) -> None:
        """Put these columns beside the ids, in their order; an id deleted meanwhile goes."""
        at = {id_: row for row, id_ in enumerate(fetched.ids)}
        there = [i for i, id_ in enumerate(self.ids) if id_ in at]
        self.ids, self.raw = [self.ids[i] for i in there], self.raw[there]
        self.records = fetched.take([at[id_] for id_ in self.ids])


class Common:
    """What all handles of one collection in a store share.

    writing: held by a write, because it reads first, and no other may come between.
    """

    def __init__(self) -> None:
        self.writing = threading.Lock()
        self._handles: WeakSet[ChromaCollection] = WeakSet()
        self._lock = threading.Lock()

    def add(self, handle: ChromaCollection) -> None:
        """One more."""
        with self._lock:
            self._handles.add(handle)

    def respecify(self, spec: CollectionSpec) -> None:
        """Another handle changed the collection."""
        with self._lock:
            for handle in self._handles:
                handle.spec, handle._checked_params = spec, None


class ChromaCollection(Collection):
    """Writes are indexed before they return."""

    def __init__(
        self, store: VectorStore, spec: CollectionSpec, connection: Connection, native: Any, common: Common
    ) -> None:
        super().__init__(store, spec)
        self._connection, self._native, self._generation = connection, native, connection.generation
        self._tokens_key, self._common = tokens_key(native), common
        common.add(self)

    @property
    def native(self) -> Any:
        """Chroma's own `Collection`; another one after `reconfigure`."""
        with self._connection.use() as client:
            return self._live(client)

    def _live(self, client: Any) -> Any:
        """The native collection on the client of now."""
        if self._generation != self._connection.generation:
            self._native, self._generation = self._fresh(client), self._connection.generation
        return self._native

    def _fresh(self, client: Any) -> Any:
        """The native collection as it is stored now, provided that it is still the one that was opened."""
        found = client.get_collection(self._native.name, embedding_function=None)
        if found.id != self._native.id:
            raise CollectionNotFound(f"chroma: collection {self.spec.name!r} was dropped and made anew")
        return found

    def _parts(self, records: Records) -> Iterator[Records]:
        check_size(records, self.store.capabilities.max_batch or len(records))
        return super()._parts(records)

    def _record_bytes(self, records: Records, row: int) -> int:
        return super()._record_bytes(records, row) - 8 * self.spec.dim  # the client sends base64: 6 characters a float

    def _upsert(self, records: Records) -> None:
        ids = list(records.ids)
        with self._connection.use() as client, self._common.writing:
            native = self._live(client)
            held = native.get(ids=ids, include=["metadatas"])
            metadatas, documents = encode(
                records, dict(zip(held["ids"], held["metadatas"], strict=True)), self._tokens_key
            )
            native.upsert(ids=ids, embeddings=records.vectors, metadatas=metadatas, documents=documents)

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        with self._connection.use() as client:
            return self._fetch(self._live(client), ids, include)

    def _fetch(self, native: Any, ids: list[str], include: tuple[Include, ...]) -> Records:
        parts = []
        for start in range(0, len(ids), _READ_ROWS):
            found = native.get(ids=ids[start : start + _READ_ROWS], include=native_include(include))
            parts.append(columns(found["ids"], found, include, self.spec.dim))
        if len(parts) == 1:
            return parts[0]
        return Records(
            [id_ for part in parts for id_ in part.ids],
            np.concatenate([p.vectors for p in parts if p.vectors is not None]) if "vectors" in include else None,
            [m for p in parts for m in p.metadata or ()] if "metadata" in include else None,
            [d for p in parts for d in p.documents or ()] if "documents" in include else None,
        )

    def _delete_ids(self, ids: list[str]) -> None:
        with self._connection.use() as client:
            native = self._live(client)
            for start in range(0, len(ids), _READ_ROWS):
                native.delete(ids=ids[start : start + _READ_ROWS])

    def _delete_where(self, where: Filter) -> None:
        with self._connection.use() as client:
            self._live(client).delete(where=where_clause(where, self._tokens_key))

    def _count(self, where: Filter | None) -> int:
        with self._connection.use() as client:
            native = self._live(client)
            if where is None:
                return int(native.count())
            return len(native.get(where=where_clause(where, self._tokens_key), include=[])["ids"])

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        if params.native:
            raise UnsupportedOperation(f"chroma has no search parameters, got {', '.join(sorted(params.native))}")
        clause, dim = where_clause(where, self._tokens_key), self.spec.dim
        answers: list[_Answer] = []
        wanted = ["distances", *native_include(include)]
        step = max(1, _QUERY_FLOATS // dim)
        with self._connection.use() as client:
            native = self._live(client)
            for start in range(0, len(queries), step):
                found = native.query(
                    query_embeddings=queries[start : start + step], n_results=k, where=clause, include=wanted
                )
                for i, (ids, scores) in enumerate(zip(found["ids"], found["distances"], strict=True)):
                    answer = _Answer(ids, np.array(scores, np.float64))
                    if include:
                        held = {name: found[name] and found[name][i] for name in _COLUMNS}
                        answer.records = columns(ids, held, include, dim)
                    answers.append(answer)
            if any(len(answer.ids) < k for answer in answers):
                for answer in self._complete(native, queries, k, clause, answers):
                    if include:
                        answer.take(self._fetch(native, answer.ids, include))
        return SearchResult(
            [answer.ids for answer in answers],
            [self._distances(answer.raw) for answer in answers],
            self.spec.metric,
            raw=[answer.raw for answer in answers],
            records=[answer.records for answer in answers] if include else None,
        )

    def _complete(
        self, native: Any, queries: Vectors, k: int, clause: dict[str, Any] | None, answers: list[_Answer]
    ) -> list[_Answer]:
        """Add what the graph has lost to answers that came back short; those that were changed.

        A short answer is all that a walk from the entry point can reach, so the rest is measured here.
        """
        matching = len(native.get(where=clause, limit=k, include=[])["ids"])
        short = [(query, a) for query, a in zip(queries, answers, strict=True) if len(a.ids) < matching]
        if not short:
            return []
        reached = set.intersection(*(set(a.ids) for _, a in short))
        every = native.get(where=clause, include=[])["ids"]
        lost = self._fetch(native, [i for i in every if i not in reached], ("vectors",))
        assert lost.vectors is not None  # noqa: S101  asked for; tells the type checker
        for query, answer in short:
            known = set(answer.ids)
            rows = [row for row, id_ in enumerate(lost.ids) if id_ not in known]
            vectors = lost.vectors[rows]
            distances = paired_distances(np.broadcast_to(query, vectors.shape), vectors, self.spec.metric)
            names = [*answer.ids, *(lost.ids[row] for row in rows)]
            scores = np.concatenate([answer.raw, self._scores(distances)])
            nearest = np.argsort(scores, kind="stable")[:k]
            answer.ids, answer.raw = [names[j] for j in nearest], scores[nearest]
        return [answer for _, answer in short]

    def _distances(self, raw: npt.NDArray[np.float64]) -> Distances:
        """From Chroma's numbers: squared, 1 − cos, 1 − dot."""
        if self.spec.metric is Metric.EUCLIDEAN:
            return from_squared(raw)
        return raw if self.spec.metric is Metric.COSINE else raw - 1

    def _scores(self, distances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Back to Chroma's numbers."""
        if self.spec.metric is Metric.EUCLIDEAN:
            return np.square(distances)
        return distances if self.spec.metric is Metric.COSINE else distances + 1

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        """The ids first, all of them: pages by offset would skip records when others are deleted meanwhile."""
        with self._connection.use() as client:
            ids = self._live(client).get(where=where_clause(where, self._tokens_key), include=[])["ids"]
        for start in range(0, len(ids), batch_size):
            batch = self._get(ids[start : start + batch_size], include)
            if len(batch):
                yield batch

    def _flush(self, timeout: float) -> None:
        with self._connection.use() as client:
            self._live(client).count()  # writes were visible when they returned; a dropped collection is told

    def _optimize(self, timeout: float) -> None:
        self._flush(timeout)  # writes were indexed when they returned

    def _reconfigure(self, spec: CollectionSpec) -> None:
        assert isinstance(spec.index, HNSW)  # noqa: S101  the only index there is; tells the type checker
        with self._connection.use() as client, self._common.writing:
            native = self._fresh(client)  # the embedded engine panics over a collection that is gone
            with warnings.catch_warnings():
                # Chroma warns of its own record that a collection has no embedding function.
                warnings.simplefilter("ignore", DeprecationWarning)
                native.modify(
                    metadata={SPEC_KEY: spec.to_json()}, configuration={"hnsw": {"ef_search": spec.index.ef_search}}
                )
        self._connection.reopen()
        if not self._connection.sole:
            raise StoreRejected(
                "chroma: ef_search is stored, but another chromadb client of this process keeps the index open with "
                "the old one; close that client and reconfigure again"
            )
        self._common.respecify(spec)

    def _describe(self) -> dict[str, Any]:
        with self._connection.use() as client:
            native = self._fresh(client)
            rows = int(native.count())
        told: dict[str, Any] = {
            "native_name": native.name,
            "index": {"kind": "hnsw", **native.configuration_json["hnsw"]},
            "rows": rows,
            "indexed_rows": rows,
        }
        if self._connection.folder is not None:
            told["directory_bytes"] = self._connection.folder.disk_bytes
        return told
