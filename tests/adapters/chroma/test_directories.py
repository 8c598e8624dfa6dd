"""Chroma's directories: one holder, nothing left, damage, kill -9."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.adapters.kill_9 import last_number
from tests.adapters.vectors import clustered
from vecbench.errors import ConfigError, ConnectionFailed
from vecbench.filters import Exists
from vecbench.spec import CollectionSpec
from vecbench.types import Records
from vecbench_chroma import ChromaStore


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
        acknowledged = last_number(WRITER, tmp_path, first, seconds=rng.uniform(0.2, 1.0))
        kept += [str(i) for i in range(first, acknowledged)]
        first = acknowledged + 1000
    with ChromaStore.open(path=tmp_path) as store:
        collection = store.get_collection("c")
        assert collection.get(kept, include=()).ids == kept
        assert collection.count(Exists("n")) >= len(kept)
        assert len(collection.search(np.ones(8, np.float32), 20).ids[0]) == 20
