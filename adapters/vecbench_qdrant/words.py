"""Documents by their words: what `vecbench.rag`'s native retriever asks of a collection.

A text index over the payload's `doc` that keeps what BM25 needs, for the embedded engine and for servers from 1.20 on.
It is made on demand, over any collection, and changes no record. How many documents hold a word, and how long they are,
is counted over the whole collection, whatever segments it lies in; a filter does not change that.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from vecbench.collection import Collection
from vecbench.errors import ConfigError, UnsupportedOperation
from vecbench.filters import Filter
from vecbench_qdrant.payload import DOC, ID

if TYPE_CHECKING:
    from vecbench_qdrant.server import ClientEngine

__all__ = ["LANGUAGES", "ClientWords", "EdgeWords", "words_of"]


class _Analysis(NamedTuple):
    """How a text becomes words."""

    tokenizer: str = "word"  # runs of letters and digits
    stemmer: str | None = None
    stopwords: str | None = None


_STEMMED = (
    "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "turkish",
)  # fmt: skip
LANGUAGES: Mapping[str, _Analysis] = {
    **{language: _Analysis(stemmer=language, stopwords=language) for language in _STEMMED},
    # A dictionary cuts it. Nothing without a letter is a word then, no number either: so not for the others.
    "chinese": _Analysis(tokenizer="multilingual", stopwords="chinese"),
    "simple": _Analysis(),
}
_SPARE = 100  # hits beside those asked for, since those of equal score are put in order here
_SURELY = 1 - 1e-4  # what is below a score by more is worse, whatever the order of adding up
_SINCE = (1, 20)  # the first server that scores text, and the first client that can ask for it


class _WordCollection(Collection):
    """The part of a collection that searches by words."""

    _words: str | None = None  # the language of the index, once it is known

    def index_words(self, language: str) -> None:
        """Have Qdrant index the documents' words, and those of every later write; once is enough.

        language: one of `LANGUAGES`; a collection has one, `ConfigError` for another. Broken off, call it again.
        """
        with self.store._doing(self, f"indexing the words of {self.spec.name!r}"):
            self._require(language)
            self._require_same(language, self._read_words())
            self._create_words(LANGUAGES[language])
            self._words = language

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
            self._require(language)
            if not words:
                return []
            self._words = self._words or self._read_words()
            if self._words is None:
                self._fail_unindexed()
            self._require_same(language, self._words)
            try:
                # A text there, and no syntax.
                return self._best(" ".join(words), self._filter(where), k)
            except Exception as e:
                if "requires a text index" not in str(e):  # dropped since, or the collection created anew
                    raise
                self._words = None
                self._fail_unindexed(e)

    def _best(self, text: str, condition: Any, k: int | None) -> list[tuple[str, float]]:
        """The first k hits by score and id. Qdrant orders equal scores as it likes: all like the k-th are seen.

        And once it has as many as were asked for, it adds up the parts of a score in another order, so that the last
        bit differs from record to record of the same words: then those found are scored again, among themselves.
        """
        limit = self._count(None) + 1 if k is None else k + _SPARE
        while True:
            hits = self._hits(text, condition, limit)
            if len(hits) < limit:
                break
            if k is not None and hits[-1].score < hits[k - 1].score * _SURELY:
                hits = self._hits(text, self._among(hits), limit + 1)
                break
            limit *= 10
        scored = [(str(p.payload[ID]), float(p.score)) for p in hits]
        return sorted(scored, key=lambda hit: (-hit[1], hit[0]))[:k]

    def _require(self, language: str) -> None:
        if language not in LANGUAGES:
            raise ConfigError(
                f"qdrant: no language {language!r} to index words in; there is {', '.join(sorted(LANGUAGES))}, of "
                "which 'simple' takes words as they are"
            )

    def _require_same(self, language: str, held: str | None) -> None:
        if held not in {None, language}:
            raise ConfigError(
                f"qdrant: the words of {self.spec.name!r} are indexed as {held}, and {language!r} cannot be chosen "
                f"beside it. To change it, delete the payload index over {DOC!r} through `native` first"
            )

    def _fail_unindexed(self, cause: Exception | None = None) -> NoReturn:
        raise UnsupportedOperation(
            f"qdrant: the words of {self.spec.name!r} are not indexed: call prepare() of the retriever, or "
            "index_words() of the collection, once"
        ) from cause

    @abstractmethod
    def _filter(self, where: Filter | None) -> Any:
        """A filter as the client has it."""

    @abstractmethod
    def _read_words(self) -> str | None:
        """The language of the index, as the engine tells it."""

    @abstractmethod
    def _create_words(self, how: _Analysis) -> None:
        """Make the index, or wait for its end if it is being made; nothing where it is there."""

    @abstractmethod
    def _hits(self, text: str, condition: Any, limit: int) -> list[Any]:
        """Points that hold any of the words and match, best first, with their ids in the payload."""

    @abstractmethod
    def _among(self, points: list[Any]) -> Any:
        """The client's filter that selects those points."""


class EdgeWords(_WordCollection):
    """Of the embedded engine."""

    _qe: Any

    def _read_words(self) -> str | None:
        return words_of(self._live().info().payload_schema)

    def _create_words(self, how: _Analysis) -> None:
        qe, shard = self._qe, self._live()
        params = qe.TextIndexParams(
            tokenizer=getattr(qe.TokenizerType, how.tokenizer.title()),
            lowercase=True,
            stopwords=how.stopwords and getattr(qe.Language, how.stopwords.title()),
            stemmer=how.stemmer and qe.SnowballParams(getattr(qe.SnowballLanguage, how.stemmer.title())),
            scoring=True,
            enable_hnsw=False,  # no links in the graph for it
        )
        shard.update(qe.UpdateOperation.create_field_index(DOC, params))
        shard.flush()

    def _hits(self, text: str, condition: Any, limit: int) -> list[Any]:
        query = self._qe.TextQuery(DOC, text)
        request = self._qe.QueryRequest(limit=limit, query=query, filter=condition, with_payload=[ID])
        return list(self._live().query(request))

    def _among(self, points: list[Any]) -> Any:
        return self._qe.Filter(must=[self._qe.HasIdCondition({p.id for p in points})])

    @abstractmethod
    def _live(self) -> Any:
        """The shard; `CollectionNotFound` once it was dropped."""


class ClientWords(_WordCollection):
    """Of a server. Written after the client's interface and never run against one: there was no server to run."""

    _engine: ClientEngine
    _client: Any
    _models: Any
    _name: str

    def _require(self, language: str) -> None:
        if self._engine.local:
            raise UnsupportedOperation(
                "qdrant:memory, the client's imitation, searches no words as Qdrant does; take qdrant (edge) or a "
                "server, or LexicalRetriever, which works over every store"
            )
        if not hasattr(self._models, "TextQuery"):
            raise UnsupportedOperation("qdrant: only qdrant-client from 1.20 on can ask for words; update it")
        version = self._engine.info.engine_version
        if tuple(int(n) for n in version.split(".")[:2]) < _SINCE:
            raise UnsupportedOperation(f"qdrant: only servers from 1.20 on search words, and this one is {version}")
        super()._require(language)

    def _read_words(self) -> str | None:
        return words_of(self._client.get_collection(self._name).payload_schema)

    def _create_words(self, how: _Analysis) -> None:
        m = self._models
        params = m.TextIndexParams(
            type="text",
            tokenizer=how.tokenizer,
            lowercase=True,
            stopwords=how.stopwords,
            stemmer=how.stemmer and m.SnowballParams(type="snowball", language=how.stemmer),
            scoring=True,
            enable_hnsw=False,
        )
        self._client.create_payload_index(self._name, DOC, field_schema=params, wait=True)

    def _hits(self, text: str, condition: Any, limit: int) -> list[Any]:
        query = self._models.TextQuery(text=text)
        found = self._client.query_points(
            self._name, query, using=DOC, query_filter=condition, limit=limit, with_payload=[ID]
        )
        return list(found.points)

    def _among(self, points: list[Any]) -> Any:
        return self._models.Filter(must=[self._models.HasIdCondition(has_id=[p.id for p in points])])


def words_of(schema: Mapping[str, Any]) -> str | None:
    """The language of the index of words, told from the payload indexes of either client; None without one."""
    params: Any = getattr(schema.get(DOC), "params", None)
    if not getattr(params, "scoring", None):
        return None
    if _bare(params.tokenizer) == "multilingual":
        return "chinese"
    stemmer = getattr(params.stemmer, "language", None)
    return "simple" if stemmer is None else _bare(stemmer)


def _bare(member: Any) -> str:
    """The name of an enum's member: the engine's have none, and as text they are "Class.Name"."""
    return str(member).rpartition(".")[2].lower()
