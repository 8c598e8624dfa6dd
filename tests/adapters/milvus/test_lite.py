"""Milvus Lite alone: its directory, its recall under filters, what kill -9 leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.adapters.vectors import clustered
from vecbench.distance import top_k
from vecbench.errors import ConnectionFailed
from vecbench.filters import F
from vecbench.index import HNSW
from vecbench.spec import CollectionSpec
from vecbench.types import Metric
from vecbench_milvus import MilvusLiteStore

from .parts import numbered


def test_a_directory_has_one_holder(tmp_path: Path) -> None:
    with MilvusLiteStore.open(path=tmp_path), pytest.raises(ConnectionFailed, match=str(tmp_path)):
        MilvusLiteStore.open(path=tmp_path)
    MilvusLiteStore.open(path=tmp_path).close()


def test_a_temporary_lite_leaves_nothing() -> None:
    store = MilvusLiteStore.open()
    folder = Path(store.info.target)
    store.create_collection(CollectionSpec("c", 3))
    assert folder.is_dir()
    store.close()
    assert not folder.exists()


def test_filters_do_not_cost_lite_its_recall(lite: MilvusLiteStore) -> None:
    """Rows that a filter rejects count against ef there: .46 at 2 % and ef 64 was seen."""
    data, queries = numbered(5000, 32), clustered(20, 32, seed=1)
    assert data.vectors is not None
    collection = lite.create_collection(CollectionSpec("c", 32, Metric.EUCLIDEAN, HNSW()))
    collection.upsert(data)
    collection.optimize()
    for share in (20, 100, 500):
        chosen = np.array([i for i in range(5000) if i % 1000 < share])
        rows, _ = top_k(queries, data.vectors[chosen], 10, Metric.EUCLIDEAN)
        found = collection.search(queries, 10, where=F("n") < share).ids
        hits = [len({str(chosen[r]) for r in row} & set(ids)) for row, ids in zip(rows, found, strict=True)]
        assert np.mean(hits) > 9.9


LITE_WRITER = """
import os, signal, sys, numpy as np
from vecbench_milvus import MilvusLiteStore
from vecbench.spec import CollectionSpec
from vecbench.types import Records
c = MilvusLiteStore.open(path=sys.argv[1]).create_collection(CollectionSpec("c", 4))
for i in range(0, 500, 10):
    c.upsert(Records([str(j) for j in range(i, i + 10)], np.random.default_rng(i).normal(size=(10, 4)).astype("f4")))
c.delete(ids=["7"])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_lite_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LITE_WRITER, tmp_path], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with MilvusLiteStore.open(path=tmp_path) as store:
        collection = store.get_collection("c")
        assert collection.count() == 499
        assert len(collection.search(np.ones(4, np.float32), 500).ids[0]) == 499
