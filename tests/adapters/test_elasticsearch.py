"""What is Elasticsearch's own: its traps, scores, exact search by windows, credentials, and a server that dies."""

from __future__ import annotations

import base64
import contextlib
import gc
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import psutil
import pytest

from vecbench import connect
from vecbench.collection import Collection
from vecbench.distance import paired_distances, top_k
from vecbench.errors import (
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    PartialWriteError,
    StoreError,
    StoreRejected,
    StoreTimeout,
    UnsupportedFilter,
    UnsupportedIndex,
    UnsupportedOperation,
)
from vecbench.filters import And, Eq, Filter, Gt, Gte, In, Lt, Not, Or
from vecbench.index import HNSW, Flat, NativeIndex, SearchParams
from vecbench.services.engine import Launch
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records, Vectors
from vecbench_elasticsearch import ElasticsearchStore, engine
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


def clustered(n: int, dim: int, seed: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(50, dim))
    return (centres[rng.integers(0, 50, n)] + rng.normal(size=(n, dim))).astype(np.float32)


def names(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def recall(found: list[list[str]], rows: Any) -> float:
    hits = [len(set(map(int, ids)) & set(row)) / len(row) for ids, row in zip(found, rows.tolist(), strict=True)]
    return float(np.mean(hits))


def everything_said(error: BaseException | None) -> str:
    said = ""
    while error is not None:
        said += f"{error!r} {error}\n"
        error = error.__cause__ or error.__context__
    return said


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

    def searched(**params: Any) -> float:
        return recall(collection.search(queries, 10, params=SearchParams(**params)).ids, rows)

    few, many = searched(ef_search=10), searched(ef_search=1_000)
    assert few < many
    assert few < 0.9
    assert searched(native={"num_candidates": 10}) == few
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
        found = vectors[list(map(int, ids))]
        true = paired_distances(np.broadcast_to(query, found.shape), found, Metric.EUCLIDEAN)
        np.testing.assert_allclose(distances, true, rtol=1e-5)
        assert (np.diff(distances) >= 0).all()
    rows, _ = top_k(queries, vectors, 10, Metric.EUCLIDEAN)
    assert recall(result.ids, rows) > 0.5
    assert recall(collection.search(queries, 10, params=SearchParams(exact=True)).ids, rows) == 1.0
    wide = SearchParams(ef_search=500, native={"rescore_vector": {"oversample": 5.0}})
    assert recall(collection.search(queries, 10, params=wide).ids, rows) > 0.95


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
    assert recall(collection.search(vectors[:20] + 1, 10).ids, rows) > 0.5
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
        true = paired_distances(np.broadcast_to(query, found.shape), found, metric)
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
        lambda: old.upsert(Records(["a"], TINY)),
        lambda: old.get(["a"]),
        lambda: old.delete(ids=["a"]),
        lambda: old.delete(where=Eq("x", 1)),
        lambda: old.search(TINY),
        lambda: old.search(np.ones((3, 3))),
        lambda: old.search(TINY, params=SearchParams(exact=True)),
        lambda: list(old.scan()),
        old.flush,
        old.optimize,
        old.describe,
        old.count,
    ]
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


# Connecting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"colour": 1},
        {"mode": "server"},
        {"url": "localhost:9200"},
        {"url": "http://"},
        {"url": "http://localhost:port"},
        {"url": "http://127.0.0.1:1", "path": "x"},
        {"url": "http://127.0.0.1:1", "heap": "1g"},
        {"url": "http://127.0.0.1:1", "username": "u"},
        {"url": "http://u:p@127.0.0.1:1", "api_key": "hush-hush"},
        {"url": "http://127.0.0.1:1", "api_key": "hush-hush\n"},
        {"url": "http://127.0.0.1:1", "timeout": 0},
        {"url": "https://127.0.0.1:1", "ca_certs": "/no/such/file", "api_key": "hush-hush"},
        {"url": "http://127.0.0.1:1", "cloud_id": "x:y"},
        {"cloud_id": "hush-hush"},
        {"api_key": "k"},
        {"heap": "lots"},
        {"heap": 1},
        {"timeout": "long"},
    ],
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        ElasticsearchStore.open(**options)
    assert "hush" not in everything_said(caught.value)


SECRETS: list[dict[str, Any]] = [
    {"url": "https://elastic:hush-hush@127.0.0.1:{port}"},
    {"url": "http://127.0.0.1:{port}", "username": "elastic", "password": "hush-hush"},
    {"url": "http://127.0.0.1:{port}/prefix", "api_key": "hush-hush"},
]


@pytest.mark.parametrize("options", SECRETS)
def test_an_unreachable_server_is_named_and_secrets_are_not(options: dict[str, Any]) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    given = {**options, "url": options["url"].format(port=port)}
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
        ElasticsearchStore.open(**given, timeout=5)
    assert "hush" not in everything_said(caught.value)


@contextlib.contextmanager
def answering(status: int, body: bytes, headers: dict[str, str]) -> Iterator[tuple[str, list[str | None]]]:
    """A server that gives one answer to everything, and the credentials it was sent."""
    seen: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("authorization"))
            self.send_response(status)
            for key, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>hello</html>", "text/html"),
        (200, b'{"version": {"number": "9"}}', "application/json"),  # OpenSearch, say
        (200, b"{", "application/json"),
        (404, b"not here", "text/plain"),
        (500, b"{}", "application/json"),
    ],
)
def test_something_else_that_answers_is_not_taken_for_it(status: int, body: bytes, kind: str) -> None:
    with (
        answering(status, body, {"content-type": kind}) as (url, _),
        pytest.raises(ConnectionFailed, match=url.removeprefix("http://")),
    ):
        ElasticsearchStore.open(url=url, timeout=5)


def test_a_secret_that_a_proxy_repeats_is_masked() -> None:
    answer = b'{"error": "what is hush-hush?"}'
    with answering(500, answer, {"content-type": "application/json"}) as (url, _):
        with pytest.raises(ConnectionFailed) as caught:
            ElasticsearchStore.open(url=url, api_key="hush-hush", timeout=5)
        assert "what is ***?" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "environment", "sent"),
    [
        ({}, {}, None),
        ({"username": "u", "password": "p w"}, {"ELASTICSEARCH_API_KEY": "env"}, "Basic " + "dTpwIHc="),
        ({"api_key": "mine"}, {"ELASTICSEARCH_API_KEY": "env"}, "ApiKey mine"),
        ({}, {"ELASTICSEARCH_API_KEY": "env"}, "ApiKey env"),
    ],
)
def test_credentials_are_sent_as_given(
    options: dict[str, Any], environment: dict[str, str], sent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ELASTICSEARCH_API_KEY", raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    headers = {"content-type": "application/json", "x-elastic-product": "Elasticsearch"}
    with answering(200, b'{"version": {"number": "8.19.0"}}', headers) as (url, seen):
        with ElasticsearchStore.open(url=url, **options) as store:
            assert store.info.engine_version == "8.19.0"
        with ElasticsearchStore.open(url=url.replace("://", "://us%40er:p%2Fw@")) as store:
            assert store.info.target == url
    assert seen == [sent, "Basic " + base64.b64encode(b"us@er:p/w").decode()]


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(StoreTimeout, match=f"127.0.0.1:{silent.getsockname()[1]}"):
            ElasticsearchStore.open(url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.5)
        assert time.monotonic() - begun < 3


PASSWORD = "hush-hush/1"  # noqa: S105  of a server that lives as long as this module's tests


class Secured(ElasticsearchEngine):
    """With passwords and TLS, as a server on the network has them."""

    def settings(self, home: Path, folder: Path, http: int, transport: int) -> dict[str, Any]:
        made = super().settings(home, folder, http, transport)
        return made | {
            "xpack.security.enabled": True,
            "xpack.security.http.ssl.enabled": True,
            "xpack.security.http.ssl.key": "server.key",
            "xpack.security.http.ssl.certificate": "server.crt",
        }

    def launch(self, folder: Path) -> Launch:
        made = super().launch(folder)
        config = folder / "config"
        request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
        files = ["-keyout", str(config / "server.key"), "-out", str(config / "server.crt")]
        subprocess.run(["openssl", *request.split(), *files], check=True, capture_output=True)
        for name in ("users", "users_roles"):
            (config / name).touch()
        tool = Path(made.command[0]).with_name("elasticsearch-users")
        (config / "roles.yml").write_text("watching:\n  cluster: [monitor]\n", "utf-8")
        for user, role in (("boss", "superuser"), ("watcher", "watching"), ("guest", "no_such_role")):
            subprocess.run(
                [tool, "useradd", user, "-p", PASSWORD, "-r", role],
                env={**os.environ, **made.env},
                check=True,
                capture_output=True,
            )
        return Launch(
            command=made.command, url=made.url.replace("http:", "https:"), env=made.env, cwd=made.cwd, user=made.user
        )

    def probe(self, launch_url: str) -> str:
        context = ssl._create_unverified_context()  # noqa: S323  our own certificate
        try:
            urlopen(launch_url, timeout=1, context=context).close()  # noqa: S310  our own https address
        except HTTPError as e:
            if e.code != 401:
                raise
        return "asks for a password"


@pytest.fixture(scope="module")
def secured() -> Iterator[Service]:
    with start(Secured()) as running:
        yield running


@pytest.mark.slow
def test_credentials_and_certificates_are_checked_by_a_real_server(secured: Service) -> None:
    certificate = str(secured.folder / "config" / "server.crt")
    good: dict[str, Any] = {"username": "boss", "password": PASSWORD, "ca_certs": certificate, "timeout": 20}
    with ElasticsearchStore.open(url=secured.url, **good) as store:
        collection = store.create_collection(CollectionSpec("c", 3))
        collection.upsert(Records(["a"], TINY))
        collection.flush()
        assert collection.search(TINY).ids == [["a"]]
        wrong: list[dict[str, Any]] = [
            {**good, "password": "hush-not"},
            {**good, "username": "guest"},  # who may do nothing
            {"ca_certs": certificate},
            {"ca_certs": certificate, "api_key": base64.b64encode(b"some-id:hush-not").decode()},
            {"username": "boss", "password": PASSWORD},  # a certificate that nobody vouches for
        ]
        for options in wrong:
            with pytest.raises(ConnectionFailed, match=secured.url.removeprefix("https://")) as caught:
                ElasticsearchStore.open(url=secured.url, **options)
            said = everything_said(caught.value)
            assert "hush" not in said
            assert options.get("api_key", "hush") not in said
        assert "hush" not in f"{store.info!r}{store!r}"
        in_url = secured.url.replace("://", f"://boss:{quote(PASSWORD, safe='')}@")
        with ElasticsearchStore.open(url=in_url, verify_certs=False) as other:
            assert other.get_collection("c").count() == 1
        with (
            ElasticsearchStore.open(url=secured.url, **{**good, "username": "watcher"}) as other,
            pytest.raises(ConnectionFailed, match="refused the credentials"),
        ):
            other.create_collection(CollectionSpec("d", 3))
        with pytest.raises(ConnectionFailed):  # no TLS where it is expected
            ElasticsearchStore.open(url=secured.url.replace("https", "http"), timeout=5)


# A process of our own ------------------------------------------------------------------------------------------------


def wait_until_gone(pids: tuple[int, ...]) -> None:
    """Wait for processes to end; one that nobody reaps is as good as gone."""
    deadline = time.monotonic() + 30
    left = set(pids)
    while left and time.monotonic() < deadline:
        for pid in list(left):
            with contextlib.suppress(psutil.NoSuchProcess):
                if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    continue
            left.discard(pid)
        threading.Event().wait(0.1)
    assert not left


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own, which only its owner may enter: the server runs as somebody else."""
    made = Path(tempfile.mkdtemp(prefix="vecbench-test-"))
    yield made
    shutil.rmtree(made)


def killed_at_work(store: ElasticsearchStore, vectors: Vectors) -> PartialWriteError:
    """Kill the server while one thread writes and another searches; what the writer was told."""
    collection = store.create_collection(CollectionSpec("written", 64, Metric.EUCLIDEAN))
    other = store.create_collection(CollectionSpec("searched", 64, Metric.EUCLIDEAN))
    other.upsert(Records(names(100), vectors[:100]))
    other.flush()
    errors: dict[str, StoreError] = {}

    def write() -> None:
        try:
            collection.upsert(Records(names(len(vectors)), vectors))
        except StoreError as e:
            errors["write"] = e

    def search() -> None:
        try:
            while True:
                other.search(vectors[:50], 10)
        except StoreError as e:
            errors["search"] = e

    threads = [threading.Thread(target=work) for work in (write, search)]
    for thread in threads:
        thread.start()
    while collection.count() < 10_000:  # more than a request takes; the server refreshes once a second
        threading.Event().wait(0.05)
    assert store._service is not None
    store._service.kill()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert isinstance(errors["search"], ConnectionFailed)
    assert isinstance(errors["write"], PartialWriteError)
    with pytest.raises(ConnectionFailed):
        collection.count()
    return errors["write"]


# urllib3 leaves the socket of an answer that broke off to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket .closed.:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.slow
def test_what_was_accepted_survives_a_killed_server(folder: Path) -> None:
    vectors = clustered(60_000, 64)
    with ElasticsearchStore.open(path=folder, timeout=20) as store:
        assert store.info.deployment == "local-process"
        pids = store.info.pids
        assert len(pids) >= 2  # the launcher and the server
        told = killed_at_work(store, vectors)
    gc.collect()  # so that it is this test that hears of a socket
    wait_until_gone(pids)
    assert [*told.accepted, *told.failed] == names(60_000)
    assert len(told.accepted) >= 1_000
    with connect("elasticsearch", path=folder) as again:
        assert again.list_collections() == ["searched", "written"]
        collection = again.get_collection("written")
        held = collection.get(told.accepted, include=["vectors"])
        assert held.ids == told.accepted
        assert held.vectors is not None
        assert held.vectors.tobytes() == vectors[: len(told.accepted)].tobytes()
        collection.flush()
        assert collection.count() >= len(told.accepted)
        assert again.get_collection("searched").count() == 100
        pids = again.info.pids
        os.kill(pids[0], signal.SIGKILL)  # the launcher alone: the server must not outlive it
        wait_until_gone(pids)
    left = sorted(p.name for p in folder.iterdir())
    assert left == ["config", "data", "engine.log", "guard.log", "launch.json", "logs", "state.json", "tmp"]


def distribution(at: Path, version: str) -> Path:
    for part in ("bin", "lib", "config", "modules"):
        (at / part).mkdir(parents=True)
    (at / "bin" / "elasticsearch").touch()
    (at / "lib" / f"elasticsearch-{version}.jar").touch()
    for name in ("jvm.options", "log4j2.properties"):
        (at / "config" / name).touch()
    return at


def jdk(at: Path, version: str) -> Path:
    (at / "bin").mkdir(parents=True)
    (at / "bin" / "java").touch()
    (at / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return at


def test_what_is_missing_is_said_with_the_line_that_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VECBENCH_ELASTICSEARCH_HOME", "ES_JAVA_HOME", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VECBENCH_ENGINES", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(engine, "_account_exists", lambda: True)
    assert "mvn -B dependency:copy" in str(ElasticsearchEngine().why_not())
    old = distribution(tmp_path / "elasticsearch-8.19.16", "8.19.16")
    new = distribution(tmp_path / "elasticsearch-10.0.1", "10.0.1")
    assert "10.0.1 needs a JDK of version 21" in str(ElasticsearchEngine().why_not())
    monkeypatch.setenv("JAVA_HOME", str(jdk(tmp_path / "j8", "1.8.0_402")))
    assert "needs a JDK" in str(ElasticsearchEngine().why_not())
    with pytest.raises(ConnectionFailed, match="needs a JDK"):
        ElasticsearchStore.open()
    monkeypatch.setenv("JAVA_HOME", str(jdk(tmp_path / "j17", "17.0.15")))
    assert ElasticsearchEngine().why_not() is None
    assert engine._choose() == (old, tmp_path / "j17")
    monkeypatch.setenv("ES_JAVA_HOME", str(jdk(tmp_path / "j25", "25")))
    assert engine._choose() == (new, tmp_path / "j25")
    bundled = jdk(old / "jdk", "24.0.1")
    monkeypatch.delenv("ES_JAVA_HOME")
    monkeypatch.setenv("VECBENCH_ELASTICSEARCH_HOME", str(old))
    assert engine._choose() == (old, bundled)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(engine, "_account_exists", lambda: False)
    assert "useradd" in str(ElasticsearchEngine().why_not())


def test_a_launch_writes_below_its_folder_and_sets_only_what_the_modules_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = distribution(tmp_path / "home", "9.2.4")
    monkeypatch.setenv("VECBENCH_ELASTICSEARCH_HOME", str(home))
    monkeypatch.setenv("ES_JAVA_HOME", str(jdk(tmp_path / "j", "21.0.1")))
    before = sorted(home.rglob("*"))
    folder = tmp_path / 'a "strange": folder'
    made = ElasticsearchEngine(heap="1g").launch(folder)
    assert sorted(home.rglob("*")) == before
    text = (folder / "config" / "elasticsearch.yml").read_text("utf-8")
    settings = {key: json.loads(value) for key, value in (line.split(": ", 1) for line in text.splitlines())}
    assert settings["path.data"] == str(folder / "data")
    assert settings["network.host"] == "127.0.0.1"
    assert made.url == f"http://127.0.0.1:{settings['http.port']}"
    assert not [key for key in settings if "geoip" in key]
    assert "-Xmx1g" in (folder / "config" / "jvm.options.d" / "heap.options").read_text("utf-8")
    (home / "modules" / "ingest-geoip").mkdir()
    ElasticsearchEngine().launch(folder)
    assert "ingest.geoip.downloader.enabled: false" in (folder / "config" / "elasticsearch.yml").read_text("utf-8")


def test_native_handles(store: ElasticsearchStore) -> None:
    collection: Collection = store.create_collection(CollectionSpec("c", 3))
    assert collection.native is store.native
    assert store.native.indices.exists(index=collection.describe()["native_name"])
