"""Documents into the collection of a `Rag`, each cut where its kind of text has its joints."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Unpack

from vecbench.collection import Collection
from vecbench.embed.minilm import MINILM_SPEC, MiniLM, fixed_model
from vecbench.embed.spec import Embedder, Progress
from vecbench.errors import ConfigError, DocumentError
from vecbench.filters import And, In
from vecbench.rag.answer.prompt import estimate_tokens
from vecbench.rag.index import AddProgress, AddReport, ChunkIndex, SourceState
from vecbench.rag.load.encodings import printable
from vecbench.rag.load.files import Reading, check_path, load
from vecbench.rag.load.reports import Unreadable, UnreadableWarning
from vecbench.rag.records import Context
from vecbench.rag.split.lengths import FindsTokens, TokenLength
from vecbench.rag.split.recursive import RecursiveSplitter
from vecbench.rag.split.sentences import is_chinese
from vecbench.rag.split.separators import language_of, separators
from vecbench.rag.types import Document, Splitter
from vecbench.types import Vectors

__all__ = ["FixedModel", "Intake", "default_splitter", "splitter_language"]

_LOOKED_UP = 100  # of the documents of a new path, whether another origin has them, too
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
        self._collection, self._embedder = collection, embedder
        self._splitters: dict[str, Splitter] = {}
        self._index = ChunkIndex(collection, embedder, splitter or self._splitter_for, context=context)

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed()` called after each change of the collection."""
        self._index.watch(changed)

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
        """See `Rag.add`. One process at a time adds to an origin; the threads of a process take turns."""
        if prune is not None and type(prune) is not bool:
            raise ConfigError(f"prune is True, False or None, got {prune!r}")
        if isinstance(what, str | os.PathLike):
            return self._add_path(what, reading, origin=origin, prune=prune, on_error=on_error, progress=progress)
        if on_error is not None or reading:
            given = sorted(reading) or ["on_error"]
            raise ConfigError(f"{', '.join(given)}: for files only; documents were given, not a path")
        if not isinstance(what, Iterable):
            raise ConfigError(f"add takes one path or a list of documents, got one {type(what).__name__}")
        return self._index.add(
            what, origin="documents" if origin is None else origin, prune=prune is True, progress=progress
        )

    def remove(self, source: str | None = None, *, origin: str | None = None) -> int:
        """Delete documents; the number of their chunks."""
        return self._index.remove(origin=origin, source=source)

    def sources(self, *, origin: str | None = None) -> list[SourceState]:
        """What the collection holds, by origin and source."""
        found = {(s.origin, s.source): s for s in self._index.sources(origin=origin)}
        return [found[key] for key in sorted(found)]

    def _add_path(
        self,
        what: str | os.PathLike[str],
        reading: Reading,
        *,
        origin: str | None,
        prune: bool | None,
        on_error: Callable[[Unreadable], None] | None,
        progress: Callable[[AddProgress], None] | None,
    ) -> AddReport:
        path = _absolute(what)
        left_out, came = _LeftOut(path, on_error), list[str]()
        loaded = load(path, on_error=left_out, **reading)

        def documents() -> Iterator[Document]:
            for document in loaded:
                if len(came) < _LOOKED_UP:
                    came.append(printable(str(document.source)))
                yield document

        def keep(source: str) -> bool:
            if left_out.may_hold(source):
                return True
            if not came and prune is None:
                raise DocumentError(
                    f"{path}: no document is found there (a share that is not mounted, a pattern that fits nothing?), "
                    "the collection holds some, and nothing was removed; prune=True removes it, prune=False keeps it"
                )
            return False

        report = self._index.add(
            documents(),
            origin=path.as_posix() if origin is None else origin,
            prune=prune is not False,
            keep=keep,
            refused=left_out,
            progress=progress,
        )
        left_out.sum_up(path)
        if origin is None and report.added and not report.unchanged and not report.changed:
            self._warn_of_twice(path, came)
        return report

    def _warn_of_twice(self, path: Path, sources: Sequence[str]) -> None:
        """Warn, when a path came for the first time, where another origin has the same documents."""
        mine = path.as_posix()
        names = {name for name in _names(path, sources) if name[0] != mine}
        where = And((In("origin", sorted({n[0] for n in names})), In("source", sorted({n[1] for n in names}))))
        for batch in self._collection.scan(where=where, include=("metadata",)):
            for metadata in batch.metadata or ():
                if (other := metadata.get("origin"), metadata.get("source")) in names:
                    warnings.warn(
                        f"{path}: the collection has documents of it twice now, from {other} too, and a change reaches "
                        "only those that are added again. Add one of the two, and have the other removed, by "
                        f"remove(origin={mine!r}) or remove(origin={other!r})",
                        stacklevel=5,
                    )
                    return

    def _splitter_for(self, document: Document) -> Splitter:
        language = splitter_language(document)
        if language not in self._splitters:
            self._splitters[language] = default_splitter(language, self._embedder)
        return self._splitters[language]


def _absolute(what: str | os.PathLike[str]) -> Path:
    """The path as it is named: a link stays one, so that its name is one origin wherever it leads."""
    check_path(what)
    named, real = os.path.abspath(what), os.path.realpath(what)
    return Path(named if os.path.realpath(named) == real else real)  # after a link `..` is not what it says


def _folder_of(path: Path) -> str:
    """The folder that sources are below, without a slash at its end."""
    return (path.parent if path.is_file() else path).as_posix().rstrip("/")


def _files_of(source: str) -> list[str]:
    """The source, and of a row the whole file: what stands before a `#`, of which names may hold some of their own."""
    return [source, *(source[: mark.start()] for mark in re.finditer("#", source))]


def _names(path: Path, sources: Sequence[str]) -> set[tuple[str, str]]:
    """Every origin and source that documents of a path may have: of a folder around it or inside, or of their file."""
    names: set[tuple[str, str]] = set()
    for place in {path, Path(os.path.realpath(path))}:
        folder = _folder_of(place)
        for document in (f"{folder}/{source}" for source in sources):
            names.update((document[: at.start()] or "/", document[at.end() :]) for at in re.finditer("/", document))
            names.update((file, document[file.rindex("/") + 1 :]) for file in _files_of(document))
    return names


class _LeftOut:
    """What a folder held that could not be read: told at once; files that no loader knows, together at the end."""

    def __init__(self, path: Path, told: Callable[[Unreadable], None] | None) -> None:
        self._folder, self._told = _folder_of(path), told
        self._sources: set[str] = set()
        self._unknown: Counter[str] = Counter()

    def __call__(self, file: Unreadable) -> None:
        self._sources.update(self._meant(file.source))
        if self._told is not None:
            self._told(file)
        elif file.unknown_kind:
            self._unknown[PurePosixPath(file.source).suffix or PurePosixPath(file.source).name] += 1
        else:
            warnings.warn(f"{file.source}: {file.reason}", UnreadableWarning, stacklevel=2)

    def may_hold(self, source: str) -> bool:
        """Whether a document may be of a file that could not be read whole, or of a folder that could not be listed."""
        return not self._sources.isdisjoint((*_files_of(source), *map(str, PurePosixPath(source).parents)))

    def _meant(self, source: str) -> list[str]:
        """A file or a folder itself, of a row its file; where nothing is called so, all that it may be."""
        if os.path.lexists(f"{self._folder}/{source}"):
            return [source]
        return [name for name in _files_of(source) if os.path.isfile(f"{self._folder}/{name}")] or _files_of(source)

    def sum_up(self, path: Path) -> None:
        """Warn of the files that no loader knows."""
        if self._unknown:
            kinds = ", ".join(f"{number} {kind}" for kind, number in self._unknown.most_common(10))
            warnings.warn(
                f"{path}: no loader knows these, which were left out: {kinds}", UnreadableWarning, stacklevel=5
            )
