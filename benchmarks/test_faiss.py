"""What the contract costs on FAISS: the same work through it and without it, in one run, to be read as ratios.

`pytest benchmarks/test_faiss.py --benchmark-only`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from vecbench import HNSW, CollectionSpec, Flat, Metric, Records, SearchParams, connect

faiss: Any = import_module("faiss")  # its type information lacks half of its classes
N, DIM, K, EF = 10_000, 384, 10, 64
IDS = [f"doc-{i}" for i in range(N)]


@pytest.fixture(scope="module")
def vectors() -> Any:
    return np.random.default_rng(1).normal(size=(N, DIM)).astype(np.float32)


@pytest.fixture(scope="module", params=list(Metric), ids=str)
def searches(request: pytest.FixtureRequest, vectors: Any) -> Iterator[dict[str, Callable[[Any], Any]]]:
    """One graph, asked through the collection and directly: the native handle is the very same index."""
    with connect("faiss", threads=1) as store:
        collection = store.create_collection(CollectionSpec("c", DIM, request.param, HNSW(m=16, ef_construction=64)))
        collection.upsert(Records(IDS, vectors))
        collection.optimize()
        params, native = SearchParams(ef_search=EF), faiss.SearchParametersHNSW(efSearch=EF)
        index = collection.native
        yield {
            "raw": lambda query: index.search(query, K, params=native),
            "vecbench": lambda query: collection.search(query, K, params=params),
        }


@pytest.mark.benchmark(group="one query, HNSW over 10,000 x 384")
@pytest.mark.parametrize("way", ["raw", "vecbench"])
def test_search(benchmark: Any, searches: dict[str, Callable[[Any], Any]], way: str) -> None:
    query = np.random.default_rng(2).normal(size=(1, DIM)).astype(np.float32)
    query /= np.linalg.norm(query)  # so that the raw search under cosine does the same walk
    result = benchmark(searches[way], query)
    assert len(result.ids[0] if way == "vecbench" else result[1][0]) == K


@pytest.mark.benchmark(group="upsert of 10,000 x 384, flat")
@pytest.mark.parametrize("way", ["raw", "euclidean", "cosine"])
def test_upsert(benchmark: Any, vectors: Any, way: str) -> None:
    if way == "raw":
        index = benchmark.pedantic(
            lambda i: i.add(vectors) or i, setup=lambda: ((faiss.IndexFlatL2(DIM),), {}), rounds=20
        )
        assert index.ntotal == N
        return
    records = Records(IDS, vectors)
    with connect("faiss") as store:

        def fresh() -> tuple[tuple[Any], dict[str, Any]]:
            store.drop_collection("c", missing_ok=True)
            return (store.create_collection(CollectionSpec("c", DIM, Metric(way), Flat())),), {}

        benchmark.pedantic(lambda c: c.upsert(records), setup=fresh, rounds=20)
        assert store.get_collection("c").count() == N


@pytest.mark.benchmark(group="build of an HNSW graph over 10,000 x 384")
@pytest.mark.parametrize("way", ["raw", "vecbench"])
def test_build(benchmark: Any, vectors: Any, way: str) -> None:
    def raw() -> int:
        index = faiss.IndexHNSWFlat(DIM, 16, faiss.METRIC_L2)
        index.hnsw.efConstruction = 64
        index.add(vectors)
        return int(index.ntotal)

    def ours() -> int:
        with connect("faiss") as store:
            spec = CollectionSpec("c", DIM, Metric.EUCLIDEAN, HNSW(m=16, ef_construction=64))
            collection = store.create_collection(spec)
            collection.upsert(Records(IDS, vectors))
            collection.optimize()
            return int(collection.native.ntotal)

    assert benchmark.pedantic(raw if way == "raw" else ours, rounds=2) == N
