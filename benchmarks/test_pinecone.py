"""What the adapter costs over the raw SDK, against the loopback server of `tests.pinecone_spec`: no figure of Pinecone.

The server runs in a process of its own and checks nothing. Only the ratios within a group mean something.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecbench.collection import Collection
from vecbench.filters import Gte
from vecbench.index import NativeIndex
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records
from vecbench_pinecone import PineconeStore

ROOT = Path(__file__).resolve().parents[1]
N, DIM, K = 3_000, 384, 10
VECTORS = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
IDS = [f"doc-{i}" for i in range(N)]
METADATA: list[dict[str, Any]] = [{"n": i} for i in range(N)]
QUERIES = VECTORS[:32]


@pytest.fixture(scope="module")
def store() -> Iterator[PineconeStore]:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.pinecone_spec", "--unchecked"],
        cwd=ROOT, env={**os.environ, "PYTHONSAFEPATH": ""}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    with server, server.stdin, server.stdout, PineconeStore.open(url=url, api_key="spec-benchmark") as opened:
        yield opened


def make(store: PineconeStore, name: str) -> Collection:
    return store.create_collection(CollectionSpec(name, DIM, Metric.EUCLIDEAN, NativeIndex("serverless")))


@pytest.fixture(scope="module")
def built(store: PineconeStore) -> Collection:
    collection = make(store, "ours")
    collection.upsert(Records(IDS, VECTORS, METADATA))
    collection.flush()
    return collection


@pytest.fixture(scope="module")
def raw(store: PineconeStore) -> Any:
    """The same records as a user of the SDK would keep them."""
    index = make(store, "raw").native
    load(index)
    return index


def load(index: Any) -> None:
    vectors = [(id_, vector, metadata) for id_, vector, metadata in zip(IDS, VECTORS, METADATA, strict=True)]
    assert not index.upsert(vectors=vectors, batch_size=200, max_concurrency=1, show_progress=False).has_errors


@pytest.mark.benchmark(group="pinecone upsert 3k x 384, one request at a time")
def test_upsert(benchmark: Any, store: PineconeStore) -> None:
    collection = make(store, "ours to fill")
    benchmark.pedantic(collection.upsert, (Records(IDS, VECTORS, METADATA),), rounds=3)
    assert collection.count() == N


@pytest.mark.benchmark(group="pinecone upsert 3k x 384, one request at a time")
def test_upsert_raw(benchmark: Any, store: PineconeStore) -> None:
    index = make(store, "raw to fill").native
    benchmark.pedantic(load, (index,), rounds=3)
    assert index.describe_index_stats().total_vector_count == N


@pytest.mark.benchmark(group="pinecone search")
def test_search(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(built.search, QUERIES[:1], K).ids[0]) == K


@pytest.mark.benchmark(group="pinecone search")
def test_search_raw(benchmark: Any, raw: Any) -> None:
    def search() -> list[tuple[str, float]]:
        return [(m.id, m.score) for m in raw.query(vector=QUERIES[0].tolist(), top_k=K).matches]

    assert len(benchmark(search)) == K


@pytest.mark.benchmark(group="pinecone search, filtered")
def test_filtered(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(built.search, QUERIES[:1], K, where=Gte("n", N // 2)).ids[0]) == K


@pytest.mark.benchmark(group="pinecone search, filtered")
def test_filtered_raw(benchmark: Any, raw: Any) -> None:
    def search() -> list[tuple[str, float]]:
        found = raw.query(vector=QUERIES[0].tolist(), top_k=K, filter={"n": {"$gte": N // 2}})
        return [(m.id, m.score) for m in found.matches]

    assert len(benchmark(search)) == K


@pytest.mark.benchmark(group="pinecone search, 32 queries")
def test_batch(benchmark: Any, built: Collection) -> None:
    assert len(benchmark.pedantic(built.search, (QUERIES, K), rounds=5)) == len(QUERIES)


@pytest.mark.benchmark(group="pinecone search, 32 queries")
def test_batch_raw(benchmark: Any, raw: Any) -> None:
    def search() -> list[list[str]]:
        return [[m.id for m in raw.query(vector=q, top_k=K).matches] for q in QUERIES.tolist()]

    assert len(benchmark.pedantic(search, rounds=5)) == len(QUERIES)
