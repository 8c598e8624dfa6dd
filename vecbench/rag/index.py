"""Documents into a collection, again and again: only what changed is embedded, and what is gone is removed.

    collection = open_collection(store, "handbook", embedder)
    report = ChunkIndex(collection, embedder, splitter).add(documents, origin="docs/")

There is no journal beside the store. Each record says of which document, of which content and of how many chunks it is
a part, so what the collection holds tells what is left to do, after a kill at any moment too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vecbench.collection import Collection
from vecbench.embed.spec import Embedder
from vecbench.errors import CollectionMismatch, CollectionNotFound, ConfigError
from vecbench.filters import And, Eq, Filter
from vecbench.index import HNSW, Index
from vecbench.rag.adding import Adding, AddProgress, AddReport, lock_of
from vecbench.rag.load.reports import Unreadable
from vecbench.rag.records import FIELDS, Context, number
from vecbench.rag.types import CountTokens, Document, Splitter
from vecbench.spec import CollectionSpec, FieldType
from vecbench.store import VectorStore
from vecbench.types import Metric

__all__ = ["AddProgress", "AddReport", "ChunkIndex", "SourceState", "open_collection"]


@dataclass(frozen=True, slots=True)
class SourceState:
    """A document of the collection: how many chunks it has, and the hash of its content."""

    origin: str
    source: str
    parts: int
    content_sha256: str


def open_collection(
    store: VectorStore,
    name: str,
    embedder: Embedder,
    *,
    metric: Metric | None = None,
    index: Index | None = None,
    fields: Mapping[str, FieldType] | None = None,
    create: bool = True,
) -> Collection:
    """The collection of that name, made for this embedder's vectors where it does not exist.

    metric, index: cosine and HNSW for a new collection; a metric other than an existing one's is refused with
    `CollectionMismatch`. fields: metadata that filters will test, beside vecbench's own. create: False raises
    `CollectionNotFound` instead. Raises `EmbedderMismatch`, naming both, where another embedder made the vectors.
    """
    try:
        found = store.get_collection(name)
    except CollectionNotFound:
        if not create:
            raise
        spec = embedder.spec
        found = store.create_collection(
            CollectionSpec(name, spec.dim, metric or Metric.COSINE, index or HNSW(), spec, {**(fields or {}), **FIELDS})
        )
    found.check_embedder(embedder.spec)
    if metric is not None and found.spec.metric is not Metric(metric):
        raise CollectionMismatch(
            f"collection {name!r} has metric {found.spec.metric.value!r}, asked for with {Metric(metric).value!r}; "
            "drop it first or choose another name"
        )
    return found


class ChunkIndex:
    """Keeps documents, embedded by one embedder, in a collection.

    collection: made with this embedder, else `EmbedderMismatch`. splitter: one for all documents, or a function that
    gives the one for a document. context: "headings" embeds each chunk below a line
    with the headings that it stands under, which helps a chunk that does not name its subject; what is stored is the
    chunk alone, so a record's vector is then no longer that of its document. count_tokens: for progress and report;
    without it the embedder's own `token_spans`, where it has them.

    One process at a time adds to an origin; the threads of a process take turns at `add` and `remove`, also with
    several indexes of one collection. Searches may go on meanwhile and see, for a moment, a changed document's old
    chunks beside its new ones.
    """

    def __init__(
        self,
        collection: Collection,
        embedder: Embedder,
        splitter: Splitter | Callable[[Document], Splitter],
        *,
        context: Context = "none",
        count_tokens: CountTokens | None = None,
    ) -> None:
        if context not in {"none", "headings"}:
            raise ConfigError(f"context is 'none' or 'headings', got {context!r}")
        collection.check_embedder(embedder.spec)
        self.collection, self.embedder, self.splitter = collection, embedder, splitter
        self.context: Context = context
        self.count_tokens = count_tokens or _token_counter(embedder)
        self._lock = lock_of(collection)
        self._watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed()` called after each change of the collection: `LexicalRetriever.expire`, say."""
        self._watchers.append(changed)

    def add(
        self,
        documents: Iterable[Document],
        *,
        origin: str,
        prune: bool = False,
        keep: Callable[[str], bool] | None = None,
        refused: Callable[[Unreadable], None] | None = None,
        progress: Callable[[AddProgress], None] | None = None,
    ) -> AddReport:
        """Bring the collection to what the documents are now; an add that was stopped goes on where it was.

        origin: names where they come from; origin and source together name a document. prune: remove the documents of
        this origin that were not given, after all were added; of no documents that is all of them. keep: asked for
        each such source before anything of them is removed, True spares it: those that could not be read this time.
        refused: called for each document that no store can keep or whose source came before, and it is left out;
        without it that is an error. progress: called as tokens are embedded.

        A document is neither split nor embedded when content, splitter and context are as they were, and of a changed
        one only the texts that are new. Documents are taken as they come, some in memory at a time. Raises
        DocumentError for a source that comes twice, for metadata under a reserved key, for what no store can keep, and
        ConfigError for what is no document, before anything of it is written; the batches before it are kept. After a
        first add, or a large one, `collection.optimize()` builds the index.
        """
        if not origin:
            raise ConfigError(f"origin names where the documents come from, a non-empty string; got {origin!r}")
        with self._lock:
            self.collection.flush()  # what was written before must be seen
            run = Adding(self, origin, prune=prune, refused=refused, progress=progress)
            try:
                for batch in run.batches(documents):
                    run.batch(batch)
                if prune:
                    run.prune(keep or (lambda _: False))
            except BaseException:
                self._changed()  # nobody knows what went in
                raise
            if run.report.chunks_written or run.report.chunks_deleted:
                self._changed()
        return run.report

    def remove(self, *, origin: str | None = None, source: str | None = None) -> int:
        """Delete the documents of an origin, or those of this source, or the one of both; the number of its chunks."""
        chosen = [Eq(field, value) for field, value in (("origin", origin), ("source", source)) if value is not None]
        if not chosen:
            raise ConfigError("remove takes an origin or a source; drop the collection to delete everything")
        where: Filter = And(tuple(chosen))
        with self._lock:
            self.collection.flush()
            chunks = self.collection.count(where)
            if chunks:
                self.collection.delete(where=where)
                self.collection.flush()
                self._changed()
        return chunks

    def sources(self, *, origin: str | None = None) -> Iterator[SourceState]:
        """The documents that the collection holds, in no order; one that an add was stopped at may come twice."""
        where: Filter = Eq("part", 0)
        if origin is not None:
            where = And((where, Eq("origin", origin)))
        for batch in self.collection.scan(where=where, include=("metadata",)):
            for metadata in batch.metadata or ():
                yield SourceState(
                    str(metadata.get("origin", "")),
                    str(metadata.get("source", "")),
                    number(metadata, "parts"),
                    str(metadata.get("content_sha256", "")),
                )

    def _changed(self) -> None:
        for changed in self._watchers:
            changed()


def _token_counter(embedder: Any) -> CountTokens | None:
    """The embedder's own tokens, also through a cache around it; special tokens that frame a text are not counted."""
    spans = getattr(embedder, "token_spans", None) or getattr(getattr(embedder, "embedder", None), "token_spans", None)
    return None if spans is None else lambda text: len(spans(text))
