"""What the contract costs over redis-py alone: each pair sends the same work to the same server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vecbench.collection import Collection
from vecbench.filters import Gte
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records
from vecbench_redisearch import RedisearchStore

N, DIM, K, BATCH = 5_000, 384, 10, 100
VECTORS = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
IDS = [f"doc {i}" for i in range(N)]
METADATA = [{"n": i} for i in range(N)]


@pytest.fixture(scope="module")
def store() -> Iterator[RedisearchStore]:
    with RedisearchStore.open() as opened:
        yield opened


@pytest.fixture(scope="module")
def built(store: RedisearchStore) -> Collection:
    collection = store.create_collection(CollectionSpec("built", DIM, Metric.EUCLIDEAN))
    collection.upsert(Records(IDS, VECTORS, METADATA))
    return collection


def raw_index(client: Any, name: str) -> None:
    """The same fields, in redis-py's own words."""
    from redis.commands.search.field import NumericField, TagField, VectorField
    from redis.commands.search.index_definition import IndexDefinition, IndexType

    graph = {"TYPE": "FLOAT32", "DIM": DIM, "DISTANCE_METRIC": "L2", "M": 16, "EF_CONSTRUCTION": 128}
    client.ft(name).create_index(
        [VectorField("v", "HNSW", graph), TagField("t"), NumericField("n")],
        definition=IndexDefinition(prefix=[name + ":"], index_type=IndexType.HASH),
    )


def raw_load(client: Any, name: str) -> None:
    for start in range(0, N, 500):
        with client.pipeline(transaction=False) as pipe:
            for i in range(start, start + 500):
                fields = {"v": VECTORS[i].tobytes(), "meta": f'{{"n":{i}}}', "t": f"has:n,eq:n={i}", "n": i}
                pipe.hset(f"{name}:{IDS[i]}", mapping=fields)
            pipe.execute()


@pytest.fixture(scope="module")
def raw(store: RedisearchStore) -> Any:
    """A client of its own, in the faster of redis-py's two protocols."""
    import redis

    told = store.native.connection_pool.connection_kwargs
    with redis.Redis(host=told["host"], port=told["port"], password=told["password"], protocol=2) as client:
        raw_index(client, "raw")
        raw_load(client, "raw")
        yield client


def raw_query(text: str = "*") -> Any:
    from redis.commands.search.query import Query

    clause = f"{text}=>[KNN {K} @v $q EF_RUNTIME 64 AS d]"
    return Query(clause).sort_by("d").return_fields("d").paging(0, K).dialect(2)


@pytest.mark.benchmark(group="redisearch search")
def test_search(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(built.search, VECTORS[:1], K).ids[0]) == K


@pytest.mark.benchmark(group="redisearch search")
def test_search_raw(benchmark: Any, raw: Any) -> None:
    def search() -> list[tuple[str, float]]:
        found = raw.ft("raw").search(raw_query(), {"q": VECTORS[0].tobytes()})
        return [(d.id, float(d.d)) for d in found.docs]

    assert len(benchmark(search)) == K


@pytest.mark.benchmark(group="redisearch search of 100")
def test_search_many(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(built.search, VECTORS[:BATCH], K)) == BATCH


@pytest.mark.benchmark(group="redisearch search of 100")
def test_search_many_raw(benchmark: Any, raw: Any) -> None:
    clause, rest = f"*=>[KNN {K} @v $q EF_RUNTIME 64 AS d]", ["SORTBY", "d", "RETURN", 1, "d", "LIMIT", 0, K]

    def search() -> list[list[tuple[str, float]]]:
        """redis-py has no search of many; this is a pipeline of the same commands."""
        with raw.pipeline(transaction=False) as pipe:
            for q in VECTORS[:BATCH]:
                pipe.execute_command("FT.SEARCH", "raw", clause, *rest, "PARAMS", 2, "q", q.tobytes(), "DIALECT", 2)
            return [
                [(key.decode(), float(fields[1])) for key, fields in zip(found[1::2], found[2::2], strict=True)]
                for found in pipe.execute()
            ]

    assert len(benchmark(search)) == BATCH


@pytest.mark.benchmark(group="redisearch filtered search")
def test_search_filtered(benchmark: Any, built: Collection) -> None:
    assert len(benchmark(lambda: built.search(VECTORS[:1], K, where=Gte("n", N // 2))).ids[0]) == K


@pytest.mark.benchmark(group="redisearch filtered search")
def test_search_filtered_raw(benchmark: Any, raw: Any) -> None:
    def search() -> list[tuple[str, float]]:
        found = raw.ft("raw").search(raw_query(f"(@n:[{N // 2} +inf])"), {"q": VECTORS[0].tobytes()})
        return [(d.id, float(d.d)) for d in found.docs]

    assert len(benchmark(search)) == K


@pytest.mark.benchmark(group="redisearch load 5k x 384")
def test_upsert(benchmark: Any, store: RedisearchStore) -> None:
    def setup() -> tuple[tuple[Collection], dict[str, Any]]:
        store.drop_collection("fresh", missing_ok=True)
        return (store.create_collection(CollectionSpec("fresh", DIM, Metric.EUCLIDEAN)),), {}

    benchmark.pedantic(lambda c: c.upsert(Records(IDS, VECTORS, METADATA)), setup=setup, rounds=3)
    assert store.get_collection("fresh").count() == N


@pytest.mark.benchmark(group="redisearch load 5k x 384")
def test_upsert_raw(benchmark: Any, raw: Any) -> None:
    names = iter(["one", "two", "three"])

    def setup() -> tuple[tuple[str], dict[str, Any]]:
        name = next(names)
        raw_index(raw, name)
        return (name,), {}

    benchmark.pedantic(lambda name: raw_load(raw, name), setup=setup, rounds=3)
    assert int(raw.ft("three").info()["num_docs"]) == N
