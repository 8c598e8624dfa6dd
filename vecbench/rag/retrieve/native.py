"""Passages by their words, as the store itself searches them: where it has the words, without an index beside it.

    hybrid = HybridRetriever([VectorRetriever(collection, embedder), NativeLexicalRetriever(collection)])

Each store ranks words in its own way, so what is found differs from store to store; `LexicalRetriever` is the same over
all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from vecbench.collection import Collection
from vecbench.errors import UnsupportedOperation
from vecbench.filters import Filter
from vecbench.rag.retrieve.ranked import best_passages, check_k
from vecbench.rag.retrieve.words import tokens
from vecbench.rag.types import Passage

__all__ = ["NativeLexicalRetriever", "SearchesWords"]


@runtime_checkable
class SearchesWords(Protocol):
    """What a collection has whose store searches documents by their words.

    Of ours: elasticsearch, pgvector, qdrant, redisearch, weaviate. language: one that the store knows, else
    `ConfigError`.
    """

    def index_words(self, language: str) -> None:
        """Return when the store keeps an index of all words; broken off, it can be called again."""
        ...

    def search_words(
        self, words: Sequence[str], k: int | None, *, where: Filter | None = None, language: str
    ) -> list[tuple[str, float]]:
        """Ids and scores of up to k matching records that hold any of the words, best first; k None for all.

        Equal scores are in the order of ids; no words find nothing. `UnsupportedOperation` where the store finds words
        by an index only, and has none yet.
        """
        ...


class NativeLexicalRetriever:
    """The store's own search by words; `UnsupportedOperation` for a store that has none.

    language: one that the store knows, which stems words and leaves out the most common; `ConfigError` for another.

    pgvector: a text search configuration. The score is `ts_rank`, which knows nothing of how rare a word is. Works
    without `prepare`, and then reads every document.
    elasticsearch: an analyzer, "english" or "cjk" on a full distribution; the reduced one that `connect` starts here
    has only "standard", "simple" and "stop", which do not stem. BM25. Needs `prepare`, and sees what was there at the
    last `flush`.
    qdrant: "english" and 16 others that it stems, "chinese", or "simple", which takes words as they are; a collection
    has one. BM25. Needs `prepare`. Embedded, and on servers from 1.20 on (not run); not in the client's imitation.
    redisearch: "english" only. BM25. Needs `prepare`.
    weaviate: "english" only: its stop words, nothing is stemmed. BM25. Needs `prepare` only for collections that were
    made before words were indexed, and nobody may write to them meanwhile.

    Chinese without spaces is found by elasticsearch: "standard" takes each character for a word, "cjk" (not run) each
    two; and by qdrant: its "chinese" cuts by a dictionary, and drops numbers. For the others, and for qdrant's other
    languages, a run of it is one word, found only if it is no longer than two characters. Case and punctuation beyond
    ASCII are known to pgvector only where the database's locale knows them (that of a cluster which `connect` starts
    does not), and not at all to redisearch 2.10. `LexicalRetriever` has none of these limits.
    """

    def __init__(self, collection: Collection, *, language: str = "english") -> None:
        if not isinstance(collection, SearchesWords):
            raise UnsupportedOperation(
                f"{collection.store.name} keeps a document as it is and cannot search it by words. "
                "Take LexicalRetriever (of a Rag, 'hybrid' or 'lexical'), which works over every store"
            )
        collection.search_words((), 1, language=language)  # an unknown language is refused now
        self.collection, self.language = collection, language
        self._words: SearchesWords = collection

    def prepare(self) -> None:
        """Have the store keep an index of the words; once for a collection and language, it follows every write.

        On elasticsearch and redisearch every record is indexed anew, with its vector: as long as writing them took.
        Nothing of a record changes; broken off, call it again.
        """
        self._words.index_words(self.language)

    def retrieve(self, query: str, k: int = 10, *, where: Filter | None = None) -> list[Passage]:
        """Up to k passages that share a word with the query, best first; `where` applies before."""
        check_k(k)
        words = list(dict.fromkeys(tokens(query)))
        if not words:
            return []

        def ranking(limit: int | None) -> list[tuple[str, float]]:
            return self._words.search_words(words, limit, where=where, language=self.language)

        return best_passages(self.collection, ranking, k, None)
