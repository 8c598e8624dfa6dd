"""What is Chroma's own: ef_search in force, its traps, its limits, directories, servers that fail."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from vecbench.collection import Collection
from vecbench.distance import exact_distances, top_k
from vecbench.errors import (
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    InvalidMetadata,
    PartialWriteError,
    StoreError,
    StoreRejected,
    StoreTimeout,
    UnsupportedFilter,
    UnsupportedIndex,
    UnsupportedOperation,
)
from vecbench.filters import Contains, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, NotIn, matches
from vecbench.index import HNSW, SearchParams
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records, Vectors
from vecbench_chroma import ChromaStore
from vecbench_chroma.engine import ChromaEngine
from vecbench_chroma.filters import ordered

SECRET = "hush-hush-token"  # noqa: S105  nobody's


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with start(ChromaEngine()) as service:
        yield service.url


@pytest.fixture(params=["embedded", "server"])
def store(request: pytest.FixtureRequest) -> Iterator[ChromaStore]:
    url = request.getfixturevalue("server") if request.param == "server" else None
    with ChromaStore.open(url=url) as opened:
        yield opened
        for name in opened.list_collections():
            opened.drop_collection(name)


def clustered(n: int, dim: int, seed: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(50, dim))
    return (centres[rng.integers(0, 50, n)] + rng.normal(size=(n, dim))).astype(np.float32)


def recall(collection: Collection, queries: Vectors, rows: Any, params: SearchParams | None = None) -> float:
    found = collection.search(queries, 10, params=params or SearchParams()).ids
    return float(np.mean([len(set(map(int, f)) & set(r)) / 10 for f, r in zip(found, rows, strict=True)]))


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
        narrow = recall(collection, queries, rows)
        assert narrow < 0.97
        held.modify(configuration={"hnsw": {"ef_search": 300}})  # the trap: told, and not done
        assert held.configuration_json["hnsw"]["ef_search"] == 300
        assert recall(collection, queries, rows) == narrow

        collection.reconfigure(ef_search=300)
        for handle in (collection, other, store.get_collection("c")):
            assert recall(handle, queries, rows) > 0.99
            assert recall(handle, queries, rows, SearchParams(ef_search=300)) > 0.99
            with pytest.raises(UnsupportedOperation):
                handle.search(queries, params=SearchParams(ef_search=10))
            assert handle.describe()["index"]["ef_search"] == 300
            assert isinstance(handle.spec.index, HNSW)
            assert handle.spec.index.ef_search == 300
        assert collection.native is not held
        other.reconfigure(ef_search=10)
        assert recall(collection, queries, rows) == narrow
        other.upsert(Records(["new"], clustered(1, 64, seed=3)))
        assert collection.count() == 4001
    with ChromaStore.open(path=tmp_path) as store:  # embedded over what the server wrote, too
        assert store.get_collection("c").spec == other.spec
        assert recall(store.get_collection("c"), queries, rows) == pytest.approx(narrow, abs=0.02)


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


# Directories ----------------------------------------------------------------------------------------------------------


def test_a_directory_has_one_holder(tmp_path: Path) -> None:
    for mode in ("embedded", "server"):
        with ChromaStore.open(path=tmp_path, mode=mode):
            for second in ("embedded", "server"):
                with pytest.raises(ConnectionFailed, match=str(tmp_path)):
                    ChromaStore.open(path=tmp_path, mode=second)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file"):
        ChromaStore.open(path=tmp_path / "file")


def test_a_temporary_store_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for mode in ("embedded", "server"):
        with ChromaStore.open(mode=mode) as store:
            pids = store.info.pids
            assert bool(pids) == (mode == "server")
            assert store.create_collection(CollectionSpec("c", 4)).describe()["directory_bytes"] > 0
            assert len(list(tmp_path.iterdir())) == 1
        assert list(tmp_path.iterdir()) == []
        assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_damaged_directory_can_be_repaired(tmp_path: Path) -> None:
    with ChromaStore.open(path=tmp_path) as store:
        store.create_collection(CollectionSpec("c", 4)).upsert(Records(["a"], clustered(1, 4)))
    database = tmp_path / "chroma.sqlite3"
    good = database.read_bytes()
    database.write_bytes(b"not a database" * 1000)
    for _ in range(2):
        with pytest.raises(ConnectionFailed, match=str(tmp_path)):
            ChromaStore.open(path=tmp_path)
    database.write_bytes(good)
    with ChromaStore.open(path=tmp_path) as store:
        assert store.get_collection("c").count() == 1


WRITER = """
import sys, numpy as np
from vecbench_chroma import ChromaStore
from vecbench.spec import CollectionSpec
from vecbench.types import Records
store = ChromaStore.open(path=sys.argv[1])
c = store.create_collection(CollectionSpec("c", 8), exist_ok=True)
rng = np.random.default_rng(1)
for i in range(int(sys.argv[2]), 100000, 10):
    c.upsert(Records([str(j) for j in range(i, i + 10)], rng.normal(size=(10, 8)), [{"n": j} for j in range(10)]))
    print(i + 10, flush=True)
"""


@pytest.mark.slow
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    rng, first = random.Random(1), 0  # noqa: S311  repeatable
    kept: list[str] = []
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, str(first)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        heard, deadline = b"", time.monotonic() + rng.uniform(0.2, 1.0)
        try:
            while b"\n" not in heard or time.monotonic() < deadline:
                if select.select([process.stdout], [], [], max(0.001, deadline - time.monotonic()))[0]:
                    more = os.read(process.stdout.fileno(), 65536)
                    assert more, f"the writer died by itself: {process.wait()}"
                    heard += more
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        heard += process.stdout.read()
        process.stdout.close()
        acknowledged = int(heard[: heard.rindex(b"\n")].rsplit(b"\n", 1)[-1])
        kept += [str(i) for i in range(first, acknowledged)]
        first = acknowledged + 1000
    with ChromaStore.open(path=tmp_path) as store:
        collection = store.get_collection("c")
        assert collection.get(kept, include=()).ids == kept
        assert collection.count(Exists("n")) >= len(kept)
        assert len(collection.search(np.ones(8, np.float32), 20).ids[0]) == 20


# Servers --------------------------------------------------------------------------------------------------------------


def test_options_are_checked() -> None:
    wrong: list[dict[str, Any]] = [
        {"colour": 1}, {"mode": "memory"}, {"api_key": "k"}, {"mode": "server", "api_key": "k"}, {"timeout": 3},
        {"url": "localhost:8000"}, {"url": "http://h:notaport"}, {"url": f"http://me:{SECRET}@h:1"},
        {"url": f"http://h:1/?token={SECRET}"}, {"url": "http://h:1", "path": "x"},
        {"url": "http://h:1", "mode": "embedded"}, {"url": "http://h:1", "timeout": 0},
        {"url": "http://h:1", "timeout": True}, {"url": "http://h:1", "colour": 1},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(ConfigError) as caught:
            ChromaStore.open(**options)
        assert SECRET not in str(caught.value)


class Impostor(BaseHTTPRequestHandler):
    """Answers everything with one status and text; what was asked is noted."""

    status = 200
    body = b"<html>hello</html>"
    tokens: tuple[str | None, ...] = ()

    def do_GET(self) -> None:
        type(self).tokens += (self.headers.get("X-Chroma-Token"),)
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET  # noqa: N815  the base class's names

    def log_message(self, *_args: Any) -> None:
        pass


@contextlib.contextmanager
def impostor(status: int, body: bytes) -> Iterator[tuple[str, type[Impostor]]]:
    handler = type("Handler", (Impostor,), {"status": status, "body": body})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}", handler
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def assert_secret_is_kept(error: BaseException | None) -> None:
    while error is not None:
        if isinstance(error, StoreError):
            assert SECRET not in f"{error!r} {error}"
        error = error.__cause__


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>hello</html>", "not Chroma"),
        (200, json.dumps({"user_id": SECRET}).encode(), "not Chroma"),
        (404, f"no such page, {SECRET}".encode(), "not Chroma"),
        (500, f"boom {SECRET}".encode(), "not Chroma"),
        (401, f"<html>who is {SECRET}?</html>".encode(), "credentials"),
        (403, json.dumps({"error": "AuthError", "message": f"no {SECRET}"}).encode(), "credentials"),
        (503, b"later", "cannot be reached"),
    ],
)
def test_something_else_answers(status: int, body: bytes, words: str) -> None:
    with impostor(status, body) as (url, _), pytest.raises(ConnectionFailed, match=words) as caught:
        ChromaStore.open(url=url, api_key=SECRET, timeout=5)
    assert url in str(caught.value)
    assert_secret_is_kept(caught.value)


def test_the_key_is_sent_and_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for by_option in (True, False):
        if not by_option:
            monkeypatch.setenv("CHROMA_API_KEY", SECRET)
        options = {"api_key": SECRET} if by_option else {}
        with impostor(401, b"{}") as (url, handler):
            with pytest.raises(ConnectionFailed) as caught:
                ChromaStore.open(url=url, **options)
            assert_secret_is_kept(caught.value)
            assert handler.tokens == (SECRET,)


def test_a_missing_database_is_named(server: str) -> None:
    for options in ({"database": "nowhere"}, {"tenant": "nobody"}):
        with pytest.raises(ConnectionFailed, match=r"nowhere|nobody"):
            ChromaStore.open(url=server, **options)


def test_an_unreachable_server_is_named() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
        ChromaStore.open(url=f"http://127.0.0.1:{port}", api_key=SECRET, timeout=5)
    assert_secret_is_kept(caught.value)


def test_a_silent_server_times_out() -> None:
    """Chroma's own client would wait for ever."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        began = time.monotonic()
        with pytest.raises(StoreTimeout, match=r"127\.0\.0\.1"):
            ChromaStore.open(url=f"http://127.0.0.1:{s.getsockname()[1]}", timeout=0.5)
        assert time.monotonic() - began < 5


def test_a_stopped_server_times_out(tmp_path: Path) -> None:
    with ChromaStore.open(mode="server", path=tmp_path, timeout=1) as store:
        collection = store.create_collection(CollectionSpec("c", 4))
        (pid, *_) = store.info.pids
        os.kill(pid, signal.SIGSTOP)
        try:
            for verb in (collection.count, lambda: collection.search(np.ones(4, np.float32)), store.list_collections):
                with pytest.raises(StoreTimeout):
                    verb()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert collection.count() == 0


def test_a_batch_beyond_a_request_is_cut(server: str) -> None:
    with ChromaStore.open(url=server) as store:
        vectors = clustered(1200, 8000)  # 51 MB in base64; a server takes 40
        collection = store.create_collection(CollectionSpec("wide", 8000, Metric.EUCLIDEAN))
        ids = [str(i) for i in range(1200)]
        collection.upsert(Records(ids, vectors))
        assert collection.count() == 1200
        assert collection.search(vectors[:600], 1).ids == [[i] for i in ids[:600]]  # 90 MB of JSON in one request
        store.drop_collection("wide")


@pytest.mark.slow
def test_a_server_killed_while_writing(tmp_path: Path) -> None:
    """What is said to be accepted is there after a restart, and nothing else is claimed."""
    service = start(ChromaEngine(), tmp_path)
    with ChromaStore.open(url=service.url, timeout=10) as store:
        collection = store.create_collection(CollectionSpec("c", 64))
        n = 60_000
        ids = [str(i) for i in range(n)]
        killer = threading.Thread(target=kill_when_there_are_rows, args=(service, store.capabilities.max_batch))
        killer.start()
        with pytest.raises(PartialWriteError) as caught:
            collection.upsert(Records(ids, clustered(n, 64)))
        killer.join()
        assert isinstance(caught.value.__cause__, Exception)
        with pytest.raises(ConnectionFailed):
            collection.search(np.ones(64, np.float32))
    service.stop()
    accepted = caught.value.accepted
    assert 0 < len(accepted) < n
    assert [*accepted, *caught.value.failed] == ids
    with ChromaStore.open(path=tmp_path) as store:
        assert list(store.get_collection("c").get(accepted, include=()).ids) == accepted


def kill_when_there_are_rows(service: Service, least: int) -> None:
    pause, deadline = threading.Event(), time.monotonic() + 60
    with ChromaStore.open(url=service.url) as store:
        collection = store.get_collection("c")
        while collection.count() <= least and time.monotonic() < deadline:
            pause.wait(0.05)
        service.kill()


def test_two_clients_of_one_server_see_each_other(server: str) -> None:
    with ChromaStore.open(url=server) as one, ChromaStore.open(url=server) as two:
        mine = one.create_collection(CollectionSpec("shared", 4))
        theirs = two.get_collection("shared")
        mine.upsert(Records(["a"], clustered(1, 4), [{"n": 1}]))
        theirs.upsert(Records(["a", "b"], clustered(2, 4), [{"m": 1}, {}]))
        assert mine.get(["a", "b"]).metadata == [{"m": 1}, {}]
        assert mine.count(Exists("n")) == 0
        two.drop_collection("shared")
        with pytest.raises(CollectionNotFound):
            mine.count()


def test_the_server_calls_nobody() -> None:
    with start(ChromaEngine()) as service, ChromaStore.open(url=service.url) as store:
        store.create_collection(CollectionSpec("c", 4)).upsert(Records(["a"], clustered(1, 4)))
        process = psutil.Process(service.pid)
        addresses = {getattr(end, "ip", "127.0.0.1") for c in process.net_connections() for end in (c.laddr, c.raddr)}
        assert addresses == {"127.0.0.1"}
