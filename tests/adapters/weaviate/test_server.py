"""Weaviate as a server: two ports, keys, a process of our own, other defaults, and what is left after a crash."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.said import said
from tests.adapters.vectors import clustered, names
from tests.scripted_http import says, serving
from vecbench.errors import (
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    PartialWriteError,
    StoreError,
    StoreTimeout,
)
from vecbench.filters import Gte, Lt, Ne
from vecbench.index import SearchParams
from vecbench.services.engine import Launch, free_ports
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records
from vecbench_weaviate import WeaviateStore
from vecbench_weaviate.connection import Address
from vecbench_weaviate.engine import WeaviateEngine, find_server

KEY = "hush-hush-key"


# Connecting -----------------------------------------------------------------------------------------------------------


def test_options_are_checked() -> None:
    wrong: list[dict[str, Any]] = [
        {"colour": 1}, {"mode": "server"}, {"mode": "local", "url": "http://127.0.0.1:1"}, {"mode": "edge"},
        {"url": "localhost:8080"}, {"url": "http://127.0.0.1:1", "path": "x"}, {"api_key": "k"},
        {"url": "http://127.0.0.1:1/v1"}, {"url": "http://127.0.0.1:1?tls=1"}, {"url": "http://127.0.0.1:99999"},
        {"url": "http://127.0.0.1:1", "grpc_port": 0}, {"url": "http://127.0.0.1:1", "grpc_port": "x"},
        {"url": "http://127.0.0.1:5", "grpc_port": 5}, {"url": "http://127.0.0.1:1", "timeout": 0},
        {"url": "http://127.0.0.1:1", "timeout": "5"},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(ConfigError):
            WeaviateStore.open(**options)
    with pytest.raises(ConfigError) as caught:
        WeaviateStore.open(url=f"http://user:{KEY}@127.0.0.1:1")
    assert KEY not in said(caught.value)


def test_addresses() -> None:
    def parsed(url: str, host: str | None = None, port: int | None = None) -> tuple[Any, ...]:
        return dataclasses.astuple(Address.parse(url, host, port))

    assert parsed("http://localhost:8080") == ("localhost", 8080, "localhost", 50051, False)
    assert parsed("http://h:8080/?grpc_port=7") == ("h", 8080, "h", 7, False)
    assert parsed("http://h?grpc_port=7&grpc_host=g", port=8) == ("h", 80, "g", 8, False)
    assert parsed("https://a.b.weaviate.cloud") == ("a.b.weaviate.cloud", 443, "grpc-a.b.weaviate.cloud", 443, True)
    assert parsed("https://h", "g") == ("h", 443, "g", 443, True)


def test_a_wrong_key_is_refused_and_never_shown(server: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEAVIATE_API_KEY", raising=False)
    for options in ({"api_key": KEY}, {}):
        with pytest.raises(ConnectionFailed, match="refused the credentials") as caught:
            WeaviateStore.open(url=server.url, **options)
        assert KEY not in said(caught.value)
    monkeypatch.setenv("WEAVIATE_API_KEY", server.secrets["api_key"])
    with WeaviateStore.open(url=server.url) as opened:
        assert opened.info.engine_version == server.version == "1.39.0"
        assert opened.info.deployment == "local-process"
        assert server.secrets["api_key"] not in f"{opened.info!r} {opened!r} {vars(opened)['address']!r}"


def test_nobody_there_is_said_with_the_address() -> None:
    (port,) = free_ports(1)
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
        WeaviateStore.open(url=f"http://127.0.0.1:{port}", grpc_port=port + 1, api_key=KEY, timeout=5)
    assert KEY not in said(caught.value)


@pytest.fixture
def web() -> Iterator[int]:
    with serving(says(200, "<h1>It works</h1>", "text/html")) as page:
        yield page.server_port


@pytest.fixture
def silent() -> Iterator[int]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


def test_another_server_is_told_apart(server: Service, web: int, silent: int) -> None:
    at = Address.parse(server.url, None, None)
    rest, key = f"http://127.0.0.1:{at.port}", server.secrets["api_key"]
    cases: list[tuple[str, int, type[StoreError]]] = [
        (f"http://127.0.0.1:{web}", silent, ConnectionFailed),
        (f"http://127.0.0.1:{silent}", web, StoreTimeout),
        (rest, web, StoreTimeout),
        (rest, silent, StoreTimeout),
    ]
    for url, grpc_port, error in cases:
        began = time.monotonic()
        with pytest.raises(error) as caught:
            WeaviateStore.open(url=url, grpc_port=grpc_port, api_key=key, timeout=1.5)
        assert time.monotonic() - began < 5
        assert key not in said(caught.value)


CONTACTS = """
import json, os, socket, sys, psutil
asked = []
real_connect, real_lookup = socket.socket.connect, socket.getaddrinfo
def connect(self, address):
    asked.append(str(address[0]) if isinstance(address, tuple) else "unix")
    return real_connect(self, address)
def lookup(host, *rest, **more):
    asked.append(str(host))
    return real_lookup(host, *rest, **more)
socket.socket.connect, socket.getaddrinfo = connect, lookup
import numpy as np
from vecbench import CollectionSpec, Records, connect as open_store
with open_store("weaviate", url=sys.argv[1]) as store:
    c = store.create_collection(CollectionSpec("contacts", 2))
    c.upsert(Records(["a"], np.ones((1, 2), np.float32), [{"n": 1}]))
    c.optimize(); c.search(np.ones(2, np.float32)); c.describe()
    asked += [x.raddr.ip for x in psutil.Process().net_connections() if x.raddr]  # gRPC's, which Python never sees
    store.drop_collection("contacts")
print(json.dumps(sorted(set(asked))))
"""


def test_no_other_host_is_contacted(server: Service) -> None:
    env = {**os.environ, "WEAVIATE_API_KEY": server.secrets["api_key"]}
    done = subprocess.run(
        [sys.executable, "-c", CONTACTS, server.url], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) in (["127.0.0.1"], ["127.0.0.1", "::ffff:127.0.0.1"])


# The server that we start ---------------------------------------------------------------------------------------------


def test_the_binary_is_looked_for_where_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VECBENCH_WEAVIATE_BINARY", raising=False)
    monkeypatch.setenv("VECBENCH_ENGINES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "go install github.com/weaviate/weaviate/cmd/weaviate-server@v1.39.0" in str(WeaviateEngine().why_not())
    for version in ("1.9.0", "1.39.0", "1.38.12"):
        binary = tmp_path / f"weaviate-{version}" / "weaviate-server"
        binary.parent.mkdir()
        binary.touch(0o755)
    assert find_server() == tmp_path / "weaviate-1.39.0" / "weaviate-server"
    monkeypatch.setenv("VECBENCH_WEAVIATE_BINARY", str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in str(WeaviateEngine().why_not())
    with pytest.raises(ConnectionFailed, match="nowhere"):
        WeaviateStore.open()


@pytest.mark.slow
def test_a_path_keeps_the_data_and_has_one_holder(tmp_path: Path) -> None:
    vectors = clustered(300, 8)
    with WeaviateStore.open(path=tmp_path) as store:
        assert store.info.deployment == "local-process"
        assert len(store.info.pids) == 1
        collection = store.create_collection(CollectionSpec("näme/../x", 8, Metric.DOT))
        collection.upsert(Records(names(300), vectors, [{"n": i} for i in range(300)]))
        assert collection.describe()["disk_bytes"] > 0
        collection.delete(ids=names(50))
        found = collection.search(vectors[:5], 10).ids
        with pytest.raises(ConnectionFailed, match="open already"):
            WeaviateStore.open(path=tmp_path)
        pid = store.info.pids[0]
    assert not Path(f"/proc/{pid}").exists()
    with WeaviateStore.open(path=tmp_path) as store:
        collection = store.get_collection("näme/../x")
        assert (collection.count(), collection.count(Gte("n", 100)), collection.count(Lt("n", 60))) == (250, 200, 10)
        assert collection.count(Ne("n", 100)) == 249
        assert collection.search(vectors[:5], 10).ids == found
        assert sorted(collection.search(vectors[0], 300).ids[0]) == sorted(names(300)[50:])
    with pytest.raises(ConfigError):
        WeaviateStore.open(path=next(p for p in tmp_path.iterdir() if p.is_file()))


def test_a_server_in_a_temporary_folder_leaves_nothing() -> None:
    with WeaviateStore.open() as store:
        assert store.service is not None
        folder = store.service.folder
        assert folder.exists()
    assert not folder.exists()


# Another server, and one that dies ------------------------------------------------------------------------------------


class Otherwise(WeaviateEngine):
    """A server whose owner chose other defaults."""

    def launch(self, folder: Path) -> Launch:
        usual = super().launch(folder)
        other = {"ASYNC_INDEXING": "true", "DEFAULT_QUANTIZATION": "rq-8", "AUTOSCHEMA_ENABLED": "true"}
        other["GRPC_MAX_MESSAGE_SIZE"] = "20000000"
        return dataclasses.replace(usual, env={**usual.env, **other})


@pytest.mark.slow
def test_a_server_with_other_defaults() -> None:
    """One that indexes behind, quantises by default, and makes a class of whatever is written."""
    vectors = clustered(3000, 32)
    with (
        start(Otherwise()) as other,
        WeaviateStore.open(url=other.url, **other.secrets) as store,
        WeaviateStore.open(url=other.url, **other.secrets) as unaware,
    ):
        collection = store.create_collection(CollectionSpec("c", 32, Metric.EUCLIDEAN))
        stale = unaware.get_collection("c")
        collection.upsert(Records(names(3000), vectors))
        collection.flush()
        told = collection.describe()
        assert (told["indexed_rows"], told["index"]["quantizer"]) == (3000, "none")
        assert collection.search(vectors[:50], 1).ids == [[str(i)] for i in range(50)]
        collection.delete(ids=names(100))
        collection.flush()
        assert len(collection.search(vectors[:1], 3000).ids[0]) == 2900
        store.drop_collection("c")
        with pytest.raises(CollectionNotFound):
            collection.optimize()
        texts = [str(i) * 250_000 for i in range(10, 80)]  # 35 MB, where a message has at most 20
        large = store.create_collection(CollectionSpec("large", 32))
        large.upsert(Records(names(70), vectors[:70], documents=texts))
        assert large.get(names(70)).documents == texts
        assert sorted(t or "" for b in large.scan(include=["documents"]) for t in b.documents or []) == texts
        stale.upsert(Records(["late"], vectors[:1]))  # auto-schema takes it, and makes a class without a spec
        assert store.list_collections() == ["large"]
        store.drop_collection("c")
        assert store.create_collection(CollectionSpec("c", 3)).count() == 0


@pytest.mark.slow
def test_a_server_killed_while_it_is_written_to(tmp_path: Path) -> None:
    vectors = clustered(4000, 16)
    running = start(WeaviateEngine(), tmp_path)
    try:
        with WeaviateStore.open(url=running.url, timeout=2, **running.secrets) as store:
            collection = store.create_collection(CollectionSpec("c", 16, Metric.EUCLIDEAN))
            written = threading.Event()

            def kill() -> None:
                written.wait(30)
                running.kill()

            accepted: list[str] = []
            with ThreadPoolExecutor(1) as pool:
                killing = pool.submit(kill)
                ids: list[str] = []
                began = 0.0

                def write_on() -> None:
                    nonlocal accepted, began, ids
                    while True:
                        accepted += ids
                        ids = [f"{len(accepted) + i}" for i in range(4000)]
                        if accepted:
                            written.set()
                        began = time.monotonic()
                        collection.upsert(Records(ids, vectors))

                with pytest.raises(StoreError) as caught:
                    write_on()
                assert time.monotonic() - began < 10
                killing.result()
            if isinstance(caught.value, PartialWriteError):
                assert caught.value.accepted + caught.value.failed == ids
                accepted += caught.value.accepted
            assert running.secrets["api_key"] not in said(caught.value)
            assert accepted
            for call in (lambda: collection.search(vectors[:3], 5), collection.count, collection.describe):
                began = time.monotonic()
                with pytest.raises(ConnectionFailed):
                    call()
                assert time.monotonic() - began < 5
    finally:
        running.stop()
    with WeaviateStore.open(path=tmp_path) as store:
        collection = store.get_collection("c")
        assert collection.get(accepted, include=()).ids == accepted
        result = collection.search(vectors[:20], 5, params=SearchParams(exact=True))
        assert [len(ids) for ids in result.ids] == [5] * 20
        assert {d for q in result.distances for d in q[:1]} == {0.0}


@pytest.mark.slow
def test_a_server_killed_while_it_is_asked() -> None:
    with start(WeaviateEngine()) as running, WeaviateStore.open(url=running.url, timeout=3, **running.secrets) as store:
        collection = store.create_collection(CollectionSpec("c", 8))
        vectors = clustered(500, 8)
        collection.upsert(Records(names(500), vectors))
        asked = threading.Event()

        def ask() -> None:
            while True:
                collection.search(vectors, 10)
                asked.set()

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            assert asked.wait(30)
            running.kill()
            began = time.monotonic()
            with pytest.raises(ConnectionFailed):
                asking.result(60)
            assert time.monotonic() - began < 8
