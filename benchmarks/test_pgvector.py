"""What the contract costs over psycopg: each pair does the same work on the same server, in one run.

The raw side is psycopg at its fastest: one cursor, prepared statements, binary results, settings sent once, a pipeline
for many queries, binary COPY with types set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest

from vecbench.collection import Collection
from vecbench.filters import F
from vecbench.services.local import start
from vecbench.spec import CollectionSpec
from vecbench.typed import dump_metadata, numbers, tokens
from vecbench.types import Metric, Records
from vecbench_pgvector import PgvectorStore
from vecbench_pgvector.engine import PgvectorEngine

N, DIM, K, MANY = 10_000, 384, 10, 100
RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(100, DIM))
VECTORS = (CENTRES[RNG.integers(0, 100, N)] + RNG.normal(size=(N, DIM))).astype(np.float32)
IDS = [f"doc {i}" for i in range(N)]
METADATA: list[dict[str, Any]] = [{"bucket": i % 100} for i in range(N)]
DATA = Records(IDS, VECTORS, METADATA)
SELECT = "select id, embedding <-> %s as d from {} {} order by d limit 10"


@pytest.fixture(scope="module")
def store() -> Iterator[PgvectorStore]:
    """Opened after the index was built: a server process that built one has memory at hand, and answers faster."""
    with start(PgvectorEngine()) as server:
        with PgvectorStore.open(url=server.url, **server.secrets) as builder:
            collection = builder.create_collection(CollectionSpec("built", DIM, Metric.EUCLIDEAN))
            collection.upsert(DATA)
            collection.optimize()
        with PgvectorStore.open(url=server.url, **server.secrets) as opened:
            yield opened


@pytest.fixture(scope="module")
def built(store: PgvectorStore) -> Collection:
    return store.get_collection("built")


@pytest.fixture(scope="module")
def cursor(store: PgvectorStore) -> Any:
    raw: psycopg.Connection = store.native
    raw.execute("set hnsw.ef_search = 64")
    raw.execute("set hnsw.iterative_scan = relaxed_order")
    return raw.cursor(binary=True)


@pytest.mark.benchmark(group="pgvector search")
def test_search(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(built.search, VECTORS[:1], K).ids[0]) == K


@pytest.mark.benchmark(group="pgvector search")
def test_search_raw(benchmark: Any, built: Collection, cursor: Any) -> None:
    statement = SELECT.format(built.describe()["table"], "")
    assert len(benchmark(lambda: cursor.execute(statement, (VECTORS[0],), prepare=True).fetchall())) == K


@pytest.mark.benchmark(group="pgvector search 100")
def test_many(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(built.search, VECTORS[:MANY], K).ids) == MANY


@pytest.mark.benchmark(group="pgvector search 100")
def test_many_raw(benchmark: Any, built: Collection, cursor: Any) -> None:
    statement, raw = SELECT.format(built.describe()["table"], ""), cursor.connection

    def search() -> list[Any]:
        with raw.pipeline():
            asked = [raw.cursor(binary=True).execute(statement, (q,), prepare=True) for q in VECTORS[:MANY]]
            return [c.fetchall() for c in asked]

    assert len(benchmark(search)) == MANY


@pytest.mark.benchmark(group="pgvector filtered")
def test_filtered(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(built.search, VECTORS[:1], K, where=F("bucket") == 7).ids[0]) == K


@pytest.mark.benchmark(group="pgvector filtered")
def test_filtered_raw(benchmark: Any, built: Collection, cursor: Any) -> None:
    statement = SELECT.format(built.describe()["table"], "where tokens && %s::text[]")
    wanted = [t for t in tokens({"bucket": 7}) if t.startswith("eq:")]
    assert len(benchmark(lambda: cursor.execute(statement, (VECTORS[0], wanted), prepare=False).fetchall())) == K


@pytest.fixture
def empty(store: PgvectorStore) -> Iterator[Collection]:
    yield store.create_collection(CollectionSpec("empty", DIM, Metric.EUCLIDEAN))
    store.drop_collection("empty")


def ingest(benchmark: Any, store: PgvectorStore, empty: Collection, load: Callable[[], None]) -> None:
    table = empty.describe()["table"]

    def clear() -> None:
        store.native.execute(f"truncate {table}")

    benchmark.pedantic(load, setup=clear, rounds=9, warmup_rounds=1)
    assert empty.count() == N


@pytest.mark.benchmark(group="pgvector ingest 10k x 384")
def test_ingest(benchmark: Any, store: PgvectorStore, empty: Collection) -> None:
    ingest(benchmark, store, empty, lambda: empty.upsert(DATA))


@pytest.mark.benchmark(group="pgvector ingest 10k x 384")
def test_ingest_raw(benchmark: Any, store: PgvectorStore, empty: Collection, cursor: Any) -> None:
    copied = f"copy {empty.describe()['table']} (id, metadata, tokens, numbers, embedding) from stdin (format binary)"

    def load() -> None:
        with store.native.transaction(), cursor.copy(copied) as copy:
            copy.set_types(["text", "text", "text[]", "jsonb", "vector"])
            for id_, metadata, vector in zip(IDS, METADATA, VECTORS, strict=True):
                copy.write_row((id_, dump_metadata(metadata), tokens(metadata), numbers(metadata), vector))

    ingest(benchmark, store, empty, load)


@pytest.mark.benchmark(group="pgvector ingest 10k x 384")
def test_ingest_raw_without_metadata(benchmark: Any, store: PgvectorStore, empty: Collection, cursor: Any) -> None:
    copied = f"copy {empty.describe()['table']} (id, embedding) from stdin (format binary)"

    def load() -> None:
        with store.native.transaction(), cursor.copy(copied) as copy:
            copy.set_types(["text", "vector"])
            for row in zip(IDS, VECTORS, strict=True):
                copy.write_row(row)

    ingest(benchmark, store, empty, load)
