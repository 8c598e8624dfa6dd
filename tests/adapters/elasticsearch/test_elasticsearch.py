"""What is Elasticsearch's own: its indexes, their scores, exact search by windows, the traps of its writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.adapters.vectors import clustered, names, recall, recalled
from vecbench import HNSW, CollectionSpec, Flat, Metric, NativeIndex, Records, SearchParams
from vecbench.collection import Collection
from vecbench.distance import paired_distances, top_k
from vecbench.errors import (
    CollectionNotFound,
    PartialWriteError,
    StoreRejected,
    StoreTimeout,
    UnsupportedFilter,
    UnsupportedIndex,
    UnsupportedOperation,
)
from vecbench.filters import And, Eq, Filter, Gt, Gte, In, Lt, Not, Or
from vecbench.services.local import Service, start
from vecbench_elasticsearch import ElasticsearchStore
from vecbench_elasticsearch.collection import ElasticsearchCollection
from vecbench_elasticsearch.engine import ElasticsearchEngine

TINY = np.ones((1, 3), np.float32)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with start(ElasticsearchEngine()) as running:
        yield running


@pytest.fixture
def store(service: Service) -> Iterator[ElasticsearchStore]:
    with ElasticsearchStore.open(url=service.url) as opened:
        yield opened
        for name in opened.list_collections():
            opened.drop_collection(name)


# The index -----------------------------------------------------------------------------------------------------------


def test_the_servers_own_default_quantises_and_ours_does_not(store: ElasticsearchStore) -> None:
    vector = {"type": "dense_vector", "dims": 128, "similarity": "l2_norm"}
    store.native.indices.create(index="theirs", mappings={"properties": {"v": vector}})
    theirs = store.native.indices.get_mapping(index="theirs")["theirs"]["mappings"]["properties"]["v"]
    store.native.indices.delete(index="theirs")
    assert theirs["index_options"]["type"] == "int8_hnsw"
    ours = store.create_collection(CollectionSpec("c", 128, index=HNSW(m=8, ef_construction=33)))
    index = ours.describe()["index"]
    assert (index["kind"], index["type"], index["m"], index["ef_construction"]) == ("hnsw", "hnsw", 8, 33)
    flat = store.create_collection(CollectionSpec("f", 128, index=Flat()))
    assert flat.describe()["index"] == {"kind": "flat", "type": "flat"}


def test_parameters_that_it_lacks_are_refused(store: ElasticsearchStore) -> None:
    for index in (
        HNSW(m=1),
        HNSW(m=513),  # the server takes it, and then refuses every record
        HNSW(ef_construction=3_201),
        HNSW(ef_search=10_001),
        HNSW(native={"alpha": 1}),
        HNSW(native={"number_of_replicas": "many"}),
        Flat(native={"m": 4}),
        NativeIndex("hnsw"),
        NativeIndex("int9_hnsw"),
        NativeIndex("int8_flat", native={"m": 16}),
        NativeIndex("bbq_hnsw"),  # from 64 dimensions on
    ):
        with pytest.raises(UnsupportedIndex):
            store.create_collection(CollectionSpec("c", 3, index=index))
    assert store.list_collections() == []
    collection = store.create_collection(CollectionSpec("c", 3, index=HNSW()))
    for params in (SearchParams(native={"num_candidate": 5}), SearchParams(ef_search=10_001)):
        with pytest.raises(UnsupportedOperation):
            collection.search(TINY, params=params)
    with pytest.raises(UnsupportedOperation):
        collection.search(TINY, k=10_001)


def test_settings_arrive(store: ElasticsearchStore) -> None:
    index = HNSW(native={"number_of_replicas": 1, "refresh_interval": "30s"})
    collection = store.create_collection(CollectionSpec("c", 3, index=index))
    name = collection.describe()["native_name"]
    settings = store.native.indices.get_settings(index=name)[name]["settings"]["index"]
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == ("1", "1")
    assert settings["refresh_interval"] == "30s"


def test_another_index_than_was_asked_for_is_not_kept(
    store: ElasticsearchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ElasticsearchCollection, "index_options", lambda _self: {"type": "int8_hnsw"})
    with pytest.raises(UnsupportedIndex, match="int8_hnsw"):
        store.create_collection(CollectionSpec("c", 3))
    assert store.list_collections() == []


@pytest.mark.slow
def test_the_graph_is_used_and_exact_search_goes_around_it(store: ElasticsearchStore) -> None:
    """More rows than there can be candidates, so in windows; after overwriting, deleting, and under filters."""
    n, dim = 22_000, 16
    vectors, queries = clustered(n, dim), clustered(30, dim, seed=1)
    vectors[:2_000] += 9
    metadata = [{"third": i % 3} for i in range(n)]
    collection = store.create_collection(CollectionSpec("c", dim, Metric.EUCLIDEAN, HNSW(m=4, ef_construction=16)))
    collection.upsert(Records(names(n), vectors, metadata))
    vectors[:2_000] -= 9
    collection.upsert(Records(names(2_000), vectors[:2_000], metadata[:2_000]))
    collection.delete(ids=[str(i) for i in range(n - 500, n)])
    kept = vectors[: n - 500]
    collection.optimize()
    told = collection.describe()
    assert (told["rows"], told["segments"]) == (n - 500, 1)
    rows, truth = top_k(queries, kept, 10, Metric.EUCLIDEAN)

    few, many = (recalled(collection, queries, rows, ef_search=ef) for ef in (10, 1_000))
    assert few < many
    assert few < 0.9
    assert recalled(collection, queries, rows, native={"num_candidates": 10}) == few
    result = collection.search(queries, 10, params=SearchParams(exact=True))
    assert [list(map(int, ids)) for ids in result.ids] == rows.tolist()
    np.testing.assert_allclose(result.distances, truth, rtol=1e-5)
    third = kept[::3]
    rows, _ = top_k(queries, third, 10, Metric.EUCLIDEAN)
    for where in (Eq("third", 0), Not(In("third", [1, 2]))):
        found = collection.search(queries, 10, where=where, params=SearchParams(exact=True)).ids
        assert [[int(i) // 3 for i in ids] for ids in found] == rows.tolist()
    assert len(collection.search(queries[:1], 10_000, params=SearchParams(exact=True)).ids[0]) == 10_000


@pytest.mark.parametrize("name", ["int8_hnsw", "int4_hnsw", "bbq_hnsw", "int8_flat", "int4_flat", "bbq_flat"])
def test_quantised_indexes_give_true_distances(store: ElasticsearchStore, name: str) -> None:
    """The order is by compressed vectors, the distances are by those that were written, exact answers are exact."""
    vectors, queries = clustered(2_000, 64), clustered(20, 64, seed=1)
    collection = store.create_collection(CollectionSpec("c", 64, Metric.EUCLIDEAN, NativeIndex(name)))
    collection.upsert(Records(names(2_000), vectors))
    collection.optimize()
    assert collection.describe()["index"]["type"] == name
    result = collection.search(queries, 10)
    for query, ids, distances in zip(queries, result.ids, result.distances, strict=True):
        true = paired_distances(query, vectors[list(map(int, ids))], Metric.EUCLIDEAN)
        np.testing.assert_allclose(distances, true, rtol=1e-5)
        assert (np.diff(distances) >= 0).all()
    rows, _ = top_k(queries, vectors, 10, Metric.EUCLIDEAN)
    assert recall(result.ids, rows) > 0.5
    assert recalled(collection, queries, rows, exact=True) == 1.0
    wide: dict[str, Any] = {"ef_search": 500, "native": {"rescore_vector": {"oversample": 5.0}}}
    assert recalled(collection, queries, rows, **wide) > 0.95


def test_bbq_disk_is_there_from_9_2_on(store: ElasticsearchStore) -> None:
    index = NativeIndex("bbq_disk", native={"cluster_size": 128})
    spec = CollectionSpec("c", 64, Metric.EUCLIDEAN, index)
    major, minor = store.info.engine_version.split(".")[:2]
    if (int(major), int(minor)) < (9, 2):
        with pytest.raises(UnsupportedIndex):
            store.create_collection(spec)
        return
    collection = store.create_collection(spec)
    vectors = clustered(12_000, 64)
    collection.upsert(Records(names(12_000), vectors))
    collection.optimize()
    assert collection.describe()["index"]["cluster_size"] == 128
    rows, truth = top_k(vectors[:20] + 1, vectors, 10, Metric.EUCLIDEAN)
    assert recalled(collection, vectors[:20] + 1, rows) > 0.5
    exact = collection.search(vectors[:20] + 1, 10, params=SearchParams(exact=True))
    assert recall(exact.ids, rows) == 1.0
    np.testing.assert_allclose(exact.distances, truth, rtol=1e-5)


def test_as_many_come_back_as_match_though_the_graph_is_in_pieces(
    store: ElasticsearchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a graph with unreachable rows would answer, played by an answer cut short."""
    collection = store.create_collection(CollectionSpec("c", 8, Metric.EUCLIDEAN))
    vectors = clustered(300, 8)
    collection.upsert(Records(names(300), vectors, [{"even": i % 2 == 0} for i in range(300)]))
    collection.flush()
    asked: list[list[dict[str, Any]]] = []
    ask = ElasticsearchCollection._ask

    def short(self: ElasticsearchCollection, searches: list[dict[str, Any]]) -> list[list[Any]]:
        asked.append(searches)
        return [hits[: 7 if len(asked) == 1 else None] for hits in ask(self, searches)]

    monkeypatch.setattr(ElasticsearchCollection, "_ask", short)
    rows, _ = top_k(vectors[:5], vectors, 20, Metric.EUCLIDEAN)
    assert [list(map(int, ids)) for ids in collection.search(vectors[:5], 20).ids] == rows.tolist()
    asked.clear()
    assert [len(ids) for ids in collection.search(vectors[:5], 200, where=Eq("even", True)).ids] == [150] * 5
    asked.clear()
    monkeypatch.setattr(ElasticsearchCollection, "_ask", ask)
    assert [len(ids) for ids in collection.search(vectors[:2], 400).ids] == [300, 300]


def test_native_handles(store: ElasticsearchStore) -> None:
    collection: Collection = store.create_collection(CollectionSpec("c", 3))
    assert collection.native is store.native
    assert store.native.indices.exists(index=collection.describe()["native_name"])


# Scores, vectors, values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0.01, 1.0, 300.0])
@pytest.mark.parametrize("metric", list(Metric))
def test_distances_are_as_near_as_lucenes_scores_allow(
    store: ElasticsearchStore, metric: Metric, length: float
) -> None:
    """Much nearer than the tolerance that has to be declared for Euclidean distances near 0."""
    rng = np.random.default_rng(3)
    vectors = (rng.normal(size=(300, 32)) * rng.uniform(0.3, 3, size=(300, 1)) * length).astype(np.float32)
    queries = vectors[:10] + rng.normal(size=(10, 32)).astype(np.float32) * np.float32(length)
    collection = store.create_collection(CollectionSpec("c", 32, metric))
    collection.upsert(Records(names(300), vectors))
    collection.flush()
    result = collection.search(queries, 300)
    assert result.raw is not None
    for query, ids, distances in zip(queries, result.ids, result.distances, strict=True):
        found = vectors[list(map(int, ids))]
        true = paired_distances(query, found, metric)
        if metric is Metric.EUCLIDEAN:
            assert (np.abs(distances**2 - true**2) <= 5e-7 * (1 + true**2)).all()
        elif metric is Metric.COSINE:
            np.testing.assert_allclose(distances, true, atol=1e-6)
        else:
            scale = np.linalg.norm(query) * np.linalg.norm(found, axis=1)
            assert (np.abs(distances - true) <= 3e-7 * (1 + scale)).all()


def test_a_euclidean_distance_near_zero_is_as_coarse_as_declared(store: ElasticsearchStore) -> None:
    collection = store.create_collection(CollectionSpec("c", 1, Metric.EUCLIDEAN))
    apart = np.array([[0.0], *([10.0**-e] for e in np.arange(1, 7, 0.05))], np.float32)
    collection.upsert(Records(names(len(apart)), apart))
    collection.flush()
    result = collection.search(np.zeros(1), len(apart))
    wrong = np.abs(result.distances[0] - apart[list(map(int, result.ids[0])), 0])
    assert wrong.max() > 1e-4
    on_the_square = np.abs(np.square(result.distances[0]) - np.square(apart[list(map(int, result.ids[0])), 0]))
    assert on_the_square.max() < store.capabilities.tolerance.squared_absolute
    assert result.distances[0][0] == 0


@pytest.mark.parametrize("metric", list(Metric))
def test_every_bit_of_a_vector_comes_back(store: ElasticsearchStore, metric: Metric) -> None:
    """Under cosine, too, whose index holds unit vectors; numbers of every size, subnormal ones among them."""
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**32, size=(2_000, 64), dtype=np.uint32)
    vectors = bits.view(np.float32)
    vectors = np.where(np.isfinite(vectors) & (np.abs(vectors) < 1e16), vectors, np.float32(1.5))
    vectors[:, 0] = 7
    collection = store.create_collection(CollectionSpec("c", 64, metric, Flat()))
    collection.upsert(Records(names(2_000), vectors))
    collection.optimize()
    held = collection.get(names(2_000), include=["vectors"]).vectors
    assert held is not None
    assert held.tobytes() == vectors.tobytes()


def test_minus_zero_is_zero(store: ElasticsearchStore) -> None:
    """Lucene sorts −0.0 before 0.0."""
    collection = store.create_collection(CollectionSpec("c", 3))
    collection.upsert(Records(["a", "b"], np.ones((2, 3), np.float32), [{"x": -0.0}, {"x": 0.0}]))
    collection.flush()
    wheres: list[tuple[Filter, int]] = [
        (Gte("x", 0.0), 2), (Gte("x", -0.0), 2), (Lt("x", 0.0), 0), (Gt("x", -0.0), 0), (Eq("x", 0), 2),
    ]  # fmt: skip
    for where, count in wheres:
        assert collection.count(where) == count
    assert repr(collection.get(["a"]).metadata) == "[{'x': -0.0}]"


def test_filters_may_be_long_and_not_too_deep(store: ElasticsearchStore) -> None:
    collection = store.create_collection(CollectionSpec("c", 3))
    collection.upsert(Records(["a", "b"], np.ones((2, 3), np.float32), [{"x": 1}, {"x": 2}]))
    collection.flush()
    many = list(range(2, 90_000))  # the server takes 65,536 in one list
    assert collection.count(In("x", many)) == 1
    assert collection.count(Not(In("x", many))) == 1
    deep: Filter = Not(Eq("x", 1))
    for i in range(28):
        deep = And((deep, Gt("x", i / 30))) if i % 2 else Or((deep, Gt("x", 100 + i)))
    assert collection.count(deep) == 1
    assert collection.search(TINY, where=deep).ids == [["b"]]
    assert [ids.ids for ids in collection.scan(where=deep, include=())] == [["b"]]
    found = collection.search(np.ones((110, 3)), where=Not(In("x", many)))  # together more than a request may hold
    assert found.ids == [["a"]] * 110
    with pytest.raises(UnsupportedFilter, match="30"):
        collection.count(Or((deep, Gt("x", 100))))


# Writes --------------------------------------------------------------------------------------------------------------


def test_a_dropped_collection_is_not_made_again_by_a_write(store: ElasticsearchStore) -> None:
    """Elasticsearch creates an index for a write that finds none."""
    old = store.create_collection(CollectionSpec("c", 3))
    old.upsert(Records(["a"], TINY))
    store.drop_collection("c")
    verbs: list[Callable[[], object]] = [
        lambda: old.upsert(Records(["a"], TINY)), lambda: old.get(["a"]), lambda: old.delete(ids=["a"]),
        lambda: old.delete(where=Eq("x", 1)), lambda: old.search(TINY), lambda: old.search(np.ones((3, 3))),
        lambda: old.search(TINY, params=SearchParams(exact=True)), lambda: list(old.scan()),
        old.flush, old.optimize, old.describe, old.count,
    ]  # fmt: skip
    for verb in verbs:
        with pytest.raises(CollectionNotFound):
            verb()
    assert store.list_collections() == []
    assert not store.native.indices.exists(index="vecbench-*", allow_no_indices=False)


def test_a_record_that_is_refused_is_named_and_the_others_are_in(store: ElasticsearchStore) -> None:
    collection = store.create_collection(CollectionSpec("c", 3))
    too_many = {f"number {i}": i for i in range(10_001)}  # fields; see _MAX_FIELDS
    data = Records(["a", "b", "c"], np.ones((3, 3), np.float32), [{"x": 1}, too_many, {"x": 2}])
    with pytest.raises(PartialWriteError, match="Limit of total fields") as caught:
        collection.upsert(data)
    assert (caught.value.accepted, caught.value.failed) == (["a", "c"], ["b"])
    collection.flush()
    assert collection.count(Gt("x", 0)) == 2
    with pytest.raises(StoreRejected, match="Limit of total fields"):
        collection.upsert(data.rows(1, 2))
    ahead = Records(names(3_000), np.ones((3_000, 3), np.float32), [{}] * 2_999 + [too_many])
    with pytest.raises(PartialWriteError) as caught:
        collection.upsert(ahead)
    assert (caught.value.accepted, caught.value.failed) == (names(2_999), ["2999"])


def test_a_request_too_large_is_told(store: ElasticsearchStore) -> None:
    collection = store.create_collection(CollectionSpec("c", 3))
    with pytest.raises(StoreRejected, match="max_content_length"):
        collection.upsert(Records(["a"], TINY, documents=["x" * 105_000_000]))


def test_what_is_written_while_deleting_by_filter_stays(
    store: ElasticsearchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = store.create_collection(CollectionSpec("c", 3))
    data = Records(["a", "b"], np.ones((2, 3), np.float32), [{"x": 1}, {"x": 1}])
    collection.upsert(data)
    pages = ElasticsearchCollection._pages

    def slow(self: ElasticsearchCollection, *arguments: Any) -> Iterator[list[Any]]:
        for hits in pages(self, *arguments):
            collection.upsert(Records(["a"], TINY, [{"x": 2}]))
            yield hits

    monkeypatch.setattr(ElasticsearchCollection, "_pages", slow)
    collection.delete(where=Eq("x", 1))
    collection.flush()
    assert collection.get(["a", "b"]).metadata == [{"x": 2}]


def test_a_scan_stands_still_and_takes_batches_of_any_size(store: ElasticsearchStore) -> None:
    collection = store.create_collection(CollectionSpec("c", 3, index=Flat()))
    collection.upsert(Records(names(12_000), np.ones((12_000, 3), np.float32)))
    collection.flush()
    scan = collection.scan(batch_size=50_000, include=())
    seen = list(next(scan).ids)
    collection.delete(ids=names(12_000))
    collection.flush()
    for batch in scan:
        seen += batch.ids
    assert sorted(seen) == sorted(names(12_000))


def test_it_works_without_orjson(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    import elasticsearch.serializer

    monkeypatch.delattr(elasticsearch.serializer, "OrjsonSerializer")
    with ElasticsearchStore.open(url=service.url) as store:
        collection = store.create_collection(CollectionSpec("plain", 8, Metric.EUCLIDEAN))
        vectors = clustered(50, 8)
        collection.upsert(Records(names(50), vectors, [{"é": "ü\n"}] * 50))
        collection.flush()
        held = collection.get(names(50))
        assert held.vectors is not None
        assert held.vectors.tobytes() == vectors.tobytes()
        assert held.metadata == [{"é": "ü\n"}] * 50
        assert [ids[0] for ids in collection.search(vectors, 3).ids] == names(50)
        store.drop_collection("plain")


def test_optimize_gives_up_in_time(store: ElasticsearchStore) -> None:
    collection = store.create_collection(CollectionSpec("c", 3))
    collection.upsert(Records(["a"], TINY))
    for verb in (collection.optimize, collection.flush):
        with pytest.raises(StoreTimeout):
            verb(timeout=1e-5)
    collection.optimize()
