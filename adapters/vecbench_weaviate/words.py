"""Documents by their words: what `vecbench.rag`'s native retriever asks of a collection.

The words of `doc` are indexed from a collection's first record on. Weaviate can add the index to a class that is there,
and collections that were made before get it so; but what others write or delete in the moment when it comes into force
may be missing in it (seen with 1.39.0), and a delete is then an error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vecbench.collection import Collection
from vecbench.errors import CollectionNotFound, ConfigError, StoreRejected, StoreTimeout, UnsupportedOperation
from vecbench.filters import Filter
from vecbench.store import import_client
from vecbench.typed import translate
from vecbench_weaviate.filters import SLICES, WeaviateDialect, slice_token

if TYPE_CHECKING:
    from vecbench_weaviate.store import WeaviateStore

__all__ = ["DOC", "ID", "LANGUAGE", "MOST", "WordCollection"]

ID, DOC = "ident", "doc"  # "id" is Weaviate's own
LANGUAGE = "english"  # whose stop words a class leaves out unless it is told else
MOST = 10_000  # QUERY_MAXIMUM_RESULTS, unless a server says else
_SPARE = 100  # hits beside those asked for, since those of equal score are put in order here
_REINDEXES = (1, 39)  # the first server that adds an index to a class that is there
_PATIENCE = 3600.0  # seconds, as long as `optimize` waits unless it is told otherwise


class WordCollection(Collection):
    """The part of a collection that searches by words."""

    _server: WeaviateStore
    _handle: Any
    _query: Any
    _dialect: WeaviateDialect
    _has_words = False  # known to be indexed

    def index_words(self, language: str) -> None:
        """Have Weaviate index the documents' words; of a collection that has them indexed already, nothing is done.

        language: "english". Every collection has, unless it was made by a vecbench that did not know of this: then
        nobody may write to it meanwhile, and the server must be 1.39 or newer (`UnsupportedOperation`). It goes on when
        this client dies; calling again waits for its end. `StoreTimeout` after an hour.
        """
        with self.store._doing(self, f"indexing the words of {self.spec.name!r}"):
            _require(language)
            self._note_words(self._handle.config.get())
            if not self._has_words:
                self._enable(time.monotonic() + _PATIENCE)
                self._has_words = True

    def search_words(
        self, words: Sequence[str], k: int | None, *, where: Filter | None = None, language: str
    ) -> list[tuple[str, float]]:
        """Ids and BM25 of up to k matching records that hold any of the words, best first; k None for all.

        Equal scores are in the order of ids. Nothing is stemmed: a record must hold the very word, in upper or lower
        case. `UnsupportedOperation` where the words are not indexed, see `index_words`.
        """
        if where is not None:
            self._check_where(where)
        with self.store._doing(self, f"searching the words of {self.spec.name!r}"):
            _require(language)
            if not words:
                return []
            if not self._words_are_there():
                raise UnsupportedOperation(
                    f"weaviate: {self.spec.name!r} was made before words were indexed: call prepare() of the "
                    "retriever, or index_words() of the collection, once"
                )
            condition = None if where is None else translate(where, self._dialect)
            return self._best(" ".join(words), condition, k)

    def _best(self, text: str, condition: Any, k: int | None) -> list[tuple[str, float]]:
        """The first k hits by score and id. The server orders equal scores as it likes: all like the k-th are seen."""
        limit = MOST if k is None else min(k + _SPARE, MOST)
        while True:
            hits = self._hits(text, condition, limit)
            settled = k is not None and len(hits) > k and hits[-1][1] < hits[k - 1][1]
            if settled or len(hits) < limit:
                break
            if limit == MOST:
                hits = self._all_hits(text, condition, 0, SLICES)
                break
            limit = min(limit * 10, MOST)
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:k]

    def _hits(self, text: str, condition: Any, limit: int) -> list[tuple[str, float]]:
        """Of any of the words, best first. A score is the same under every condition."""
        found = self._handle.query.bm25(
            query=text,
            query_properties=[DOC],
            operator=self._query.BM25Operator.or_(minimum_match=1),
            filters=condition,
            limit=limit,
            return_metadata=self._query.MetadataQuery(score=True),
            return_properties=[ID],
        )
        return [(o.properties[ID], float(o.metadata.score)) for o in found.objects]

    def _all_hits(self, text: str, condition: Any, first: int, size: int) -> list[tuple[str, float]]:
        """In those slices of the records, halved until an answer holds each part's."""
        part = self._dialect.any_token([slice_token(n) for n in range(first, first + size)])
        hits = self._hits(text, part if condition is None else self._dialect.all_of([part, condition]), MOST)
        if len(hits) < MOST:
            return hits
        if size == 1:
            raise StoreRejected(
                f"weaviate gives no more than {MOST:,} hits at once, and even in one of {SLICES} slices more hold one "
                "of the words"
            )
        half = size // 2
        return self._all_hits(text, condition, first, half) + self._all_hits(text, condition, first + half, half)

    def _words_are_there(self) -> bool:
        if not self._has_words:
            self._note_words(self._handle.config.get())
        return self._has_words

    def _note_words(self, config: Any) -> None:
        found = next(p for p in config.properties if p.name == DOC)
        self._has_words = found.index_searchable and found.tokenization == self._server.config.Tokenization.WORD

    def _enable(self, deadline: float) -> None:
        """The client has no word for it yet; asked again, the server says that it is at it, or has done it."""
        if self._server.version < _REINDEXES:
            raise UnsupportedOperation(
                f"weaviate: {self.spec.name!r} was made before words were indexed, and only servers from 1.39 on can "
                "index them now; copy it into a new one (vecbench copy)"
            )
        self._rest("PUT", f"properties/{DOC}/index/searchable", {"tokenization": "word"})
        pause = threading.Event()
        while (state := self._word_index()).get("status") != "ready":
            if state.get("status") in {"failed", "cancelled"}:
                raise StoreRejected(f"weaviate: indexing the words of {self.spec.name!r} was {state['status']}")
            if time.monotonic() > deadline:
                raise StoreTimeout(f"weaviate: the words of {self.spec.name!r} are still being indexed")
            pause.wait(0.05)

    def _word_index(self) -> dict[str, Any]:
        """What the server says of it; empty where there is none yet."""
        document = next(p for p in self._rest("GET", "indexes")["properties"] if p["name"] == DOC)
        return next((one for one in document["indexes"] or () if one["type"] == "searchable"), {})

    def _rest(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        httpx = import_client("httpx", store="weaviate", extra="weaviate")  # the client's own
        answer = httpx.request(
            method,
            self._server.address.rest(f"/v1/schema/{self._handle.name}/{path}"),
            json=body,
            headers=self._server.headers,
            timeout=60,
            trust_env=False,  # as the client has it: no proxy of the environment sees the key
        )
        if answer.status_code == 404:
            raise CollectionNotFound(f"weaviate has no collection {self.spec.name!r} any more")
        if not answer.is_success:
            reason = self._server.masked(answer.text)[:300]
            raise StoreRejected(f"weaviate: indexing the words of {self.spec.name!r}: {answer.status_code} {reason}")
        return answer.json()


def _require(language: str) -> None:
    if language != LANGUAGE:
        raise ConfigError(
            f"weaviate: the words of a collection are indexed as {LANGUAGE}, and {language!r} cannot be chosen. Take "
            "LexicalRetriever, which knows no language"
        )
