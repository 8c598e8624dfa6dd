"""FAISS: what the adapter holds beside FAISS's own vectors. Ten million vectors leave no room for a second copy."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecbench import CollectionSpec, Flat, Metric, Records, connect

from .parts import DIM, check, reopened, vectors

WIDE, ROWS = 1024, 16_384
ALL = WIDE * ROWS * 4


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Python's and NumPy's memory, not FAISS's, rises by no more than this at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= size
    finally:
        tracemalloc.stop()


def unit(n: int, dim: int, seed: int) -> Any:
    made = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("metric", "length", "beside"), [(Metric.EUCLIDEAN, 3, 0), (Metric.COSINE, 1, 0), (Metric.COSINE, 3, ALL)]
)
def test_vectors_are_not_copied_as_a_whole(metric: Metric, length: int, beside: int, tmp_path: Path) -> None:
    """Under cosine those that are not of length 1 are kept beside FAISS's."""
    base = unit(ROWS, WIDE, 1) * np.float32(length)
    ids = [str(i) for i in range(ROWS)]
    with connect("faiss", path=tmp_path) as store:
        c = store.create_collection(CollectionSpec("c", WIDE, metric, index=Flat()))
        with at_most(beside + ALL // 2):
            for start in range(0, ROWS, 1024):
                c.upsert(Records(ids[start : start + 1024], base[start : start + 1024]))
            c.flush()
    with connect("faiss", path=tmp_path) as store:
        with at_most(beside + ALL // 2):
            c = store.get_collection("c")
        np.testing.assert_array_equal(c.get(ids[::1000]).vectors, base[::1000])
        c.delete(ids=ids[: ROWS // 2])
        with at_most(beside + ALL // 2):
            c.optimize()
            c.flush()
        np.testing.assert_array_equal(c.get(ids[-1:]).vectors, base[-1:])
        assert c.count() == ROWS // 2


def test_the_size_of_an_index_is_told_without_a_copy_of_it() -> None:
    base = unit(ROWS // 4, WIDE, 1)
    with connect("faiss") as store:
        c = store.create_collection(CollectionSpec("c", WIDE, Metric.EUCLIDEAN))
        c.upsert(Records([str(i) for i in range(len(base))], base))
        c.optimize()
        with at_most(ALL // 16):
            told = c.describe()["index"], c.describe()["index_bytes"]
    assert (told[0]["kind"], told[1] > base.nbytes) == ("hnsw", True)


def test_vectors_of_length_1_and_others_under_cosine(tmp_path: Path) -> None:
    """What came in as a unit vector is searched as it is; of the others the original is kept beside."""
    parts = [unit(40, DIM, 1), vectors(50, 2), unit(60, DIM, 3), np.vstack([unit(5, DIM, 4), vectors(5, 5)])]
    parts.append(unit(20, DIM, 6) * np.float32(1.0001))
    base = np.vstack(parts)
    truth = {f"r{i}": row for i, row in enumerate(base)}

    def right(c: Any) -> None:
        check(c, truth)
        got = c.get(list(truth))
        assert got.ids == list(truth)
        assert np.array_equal(got.vectors, np.stack(list(truth.values())))

    with connect("faiss", path=tmp_path) as store:
        c = store.create_collection(CollectionSpec("c", DIM, Metric.COSINE, index=Flat()))
        ids = iter(truth)
        for part in parts:
            c.upsert(Records(list(islice(ids, len(part))), part))
        right(c)
    with reopened(tmp_path) as c:
        right(c)
        for gone in [id_ for i, id_ in enumerate(list(truth)) if i % 3 == 0]:
            del truth[gone]
        c.delete(ids=[f"r{i}" for i in range(0, len(base), 3)])
        c.optimize()  # drops them
        assert c.describe()["deleted_rows_kept"] == 0
        right(c)
    with reopened(tmp_path) as c:
        right(c)


def test_many_rows_are_written_in_parts_that_are_one_list(tmp_path: Path) -> None:
    count = 40_000
    ids, metadata = [f"ä{i}" for i in range(count)], [{"n": i} if i % 3 else {} for i in range(count)]
    documents = [f"text “{i}”" if i % 2 else None for i in range(count)]
    base = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    with connect("faiss", path=tmp_path) as store:
        c = store.create_collection(CollectionSpec("c", 2, Metric.EUCLIDEAN, index=Flat()))
        c.upsert(Records(ids, base, metadata, documents))
    (segment,) = tmp_path.glob("c-*/*.segment")
    data = segment.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    assert json.loads(data[8:end]) == {"dead": [], "ids": ids, "metadata": metadata, "documents": documents}
    assert data[end:] == base.astype("<f4").tobytes()
    with reopened(tmp_path) as c:
        got = c.get(ids[-3:], include=["vectors", "metadata", "documents"])
        assert (got.ids, got.metadata, got.documents) == (ids[-3:], metadata[-3:], documents[-3:])
        assert np.array_equal(got.vectors, base[-3:])
        first = c.get(ids[:1], include=["metadata"]).metadata[0]
        first["mine"] = 1  # rows without metadata share one object inside; what is given out is not it
        assert c.get(ids[3:4], include=["metadata"]).metadata == [{}]
