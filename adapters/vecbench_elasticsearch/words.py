"""Documents by their words: what `vecbench.rag`'s native retriever asks of a collection.

A document is kept in the field `doc`, which is not indexed. For a language a field `doc.<analyzer>` is laid over it, in
the mapping: from then on every write is indexed, whoever writes. What was written before is indexed by an update that
changes nothing, so that no vector is sent. The field's own `meta` says when that is over.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from vecbench.collection import Collection
from vecbench.errors import ConfigError, UnsupportedOperation
from vecbench.filters import Filter
from vecbench_elasticsearch.filters import condition
from vecbench_elasticsearch.parameters import DOCUMENT

__all__ = ["WordCollection"]

_WINDOW = 10_000  # index.max_result_window: hits of one request
_RECORDS = 500  # indexed anew in one request
_SPARE = 100  # hits beside those asked for, since those of equal score are put in order here
_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_STATE, _BEGUN, _COMPLETE = "vecbench", "begun", "complete"  # in the field's `meta`


class WordCollection(Collection):
    """The part of a collection that searches by words."""

    _client: Any
    _name: str
    _languages: frozenset[str] = frozenset()  # whose words are known to be indexed

    def index_words(self, language: str) -> None:
        """Have an analyzer of the server's index the documents' words, and those of every later write; once is enough.

        Every record is indexed anew, with its vector: it takes as long as writing them did. Broken off, it goes on
        from there when called again.
        """
        with self.store._doing(self, f"indexing the words of {self.spec.name!r}"):
            self._require_analyzer(language)
            state = self._states().get(language)
            if state == _COMPLETE:
                return
            if state is None:
                self._put_field(language, _BEGUN)
            self._client.indices.refresh(index=self._name)
            # Records without a document are always among these.
            todo = {"bool": {"must_not": [{"exists": {"field": f"doc.{language}"}}]}}
            for hits in self._pages(todo, _RECORDS, ()):
                pairs = [({"update": {"_id": h["_id"]}}, {"doc": {}, "detect_noop": False}) for h in hits]
                self._change([line for pair in pairs for line in pair])
            self._client.indices.refresh(index=self._name)
            self._put_field(language, _COMPLETE)

    def search_words(
        self, words: Sequence[str], k: int | None, *, where: Filter | None = None, language: str
    ) -> list[tuple[str, float]]:
        """Ids and BM25 of up to k matching records that hold any of the words, best first; k None for all.

        Equal scores are in the order of ids. As they were at the last `flush`. `UnsupportedOperation` before
        `index_words`: there is nothing to search then.
        """
        if where is not None:
            self._check_where(where)
        with self.store._doing(self, f"searching the words of {self.spec.name!r}"):
            if language not in self._languages:
                self._require_analyzer(language)
            if not words:
                return []
            if language not in self._languages:
                self._require_words(language)
                self._languages |= {language}
            # The words are a text there, and no syntax.
            wanted: dict[str, Any] = {"match": {f"doc.{language}": {"query": " ".join(words), "operator": "or"}}}
            if where is not None:
                wanted = {"bool": {"must": [wanted], "filter": [condition(where)]}}
            found = self._best(wanted, k)
            if not found:  # as where another client has dropped the collection and created it anew
                self._require_words(language)
            return found

    def _best(self, query: dict[str, Any], k: int | None) -> list[tuple[str, float]]:
        """The first k hits by score and id. The server cannot sort by id: all that score as the k-th does are seen."""

        def settled() -> bool:
            """Whether no hit after these can be among the first k."""
            return k is not None and len(hits) > k and hits[-1]["_score"] < hits[k - 1]["_score"]

        size = _WINDOW if k is None else min(k + _SPARE, _WINDOW)
        hits = list(self._ask([{"query": query, "size": size, "_source": False}])[0])
        if len(hits) == size and not settled():
            hits = []
            for page in self._pages(query, _WINDOW, (), by_score=True):
                hits += page
                if settled():
                    break
        ranked = [(str(h["_id"]), float(h["_score"])) for h in hits]
        return sorted(ranked, key=lambda one: (-one[1], one[0]))[:k]

    def _require_analyzer(self, language: str) -> None:
        """Raise `ConfigError` unless the server has an analyzer of that name, which cuts a text into words."""
        import elasticsearch

        known = bool(_NAME.fullmatch(language)) and language != "keyword"  # that one takes a text for a single word
        if known:
            try:
                self._client.indices.analyze(index=self._name, analyzer=language, text="a")
            except elasticsearch.BadRequestError:
                known = False
        if not known:
            raise ConfigError(
                f"elasticsearch: this server has no analyzer {language!r}. A full distribution has one for each of "
                "many languages (english, german, cjk …); Elastic's reduced one has standard, simple and stop, which "
                "do not stem"
            )

    def _require_words(self, language: str) -> None:
        if self._states().get(language) != _COMPLETE:
            raise UnsupportedOperation(
                f"elasticsearch: the words of {self.spec.name!r} are not indexed under {language!r}, or not all of "
                "them: call prepare() of the retriever, or index_words() of the collection, once"
            )

    def _states(self) -> dict[str, str]:
        """Whether all documents are indexed, by analyzer."""
        document = self._client.indices.get_mapping(index=self._name)[self._name]["mappings"]["properties"]["doc"]
        if document["type"] != DOCUMENT["type"]:
            raise UnsupportedOperation(
                f"elasticsearch: {self.spec.name!r} was created by a version of vecbench whose collections cannot be "
                "searched by words; copy it into a new one (vecbench copy)"
            )
        return {name: field.get("meta", {}).get(_STATE, _BEGUN) for name, field in document.get("fields", {}).items()}

    def _put_field(self, language: str, state: str) -> None:
        field = {"type": "text", "analyzer": language, "meta": {_STATE: state}}
        self._client.indices.put_mapping(
            index=self._name, properties={"doc": {**DOCUMENT, "fields": {language: field}}}
        )

    # What the rest of the collection has ------------------------------------------------------------------------------

    @abstractmethod
    def _pages(
        self, query: dict[str, Any], size: int, include: Sequence[Any], *, by_score: bool = False
    ) -> Iterator[list[Any]]:
        """All hits of a query."""

    @abstractmethod
    def _ask(self, searches: list[dict[str, Any]]) -> list[list[Any]]:
        """The hits of each search."""

    @abstractmethod
    def _change(self, lines: list[Any]) -> None:
        """Send operations on records; what was changed since, or is gone, stays as it is."""
