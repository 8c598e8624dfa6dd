"""The exact nearest rows by workers that may be other machines: each does some rows of the base, to the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vecbench.distance import distances_to
from vecbench.neighbours import nearest
from vecbench.products import Products
from vecbench.types import Metric, Vectors
from vecbench.work import Workers

__all__ = ["SearchOn"]

_Floats: TypeAlias = npt.NDArray[np.float64]
_Rows: TypeAlias = npt.NDArray[np.int64]
_PART_BYTES = 64 * 2**20  # of base rows that go to a worker at once


@dataclass(frozen=True, slots=True)
class _Part:
    """Some base rows, and for which queries the nearest of them are wanted. numbers: of the rows in the whole base."""

    queries: Callable[[], Vectors]
    vectors: Vectors
    numbers: _Rows
    k: int
    metric: Metric
    memory_bytes: int


class SearchOn:
    """What `vecbench.neighbours.Search` does, by workers: one reading of a base, for queries that are few enough.

    The rows go to the workers in parts, in order, read from the base as they are sent. Each part gives its k nearest
    with exact distances, and they are merged here: a distance depends on nothing but its two vectors. memory_bytes:
    what a worker may use beside its part.
    """

    def __init__(
        self,
        queries: Vectors,
        base: Vectors,
        k: int,
        metric: Metric,
        workers: Workers,
        *,
        mask: npt.NDArray[np.bool_] | None = None,
        memory_bytes: int,
        first_query: int = 0,
    ) -> None:
        self._queries, self._base, self._metric, self._workers = queries, base, metric, workers
        self._numbers = None if mask is None else np.flatnonzero(mask)
        self.size = len(base) if self._numbers is None else len(self._numbers)
        self.k = min(k, self.size)
        self._memory_bytes = memory_bytes
        Products(metric, base[:1]).about_centre(queries, first_query)  # refuses what has no distance
        self._rows = np.full((len(queries), self.k), -1)
        self._distances = np.full((len(queries), self.k), np.inf)

    def scan(self, start: int = 0) -> Iterator[int]:
        """Have the rows that may be found read, from the `start`-th on; gives after each part how many have been."""
        if not self.k or not len(self._queries):
            return
        step = max(1, _PART_BYTES // (4 * self._base.shape[1]))
        for rows, distances in self._workers.map(_nearest_in, self._parts(start, step)):
            self._merge(rows, distances)
            start = min(start + step, self.size)
            yield start

    def known(self, rows: _Rows, hopes: _Floats) -> None:
        """Begin from an earlier `result`, got after as many rows as `scan` is then told to leave out."""
        for i, (query, its) in enumerate(zip(self._queries, rows, strict=True)):
            found = its[its >= 0]
            self._rows[i, : len(found)] = found
            self._distances[i, : len(found)] = distances_to(query, self._base, found, self._metric)

    def hopes(self) -> _Floats:
        """For `known`, as of `Search`: nothing is left out on hope."""
        return np.full(len(self._queries), -np.inf)

    def result(self) -> tuple[_Rows, _Floats]:
        """The k nearest of the rows read, as `nearest` gives them; −1 and infinity where there are fewer."""
        return self._rows, self._distances

    def _parts(self, start: int, step: int) -> Iterator[_Part]:
        queries = self._workers.share(np.array(self._queries))
        for first in range(start, self.size, step):
            last = min(first + step, self.size)
            numbers = np.arange(first, last) if self._numbers is None else self._numbers[first:last]
            vectors = np.array(self._base[first:last] if self._numbers is None else self._base[numbers])
            yield _Part(queries, vectors, numbers, self.k, self._metric, self._memory_bytes)

    def _merge(self, rows: _Rows, distances: _Floats) -> None:
        """Rows that were there come first among equals: their numbers are smaller."""
        all_rows = np.concatenate([self._rows, rows], axis=1)
        all_distances = np.concatenate([self._distances, distances], axis=1)
        order = np.argsort(all_distances, axis=1, kind="stable")[:, : self.k]
        self._rows = np.take_along_axis(all_rows, order, axis=1)
        self._distances = np.take_along_axis(all_distances, order, axis=1)


def _nearest_in(part: _Part) -> tuple[_Rows, _Floats]:
    """The nearest rows of a part, by their numbers in the whole base."""
    rows, distances = nearest(
        part.queries(), part.vectors, part.k, part.metric,
        threads=1, memory_bytes=part.memory_bytes, called=part.numbers,
    )  # fmt: skip
    return part.numbers[rows], distances
