"""PostgreSQL's own search by words, as statements: what `vecbench.rag`'s native retriever asks of a collection."""

# ruff: noqa: S608  statements are made of constants, a table's number and a checked name; all else is bound

from __future__ import annotations

import re
from collections.abc import Sequence

from vecbench.errors import ConfigError
from vecbench.filters import Filter
from vecbench_pgvector.filters import Condition, condition
from vecbench_pgvector.session import Session

__all__ = ["index_statement", "require_language", "search_statement"]

_NAME = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)


def require_language(s: Session, language: str) -> None:
    """Raise `ConfigError` unless PostgreSQL has a text search configuration of that name."""
    known = False
    if _NAME.fullmatch(language):
        found = s.cursor.execute("select count(*) from pg_ts_config where cfgname = %s", (language,)).fetchone()
        known = bool(found[0])
    if not known:
        raise ConfigError(f"PostgreSQL has no text search configuration {language!r}; `\\dF` lists them")


def index_statement(table: str, language: str) -> str:
    """What makes the index of the words, unless it is there."""
    return f"create index if not exists {table}_words_{language} on {table} using gin ({_words(language)})"


def search_statement(table: str, words: Sequence[str], k: int | None, where: Filter | None, language: str) -> Condition:
    """Rows (id, ts_rank) of records that hold any of the words; equal ranks in the order of ids."""
    # Any of the words: PostgreSQL's own way from a text to a query asks for all of them.
    wanted = " || ".join(["plainto_tsquery(%s::regconfig, %s)"] * len(words))
    passing = condition(where)
    bound = [part for word in words for part in (language, word)]
    return Condition(
        f"with q as (select {wanted} as q) select id, ts_rank({_words(language)}, q, 1)::float8 as score "
        f"from {table}, q where {_words(language)} @@ q and {passing.text} order by score desc, id limit %s",
        (*bound, *passing.values, k),
    )


def _words(language: str) -> str:
    return f"to_tsvector('{language}', coalesce(document, ''))"
