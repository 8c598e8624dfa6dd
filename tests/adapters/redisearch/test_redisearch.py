"""What is RediSearch's own: the graph and ways around it, number fields, limits, what is in Redis beside us."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.adapters.vectors import names, recalled
from vecbench.distance import exact_distances, top_k
from vecbench.errors import (
    CollectionExists,
    CollectionNotFound,
    PartialWriteError,
    StoreRejected,
    StoreTimeout,
    UnsupportedIndex,
    UnsupportedOperation,
)
from vecbench.filters import Eq, Exists, Gt, Gte, In, Lt, Not, NotIn
from vecbench.index import HNSW, Flat, Index, SearchParams
from vecbench.services.local import Service
from vecbench.spec import CollectionSpec
from vecbench.typed import number_key, translate
from vecbench.types import Metric, Records
from vecbench_redisearch import RedisearchStore
from vecbench_redisearch.filters import QueryDialect

from .parts import DIM, clustered, make, rows

# Index and search -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", list(Metric))
def test_the_graph_is_used_and_exact_search_goes_around_it(store: RedisearchStore, metric: Metric) -> None:
    vectors, queries = clustered(5000, 64) * np.float32(3), clustered(100, 64, seed=1)
    nearest, truth = top_k(queries, vectors, 10, metric)
    collection = store.create_collection(CollectionSpec("c", 64, metric, HNSW(m=8, ef_construction=32)))
    collection.upsert(Records(names(5000), vectors))
    collection.optimize()
    few, many = (recalled(collection, queries, nearest, ef_search=ef) for ef in (1, 400))
    assert few < many
    assert few < 0.9  # ef is raised to k, no more
    assert recalled(collection, queries, nearest, native={"EF_RUNTIME": 400}) == many
    assert recalled(collection, queries, nearest, exact=True) == 1.0
    exact = collection.search(queries, 10, params=SearchParams(exact=True))
    can = store.capabilities.tolerance
    scale = np.linalg.norm(queries, axis=1).max() * np.linalg.norm(vectors, axis=1).max() if metric == "dot" else 0
    np.testing.assert_allclose(exact.distances, truth, rtol=can.relative, atol=can.absolute + can.relative * scale)
    said = collection.describe()
    assert (said["rows"], said["indexed_rows"]) == (5000, 5000)
    assert said["index"] == {
        "kind": "hnsw", "algorithm": "HNSW", "data_type": "FLOAT32", "dim": 64, "M": 8, "ef_construction": 32,
        "distance_metric": {"euclidean": "L2", "cosine": "COSINE", "dot": "IP"}[metric], "EF_RUNTIME": 64,
    }  # fmt: skip
    assert said["index_bytes"] > 5000 * 64 * 4


def test_raw_numbers_are_the_servers(store: RedisearchStore) -> None:
    vectors, query = clustered(20), clustered(1, seed=3)
    for metric in Metric:
        collection = store.create_collection(CollectionSpec(metric, DIM, metric, Flat()))
        collection.upsert(Records(names(20), vectors))
        result = collection.search(query, 20)
        assert result.raw is not None
        true = np.sort(exact_distances(query, vectors, metric))[0]
        native = {Metric.EUCLIDEAN: true**2, Metric.COSINE: true, Metric.DOT: 1 + true}[metric]
        np.testing.assert_allclose(result.raw[0], native, rtol=1e-5, atol=1e-6)


def test_small_dots_lose_digits_beside_one(store: RedisearchStore) -> None:
    """The server gives 1 − dot in float32: the error stays within what is declared, the order is lost."""
    vectors = clustered(50) * np.float32(1e-5)
    collection = store.create_collection(CollectionSpec("c", DIM, Metric.DOT, Flat()))
    collection.upsert(Records(names(50), vectors))
    result = collection.search(vectors[:1], 50)
    true = np.sort(exact_distances(vectors[:1], vectors, Metric.DOT))[0]
    assert np.abs(result.distances[0] - true).max() < store.capabilities.tolerance.absolute
    assert len(set(result.distances[0])) < 10


def test_rows_that_no_path_reaches_come_back_all_the_same(store: RedisearchStore) -> None:
    """With two links a node the graph falls into pieces."""
    collection = make(store, HNSW(m=2, ef_construction=2))
    data = rows(2000)
    collection.upsert(data)
    query, name = clustered(1, seed=4), collection.describe()["native_name"]
    ask = ["FT.SEARCH", name, "*=>[KNN 2000 @v $q EF_RUNTIME 2000 AS d]", "LIMIT", 0, 2000, "NOCONTENT"]
    native = store.native.execute_command(*ask, "PARAMS", 2, "q", query.tobytes(), "DIALECT", 2)
    assert native[0] < 2000  # else this proves nothing
    result = collection.search(query, 2000)
    assert sorted(result.ids[0]) == sorted(data.ids)
    assert (np.diff(result.distances[0]) >= 0).all()
    assert len(collection.search(query, 500, where=Lt("n", 500)).ids[0]) == 500


def test_parameters_of_the_vendor(store: RedisearchStore) -> None:
    refused: list[Index] = [
        HNSW(native={"alpha": 1}), HNSW(native={"TYPE": "FLOAT16"}), HNSW(native={"M": "8"}), HNSW(native={"M": 0}),
        Flat(native={"M": 8}), HNSW(native={"INITIAL_CAP": 10**12}), HNSW(ef_search=10**30),
        Flat(native={"BLOCK_SIZE": 1.5}),
    ]  # fmt: skip
    for index in refused:
        with pytest.raises(UnsupportedIndex):
            make(store, index)
    assert store.list_collections() == []
    assert store.native.execute_command("FT._LIST") == []
    flat = store.create_collection(CollectionSpec("f", DIM, index=Flat(native={"BLOCK_SIZE": 64, "INITIAL_CAP": 10})))
    flat.upsert(rows(100))
    assert flat.describe()["index"]["algorithm"] == "FLAT"
    graph = make(store, HNSW(native={"M": 20, "EF_RUNTIME": 7}))
    assert (graph.describe()["index"]["M"], graph.describe()["index"]["EF_RUNTIME"]) == (20, 7)
    graph.upsert(rows(100))
    query = clustered(1)
    for native in ({"HYBRID_POLICY": "ADHOC_BF"}, {"HYBRID_POLICY": "BATCHES", "BATCH_SIZE": 5}, {"EF_RUNTIME": 30}):
        for where in (None, Lt("n", 50)):
            assert len(graph.search(query, 10, where=where, params=SearchParams(native=native)).ids[0]) == 10
    for bad in ({"ef": 3}, {"HYBRID_POLICY": "] => {$x"}, {"EF_RUNTIME": "3]"}, {"BATCH_SIZE": 0}, {"EPSILON": 0.1}):
        with pytest.raises(UnsupportedOperation):
            graph.search(query, params=SearchParams(native=bad))
    with pytest.raises(UnsupportedOperation):
        flat.search(query, params=SearchParams(native={"EF_RUNTIME": 3}))


@pytest.mark.parametrize("m", [1, 32_768, 2**31])
def test_a_number_of_links_that_kills_the_server_is_refused(store: RedisearchStore, m: int) -> None:
    """FT.CREATE says OK to these, and FT.INFO then ends the server."""
    with pytest.raises(UnsupportedIndex, match="2 to 32767"):
        make(store, HNSW(m=m))
    for good in (2, 500):
        make(store, HNSW(m=good)).upsert(rows(10))
        assert store.get_collection("c").describe()["rows"] == 10
        store.drop_collection("c")


def test_a_server_that_cuts_answers_short_when_time_is_up(store: RedisearchStore) -> None:
    """The server's defaults are 500 ms and to return what it has: here 1 ms. No answer of ours is cut."""
    config = store.native.execute_command
    config("FT.CONFIG", "SET", "ON_TIMEOUT", "RETURN")
    config("FT.CONFIG", "SET", "TIMEOUT", 1)
    try:
        collection = make(store)
        n = 10_000
        collection.upsert(rows(n))
        name = collection.describe()["native_name"]
        clause = "(-@t:{never})=>[KNN 10000 @v $q HYBRID_POLICY ADHOC_BF AS d]"
        ask = ["FT.SEARCH", name, clause, "LIMIT", 0, n, "NOCONTENT", "PARAMS", 2, "q", clustered(1).tobytes()]
        assert config(*ask, "DIALECT", 2)[0] < n  # else this proves nothing
        for params in (SearchParams(), SearchParams(exact=True)):
            assert len(collection.search(clustered(1), n, params=params).ids[0]) == n
        assert collection.count(Gte("n", 0)) == n
        assert sum(len(b) for b in collection.scan(where=Exists("n"), include=())) == n
        collection.delete(where=Gte("n", 10))
        assert collection.count() == 10
    finally:
        config("FT.CONFIG", "SET", "TIMEOUT", 500)
        config("FT.CONFIG", "SET", "ON_TIMEOUT", "FAIL")


def test_an_answer_that_takes_too_long(store: RedisearchStore, server: Service) -> None:
    patient = make(store)
    patient.upsert(rows(100))
    with RedisearchStore.open(url=server.url, timeout=0.5, **server.secrets) as hasty:
        collection = hasty.get_collection("c")
        store.native.execute_command("CLIENT", "PAUSE", 4000, "ALL")
        began = time.monotonic()
        verbs: list[Callable[[], object]] = [
            collection.count, lambda: collection.search(clustered(1)), lambda: collection.upsert(rows(5)),
        ]  # fmt: skip
        for verb in verbs:
            with pytest.raises(StoreTimeout, match=r"127\.0\.0\.1"):
                verb()
        assert time.monotonic() - began < 3.5  # no retries behind our back
    assert patient.count() == 100  # answered when the pause is over


# Filters --------------------------------------------------------------------------------------------------------------


def test_writers_that_bring_new_numbers_at_the_same_moment(store: RedisearchStore) -> None:
    make(store)

    def write(writer: int) -> None:
        mine = store.get_collection("c")
        for i in range(10):
            metadata = [{f"k{j}": writer for j in range(i, i + 5)}]
            mine.upsert(Records([f"{writer}-{i}"], clustered(1), metadata))

    reader = store.get_collection("c")
    assert reader.count(Gte("k0", 0)) == 0  # a number that no record has
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    for handle in (reader, store.get_collection("c")):
        assert handle.count(Gte("k0", 0)) == 8
        assert handle.count(Gte("k9", 4)) == 4 * 5
        assert handle.count(Not(Gte("k9", 4))) == 80 - 4 * 5
        assert len(handle.search(clustered(1), 100, where=Lt("k13", 4)).ids[0]) == 4
    assert reader.describe()["number_fields"] == 14


def test_a_new_number_sets_off_no_scan(store: RedisearchStore) -> None:
    """A scan would index every record again, vectors too, behind our back."""
    collection = make(store)
    collection.upsert(rows(3000))
    collection.upsert(Records(["new"], clustered(1), [{"other": 1}]))
    info = store.native.execute_command("FT.INFO", collection.describe()["native_name"])
    assert info[info.index(b"indexing") + 1] == 0
    assert collection.count(Gte("n", 0)) == 3000


def test_a_number_that_the_index_does_not_know_is_not_named() -> None:
    """RediSearch 2.10 would find nothing; newer ones call it an error."""
    dialect = QueryDialect(lambda key: key == number_key("n", "known"))
    text = translate(Not(Lt("unknown", 3)) & Gt("known", 1), dialect)
    assert number_key("n", "unknown") not in text
    assert f"@{number_key('n', 'known')}:[(" in text


def test_an_index_is_full_of_number_fields(store: RedisearchStore) -> None:
    collection = make(store)
    collection.upsert(Records(["a"], clustered(1), [{f"k{i}": i for i in range(1000)}]))
    with pytest.raises(StoreRejected, match="1,022"):
        collection.upsert(Records(["b", "c"], clustered(2), [{f"k{i}": i for i in range(1023)}, {}]))
    assert collection.count() == 1
    collection.upsert(Records(["b"], clustered(1), [{f"k{i}": i for i in range(1022)}]))
    collection.upsert(Records(["c"], clustered(1), [{f"text{i}": "x" for i in range(3000)}]))  # texts need no field
    assert collection.count(Gte("k1021", 1021)) == 1
    assert collection.count(Eq("text2999", "x")) == 1
    assert collection.count(Gte("text1", 0)) == 0


def test_long_lists_of_values(store: RedisearchStore) -> None:
    collection = make(store)
    collection.upsert(rows(1000))
    values = list(range(500, 20_000))
    assert collection.count(In("n", values)) == 500
    assert collection.count(NotIn("n", values)) == 500


def test_tokens_keep_their_case(store: RedisearchStore) -> None:
    """TAG folds case and cuts at commas unless it is told otherwise."""
    texts = ["Word", "word", "a,b", "a", "b", "a\x1fb", " a", "a "]
    collection = make(store)
    ids = names(len(texts))
    collection.upsert(Records(ids, clustered(len(texts)), [{"x": t} for t in texts]))
    for i, text in zip(ids, texts, strict=True):
        assert collection.search(clustered(1), 10, where=Eq("x", text)).ids == [[i]]


# Records --------------------------------------------------------------------------------------------------------------


def test_fields_of_the_old_record_are_gone(store: RedisearchStore) -> None:
    """HSET alone would leave them."""
    collection = make(store)
    collection.upsert(Records(["a"], clustered(1), [{"n": 1, "word": "x"}], ["text"]))
    collection.upsert(Records(["a"], clustered(1)))
    key = collection.describe()["native_name"].encode() + b":a"
    assert set(store.native.hkeys(key)) == {b"v", b"meta"}
    assert collection.count(Exists("word")) == collection.count(Gte("n", 0)) == 0


def test_what_was_written_past_us_and_could_not_be_indexed_is_told(store: RedisearchStore) -> None:
    collection = make(store)
    collection.upsert(rows(5))
    key = collection.describe()["native_name"] + ":odd"
    store.native.hset(key, mapping={"v": b"too short", "meta": "{}"})
    with pytest.raises(StoreRejected, match=r"1 records .*:odd"):
        collection.flush()
    collection.flush()  # told once
    assert store.get_collection("c").count() == 5
    store.native.delete(key)


def test_a_full_server_takes_nothing_of_a_batch(store: RedisearchStore) -> None:
    collection = make(store)
    collection.upsert(rows(10))
    used = int(store.native.info("memory")["used_memory"])
    store.native.config_set("maxmemory", used + 2_000_000)
    data = rows(30_000)
    try:
        with pytest.raises(PartialWriteError, match="used memory > 'maxmemory'") as caught:
            collection.upsert(data)
    finally:
        store.native.config_set("maxmemory", 0)
    accepted, failed = caught.value.accepted, caught.value.failed
    assert accepted + failed == data.ids
    assert collection.get(accepted, include=()).ids == accepted
    assert collection.get(failed[500:], include=()).ids == []
    assert not {i for i in collection.get(failed[:500], include=()).ids if int(i) >= 10}  # all of the batch or none
    collection.upsert(data.rows(0, 1000))
    assert collection.count() == max(1000, len(accepted))


def test_old_handles_do_not_meet_a_new_collection(store: RedisearchStore) -> None:
    old = make(store)
    old.upsert(rows(5))
    store.drop_collection("c")
    new = store.create_collection(CollectionSpec("c", DIM, Metric.COSINE))
    query = clustered(1)
    verbs: list[Callable[[], object]] = [
        old.count, lambda: old.search(query), lambda: old.get(["1"]), lambda: old.upsert(rows(5)), old.flush,
        lambda: old.upsert(Records(["x"], query)), lambda: old.delete(ids=["1"]), old.optimize, old.describe,
        lambda: old.delete(where=Gt("n", 1)), lambda: list(old.scan()),
    ]  # fmt: skip
    for verb in verbs:
        with pytest.raises(CollectionNotFound):
            verb()
    assert new.count() == 0


def test_one_of_many_creators_wins(store: RedisearchStore) -> None:
    def create(_: int) -> bool:
        try:
            store._create(CollectionSpec("c", DIM))
        except CollectionExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1
    assert len(store.native.execute_command("FT._LIST")) == 1


def test_one_of_many_droppers_wins(store: RedisearchStore) -> None:
    make(store).upsert(rows(2000))

    def drop(_: int) -> bool:
        try:
            store.drop_collection("c")
        except CollectionNotFound:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(drop, range(8))) == 1


def test_what_is_not_ours_is_left_alone(store: RedisearchStore) -> None:
    ask = store.native.execute_command
    store.native.hset("other:1", "x", "y")
    ask("FT.CREATE", "other", "ON", "HASH", "PREFIX", 1, "other:", "SCHEMA", "x", "TAG")
    ask("FT.CREATE", "vecbench:half:made", "ON", "HASH", "PREFIX", 1, "vecbench:half:made:", "SCHEMA", "x", "TAG")
    try:
        make(store)
        assert store.list_collections() == ["c"]
        store.drop_collection("c")
        assert store.list_collections() == []
        assert store.native.hget("other:1", "x") == b"y"
    finally:
        ask("FT.DROPINDEX", "other", "DD")
        ask("FT.DROPINDEX", "vecbench:half:made")
