"""What the contract costs over the raw client: each pair does the same work on one server, started here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch, OrjsonSerializer, helpers

from vecbench.collection import Collection
from vecbench.filters import F
from vecbench.index import HNSW
from vecbench.services.local import start
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records
from vecbench_elasticsearch import ElasticsearchStore
from vecbench_elasticsearch.engine import ElasticsearchEngine

N, DIM, K, EF = 5_000, 384, 10, 64
VECTORS = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
QUERIES = np.random.default_rng(1).normal(size=(100, DIM)).astype(np.float32)
IDS = [f"doc {i}" for i in range(N)]
METADATA = [{"group": i % 10} for i in range(N)]
RAW = "raw"
WARMING = 1_000  # searches until the server's code is compiled


@pytest.fixture(scope="module")
def store() -> Iterator[ElasticsearchStore]:
    with start(ElasticsearchEngine(heap="1g")) as service, ElasticsearchStore.open(url=service.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def raw(store: ElasticsearchStore) -> Iterator[Elasticsearch]:
    """The client as its makers set it up for vectors."""
    with Elasticsearch(store.info.target, serializer=OrjsonSerializer(), request_timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def built(store: ElasticsearchStore) -> Collection:
    collection = store.create_collection(CollectionSpec("built", DIM, Metric.EUCLIDEAN, HNSW(ef_search=EF)))
    collection.upsert(Records(IDS, VECTORS, METADATA))
    collection.optimize()
    for i in range(WARMING):
        collection.search(QUERIES[i % 100], K)
    return collection


def create_raw(client: Elasticsearch) -> None:
    options = {"type": "hnsw", "m": 16, "ef_construction": 128}
    vector = {"type": "dense_vector", "dims": DIM, "index": True, "similarity": "l2_norm", "index_options": options}
    client.indices.delete(index=RAW, ignore_unavailable=True)
    client.indices.create(
        index=RAW,
        mappings={"properties": {"v": vector, "group": {"type": "integer"}}},
        settings={"number_of_shards": 1, "number_of_replicas": 0},
    )


def write_raw(client: Elasticsearch) -> None:
    actions = (
        {"_index": RAW, "_id": id_, "_source": {"v": vector, **meta}}
        for id_, vector, meta in zip(IDS, VECTORS, METADATA, strict=True)
    )
    helpers.bulk(client, actions, chunk_size=1_500, max_chunk_bytes=20_000_000)


@pytest.fixture(scope="module")
def built_raw(raw: Elasticsearch) -> Elasticsearch:
    create_raw(raw)
    write_raw(raw)
    raw.indices.forcemerge(index=RAW, max_num_segments=1)
    raw.indices.refresh(index=RAW)
    for i in range(WARMING):
        ask_raw(raw, QUERIES[i % 100])
    return raw


def ask_raw(client: Elasticsearch, query: Any, **more: Any) -> list[tuple[str, float]]:
    knn = {"field": "v", "query_vector": query, "k": K, "num_candidates": EF, **more}
    answer = client.search(index=RAW, knn=knn, size=K, source=False)
    return [(hit["_id"], hit["_score"]) for hit in answer["hits"]["hits"]]


@pytest.mark.benchmark(group="elasticsearch search")
def test_search(benchmark: Any, built: Collection, built_raw: Elasticsearch) -> None:
    assert len(benchmark(built.search, QUERIES[:1], K).ids[0]) == K


@pytest.mark.benchmark(group="elasticsearch search")
def test_search_raw(benchmark: Any, built_raw: Elasticsearch) -> None:
    assert len(benchmark(ask_raw, built_raw, QUERIES[0])) == K


@pytest.mark.benchmark(group="elasticsearch filtered search, 10 %")
def test_filtered(benchmark: Any, built: Collection) -> None:
    where = F("group") == 3
    assert len(benchmark(built.search, QUERIES[:1], K, where=where).ids[0]) == K


@pytest.mark.benchmark(group="elasticsearch filtered search, 10 %")
def test_filtered_raw(benchmark: Any, built_raw: Elasticsearch) -> None:
    assert len(benchmark(ask_raw, built_raw, QUERIES[0], filter={"term": {"group": 3}})) == K


@pytest.mark.benchmark(group="elasticsearch 100 queries")
def test_batch(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(built.search, QUERIES, K).ids) == 100


@pytest.mark.benchmark(group="elasticsearch 100 queries")
def test_batch_raw(benchmark: Any, built_raw: Elasticsearch) -> None:
    def search() -> list[list[tuple[str, float]]]:
        searches: list[dict[str, Any]] = []
        for query in QUERIES.tolist():  # msearch does not use the serializer that knows arrays
            knn = {"field": "v", "query_vector": query, "k": K, "num_candidates": EF}
            searches += ({"index": RAW}, {"knn": knn, "size": K, "_source": False})
        answers = built_raw.msearch(searches=searches)["responses"]
        return [[(hit["_id"], hit["_score"]) for hit in answer["hits"]["hits"]] for answer in answers]

    assert len(benchmark(search)) == 100


@pytest.mark.benchmark(group="elasticsearch upsert 5k x 384")
def test_upsert(benchmark: Any, store: ElasticsearchStore) -> None:
    def empty() -> tuple[tuple[Collection], dict[str, Any]]:
        store.drop_collection("written", missing_ok=True)
        return (store.create_collection(CollectionSpec("written", DIM, Metric.EUCLIDEAN)),), {}

    def write(collection: Collection) -> None:
        collection.upsert(Records(IDS, VECTORS, METADATA))

    benchmark.pedantic(write, setup=empty, rounds=3)


@pytest.mark.benchmark(group="elasticsearch upsert 5k x 384")
def test_upsert_raw(benchmark: Any, raw: Elasticsearch) -> None:
    benchmark.pedantic(write_raw, (raw,), setup=lambda: create_raw(raw), rounds=3)
