"""One call of `ChunkIndex.add`: batch after batch looked up, written, made durable, and cleared of what is gone."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

import numpy as np

from vecbench.collection import Collection
from vecbench.embed.texts import checked_vectors
from vecbench.errors import ConfigError, DocumentError
from vecbench.filters import And, Eq, Filter, In
from vecbench.rag.load.encodings import printable
from vecbench.rag.load.reports import Unreadable
from vecbench.rag.records import Row, content_sha256, number, rows_of, splitter_sha256
from vecbench.rag.types import Document, Splitter
from vecbench.types import Records

if TYPE_CHECKING:
    from vecbench.rag.index import ChunkIndex

__all__ = ["AddProgress", "AddReport", "Adding", "lock_of"]

_SOURCES = 64  # documents that are looked up at once
_LOOKUPS = 8  # then all that is held of the origin is looked up
_CHARACTERS = 4_000_000  # of documents in memory at once, unless one is longer
_CHUNKS = 256  # embedded, written and flushed at once: so much work is lost at most when the process is killed

_Batch: TypeAlias = list[tuple[Document, str]]  # with the hashes of their contents

_locks: WeakValueDictionary[tuple[str, str], threading.RLock] = WeakValueDictionary()
_locks_lock = threading.Lock()


def lock_of(collection: Collection) -> threading.RLock:
    """What those hold who change the documents of a collection, one for all of this process that may mean the same.

    Nobody can tell whether two connections lead to one server: collections of one name in stores of one kind share it.
    """
    with _locks_lock:
        return _locks.setdefault((collection.store.name, collection.spec.name), threading.RLock())


@dataclass(slots=True)
class AddReport:
    """What `ChunkIndex.add` did.

    documents: all that were given, but refused ones. added: new ones; changed: held with another content, splitter or
    context; unchanged; empty: without a chunk, so that nothing of them is kept; each document is one of these. removed:
    documents of the origin that were not given any more and whose chunks were deleted; spared: those that `keep` held
    back.
    chunks_written: records written, `chunks_embedded` of them with a new vector. chunks_kept: left as they were.
    chunks_deleted: records deleted. tokens: embedded, None where nobody can count them.
    """

    documents: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    empty: int = 0
    removed: int = 0
    spared: int = 0
    chunks_written: int = 0
    chunks_embedded: int = 0
    chunks_kept: int = 0
    chunks_deleted: int = 0
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class AddProgress:
    """How far an add is: documents done, chunks written and tokens embedded so far, the document being worked on.

    tokens: None where nobody can count them. There is no total: documents are taken one after the other.
    """

    documents: int
    chunks: int
    tokens: int | None
    source: str


class _Held:
    """What the collection holds of one document: ids, and what its records say of themselves if they agree."""

    __slots__ = ("agreed", "ids", "numbers")

    def __init__(self, kind: tuple[object, ...]) -> None:
        self.ids: list[str] = []
        self.agreed: tuple[object, ...] | None = kind  # content, splitter, number of chunks; None where they differ
        self.numbers = 0  # of the chunks, summed up

    def is_of(self, content: str, splitter: str) -> bool:
        """Whether all of it is of this content, cut like this."""
        return self.agreed is not None and self.agreed[:2] == (content, splitter)

    def is_whole(self, content: str, splitter: str) -> bool:
        """Whether it is every chunk of this content, each once, and nothing else."""
        n = len(self.ids)
        return self.agreed == (content, splitter, n) and self.numbers == n * (n - 1) // 2


class Adding:
    """One call of `ChunkIndex.add`.

    What is held is looked up by sources, a batch at a time: reading an origin of a million chunks would be dear for the
    sake of one document. To prune, and after some lookups, the whole origin is read after all: some stores compare
    every record for each lookup.
    """

    def __init__(
        self,
        index: ChunkIndex,
        origin: str,
        *,
        prune: bool,
        refused: Callable[[Unreadable], None] | None,
        progress: Callable[[AddProgress], None] | None,
    ) -> None:
        self.index, self.origin, self.refused, self.progress = index, origin, refused, progress
        self.collection = index.collection
        self._last: tuple[Splitter, str] | None = None
        self.report = AddReport(tokens=None if index.count_tokens is None else 0)
        self.seen: set[str] = set()
        self.lookups = 0
        self.known = self._look_up(Eq("origin", origin)) if prune else None

    def batches(self, documents: Iterable[Document]) -> Iterator[_Batch]:
        """As many documents as are looked up, and held in memory, at once; what cannot be kept is refused here."""
        batch: _Batch = []
        characters = 0
        for document in documents:
            try:
                batch.append((document, self._content(document)))
            except DocumentError as error:
                if self.refused is None:
                    raise
                source = printable(str(document.source))
                self.refused(Unreadable(source, str(error).removeprefix(f"{source}: ")))
                continue
            characters += len(document.text)
            if len(batch) == _SOURCES or characters >= _CHARACTERS:
                yield batch
                batch, characters = [], 0
        if batch:
            yield batch

    def batch(self, documents: _Batch) -> None:
        """Write what is new, make it durable, then delete what it replaces: a kill between leaves too much."""
        held = self._held([document.source for document, _ in documents])
        pending: list[tuple[Row, bool]] = []
        gone: list[str] = []
        for document, content in documents:
            before = held.get(document.source)
            splitter, name = self._splitter(document)
            if before is not None and before.is_whole(content, name):
                self.report.unchanged += 1
                self.report.chunks_kept += len(before.ids)
            else:
                there = set() if before is None else set(before.ids)
                rows = self._cut(document, content, splitter, name, before)
                gone += there - {row.id for row in rows}
                for row in rows:
                    pending.append((row, row.id in there))
                    if len(pending) == _CHUNKS:
                        self._write(pending)
                        pending = []
            self.report.documents += 1
        self._write(pending)
        self._delete(gone)
        self._show(self.report.tokens, documents[-1][0].source)

    def prune(self, keep: Callable[[str], bool]) -> None:
        """Delete the documents of the origin that did not come."""
        gone: list[str] = []
        for source in (self.known or {}).keys() - self.seen:
            if keep(source):
                self.report.spared += 1
            else:
                self.report.removed += 1
                gone += self.known[source].ids if self.known else ()
        self._delete(gone)

    def _content(self, document: Document) -> str:
        """The hash of its content. DocumentError for what cannot be kept, and for a source that came before."""
        if not isinstance(document, Document):
            raise ConfigError(
                f"{type(document).__name__} {document!r:.80} is no Document; add takes documents, or one path: call it "
                "once for each path"
            )
        content = content_sha256(document)
        if document.source in self.seen:
            raise DocumentError(f"{document.source}: comes twice from {self.origin!r}; sources name documents")
        self.seen.add(document.source)
        return content

    def _splitter(self, document: Document) -> tuple[Splitter, str]:
        """What cuts a document, and the hash that its records carry of it."""
        chosen = self.index.splitter
        splitter = chosen if isinstance(chosen, Splitter) else chosen(document)
        if self._last is None or self._last[0] is not splitter:
            self._last = splitter, splitter_sha256(splitter.fingerprint, self.index.context)
        return self._last

    def _held(self, sources: list[str]) -> Mapping[str, _Held]:
        """What is held of these documents, and perhaps of others."""
        if self.known is None and self.lookups == _LOOKUPS:
            self.known = self._look_up(Eq("origin", self.origin))
        if self.known is not None:
            return self.known
        self.lookups += 1
        return self._look_up(And((Eq("origin", self.origin), In("source", sources))))

    def _look_up(self, where: Filter) -> dict[str, _Held]:
        found: dict[str, _Held] = {}
        for batch in self.collection.scan(where=where, include=("metadata",)):
            for id_, metadata in zip(batch.ids, batch.metadata or (), strict=True):
                kind = (metadata.get("content_sha256"), metadata.get("splitter"), metadata.get("parts"))
                source = str(metadata.get("source"))
                if (held := found.get(source)) is None:
                    held = found[source] = _Held(kind)
                held.ids.append(id_)
                held.numbers += number(metadata, "part")
                if held.agreed != kind:
                    held.agreed = None
        return found

    def _cut(self, document: Document, content: str, splitter: Splitter, name: str, before: _Held | None) -> list[Row]:
        """The rows that the collection should hold of a document. name: the hash of the splitter."""
        rows = rows_of(
            document,
            splitter.split(document.text),
            origin=self.origin,
            content=content,
            splitter=name,
            context=self.index.context,
        )
        if not rows:
            self.report.empty += 1
        elif before is None or before.is_of(content, name):
            self.report.added += 1  # nothing is held of it, or a part from an add that was stopped
        else:
            self.report.changed += 1
        return rows

    def _write(self, pending: Sequence[tuple[Row, bool]]) -> None:
        """Embed and write these rows; vectors that are held already are kept, rows that are so as they are."""
        there = [row.id for row, is_held in pending if is_held]
        held = self.collection.get(there, include=("metadata", "vectors")) if there else Records([])
        metadata = dict(zip(held.ids, held.metadata or (), strict=True))
        rows = [row for row, _ in pending if metadata.get(row.id) != row.metadata]
        self.report.chunks_kept += len(pending) - len(rows)
        if not rows:
            return
        vectors = dict(zip(held.ids, () if held.vectors is None else held.vectors, strict=True))
        texts = list(dict.fromkeys(row.embedded for row in rows if row.id not in vectors))
        computed = dict(zip(texts, self._embed(texts, rows[-1]), strict=True))
        self.collection.upsert(
            Records(
                [row.id for row in rows],
                np.stack([vectors[row.id] if row.id in vectors else computed[row.embedded] for row in rows]),
                [row.metadata for row in rows],
                [row.text for row in rows],
                self.index.embedder.spec.fingerprint,
            )
        )
        self.collection.flush()
        self.report.chunks_written += len(rows)
        self.report.chunks_embedded += sum(1 for row in rows if row.id not in vectors)

    def _embed(self, texts: list[str], last: Row) -> Any:
        """Vectors of the texts. The embedder's progress, in whatever unit it counts, is told on in tokens."""
        if not texts:
            return ()
        embedder, count, source = self.index.embedder, self.index.count_tokens, str(last.metadata["source"])
        before = self.report.tokens or 0
        most = embedder.spec.max_tokens or math.inf
        tokens = 0 if count is None else int(sum(min(count(text), most) for text in texts))

        def show(done: int, total: int) -> None:
            self._show(None if count is None else before + tokens * done // max(total, 1), source)

        vectors = checked_vectors(embedder.embed_documents(texts, progress=show), embedder.spec, len(texts))
        if count is not None:
            self.report.tokens = before + tokens
        return vectors

    def _delete(self, ids: list[str]) -> None:
        if not ids:
            return
        self.collection.delete(ids=ids)
        self.collection.flush()
        self.report.chunks_deleted += len(ids)

    def _show(self, tokens: int | None, source: str) -> None:
        if self.progress is not None:
            self.progress(AddProgress(self.report.documents, self.report.chunks_written, tokens, source))
