"""Two stores that need no engine: `MemoryStore`, exact and obvious, the oracle; `NullStore`, the zero of the ruler."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

import vecbench
from vecbench.capabilities import Capabilities, StoreInfo, Tolerance
from vecbench.collection import Collection
from vecbench.distance import exact_distances
from vecbench.errors import CollectionNotFound, ConfigError, UnsupportedIndex, UnsupportedOperation
from vecbench.filters import OPERATORS, Filter, matches
from vecbench.index import SearchParams
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore
from vecbench.types import Include, Metadata, Metric, Records, SearchResult, Vectors

__all__ = ["MemoryStore", "NullStore"]


class MemoryStore(VectorStore):
    """Exact search in float64 over a dictionary of records: what every other store is held against."""

    name = "memory"
    capabilities = Capabilities(
        metrics=frozenset(Metric),
        indexes=frozenset({"flat", "hnsw", "ivf_flat"}),
        filters=OPERATORS,
        ef_search="query",
        nprobe="query",
        exact_search=True,
        preserves_vectors=True,
        tolerance=Tolerance(absolute=1e-12, relative=1e-12),
    )

    def __init__(self) -> None:
        self._collections: dict[str, MemoryCollection] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """A fresh, empty store; it takes no option."""
        _no_options(cls.name, url=url, path=path, mode=mode, **options)
        return cls()

    @property
    def info(self) -> StoreInfo:
        """The label says that nothing of it is an engine."""
        return StoreInfo(
            name=self.name,
            label="memory (exact)",
            deployment="embedded",
            engine="vecbench",
            engine_version=vecbench.__version__,
            client="vecbench",
            client_version=vecbench.__version__,
        )

    def _create(self, spec: CollectionSpec) -> Collection:
        if spec.index.native:
            raise UnsupportedIndex(f"{self.name} has no native index parameters, got {sorted(spec.index.native)}")
        with self._lock:
            self._collections[spec.name] = made = MemoryCollection(self, spec)
        return made

    def _open_collection(self, name: str) -> Collection:
        try:
            return self._collections[name]
        except KeyError:
            raise CollectionNotFound(f"{self.name} has no collection {name!r}") from None

    def _list(self) -> list[str]:
        return list(self._collections)

    def _drop(self, name: str) -> None:
        with self._lock:
            dropped = self._collections.pop(name, None)
        if dropped is None:
            raise CollectionNotFound(f"{self.name} has no collection {name!r}")
        dropped.dropped = True


class MemoryCollection(Collection):
    """Rows in a dictionary by id."""

    def __init__(self, store: VectorStore, spec: CollectionSpec) -> None:
        super().__init__(store, spec)
        self._rows: dict[str, tuple[Vectors, Metadata, str | None]] = {}
        self._lock = threading.Lock()
        self.dropped = False

    def _require(self) -> None:
        if self.dropped:
            raise CollectionNotFound(f"{self.store.name}: collection {self.spec.name!r} was dropped")

    def _upsert(self, records: Records) -> None:
        self._require()
        assert records.vectors is not None  # noqa: S101  checked by the base class; tells the type checker
        vectors = records.vectors.copy()
        with self._lock:
            for i, id_ in enumerate(records.ids):
                metadata = {} if records.metadata is None else _copy(records.metadata[i])
                self._rows[id_] = (vectors[i], metadata, None if records.documents is None else records.documents[i])

    def _select(self, where: Filter | None) -> list[str]:
        self._require()
        with self._lock:
            return [i for i, row in self._rows.items() if where is None or matches(where, row[1])]

    def _columns(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        rows = [self._rows[i] for i in ids]
        return Records(
            ids,
            _stack(rows, self.spec.dim) if "vectors" in include else None,
            [_copy(row[1]) for row in rows] if "metadata" in include else None,
            [row[2] for row in rows] if "documents" in include else None,
        )

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        self._require()
        with self._lock:
            return self._columns([i for i in ids if i in self._rows], include)

    def _delete_ids(self, ids: list[str]) -> None:
        self._require()
        with self._lock:
            for id_ in ids:
                self._rows.pop(id_, None)

    def _delete_where(self, where: Filter) -> None:
        self._delete_ids(self._select(where))

    def _count(self, where: Filter | None) -> int:
        return len(self._select(where))

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        if params.native:
            raise UnsupportedOperation(f"{self.store.name} has no native search parameters: {sorted(params.native)}")
        ids = self._select(where)
        with self._lock:
            ids = [i for i in ids if i in self._rows]
            distances = exact_distances(queries, _stack([self._rows[i] for i in ids], self.spec.dim), self.spec.metric)
            result = SearchResult([], [], self.spec.metric, records=[] if include else None)
            for row in distances:
                order = sorted(range(len(ids)), key=lambda i, row=row: (row[i], ids[i]))[:k]  # type: ignore[misc]
                result.ids.append([ids[i] for i in order])
                result.distances.append(row[order])
                if result.records is not None:
                    result.records.append(self._columns(result.ids[-1], include))
        return result

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        ids = self._select(where)
        for start in range(0, len(ids), batch_size):
            yield self._get(ids[start : start + batch_size], include)

    def _flush(self, timeout: float) -> None:
        self._require()

    def _optimize(self, timeout: float) -> None:
        self._require()

    def _describe(self) -> dict[str, Any]:
        return {"index": {"kind": "flat"}, "indexed_rows": len(self._rows)}


class NullStore(MemoryStore):
    """Does nothing and answers at once: what the harness and the contract themselves cost, on the same path."""

    name = "null"
    capabilities = Capabilities(
        metrics=frozenset(Metric),
        indexes=frozenset({"flat", "hnsw", "ivf_flat"}),
        filters=OPERATORS,
        ef_search="query",
        nprobe="query",
        exact_search=True,
    )

    @property
    def info(self) -> StoreInfo:
        """The label of the ruler's zero."""
        return StoreInfo(
            name=self.name,
            label="null (harness only)",
            deployment="embedded",
            engine="none",
            engine_version=vecbench.__version__,
            client="vecbench",
            client_version=vecbench.__version__,
        )

    def _create(self, spec: CollectionSpec) -> Collection:
        with self._lock:
            self._collections[spec.name] = made = NullCollection(self, spec)
        return made


class NullCollection(MemoryCollection):
    """Counts what it is given and forgets it; every search gives the same empty answer object."""

    def __init__(self, store: VectorStore, spec: CollectionSpec) -> None:
        super().__init__(store, spec)
        self._seen = 0
        self._nothing = SearchResult([[]], [np.empty(0, np.float32)], spec.metric)

    def _upsert(self, records: Records) -> None:
        self._seen += len(records)

    def _count(self, where: Filter | None) -> int:
        return self._seen if where is None else 0

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        return self._nothing


def _stack(rows: list[tuple[Vectors, Metadata, str | None]], dim: int) -> Vectors:
    return np.stack([row[0] for row in rows]) if rows else np.empty((0, dim), np.float32)


def _copy(metadata: Metadata) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, list) else value for key, value in metadata.items()}


def _no_options(name: str, **options: Any) -> None:
    given: Mapping[str, Any] = {key: value for key, value in options.items() if value is not None}
    if given:
        raise ConfigError(f"store '{name}' lives in memory and takes no option, got {', '.join(sorted(given))}")
