"""A collection made with one embedder and asked through another: refused by every store that runs in this process.

Stores with a server are held to the same by `test_another_embedder_is_refused` of the conformance suite.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from vecbench import EmbedderSpec, VectorStore, connect
from vecbench.embed.spec import Progress
from vecbench.errors import EmbedderMismatch
from vecbench.rag.index import ChunkIndex, open_collection
from vecbench.rag.retrieve import HybridRetriever, LexicalRetriever, VectorRetriever
from vecbench.rag.types import Chunk, Document
from vecbench.types import Vectors


class Embedder:
    """As many dimensions as the other: nothing but the name tells them apart."""

    def __init__(self, name: str) -> None:
        self.spec = EmbedderSpec(name, 4)

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        return np.array([[len(text), 1, 1, 1] for text in texts], np.float32)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)


class Whole:
    """A document is one chunk."""

    fingerprint = "whole"

    def split(self, text: str) -> list[Chunk]:
        return [Chunk(text, 0, len(text))]


def opened(store: str, path: Path) -> VectorStore:
    return connect(store) if store in {"memory", "qdrant:memory"} else connect(store, path=path)


@pytest.mark.parametrize("store", ["memory", "faiss", "qdrant", "qdrant:memory", "chroma", "milvus-lite"])
def test_another_embedder_is_refused(store: str, tmp_path: Path) -> None:
    mine, other = Embedder("mine"), Embedder("other")
    named = rf"mine \(4 dimensions, {mine.spec.fingerprint}\).*other \(4 dimensions, {other.spec.fingerprint}\)"
    connection = opened(store, tmp_path)
    collection = open_collection(connection, "c", mine)
    ChunkIndex(collection, mine, Whole()).add([Document("some text", "s")], origin="o")
    if connection.capabilities.persistent:  # what is in the store decides, not what this process remembers
        connection.close()
        connection = opened(store, tmp_path)
    with connection:
        collection = open_collection(connection, "c", Embedder("mine"), create=False)
        with pytest.raises(EmbedderMismatch, match=named):
            open_collection(connection, "c", other)
        with pytest.raises(EmbedderMismatch, match=named):
            ChunkIndex(collection, other, Whole())
        with pytest.raises(EmbedderMismatch, match=named):
            VectorRetriever(collection, other)
        # Swapped behind our back: noticed with the first vector that it makes.
        index, retriever = ChunkIndex(collection, mine, Whole()), VectorRetriever(collection, mine)
        index.embedder = retriever.embedder = other
        with LexicalRetriever(collection) as words:
            for ask in (retriever, HybridRetriever([words, retriever])):
                with pytest.raises(EmbedderMismatch, match=named):
                    ask.retrieve("some text")
        with pytest.raises(EmbedderMismatch, match=f"mine.*{other.spec.fingerprint}"):
            index.add([Document("more text", "t")], origin="o")
        assert collection.count() == 1
        (found,) = VectorRetriever(collection, mine).retrieve("some text")
        assert (found.text, found.source) == ("some text", "s")
