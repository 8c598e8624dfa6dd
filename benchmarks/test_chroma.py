"""What the contract costs over the raw client, embedded and over HTTP: each pair does the same work on the same rows.

The raw client gets metadata it can filter by itself; ours are kept so that every filter is exact, and cost more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vecbench.collection import Collection
from vecbench.filters import Eq
from vecbench.services.local import start
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records
from vecbench_chroma import ChromaStore
from vecbench_chroma.engine import ChromaEngine

N, DIM, K, BATCH = 2_000, 384, 10, 100
VECTORS = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
IDS = [f"doc {i}" for i in range(N)]
METADATA: list[dict[str, Any]] = [{"lang": f"l{i % 50}", "year": 2000 + i % 20} for i in range(N)]
SPEC = CollectionSpec("c", DIM, Metric.EUCLIDEAN)
MODES = ("embedded", "server")


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, ChromaStore]]:
    with start(ChromaEngine()) as service, ChromaStore.open(url=service.url) as server, ChromaStore.open() as embedded:
        yield {"embedded": embedded, "server": server}


def raw_collection(store: ChromaStore, name: str) -> Any:
    hnsw = {"space": "l2", "max_neighbors": 16, "ef_construction": 128, "ef_search": 64}
    return store.native.create_collection(name, embedding_function=None, configuration={"hnsw": hnsw})


@pytest.fixture(scope="module")
def built(stores: dict[str, ChromaStore]) -> Iterator[dict[str, tuple[Collection, Any]]]:
    made = {}
    for mode, store in stores.items():
        ours, raw = store.create_collection(SPEC), raw_collection(store, "raw")
        ours.upsert(Records(IDS, VECTORS, METADATA))
        raw.add(ids=IDS, embeddings=VECTORS, metadatas=METADATA)
        made[mode] = ours, raw
    yield made
    for store in stores.values():
        store.drop_collection("c")
        store.native.delete_collection("raw")


def query(raw: Any, rows: int, where: dict[str, Any] | None = None) -> list[list[str]]:
    found: list[list[str]] = raw.query(
        query_embeddings=VECTORS[:rows], n_results=K, where=where, include=["distances"]
    )["ids"]
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.benchmark(group="chroma search 1")
def test_search(benchmark: Any, built: dict[str, tuple[Collection, Any]], mode: str) -> None:
    assert len(benchmark(built[mode][0].search, VECTORS[:1], K).ids[0]) == K


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.benchmark(group="chroma search 1")
def test_search_raw(benchmark: Any, built: dict[str, tuple[Collection, Any]], mode: str) -> None:
    assert len(benchmark(query, built[mode][1], 1)[0]) == K


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.benchmark(group="chroma search 100")
def test_search_batch(benchmark: Any, built: dict[str, tuple[Collection, Any]], mode: str) -> None:
    assert len(benchmark(built[mode][0].search, VECTORS[:BATCH], K)) == BATCH


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.benchmark(group="chroma search 100")
def test_search_batch_raw(benchmark: Any, built: dict[str, tuple[Collection, Any]], mode: str) -> None:
    assert len(benchmark(query, built[mode][1], BATCH)) == BATCH


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.benchmark(group="chroma filtered, 2 %")
def test_filtered(benchmark: Any, built: dict[str, tuple[Collection, Any]], mode: str) -> None:
    result = benchmark(lambda: built[mode][0].search(VECTORS[:1], K, where=Eq("lang", "l7")))
    assert len(result.ids[0]) == K


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.benchmark(group="chroma filtered, 2 %")
def test_filtered_raw(benchmark: Any, built: dict[str, tuple[Collection, Any]], mode: str) -> None:
    assert len(benchmark(query, built[mode][1], 1, {"lang": "l7"})[0]) == K


@pytest.mark.parametrize("metadata", [False, True], ids=["vectors", "metadata"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.benchmark(group="chroma upsert 2k x 384")
def test_upsert(benchmark: Any, stores: dict[str, ChromaStore], mode: str, metadata: bool) -> None:
    store, records = stores[mode], Records(IDS, VECTORS, METADATA if metadata else None)

    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        store.drop_collection("u", missing_ok=True)
        return (store.create_collection(CollectionSpec("u", DIM, Metric.EUCLIDEAN)), records), {}

    benchmark.pedantic(lambda collection, rows: collection.upsert(rows), setup=fresh, rounds=3)
    assert store.get_collection("u").count() == N
    store.drop_collection("u")


@pytest.mark.parametrize("metadata", [False, True], ids=["vectors", "metadata"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.benchmark(group="chroma upsert 2k x 384")
def test_upsert_raw(benchmark: Any, stores: dict[str, ChromaStore], mode: str, metadata: bool) -> None:
    store = stores[mode]
    made: list[Any] = []

    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        while made:
            store.native.delete_collection(made.pop().name)
        made.append(raw_collection(store, "raw-u"))
        return (made[0],), {}

    benchmark.pedantic(
        lambda raw: raw.add(ids=IDS, embeddings=VECTORS, metadatas=METADATA if metadata else None),
        setup=fresh,
        rounds=3,
    )
    assert made[0].count() == N
    store.native.delete_collection("raw-u")
