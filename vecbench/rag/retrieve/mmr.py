"""Maximal marginal relevance: near to the question, and not twice the same (Carbonell and Goldstein, SIGIR 1998)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vecbench.distance import exact_distances
from vecbench.errors import ConfigError
from vecbench.types import Metric, Vectors, similarity

__all__ = ["MMR", "similarities"]


@dataclass(frozen=True, slots=True)
class MMR:
    """Choose, one after the other, what has the most of λ · sim(question) − (1 − λ) · max sim(chosen).

    relevance: λ, 1 for the nearest alone, 0 for the most different after the first. fetch_k: how many of the nearest
    are chosen from. The similarity is the metric's: 1 − d for cosine, 1 / (1 + d) for Euclidean, −d for dot.
    """

    relevance: float = 0.5
    fetch_k: int = 50

    def __post_init__(self) -> None:
        if not 0 <= self.relevance <= 1:
            raise ConfigError(f"MMR: relevance weighs between 0 and 1, got {self.relevance}")
        if type(self.fetch_k) is not int or self.fetch_k < 1:
            raise ConfigError(f"MMR: fetch_k is a whole number of at least 1, got {self.fetch_k!r}")

    def choose(self, query: Vectors, vectors: Vectors, k: int, metric: Metric) -> list[int]:
        """The rows of `vectors` (n, dim) chosen for `query` (dim,), k at most, in order; the first row among equals."""
        near = similarities(query, vectors, metric)
        redundant = np.full(len(vectors), -np.inf)  # how near to what was chosen
        chosen: list[int] = []
        while len(chosen) < min(k, len(vectors)):
            gain = self.relevance * near - (1 - self.relevance) * redundant if chosen else near.copy()
            gain[chosen] = -np.inf
            chosen.append(int(gain.argmax()))
            redundant = np.maximum(redundant, similarities(vectors[chosen[-1]], vectors, metric))
        return chosen


def similarities(query: Vectors, vectors: Vectors, metric: Metric) -> npt.NDArray[np.float64]:
    """How near each of `vectors` (n, dim) is to `query` (dim,): float64 (n,), larger is nearer."""
    return np.asarray(similarity(exact_distances(query[None], vectors, metric)[0], metric))
