"""What is Milvus's own: consistency, the index in use, expressions, sizes, credentials, and a server that goes away."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecbench.distance import exact_distances, top_k
from vecbench.errors import (
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    InvalidMetadata,
    PartialWriteError,
    StoreError,
    StoreTimeout,
    UnsupportedIndex,
    UnsupportedOperation,
)
from vecbench.filters import And, Contains, Eq, Exists, F, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, NotIn, Or, matches
from vecbench.index import HNSW, Flat, Index, IVFFlat, NativeIndex, SearchParams
from vecbench.services.engine import Launch
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec
from vecbench.store import Collection, VectorStore
from vecbench.types import Metric, Records, Vectors
from vecbench_milvus import MilvusLiteStore, MilvusStore
from vecbench_milvus import collection as collection_module
from vecbench_milvus.engine import MilvusEngine
from vecbench_milvus.filters import id_of, pk

BIG = 2**53
CURIOUS = ['a.b"[]', "year", "tags[]", "é"]
VALUES: list[Any] = [
    "x", "n:1", "", "true", 0, 1, 1.0, 1.5, -1, True, False, BIG, BIG + 1, BIG + 2, float(BIG), -BIG - 1,
    2**63 - 1, 2**63 - 2, -(2**63), 1e300, -0.0, 5e-324,
]  # fmt: skip
SECRET: dict[str, Any] = {"token": "hush-hush"}
LISTS = [[], ["x"], ["x", "y"], ["n:1", "1"]]


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with start(MilvusEngine()) as service:
        yield service


@pytest.fixture
def milvus(server: Service) -> Iterator[MilvusStore]:
    with MilvusStore.open(url=server.url) as store:
        yield store
        for name in store.list_collections():
            store.drop_collection(name)


@pytest.fixture
def lite() -> Iterator[MilvusLiteStore]:
    with MilvusLiteStore.open() as store:
        yield store


@pytest.fixture(params=["milvus", "lite"])
def store(request: pytest.FixtureRequest) -> VectorStore:
    made: VectorStore = request.getfixturevalue(request.param)
    return made


def clustered(n: int, dim: int, seed: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(50, dim))
    return (centres[rng.integers(0, 50, n)] + rng.normal(size=(n, dim))).astype(np.float32)


def numbered(n: int, dim: int, seed: int = 0) -> Records:
    return Records([str(i) for i in range(n)], clustered(n, dim, seed), [{"n": i % 1000} for i in range(n)])


def recall(collection: Collection, data: Records, queries: Vectors, **how: Any) -> float:
    assert data.vectors is not None
    rows, _ = top_k(queries, data.vectors, 10, collection.spec.metric)
    found = collection.search(queries, 10, params=SearchParams(**how)).ids
    return float(np.mean([len(set(map(int, f)) & set(r)) / 10 for f, r in zip(found, rows, strict=True)]))


# Who answers --------------------------------------------------------------------------------------------------------


def test_lite_is_never_called_milvus(milvus: MilvusStore, lite: MilvusLiteStore) -> None:
    assert (milvus.info.label, milvus.info.engine, milvus.info.deployment) == ("milvus", "milvus", "local-process")
    assert milvus.info.engine_version.startswith("2.3.5")
    assert (lite.info.label, lite.info.engine, lite.info.deployment) == ("milvus-lite", "milvus-lite", "embedded")
    with pytest.raises(ConnectionFailed, match="another engine"):
        MilvusStore.open(url=f"http://{lite.native._config.address}")
    with pytest.raises(ConfigError, match="no url"):
        MilvusLiteStore.open(url="http://127.0.0.1:19530")


def test_options_are_checked() -> None:
    wrong: list[dict[str, Any]] = [
        {"colour": 1}, {"mode": "server"}, {"token": "t"}, {"url": "localhost:19530"}, {"url": "ftp://localhost"},
        {"url": "http://127.0.0.1:1", "path": "x"},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(ConfigError):
            MilvusStore.open(**options)
    with pytest.raises(ConfigError, match="it takes timeout"):
        MilvusLiteStore.open(**SECRET)


def chain(error: BaseException | None) -> Iterator[str]:
    seen: set[int] = set()  # pymilvus raises errors from themselves
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield f"{error!r} {error}"
        error = error.__cause__ or error.__context__


def test_an_unreachable_server_is_named_and_the_password_is_not() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
        MilvusStore.open(url=f"http://root:hush-hush@127.0.0.1:{port}")
    assert time.monotonic() - began < 5
    assert not any("hush" in text for text in chain(caught.value))


def test_a_silent_socket_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(StoreTimeout, match=f"127.0.0.1:{port}"):
            MilvusStore.open(url=f"http://127.0.0.1:{port}", **SECRET, timeout=2)
        assert time.monotonic() - began < 6


def test_another_server_is_not_milvus() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.05,))
        thread.start()
        try:
            with pytest.raises(ConnectionFailed, match=str(web.server_port)) as caught:
                MilvusStore.open(url=f"http://127.0.0.1:{web.server_port}", **SECRET, timeout=3)
        finally:
            web.shutdown()
            thread.join()
    assert not any("hush" in text for text in chain(caught.value))


class Guarded(MilvusEngine):
    """With users and passwords; its page tells nothing to strangers."""

    def launch(self, folder: Path) -> Launch:
        made = super().launch(folder)
        return replace(made, env={**made.env, "COMMON_SECURITY_AUTHORIZATIONENABLED": "true"})

    def probe(self, launch_url: str) -> str:
        port = int(launch_url.rpartition(":")[2])
        with closing(HTTPConnection("127.0.0.1", port, timeout=1)) as page:
            token = b64encode(b"root:Milvus").decode()
            page.request("GET", "/v1/vector/collections", headers={"Authorization": f"Basic {token}"})
            assert json.loads(page.getresponse().read())["code"] == 200
        return "2.3.5"


def test_credentials_by_option_url_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with start(Guarded()) as service:
        address = service.url.removeprefix("http://")
        for url, options in (
            (service.url, {}),
            (service.url, {"user": "root", "password": "hush-hush"}),
            (service.url, {"token": "root:hush-hush"}),
            (f"http://root:hush-hush@{address}", {}),
        ):
            with pytest.raises(ConnectionFailed, match=r"refused the credentials|Milvus answers") as caught:
                MilvusStore.open(url=url, timeout=10, **options)
            assert not any("hush" in text for text in chain(caught.value))
        monkeypatch.setenv("MILVUS_TOKEN", "root:Milvus")
        for url, options in (
            (service.url, {}),
            (service.url, {"user": "root", "password": "Milvus"}),
            (service.url, {"token": "root:Milvus"}),
            (f"http://root:Milvus@{address}", {}),
        ):
            with MilvusStore.open(url=url, timeout=10, **options) as store:
                assert store.list_collections() == []
                assert "Milvus" not in f"{store.info} {store.info.target}"


def test_a_database_has_its_own_collections(milvus: MilvusStore, server: Service) -> None:
    milvus.create_collection(CollectionSpec("c", 3))
    milvus.native.create_database("other")
    try:
        for url, options in ((server.url, {"database": "other"}), (f"{server.url}/other", {})):
            with MilvusStore.open(url=url, **options) as store:
                assert store.list_collections() == []
                store.create_collection(CollectionSpec("c", 4))
                assert store.get_collection("c").spec.dim == 4
                store.drop_collection("c")
        assert milvus.list_collections() == ["c"]
    finally:
        milvus.native.drop_database("other")


def test_a_refused_call_prints_nothing(store: VectorStore, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CollectionNotFound):
        store.get_collection("nowhere")
    gone = store.create_collection(CollectionSpec("gone", 3))
    store.drop_collection("gone")
    with pytest.raises(CollectionNotFound):
        gone.search(np.ones(3, np.float32))
    assert capfd.readouterr() == ("", "")


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


def random_filter(rng: random.Random, depth: int = 2) -> Filter:
    if depth and rng.random() < 0.4:
        parts = tuple(random_filter(rng, depth - 1) for _ in range(rng.randrange(3)))
        compound: list[Filter] = [And(parts), Or(parts), Not(random_filter(rng, depth - 1))]
        return rng.choice(compound)
    field = rng.choice(CURIOUS)
    number = rng.choice([v for v in VALUES if type(v) in {int, float}] + [10**400, -(10**400), 2**64])
    many = rng.sample(VALUES, rng.randrange(4))
    single: list[Filter] = [
        Eq(field, rng.choice(VALUES)), Ne(field, rng.choice(VALUES)), Lt(field, number), Lte(field, number),
        Gt(field, number), Gte(field, number), In(field, many), NotIn(field, many),
        Contains(field, rng.choice(["x", "1", "n:1"])), Exists(field),
    ]  # fmt: skip
    return rng.choice(single)


def test_every_filter_selects_what_the_reference_selects(store: VectorStore) -> None:
    rng = random.Random(7)  # noqa: S311  repeatable
    metadata: list[dict[str, Any]] = [
        {f: rng.choice([*VALUES, *LISTS]) for f in rng.sample(CURIOUS, rng.randrange(1, 5))} for _ in range(200)
    ] + [{}]
    ids = [f"id {i}" for i in range(len(metadata))]
    collection = store.create_collection(CollectionSpec("c", 4, index=Flat()))
    collection.upsert(Records(ids, clustered(len(ids), 4), metadata))
    collection.optimize()
    fixed = [op("year", v) for op in (Lt, Lte, Gt, Gte, Eq) for v in (BIG, BIG + 1, 2**63 - 1, -(2**63))]
    for where in [*fixed, *(random_filter(rng) for _ in range(300))]:
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


# Lite ---------------------------------------------------------------------------------------------------------------


def test_a_directory_has_one_holder(tmp_path: Path) -> None:
    with MilvusLiteStore.open(path=tmp_path), pytest.raises(ConnectionFailed, match=str(tmp_path)):
        MilvusLiteStore.open(path=tmp_path)
    MilvusLiteStore.open(path=tmp_path).close()


def test_a_temporary_lite_leaves_nothing() -> None:
    store = MilvusLiteStore.open()
    folder = Path(store.info.target)
    store.create_collection(CollectionSpec("c", 3))
    assert folder.is_dir()
    store.close()
    assert not folder.exists()


def test_filters_do_not_cost_lite_its_recall(lite: MilvusLiteStore) -> None:
    """Rows that a filter rejects count against ef there: .46 at 2 % and ef 64 was seen."""
    data, queries = numbered(5000, 32), clustered(20, 32, seed=1)
    assert data.vectors is not None
    collection = lite.create_collection(CollectionSpec("c", 32, Metric.EUCLIDEAN, HNSW()))
    collection.upsert(data)
    collection.optimize()
    for share in (20, 100, 500):
        chosen = np.array([i for i in range(5000) if i % 1000 < share])
        rows, _ = top_k(queries, data.vectors[chosen], 10, Metric.EUCLIDEAN)
        found = collection.search(queries, 10, where=F("n") < share).ids
        hits = [len({str(chosen[r]) for r in row} & set(ids)) for row, ids in zip(rows, found, strict=True)]
        assert np.mean(hits) > 9.9


LITE_WRITER = """
import os, signal, sys, numpy as np
from vecbench_milvus import MilvusLiteStore
from vecbench.spec import CollectionSpec
from vecbench.types import Records
c = MilvusLiteStore.open(path=sys.argv[1]).create_collection(CollectionSpec("c", 4))
for i in range(0, 500, 10):
    c.upsert(Records([str(j) for j in range(i, i + 10)], np.random.default_rng(i).normal(size=(10, 4)).astype("f4")))
c.delete(ids=["7"])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_lite_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LITE_WRITER, tmp_path], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with MilvusLiteStore.open(path=tmp_path) as store:
        collection = store.get_collection("c")
        assert collection.count() == 499
        assert len(collection.search(np.ones(4, np.float32), 500).ids[0]) == 499


# The local server ---------------------------------------------------------------------------------------------------


def everyone(service: Service) -> set[int]:
    return {p.pid for p in psutil.process_iter(["cmdline"]) if str(service.folder) in " ".join(p.info["cmdline"] or ())}


def test_two_servers_at_once_and_no_process_left(server: Service) -> None:
    with MilvusStore.open() as store:
        (pid,) = store.info.pids
        assert store.info.deployment == "local-process"
        assert not store.capabilities.persistent
        assert store.list_collections() == []
        service = store._service
        assert service is not None
        assert service.url != server.url
        folder = service.folder
        listening = {c.laddr for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN}
        assert len(listening) == 11
    assert not psutil.pid_exists(pid)
    assert not everyone(service)
    assert not folder.exists()


def until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.05)
    return True


@pytest.mark.slow
def test_the_server_ends_with_a_killed_parent() -> None:
    code = (
        "from vecbench_milvus import MilvusStore\n"
        "s = MilvusStore.open()\n"
        "print(s.info.pids[0], s._service.folder, flush=True)\n"
        "input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[0])
        assert psutil.pid_exists(pid)
        parent.kill()
    assert until(lambda: not psutil.pid_exists(pid), 15)


@pytest.mark.slow
def test_a_server_killed_while_ingesting(tmp_path: Path) -> None:
    """Our error within the timeout says what is in, and that is found when the server runs again on its data."""
    timeout = 10
    service = start(MilvusEngine(), tmp_path / "data")
    ids = [str(i) for i in range(200_000)]
    vectors = clustered(len(ids), 64)
    try:
        store = MilvusStore.open(url=service.url, timeout=timeout)
        collection = store.create_collection(CollectionSpec("c", 64, Metric.EUCLIDEAN, Flat()))
        collection.upsert(Records(["warm"], vectors[:1]))
        killer = threading.Timer(1.5, service.kill)
        killer.start()
        with pytest.raises(PartialWriteError) as caught:
            collection.upsert(Records(ids, vectors))
        killer.join()
        accepted = caught.value.accepted
        assert 0 < len(accepted) < len(ids)
        assert accepted + caught.value.failed == ids
        for verb in (collection.count, lambda: collection.search(vectors[:1]), store.list_collections):
            began = time.monotonic()
            with pytest.raises(StoreError, match="milvus: ") as error:
                verb()
            assert isinstance(error.value, ConnectionFailed | StoreTimeout)
            assert time.monotonic() - began < timeout + 5
        store.close()
    finally:
        service.stop()
    with start(MilvusEngine(), tmp_path / "data") as again, MilvusStore.open(url=again.url) as store:
        collection = store.get_collection("c")
        assert list(collection.get(accepted[:5000], include=()).ids) == accepted[:5000]
        assert collection.count() >= len(accepted) + 1
        assert len(collection.search(vectors[:1], 10).ids[0]) == 10


@pytest.mark.slow
def test_a_folder_keeps_the_data_of_the_local_server(tmp_path: Path) -> None:
    with MilvusStore.open(path=tmp_path) as store:
        assert store.capabilities.persistent
        spec = CollectionSpec("näme", 3, Metric.DOT, Flat())
        store.create_collection(spec).upsert(Records(["a"], np.ones((1, 3), np.float32), [{"year": 2024}], ["text"]))
    with MilvusStore.open(path=tmp_path) as store:
        assert store.list_collections() == ["näme"]
        collection = store.get_collection("näme")
        assert collection.spec == spec
        back = collection.get(["a"])
        assert (back.metadata, back.documents) == ([{"year": 2024}], ["text"])
