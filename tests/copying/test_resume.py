"""A copy that was stopped, by an error or by a kill at any moment, goes on; and nothing else is taken for one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vecbench import HNSW, CollectionSpec, EmbedderSpec, Flat, Metric, Records, connect
from vecbench.errors import CollectionExists, CollectionMismatch, PartialWriteError, StoreError, StoreRejected
from vecbench.memory import MemoryStore
from vecbench.transfer import GO_ON, copy

from .stores import DIM, FIELDS, Failing, Waiting, everything, filled, planted, rows

# Copies, and kills itself once so many records have been written or so many have been verified. A kill -9 leaves no
# time for anything: no handler, no `close`.
_COPY = """
import os, signal, sys
from vecbench import connect
from vecbench.transfer import GO_ON, copy

here, there, phase, at = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

def progress(now, done, total):
    if now == phase and done >= at:
        os.kill(os.getpid(), signal.SIGKILL)

with connect("faiss", path=here) as a, connect(sys.argv[5], path=there) as b:
    report = copy(a.get_collection("docs"), b, batch_size=50, resume=True, flush_seconds=0, progress=progress)
    print(report.written)
"""


def _run(here: Path, there: Path, phase: str, at: int, store: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _COPY, str(here), str(there), phase, str(at), store],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.parametrize("store", ["faiss", "qdrant"])
@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.COSINE])
def test_killed_again_and_again_and_resumed(tmp_path: Path, store: str, metric: Metric) -> None:
    """Killed with -9 before anything is written, twice in the middle, while indexing, while verifying: each goes on."""
    here, there = tmp_path / "here", tmp_path / "there"
    with connect("faiss", path=here) as opened:
        before = everything(filled(opened, 1000, metric))
    held = []
    for phase, at in (("copying", 0), ("copying", 300), ("copying", 700), ("indexing", 0), ("verifying", 500)):
        done = _run(here, there, phase, at, store)
        assert done.returncode == -signal.SIGKILL, done.stderr
        with connect(store, path=there) as opened:
            assert opened.list_collections() == ["docs"]
            found = opened.get_collection("docs")
            held.append(found.count())
            if phase == "verifying" and store == "faiss":
                assert found.describe()["index"]["kind"] == "hnsw"  # the index is on disk, too
    assert held == sorted(held)
    assert 0 < held[1] < held[2] <= held[3]
    assert held[1:3] == [300, 700] or store != "faiss"  # flushed after every batch
    done = _run(here, there, "never", 0, store)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 1000 - held[-1]
    with connect(store, path=there) as opened:
        after = everything(opened.get_collection("docs"))
        if metric is Metric.EUCLIDEAN:
            assert after == before
        else:
            assert {i: row[1:] for i, row in after.items()} == {i: row[1:] for i, row in before.items()}


def test_a_store_that_fails_keeps_what_it_has_and_the_rest_is_written_later() -> None:
    source, there = filled(MemoryStore()), planted(Failing)
    with pytest.raises(StoreRejected, match="the disk is full") as caught:
        copy(source, there, batch_size=10)
    assert caught.value.__notes__ == [GO_ON]
    made = there.get_collection("docs")
    assert isinstance(made, Failing)
    assert made.count() == 30
    with pytest.raises(CollectionExists):
        copy(source, there, batch_size=10)
    report = copy(source, there, batch_size=7, resume=True)  # another batch size: nothing hangs on positions
    assert (report.rows, report.written) == (60, 30)
    assert sorted(made.written) == sorted(f"id-{i}" for i in range(60))  # none twice
    assert everything(made) == everything(source)


def test_a_batch_that_went_in_half() -> None:
    source, there = filled(MemoryStore()), planted(Failing, max_batch=3)
    with pytest.raises(PartialWriteError) as caught:
        copy(source, there, batch_size=20)
    assert caught.value.accepted == [f"id-{i}" for i in range(20, 35)]
    assert caught.value.failed == [f"id-{i}" for i in range(35, 40)]
    report = copy(source, there, batch_size=20, resume=True)
    assert report.written == 25
    assert everything(report.collection) == everything(source)


def test_resuming_what_has_not_begun_begins_and_what_is_done_is_verified() -> None:
    source, there = filled(MemoryStore()), MemoryStore()
    assert copy(source, there, resume=True).written == 60
    again = copy(source, there, resume=True)
    assert (again.rows, again.written) == (60, 0)
    assert again.verified is not None
    assert again.verified.rows == 60


def test_what_the_stopped_copy_wrote_is_seen_though_it_was_not_flushed() -> None:
    source, there = filled(MemoryStore()), planted(Waiting)
    filled(there, 0).upsert(rows(60).rows(0, 25))
    assert there.get_collection("docs").count() == 0
    assert copy(source, there, resume=True).written == 35


def _spec(**changes: Any) -> CollectionSpec:
    same = CollectionSpec("docs", DIM, Metric.EUCLIDEAN, HNSW(m=8), EmbedderSpec("m", DIM, revision="r1"), FIELDS)
    return replace(same, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": Metric.COSINE}, "metric cosine, the copy needs euclidean"),
        ({"dim": 9, "embedder": None}, "dim 9, the copy needs 8"),
        ({"index": HNSW(m=9)}, r"index HNSW\(m=9.*needs HNSW\(m=8"),
        ({"index": Flat()}, "index Flat.*needs HNSW"),
        ({"embedder": None}, "embedder None, the copy needs m"),
        ({"embedder": EmbedderSpec("m", DIM, revision="r2")}, r"embedder m \(8 dimensions, .*the copy needs m"),
        ({"fields": {"n": "int"}}, "fields .*the copy needs .*word"),
    ],
)
def test_another_kind_of_collection_is_not_resumed(changes: dict[str, Any], said: str) -> None:
    there = MemoryStore()
    existing = there.create_collection(_spec(**changes))
    with pytest.raises(CollectionMismatch, match=said):
        copy(filled(MemoryStore()), there, resume=True)
    assert existing.count() == 0


def _one_more(records: Records) -> Records:
    return replace(records, ids=[*records.ids[:-1], "mine"])


def _other_vector(records: Records) -> Records:
    assert records.vectors is not None
    vectors = records.vectors.copy()
    vectors[3, 5] += 1e-5
    return replace(records, vectors=vectors)


def _other_value(records: Records) -> Records:
    metadata = [dict(row) for row in records.metadata or []]
    metadata[3]["n"] = 3.0
    return replace(records, metadata=metadata)


def _other_text(records: Records) -> Records:
    return replace(records, documents=["", *list(records.documents or [])[1:]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_one_more, "holds 'mine', which memory.* lacks"),
        (_other_vector, "'id-3', vector: number 5"),
        (_other_value, r"'id-3', metadata: field 'n' is 3.0, at the source 3 \(float for int\)"),
        (_other_text, "'id-0', document: '', at the source 'é 0'"),
    ],
)
def test_a_collection_of_the_same_kind_with_other_records_is_not_resumed(
    change: Callable[[Records], Records], said: str
) -> None:
    """Nothing is written to it, however late the first difference is found."""
    source, there = filled(MemoryStore()), MemoryStore()
    existing = there.create_collection(_spec())
    existing.upsert(change(rows(60).rows(0, 40)))
    before = everything(existing)
    with pytest.raises(CollectionMismatch, match=said) as caught:
        copy(source, there, batch_size=50, resume=True)
    assert "not a copy that was stopped" in str(caught.value)
    assert not hasattr(caught.value, "__notes__")
    assert everything(existing) == before


def test_the_source_that_lost_a_record_meanwhile_is_noticed() -> None:
    source, there = filled(MemoryStore()), planted(Failing)
    with pytest.raises(StoreError):
        copy(source, there, batch_size=10)
    source.delete(ids=["id-4"])
    with pytest.raises(CollectionMismatch, match=r"'id-4'.*has changed since"):
        copy(source, there, batch_size=10, resume=True)
