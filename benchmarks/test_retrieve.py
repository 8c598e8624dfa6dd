"""What retrieval costs beside the search itself, and adding again beside adding: ratios within one run.

`pytest benchmarks/test_retrieve.py --benchmark-only`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecbench import EmbedderSpec, Flat, connect
from vecbench.collection import Collection
from vecbench.embed.spec import Progress
from vecbench.rag.index import ChunkIndex, open_collection
from vecbench.rag.retrieve import (
    MMR,
    HybridRetriever,
    LexicalIndex,
    LexicalRetriever,
    VectorRetriever,
    merge_neighbours,
)
from vecbench.rag.types import Chunk, Document
from vecbench.types import Vectors

DIM, DOCUMENTS, CHUNKS = 384, 500, 10
RNG = np.random.default_rng(1)
# Word frequencies fall like 1/rank, as they do in texts.
WORDS = np.array([f"w{i}" for i in range(20_000)])
SHARES = 1 / np.arange(1, len(WORDS) + 1)
QUERY = "w3 w40 w500 w6000"


class Random:
    """Vectors that cost nothing: what is measured is all the rest."""

    spec = EmbedderSpec("random", DIM)

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        return RNG.normal(size=(len(texts), DIM)).astype(np.float32)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)


class Lines:
    """A line is a chunk."""

    fingerprint = "lines"

    def split(self, text: str) -> list[Chunk]:
        out, start = [], 0
        for line in text.split("\n"):
            out.append(Chunk(line, start, start + len(line)))
            start += len(line) + 1
        return out


def documents() -> list[Document]:
    rng = np.random.default_rng(2)
    lines = rng.choice(WORDS, size=(DOCUMENTS, CHUNKS, 100), p=SHARES / SHARES.sum())
    return [Document("\n".join(" ".join(line) for line in text), f"{i}") for i, text in enumerate(lines.tolist())]


@pytest.fixture(scope="module")
def filled() -> Iterator[Collection]:
    with connect("faiss", threads=1) as store:
        collection = open_collection(store, "c", Random(), index=Flat())
        ChunkIndex(collection, Random(), Lines()).add(documents(), origin="o")
        yield collection


@pytest.mark.benchmark(group="add 500 documents of 10 chunks")
@pytest.mark.parametrize("store", ["faiss", "qdrant"])
@pytest.mark.parametrize("what", ["new", "unchanged", "one changed"])
def test_add(benchmark: Any, tmp_path: Path, store: str, what: str) -> None:
    given = documents()
    with connect(store, path=tmp_path) as opened:
        index = ChunkIndex(open_collection(opened, "c", Random(), index=Flat()), Random(), Lines())
        if what == "new":
            report = benchmark.pedantic(lambda: index.add(given, origin="o"), rounds=1)
            assert (report.added, report.chunks_embedded) == (DOCUMENTS, DOCUMENTS * CHUNKS)
            return
        index.add(given, origin="o")
        if what == "one changed":
            given[7] = Document(given[7].text + " more", "7")
        report = benchmark.pedantic(lambda: index.add(given, origin="o"), rounds=1)
        assert report.chunks_embedded == (what == "one changed")


@pytest.mark.benchmark(group="one question, 5,000 chunks")
@pytest.mark.parametrize("way", ["search", "vector", "mmr", "words", "hybrid", "hybrid with neighbours"])
def test_retrieve(benchmark: Any, filled: Collection, way: str) -> None:
    query = Random().embed_queries([QUERY])
    vector = VectorRetriever(filled, Random())
    with LexicalRetriever(filled) as words:
        words.refresh()
        hybrid = HybridRetriever([vector, words])
        ways: dict[str, Callable[[], Any]] = {
            "search": lambda: filled.search(query, 10, include=("metadata", "documents")).ids[0],
            "vector": lambda: vector.retrieve(QUERY),
            "mmr": lambda: VectorRetriever(filled, Random(), mmr=MMR()).retrieve(QUERY),
            "words": lambda: words.retrieve(QUERY),
            "hybrid": lambda: hybrid.retrieve(QUERY),
            "hybrid with neighbours": lambda: merge_neighbours(hybrid.retrieve(QUERY), filled),
        }
        found = benchmark(ways[way])
    assert 0 < len(found) <= 10


@pytest.mark.benchmark(group="an index of the words of 5,000 chunks")
def test_words(benchmark: Any) -> None:
    texts = [chunk.text for document in documents() for chunk in Lines().split(document.text)]

    def build() -> int:
        index = LexicalIndex()
        index.begin()
        index.add([f"{i}" for i in range(len(texts))], texts)
        held = index.forget_others()
        index.close()
        return held

    assert benchmark.pedantic(build, rounds=2) == DOCUMENTS * CHUNKS
