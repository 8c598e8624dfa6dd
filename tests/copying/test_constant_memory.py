"""A copy holds a batch at a time, however many records there are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vecbench import CollectionSpec, Flat, Metric, Records, SearchResult
from vecbench.distance import paired_distances
from vecbench.filters import Filter
from vecbench.memory import MemoryCollection
from vecbench.transfer import copy
from vecbench.types import Include, Vectors

from .stores import planted

DIM, BATCH = 64, 100


def _record(ids: list[str]) -> Records:
    numbers = np.array([int(i) for i in ids])
    vectors = (numbers[:, None] % np.arange(7, 7 + DIM)).astype(np.float32) + 1
    return Records(ids, vectors, [{"n": int(n), "text": "x" * 100} for n in numbers], ["y" * 200 for _ in ids])


class Formula(MemoryCollection):
    """Holds record i for every i below a number, and computes it when asked; counts what is written to it."""

    size = 0

    def _upsert(self, records: Records) -> None:
        self.size += len(records)

    def _count(self, where: Filter | None) -> int:
        return self.size

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        return _record([i for i in ids if int(i) < self.size])

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        for start in range(0, self.size, batch_size):
            yield _record([str(i) for i in range(start, min(start + batch_size, self.size))])

    def _search(self, queries: Vectors, k: int, *rest: Any) -> SearchResult:
        ids = [str(i) for i in range(k)]
        vectors = _record(ids).vectors
        assert vectors is not None
        found = [paired_distances(np.broadcast_to(q, vectors.shape), vectors, Metric.DOT) for q in queries]
        return SearchResult([ids] * len(queries), list(found), Metric.DOT)


def _peak(n: int, *, resume: bool) -> int:
    source = planted(Formula).create_collection(CollectionSpec("docs", DIM, Metric.DOT, Flat()))
    there = planted(Formula)
    assert isinstance(source, Formula)
    source.size = n
    if resume:
        half = there.create_collection(source.spec)
        assert isinstance(half, Formula)
        half.size = n // 2
    tracemalloc.start()
    report = copy(source, there, batch_size=BATCH, resume=resume)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.written == (n - n // 2 if resume else n)
    assert report.verified is not None
    return peak


@pytest.mark.parametrize("resume", [False, True])
def test_the_peak_does_not_grow_with_the_collection(resume: bool) -> None:
    _peak(10 * BATCH, resume=resume)  # whatever is imported or cached the first time
    few, many = _peak(10 * BATCH, resume=resume), _peak(100 * BATCH, resume=resume)
    assert many < few + 4 * BATCH * DIM  # less than one more batch of vectors
