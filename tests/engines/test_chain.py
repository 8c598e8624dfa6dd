"""The default data set through every store and back to the first: identical at the end, killed twice on the way."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecbench import Collection, CollectionSpec, EmbedderSpec, Metric, Records, connect, copy
from vecbench.registry import dataset_source

CHAIN = ("faiss", "pgvector", "qdrant", "chroma", "redisearch", "milvus", "weaviate", "elasticsearch", "faiss")
KILLED = ("pgvector", "chroma")  # the copies into these are killed half-way, and resumed by another process
NAME = "glosses"

_KILLED = """
import os, signal, sys
from vecbench import connect, copy

here, from_path, there, to_path, name = sys.argv[1:]

def progress(phase, done, total):
    if phase == "copying" and done >= total // 2:
        os.kill(os.getpid(), signal.SIGKILL)

with connect(here, path=from_path) as a, connect(there, path=to_path) as b:
    copy(a.get_collection(name), b, resume=True, flush_seconds=0, progress=progress)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Not pytest's own folder: some engines run under accounts that cannot enter it."""
    made = Path(tempfile.mkdtemp(prefix="vecbench-chain-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def _records() -> Records:
    data = dataset_source("glosses-10k").load()
    metadata: list[dict[str, Any]] = [
        {"n": i, "x": i / 7, "even": i % 2 == 0, "word": f"w{i % 50} 漢", "tags": [f"t{i % 3}"]} for i in range(10_000)
    ]
    documents = [None if i % 10 == 0 else f"text {i}" for i in range(10_000)]
    return Records([f"gloss/{i}" for i in range(10_000)], np.asarray(data.base, np.float32), metadata, documents)


def _everything(collection: Collection) -> dict[str, tuple[bytes, str, str | None]]:
    """All records by id: the bits of the vector, metadata with its types, document."""
    out = {}
    for batch in collection.scan():
        assert batch.vectors is not None
        assert batch.metadata is not None
        assert batch.documents is not None
        for row, id_ in enumerate(batch.ids):
            metadata = repr(sorted(batch.metadata[row].items()))
            out[id_] = (batch.vectors[row].tobytes(), metadata, batch.documents[row])
    return out


@pytest.mark.slow
def test_the_default_set_goes_round_all_stores_and_comes_back_the_same(home: Path) -> None:
    embedder = EmbedderSpec("all-MiniLM-L6-v2", 384, revision="r1")
    with connect("faiss", path=home / "0-faiss") as store:
        first = store.create_collection(
            CollectionSpec(NAME, 384, Metric.EUCLIDEAN, embedder=embedder, fields={"n": "int", "word": "str"})
        )
        first.upsert(_records())
        first.optimize()
        first.flush()
        before, spec = _everything(first), first.spec

    with ExitStack() as stack:  # closes what a failure left open
        source = stack.enter_context(connect("faiss", path=home / "0-faiss"))
        for step, name in enumerate(CHAIN[1:], 1):
            last_name, last_path, path = (
                CHAIN[step - 1],
                home / f"{step - 1}-{CHAIN[step - 1]}",
                home / f"{step}-{name}",
            )
            if name in KILLED:
                source.close()  # the other process opens it
                done = subprocess.run(
                    [sys.executable, "-c", _KILLED, last_name, str(last_path), name, str(path), NAME],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == -signal.SIGKILL, done.stderr
                source = stack.enter_context(connect(last_name, path=last_path))
            destination = stack.enter_context(connect(name, path=path))
            report = copy(source.get_collection(NAME), destination, resume=name in KILLED)
            assert report.rows == 10_000
            assert report.verified is not None
            assert (0 < report.written < 10_000) if name in KILLED else report.written == 10_000
            source.close()
            source = destination
        last = source.get_collection(NAME)
        assert last.spec == spec
        assert _everything(last) == before
