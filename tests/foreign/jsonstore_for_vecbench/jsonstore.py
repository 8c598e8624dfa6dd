"""A store as an outsider would write it: one JSON file per collection, exact search, no engine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from vecbench.capabilities import Capabilities, StoreInfo
from vecbench.distance import exact_distances
from vecbench.errors import CollectionNotFound, ConfigError, UnsupportedIndex, UnsupportedOperation
from vecbench.filters import OPERATORS, Filter, matches
from vecbench.index import SearchParams
from vecbench.spec import CollectionSpec
from vecbench.store import Collection, VectorStore
from vecbench.types import Include, Metric, Records, SearchResult, Vectors


class JsonStore(VectorStore):
    """A directory of JSON files; two metrics, no index, no `Contains`, so that refusals are tested as well."""

    name: ClassVar[str] = "jsonstore"
    capabilities = Capabilities(
        metrics=frozenset({Metric.EUCLIDEAN, Metric.COSINE}),
        indexes=frozenset({"flat"}),
        filters=OPERATORS - {"contains"},
        persistent=True,
        preserves_vectors=True,
        max_batch=700,
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: dict[str, JsonCollection] = {}

    @classmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """Open the directory `path`."""
        if url or mode or options or path is None:
            raise ConfigError(f"jsonstore takes a path and nothing else, got {sorted(options)}")
        Path(path).mkdir(parents=True, exist_ok=True)
        return cls(Path(path))

    @property
    def info(self) -> StoreInfo:
        """An exact store in this process."""
        return StoreInfo(
            name=self.name,
            label="jsonstore",
            deployment="embedded",
            engine="json",
            engine_version=json.__name__,
            client="jsonstore-for-vecbench",
            client_version="1.0",
        )

    def file(self, name: str) -> Path:
        """Where a collection lies."""
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()}.json"

    def _create(self, spec: CollectionSpec) -> Collection:
        if spec.index.native:
            raise UnsupportedIndex(f"jsonstore has no index parameters, got {sorted(spec.index.native)}")
        made = self._opened[spec.name] = JsonCollection(self, spec, self.file(spec.name), {})
        made._flush(0)
        return made

    def _open_collection(self, name: str) -> Collection:
        if name not in self._opened:
            file = self.file(name)
            if not file.exists():
                raise CollectionNotFound(f"jsonstore has no collection {name!r}")
            held = json.loads(file.read_text("utf-8"))
            self._opened[name] = JsonCollection(self, CollectionSpec.from_json(held["spec"]), file, held["rows"])
        return self._opened[name]

    def _list(self) -> list[str]:
        specs = [json.loads(file.read_text("utf-8"))["spec"] for file in self.folder.glob("*.json")]
        return [CollectionSpec.from_json(spec).name for spec in specs]

    def _drop(self, name: str) -> None:
        try:
            self.file(name).unlink()
        except FileNotFoundError:
            raise CollectionNotFound(f"jsonstore has no collection {name!r}") from None
        if name in self._opened:
            self._opened.pop(name).dropped = True


class JsonCollection(Collection):
    """Rows by id: vector, metadata, document."""

    def __init__(self, store: VectorStore, spec: CollectionSpec, file: Path, rows: dict[str, list[Any]]) -> None:
        super().__init__(store, spec)
        self._file, self._rows, self._lock, self.dropped = file, rows, threading.RLock(), False

    def _select(self, where: Filter | None) -> list[str]:
        if self.dropped:
            raise CollectionNotFound(f"jsonstore: collection {self.spec.name!r} was dropped")
        with self._lock:
            return [i for i, row in self._rows.items() if where is None or matches(where, row[1])]

    def _columns(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        with self._lock:
            rows = [self._rows[i] for i in ids]
        return Records(
            ids,
            np.array([row[0] for row in rows], np.float32) if "vectors" in include else None,
            [json.loads(json.dumps(row[1])) for row in rows] if "metadata" in include else None,
            [row[2] for row in rows] if "documents" in include else None,
        )

    def _upsert(self, records: Records) -> None:
        assert records.vectors is not None
        metadata = records.metadata or [{}] * len(records)
        documents = records.documents or [None] * len(records)
        with self._lock:
            for row in zip(records.ids, records.vectors.tolist(), metadata, documents, strict=True):
                self._rows[row[0]] = [row[1], json.loads(json.dumps(dict(row[2]))), row[3]]

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        return self._columns([i for i in ids if i in self._rows], include)

    def _delete_ids(self, ids: list[str]) -> None:
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
            raise UnsupportedOperation(f"jsonstore has no search parameters, got {sorted(params.native)}")
        ids = self._select(where)
        vectors = self._columns(ids, ("vectors",)).vectors if ids else np.empty((0, self.spec.dim), np.float32)
        assert vectors is not None
        result = SearchResult([], [], self.spec.metric, records=[] if include else None)
        for row in exact_distances(queries, vectors, self.spec.metric):
            order = np.argsort(row, kind="stable")[:k]
            result.ids.append([ids[i] for i in order])
            result.distances.append(row[order])
            if result.records is not None:
                result.records.append(self._columns(result.ids[-1], include))
        return result

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        ids = self._select(where)
        for start in range(0, len(ids), batch_size):
            yield self._columns(ids[start : start + batch_size], include)

    def _flush(self, timeout: float) -> None:
        with self._lock:
            self._file.write_text(json.dumps({"spec": self.spec.to_json(), "rows": self._rows}), "utf-8")

    def _optimize(self, timeout: float) -> None:
        """Nothing to build."""
