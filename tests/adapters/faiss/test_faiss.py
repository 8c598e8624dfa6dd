"""What is FAISS's own: indexes, factory strings, tombstones, true distances. The contract is in tests/conformance."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path

import numpy as np
import pytest

from vecbench import HNSW, CollectionSpec, F, Flat, IVFFlat, Metric, NativeIndex, Records, SearchParams, connect
from vecbench.distance import paired_distances, top_k
from vecbench.errors import CollectionNotFound, ConfigError, StoreRejected, UnsupportedIndex, UnsupportedOperation
from vecbench.index import Index
from vecbench_faiss.rows import SharedLock

from .parts import DIM, check, recall, records, reopened, vectors

KINDS: list[Index] = [
    Flat(),
    HNSW(m=32, ef_construction=400, ef_search=600),
    IVFFlat(nlist=8, nprobe=8),
    NativeIndex("HNSW16,SQ8"),
]
FACTORY = ["PQ8x4fs", "PQ8x4", "PQ8x4fs,RFlat", "SQ8", "LSH", "NSG16", "PCA16,Flat", "OPQ8,IVF16,PQ8x4", "IDMap,Flat"]
FACTORY += ["IVF16,PQ8x4fs,RFlat", "IVF16_HNSW8,SQ8", "IDMap2,HNSW16", "PCA16,HNSW8", "HNSW16,SQ8,RFlat"]


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("index", KINDS, ids=lambda i: i.kind)
def test_a_life_of_updates_and_deletes(index: Index, metric: Metric, tmp_path: Path) -> None:
    with connect("faiss", path=tmp_path) as store:
        c = store.create_collection(CollectionSpec("c", DIM, metric, index))
        first = records(600)
        assert first.vectors is not None
        c.upsert(first)
        c.optimize()
        truth = dict(zip(first.ids, first.vectors, strict=True))
        nearest = index.kind != "native"  # the compressed graph is held to its distances only
        check(c, truth, exact=nearest)

        changed = vectors(60, seed=2)  # tombstones, and rows that the index does not cover
        c.upsert(Records([f"r{i}" for i in range(60)], changed))
        truth |= {f"r{i}": changed[i] for i in range(60)}
        c.delete(ids=[f"r{i}" for i in range(100, 120)])
        for i in range(100, 120):
            del truth[f"r{i}"]
        check(c, truth, exact=nearest)
        c.optimize()  # few dead rows: they stay
        check(c, truth, exact=nearest)
        assert c.describe()["indexed_rows"] >= len(truth)
        c.flush()

        c.delete(where=F("n") >= 300)
        truth = {id_: v for id_, v in truth.items() if int(id_[1:]) < 300}
        assert c.count() == len(truth) == 280
        check(c, truth, exact=nearest)
        c.optimize()
        told = c.describe()
        assert (told["deleted_rows_kept"], told["indexed_rows"]) == (0, 280)
        check(c, truth, exact=nearest)
    with connect("faiss", path=tmp_path) as store:
        c = store.get_collection("c")
        assert c.describe()["indexed_rows"] == 280
        check(c, truth, exact=nearest)
        back = c.get(list(truth))
        assert back.vectors is not None
        assert np.array_equal(back.vectors, np.stack(list(truth.values())))


@pytest.mark.parametrize("name", FACTORY)
def test_factory_string(name: str) -> None:
    with connect("faiss", threads=1) as store:
        c = store.create_collection(CollectionSpec("c", DIM, Metric.EUCLIDEAN, NativeIndex(name)))
        r = records(2200)
        assert r.vectors is not None
        c.upsert(r)
        c.optimize()
        assert c.describe()["indexed_rows"] == 2200
        truth = dict(zip(r.ids, r.vectors, strict=True))
        check(c, truth, exact=False)
        odd = c.search(vectors(3, seed=5), 10, where=F("parity") == 1)  # 1,100 match: more than are searched exactly
        assert all(int(id_[1:]) % 2 == 1 for ids in odd.ids for id_ in ids)
        assert [len(ids) for ids in odd.ids] == [10, 10, 10]
        exact = c.search(vectors(3, seed=5), 10, params=SearchParams(exact=True))
        nearest, _ = top_k(vectors(3, seed=5), r.vectors, 10, Metric.EUCLIDEAN)
        assert exact.ids == [[f"r{row}" for row in rows] for rows in nearest]
        c.upsert(Records(["new"], vectors(1, seed=5)))  # a row that the index does not cover beats all that it does
        c.delete(ids=["r0", "r1"])
        truth = {i: v for i, v in truth.items() if i not in {"r0", "r1"}} | {"new": vectors(1, seed=5)[0]}
        assert c.search(vectors(1, seed=5), 3).ids[0][0] == "new"
        check(c, truth, exact=False)


def test_factory_string_with_portable_parameters() -> None:
    with connect("faiss") as store:
        graph = store.create_collection(CollectionSpec("g", DIM, index=NativeIndex("HNSW16")))
        lists = store.create_collection(CollectionSpec("l", DIM, Metric.DOT, index=NativeIndex("IVF50,Flat")))
        for c in (graph, lists):
            c.upsert(records(3000))
            c.optimize()
        query = vectors(200, seed=3)
        few, many = (lists.search(query, 10, params=SearchParams(nprobe=n)).ids for n in (1, 50))
        exact = lists.search(query, 10, params=SearchParams(exact=True)).ids
        assert many == exact != few
        few, many = (graph.search(query, 1, params=SearchParams(ef_search=n)).ids for n in (1, 1000))
        exact = graph.search(query, 1, params=SearchParams(exact=True)).ids
        assert many == exact != few
        with pytest.raises(UnsupportedOperation, match="nprobe means nothing on the index 'HNSW16'"):
            graph.search(query, params=SearchParams(nprobe=3))
        with pytest.raises(UnsupportedOperation, match="ef_search means nothing on the index 'IVF50,Flat'"):
            lists.search(query, params=SearchParams(ef_search=30))


def test_what_is_refused(tmp_path: Path) -> None:
    with connect("faiss") as store:
        for bad in (
            NativeIndex("NoSuch99"),
            HNSW(native={"efConstruction": 9}),
            IVFFlat(native={"niter": "x"}),
            Flat(native={"a": 1}),
        ):
            with pytest.raises(UnsupportedIndex):
                store.create_collection(CollectionSpec("c", DIM, index=bad))
        c = store.create_collection(CollectionSpec("c", DIM, index=HNSW()))
        for native in ({"no_such": 1}, {"bounded_queue": "yes"}):
            with pytest.raises(UnsupportedOperation, match="bounded_queue"):
                c.search(vectors(1), params=SearchParams(native=native))
        c.upsert(records(50))
        assert len(c.search(vectors(1), 5, params=SearchParams(native={"bounded_queue": False})).ids[0]) == 5
        c = store.create_collection(CollectionSpec("pq", DIM, index=NativeIndex("PQ8x8")))
        c.upsert(records(50))
        with pytest.raises(StoreRejected, match="'PQ8x8' cannot be made over 50 rows"):
            c.optimize()
        assert len(c.search(vectors(1), 5).ids[0]) == 5
    for options in ({"url": "http://x"}, {"mode": "x"}, {"colour": 1}, {"threads": 0}):
        with pytest.raises(ConfigError):
            connect("faiss", **options)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):  # as every store says it
        connect("faiss", path=tmp_path / "file")


def test_too_few_rows_to_train_are_searched_exactly_and_it_says_so() -> None:
    with connect("faiss") as store:
        c = store.create_collection(CollectionSpec("c", DIM, Metric.EUCLIDEAN, IVFFlat(nlist=64)))
        c.optimize()
        r = records(63)
        c.upsert(r)
        c.optimize()
        assert c.describe()["index"]["kind"] == "flat"
        assert "too few rows" in c.describe()["note"]
        c.upsert(Records(["one more"], vectors(1, seed=4)))
        c.optimize()
        assert c.describe()["index"] == {"kind": "ivf_flat", "faiss_class": "IndexIVFFlat", "nlist": 64, "nprobe": 8}


def test_an_index_over_rows_that_were_dropped_is_not_used_again(tmp_path: Path) -> None:
    with connect("faiss", path=tmp_path) as store:
        c = store.create_collection(CollectionSpec("c", DIM, Metric.EUCLIDEAN, IVFFlat(nlist=8, nprobe=8)))
        c.upsert(records(100))
        c.optimize()
        c.flush()
        c.delete(where=F("n") < 95)
        c.optimize()  # five rows are left: too few to train on
    with reopened(tmp_path) as c:
        assert c.describe()["indexed_rows"] == 5
        assert c.search(vectors(100)[97], 1).ids == [["r97"]]


@pytest.mark.parametrize("queries", [1, 50])
def test_distances_far_from_the_origin(monkeypatch: pytest.MonkeyPatch, queries: int) -> None:
    """FAISS computes from squares where it is faster: many queries, or one over many rows; the digits are lost."""
    faiss = importlib.import_module("faiss")
    monkeypatch.setattr(faiss.cvar, "distance_compute_blas_threshold", 20)
    with connect("faiss") as store:
        c = store.create_collection(CollectionSpec("c", DIM, Metric.EUCLIDEAN, Flat()))
        base, asked = vectors(10_000) / 40 + 100, vectors(queries, seed=3) / 40 + 100
        c.upsert(Records([str(i) for i in range(len(base))], base))
        result = c.search(asked, 10)
        for i, query in enumerate(asked):
            true = paired_distances(query, base[[int(id_) for id_ in result.ids[i]]], Metric.EUCLIDEAN)
            np.testing.assert_allclose(result.distances[i], true, rtol=1e-5)


def test_small_inner_products_of_long_vectors() -> None:
    with connect("faiss") as store:
        c = store.create_collection(CollectionSpec("c", DIM, Metric.DOT))
        base, query = vectors(20) * 50, vectors(1, seed=3)[0] * 50
        c.upsert(Records([str(i) for i in range(20)], base))
        c.optimize()
        result = c.search(query, 20)
        true = paired_distances(query, base[[int(id_) for id_ in result.ids[0]]], Metric.DOT)
        np.testing.assert_allclose(result.distances[0], true, rtol=1e-9)


def test_a_writer_waits_for_readers_and_goes_before_later_ones() -> None:
    lock, written = SharedLock(), threading.Event()

    def write() -> None:
        with lock.writing():
            written.set()

    def read() -> None:
        with lock.reading():
            late.append(written.is_set())

    late: list[bool] = []
    lock.start_reading()
    writer, reader = threading.Thread(target=write), threading.Thread(target=read)
    writer.start()
    assert not written.wait(0.1)
    reader.start()
    reader.join(0.1)
    assert late == []
    lock.stop_reading()
    writer.join()
    reader.join()
    assert late == [True]


def test_filtered_graph_search_keeps_recall_at_every_share() -> None:
    with connect("faiss") as store:
        c = store.create_collection(CollectionSpec("c", DIM, Metric.EUCLIDEAN))
        r = records(20_000)
        assert r.vectors is not None
        c.upsert(r)
        c.optimize()
        queries, ef = vectors(50, seed=6), SearchParams(ef_search=64)
        nearest, _ = top_k(queries, r.vectors, 10, Metric.EUCLIDEAN)
        unfiltered = recall(c.search(queries, 10, params=ef).ids, [[f"r{i}" for i in row] for row in nearest])
        assert unfiltered < 0.95  # otherwise a search that ignores the graph would pass too
        for share in (0.0005, 0.02, 0.06, 0.3, 0.5, 0.9):
            n = int(20_000 * share)
            found = c.search(queries, 10, where=F("n") < n, params=ef).ids
            nearest, _ = top_k(queries, r.vectors[:n], 10, Metric.EUCLIDEAN)
            assert recall(found, [[f"r{i}" for i in row] for row in nearest]) >= unfiltered - 0.02
            assert all(len(ids) == nearest.shape[1] for ids in found)


def test_handles(tmp_path: Path) -> None:
    with connect("faiss", path=tmp_path) as store:
        c = store.create_collection(CollectionSpec("c", DIM))
        store.get_collection("c").upsert(records(5))
        assert c.count() == 5
        store.drop_collection("c")
        for use in (c.count, c.flush, c.optimize, lambda: c.search(vectors(1)), lambda: c.upsert(records(1))):
            with pytest.raises(CollectionNotFound):
                use()
        assert not list(tmp_path.glob("c-*"))
        assert store.create_collection(CollectionSpec("c", DIM)).count() == 0


def test_searches_beside_writes() -> None:
    with connect("faiss", threads=1) as store:
        c = store.create_collection(CollectionSpec("c", DIM, Metric.EUCLIDEAN))
        stay = vectors(200)
        c.upsert(Records([f"s{i}" for i in range(200)], stay, [{"stay": True}] * 200))
        stop, failures = threading.Event(), []

        def search() -> None:
            while not stop.is_set():
                for where in (None, F("stay") == True):  # noqa: E712  builds a filter
                    try:
                        hit = next(c.search(stay[7], 3, where=where).hits())
                        assert (hit.id, hit.distance) == ("s7", 0.0)
                    except Exception as e:
                        failures.append(e)
                        stop.set()

        searchers = [threading.Thread(target=search) for _ in range(3)]
        for s in searchers:
            s.start()
        for i in range(60):
            c.upsert(Records([f"w{j}" for j in range(20)], vectors(20, seed=i)))
            if i % 3 == 0:
                c.delete(ids=["w0", "w1"])
                c.optimize()
        stop.set()
        for s in searchers:
            s.join()
        assert failures == []
