"""Recall by true distance: an answer counts when it is as near as the k-th true neighbour, whatever its id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vecbench.distance import paired_distances
from vecbench.types import Metric, Vectors

__all__ = ["FAILED", "NO_ANSWER", "RELATIVE_TOLERANCE", "UNKNOWN", "Recall", "distance_error", "recall_at_k"]

RELATIVE_TOLERANCE = 1e-6
NO_ANSWER, UNKNOWN, FAILED = -1, -2, -3
"""In place of a row number: nothing came; an id came that was never sent; the store raised an error."""
_ROUNDING = 1e-12  # of a float64 dot product of unit vectors: near 0 a relative tolerance does not even grant this


@dataclass(frozen=True, slots=True)
class Recall:
    """Per query, float64 (q,): recall by distance and by id. Totals over all queries of what was wrong in form."""

    by_distance: npt.NDArray[np.float64]
    by_id: npt.NDArray[np.float64]
    duplicates: int
    missing: int
    unknown: int


def recall_at_k(
    answers: npt.NDArray[np.int64],
    queries: Vectors,
    base: Vectors,
    truth_rows: npt.NDArray[np.integer],
    truth_distances: npt.NDArray[np.float64],
    *,
    metric: Metric,
) -> Recall:
    """Recall of `answers`, row numbers (q, k), against the true neighbours (q, ≥ k); `NO_ANSWER` and `UNKNOWN` miss.

    An answer counts once, when its distance, computed here in float64, is at most d_k + 1e-6·|d_k|. Duplicates are
    misses. The divisor is k, or the number of base rows where those are fewer.
    """
    n, width = answers.shape
    k = min(width, len(base))
    by_distance, by_id = np.zeros(n), np.zeros(n)
    duplicates = missing = unknown = 0
    for i in range(n):
        given = answers[i][answers[i] >= 0]
        distinct = np.unique(given)
        strangers = int(np.count_nonzero(answers[i] == UNKNOWN))
        duplicates += len(given) - len(distinct)
        unknown += strangers
        missing += max(0, k - len(given) - strangers)
        farthest = truth_distances[i, k - 1]
        true = paired_distances(np.broadcast_to(queries[i], (len(distinct), queries.shape[1])), base[distinct], metric)
        limit = farthest + abs(farthest) * RELATIVE_TOLERANCE + _rounding(queries[i], base[distinct], metric)
        by_distance[i] = np.count_nonzero(true <= limit) / k
        by_id[i] = len(np.intersect1d(distinct, truth_rows[i, :k])) / k
    return Recall(by_distance, by_id, duplicates, missing, unknown)


def distance_error(given: npt.ArrayLike, query: Vectors, vectors: Vectors, metric: Metric) -> float:
    """The largest error of the distances that a store gave for `vectors`, relative to the true ones in float64.

    Where a distance is less than a hundredth of the scale (‖q‖ for Euclid, 1 for cosine, ‖q‖·‖x‖ for dot), the error
    is taken relative to that instead: a ratio to nothing says nothing. NaN where a store gave NaN.
    """
    wide = query.astype(np.float64)
    true = paired_distances(np.broadcast_to(wide, vectors.shape), vectors, metric)
    scale = np.full(len(true), {Metric.EUCLIDEAN: float(np.linalg.norm(wide)), Metric.COSINE: 1.0}.get(metric, 0.0))
    if metric is Metric.DOT:
        scale = np.linalg.norm(wide) * np.linalg.norm(vectors.astype(np.float64), axis=1)
    floor = np.maximum(scale / 100, np.finfo(np.float64).tiny)
    return float((np.abs(np.asarray(given, np.float64) - true) / np.maximum(np.abs(true), floor)).max(initial=0.0))


def _rounding(query: Vectors, vectors: Vectors, metric: Metric) -> npt.NDArray[np.float64] | float:
    """What float64 itself may add to a distance; nothing for Euclid, where equal vectors give exactly 0."""
    if metric is Metric.EUCLIDEAN:
        return 0.0
    if metric is Metric.COSINE:
        return _ROUNDING
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return np.asarray(_ROUNDING * float(np.linalg.norm(query.astype(np.float64))) * lengths)
