"""What the tests copy, and stores that spoil a copy, each in one way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np

from vecbench import HNSW, CollectionSpec, EmbedderSpec, Metric, Records
from vecbench.capabilities import Capabilities
from vecbench.collection import Collection
from vecbench.filters import Filter
from vecbench.index import Index, SearchParams
from vecbench.memory import MemoryCollection, MemoryStore
from vecbench.store import VectorStore
from vecbench.types import Include, MetadataValue, SearchResult, Vectors

DIM = 8
FIELDS: dict[str, Any] = {"n": "int", "word": "str"}
VALUES: list[MetadataValue] = [0, 1, 1.0, True, "1", -0.0, 2**53 + 1, -(2**63), 1e300, "", "é 🙂", [], ["a", ""]]


def rows(n: int, seed: int = 1) -> Records:
    """n records of very different lengths, with every kind of value; every third has no document or no metadata."""
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(n, DIM)) * rng.uniform(0.1, 50, size=(n, 1))).astype(np.float32)
    metadata: list[dict[str, MetadataValue]] = [
        {} if i % 3 == 1 else {"n": i, "word": f"w{i % 5}", "v": VALUES[i % len(VALUES)]} for i in range(n)
    ]
    return Records(
        [f"id-{i}" for i in range(n)], vectors, metadata, [None if i % 3 == 2 else f"é {i}" for i in range(n)]
    )


def filled(
    store: VectorStore,
    n: int = 60,
    metric: Metric = Metric.EUCLIDEAN,
    *,
    name: str = "docs",
    index: Index | None = None,
) -> Collection:
    """A collection with an embedder, declared fields and n records."""
    spec = CollectionSpec(name, DIM, metric, index or HNSW(m=8), EmbedderSpec("m", DIM, revision="r1"), FIELDS)
    made = store.create_collection(spec)
    if n:
        made.upsert(rows(n))
    made.flush()
    return made


def everything(collection: Collection) -> dict[str, tuple[bytes, list[tuple[str, str]], str | None]]:
    """All records by id: the bits of the vector, metadata with types, document."""
    found = {}
    for batch in collection.scan(batch_size=17):
        assert batch.vectors is not None
        assert batch.metadata is not None
        assert batch.documents is not None
        for i, id_ in enumerate(batch.ids):
            typed = sorted((key, repr(value)) for key, value in batch.metadata[i].items())
            assert id_ not in found
            found[id_] = (batch.vectors[i].tobytes(), typed, batch.documents[i])
    return found


class Planted(MemoryStore):
    """A memory store whose collections are of another class."""

    collection: ClassVar[type[MemoryCollection]] = MemoryCollection

    def _create(self, spec: CollectionSpec) -> Collection:
        self._collections[spec.name] = made = self.collection(self, spec)
        return made


def planted(collection: type[MemoryCollection], **capabilities: Any) -> MemoryStore:
    """An empty store with collections of this class, and other capabilities."""
    store = type(collection.__name__, (Planted,), {"collection": collection})()
    assert isinstance(store, MemoryStore)
    store.capabilities = replace(MemoryStore.capabilities, **capabilities)
    return store


def spoiling(spoil: Callable[[Records], Records], **capabilities: Any) -> MemoryStore:
    """A store that changes what is written to it."""

    class Spoiling(MemoryCollection):
        def _upsert(self, records: Records) -> None:
            super()._upsert(spoil(records))

    return planted(Spoiling, **capabilities)


def limited(**capabilities: Any) -> MemoryStore:
    """A store that can do little, unless it is said that it can."""
    little = Capabilities(metrics=frozenset({Metric.EUCLIDEAN}), indexes=frozenset({"flat"}))
    return planted(MemoryCollection, **({f.name: getattr(little, f.name) for f in fields(little)} | capabilities))


class Waiting(MemoryCollection):
    """Writes can be read after `flush` only."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._waiting: list[Records] = []

    def _upsert(self, records: Records) -> None:
        self._waiting.append(records)

    def _flush(self, timeout: float) -> None:
        for records in self._waiting:
            super()._upsert(records)
        self._waiting.clear()


class Failing(MemoryCollection):
    """Writes until a record that it does not like comes, then fails once."""

    bad: ClassVar[str] = "id-35"
    written: list[str]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.written, self._failed = [], False

    def _upsert(self, records: Records) -> None:
        if self.bad in records.ids and not self._failed:
            self._failed = True
            raise OSError("the disk is full")
        self.written += records.ids
        super()._upsert(records)


class ScanLosesABatch(MemoryCollection):
    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        batches = list(super()._scan(where, batch_size, include))
        yield from batches[:-1]


class CountsTooMany(MemoryCollection):
    def _count(self, where: Filter | None) -> int:
        return super()._count(where) + 1


class Searching(MemoryCollection):
    """Answers are spoiled."""

    def spoil(self, result: SearchResult, row: int) -> None:
        raise NotImplementedError

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        result = super()._search(queries, k, where, params, include)
        for row in range(len(result)):
            self.spoil(result, row)
        return result


class SquaredDistances(Searching):
    def spoil(self, result: SearchResult, row: int) -> None:
        result.distances[row] = result.distances[row] ** 2


class OneShort(Searching):
    def spoil(self, result: SearchResult, row: int) -> None:
        result.ids[row], result.distances[row] = result.ids[row][:-1], result.distances[row][:-1]


class MissesTheNearest(Searching):
    """What an approximate index may do, and an exact search may not: the second to eleventh come back."""

    def _search(self, queries: Vectors, k: int, *rest: Any) -> SearchResult:
        return super()._search(queries, k + 1, *rest)

    def spoil(self, result: SearchResult, row: int) -> None:
        result.ids[row], result.distances[row] = result.ids[row][1:], result.distances[row][1:]


class OtherTies(Searching):
    """Among equally far records the last by id comes first."""

    def spoil(self, result: SearchResult, row: int) -> None:
        pairs = sorted(zip(result.distances[row].tolist(), result.ids[row], strict=True), key=lambda p: p[1])
        pairs.reverse()
        pairs.sort(key=lambda p: p[0])
        result.ids[row] = [id_ for _, id_ in pairs]
