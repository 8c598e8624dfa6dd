"""Chroma as a server: options, keys, strangers at its address, timeouts, a server that is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.adapters.said import said
from tests.adapters.vectors import clustered
from tests.scripted_http import Handler, says, serving
from vecbench.errors import (
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    PartialWriteError,
    StoreTimeout,
)
from vecbench.filters import Exists
from vecbench.services.engine import free_ports
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records
from vecbench_chroma import ChromaStore
from vecbench_chroma.engine import ChromaEngine

SECRET = "hush-hush-token"  # noqa: S105  nobody's


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
    with serving(says(status, body)) as other, pytest.raises(ConnectionFailed, match=words) as caught:
        ChromaStore.open(url=other.url, api_key=SECRET, timeout=5)
    assert other.url in str(caught.value)
    assert SECRET not in said(caught.value)


def test_the_key_is_sent_and_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens: list[str | None] = []

    def refuse(handler: Handler) -> None:
        tokens.append(handler.headers["X-Chroma-Token"])
        handler.say(401, "{}")

    for by_option in (True, False):
        if not by_option:
            monkeypatch.setenv("CHROMA_API_KEY", SECRET)
        options = {"api_key": SECRET} if by_option else {}
        with serving(refuse) as server, pytest.raises(ConnectionFailed) as caught:
            ChromaStore.open(url=server.url, **options)
        assert SECRET not in said(caught.value)
    assert tokens == [SECRET, SECRET]


def test_a_missing_database_is_named(server: str) -> None:
    for options in ({"database": "nowhere"}, {"tenant": "nobody"}):
        with pytest.raises(ConnectionFailed, match=r"nowhere|nobody"):
            ChromaStore.open(url=server, **options)


def test_an_unreachable_server_is_named() -> None:
    (port,) = free_ports(1)
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
        ChromaStore.open(url=f"http://127.0.0.1:{port}", api_key=SECRET, timeout=5)
    assert SECRET not in said(caught.value)


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
