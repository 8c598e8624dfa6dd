"""Chunks and their neighbours joined again: the text is always the document's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbench import F, Flat, Metric, connect
from vecbench.collection import Collection
from vecbench.rag.index import ChunkIndex, open_collection
from vecbench.rag.retrieve import VectorRetriever, merge_neighbours
from vecbench.rag.types import Chunk, Document, Passage, Splitter

from .adds import Letters


class Windows:
    """Chunks of six characters, each four after the one before; or with gaps."""

    def __init__(self, size: int = 6, step: int = 4) -> None:
        self.size, self.step, self.fingerprint = size, step, f"windows {size} {step}"

    def split(self, text: str) -> list[Chunk]:
        cuts = range(0, len(text), self.step)
        return [Chunk(text[i : i + self.size], i, min(i + self.size, len(text))) for i in cuts]


class Words:
    """Each word is a chunk."""

    fingerprint = "words"

    def split(self, text: str) -> list[Chunk]:
        return [Chunk(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+", text)]


def chunked(text: str, splitter: Splitter, store: str = "memory") -> Collection:
    embedder = Letters()
    collection = open_collection(connect(store), "c", embedder, metric=Metric.EUCLIDEAN, index=Flat())
    ChunkIndex(collection, embedder, splitter).add([Document(text, "s"), Document("h" * 50, "other")], origin="o")
    return collection


def parts(collection: Collection, numbers: Sequence[int]) -> list[Passage]:
    """The passages of these chunks, in this order, with distances that say so."""
    embedder = Letters()
    found = VectorRetriever(collection, embedder).retrieve("a", 1000, where=F("source") == "s")
    by_part = {p.metadata["part"]: p for p in found}
    return [replace(by_part[n], distance=float(i)) for i, n in enumerate(numbers)]


TEXT = "abcdefghabcdefghabcdefghabcdefghabcdefgh"  # ten chunks


def test_neighbours_come_back_with_their_overlap_once() -> None:
    collection = chunked(TEXT, Windows())
    (only,) = merge_neighbours(parts(collection, [4]), collection)
    assert (only.start, only.end, only.text) == (12, 26, TEXT[12:26])
    assert (only.metadata["start"], only.metadata["end"], "part" in only.metadata) == (12, 26, False)
    assert merge_neighbours([only], collection) == [only]
    first, second = merge_neighbours(parts(collection, [8, 2]), collection)
    assert [(p.start, p.end, p.text, p.distance) for p in (first, second)] == [
        (28, 40, TEXT[28:40], 0.0),
        (4, 18, TEXT[4:18], 1.0),
    ]


def test_neighbours_that_meet_become_one_with_the_best_in_front() -> None:
    collection = chunked(TEXT, Windows())
    found = merge_neighbours(parts(collection, [6, 0, 3, 7]), collection)
    # 5-8, then 0-1, then 2-4 which touches both.
    assert [(p.start, p.end, p.text, p.distance) for p in found] == [(0, 38, TEXT[0:38], 0.0)]
    alone = merge_neighbours(parts(collection, [6, 0]), collection, window=0)
    assert [(p.start, p.end) for p in alone] == [(24, 30), (0, 6)]
    joined = merge_neighbours(parts(collection, [2, 1]), collection, window=0)
    assert [(p.start, p.end, p.id) for p in joined] == [(4, 14, parts(collection, [2])[0].id)]


def test_no_passage_grows_beyond_the_most() -> None:
    collection = chunked(TEXT, Windows())
    (found,) = merge_neighbours(parts(collection, [4]), collection, window=5, most=14)
    assert (found.start, found.end) == (12, 26)  # nearest first: one before, one after
    (found,) = merge_neighbours(parts(collection, [4]), collection, most=3)
    assert found.text == TEXT[16:22]  # a chunk is never cut
    two = merge_neighbours(parts(collection, [4, 6]), collection, most=14)
    assert [(p.start, p.end) for p in two] == [(12, 26), (24, 34)]  # the better one has the chunk between them
    two = merge_neighbours(parts(collection, [2, 5]), collection, most=18)
    assert [(p.start, p.end) for p in two] == [(4, 18), (16, 30)]  # the window is the window, though more would fit
    (words,) = merge_neighbours(parts(collection, [4]), collection, window=9, most=2, count=lambda t: -(-len(t) // 10))
    assert len(words.text) <= 20


def test_whitespace_between_chunks_comes_back_and_anything_else_keeps_apart() -> None:
    text = "aa\n\n \tbb  cc\r\ndd"
    collection = chunked(text, Words())
    (found,) = merge_neighbours(parts(collection, [2]), collection, window=3)
    assert (found.text, found.start, found.end) == (text, 0, len(text))
    gapped = chunked(TEXT, Windows(size=3, step=4))
    first, second = merge_neighbours(parts(gapped, [4, 5]), gapped)
    assert (first.text, second.text) == (TEXT[16:19], TEXT[20:23])


def test_a_chunk_within_another_is_no_gap() -> None:
    text = "ab  cdef  gh"

    class Nested(Words):
        def split(self, text: str) -> list[Chunk]:
            cuts = [(0, 8), (0, 2), (10, 12)] if len(text) == 12 else [(0, 1)]
            return [Chunk(text[a:b], a, b) for a, b in cuts]

    (found,) = merge_neighbours(parts(collection := chunked(text, Nested()), [0]), collection, window=2)
    assert (found.text, found.start, found.end) == (text, 0, 12)


@settings(max_examples=60, deadline=None)
@given(st.text("ab \n", min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.data())
def test_merged_text_is_always_the_documents(text: str, size: int, step: int, window: int, data: st.DataObject) -> None:
    collection = chunked(text, Windows(size, step))
    n = collection.count(F("source") == "s")
    numbers = data.draw(st.lists(st.integers(0, n - 1), unique=True, min_size=1, max_size=5))
    most = data.draw(st.one_of(st.none(), st.integers(1, 20)))
    found = merge_neighbours(parts(collection, numbers), collection, window=window, most=most)
    assert all(text[p.start : p.end] == p.text for p in found)
    assert [p.distance for p in found] == sorted(p.distance or 0 for p in found)
    assert found[0].distance == 0
    for number in numbers:  # every chunk that was found is in one of them
        assert any(p.start <= number * step and min(number * step + size, len(text)) <= p.end for p in found)
    if most is not None:
        assert all(len(p.text) <= max(most, size) for p in found)
    if step <= size and most is None:  # nothing is missing between chunks: the windows, united
        covered = {i for p in found for i in range(p.start, p.end)}
        wanted = {
            i
            for number in numbers
            for near in range(max(0, number - window), min(n - 1, number + window) + 1)
            for i in range(near * step, min(near * step + size, len(text)))
        }
        assert covered == wanted
        assert sum(len(p.text) for p in found) == len(wanted)


def test_another_version_and_foreign_passages_are_not_mixed_in() -> None:
    collection = chunked(TEXT, Windows())
    old = parts(collection, [4])
    foreign = Passage("x", "text", "s", 0, 4)
    ChunkIndex(collection, Letters(), Windows()).add([Document("bb" + TEXT, "s")], origin="o")
    assert merge_neighbours([foreign, *old], collection) == [foreign, *old]
    assert merge_neighbours([], collection) == []
    words = chunked("aa bb cc", Words())
    (old_word,) = parts(words, [1])
    ChunkIndex(words, Letters(), Words()).add([Document("aa bb  cc", "s")], origin="o")  # "cc" keeps id and part
    assert merge_neighbours([old_word], words) == [old_word]


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_neighbours_over_stores(store: str) -> None:
    collection = chunked(TEXT, Windows(), store)
    (found,) = merge_neighbours(parts(collection, [4]), collection, window=2)
    assert (found.start, found.end, found.text) == (8, 30, TEXT[8:30])
    collection.store.close()
