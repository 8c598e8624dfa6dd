"""What is the engines' own, Milvus and Milvus Lite: the index in use, expressions, sizes, consistency."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.random_filters import BOUNDS, random_filter, random_metadata
from tests.adapters.vectors import clustered, recalled
from vecbench.distance import exact_distances, top_k
from vecbench.errors import InvalidMetadata, UnsupportedIndex, UnsupportedOperation
from vecbench.filters import F, matches
from vecbench.index import HNSW, Flat, Index, IVFFlat, NativeIndex, SearchParams
from vecbench.services.local import Service
from vecbench.spec import CollectionSpec
from vecbench.store import Collection, VectorStore
from vecbench.types import Metric, Records, Vectors
from vecbench_milvus import MilvusStore
from vecbench_milvus import collection as collection_module
from vecbench_milvus.filters import id_of, pk

from .parts import numbered


def recall(collection: Collection, data: Records, queries: Vectors, **params: Any) -> float:
    assert data.vectors is not None
    return recalled(collection, queries, top_k(queries, data.vectors, 10, collection.spec.metric)[0], **params)


# The index ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", list(Metric))
def test_a_search_after_optimize_walks_the_graph(store: VectorStore, metric: Metric) -> None:
    """At once: not the unindexed copy, nor the server's interim index, neither of which knows ef."""
    data, queries = numbered(5000, 64), clustered(60, 64, seed=1)
    collection = store.create_collection(CollectionSpec("c", 64, metric, HNSW(m=8, ef_construction=32)))
    collection.upsert(data)
    collection.optimize()
    few, many = recall(collection, data, queries, ef_search=10), recall(collection, data, queries, ef_search=800)
    assert few < 0.9
    assert many > few + 0.1
    said = collection.describe()
    assert (said["rows"], said["indexed_rows"]) == (5000, 5000)
    assert (said["index"]["M"], said["index"]["efConstruction"]) == (8, 32)
    if store.name == "milvus":
        assert said["loaded_rows"] == 5000
    else:  # which tells what it was told, and used to build with other parameters
        (segment,) = store._database.get_collection(said["native_name"])._segments_snapshot()  # type: ignore[attr-defined]  # lite has one
        graph = segment.indexes["vector"]._index.hnsw
        assert (graph.nb_neighbors(0), graph.efConstruction) == (16, 32)


def test_as_many_matches_as_exist_come_back(store: VectorStore) -> None:
    """Before the index is built too, where a server of its own accord looks at an eighth of the rows."""
    n = 20_000 if store.name == "milvus" else 3_000
    data, queries = numbered(n, 32), clustered(4, 32, seed=1)
    assert data.vectors is not None
    collection = store.create_collection(CollectionSpec("c", 32, Metric.EUCLIDEAN, HNSW()))
    collection.upsert(data)
    for _ in range(2):
        for where, step in ((F("n") == 3, 1000), (F("n") < 2, None), (None, None)):
            matching = n if where is None else n // 1000 * (1 if step else 2)
            for k in (5, 40, 6000 if store.name == "milvus" else 3000):
                result = collection.search(queries, k, where=where, params=SearchParams(ef_search=5))
                assert [len(set(ids)) for ids in result.ids] == [min(k, matching)] * 4, (where, k)
                assert all((np.diff(d) >= 0).all() for d in result.distances)
            if step:
                rows, truth = top_k(queries, data.vectors[3::step], matching, Metric.EUCLIDEAN)
                result = collection.search(queries, 100, where=where, include=["metadata"])
                assert [[(int(i) - 3) // step for i in ids] for ids in result.ids] == rows.tolist()
                np.testing.assert_allclose(result.distances, truth, rtol=1e-5)
                assert result.raw is not None
                np.testing.assert_allclose(np.sqrt(result.raw), truth, rtol=1e-5)
                assert result.records is not None
                assert all(m == {"n": 3} for r in result.records for m in r.metadata or ())
        collection.optimize()


@pytest.mark.parametrize(
    ("index", "searched"),
    [
        (NativeIndex("IVF_SQ8", {"nlist": 16}), {"nprobe": 16}),
        (NativeIndex("IVF_PQ", {"nlist": 16, "m": 8}), {"nprobe": 16}),
        (NativeIndex("SCANN", {"nlist": 16}), {"nprobe": 16, "native": {"reorder_k": 100}}),
        (NativeIndex("HNSW_SQ", {"M": 8, "efConstruction": 64}), {"ef_search": 64}),
    ],
)
def test_a_compressed_index_answers_with_true_distances(
    request: pytest.FixtureRequest, index: NativeIndex, searched: dict[str, Any]
) -> None:
    engines = ["lite"] if index.name == "HNSW_SQ" else ["milvus", "lite"] if index.name == "IVF_SQ8" else ["milvus"]
    for engine in engines:
        store: VectorStore = request.getfixturevalue(engine)
        data, queries = numbered(2000, 16), clustered(20, 16, seed=1)
        assert data.vectors is not None
        for metric in Metric:
            collection = store.create_collection(CollectionSpec(metric, 16, metric, index))
            collection.upsert(data)
            collection.optimize()
            assert recall(collection, data, queries, **searched) > 0.3
            result = collection.search(queries, 10, params=SearchParams(**searched), include=["metadata"])
            truth = exact_distances(queries, data.vectors, metric)
            for row, (ids, far) in enumerate(zip(result.ids, result.distances, strict=True)):
                np.testing.assert_allclose(far, truth[row, [int(i) for i in ids]], rtol=1e-12)
                assert (np.diff(far) >= 0).all()
            assert result.records is not None
            assert result.records[0].metadata == [{"n": int(i) % 1000} for i in result.ids[0]]
            assert result.records[0].vectors is None
            store.drop_collection(metric)


def test_ivf_visits_as_many_cells_as_it_is_told(store: VectorStore) -> None:
    data, queries = numbered(5000, 32), clustered(40, 32, seed=1)
    collection = store.create_collection(CollectionSpec("c", 32, Metric.EUCLIDEAN, IVFFlat(nlist=64, nprobe=2)))
    collection.upsert(data)
    collection.optimize()
    found = [recall(collection, data, queries, **how) for how in ({}, {"nprobe": 16}, {"nprobe": 64})]
    assert found[0] < found[1] < found[2] == 1.0


def test_flat_is_exact_before_and_after_optimize(store: VectorStore) -> None:
    n = 20_000 if store.name == "milvus" else 3_000  # large enough for an interim index, were there one
    data, queries = numbered(n, 32), clustered(20, 32, seed=1)
    collection = store.create_collection(CollectionSpec("c", 32, Metric.COSINE, Flat()))
    collection.upsert(data)
    assert recall(collection, data, queries, exact=True) == 1.0
    collection.optimize()
    assert recall(collection, data, queries) == 1.0


def test_parameters_that_the_engine_lacks_are_refused(store: VectorStore) -> None:
    indexes: list[Index] = [
        HNSW(native={"alpha": 1}), Flat(native={"M": 4}), IVFFlat(native={"nbits": 8}), NativeIndex("DISKANN"),
        NativeIndex("IVF_SQ8", {"m": 4}),
    ]  # fmt: skip
    if store.name == "milvus":
        indexes += [HNSW(m=5000), IVFFlat(nlist=10**6), NativeIndex("IVF_PQ", {"nlist": 4, "m": 2})]
    for index in indexes:
        with pytest.raises(UnsupportedIndex):
            store.create_collection(CollectionSpec("c", 3, index=index))
    assert store.list_collections() == []
    collection = store.create_collection(CollectionSpec("c", 3, index=HNSW(native={"M": 20})))
    for native in ({"nprobe": 3}, {"EF": 3}):
        with pytest.raises(UnsupportedOperation, match="it has ef"):
            collection.search(np.ones(3, np.float32), params=SearchParams(native=native))
    assert collection.search(np.ones(3, np.float32), params=SearchParams(native={"ef": 99})).ids == [[]]


# Records and expressions --------------------------------------------------------------------------------------------


@given(st.text(min_size=1).filter(lambda t: "\0" not in t))
def test_no_id_can_be_read_as_an_expression(id_: str) -> None:
    assert id_of(pk(id_)) == id_
    assert set(pk(id_)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-~%:=")


def test_ids_that_look_encoded_are_others(store: VectorStore) -> None:
    ids = ["a b", "a%20b", "a%2520b", '"] or id != ["', "漢" * 170, "%", "x" * 512]
    collection = store.create_collection(CollectionSpec("c", 2, Metric.EUCLIDEAN, Flat()))
    vectors = clustered(len(ids), 2)
    collection.upsert(Records(ids, vectors))
    assert list(collection.get(ids).ids) == ids
    assert collection.get(ids).vectors.tobytes() == vectors.tobytes()  # type: ignore[union-attr]  # included
    assert sorted(collection.search(vectors[0], 10).ids[0]) == sorted(ids)
    assert sorted(i for b in collection.scan(batch_size=2) for i in b.ids) == sorted(ids)
    collection.delete(ids=ids[1:4])
    assert collection.count() == len(ids) - 3


def test_every_filter_selects_what_the_reference_selects(store: VectorStore) -> None:
    rng = random.Random(7)  # noqa: S311  repeatable
    metadata = [*random_metadata(rng, 200), {}]
    ids = [f"id {i}" for i in range(len(metadata))]
    collection = store.create_collection(CollectionSpec("c", 4, index=Flat()))
    collection.upsert(Records(ids, clustered(len(ids), 4), metadata))
    collection.optimize()
    for where in [*BOUNDS, *(random_filter(rng) for _ in range(300))]:
        expected = {i for i, m in zip(ids, metadata, strict=True) if matches(where, m)}
        assert collection.count(where) == len(expected), where
        assert set(collection.search(np.ones(4, np.float32), len(ids), where=where).ids[0]) == expected, where
    for id_, held, given_ in zip(ids, collection.get(ids).metadata or [], metadata, strict=True):
        assert repr(held) == repr(given_), id_  # repr tells 1 from 1.0 and True


def test_what_does_not_fit_is_refused_before_anything_is_written(store: VectorStore) -> None:
    collection = store.create_collection(CollectionSpec("c", 3, Metric.EUCLIDEAN, Flat()))
    n = 10_001  # the last row is in the second batch
    ids, vectors = [str(i) for i in range(n)], clustered(n, 3)
    widest = "é" * 32_767
    for document in (widest + "x", "x" * 65_535):
        with pytest.raises(InvalidMetadata, match=f"row {n - 1}: the document has 65535 bytes"):
            collection.upsert(Records(ids, vectors, documents=[*[None] * (n - 1), document]))
    large: list[dict[str, Any]] = [
        {"text": "x" * 65_530},
        {"list": [str(i) for i in range(4_096)]},
        {"é" * 40 + str(i): 0.1 + i for i in range(400)},
    ]
    for metadata in large:
        with pytest.raises(InvalidMetadata, match="row 1: "):
            collection.upsert(Records(ids[:2], vectors[:2], [{}, metadata]))
    assert collection.count() == 0
    fits: list[dict[str, Any]] = [{"text": "x" * 65_500}, {"list": [str(i) for i in range(4_095)]}]
    collection.upsert(Records(ids[:2], vectors[:2], fits, [widest, ""]))
    back = collection.get(ids[:2])
    assert back.documents == [widest, ""]
    assert back.metadata == fits
    assert collection.count(F("list").contains("4094")) == 1


def test_large_answers_come_in_parts(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Records([str(i) for i in range(300)], clustered(300, 8), [{"n": i} for i in range(300)], ["text"] * 300)
    collection = store.create_collection(CollectionSpec("c", 8, Metric.EUCLIDEAN, Flat()))
    collection.upsert(data)
    queries = clustered(7, 8, 1)
    whole = collection.search(queries, 50, include=["metadata", "documents", "vectors"])
    monkeypatch.setattr(collection_module, "_ANSWER_BYTES", 500_000)
    parts = collection.search(queries, 50, include=["metadata", "documents", "vectors"])
    assert parts.ids == whole.ids
    for a, b in zip(parts.records or (), whole.records or (), strict=True):
        assert (a.ids, a.metadata, a.documents) == (b.ids, b.metadata, b.documents)
        assert a.vectors.tobytes() == b.vectors.tobytes()  # type: ignore[union-attr]  # included
    assert list(collection.get(data.ids).ids) == data.ids
    assert sorted(i for b in collection.scan() for i in b.ids) == sorted(data.ids)


# Consistency --------------------------------------------------------------------------------------------------------


def test_the_first_read_after_a_write_is_strong(milvus: MilvusStore, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = milvus.create_collection(CollectionSpec("c", 3, Metric.EUCLIDEAN, Flat()))
    other = milvus.get_collection("c")
    asked: list[str] = []
    real = milvus.native.query

    def spy(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["consistency_level"])
        return real(*args, **kwargs)

    monkeypatch.setattr(milvus.native, "query", spy)
    for round_ in range(3):
        collection.upsert(Records([f"{round_}-{i}" for i in range(500)], clustered(500, 3)))
        assert other.count() == 500 * (round_ + 1)  # another handle of this store
        assert collection.count() == 500 * (round_ + 1)
        collection.delete(ids=[f"{round_}-0"])
        assert collection.get([f"{round_}-0", f"{round_}-1"]).ids == [f"{round_}-1"]
        collection.upsert(Records([f"{round_}-0"], clustered(1, 3)))
        assert len(collection.get([f"{round_}-0"])) == 1
        assert len(collection.get([f"{round_}-0"])) == 1
    assert asked == ["Strong", "Bounded", "Strong", "Strong", "Bounded"] * 3


def test_a_write_during_a_strong_read_makes_the_next_one_strong(milvus: MilvusStore) -> None:
    collection = milvus.create_collection(CollectionSpec("c", 3, Metric.EUCLIDEAN, Flat()))

    def work(thread: int) -> None:
        for i in range(5):
            ids = [f"{thread}-{i}-{j}" for j in range(20)]
            collection.upsert(Records(ids, clustered(20, 3)))
            assert len(collection.get(ids)) == 20

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_flush_shows_what_another_store_wrote(milvus: MilvusStore, server: Service) -> None:
    mine = milvus.create_collection(CollectionSpec("c", 3, Metric.EUCLIDEAN, Flat()))
    assert mine.count() == 0
    with MilvusStore.open(url=server.url) as store:
        theirs = store.get_collection("c")
        for round_ in range(3):
            theirs.upsert(Records([f"{round_}-{i}" for i in range(500)], clustered(500, 3)))
            mine.flush()
            assert mine.count() == 500 * (round_ + 1)
        assert theirs.count() == 1500
        mine.upsert(Records(["new"], clustered(1, 3)))
        theirs.delete(where=~F("n").exists())  # looks for what matches, and must find the new one
        mine.flush()
        assert mine.count() == 0
