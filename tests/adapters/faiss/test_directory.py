"""FAISS in a directory: one process, damage, a full disk, kill -9 while it is written to."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

from vecbench import CollectionSpec, Metric, Records, connect
from vecbench.errors import ConnectionFailed, StoreRejected

from .parts import DIM, check, records, reopened, vectors


def test_one_process_one_directory(tmp_path: Path) -> None:
    store = connect("faiss", path=tmp_path)
    with pytest.raises(ConnectionFailed, match=str(tmp_path)):
        connect("faiss", path=tmp_path)
    other = subprocess.run(
        [sys.executable, "-c", f"import vecbench; vecbench.connect('faiss', path={str(tmp_path)!r})"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ConnectionFailed" in other.stderr
    assert "is open already" in other.stderr
    closer = threading.Thread(target=store.close)
    closer.start()
    closer.join()
    connect("faiss", path=tmp_path).close()


def test_close_writes_what_was_not_flushed(tmp_path: Path) -> None:
    with connect("faiss", path=tmp_path) as store:
        store.create_collection(CollectionSpec("c", DIM)).upsert(records(20))
    with connect("faiss", path=tmp_path) as store:
        assert store.get_collection("c").count() == 20


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(f"c-*/{pattern}")
    return found


def test_damage_is_noticed(tmp_path: Path) -> None:
    r = records(300)
    assert r.vectors is not None
    truth = dict(zip(r.ids, r.vectors, strict=True))
    with connect("faiss", path=tmp_path) as store:
        c = store.create_collection(CollectionSpec("c", DIM, Metric.DOT))
        c.upsert(r)
        c.optimize()
        c.flush()
    index = only(tmp_path, "*.index")
    whole = index.read_bytes()
    for damage in (whole[:-100], whole[:-10] + b"\xff" + whole[-9:], None):  # the second is one number of a vector
        if damage is None:
            index.unlink()
        else:
            index.write_bytes(damage)
        with reopened(tmp_path) as c:
            assert c.describe()["index"]["kind"] == "hnsw"  # built again from the rows
            assert np.array_equal(c.native.reconstruct_n(0, 300), r.vectors)
            check(c, truth)
        index = only(tmp_path, "*.index")

    stray = only(tmp_path, "manifest.json").with_name("00000099.segment.tmp")  # a write that a crash cut short
    stray.write_bytes(b"half")
    with reopened(tmp_path) as c:
        assert not stray.exists()
        check(c, truth)

    segment = only(tmp_path, "*.segment")
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    with connect("faiss", path=tmp_path) as store, pytest.raises(StoreRejected, match=f"{segment.name} was altered"):
        store.get_collection("c")


def test_a_full_disk_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect("faiss", path=tmp_path) as store:
        c = store.create_collection(CollectionSpec("c", DIM))
        c.upsert(records(20))
        c.flush()
        c.upsert(Records([f"s{i}" for i in range(10)], vectors(10, seed=2)))
        true_fsync = os.fsync
        for allowed in range(6):  # the disk fills up at every step in turn
            left = iter(range(allowed))

            def fsync(handle: int, left: Iterator[int] = left) -> None:
                if next(left, None) is None:
                    raise OSError(28, "No space left on device")
                true_fsync(handle)

            monkeypatch.setattr(os, "fsync", fsync)
            try:
                c.flush()
            except StoreRejected as e:
                assert "No space left" in str(e)  # noqa: PT017  later rounds may succeed
            monkeypatch.undo()
            assert c.count() == 30
        c.flush()
    with reopened(tmp_path) as c:
        assert c.count() == 30
        assert sorted(i for batch in c.scan() for i in batch.ids) == sorted(
            [f"r{i}" for i in range(20)] + [f"s{i}" for i in range(10)]
        )
        assert np.array_equal(c.get(["s3"]).vectors[0], vectors(10, seed=2)[3])


def test_many_flushes_are_merged_and_the_index_stays(tmp_path: Path) -> None:
    with connect("faiss", path=tmp_path) as store:
        c = store.create_collection(CollectionSpec("c", DIM, Metric.EUCLIDEAN))
        c.upsert(records(100))
        c.optimize()
        for i in range(150):
            c.upsert(Records([f"r{i % 10}", f"x{i}"], vectors(2, seed=i)))
            c.flush()
    assert 1 < len(list(tmp_path.glob("c-*/*.segment"))) <= 65
    with reopened(tmp_path) as c:
        assert c.count() == 250
        assert c.describe()["indexed_rows"] == 100
        assert np.array_equal(c.get(["r3"]).vectors[0], vectors(2, seed=143)[0])


# FAISS takes most of a second to import, so one process does that and forks a writer for each kill.
WRITERS = """
import os, sys
import numpy as np
import vecbench, faiss
def write(path, batch):
    store = vecbench.connect("faiss", path=path, threads=1)
    spec = vecbench.CollectionSpec("c", 16, vecbench.Metric.EUCLIDEAN)
    c = store.create_collection(spec, exist_ok=True)
    while True:
        rows = np.random.default_rng(batch).normal(size=(8, 16)).astype(np.float32)
        c.upsert(vecbench.Records([f"{batch}-{i}" for i in range(8)], rows, [{"batch": batch}] * 8))
        c.upsert(vecbench.Records(["last"], rows[:1] + 9, [{"batch": batch}]))
        c.delete(ids=[f"{batch - 1}-0"])
        if batch % 7 == 0:
            c.optimize()
        c.flush()
        os.write(1, b"%d\\n" % batch)
        batch += 1
for line in sys.stdin:
    path, batch = line.rstrip("\\n").split("\\t")
    pid = os.fork()
    if not pid:
        write(path, int(batch))
    os.write(1, b"pid %d\\n" % pid)
    os.waitpid(pid, 0)
    os.write(1, b"end\\n")
"""


class Lines:
    """Lines of a pipe as they come, or None when none comes before a deadline."""

    def __init__(self, pipe: Any) -> None:
        self._fd, self._rest = pipe.fileno(), b""

    def next(self, deadline: float) -> str | None:
        while b"\n" not in self._rest:
            if not select.select([self._fd], [], [], max(0.0, deadline - monotonic()))[0]:
                return None
            more = os.read(self._fd, 65536)
            assert more, "the writers' process ended"
            self._rest += more
        line, self._rest = self._rest.split(b"\n", maxsplit=1)
        return line.decode()


def test_kill_during_ingest(tmp_path: Path) -> None:
    """SIGKILL at 50 random moments: what was acknowledged is there, and every flush is there whole or not at all."""
    rng = np.random.default_rng(50)
    last = -1
    with subprocess.Popen([sys.executable, "-c", WRITERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        lines = Lines(server.stdout)
        for kill in range(50):
            server.stdin.write(f"{tmp_path}\t{last + 1}\n".encode())
            server.stdin.flush()
            acknowledged, pid, wanted = last, 0, last + 1 + int(rng.integers(0, 5))
            while acknowledged < wanted or not pid:
                line = lines.next(monotonic() + 60)
                assert line is not None
                acknowledged, pid = (acknowledged, int(line[4:])) if line.startswith("pid") else (int(line), pid)
            moment = monotonic() + rng.uniform(0, 0.02)
            while (line := lines.next(moment)) is not None:
                acknowledged = int(line)
            os.kill(pid, signal.SIGKILL)
            while (line := lines.next(monotonic() + 60)) != "end":
                assert line is not None
                acknowledged = int(line)
            last = reopen_and_check(tmp_path, acknowledged, whole=kill % 10 == 9)
        server.stdin.close()


def reopen_and_check(path: Path, acknowledged: int, *, whole: bool) -> int:
    """The last batch that is there, after checking that exactly what was written up to it is."""
    with reopened(path) as c:
        (metadata,) = c.get(["last"]).metadata
        last = metadata["batch"]
        assert last in {acknowledged, acknowledged + 1}
        assert c.count() == 7 * last + 8 + 1  # each batch deletes one row of the batch before it
        for batch in range(0 if whole else max(0, last - 8), last + 1):
            rows = np.random.default_rng(batch).normal(size=(8, 16)).astype(np.float32)
            first = 0 if batch == last else 1
            got = c.get([f"{batch}-{i}" for i in range(8)])
            assert got.ids == [f"{batch}-{i}" for i in range(first, 8)]
            assert np.array_equal(got.vectors, rows[first:])
            assert got.metadata == [{"batch": batch}] * (8 - first)
            hit = next(c.search(rows[5], 3).hits())
            assert (hit.id, hit.distance) == (f"{batch}-5", 0.0)
    return int(last)
