"""What the contract costs on Milvus and on Milvus Lite: the same work through it and through pymilvus, in one run.

`pytest benchmarks/test_milvus.py --benchmark-only`. Reads are Bounded on both sides, and of the same collection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vecbench import HNSW, CollectionSpec, F, Flat, Metric, Records, VectorStore, connect

N, DIM, K, EF = 10_000, 384, 10, 64
IDS = [f"doc-{i}" for i in range(N)]
VECTORS = np.random.default_rng(1).normal(size=(N, DIM)).astype(np.float32)
QUERIES = np.random.default_rng(2).normal(size=(100, DIM)).astype(np.float32)
METADATA = [{"year": 2000 + i % 20} for i in range(N)]
HOW = {"anns_field": "vector", "limit": K, "consistency_level": "Bounded", "output_fields": ["id"]}
WAYS = pytest.mark.parametrize("way", ["raw", "vecbench"])


@pytest.fixture(scope="module", params=["milvus", "milvus-lite"])
def store(request: pytest.FixtureRequest) -> Iterator[VectorStore]:
    with connect(request.param) as opened:
        yield opened


@pytest.fixture(scope="module")
def built(store: VectorStore) -> Any:
    collection = store.create_collection(CollectionSpec("built", DIM, Metric.EUCLIDEAN, HNSW(ef_construction=64)))
    collection.upsert(Records(IDS, VECTORS, METADATA))
    collection.optimize()
    collection.flush()
    return collection


def ask(built: Any, queries: Any, expression: str = "", ef: int = EF) -> list[list[tuple[str, float]]]:
    found = built.native.search(
        built._name,
        data=queries,
        filter=expression,
        search_params={"params": {"ef": ef}},
        **HOW,
    )
    return [list(zip(hits.ids, hits.distances, strict=True)) for hits in found]


@WAYS
@pytest.mark.parametrize("n", [1, 100])
def test_search(benchmark: Any, store: VectorStore, built: Any, n: int, way: str) -> None:
    benchmark.group = f"{store.name}: {n} queries, HNSW over 10,000 x 384"
    if way == "raw":
        assert [len(hits) for hits in benchmark(ask, built, QUERIES[:n])] == [K] * n
    else:
        assert [len(ids) for ids in benchmark(built.search, QUERIES[:n], K).ids] == [K] * n


@WAYS
def test_filtered_search(benchmark: Any, store: VectorStore, built: Any, way: str) -> None:
    """The raw client searches lite as widely as the adapter does."""
    benchmark.group = f"{store.name}: one query under a filter that 5 % pass"
    if way == "raw":
        ef = EF if store.name == "milvus" else 2 * N
        expression = 'array_contains_any(tokens, ["eq:year=n.2003"])'
        assert [len(hits) for hits in benchmark(ask, built, QUERIES[:1], expression, ef)] == [K]
    else:
        assert [len(ids) for ids in benchmark(built.search, QUERIES[:1], K, where=F("year") == 2003).ids] == [K]


@WAYS
def test_upsert(benchmark: Any, store: VectorStore, way: str) -> None:
    benchmark.group = f"{store.name}: upsert of 10,000 x 384"
    collection = store.create_collection(CollectionSpec(f"upsert {way}", DIM, Metric.EUCLIDEAN, Flat()))
    name = collection.describe()["native_name"]

    def raw() -> None:
        empty = {"metadata": "", "document": "", "numbers": {}, "tokens": []}
        rows = [{"id": id_, "vector": vector, **empty} for id_, vector in zip(IDS, VECTORS, strict=True)]
        collection.native.upsert(name, rows)

    records = Records(IDS, VECTORS)
    benchmark.pedantic(raw if way == "raw" else lambda: collection.upsert(records), rounds=3, warmup_rounds=1)
    collection.flush()
    assert collection.count() == N
