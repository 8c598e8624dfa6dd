"""What is Weaviate's own: the graph and its cutoff, true scores, properties that come with the data, complements."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import weaviate.classes as wvc

import vecbench_weaviate.collection as code
from tests.adapters.random_filters import BIG, BOUNDS, random_filter, random_metadata
from tests.adapters.vectors import clustered, names, recalled
from vecbench.distance import exact_distances, top_k
from vecbench.errors import PartialWriteError, StoreError, UnsupportedIndex, UnsupportedOperation
from vecbench.filters import Exists, Gt, Gte, Lt, Lte, Ne, Not, NotIn, matches
from vecbench.index import HNSW, Flat, Index, SearchParams
from vecbench.services.local import Service
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records
from vecbench_weaviate import WeaviateStore

LONG = "é" * 200  # 400 bytes: its number's key in hexadecimal is beyond the length of a property's name


@pytest.fixture(scope="module")
def shared(server: Service) -> Iterator[WeaviateStore]:
    with WeaviateStore.open(url=server.url, timeout=60, **server.secrets) as opened:
        yield opened


@pytest.fixture
def store(shared: WeaviateStore) -> Iterator[WeaviateStore]:
    yield shared
    for name in shared.list_collections():
        shared.drop_collection(name)


# The index ------------------------------------------------------------------------------------------------------------


def test_ef_is_in_force_on_return_and_kept(store: WeaviateStore) -> None:
    vectors, queries = clustered(4000, 48), clustered(100, 48, seed=1)
    rows, _ = top_k(queries, vectors, 10, Metric.EUCLIDEAN)
    index = HNSW(m=6, ef_construction=24, ef_search=10)
    collection = store.create_collection(CollectionSpec("c", 48, Metric.EUCLIDEAN, index))
    collection.upsert(Records(names(4000), vectors))
    collection.optimize()
    with pytest.raises(UnsupportedOperation, match="per query"):
        collection.search(queries, params=SearchParams(ef_search=400))
    few = recalled(collection, queries, rows)
    assert recalled(collection, queries, rows, exact=True) == 1.0
    other = store.get_collection("c")
    seen = []
    for ef in (40, 1000, 10):
        collection.reconfigure(ef_search=ef)
        seen.append(recalled(other, queries, rows))  # the engine's, not this handle's
        assert store.get_collection("c").spec == collection.spec
        assert collection.spec.index == dataclasses.replace(index, ef_search=ef)
        assert collection.describe()["index"]["ef"] == ef
    assert few < seen[0] < seen[1]
    assert few < 0.95 < seen[1]
    assert abs(seen[2] - few) < 0.02
    assert [len(set(ids)) for ids in collection.search(queries, 300).ids] == [300] * 100  # k beyond ef


def test_what_was_asked_for_is_read_back(store: WeaviateStore) -> None:
    spec = CollectionSpec("c", 8, Metric.COSINE, HNSW(m=7, ef_construction=33, ef_search=21))
    told = store.create_collection(spec).describe()
    kept = {"maxConnections": 7, "efConstruction": 33, "ef": 21, "distanceMetric": "cosine", "flatSearchCutoff": 40_000}
    assert kept.items() <= told["index"].items()
    assert (told["index"]["kind"], told["index"]["quantizer"], told["rows"], told["indexed_rows"]) == (
        "hnsw", "none", 0, 0,
    )  # fmt: skip
    told = store.create_collection(CollectionSpec("f", 8, index=Flat())).describe()
    assert (told["index"]["kind"], told["index"]["quantizer"]) == ("flat", "none")


def test_native_parameters(store: WeaviateStore) -> None:
    native = {"flat_search_cutoff": 0, "filter_strategy": "sweeping", "cleanup_interval_seconds": 60, "ef": -1}
    made = store.create_collection(CollectionSpec("n", 8, index=HNSW(native=native)))
    told = made.describe()["index"]
    kept = {"flatSearchCutoff": 0, "filterStrategy": "sweeping", "cleanupIntervalSeconds": 60, "ef": -1}
    assert kept.items() <= told.items()
    with pytest.raises(UnsupportedOperation, match="native ef"):
        made.reconfigure(ef_search=50)
    quantised: dict[str, Index] = {"rq": HNSW(native={"quantizer": "rq"}), "bq": Flat(native={"quantizer": {"bq": {}}})}
    for name, index in quantised.items():
        collection = store.create_collection(CollectionSpec(name, 64, Metric.COSINE, index))
        collection.upsert(Records(names(200), clustered(200, 64)))
        assert collection.describe()["index"]["quantizer"] == name
        assert len(collection.search(clustered(1, 64, 1), 20).ids[0]) == 20
        with pytest.raises(UnsupportedOperation, match="quantised"):
            collection.search(clustered(1, 64, 1), params=SearchParams(exact=True))
    wrong: list[Index] = [
        HNSW(native={"alpha": 1}), Flat(native={"ef": 4}), HNSW(native={"ef": "many"}), HNSW(m=3),
        HNSW(native={"quantizer": "int4"}), HNSW(native={"quantizer": {"rq": {"words": 1}}}),
        HNSW(native={"filter_strategy": "magic"}), HNSW(native={"quantizer": {"rq": 8}}), HNSW(native={"quantizer": 1}),
    ]  # fmt: skip
    before = store.list_collections()
    for index in wrong:
        with pytest.raises(UnsupportedIndex):
            store.create_collection(CollectionSpec("c", 3, index=index))
    assert store.list_collections() == before


@pytest.mark.parametrize("cutoff", [500, 3000])
def test_exact_search_is_exact_on_both_sides_of_the_cutoff(store: WeaviateStore, cutoff: int) -> None:
    index = HNSW(m=4, ef_construction=4, ef_search=4, native={"flat_search_cutoff": cutoff})
    collection = store.create_collection(CollectionSpec("c", 48, Metric.DOT, index))
    vectors, queries, exact = clustered(2000, 48), clustered(40, 48, 1), SearchParams(exact=True)
    collection.upsert(Records(names(2000), vectors, [{"n": i} for i in range(2000)]))
    for where, many in ((None, 2000), (Lt("n", 1700), 1700), (Lt("n", 499), 499), (Not(Gte("n", 20)), 20)):
        rows, _ = top_k(queries, vectors[:many], 30, Metric.DOT)
        found = collection.search(queries, 30, where=where, params=exact)
        assert found.ids == [[str(r) for r in q] for q in rows]
        assert all((np.diff(d) >= 0).all() for d in found.distances)
    rows, _ = top_k(queries, vectors, 10, Metric.DOT)
    assert recalled(collection, queries, rows) < 1.0  # or the graph would have done as well
    collection.delete(where=Gte("n", 100))
    rows, _ = top_k(queries, vectors[:99], 10, Metric.DOT)
    assert collection.search(queries, 10, where=Ne("n", 99), params=exact).ids == [[str(r) for r in q] for q in rows]


def test_no_exact_search_where_the_cutoff_forbids_it(store: WeaviateStore) -> None:
    collection = store.create_collection(CollectionSpec("c", 4, index=HNSW(native={"flat_search_cutoff": 0})))
    collection.upsert(Records(names(50), clustered(50, 4)))
    with pytest.raises(UnsupportedOperation, match="flat_search_cutoff"):
        collection.search(np.ones(4, np.float32), params=SearchParams(exact=True))
    assert len(collection.search(np.ones(4, np.float32), 60).ids[0]) <= 50


@pytest.mark.parametrize("cutoff", [500, 40_000])
def test_as_many_as_exist_come_back_from_a_graph_in_pieces(store: WeaviateStore, cutoff: int) -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(60, 8))[rng.integers(0, 60, 3000)] * 1000 + rng.normal(size=(3000, 8))).astype("f4")
    index = HNSW(m=4, ef_construction=4, ef_search=4, native={"flat_search_cutoff": cutoff})
    collection = store.create_collection(CollectionSpec("c", 8, Metric.EUCLIDEAN, index))
    collection.upsert(Records(names(3000), vectors, [{"n": i} for i in range(3000)]))
    ask, rows = collection.native.query.near_vector, vectors[:20].tolist()
    assert min(len(ask(near_vector=row, limit=3000, return_properties=[]).objects) for row in rows) < 3000
    for where, matching in ((None, 3000), (Lt("n", 2500), 2500), (Lt("n", 400), 400)):
        for k in (10, 100, 3000):
            result = collection.search(vectors[:20], k, where=where)
            assert [len(set(ids)) for ids in result.ids] == [min(k, matching)] * 20
            assert all((np.diff(d) >= 0).all() for d in result.distances)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("index", [HNSW(), Flat()], ids=["hnsw", "flat"])
def test_scores_are_true_and_vectors_keep_their_bits(store: WeaviateStore, metric: Metric, index: Index) -> None:
    vectors = clustered(400, 24) * np.geomspace(0.01, 100, 400, dtype=np.float32)[:, None]
    vectors[1] = vectors[0] * np.float32(1.0001)
    collection = store.create_collection(CollectionSpec("c", 24, metric, index))
    collection.upsert(Records(names(400), vectors))
    held = collection.get(names(400), include=["vectors"]).vectors
    assert held is not None
    assert held.tobytes() == vectors.tobytes()
    queries = np.concatenate([vectors[:3], clustered(5, 24, 9) * 7])
    result = collection.search(queries, 400)
    assert result.raw is not None
    truth = exact_distances(queries, vectors, metric)
    for ids, distances, raw, true in zip(result.ids, result.distances, result.raw, truth, strict=True):
        assert len(set(ids)) == 400
        expected = true[[int(i) for i in ids]]
        scale = np.linalg.norm(vectors[[int(i) for i in ids]], axis=1) * np.linalg.norm(queries, axis=1).max()
        slack = 1e-6 * np.abs(expected) + (1e-6 * scale if metric is Metric.DOT else 2e-6)
        assert (np.abs(distances - expected) <= slack).all()
        np.testing.assert_array_equal(distances, np.sqrt(raw) if metric is Metric.EUCLIDEAN else raw)


# Records and filters --------------------------------------------------------------------------------------------------

FIELDS = ['a.b"[]', "year", "Year", LONG]
VALUES: list[Any] = [
    "x", "X", " x", "x ", "n:1", "", "true", 0, 1, 1.0, 1.5, -1, True, False, BIG, BIG + 1, float(BIG), -BIG - 1,
    2**63 - 1, -(2**63), 1e300, -1e300, 0.0, -0.0, 5e-324, -5e-324,
]  # fmt: skip
LISTS = [[], ["x"], ["x", "y"], ["n:1", "X"]]


def test_every_filter_selects_what_the_reference_selects(store: WeaviateStore) -> None:
    rng = random.Random(7)  # noqa: S311  repeatable
    metadata = [*random_metadata(rng, 200, FIELDS, [*VALUES, *LISTS]), {}]
    ids = names(len(metadata))
    collection = store.create_collection(CollectionSpec("c", 4))
    collection.upsert(Records(ids, clustered(len(ids), 4), metadata))
    zeros = [op(f, z) for op in (Lt, Lte, Gt, Gte) for f in ("year", LONG) for z in (0.0, -0.0, 0)]
    asked = (*FIELDS, "never written")
    for where in [*zeros, *BOUNDS, *(random_filter(rng, asked, VALUES, ("x", "X", "n:1")) for _ in range(250))]:
        expected = {i for i, m in zip(ids, metadata, strict=True) if matches(where, m)}
        assert collection.count(where) == len(expected), where
        found = collection.search(np.ones(4, np.float32), len(ids), where=where)
        assert set(found.ids[0]) == expected, where
    back = collection.get(ids).metadata
    assert back is not None
    assert [repr(m) for m in back] == [repr(m) for m in metadata]  # repr tells 1 from 1.0, True and −0.0


def test_a_field_that_another_handle_brought_is_known(store: WeaviateStore) -> None:
    one = store.create_collection(CollectionSpec("c", 4))
    two = store.get_collection("c")
    assert one.count(Gt("later", 0)) == 0
    two.upsert(Records(["a", "b"], clustered(2, 4), [{"later": 1}, {"later": -1}]))
    assert one.count(Gt("later", 0)) == 1
    one.upsert(Records(["c"], clustered(1, 4), [{"later": 2}]))
    assert two.count(Gt("later", 0)) == 2


def test_threads_and_handles_may_bring_new_fields_at_once(store: WeaviateStore) -> None:
    store.create_collection(CollectionSpec("c", 4))
    handles = [store.get_collection("c") for _ in range(4)]

    def write(i: int) -> None:
        fields = {f"f{(i + j) % 10}": j for j in range(5)}
        handles[i % 4].upsert(Records([str(i)], clustered(1, 4), [fields]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(20)))
    assert handles[0].count() == 20
    assert [handles[0].count(Gte(f"f{i}", 0)) for i in range(10)] == [10] * 10


def test_filters_beyond_one_answer_delete_and_scan_all(store: WeaviateStore) -> None:
    n = 10_500  # QUERY_MAXIMUM_RESULTS is 10,000
    collection = store.create_collection(CollectionSpec("c", 2, index=Flat()))
    collection.upsert(Records(names(n), clustered(n, 2), [{"odd": i % 2} for i in range(n)]))
    scanned = [i for b in collection.scan(where=Gte("odd", 0), batch_size=2000, include=["metadata"]) for i in b.ids]
    assert sorted(scanned) == sorted(names(n))
    assert len(collection.search(np.ones(2, np.float32), 10_000).ids[0]) == 10_000
    collection.delete(where=Gte("odd", 0))
    assert collection.count() == 0


@pytest.mark.parametrize("most", [1000, 20])
def test_scanning_by_filter_survives_deleting(store: WeaviateStore, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(code, "_MOST", most)
    collection = store.create_collection(CollectionSpec("c", 2))
    collection.upsert(Records(names(100), clustered(100, 2), [{"n": i} for i in range(100)]))
    seen: list[str] = []
    for batch in collection.scan(where=Lt("n", 60), batch_size=7, include=["documents"]):
        assert 1 <= len(batch) <= 7
        assert (batch.metadata, batch.vectors) == (None, None)
        collection.delete(ids=batch.ids)
        seen += batch.ids
    assert sorted(seen) == sorted(names(60))
    assert collection.count() == 40


def test_a_record_that_weaviate_refuses_is_named(store: WeaviateStore) -> None:
    collection = store.create_collection(CollectionSpec("c", 4))
    assert isinstance(collection, code.WeaviateCollection)
    collection._properties |= {"n_" + b"lost".hex()}  # so that it is not declared
    rows: list[dict[str, Any]] = [{}, {"lost": 1}, {"n": 1}, {"lost": 2}]
    with pytest.raises(PartialWriteError, match="2 of 4") as caught:
        collection.upsert(Records(["a", "b", "c", "d"], clustered(4, 4), rows))
    assert (caught.value.accepted, caught.value.failed) == (["a", "c"], ["b", "d"])
    assert list(collection.get(["a", "b", "c", "d"]).ids) == ["a", "c"]
    with pytest.raises(StoreError) as refused:
        collection.upsert(Records(["b", "d"], clustered(2, 4), [rows[1], rows[3]]))
    assert not isinstance(refused.value, PartialWriteError)


def test_what_is_gone_is_in_no_complement(store: WeaviateStore) -> None:
    """Weaviate's own count of what "contains none" has deleted and overwritten records in it, where they are many."""
    collection = store.create_collection(CollectionSpec("c", 4))
    n = 1000
    rows: list[dict[str, Any]] = [{"n": i, "even": i % 2 == 0} for i in range(n)]
    collection.upsert(Records(names(n), clustered(n, 4), rows))
    collection.upsert(Records(names(500), clustered(500, 4, 1), rows[:500]))
    collection.delete(ids=names(n - 20))
    for where, many in ((Ne("n", 999), 19), (Not(Exists("x")), 20), (NotIn("n", []), 20), (Not(Gt("n", 989)), 10)):
        assert collection.count(where) == many, where
        assert len(collection.search(np.ones(4, np.float32), 40, where=where).ids[0]) == many, where
        assert sum(len(b) for b in collection.scan(where=where)) == many, where
    native = collection.native.aggregate.over_all(
        filters=wvc.query.Filter.by_property("t").contains_none(["x"]), total_count=True
    )
    assert native.total_count > 20  # where this fails, Weaviate has mended it and our second condition can go


def test_collections_of_others_are_left_alone(store: WeaviateStore) -> None:
    store.native.collections.create("Vecbench_of_somebody_else", description="not a spec")
    try:
        store.create_collection(CollectionSpec("mine", 2))
        assert store.list_collections() == ["mine"]
        for name in store.list_collections():
            store.drop_collection(name)
        assert store.native.collections.exists("Vecbench_of_somebody_else")
    finally:
        store.native.collections.delete("Vecbench_of_somebody_else")
