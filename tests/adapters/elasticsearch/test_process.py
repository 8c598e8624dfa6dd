"""Elasticsearch as a process of our own: what it is started from, and what is left of it when it is killed."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.adapters.vectors import clustered, names
from vecbench import connect
from vecbench.errors import ConnectionFailed, PartialWriteError, StoreError
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records, Vectors
from vecbench_elasticsearch import ElasticsearchStore, engine
from vecbench_elasticsearch.engine import ElasticsearchEngine


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
    known = ["config", "data", "engine.log", "guard.log", "launch.json", "logs", "start.lock", "state.json", "tmp"]
    assert left == known


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
