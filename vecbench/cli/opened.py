"""What the verbs of `vecbench rag` work on: a collection opened with all that its options name, closed in the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from vecbench.errors import ConfigError, EmbedderMismatch

if TYPE_CHECKING:
    from vecbench.rag import Rag
    from vecbench.rag.types import Splitter
    from vecbench.store import VectorStore

__all__ = ["Answering", "Language", "Retrieving", "held_rag", "opened_rag"]

# Those of the library, whose modules take longer to import than help may take.
Retrieving: TypeAlias = Literal["hybrid", "vector", "lexical", "native-hybrid", "native-lexical"]
Language: TypeAlias = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Answering:
    """How questions are answered."""

    llm: str | None
    language: Language
    retriever: Retrieving
    words_language: str | None
    reranker: str | None


@contextmanager
def opened_rag(
    store: str,
    path: str | None,
    collection: str,
    embedder: str | None,
    answering: Answering | None = None,
    *,
    splitter: Splitter | None = None,
) -> Iterator[Rag]:
    """The documents of a collection. answering: None makes the collection where it is not there; asking does not."""
    from vecbench.embed import embedder_named
    from vecbench.rag import Rag
    from vecbench.rag.answer import OpenAIChat
    from vecbench.rag.rerank import reranker_named

    chosen: dict[str, Any] = {"splitter": splitter}
    if answering:
        chosen |= {
            "llm": None if answering.llm is None else OpenAIChat(answering.llm),
            "language": answering.language,
            "retriever": answering.retriever,
            "words_language": answering.words_language,
        }
    with ExitStack() as closed_at_end:
        if embedder is not None:
            chosen["embedder"] = embedder_named(embedder)
        if answering and answering.reranker is not None:
            chosen["reranker"] = reranker_named(answering.reranker)
        for part in chosen.values():
            if isinstance(part, AbstractContextManager):
                closed_at_end.enter_context(part)
        opened = closed_at_end.enter_context(_connected(store, path, collection if answering else None))
        try:
            made = Rag(opened, collection=collection, **chosen)
        except EmbedderMismatch as error:
            raise EmbedderMismatch(f"{error}; name the one that made the collection with --embedder") from error
        yield closed_at_end.enter_context(made)


@contextmanager
def held_rag(store: str, path: str | None, collection: str) -> Iterator[Rag]:
    """The documents of a collection, whoever embedded them: no model is loaded to list or to remove."""
    from vecbench.embed.named import unloaded
    from vecbench.rag import Rag

    with _connected(store, path, collection) as opened:
        made_with = opened.get_collection(collection).spec.embedder
        if made_with is None:
            raise ConfigError(f"{collection!r} names no embedder: `vecbench rag add` did not make it")
        with Rag(opened, collection=collection, embedder=unloaded(made_with), retriever="vector") as made:
            yield made


@contextmanager
def _connected(store: str, path: str | None, collection: str | None) -> Iterator[VectorStore]:
    """collection: one that must be there; None where it is to be made, and the store's directory with it."""
    from vecbench.registry import StoreRef

    ref = StoreRef.parse(store)
    if collection and ref.url is None and path is not None and not Path(path).exists():
        raise ConfigError(f"{path}: nothing was added there yet; `vecbench rag add PATH` does")
    options: dict[str, Any] = {} if ref.url is not None else {"path": path}
    with ref.connect(**options) as opened:
        if collection:
            opened.get_collection(collection)
        yield opened
