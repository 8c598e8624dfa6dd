"""What the contract costs over the raw embedded engine: each pair does the same work on the same kind of shard."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import qdrant_edge as qe

from vecbench.collection import Collection
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records
from vecbench_qdrant import QdrantStore

N, DIM, K = 10_000, 384, 10
VECTORS = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
IDS = [f"doc {i}" for i in range(N)]


@pytest.fixture(scope="module")
def built() -> Iterator[Collection]:
    with QdrantStore.open() as store:
        collection = store.create_collection(CollectionSpec("c", DIM, Metric.EUCLIDEAN))
        collection.upsert(Records(IDS, VECTORS))
        collection.optimize()
        yield collection


@pytest.mark.benchmark(group="qdrant search")
def test_search(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(built.search, VECTORS[:1], K).ids[0]) == K


@pytest.mark.benchmark(group="qdrant search")
def test_search_raw(benchmark: Any, built: Collection) -> None:
    def search() -> list[tuple[str, float]]:
        request = qe.SearchRequest(
            query=qe.Query.Nearest(VECTORS[0]), limit=K, params=qe.SearchParams(hnsw_ef=64), with_payload=["id"]
        )
        return [(p.payload["id"], p.score) for p in built.native.search(request)]

    assert len(benchmark(search)) == K


@pytest.fixture
def empty() -> Iterator[Collection]:
    with QdrantStore.open() as store:
        yield store.create_collection(CollectionSpec("c", DIM, Metric.EUCLIDEAN))


@pytest.mark.benchmark(group="qdrant upsert 10k x 384")
def test_upsert(benchmark: Any, empty: Collection) -> None:
    benchmark.pedantic(empty.upsert, (Records(IDS, VECTORS),), rounds=3)
    assert empty.count() == N


@pytest.mark.benchmark(group="qdrant upsert 10k x 384")
def test_upsert_raw(benchmark: Any, empty: Collection) -> None:
    def upsert() -> None:
        for start in range(0, N, 2_000):
            rows = range(start, start + 2_000)
            points = [qe.Point(uuid.uuid5(uuid.NAMESPACE_OID, IDS[i]), VECTORS[i], {"id": IDS[i]}) for i in rows]
            empty.native.update(qe.UpdateOperation.upsert_points(points))

    benchmark.pedantic(upsert, rounds=3)
    assert empty.count() == N
