"""What is RediSearch's own: the graph and ways around it, number fields, limits, restarts, secrets."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import redis

from vecbench.collection import Collection
from vecbench.distance import exact_distances, top_k
from vecbench.errors import (
    CollectionExists,
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    PartialWriteError,
    StoreError,
    StoreRejected,
    StoreTimeout,
    UnsupportedIndex,
    UnsupportedOperation,
)
from vecbench.filters import Eq, Exists, Gt, Gte, In, Lt, Not, NotIn
from vecbench.index import HNSW, Flat, Index, SearchParams
from vecbench.services.engine import Launch
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec
from vecbench.typed import number_key, translate
from vecbench.types import Metric, Records, Vectors
from vecbench_redisearch import RedisearchStore
from vecbench_redisearch import engine as engine_module
from vecbench_redisearch.engine import RedisearchEngine
from vecbench_redisearch.faults import translate_error
from vecbench_redisearch.filters import QueryDialect

DIM = 16


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with start(RedisearchEngine(durable=False)) as service:
        yield service


@pytest.fixture
def store(server: Service) -> Iterator[RedisearchStore]:
    with RedisearchStore.open(url=server.url, password=server.secrets["password"], timeout=20) as opened:
        yield opened
        for name in opened.list_collections():
            opened.drop_collection(name)
        assert set(opened.native.keys()) <= {b"vecbench:flush"}


def clustered(n: int, dim: int = DIM, seed: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(50, dim))
    return (centres[rng.integers(0, 50, n)] + rng.normal(size=(n, dim))).astype(np.float32)


def rows(n: int, dim: int = DIM, *, prefix: str = "") -> Records:
    return Records([f"{prefix}{i}" for i in range(n)], clustered(n, dim), [{"n": i} for i in range(n)])


def make(store: RedisearchStore, index: Index | None = None, metric: Metric = Metric.EUCLIDEAN) -> Collection:
    return store.create_collection(CollectionSpec("c", DIM, metric, index or HNSW()))


def assert_silent(error: BaseException | None, secret: str) -> None:
    assert error is not None
    while error is not None:
        assert secret not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def by_hand(launch: Launch, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server of which the test says when it starts and ends; the same command starts it on the same port again."""
    with subprocess.Popen(
        [*launch.command, *more], env={**os.environ, **launch.env}, stdout=subprocess.DEVNULL, cwd=launch.cwd
    ) as process:
        deadline, port = time.monotonic() + 20, int(launch.url.rpartition(":")[2])
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert process.poll() is None
        try:
            yield process
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


# Connecting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"colour": 1}, {"mode": "server"}, {"password": "x"}, {"url": "redis://127.0.0.1:1", "path": "x"},
        {"url": "http://127.0.0.1:6379"}, {"url": "127.0.0.1:6379"}, {"url": "redis://127.0.0.1:1/3"},
        {"url": "redis://127.0.0.1:1?socket_timeout=9"}, {"url": "redis://127.0.0.1:port"}, {"timeout": 0},
        {"timeout": "5"}, {"url": "redis://127.0.0.1:1", "connect_timeout": -1}, {"timeout": True},
    ],
)  # fmt: skip
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RedisearchStore.open(**options)


def test_nothing_answers() -> None:
    port = free_port()
    began = time.monotonic()
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
        RedisearchStore.open(url=f"redis://user:hush-hush@127.0.0.1:{port}", timeout=5)
    assert time.monotonic() - began < 3
    assert_silent(caught.value, "hush-hush")


@pytest.mark.parametrize("how", ["option", "url", "environment"])
def test_a_wrong_password_is_refused_and_not_told(server: Service, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url, options = server.url, dict[str, Any]()
    if how == "option":
        options = {"password": "hush-hush"}
    elif how == "url":
        url = url.replace("//", "//:hush-hush@")
    else:
        monkeypatch.setenv("REDISCLI_AUTH", "hush-hush")
    with pytest.raises(ConnectionFailed, match="refused the credentials") as caught:
        RedisearchStore.open(url=url, **options)
    assert_silent(caught.value, "hush-hush")


def test_no_password_is_refused(server: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDISCLI_AUTH", raising=False)
    with pytest.raises(ConnectionFailed, match="refused the credentials"):
        RedisearchStore.open(url=server.url)


def test_a_user_who_may_touch_our_keys_only(store: RedisearchStore, server: Service) -> None:
    """The rights that the README names are enough, and a user with fewer is told so."""
    word = "p@ss/wörd:%"
    acl: Callable[..., Any] = store.native.acl_setuser
    acl(
        "few", enabled=True, passwords=[f"+{word}"], keys=["vecbench:*"], categories=["+@all", "-@dangerous", "-@admin"]
    )
    acl("none", enabled=True, passwords=[f"+{word}"], keys=["other:*"], categories=["+@connection"])
    try:
        url = server.url.replace("//", f"//few:{'p%40ss%2Fw%C3%B6rd%3A%25'}@")
        with RedisearchStore.open(url=url) as limited:
            collection = limited.create_collection(CollectionSpec("c", DIM))
            collection.upsert(rows(20))
            collection.flush()
            assert collection.count(Gt("n", 4)) == 15
            assert len(list(collection.scan(where=Gt("n", 4), batch_size=10))) == 2
            assert len(collection.search(clustered(1), 5).ids[0]) == 5
            collection.delete(where=Gt("n", 4))
            collection.optimize()
            collection.describe()
            assert limited.list_collections() == ["c"]
            limited.drop_collection("c")
        with pytest.raises(ConnectionFailed, match="not permit") as caught:
            RedisearchStore.open(url=server.url, username="none", password=word)
        assert_silent(caught.value, word)
    finally:
        store.native.acl_deluser("few", "none")


def test_no_secret_in_what_is_shown(store: RedisearchStore, server: Service) -> None:
    secret = server.secrets["password"]
    shown = f"{store!r} {store.info!r} {store.native!r} {server!r} {server.log}"
    assert secret not in shown
    assert store.info.deployment == "local-process"
    assert (store.info.label, store.info.engine) == ("redisearch", "RediSearch")
    assert store.info.engine_version.startswith(server.version + " (Redis ")


def test_a_secret_in_the_servers_words_is_masked() -> None:
    error = redis.exceptions.ResponseError("ERR hush-hush is wrong")
    ours = translate_error(error, "asking", "redis://h:1", "hush-hush")
    assert isinstance(ours, StoreRejected)
    assert "hush-hush" not in str(ours)
    assert "redis://h:1" in str(ours)


def test_something_else_answers() -> None:
    class Web(BaseHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Web) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        try:
            with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{web.server_port}"):
                RedisearchStore.open(url=f"redis://127.0.0.1:{web.server_port}", timeout=5)
        finally:
            web.shutdown()


def test_somebody_accepts_and_stays_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port, began = silent.getsockname()[1], time.monotonic()
        with pytest.raises(StoreTimeout, match=f"127.0.0.1:{port}"):
            RedisearchStore.open(url=f"redis://127.0.0.1:{port}", timeout=0.5)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(("more", "says"), [("", "no query engine"), ("cluster-enabled yes", "Redis Cluster")])
def test_a_redis_that_will_not_do(tmp_path: Path, more: str, says: str) -> None:
    launch = RedisearchEngine(durable=False).launch(tmp_path)
    config = tmp_path / "redis.conf"
    plain = [line for line in config.read_text().splitlines() if not line.startswith("loadmodule")]
    config.write_text("\n".join([*plain, more, f"cluster-port {free_port()}", ""]))
    with by_hand(launch), pytest.raises(ConnectionFailed, match=says):
        RedisearchStore.open(url=launch.url, **launch.secrets)


def test_an_encrypted_connection_checks_the_certificate(tmp_path: Path) -> None:
    key, certificate, port = tmp_path / "key.pem", tmp_path / "certificate.pem", free_port()
    new = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    named = [
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run([*new, *named], check=True, capture_output=True)
    launch = RedisearchEngine(durable=False).launch(tmp_path)
    encrypted = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    with by_hand(launch, *encrypted, "--tls-auth-clients", "no"):
        url = f"rediss://127.0.0.1:{port}"
        with RedisearchStore.open(url=url, ca_certs=certificate, **launch.secrets) as store:
            make(store).upsert(rows(10))
            assert store.info.target == url
            assert store.get_collection("c").count() == 10
        with pytest.raises(ConnectionFailed, match="certificate") as caught:
            RedisearchStore.open(url=url, **launch.secrets)
        assert_silent(caught.value, launch.secrets["password"])


# The process of our own -----------------------------------------------------------------------------------------------


def test_a_temporary_server_leaves_nothing() -> None:
    store = RedisearchStore.open()
    assert not store.capabilities.persistent
    assert store.info.deployment == "local-process"
    (pid,) = store.info.pids
    service = store._service
    assert service is not None
    command = psutil.Process(pid).cmdline()
    make(store).upsert(rows(10))
    store.close()
    assert not psutil.pid_exists(pid)
    assert not service.folder.exists()
    assert service.secrets["password"] not in " ".join(command)


def test_a_directory_keeps_everything_and_has_one_holder(tmp_path: Path) -> None:
    home = tmp_path / 'odd "näme" \\ here'
    with RedisearchStore.open(path=home) as store:
        assert store.capabilities.persistent
        make(store).upsert(rows(300))
        config = home / "redis.conf"
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        with pytest.raises(ConnectionFailed, match="open already"):
            RedisearchStore.open(path=home)
    with RedisearchStore.open(path=home) as store:
        collection = store.get_collection("c")
        assert collection.count(Gte("n", 100)) == 200
        assert collection.search(clustered(300)[:50], 1).ids == [[str(i)] for i in range(50)]
        collection.upsert(Records(["late"], clustered(1), [{"other": 5}]))
        assert collection.count(Gt("other", 4)) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        RedisearchStore.open(path=tmp_path / "file")


def test_a_killed_process_takes_its_server_along_and_the_directory_opens_again(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; import numpy as np; from vecbench import connect, CollectionSpec, Records\n"
        "store = connect('redisearch', path=sys.argv[1])\n"
        "c = store.create_collection(CollectionSpec('c', 4)); c.upsert(Records(['a'], np.ones((1, 4), 'f4')))\n"
        "print(store.info.pids[0], flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    with RedisearchStore.open(path=tmp_path) as store:  # the engine waits for the last one, which may still be ending
        assert not psutil.pid_exists(int(done.stdout))
        assert store.get_collection("c").get(["a"]).ids == ["a"]


def test_a_server_that_runs_on_the_directory_is_not_joined_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RedisearchEngine, "stop_seconds", 0.2)
    with (
        start(RedisearchEngine(), tmp_path),
        pytest.raises(ConnectionFailed, match=r"running in .* already"),
    ):
        start(RedisearchEngine(), tmp_path)


def test_what_is_missing_is_said_with_the_line_that_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RedisearchEngine().why_not() is None
    monkeypatch.setenv("VECBENCH_ENGINES", str(tmp_path))
    reason = RedisearchEngine().why_not()
    if reason is not None:  # this machine has no OpenSSL 1.1 of its own
        assert "OpenSSL 1.1" in reason
        assert f"-d {tmp_path}/openssl-1.1" in reason
        with pytest.raises(ConnectionFailed, match=r"OpenSSL 1\.1"):
            RedisearchStore.open()
    monkeypatch.setattr(engine_module, "_stack", lambda: None)
    assert "pip install 'vecbench[redisearch-local]'" in str(RedisearchEngine().why_not())


# Index and search -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", list(Metric))
def test_the_graph_is_used_and_exact_search_goes_around_it(store: RedisearchStore, metric: Metric) -> None:
    vectors, queries = clustered(5000, 64) * np.float32(3), clustered(100, 64, seed=1)
    nearest, truth = top_k(queries, vectors, 10, metric)
    collection = store.create_collection(CollectionSpec("c", 64, metric, HNSW(m=8, ef_construction=32)))
    collection.upsert(Records([str(i) for i in range(5000)], vectors))
    collection.optimize()

    def recall(params: SearchParams) -> float:
        found = collection.search(queries, 10, params=params).ids
        return float(np.mean([len(set(map(int, f)) & set(r)) / 10 for f, r in zip(found, nearest, strict=True)]))

    few, many = recall(SearchParams(ef_search=1)), recall(SearchParams(ef_search=400))
    assert few < many
    assert few < 0.9  # ef is raised to k, no more
    assert recall(SearchParams(native={"EF_RUNTIME": 400})) == many
    assert recall(SearchParams(exact=True)) == 1.0
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
        collection.upsert(Records([str(i) for i in range(20)], vectors))
        result = collection.search(query, 20)
        assert result.raw is not None
        true = np.sort(exact_distances(query, vectors, metric))[0]
        native = {Metric.EUCLIDEAN: true**2, Metric.COSINE: true, Metric.DOT: 1 + true}[metric]
        np.testing.assert_allclose(result.raw[0], native, rtol=1e-5, atol=1e-6)


def test_small_dots_lose_digits_beside_one(store: RedisearchStore) -> None:
    """The server gives 1 − dot in float32: the error stays within what is declared, the order is lost."""
    vectors = clustered(50) * np.float32(1e-5)
    collection = store.create_collection(CollectionSpec("c", DIM, Metric.DOT, Flat()))
    collection.upsert(Records([str(i) for i in range(50)], vectors))
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
    ids = [str(i) for i in range(len(texts))]
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


# Restarts -------------------------------------------------------------------------------------------------------------


def test_flushed_is_on_disk_and_a_connection_heals(tmp_path: Path) -> None:
    """Killed without warning, started again on the same port; the same store goes on, at first while it loads."""
    launch = RedisearchEngine().launch(tmp_path)
    with by_hand(launch):
        store = RedisearchStore.open(url=launch.url, timeout=30, **launch.secrets)
        collection = make(store)
        collection.upsert(rows(6000))
        collection.delete(ids=["7"])
        collection.flush()
    began = time.monotonic()
    for verb in (collection.count, store.list_collections, lambda: collection.upsert(rows(3)), collection.flush):
        with pytest.raises(ConnectionFailed, match=launch.url):
            verb()
    assert time.monotonic() - began < 5
    with by_hand(launch):
        # The port is open before the data is there: LOADING. A new connection waits for it.
        with RedisearchStore.open(url=launch.url, timeout=30, **launch.secrets) as other:
            assert other.get_collection("c").count() == 5999
        assert collection.count(Gte("n", 0)) == 5999
        assert len(collection.search(clustered(3, seed=2), 10).ids[2]) == 10
        store.close()


def test_flush_waits_for_the_disk(tmp_path: Path) -> None:
    """With appendfsync no the server never says that anything is there."""
    with RedisearchStore.open(path=tmp_path) as store:
        collection = make(store)
        collection.upsert(rows(10))
        collection.flush()
        store.native.config_set("appendfsync", "no")
        collection.upsert(rows(10))
        with pytest.raises(StoreTimeout, match="not on disk"):
            collection.flush(timeout=0.5)
        store.native.config_set("appendfsync", "always")
        collection.upsert(rows(10))
        collection.flush(timeout=5)


def test_a_server_killed_while_it_is_written_to(tmp_path: Path) -> None:
    """Each batch is in whole or not at all, and what was called accepted is there after the restart."""
    launch = RedisearchEngine().launch(tmp_path)
    data = rows(30_000)
    with by_hand(launch) as process:
        store = RedisearchStore.open(url=launch.url, timeout=10, **launch.secrets)
        collection = make(store)
        killer = threading.Timer(1.0, process.kill)
        killer.start()
        with pytest.raises(PartialWriteError) as caught:
            collection.upsert(data)
        killer.join()
        store.close()
    accepted, failed = caught.value.accepted, caught.value.failed
    assert accepted + failed == data.ids
    assert accepted
    assert len(accepted) % 500 == 0
    with by_hand(launch), RedisearchStore.open(url=launch.url, timeout=60, **launch.secrets) as store:
        collection = store.get_collection("c")
        assert collection.get(accepted, include=()).ids == accepted
        in_flight = collection.get(failed, include=()).ids
        assert in_flight in ([], failed[:500])  # sent, and the answer was lost
        assert collection.count(Gte("n", 0)) == len(accepted) + len(in_flight)


def test_a_server_killed_while_it_is_searched(tmp_path: Path) -> None:
    launch = RedisearchEngine(durable=False).launch(tmp_path)
    with by_hand(launch) as process:
        store = RedisearchStore.open(url=launch.url, timeout=10, **launch.secrets)
        collection = make(store)
        collection.upsert(rows(2000))
        killer = threading.Timer(0.3, process.kill)
        killer.start()

        def search() -> None:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                assert len(collection.search(clustered(20), 10).ids) == 20

        with pytest.raises(StoreError) as caught:
            search()
        assert isinstance(caught.value, ConnectionFailed | StoreTimeout)
        killer.join()
        store.close()


def test_a_server_with_snapshots_only_has_its_index_again(tmp_path: Path) -> None:
    """RDB instead of the append-only file: flush does not wait for it, SAVE is the operator's."""
    launch = RedisearchEngine(durable=False).launch(tmp_path)
    with by_hand(launch), RedisearchStore.open(url=launch.url, **launch.secrets) as store:
        collection = make(store)
        collection.upsert(rows(3000))
        collection.flush()
        store.native.save()
    with by_hand(launch), RedisearchStore.open(url=launch.url, **launch.secrets) as store:
        collection = store.get_collection("c")
        assert collection.count(Gte("n", 1000)) == 2000
        assert collection.search(clustered(3000)[:50], 1).ids == [[str(i)] for i in range(50)]
        collection.upsert(Records(["late"], clustered(1), [{"late": 1}]))
        assert collection.count(Gte("late", 1)) == 1
        assert json.loads(json.dumps(collection.describe()))["rows"] == 3001
