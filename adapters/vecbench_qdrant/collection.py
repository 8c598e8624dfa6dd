"""A Qdrant collection over an engine: the contract's verbs in terms of a few engine calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.distance import from_similarity
from vecbench.errors import UnsupportedOperation
from vecbench.filters import Filter
from vecbench.index import HNSW, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.store import Collection, VectorStore
from vecbench.types import Include, Metric, Records, SearchResult, Vectors
from vecbench_qdrant.filters import Dialect, compile_filter
from vecbench_qdrant.payload import point_id, to_payload, to_records

__all__ = ["Engine", "QdrantCollection"]


class Engine(ABC):
    """What differs between the embedded engine and a client; `where` is native, or None for all."""

    dialect: Dialect

    @abstractmethod
    def write(self, ids: list[str], vectors: Vectors, payloads: list[dict[str, Any]]) -> None:
        """Upsert points."""

    @abstractmethod
    def retrieve(self, ids: list[str], *, payload: list[str], vector: bool) -> list[Any]:
        """The points that are there."""

    @abstractmethod
    def delete_ids(self, ids: list[str]) -> None:
        """Delete by point id."""

    @abstractmethod
    def delete_where(self, where: Any) -> None:
        """Delete by filter."""

    @abstractmethod
    def count(self, where: Any) -> int:
        """The exact number."""

    @abstractmethod
    def search(
        self, queries: Vectors, k: int, where: Any, *, ef: int | None, payload: list[str], vector: bool
    ) -> list[list[Any]]:
        """Scored points of each query; ef None asks for the exact answer."""

    @abstractmethod
    def scroll(self, where: Any, limit: int, offset: Any, *, payload: list[str], vector: bool) -> tuple[list[Any], Any]:
        """One page of points, and where the next begins."""

    @abstractmethod
    def flush(self, timeout: float) -> None:
        """Make writes visible and durable."""

    @abstractmethod
    def optimize(self, timeout: float) -> None:
        """Build the graph."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What is in force."""

    @property
    @abstractmethod
    def handle(self) -> Any:
        """The vendor's own object."""


def _columns(include: tuple[Include, ...]) -> list[str]:
    wanted = ["id"]
    if "metadata" in include:
        wanted.append("m")
    if "documents" in include:
        wanted.append("d")
    if "vectors" in include:
        wanted.append("n")
    return wanted


class QdrantCollection(Collection):
    """Points with string ids mapped to UUIDs and restored."""

    def __init__(self, store: VectorStore, spec: CollectionSpec, engine: Engine) -> None:
        super().__init__(store, spec)
        self.engine = engine

    @property
    def native(self) -> Any:
        """The shard of the embedded engine, or the client."""
        return self.engine.handle

    def _native(self, where: Filter | None) -> Any:
        """None for all records, False for none, else the native filter."""
        if where is None:
            return None
        compiled = compile_filter(where, self.engine.dialect)
        return None if compiled is True else compiled

    def _upsert(self, records: Records) -> None:
        if not len(records):
            return
        vectors = records.vectors
        assert vectors is not None  # noqa: S101  checked by the base class; tells the type checker
        # Under cosine Qdrant keeps unit vectors only, so the length goes along.
        lengths: list[float | None] = [None] * len(records)
        if self.spec.metric is Metric.COSINE:
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1).tolist()
        payloads = [
            to_payload(
                id_,
                None if records.metadata is None else records.metadata[i],
                None if records.documents is None else records.documents[i],
                lengths[i],
            )
            for i, id_ in enumerate(records.ids)
        ]
        self.engine.write([point_id(i) for i in records.ids], vectors, payloads)

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        points = self.engine.retrieve(
            [point_id(i) for i in ids], payload=_columns(include), vector="vectors" in include
        )
        return to_records(points, include, self.spec.dim)

    def _delete_ids(self, ids: list[str]) -> None:
        self.engine.delete_ids([point_id(i) for i in ids])

    def _delete_where(self, where: Filter) -> None:
        native = self._native(where)
        if native is not False:
            self.engine.delete_where(native)

    def _count(self, where: Filter | None) -> int:
        native = self._native(where)
        return 0 if native is False else self.engine.count(native)

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        if params.native:
            raise UnsupportedOperation(f"qdrant: no native search parameters here, got {sorted(params.native)}")
        native = self._native(where)
        index = self.spec.index
        ef = (params.ef_search or index.ef_search) if isinstance(index, HNSW) else None
        answers: list[list[Any]] = [[] for _ in queries]
        if native is not False and len(queries):
            answers = self._ask(queries, k, native, None if ef is None or params.exact else max(ef, k), include)
        result = SearchResult([], [], self.spec.metric, raw=[], records=[] if include else None)
        for points in answers:
            raw: npt.NDArray[np.float32] = np.array([p.score for p in points], np.float32)
            result.ids.append([p.payload["id"] for p in points])
            result.raw.append(raw)  # type: ignore[union-attr]  # made as a list above
            if self.spec.metric is Metric.EUCLIDEAN:
                result.distances.append(raw)
            else:
                result.distances.append(from_similarity(raw) if self.spec.metric is Metric.COSINE else -raw)
            if result.records is not None:
                result.records.append(to_records(points, include, self.spec.dim))
        return result

    def _ask(
        self, queries: Vectors, k: int, native: Any, ef: int | None, include: tuple[Include, ...]
    ) -> list[list[Any]]:
        payload, vector = _columns(include), "vectors" in include
        answers = self.engine.search(queries, k, native, ef=ef, payload=payload, vector=vector)
        if ef is not None and any(len(points) < k for points in answers):
            # A filter on a field without a payload index can cut the graph apart: k matches exist, fewer are reached.
            reachable = min(k, self.engine.count(native))
            short = [i for i, points in enumerate(answers) if len(points) < reachable]
            if short:
                again = self.engine.search(queries[short], k, native, ef=None, payload=payload, vector=vector)
                for i, points in zip(short, again, strict=True):
                    answers[i] = points
        return answers

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        native = self._native(where)
        offset, more = None, native is not False
        while more:
            points, offset = self.engine.scroll(
                native, batch_size, offset, payload=_columns(include), vector="vectors" in include
            )
            if points:
                yield to_records(points, include, self.spec.dim)
            more = offset is not None

    def _flush(self, timeout: float) -> None:
        self.engine.flush(timeout)

    def _optimize(self, timeout: float) -> None:
        self.engine.optimize(timeout)

    def _describe(self) -> dict[str, Any]:
        return self.engine.describe()
