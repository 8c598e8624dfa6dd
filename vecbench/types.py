"""The plain data that crosses the border between a store and its caller: columns of arrays, not rows of objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "INCLUDE_ALL",
    "Distances",
    "Hit",
    "Include",
    "Metadata",
    "MetadataValue",
    "Metric",
    "Records",
    "SearchResult",
    "Vectors",
    "similarity",
]

Vectors: TypeAlias = npt.NDArray[np.float32]
"""float32, shape (n, dim), C-contiguous."""
Distances: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64]
"""float32 or float64, shape (n,), ascending."""
MetadataValue: TypeAlias = str | int | float | bool | list[str]
Metadata: TypeAlias = Mapping[str, MetadataValue]
Include: TypeAlias = Literal["vectors", "metadata", "documents"]
INCLUDE_ALL: tuple[Include, ...] = ("vectors", "metadata", "documents")


class Metric(StrEnum):
    """How far two vectors are apart. Every metric ascends: smaller is nearer.

    EUCLIDEAN is √Σ(a−b)², not squared. COSINE is 1 − cos(a, b), in [0, 2]. DOT is −⟨a, b⟩.
    """

    EUCLIDEAN = "euclidean"
    COSINE = "cosine"
    DOT = "dot"


@dataclass(slots=True)
class Records:
    """Columns of n records; `vectors`, `metadata` and `documents` are None where they were not asked for.

    ids: n strings of 1 to 512 UTF-8 bytes. vectors: float32 (n, dim). metadata: n flat mappings of str, int, float,
    bool or list[str]; `{}` where a record has none. documents: n texts, None where a record has none.
    embedder: fingerprint of the embedder that made the vectors, checked against the collection's when given.
    """

    ids: Sequence[str]
    vectors: Vectors | None = None
    metadata: Sequence[Metadata] | None = None
    documents: Sequence[str | None] | None = None
    embedder: str | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, start: int, stop: int) -> Records:
        """The records from `start` up to `stop`; the vectors are a view."""
        return Records(
            self.ids[start:stop],
            None if self.vectors is None else self.vectors[start:stop],
            None if self.metadata is None else self.metadata[start:stop],
            None if self.documents is None else self.documents[start:stop],
            self.embedder,
        )

    def take(self, positions: Sequence[int]) -> Records:
        """The records at `positions`, in that order."""
        return Records(
            [self.ids[i] for i in positions],
            None if self.vectors is None else self.vectors[list(positions)],
            None if self.metadata is None else [self.metadata[i] for i in positions],
            None if self.documents is None else [self.documents[i] for i in positions],
            self.embedder,
        )


@dataclass(slots=True)
class Hit:
    """One answer: the record found and its distance; the rest is None where it was not asked for."""

    id: str
    distance: float
    vector: Vectors | None = None
    metadata: Metadata | None = None
    document: str | None = None


@dataclass(slots=True)
class SearchResult:
    """The nearest records of each query, nearest first; one list or array per query, as long as its answers are many.

    ids: ids of query i. distances: ascending, in the unit of the metric. raw: the client's own numbers for the same
    answers, None where the store gives none. records: one `Records` per query where `include` asked for columns.
    """

    ids: list[list[str]]
    distances: list[Distances]
    metric: Metric
    raw: list[Distances] | None = None
    records: list[Records] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def hits(self, query: int = 0) -> Iterator[Hit]:
        """The answers of one query as objects, nearest first."""
        rec = None if self.records is None else self.records[query]
        for i, (id_, distance) in enumerate(zip(self.ids[query], self.distances[query], strict=True)):
            yield Hit(
                id_,
                float(distance),
                None if rec is None or rec.vectors is None else rec.vectors[i],
                None if rec is None or rec.metadata is None else rec.metadata[i],
                None if rec is None or rec.documents is None else rec.documents[i],
            )

    def similarities(self) -> list[npt.NDArray[Any]]:
        """The answers' similarities, see `similarity`."""
        return [np.asarray(similarity(d, self.metric)) for d in self.distances]


_Distance = TypeVar("_Distance", float, npt.NDArray[Any])


def similarity(distance: _Distance, metric: Metric) -> _Distance:
    """Larger is nearer: 1/(1+d) for Euclidean, cos = 1 − d for cosine, ⟨a, b⟩ = −d for dot; of a number or an array."""
    if metric is Metric.EUCLIDEAN:
        return 1.0 / (1.0 + distance)
    return 1.0 - distance if metric is Metric.COSINE else -distance
