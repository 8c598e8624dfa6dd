"""Vectors that lie in clusters, as real ones do, and how much of the truth an answer holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vecbench.collection import Collection
from vecbench.index import SearchParams
from vecbench.types import Vectors


def clustered(n: int, dim: int, seed: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(50, dim))
    return (centres[rng.integers(0, 50, n)] + rng.normal(size=(n, dim))).astype(np.float32)


def names(n: int) -> list[str]:
    """The ids of rows: their numbers."""
    return [str(i) for i in range(n)]


def recall(found: Sequence[Sequence[str]], rows: Any) -> float:
    """The share of the true rows, as `top_k` gives them, that were found by their `names`."""
    return float(np.mean([len(set(map(int, ids)) & set(row)) / len(row) for ids, row in zip(found, rows, strict=True)]))


def recalled(collection: Collection, queries: Vectors, rows: Any, **params: Any) -> float:
    """The same of a search for the ten nearest with these parameters."""
    return recall(collection.search(queries, 10, params=SearchParams(**params)).ids, rows)
