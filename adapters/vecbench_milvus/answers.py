"""What a search found for one query, and the same found without the engine's index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vecbench.distance import from_similarity, from_squared, paired_distances, top_k
from vecbench.types import Distances, Metric, Records, Vectors

__all__ = ["Answer", "compared", "measured", "to_distances"]


@dataclass(slots=True)
class Answer:
    """Ids, nearest first, with Milvus's scores and our distances; records as far as they were fetched."""

    ids: list[str]
    scores: npt.NDArray[np.float64]
    distances: Distances
    records: Records | None = None


def to_distances(scores: npt.NDArray[np.float64], metric: Metric) -> Distances:
    """Milvus's scores are squared distances, cosines and dot products."""
    if metric is Metric.EUCLIDEAN:
        return from_squared(scores)
    return from_similarity(scores) if metric is Metric.COSINE else -scores


def measured(query: Vectors, answer: Answer, metric: Metric) -> Answer:
    """The answer of a compressed index in the order of the distances to the vectors as they were written."""
    assert answer.records is not None  # noqa: S101  asked for
    assert answer.records.vectors is not None  # noqa: S101  asked for
    vectors = answer.records.vectors
    true = paired_distances(np.broadcast_to(query, vectors.shape), vectors, metric)
    order = np.argsort(true, kind="stable")
    records = answer.records.take(order.tolist())
    return Answer(list(records.ids), answer.scores[order], true[order], records)


def compared(queries: Vectors, batches: Iterable[Records], k: int, metric: Metric) -> list[Answer]:
    """The k nearest of all these records, by comparing each with each query."""
    best: list[list[tuple[float, str]]] = [[] for _ in queries]
    for batch in batches:
        assert batch.vectors is not None  # noqa: S101  asked for
        rows, distances = top_k(queries, batch.vectors, k, metric)
        for so_far, found, far in zip(best, rows.tolist(), distances.tolist(), strict=True):
            so_far += [(distance, batch.ids[row]) for row, distance in zip(found, far, strict=True)]
            so_far.sort()
            del so_far[k:]
    answers = []
    for pairs in best:
        distances = np.array([distance for distance, _ in pairs], np.float64)
        squared, similar = np.square(distances), 1 - distances
        scores = squared if metric is Metric.EUCLIDEAN else similar if metric is Metric.COSINE else -distances
        answers.append(Answer([id_ for _, id_ in pairs], scores, distances))
    return answers
