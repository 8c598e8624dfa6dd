"""Passages by their words: BM25 over any store, in an index of SQLite's FTS5 beside it.

Some stores have no search by words, and each of the others has its own. This one is the same over all of them. It holds
ids and words only: what a passage says, and whether it passes a filter, always comes from the collection.
"""

from __future__ import annotations

import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from vecbench.collection import Collection
from vecbench.errors import RagError
from vecbench.filters import Filter
from vecbench.rag.retrieve.ranked import best_passages, check_k
from vecbench.rag.retrieve.words import tokens
from vecbench.rag.types import Passage
from vecbench.store import hold_directory

__all__ = ["LexicalIndex", "LexicalIndexDamagedWarning", "LexicalRetriever"]

_T = TypeVar("_T")
_VERSION = 1  # of the tables and of `words.tokens`: another one's file is made again
_BATCH = 500  # records that are read and written at once
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class LexicalIndexDamagedWarning(UserWarning):
    """The file of a lexical index was damaged; it is made again from the collection."""


class LexicalIndex:
    """Words by id, ranked by BM25 as FTS5 has it: k1 1.2, b 0.75; a word that half of the texts hold counts as nothing.

    path: a directory, held against other processes until `close`; without one the index is in memory. stem: English
    words are reduced to their stems (Porter, 1980), so that "connected" finds "connection". Threads may share it.
    """

    def __init__(self, path: str | Path | None = None, *, stem: bool = True) -> None:
        self._lock = threading.RLock()
        self._stem = stem
        self._hold = None if path is None else hold_directory(Path(path), store="lexical")
        self._file = None if path is None else Path(path) / "words.sqlite"
        self._db = sqlite3.connect(":memory:")  # until the file is open
        try:
            self._open()
        except sqlite3.Error as error:
            try:
                self.reset(error)
            except BaseException:
                self.close()
                raise

    def _open(self) -> None:
        """Connect, and make the tables where there are none, or those of another version or kind."""
        self._db.close()
        self._db = sqlite3.connect(self._file or ":memory:", isolation_level=None, check_same_thread=False)
        run, kind = self._db.execute, 2 * _VERSION + self._stem
        run("pragma journal_mode = wal")
        run("pragma synchronous = normal")
        run("create temp table present (number integer primary key)")
        if run("pragma user_version").fetchone()[0] == kind:
            return
        stemming = "porter " if self._stem else ""
        with self._db:
            run("begin")
            run("drop table if exists words")
            run("drop table if exists chunks")
            run("create table chunks (number integer primary key, id text not null unique)")
            # The words are ours, in ASCII: the tokenizer has nothing to decide but where the spaces are.
            run(f"create virtual table words using fts5(body, tokenize = \"{stemming}ascii tokenchars '_'\")")
            run(f"pragma user_version = {kind}")

    def reset(self, error: sqlite3.Error) -> None:
        """Begin anew after an error that says that the file is damaged, with a warning; `RagError` for any other."""
        with self._lock:
            if self._file is None or getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise RagError(f"the lexical index {self._file or 'in memory'} cannot be used: {error}") from error
            warnings.warn(
                f"{self._file} is damaged ({error}); it is made again", LexicalIndexDamagedWarning, stacklevel=2
            )
            self._db.close()
            for end in ("", "-wal", "-shm"):  # the log beside it, too
                self._file.with_name(self._file.name + end).unlink(missing_ok=True)
            self._open()

    def begin(self) -> None:
        """Start to compare with a collection: see `unknown` and `forget_others`."""
        with self._lock:
            self._db.execute("delete from present")

    def unknown(self, ids: Sequence[str]) -> list[str]:
        """Which of these ids, all of them present in the collection, are not in the index."""
        with self._lock:
            known = {}
            for id_ in ids:
                if (row := self._db.execute("select number from chunks where id = ?", (id_,)).fetchone()) is not None:
                    known[id_] = row
            self._db.executemany("insert or ignore into present values (?)", known.values())
        return [id_ for id_ in ids if id_ not in known]

    def lacks(self, ids: Iterable[str]) -> bool:
        """Whether one of these ids is not in the index."""
        with self._lock:
            return any(self._db.execute("select 1 from chunks where id = ?", (id_,)).fetchone() is None for id_ in ids)

    def add(self, ids: Sequence[str], texts: Sequence[str | None]) -> None:
        """Add texts under ids that are not in the index; they count as present."""
        bodies = [" ".join(map(_ascii, tokens(text or ""))) for text in texts]
        with self._lock, self._db:
            self._db.execute("begin")
            for id_, body in zip(ids, bodies, strict=True):
                number = self._db.execute("insert into chunks (id) values (?)", (id_,)).lastrowid
                self._db.execute("insert into words (rowid, body) values (?, ?)", (number, body))
                self._db.execute("insert or ignore into present values (?)", (number,))

    def forget_others(self) -> int:
        """Remove what was neither known nor added since `begin`; the number of texts that are left."""
        with self._lock, self._db:
            self._db.execute("begin")
            self._db.execute(
                "delete from words where rowid in (select number from chunks except select * from present)"
            )
            self._db.execute("delete from chunks where number not in (select number from present)")
            found: int = self._db.execute("select count(*) from chunks").fetchone()[0]
        return found

    def search(self, query: str, limit: int | None) -> list[tuple[str, float]]:
        """Ids of texts that hold a word of the query, with their scores, best first; equal ones by their ids."""
        words = dict.fromkeys(map(_ascii, tokens(query)))
        if not words:
            return []
        wanted = " OR ".join(f'"{word}"' for word in words)  # of letters, digits and underscores, and quoted: no syntax
        with self._lock:
            return self._db.execute(
                "select id, -bm25(words) as score from words join chunks on number = words.rowid "
                "where words match ? order by score desc, id limit ?",
                (wanted, -1 if limit is None else limit),
            ).fetchall()

    def close(self) -> None:
        """Let go of the file; closing twice is fine."""
        with self._lock:
            self._db.close()
        if self._hold is not None:
            self._hold.release()


class LexicalRetriever:
    """The k best records of a collection by BM25, from a `LexicalIndex` that follows the collection.

    path, stem: see `LexicalIndex`. The index is filled when it is first needed, and brought up to date, by ids, when
    the collection's count differs from what was seen last, when a search finds what is gone from the collection, after
    `expire` (`ChunkIndex.watch` calls it), and by `refresh`. What another process changes without changing the count
    may stay unseen until then. A record that is written anew under its id must keep its text, as ids of `ChunkIndex`
    do. follow: False leaves out the count before each search, where that is dear.
    """

    def __init__(
        self, collection: Collection, path: str | Path | None = None, *, stem: bool = True, follow: bool = True
    ) -> None:
        self.collection = collection
        self._index = LexicalIndex(path, stem=stem)
        self._follow, self._seen, self._expired = follow, 0, True
        self._refreshing = threading.RLock()

    def expire(self) -> None:
        """Have the index brought up to date before the next search."""
        self._expired = True

    def refresh(self) -> None:
        """Bring the index up to date: what is gone is forgotten, and only new texts are read."""
        self._safely(self._compare)

    def _compare(self) -> None:
        with self._refreshing:
            self._expired = False  # from here on a change is one to look at again
            try:
                self.collection.flush()  # what was written before must be seen
                self._index.begin()
                for batch in self.collection.scan(include=(), batch_size=_BATCH):
                    new = self._index.unknown(batch.ids)
                    if new:
                        found = self.collection.get(new, include=("documents",))
                        self._index.add(found.ids, found.documents or [])
                self._seen = self._index.forget_others()
            except BaseException:
                self._expired = True
                raise

    def _safely(self, action: Callable[[], _T]) -> _T:
        """What `action` returns; where the index is found to be damaged, after it was made again."""
        try:
            return action()
        except sqlite3.Error as error:
            self._index.reset(error)
            self._compare()
            return action()

    def retrieve(self, query: str, k: int = 10, *, where: Filter | None = None) -> list[Passage]:
        """Up to k passages that share a word with the query, best first, `score` their BM25; `where` applies before."""
        check_k(k)
        if self._expired or (self._follow and self.collection.count() != self._seen):
            self.refresh()
        gone: list[str] = []

        def best() -> list[Passage]:
            return best_passages(
                self.collection, lambda limit: self._safely(lambda: self._index.search(query, limit)), k, where, gone
            )

        found = best()
        if not gone:
            return found
        self.refresh()  # what is gone may have been replaced
        return best()

    def lacks(self, ids: Iterable[str]) -> bool:
        """Whether the index has yet to hear of one of these records of the collection."""
        return self._safely(lambda: self._index.lacks(ids))

    def close(self) -> None:
        """Close the index; it stays on disk where it has a path."""
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _ascii(word: str) -> str:
    """A word in letters and digits, or in hexadecimal between underscores, which no stemming touches."""
    return word if word.isascii() else f"_{word.encode().hex()}_"
