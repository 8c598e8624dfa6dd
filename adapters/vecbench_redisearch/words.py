"""Documents by their words: what `vecbench.rag`'s native retriever asks of a collection."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from vecbench.collection import Collection
from vecbench.errors import ConfigError, StoreRejected, UnsupportedOperation
from vecbench.filters import Filter
from vecbench_redisearch.engine import pairs

__all__ = ["LANGUAGE", "WORDS", "WordCollection", "attributes"]

WORDS = "w"  # the attribute of the index over the field `doc`
LANGUAGE = "english"  # that of an index which was created without one; no later command changes it
_SPARE = 100  # hits beside those asked for, since those of equal score are put in order here
_MOST = 1_000_000  # MAXSEARCHRESULTS
_PATIENCE = 3600.0  # seconds, as long as `optimize` waits unless it is told otherwise


def attributes(info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What FT.INFO says of each attribute of an index, by its name."""
    return {told["attribute"].decode(): told for told in map(pairs, info["attributes"])}


class WordCollection(Collection):
    """The part of a collection that searches by words."""

    _client: Any
    _index: str
    _timeout: float
    _has_words = False  # known to be in the index, all of them

    def index_words(self, language: str) -> None:
        """Have the server index the documents' words, and those of every later write; once is enough.

        language: "english". The server indexes every record anew, with its vector: it takes as long as writing them
        did. It goes on when this client dies; calling again waits for its end. `StoreTimeout` after an hour.
        """
        with self.store._doing(self, f"indexing the words of {self.spec.name!r}"):
            _require(language)
            if WORDS not in attributes(self._info()):
                try:
                    self._client.execute_command("FT.ALTER", self._index, "SCHEMA", "ADD", "doc", "AS", WORDS, "TEXT")
                except Exception as e:
                    if "Duplicate field" not in str(e):  # another client did it at this moment
                        raise
            self.settle(time.monotonic() + _PATIENCE)
            self._has_words = True

    def search_words(
        self, words: Sequence[str], k: int | None, *, where: Filter | None = None, language: str
    ) -> list[tuple[str, float]]:
        """Ids and BM25 of up to k matching records that hold any of the words, best first; k None for all.

        Equal scores are in the order of ids. `UnsupportedOperation` before `index_words`: there is nothing to search
        then.
        """
        if where is not None:
            self._check_where(where)
        with self.store._doing(self, f"searching the words of {self.spec.name!r}"):
            _require(language)
            words = [word for word in words if word]  # the server takes no empty one
            if not words:
                return []
            if not self._has_words:
                if WORDS not in attributes(self._info()):
                    raise UnsupportedOperation(
                        f"redisearch: the words of {self.spec.name!r} are not indexed: call prepare() of the "
                        "retriever, or index_words() of the collection, once"
                    )
                self.settle(time.monotonic() + self._timeout)  # all of them, or no answer
                self._has_words = True
            text, params = self._where(where)
            return self._best(_wanted(words, text, params), params, k)

    def _best(self, text: str, params: dict[str, Any], k: int | None) -> list[tuple[str, float]]:
        """The first k hits by score and id. The server orders equal scores as it likes: all like the k-th are seen."""
        limit = _MOST if k is None else min(k + _SPARE, _MOST)
        while True:
            how = ["NOCONTENT", "WITHSCORES", "SCORER", "BM25STD", "LANGUAGE", LANGUAGE, "LIMIT", 0, limit]
            answer = self._client.execute_command(*self._query("FT.SEARCH", text, params, *how))
            hits = [(self._id(key), float(score)) for key, score in zip(answer[1::2], answer[2::2], strict=True)]
            settled = k is not None and len(hits) > k and hits[-1][1] < hits[k - 1][1]
            if settled or len(hits) < limit:
                return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:k]
            if limit == _MOST:
                raise StoreRejected(f"redisearch gives no more than {_MOST:,} hits, and more hold one of the words")
            limit = min(limit * 10, _MOST)

    # What the rest of the collection has ------------------------------------------------------------------------------

    @abstractmethod
    def _info(self) -> dict[str, Any]:
        """What the server says of the index."""

    @abstractmethod
    def settle(self, deadline: float) -> None:
        """Wait until the server's scan of keys, if one runs, is over."""

    @abstractmethod
    def _where(self, where: Filter | None) -> tuple[str, dict[str, Any]]:
        """A filter as query text and its parameters."""

    @abstractmethod
    def _query(self, verb: str, text: str, params: dict[str, Any], *rest: Any) -> list[Any]:
        """A command that asks the index."""

    @abstractmethod
    def _id(self, key: bytes) -> str:
        """The id in a key."""


def _require(language: str) -> None:
    if language != LANGUAGE:
        raise ConfigError(
            f"redisearch: the words of a collection are indexed as {LANGUAGE}, and {language!r} cannot be chosen. "
            "Take LexicalRetriever, which knows no language"
        )


def _wanted(words: Sequence[str], where: str, params: dict[str, Any]) -> str:
    """The query for records that hold any of the words and match `where`; the words are added to `params`.

    The server would count a tag that a filter demands for the score, whatever weight it is given. What is denied does
    not count, so the filter is: twice.
    """
    bound = {f"w{i}": word for i, word in enumerate(words)}
    params.update(bound)
    wanted = f"@{WORDS}:({'|'.join('$' + name for name in bound)})"
    return wanted if where == "*" else f"{wanted} (-(-({where})))"
