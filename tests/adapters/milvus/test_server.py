"""Milvus as a server: who answers, credentials, databases, a process of our own, and a server that goes away."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.adapters.said import said
from tests.adapters.vectors import clustered
from tests.scripted_http import serving
from vecbench.errors import (
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    PartialWriteError,
    StoreError,
    StoreTimeout,
)
from vecbench.index import Flat
from vecbench.services.engine import Launch, free_ports
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore
from vecbench.types import Metric, Records
from vecbench_milvus import MilvusLiteStore, MilvusStore
from vecbench_milvus.engine import MilvusEngine

SECRET: dict[str, Any] = {"token": "hush-hush"}


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


def test_an_unreachable_server_is_named_and_the_password_is_not() -> None:
    (port,) = free_ports(1)
    began = time.monotonic()
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
        MilvusStore.open(url=f"http://root:hush-hush@127.0.0.1:{port}")
    assert time.monotonic() - began < 5
    assert "hush" not in said(caught.value)


def test_a_silent_socket_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(StoreTimeout, match=f"127.0.0.1:{port}"):
            MilvusStore.open(url=f"http://127.0.0.1:{port}", **SECRET, timeout=2)
        assert time.monotonic() - began < 6


def test_another_server_is_not_milvus() -> None:
    with serving() as web, pytest.raises(ConnectionFailed, match=str(web.server_port)) as caught:
        MilvusStore.open(url=web.url, **SECRET, timeout=3)
    assert "hush" not in said(caught.value)


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
            assert "hush" not in said(caught.value)
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
