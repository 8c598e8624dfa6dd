"""Exact distances in float64, the exact nearest neighbours, and how native scores become distances."""

from __future__ import annotations

import threading
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vecbench.types import Metric, Vectors

__all__ = ["distances_to", "exact_distances", "from_similarity", "from_squared", "paired_distances", "top_k"]

FloatArray: TypeAlias = npt.NDArray[np.float64]
_STEP_FLOATS = 393_216  # numbers at a time: so many that threads seldom wait for each other's Python


def from_squared(score: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Euclidean distances from squared ones; rounding below zero is clamped before the root."""
    return np.asarray(np.sqrt(np.maximum(score, 0)))


def from_similarity(score: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Cosine distances 1 − s from cosines s."""
    return 1 - score


def paired_distances(queries: npt.ArrayLike, vectors: npt.ArrayLike, metric: Metric) -> FloatArray:
    """The distance of each query to the vector in the same row, float64 (n,), without expanding the square."""
    # In rows one after another: NumPy sums along other strides in another order, to other last bits.
    q, x = np.ascontiguousarray(queries, np.float64), np.ascontiguousarray(vectors, np.float64)
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


class _Scratch(threading.local):
    """Room for one step of `distances_to`: fresh pages from the system would take as long as the arithmetic."""

    def __init__(self) -> None:
        self._floats, self._doubles = np.empty(0, np.float32), np.empty(0)

    def of(self, rows: int, dim: int) -> tuple[Vectors, FloatArray]:
        if len(self._floats) < rows * dim:
            self._floats, self._doubles = np.empty(rows * dim, np.float32), np.empty(rows * dim)
        return self._floats[: rows * dim].reshape(rows, dim), self._doubles[: rows * dim].reshape(rows, dim)


_scratch = _Scratch()


def distances_to(
    query: npt.NDArray[np.float32], base: Vectors, rows: npt.NDArray[np.int64], metric: Metric
) -> FloatArray:
    """The distances of one query to these rows of `base`, float64 (n,): those of `paired_distances`, to the bit."""
    wide = query.astype(np.float64)
    out = np.empty(len(rows))
    step = max(1, min(_STEP_FLOATS // base.shape[1], len(rows)))
    vectors, work = _scratch.of(step, base.shape[1])
    norm = float(np.sqrt((wide * wide).sum()))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        x, w, o = vectors[: len(part)], work[: len(part)], out[start : start + step]
        np.take(base, part, axis=0, out=x, mode="clip")  # the other modes would copy through a buffer
        if metric is Metric.EUCLIDEAN:
            np.copyto(w, x)  # by itself, faster than a subtraction of mixed precisions
            np.subtract(wide, w, out=w)
            np.sqrt(np.square(w, out=w).sum(-1), out=o)
            continue
        np.multiply(wide, x, out=w).sum(-1, out=o)
        if metric is Metric.DOT:
            np.negative(o, out=o)
            continue
        np.copyto(w, x)
        np.subtract(1.0, o / (norm * np.sqrt(np.multiply(w, w, out=w).sum(-1))), out=o)
    return out


def top_k(queries: Vectors, base: Vectors, k: int, metric: Metric) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """The exact k nearest rows of `base` for each query: row numbers (q, k) and float64 distances (q, k), ascending.

    Ties are ordered by row number. k is cut to len(base). See `vecbench.neighbours.nearest`, which has more options.
    """
    from vecbench.neighbours import nearest

    return nearest(queries, base, k, metric)
