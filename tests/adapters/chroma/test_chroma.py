"""What is Chroma's own: ef_search in force, its traps, its limits."""

from __future__ import annotations

import math
import random
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adapters.vectors import recalled
from vecbench.collection import Collection
from vecbench.distance import exact_distances, top_k
from vecbench.errors import (
    CollectionNotFound,
    InvalidMetadata,
    StoreRejected,
    UnsupportedFilter,
    UnsupportedIndex,
    UnsupportedOperation,
)
from vecbench.filters import Contains, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, NotIn, matches
from vecbench.index import HNSW, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records, Vectors
from vecbench_chroma import ChromaStore
from vecbench_chroma.filters import ordered


@pytest.fixture(params=["embedded", "server"])
def store(request: pytest.FixtureRequest) -> Iterator[ChromaStore]:
    url = request.getfixturevalue("server") if request.param == "server" else None
    with ChromaStore.open(url=url) as opened:
        yield opened
        for name in opened.list_collections():
            opened.drop_collection(name)


def clustered(n: int, dim: int, seed: int = 0) -> Vectors:
    """The same centres with every seed: queries lie where the vectors do."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(50, dim))
    return (centres[rng.integers(0, 50, n)] + rng.normal(size=(n, dim))).astype(np.float32)


# ef_search ------------------------------------------------------------------------------------------------------------


def fill(store: ChromaStore, metric: Metric = Metric.EUCLIDEAN) -> tuple[Collection, Vectors, Any]:
    vectors, queries = clustered(4000, 64), clustered(100, 64, seed=1)
    index = HNSW(m=8, ef_construction=64, ef_search=10)
    collection = store.create_collection(CollectionSpec("c", 64, metric, index))
    collection.upsert(Records([str(i) for i in range(4000)], vectors))
    return collection, queries, top_k(queries, vectors, 10, metric)[0]


LEGACY = pytest.mark.filterwarnings("ignore:legacy embedding function config:DeprecationWarning")  # raw client's


@LEGACY
@pytest.mark.parametrize("mode", ["embedded", "server"])
def test_reconfigure_puts_ef_search_in_force(mode: str, tmp_path: Path) -> None:
    with ChromaStore.open(mode=mode, path=tmp_path) as store:
        collection, queries, rows = fill(store)
        other = store.get_collection("c")
        held = collection.native
        narrow = recalled(collection, queries, rows)
        assert narrow < 0.97
        held.modify(configuration={"hnsw": {"ef_search": 300}})  # the trap: told, and not done
        assert held.configuration_json["hnsw"]["ef_search"] == 300
        assert recalled(collection, queries, rows) == narrow

        collection.reconfigure(ef_search=300)
        for handle in (collection, other, store.get_collection("c")):
            assert recalled(handle, queries, rows) > 0.99
            assert recalled(handle, queries, rows, ef_search=300) > 0.99
            with pytest.raises(UnsupportedOperation):
                handle.search(queries, params=SearchParams(ef_search=10))
            assert handle.describe()["index"]["ef_search"] == 300
            assert isinstance(handle.spec.index, HNSW)
            assert handle.spec.index.ef_search == 300
        assert collection.native is not held
        other.reconfigure(ef_search=10)
        assert recalled(collection, queries, rows) == narrow
        other.upsert(Records(["new"], clustered(1, 64, seed=3)))
        assert collection.count() == 4001
    with ChromaStore.open(path=tmp_path) as store:  # embedded over what the server wrote, too
        assert store.get_collection("c").spec == other.spec
        assert recalled(store.get_collection("c"), queries, rows) == pytest.approx(narrow, abs=0.02)


def test_a_server_by_url_cannot_be_reconfigured(server: str) -> None:
    with ChromaStore.open(url=server) as store:
        collection = store.create_collection(CollectionSpec("r", 4))
        with pytest.raises(UnsupportedOperation):
            collection.reconfigure(ef_search=10)
        with pytest.raises(UnsupportedOperation):
            collection.search(np.ones(4, np.float32), params=SearchParams(ef_search=65))
        store.drop_collection("r")


def test_searches_go_on_while_ef_search_changes() -> None:
    with ChromaStore.open() as store:
        collection, queries, _ = fill(store)
        done = threading.Event()

        def search(_thread: int) -> int:
            count = 0
            while not done.is_set():
                assert len(collection.search(queries[:1], 5).ids[0]) == 5
                collection.upsert(Records([f"t{_thread}"], queries[:1]))
                count += 1
            return count

        with ThreadPoolExecutor(4) as pool:
            work = [pool.submit(search, i) for i in range(4)]
            for ef in range(20, 40):
                collection.reconfigure(ef_search=ef)
            done.set()
            assert all(w.result() for w in work)
        assert collection.count() == 4004


def test_another_client_in_the_process_is_told_to_close(tmp_path: Path) -> None:
    import chromadb

    with ChromaStore.open(path=tmp_path) as store:
        collection = store.create_collection(CollectionSpec("c", 4))
        settings = chromadb.config.Settings(_env_file=None, anonymized_telemetry=False)
        with chromadb.PersistentClient(str(tmp_path), settings), pytest.raises(StoreRejected, match="another chromadb"):
            collection.reconfigure(ef_search=99)
        assert collection.count() == 0
        collection.reconfigure(ef_search=99)


# Traps of the engine --------------------------------------------------------------------------------------------------


def test_lists_of_a_dropped_collection_do_not_haunt_the_next(store: ChromaStore) -> None:
    """https://github.com/chroma-core/chroma/issues/7594"""
    vectors, spec = clustered(50, 4), CollectionSpec("c", 4)
    ids = [str(i) for i in range(50)]
    store.create_collection(spec).upsert(Records(ids, vectors, [{"tags": ["ghost"]} for _ in ids]))
    store.drop_collection("c")
    collection = store.create_collection(spec)
    collection.upsert(Records(ids, vectors))
    assert collection.count(Contains("tags", "ghost")) == collection.count(Exists("tags")) == 0
    assert collection.get(ids).metadata == [{}] * 50


def test_an_upsert_leaves_nothing_of_the_old_record_in_the_engine(store: ChromaStore) -> None:
    collection = store.create_collection(CollectionSpec("c", 4))
    vectors = clustered(2, 4)
    collection.upsert(Records(["a", "b"], vectors, [{"n": 1, "s": "x", "l": ["y"]}, {"k": 1}], ["text", ""]))
    collection.upsert(Records(["a", "b"], vectors, [{"m": 2.5}, {}]))
    held = collection.native.get(ids=["a", "b"])
    assert {key[:2] for key in held["metadatas"][0]} == {"m", "t_", "n_", "no"}
    assert held["metadatas"][1] == {"none": True}
    assert held["documents"] == ["", ""]
    back = collection.get(["a", "b"])
    assert (back.metadata, back.documents) == ([{"m": 2.5}, {}], [None, None])
    collection.upsert(Records(["a"], vectors[:1], documents=[""]))
    assert collection.get(["a"]).documents == [""]
    assert collection.native.get(ids=["a"])["metadatas"] == [None]


def test_rows_that_the_graph_has_lost_come_back(store: ChromaStore) -> None:
    """A thin graph, rewritten: Chroma alone answers short."""
    n = 1500
    ids = [str(i) for i in range(n)]
    for metric in Metric:
        collection = store.create_collection(CollectionSpec(metric, 8, metric, HNSW(m=2, ef_construction=4)))
        metadata = [{"n": i, "half": i % 2} for i in range(n)]
        for seed in range(3):
            vectors = clustered(n, 8, seed)
            collection.upsert(Records(ids, vectors, metadata, ids))
        queries = clustered(3, 8, seed=9)
        native = collection.native.query(query_embeddings=queries, n_results=n, include=[])["ids"]
        assert min(map(len, native)) < n, "the engine has become complete: this test shows nothing now"
        truth = np.sort(exact_distances(queries, vectors, metric), axis=1)
        result = collection.search(queries, n, include=["documents", "vectors", "metadata"])
        assert [sorted(found) for found in result.ids] == [sorted(ids)] * 3
        np.testing.assert_allclose(result.distances, truth, rtol=2e-6, atol=4e-6)
        assert result.records is not None
        assert [list(r.documents or ()) for r in result.records] == result.ids
        half = collection.search(queries, n, where=Lt("half", 1))
        assert [len(set(found)) for found in half.ids] == [n // 2] * 3
        assert all(int(i) % 2 == 0 for found in half.ids for i in found)


def test_more_values_than_sqlite_takes_are_refused_before_they_poison_the_collection(store: ChromaStore) -> None:
    most = store.capabilities.max_batch
    assert most is not None
    collection = store.create_collection(CollectionSpec("c", 4))
    vectors = clustered(2, 4)
    collection.upsert(Records(["a"], vectors[:1], [{"l": [f"x{i}" for i in range(most - 1)]}]))
    assert collection.count(Contains("l", f"x{most - 2}")) == 1
    for bad in ({"l": [f"x{i}" for i in range(most)]}, {f"k{i}": i for i in range(most // 4 + 1)}):
        with pytest.raises(InvalidMetadata, match="row 1"):
            collection.upsert(Records(["b", "c"], vectors, [{}, bad]))
    collection.upsert(Records(["d"], vectors[:1], [{f"k{i}": i for i in range(most // 4)}]))
    assert collection.count() == 2


def test_filters_of_thousands_of_values(store: ChromaStore) -> None:
    collection = store.create_collection(CollectionSpec("c", 4))
    n = 200
    metadata: list[dict[str, Any]] = [{"n": i, "s": f"v{i}"} for i in range(n)]
    collection.upsert(Records([str(i) for i in range(n)], clustered(n, 4), metadata))
    many = [f"v{i}" for i in range(150, 3150)]
    assert collection.count(In("s", many)) == 50
    assert collection.count(NotIn("s", many)) == 150
    with pytest.raises(UnsupportedFilter, match="too large"):
        collection.count(In("n", list(range(40_000))))


def test_numbers_compare_to_their_last_bit(store: ChromaStore) -> None:
    """Chroma reads a float from JSON and may lose its last bit; over HTTP 8 % of random ones."""
    rng = random.Random(5)  # noqa: S311  repeatable
    numbers: list[Any] = [0.1, -0.0, 0, 5e-324, -5e-324, 1.7976931348623157e308, 2**63 - 1, -(2**63), 2**53 + 1]
    while len(numbers) < 400:
        value = struct.unpack("<d", rng.randbytes(8))[0]
        if math.isfinite(value):
            numbers += [value, math.nextafter(value, math.inf)]
    metadata = [{"x": v} for v in numbers]
    collection = store.create_collection(CollectionSpec("c", 2))
    collection.upsert(Records([str(i) for i in range(len(numbers))], clustered(len(numbers), 2), metadata))
    assert [repr(m["x"]) for m in collection.get([str(i) for i in range(400)]).metadata or ()] == [
        repr(v) for v in numbers[:400]
    ]
    for bound in rng.sample(numbers, 30):
        for where in (Lt("x", bound), Lte("x", bound), Gt("x", bound), Gte("x", bound), Ne("x", bound)):
            checked: Filter = where
            assert collection.count(checked) == sum(matches(checked, m) for m in metadata), where
    ascending = sorted(float(v) for v in numbers)
    assert [ordered(v) for v in ascending] == sorted(ordered(v) for v in ascending)
    assert len({ordered(v) for v in ascending}) == len(set(ascending))


def test_a_scan_survives_deletes(store: ChromaStore) -> None:
    """Pages by offset would skip records."""
    ids = [str(i) for i in range(100)]
    collection = store.create_collection(CollectionSpec("c", 4))
    collection.upsert(Records(ids, clustered(100, 4)))
    seen: list[str] = []
    for batch in collection.scan(batch_size=10):
        seen += batch.ids
        collection.delete(ids=ids[:10])
    assert sorted(seen) == sorted(ids)


def test_a_collection_dropped_behind_our_back_is_missing(store: ChromaStore) -> None:
    """The embedded engine panics when one is modified that is gone."""
    spec = CollectionSpec("c", 4)
    collection = store.create_collection(spec)
    store.native.delete_collection(collection.native.name)
    verbs: list[Callable[[], object]] = [
        collection.count,
        collection.describe,
        lambda: collection.upsert(Records(["a"], clustered(1, 4))),
    ]
    if store.capabilities.ef_search == "collection":
        verbs.append(lambda: collection.reconfigure(ef_search=9))
        store.create_collection(spec)
        verbs.append(lambda: collection.reconfigure(ef_search=9))
    for verb in verbs:
        with pytest.raises(CollectionNotFound):
            verb()


@LEGACY
def test_chroma_never_embeds(store: ChromaStore) -> None:
    collection = store.create_collection(CollectionSpec("c", 4))
    collection.upsert(Records(["a"], clustered(1, 4), documents=["text"]))
    for native in (collection.native, store.get_collection("c").native):
        assert native._embedding_function is None
        with pytest.raises(ValueError, match="embedding function"):
            native.query(query_texts=["text"])


def test_collections_of_others_are_left_alone(store: ChromaStore) -> None:
    store.native.create_collection("theirs", embedding_function=None)
    assert store.list_collections() == []
    store.native.delete_collection("theirs")


def test_index_parameters_are_in_force_or_refused(store: ChromaStore) -> None:
    index = HNSW(m=7, ef_construction=33, ef_search=21, native={"sync_threshold": 500, "resize_factor": 1.5})
    told = store.create_collection(CollectionSpec("c", 4, Metric.COSINE, index)).describe()["index"]
    assert told == {
        "kind": "hnsw", "space": "cosine", "max_neighbors": 7, "ef_construction": 33, "ef_search": 21,
        "sync_threshold": 500, "resize_factor": 1.5,
    }  # fmt: skip
    wrong: list[dict[str, Any]] = [
        {"num_threads": 2},
        {"batch_size": 10},
        {"max_neighbors": 4},
        {"sync_threshold": 0},
        {"resize_factor": "2"},
    ]
    bad: list[HNSW] = [HNSW(m=1), *(HNSW(native=native) for native in wrong)]
    for index in bad:
        with pytest.raises(UnsupportedIndex):
            store.create_collection(CollectionSpec("d", 4, index=index))
    assert store.list_collections() == ["c"]
