"""FAISS on disk: what flush acknowledged survives a kill at any moment, and nothing altered is ever loaded."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vecbench import HNSW, CollectionSpec, Flat, IVFFlat, Metric, NativeIndex, Records, SearchParams, connect
from vecbench.errors import ConfigError, ConnectionFailed, StoreRejected, UnsupportedIndex, UnsupportedOperation

DIM = 4

CHILD = """
import sys
import numpy as np
from vecbench import CollectionSpec, Flat, HNSW, Metric, Records, connect
store = connect("faiss", path=sys.argv[1])
start = int(sys.argv[2])
spec = CollectionSpec("docs", 4, Metric.COSINE, HNSW(m=4, ef_construction=8))
docs = store.create_collection(spec, exist_ok=True)
print("ready", flush=True)
for batch in range(start, start + 10_000):
    ids = [f"{batch}-{i}" for i in range(20)]
    docs.upsert(Records(ids, np.full((20, 4), batch + 1, np.float32), [{"batch": batch}] * 20, ids))
    if batch % 3 == 0:
        docs.delete(ids=[f"{batch}-0"])
    if batch % 4 == 0:
        docs.optimize()
    docs.flush()
    print(batch, flush=True)
"""


def test_kill_during_ingest(tmp_path: Path) -> None:
    """Killed 50 times at random moments: every batch whose flush returned is there, whole, and searches work."""
    rng = random.Random(7)  # noqa: S311  moments, not secrets
    acknowledged: list[int] = []
    for _ in range(50):
        start = max(acknowledged, default=-1) + 1
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(start)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            acknowledged += [int(child.stdout.readline()) for _ in range(rng.randint(0, 4))]
            # A spin of random length, so that the kill falls anywhere in the next batch.
            for _ in range(rng.randint(0, 200_000)):
                pass
            os.kill(child.pid, signal.SIGKILL)
            acknowledged += [int(line) for line in child.stdout if line.endswith("\n") and line.strip()]
        with connect("faiss", path=tmp_path) as store:
            docs = store.get_collection("docs") if "docs" in store.list_collections() else None
            for batch in acknowledged[-6:]:
                assert docs is not None
                back = docs.get([f"{batch}-{i}" for i in range(20)])
                assert len(back) == 20 - (batch % 3 == 0)
                assert back.vectors is not None
                assert (back.vectors == batch + 1).all()
            if docs is not None and docs.count():
                assert len(docs.search(np.ones((1, DIM), np.float32), k=5).ids[0]) == 5
    with connect("faiss", path=tmp_path) as store:
        docs = store.get_collection("docs")
        expected = {f"{b}-{i}" for b in acknowledged for i in range(20) if not (b % 3 == 0 and i == 0)}
        found = {i for batch in docs.scan(include=[]) for i in batch.ids}
        assert expected <= found
        assert len(found - expected) <= 20 * 50  # at most the one unacknowledged batch of each kill


def filled(path: Path) -> None:
    with connect("faiss", path=path) as store:
        docs = store.create_collection(CollectionSpec("docs", DIM, Metric.EUCLIDEAN, HNSW()))
        docs.upsert(Records([f"id{i}" for i in range(50)], np.arange(200, dtype=np.float32).reshape(50, 4)))
        docs.optimize()
        docs.flush()


def test_an_altered_segment_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    (segment,) = tmp_path.glob("c-*/*.segment")
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    with connect("faiss", path=tmp_path) as store, pytest.raises(StoreRejected, match="altered"):
        store.get_collection("docs")


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_damaged_index_is_built_again(tmp_path: Path, damage: str) -> None:
    """The rows are whole, so nothing is lost: the search is exact until optimize builds the graph anew."""
    filled(tmp_path)
    (index,) = tmp_path.glob("c-*/*.index")
    if damage == "missing":
        index.unlink()
    else:
        index.write_bytes(index.read_bytes()[:-100])
    with connect("faiss", path=tmp_path) as store:
        docs = store.get_collection("docs")
        assert docs.describe()["index"]["kind"] == "flat"
        assert docs.search([[0, 1, 2, 3]], k=1).ids == [["id0"]]
        docs.optimize()
        docs.flush()
    with connect("faiss", path=tmp_path) as store:
        assert store.get_collection("docs").describe()["index"]["kind"] == "hnsw"


def test_a_directory_belongs_to_one_store_at_a_time(tmp_path: Path) -> None:
    with connect("faiss", path=tmp_path), pytest.raises(ConnectionFailed, match="open already"):
        connect("faiss", path=tmp_path)
    connect("faiss", path=tmp_path).close()


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConnectionFailed):
        connect("faiss", path=tmp_path / "file")


def test_many_flushes_are_merged(tmp_path: Path) -> None:
    with connect("faiss", path=tmp_path) as store:
        docs = store.create_collection(CollectionSpec("docs", DIM, Metric.EUCLIDEAN, Flat()))
        for i in range(150):
            docs.upsert(Records([f"id{i % 100}"], np.full((1, DIM), i, np.float32)))
            docs.flush()
        assert len(list(tmp_path.glob("c-*/*.segment"))) <= 65
    with connect("faiss", path=tmp_path) as store:
        docs = store.get_collection("docs")
        assert docs.count() == 100
        assert docs.get(["id49", "id50"]).vectors[:, 0].tolist() == [149, 50]  # type: ignore[index]  # asked for


def test_nothing_on_disk_is_pickled(tmp_path: Path) -> None:
    filled(tmp_path)
    (segment,) = tmp_path.glob("c-*/*.segment")
    data = segment.read_bytes()
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert head["ids"][:2] == ["id0", "id1"]


def test_effective_parameters_are_read_back() -> None:
    vectors = np.random.default_rng(1).normal(size=(400, 16)).astype(np.float32)
    ids = [f"id{i}" for i in range(400)]
    with connect("faiss") as store:
        for index, expected in (
            (HNSW(m=7, ef_construction=33), {"kind": "hnsw", "m": 7, "ef_construction": 33}),
            (IVFFlat(nlist=8, nprobe=3), {"kind": "ivf_flat", "nlist": 8, "nprobe": 3}),
        ):
            docs = store.create_collection(CollectionSpec(index.kind, 16, Metric.EUCLIDEAN, index))
            docs.upsert(Records(ids, vectors))
            docs.optimize()
            told = docs.describe()
            assert expected.items() <= told["index"].items()
            assert told["indexed_rows"] == 400


def test_too_few_rows_to_train_on_is_said() -> None:
    with connect("faiss") as store:
        docs = store.create_collection(CollectionSpec("few", DIM, Metric.EUCLIDEAN, IVFFlat(nlist=100)))
        docs.upsert(Records(["a", "b"], np.eye(2, DIM, dtype=np.float32)))
        docs.optimize()
        assert "too few rows" in docs.describe()["note"]
        assert docs.search(np.eye(1, DIM, dtype=np.float32), k=2).ids == [["a", "b"]]


def test_factory_strings() -> None:
    vectors = np.random.default_rng(1).normal(size=(500, 16)).astype(np.float32)
    with connect("faiss") as store:
        with pytest.raises(UnsupportedIndex, match="NoSuchIndex"):
            store.create_collection(CollectionSpec("x", 16, Metric.EUCLIDEAN, NativeIndex("NoSuchIndex")))
        docs = store.create_collection(CollectionSpec("ivf", 16, Metric.EUCLIDEAN, NativeIndex("IVF4,SQ8")))
        docs.upsert(Records([f"id{i}" for i in range(500)], vectors))
        docs.optimize()
        assert docs.search(vectors[:3], k=1, params=SearchParams(nprobe=4)).ids == [["id0"], ["id1"], ["id2"]]
        with pytest.raises(UnsupportedOperation, match="ef_search"):
            docs.search(vectors[:1], params=SearchParams(ef_search=10))


def test_options_are_checked() -> None:
    for options in ({"colour": "red"}, {"threads": 0}, {"url": "http://localhost"}):
        with pytest.raises(ConfigError):
            connect("faiss", **options)
