"""Recall by true distance: an answer counts when it is as near as the k-th true neighbour, whatever its id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vecbench.distance import paired_distances
from vecbench.types import Metric, Vectors

__all__ = ["RELATIVE_TOLERANCE", "Recall", "recall_at_k"]

RELATIVE_TOLERANCE = 1e-6
_ZERO = 1e-9  # at d_k = 0 a relative tolerance grants nothing, not even the rounding of the float64 sum


@dataclass(frozen=True, slots=True)
class Recall:
    """Per query, float64 (q,): recall by distance and by id. Totals over all queries of what was wrong in form."""

    by_distance: npt.NDArray[np.float64]
    by_id: npt.NDArray[np.float64]
    duplicates: int
    missing: int


def recall_at_k(
    answers: npt.NDArray[np.int64],
    queries: Vectors,
    base: Vectors,
    truth_rows: npt.NDArray[np.integer],
    truth_distances: npt.NDArray[np.float64],
    *,
    metric: Metric,
) -> Recall:
    """Recall of `answers`, row numbers (q, k), −1 where there was none, against the true neighbours (q, ≥ k).

    An answer counts once, when its distance, computed here in float64, is at most d_k·(1 + 1e-6). Duplicates and
    absent answers are misses. The divisor is k, or the number of base rows where those are fewer.
    """
    n, width = answers.shape
    k = min(width, len(base))
    by_distance, by_id = np.zeros(n), np.zeros(n)
    duplicates = missing = 0
    for i in range(n):
        given = answers[i][answers[i] >= 0]
        distinct = np.unique(given)
        duplicates += len(given) - len(distinct)
        missing += k - len(given)
        farthest = truth_distances[i, k - 1]
        true = paired_distances(np.broadcast_to(queries[i], (len(distinct), queries.shape[1])), base[distinct], metric)
        limit = farthest + abs(farthest) * RELATIVE_TOLERANCE + _ZERO * (farthest == 0)
        by_distance[i] = np.count_nonzero(true <= limit) / k
        by_id[i] = len(np.intersect1d(distinct, truth_rows[i, :k])) / k
    return Recall(by_distance, by_id, duplicates, missing)
