"""Passages by their words, as the store itself searches them: where it has the words, without an index beside it.

    hybrid = HybridRetriever([VectorRetriever(collection, embedder), NativeLexicalRetriever(collection)])

Each store ranks words in its own way, so what is found differs from store to store; `LexicalRetriever` is the same over
all of them.
"""

from __future__ import annotations

import re
from typing import Any

from vecbench.collection import Collection
from vecbench.errors import ConfigError, UnsupportedOperation
from vecbench.filters import Filter
from vecbench.rag.retrieve.ranked import best_passages, check_k
from vecbench.rag.retrieve.words import tokens
from vecbench.rag.types import Passage

__all__ = ["NativeLexicalRetriever"]

_NAME = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)


class NativeLexicalRetriever:
    """PostgreSQL's full-text search over a pgvector collection; `UnsupportedOperation` for every other store.

    language: one of PostgreSQL's text search configurations, which stems words and leaves out the most common. A
    passage's score is `ts_rank`, which knows nothing of how rare a word is: BM25 orders better, this costs no index
    beside the store. Without `prepare` every search reads every document.
    """

    def __init__(self, collection: Collection, *, language: str = "english") -> None:
        if collection.store.name != "pgvector":
            raise UnsupportedOperation(
                f"{collection.store.name} keeps a document as it is and cannot search it by words; only pgvector can. "
                "Take LexicalRetriever, which works over every store"
            )
        if not _NAME.fullmatch(language):
            raise ConfigError(f"language names a text search configuration of PostgreSQL, got {language!r}")
        self.collection, self.language = collection, language
        self._table = str(collection.describe()["table"])
        if not _NAME.fullmatch(self._table):
            raise UnsupportedOperation(f"pgvector: {self._table!r} is no table of a vecbench collection")
        known = self._run("select count(*) from pg_ts_config where cfgname = %s", (language,))
        if not known[0][0]:
            raise ConfigError(f"PostgreSQL has no text search configuration {language!r}; `\\dF` lists them")

    @property
    def _vector(self) -> str:
        return f"to_tsvector('{self.language}', coalesce(document, ''))"

    def prepare(self) -> None:
        """Have PostgreSQL keep an index of the words; once for a collection and language, it follows every write."""
        name = f"{self._table}_words_{self.language}"
        self._run(f"create index if not exists {name} on {self._table} using gin ({self._vector})")

    def retrieve(self, query: str, k: int = 10, *, where: Filter | None = None) -> list[Passage]:
        """Up to k passages that share a word with the query, best first; `where` applies before."""
        check_k(k)
        words = list(dict.fromkeys(tokens(query)))
        if not words:
            return []
        # Any of the words: PostgreSQL's own way from a text to a query asks for all of them.
        wanted = " || ".join(["plainto_tsquery(%s::regconfig, %s)"] * len(words))
        bound = [part for word in words for part in (self.language, word)]
        statement = (
            f"with q as (select {wanted} as q) select id, ts_rank({self._vector}, q, 1)::float8 as score "  # noqa: S608
            f"from {self._table}, q where {self._vector} @@ q order by score desc, id limit %s"
        )
        return best_passages(self.collection, lambda limit: self._run(statement, (*bound, limit)), k, where)

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a statement of ours; what is not ours in it is bound."""
        try:
            cursor = self.collection.native.execute(statement, values)
            rows: list[tuple[Any, ...]] = cursor.fetchall() if cursor.description else []
        except Exception as error:
            self.collection.store._fail(error, f"searching {self.collection.spec.name!r} by words")
        return rows
