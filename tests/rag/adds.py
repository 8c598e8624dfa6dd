"""What the tests of indexing and retrieval add: an embedder and a splitter that anyone can check."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vecbench import EmbedderSpec
from vecbench.collection import Collection
from vecbench.embed.spec import Progress
from vecbench.memory import MemoryStore
from vecbench.rag.index import ChunkIndex, open_collection
from vecbench.rag.types import Chunk, Document
from vecbench.types import Vectors

DIM = 16


class Digests:
    """The vector of a text is its digest; keeps what it was asked to embed."""

    spec = EmbedderSpec("digests", DIM)

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        self.asked += texts
        if progress:
            progress(1, 2)
            progress(2, 2)
        return np.stack([digest(text) for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return np.stack([digest(text) for text in texts])


def digest(text: str) -> Vectors:
    raw = np.frombuffer(hashlib.shake_128(text.encode()).digest(DIM), np.int8).astype(np.float32)
    return raw / np.linalg.norm(raw)  # of unit length: every store keeps it


class Lines:
    """Each line that is not empty is a chunk."""

    def __init__(self, name: str = "lines") -> None:
        self.fingerprint = name
        self.cut: list[str] = []

    def split(self, text: str) -> list[Chunk]:
        self.cut.append(text)
        out, start = [], 0
        for line in text.split("\n"):
            if line.strip():
                out.append(Chunk(line, start, start + len(line)))
            start += len(line) + 1
        return out


def documents(texts: Mapping[str, str]) -> list[Document]:
    return [Document(text, source) for source, text in texts.items()]


def kept(collection: Collection) -> dict[str, tuple[str | None, dict[str, Any]]]:
    """All records by id; their vectors are those of their texts."""
    found: dict[str, tuple[str | None, dict[str, Any]]] = {}
    for batch in collection.scan():
        assert batch.vectors is not None
        for id_, vector, text, metadata in zip(
            batch.ids, batch.vectors, batch.documents or (), batch.metadata or (), strict=True
        ):
            assert text is not None
            np.testing.assert_allclose(vector, digest(text), atol=1e-6)
            found[id_] = (text, dict(metadata))
    return found


def texts_of(collection: Collection, source: str) -> list[str]:
    rows = sorted(
        ((m["part"], text) for text, m in kept(collection).values() if m["source"] == source), key=lambda row: row[0]
    )
    return [str(text) for _, text in rows]


def new_index() -> ChunkIndex:
    """Over an empty collection in memory."""
    embedder = Digests()
    return ChunkIndex(open_collection(MemoryStore(), "c", embedder), embedder, Lines())


def asked(index: ChunkIndex) -> list[str]:
    """What was embedded since the last call."""
    assert isinstance(index.embedder, Digests)
    out, index.embedder.asked = index.embedder.asked, []
    return out


LETTERS = "abcdefgh"


class Letters:
    """How often each of eight letters stands in a text."""

    def __init__(self, name: str = "letters") -> None:
        self.spec = EmbedderSpec(name, len(LETTERS))

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        return np.array([[text.count(letter) for letter in LETTERS] for text in texts], np.float32).reshape(-1, 8)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)
