"""What the contract costs over weaviate-client: each pair does the same work on the same server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vecbench.collection import Collection
from vecbench.filters import Gte
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records
from vecbench_weaviate import WeaviateStore
from vecbench_weaviate.engine import WeaviateEngine

N, DIM, K = 4_000, 384, 10
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(N, DIM)).astype(np.float32)
QUERIES = RNG.normal(size=(100, DIM)).astype(np.float32)
IDS = [f"doc {i}" for i in range(N)]
METADATA = [{"n": i} for i in range(N)]


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with start(WeaviateEngine()) as running:
        yield running


@pytest.fixture(scope="module")
def store(server: Service) -> Iterator[WeaviateStore]:
    with WeaviateStore.open(url=server.url, **server.secrets) as opened:
        yield opened


@pytest.fixture(scope="module")
def built(store: WeaviateStore) -> Collection:
    collection = store.create_collection(CollectionSpec("built", DIM, Metric.EUCLIDEAN))
    collection.upsert(Records(IDS, VECTORS, METADATA))
    collection.optimize()
    return collection


def ask(handle: Any, query: Any, among: Any = None) -> list[tuple[str, float]]:
    from weaviate.classes.query import MetadataQuery

    found = handle.query.near_vector(
        near_vector=query.tolist(),
        limit=K,
        filters=among,
        return_metadata=MetadataQuery(distance=True),
        return_properties=["ident"],
    )
    return [(o.properties["ident"], o.metadata.distance) for o in found.objects]


@pytest.mark.benchmark(group="weaviate search")
def test_search(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(built.search, QUERIES[:1], K).ids[0]) == K


@pytest.mark.benchmark(group="weaviate search")
def test_search_raw(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(ask, built.native, QUERIES[0])) == K


@pytest.mark.benchmark(group="weaviate search 100")
def test_search_many(benchmark: Any, built: Collection) -> None:
    assert len(benchmark.pedantic(built.search, (QUERIES, K), rounds=20)) == 100


@pytest.mark.benchmark(group="weaviate search 100")
def test_search_many_raw(benchmark: Any, built: Collection) -> None:
    """One after the other, as the client does by itself."""
    assert len(benchmark.pedantic(lambda: [ask(built.native, q) for q in QUERIES], rounds=20)) == 100


@pytest.mark.benchmark(group="weaviate filtered search")
def test_search_filtered(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(built.search, QUERIES[:1], K, where=Gte("n", N // 2)).ids[0]) == K


@pytest.mark.benchmark(group="weaviate filtered search")
def test_search_filtered_raw(benchmark: Any, built: Collection) -> None:
    from weaviate.classes.query import Filter

    among = Filter.by_property("n_" + b"n".hex()).greater_or_equal(float(N // 2))
    assert len(benchmark(ask, built.native, QUERIES[0], among)) == K


@pytest.fixture
def empty(store: WeaviateStore) -> Iterator[Collection]:
    yield store.create_collection(CollectionSpec("empty", DIM, Metric.EUCLIDEAN))
    store.drop_collection("empty")


@pytest.mark.benchmark(group=f"weaviate upsert {N} x {DIM}")
def test_upsert(benchmark: Any, empty: Collection) -> None:
    benchmark.pedantic(empty.upsert, (Records(IDS, VECTORS),), rounds=3)
    assert empty.count() == N


@pytest.mark.benchmark(group=f"weaviate upsert {N} x {DIM}")
def test_upsert_raw(benchmark: Any, empty: Collection) -> None:
    """By `insert_many`; the client's batching and `ingest` took as long or longer."""
    from weaviate.classes.data import DataObject

    def upsert() -> None:
        for start_ in range(0, N, 1_000):
            rows = range(start_, start_ + 1_000)
            done = empty.native.data.insert_many(
                [
                    DataObject({"ident": IDS[i]}, uuid.uuid5(uuid.NAMESPACE_OID, IDS[i]), VECTORS[i].tolist())
                    for i in rows
                ]
            )
            assert not done.has_errors

    benchmark.pedantic(upsert, rounds=3)
    assert empty.native.aggregate.over_all(total_count=True).total_count == N
