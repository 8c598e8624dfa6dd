"""Passages whose vectors are nearest to the question's."""

from __future__ import annotations

import math

from vecbench.collection import Collection
from vecbench.embed.spec import Embedder
from vecbench.embed.texts import checked_vectors
from vecbench.errors import ConfigError
from vecbench.filters import Filter
from vecbench.index import DEFAULT_SEARCH, SearchParams
from vecbench.rag.records import passage
from vecbench.rag.retrieve.mmr import MMR
from vecbench.rag.retrieve.ranked import check_k
from vecbench.rag.types import Passage

__all__ = ["VectorRetriever"]


class VectorRetriever:
    """The k nearest records.

    embedder: the one that the collection was made with; another is refused with `EmbedderMismatch`, here and again
    with every search. max_distance: no passage farther than this, in the unit of the metric; a bound of one metric, and
    of one embedder, means nothing to another. params: how the index is walked. mmr: passages that differ from each
    other, see `MMR`; they come in the order in which they were chosen, not by distance.
    """

    def __init__(
        self,
        collection: Collection,
        embedder: Embedder,
        *,
        max_distance: float | None = None,
        params: SearchParams = DEFAULT_SEARCH,
        mmr: MMR | None = None,
    ) -> None:
        if max_distance is not None and math.isnan(max_distance):
            raise ConfigError("max_distance is a number in the unit of the metric, got NaN")
        collection.check_embedder(embedder.spec)
        self.collection, self.embedder = collection, embedder
        self.max_distance, self.params, self.mmr = max_distance, params, mmr

    def retrieve(self, query: str, k: int = 10, *, where: Filter | None = None) -> list[Passage]:
        """Up to k passages, nearest first; `where` applies before the nearest are chosen."""
        check_k(k)
        spec, mmr = self.embedder.spec, self.mmr
        vector = checked_vectors(self.embedder.embed_queries([query]), spec, 1)
        result = self.collection.search(
            vector,
            k if mmr is None else max(k, mmr.fetch_k),
            where=where,
            params=self.params,
            include=("metadata", "documents") if mmr is None else ("metadata", "documents", "vectors"),
            embedder=spec,
        )
        hits = [h for h in result.hits() if self.max_distance is None or h.distance <= self.max_distance]
        found = [passage(h.id, h.document, h.metadata, distance=h.distance) for h in hits]
        if mmr is None or not found or result.records is None or result.records[0].vectors is None:
            return found
        vectors = result.records[0].vectors[: len(found)]  # distances ascend: those within the bound come first
        return [found[row] for row in mmr.choose(vector[0], vectors, k, self.collection.spec.metric)]
