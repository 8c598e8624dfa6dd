"""Documents into the collection of a `Rag`, each cut where its kind of text has its joints."""

from __future__ import annotations

import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Unpack

from vecbench.collection import Collection
from vecbench.embed.minilm import MINILM_SPEC, MiniLM, fixed_model
from vecbench.embed.spec import Embedder, Progress
from vecbench.errors import ConfigError, DocumentError
from vecbench.rag.answer.prompt import estimate_tokens
from vecbench.rag.index import AddProgress, AddReport, ChunkIndex, SourceState
from vecbench.rag.load.files import Reading, load
from vecbench.rag.load.reports import Unreadable, UnreadableWarning
from vecbench.rag.records import Context
from vecbench.rag.split.lengths import FindsTokens, TokenLength
from vecbench.rag.split.recursive import RecursiveSplitter
from vecbench.rag.split.sentences import is_chinese
from vecbench.rag.split.separators import language_of, separators
from vecbench.rag.types import Document, Splitter
from vecbench.types import Vectors

__all__ = ["FixedModel", "Intake", "default_splitter", "splitter_language"]

_BATCH = 64  # documents grouped by their kind at once
_MOST_TOKENS = 256  # of a chunk with its headings; longer ones say too much to be found by one vector


class FixedModel:
    """The fixed embedding model, loaded when the first text is embedded: opening a collection must not wait for it."""

    spec = MINILM_SPEC

    def __init__(self) -> None:
        self._model: MiniLM | None = None
        self._lock = threading.Lock()

    def _loaded(self) -> MiniLM:
        with self._lock:
            if self._model is None:
                self._model = fixed_model()
            return self._model

    def embed_documents(self, texts: Any, *, progress: Progress | None = None) -> Vectors:
        """As `MiniLM` does."""
        return self._loaded().embed_documents(texts, progress=progress)

    def embed_queries(self, texts: Any) -> Vectors:
        """As `MiniLM` does."""
        return self._loaded().embed_queries(texts)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """As `MiniLM` does."""
        return self._loaded().token_spans(text)


def splitter_language(document: Document) -> str:
    """The separators that fit a document: of its kind of file, of Chinese, or of any text."""
    language = language_of(document.source)
    if language in {"html", "text"}:  # of a page only its text is left
        return "chinese" if is_chinese(document.text[:10_000]) else "text"
    return language


def default_splitter(language: str, embedder: Embedder) -> RecursiveSplitter:
    """Recursive, in chunks of up to 256 tokens that leave an eighth for headings and share an eighth with the next.

    Tokens are the embedder's where it shows them, else estimated, rather too many than too few.
    """
    inner = getattr(embedder, "embedder", None)  # under a cache
    source = next((e for e in (embedder, inner) if isinstance(e, FindsTokens)), estimate_tokens)
    most = min(_MOST_TOKENS, embedder.spec.max_tokens or _MOST_TOKENS) - 2  # two frame the text
    size = max(1, most - most // 8)
    return RecursiveSplitter.by_tokens(
        TokenLength(source),
        size,
        size // 8,
        separators=separators(language),
        is_separator_regex=True,
        keep_separator="end" if language == "chinese" else True,
    )


class Intake:
    """Keeps a collection in step with folders and documents: `ChunkIndex`, with a splitter for each kind of text."""

    def __init__(
        self, collection: Collection, embedder: Embedder, *, splitter: Splitter | None, context: Context
    ) -> None:
        self._collection, self._embedder, self._splitter = collection, embedder, splitter
        self._context: Context = context
        self._indexes: dict[str, ChunkIndex] = {}
        self._watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed()` called after each change of the collection."""
        self._watchers.append(changed)

    def add(
        self,
        what: str | os.PathLike[str] | Iterable[Document],
        *,
        origin: str | None = None,
        prune: bool | None = None,
        on_error: Callable[[Unreadable], None] | None = None,
        progress: Callable[[AddProgress], None] | None = None,
        **reading: Unpack[Reading],
    ) -> AddReport:
        """See `Rag.add`."""
        if isinstance(what, str | os.PathLike):
            path = Path(what).resolve()
            left_out = _LeftOut(on_error)
            report = self._add(
                load(path, on_error=left_out, **reading),
                path.as_posix() if origin is None else origin,
                prune=prune is not False,
                spared=left_out.may_hold,
                progress=progress,
            )
            left_out.sum_up(path)
            return report
        if on_error is not None or reading:
            given = sorted(reading) or ["on_error"]
            raise ConfigError(f"{', '.join(given)}: for files only; documents were given, not a path")
        return self._add(
            iter(what),
            "documents" if origin is None else origin,
            prune=prune is True,
            spared=lambda _: False,
            progress=progress,
        )

    def remove(self, source: str | None = None, *, origin: str | None = None) -> int:
        """Delete documents; the number of their chunks."""
        return self._index("text").remove(origin=origin, source=source)

    def sources(self, *, origin: str | None = None) -> list[SourceState]:
        """What the collection holds, by origin and source."""
        found = {(s.origin, s.source): s for s in self._index("text").sources(origin=origin)}
        return [found[key] for key in sorted(found)]

    def _add(
        self,
        documents: Iterator[Document],
        origin: str,
        *,
        prune: bool,
        spared: Callable[[str], bool],
        progress: Callable[[AddProgress], None] | None,
    ) -> AddReport:
        total = AddReport()
        seen: set[str] = set()

        def show(now: AddProgress) -> None:
            if progress is not None:
                tokens = None if now.tokens is None else now.tokens + (total.tokens or 0)
                progress(
                    AddProgress(total.documents + now.documents, total.chunks_written + now.chunks, tokens, now.source)
                )

        while batch := list(islice(documents, _BATCH)):
            kinds: dict[str, list[Document]] = {}
            for document in batch:
                if document.source in seen:
                    raise DocumentError(f"{document.source}: comes twice from {origin!r}; sources name documents")
                seen.add(document.source)
                kind = "" if self._splitter is not None else splitter_language(document)
                kinds.setdefault(kind, []).append(document)
            for kind, alike in kinds.items():
                _sum(total, self._index(kind).add(alike, origin=origin, progress=show))
        if prune:
            cleared = self._index("text").add(
                (), origin=origin, prune=True, keep=lambda source: source in seen or spared(source)
            )
            cleared.spared -= len(seen)
            _sum(total, cleared)
        return total

    def _index(self, language: str) -> ChunkIndex:
        if self._splitter is not None:
            language = ""
        if language not in self._indexes:
            splitter = self._splitter or default_splitter(language, self._embedder)
            index = ChunkIndex(self._collection, self._embedder, splitter, context=self._context)
            index.watch(self._changed)
            self._indexes[language] = index
        return self._indexes[language]

    def _changed(self) -> None:
        for changed in self._watchers:
            changed()


class _LeftOut:
    """What a folder held that could not be read: told at once; files that no loader knows, together at the end."""

    def __init__(self, told: Callable[[Unreadable], None] | None) -> None:
        self._told = told
        self._sources: set[str] = set()
        self._unknown: Counter[str] = Counter()

    def __call__(self, file: Unreadable) -> None:
        self._sources.update((file.source, file.source.rpartition("#")[0] or file.source))  # of a row, the whole file
        if self._told is not None:
            self._told(file)
        elif file.unknown_kind:
            self._unknown[PurePosixPath(file.source).suffix or PurePosixPath(file.source).name] += 1
        else:
            warnings.warn(f"{file.source}: {file.reason}", UnreadableWarning, stacklevel=2)

    def may_hold(self, source: str) -> bool:
        """Whether a document may be of a file that could not be read whole, or of a folder that could not be listed."""
        file = PurePosixPath(source.partition("#")[0])
        return source in self._sources or not self._sources.isdisjoint(map(str, (file, *file.parents)))

    def sum_up(self, path: Path) -> None:
        """Warn of the files that no loader knows."""
        if self._unknown:
            kinds = ", ".join(f"{number} {kind}" for kind, number in self._unknown.most_common(10))
            warnings.warn(
                f"{path}: no loader knows these, which were left out: {kinds}", UnreadableWarning, stacklevel=4
            )


def _sum(total: AddReport, part: AddReport) -> None:
    for field in fields(AddReport):
        mine, more = getattr(total, field.name), getattr(part, field.name)
        if more is not None:
            setattr(total, field.name, more if mine is None else mine + more)
