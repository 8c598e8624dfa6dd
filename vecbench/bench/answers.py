"""What a store answered, as row numbers: ids are turned back into the rows that they were sent for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vecbench.bench.recall import NO_ANSWER, UNKNOWN, distance_error
from vecbench.errors import RunVoid
from vecbench.types import Metric, SearchResult, Vectors

__all__ = ["decode", "largest_error", "rows_and_distances"]

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


def decode(
    answers: Sequence[SearchResult], k: int, queries: Vectors, base: Vectors, metric: Metric
) -> tuple[_Ints, float]:
    """Row numbers (q, k) of the answers, and the largest relative error of the distances that came with them.

    As `rows_and_distances` and `largest_error` say.
    """
    rows, distances = rows_and_distances(answers, k, len(base))
    return rows, largest_error(rows, distances, queries[: len(rows)], base, metric)


def rows_and_distances(answers: Sequence[SearchResult], k: int, n: int) -> tuple[_Ints, _Floats]:
    """Row numbers of the answers and the distances that came with them, both (q, k); n: how many rows were sent.

    `NO_ANSWER` and NaN stand where nothing came, `UNKNOWN` for an id that was never sent. `RunVoid` for a distance that
    is not finite, and for more than k answers.
    """
    rows, far = np.full((len(answers), k), NO_ANSWER, np.int64), np.full((len(answers), k), np.nan)
    for i, answer in enumerate(answers):
        ids, distances = answer.ids[0], np.asarray(answer.distances[0], np.float64)
        if len(ids) > k or len(distances) != len(ids):
            raise RunVoid(f"query {i}: {len(ids)} ids and {len(distances)} distances came, {k} were asked for")
        if not np.isfinite(distances).all():
            raise RunVoid(f"query {i}: a distance is not finite: {distances.tolist()}")
        rows[i, : len(ids)] = [_row(id_, n) for id_ in ids]
        far[i, : len(ids)] = distances
    return rows, far


def largest_error(rows: _Ints, distances: _Floats, queries: Vectors, base: Vectors, metric: Metric) -> float:
    """The largest relative error of any of these distances, (q, k), as `distance_error` takes it; row i is query i."""
    worst = 0.0
    for found, given, query in zip(rows, distances, queries, strict=True):
        known = found >= 0
        if known.any():
            worst = max(worst, distance_error(given[known], query, base[found[known]], metric))
    return worst


def _row(id_: str, n: int) -> int:
    """The row number that `id_` was sent for."""
    if id_.isascii() and id_.isdigit() and str(int(id_)) == id_ and int(id_) < n:
        return int(id_)
    return UNKNOWN
