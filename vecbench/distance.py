"""Exact distances in float64, the exact nearest neighbours, and how native scores become distances."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vecbench.types import Metric, Vectors

__all__ = ["exact_distances", "from_similarity", "from_squared", "paired_distances", "top_k"]

FloatArray: TypeAlias = npt.NDArray[np.float64]
_CANDIDATES = 28  # beyond k, so that float32 rounding seldom sends a query to the float64 path
_BLOCK_FLOATS = 32_000_000  # 128 MB of float32 scores at a time


def from_squared(score: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Euclidean distances from squared ones; rounding below zero is clamped before the root."""
    return np.asarray(np.sqrt(np.maximum(score, 0)))


def from_similarity(score: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Cosine distances 1 − s from cosines s."""
    return 1 - score


def paired_distances(queries: npt.ArrayLike, vectors: npt.ArrayLike, metric: Metric) -> FloatArray:
    """The distance of each query to the vector in the same row, float64 (n,), without expanding the square."""
    q, x = np.asarray(queries, np.float64), np.asarray(vectors, np.float64)
    if metric is Metric.EUCLIDEAN:
        return np.asarray(np.sqrt(np.square(q - x).sum(-1)))
    dots = (q * x).sum(-1)
    if metric is Metric.DOT:
        return np.asarray(-dots)
    norms = np.linalg.norm(q, axis=-1) * np.linalg.norm(x, axis=-1)
    return np.asarray(1.0 - dots / norms)


def exact_distances(queries: npt.ArrayLike, base: npt.ArrayLike, metric: Metric) -> FloatArray:
    """All distances of `queries` (q, dim) to `base` (n, dim), float64 (q, n), without expanding the square."""
    q, x = np.asarray(queries, np.float64), np.asarray(base, np.float64)
    if metric is Metric.EUCLIDEAN:
        out = np.empty((len(q), len(x)))
        for i, row in enumerate(q):
            difference = x - row
            out[i] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
        return out
    dots = q @ x.T
    if metric is Metric.DOT:
        return np.asarray(-dots)
    return np.asarray(1.0 - dots / (np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(x, axis=1)[None, :]))


def top_k(queries: Vectors, base: Vectors, k: int, metric: Metric) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """The exact k nearest rows of `base` for each query: row numbers (q, k) and float64 distances (q, k), ascending.

    Ties are ordered by row number. k is cut to len(base). Candidates come from a float32 matrix product and are
    re-ranked in float64; where rounding could have cut a true neighbour off, that query is done in float64 throughout.
    """
    n = len(base)
    k = min(k, n)
    rows = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k))
    if k == 0 or len(queries) == 0:
        return rows, distances
    keep = min(n, k + _CANDIDATES)
    norms = np.sqrt(np.einsum("ij,ij->i", base, base, dtype=np.float64))
    step = max(1, _BLOCK_FLOATS // n)
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        for i, (candidates, cutoff) in enumerate(_candidates(block, base, norms, keep, metric)):
            q = start + i
            pool = candidates
            exact = _to_rows(queries[q], base[pool], metric)
            order = np.lexsort((pool, exact))[:k]
            if cutoff is not None and exact[order[-1]] >= cutoff:
                pool = np.arange(n)
                exact = _to_rows(queries[q], base, metric)
                order = np.lexsort((pool, exact))[:k]
            rows[q], distances[q] = pool[order], exact[order]
    return rows, distances


def _to_rows(query: npt.NDArray[np.float32], vectors: Vectors, metric: Metric) -> FloatArray:
    """float64 distances of one query to `vectors`, in blocks: a million rows of 384 in one go would take 9 GB."""
    wide = query.astype(np.float64)
    step = max(1, _BLOCK_FLOATS // 8 // vectors.shape[1])
    blocks = [vectors[start : start + step] for start in range(0, len(vectors), step)]
    return np.concatenate([paired_distances(np.broadcast_to(wide, b.shape), b, metric) for b in blocks])


def _candidates(
    block: Vectors, base: Vectors, norms: FloatArray, keep: int, metric: Metric
) -> list[tuple[npt.NDArray[np.int64], float | None]]:
    """Per query: candidate rows, and the distance that every row left out is proven to reach (None: none left out)."""
    n, dim = base.shape
    if keep == n:
        everything = np.arange(n)
        return [(everything, None)] * len(block)
    dots = block @ base.T
    query_norms = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
    # |float32 dot − true dot| ≤ γ·‖q‖·‖x‖ with γ = dim·ε/(1 − dim·ε): Higham, Accuracy and Stability, §3.1, with
    # Cauchy–Schwarz for Σ|q_i x_i|. Doubled for the roundings that follow.
    gamma = 2 * dim * float(np.finfo(np.float32).eps)
    out: list[tuple[npt.NDArray[np.int64], float | None]] = []
    for row, query_norm in zip(dots, query_norms, strict=True):
        scores = row.astype(np.float64)
        if metric is Metric.EUCLIDEAN:
            scores = norms * norms - 2 * scores + query_norm * query_norm
            slack = 2 * gamma * query_norm * float(norms.max())
        elif metric is Metric.COSINE:
            scores = 1.0 - scores / (norms * query_norm)
            slack = gamma
        else:
            scores, slack = -scores, gamma * query_norm * float(norms.max())
        picked = np.argpartition(scores, keep)[: keep + 1]
        picked = picked[np.argsort(scores[picked], kind="stable")]
        bound = float(scores[picked[-1]]) - slack
        if metric is Metric.EUCLIDEAN:
            bound = float(np.sqrt(max(bound, 0.0)))
        out.append((picked[:keep].astype(np.int64), bound))
    return out
