"""RediSearch as a process of our own, and what is there after it was killed and started again."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from vecbench.errors import ConfigError, ConnectionFailed, PartialWriteError, StoreError, StoreTimeout
from vecbench.filters import Gt, Gte
from vecbench.services.local import start
from vecbench.types import Records
from vecbench_redisearch import RedisearchStore
from vecbench_redisearch import engine as engine_module
from vecbench_redisearch.engine import RedisearchEngine

from .parts import by_hand, clustered, make, rows

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
