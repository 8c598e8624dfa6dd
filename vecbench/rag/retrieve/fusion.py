"""Several retrievers as one, by reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from vecbench.errors import ConfigError
from vecbench.filters import Filter
from vecbench.rag.retrieve.lexical import LexicalRetriever
from vecbench.rag.retrieve.ranked import check_k
from vecbench.rag.retrieve.vector import VectorRetriever
from vecbench.rag.types import Passage, Retriever

__all__ = ["HybridRetriever", "fuse"]


def fuse(
    rankings: Sequence[Sequence[Passage]], *, weights: Sequence[float] | None = None, rank_constant: float = 60
) -> list[Passage]:
    """One ranking of several: a passage scores Σ weight / (rank_constant + rank) over those that it is in, from rank 1.

    A passage is its id. Its score is the sum, its distance the first ranking's that knows one; equal scores go by id.
    """
    weights = _weights(weights, len(rankings))
    _check_constant(rank_constant)
    found: dict[str, Passage] = {}
    scores: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, passage in enumerate({passage.id: passage for passage in ranking}.values(), 1):
            known = found.setdefault(passage.id, passage)
            if known.distance is None and passage.distance is not None:
                found[passage.id] = replace(known, distance=passage.distance)
            scores[passage.id] = scores.get(passage.id, 0.0) + weight / (rank_constant + rank)
    return [replace(found[id_], score=score) for id_, score in sorted(scores.items(), key=lambda s: (-s[1], s[0]))]


class HybridRetriever:
    """The fused answers of several retrievers, over one collection: by vector and by words, say.

    weights: one per retriever, all 1 without them. rank_constant: the larger, the less the first ranks stand out.
    fetch: how many passages each retriever gives; without it 4 · k, and 50 at least; never more than a store can.
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        *,
        weights: Sequence[float] | None = None,
        rank_constant: float = 60,
        fetch: int | None = None,
    ) -> None:
        if not retrievers:
            raise ConfigError("HybridRetriever takes at least one retriever")
        if fetch is not None and (type(fetch) is not int or fetch < 1):
            raise ConfigError(f"fetch is a whole number of at least 1, got {fetch!r}")
        _check_constant(rank_constant)
        self.retrievers, self.weights = list(retrievers), _weights(weights, len(retrievers))
        self.rank_constant, self.fetch = rank_constant, fetch

    def retrieve(self, query: str, k: int = 10, *, where: Filter | None = None) -> list[Passage]:
        """Up to k passages, best first, each with its fused `score`; `where` applies in every retriever."""
        check_k(k)
        limits = [r.collection.store.capabilities.max_k for r in self.retrievers if isinstance(r, VectorRetriever)]
        fetch = max(k, min([self.fetch or max(4 * k, 50), *filter(None, limits)]))
        rankings = [retriever.retrieve(query, fetch, where=where) for retriever in self.retrievers]
        found = {passage.id for ranking in rankings for passage in ranking}
        for place, retriever in enumerate(self.retrievers):
            if isinstance(retriever, LexicalRetriever) and retriever.lacks(found):  # another process has written
                retriever.refresh()
                rankings[place] = retriever.retrieve(query, fetch, where=where)
        return fuse(rankings, weights=self.weights, rank_constant=self.rank_constant)[:k]


def _weights(weights: Sequence[float] | None, n: int) -> list[float]:
    given = [1.0] * n if weights is None else [float(weight) for weight in weights]
    if len(given) != n or not all(0 <= weight < math.inf for weight in given):
        raise ConfigError(f"weights: {n} numbers of at least 0 are needed, one for each retriever; got {given}")
    return given


def _check_constant(rank_constant: float) -> None:
    if not 0 <= rank_constant < math.inf:
        raise ConfigError(f"rank_constant is a number of at least 0, got {rank_constant}")
