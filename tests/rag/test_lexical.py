"""Words, BM25 against its formula, and an index that follows its collection."""

from __future__ import annotations

import math
import sqlite3
import threading
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbench import CollectionSpec, F, Flat, Metric, Records, VectorStore, connect
from vecbench.collection import Collection
from vecbench.errors import ConnectionFailed, RagError
from vecbench.filters import Filter
from vecbench.memory import MemoryCollection, MemoryStore
from vecbench.rag.retrieve import (
    HybridRetriever,
    LexicalIndex,
    LexicalIndexDamagedWarning,
    LexicalRetriever,
    ranked,
)
from vecbench.rag.retrieve.ranked import best_passages
from vecbench.rag.retrieve.words import tokens
from vecbench.rag.types import Passage


def collection_of(texts: Sequence[str | None], store: VectorStore | None = None) -> Collection:
    collection = (store or MemoryStore()).create_collection(CollectionSpec("c", 2, Metric.EUCLIDEAN, Flat()))
    write(collection, {f"{i}": text for i, text in enumerate(texts)})
    return collection


def write(collection: Collection, texts: dict[str, str | None]) -> None:
    vectors = np.ones((len(texts), 2), np.float32)
    collection.upsert(Records(list(texts), vectors, [{"n": int(i)} for i in texts], list(texts.values())))
    collection.flush()


def found(retriever: LexicalRetriever, query: str, k: int = 10, **more: Any) -> list[str]:
    return [p.id for p in retriever.retrieve(query, k, **more)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The QUICK-brown fox's 3.5 Fuß_ball", ["the", "quick", "brown", "fox", "s", "3", "5", "fuss", "ball"]),
        ("ＡＢＣ ﬁne x² 5㎒", ["abc", "fine", "x2", "5mhz"]),  # NFKC, also before the case is folded
        ("cafe\u0301 CAFÉ", ["café", "café"]),
        ("東京都に住む Python3は日", ["東京", "京都", "都に", "に住", "住む", "python3", "は日"]),
        ("a日b ﾊﾟﾝ 日 한국어", ["a", "日", "b", "パン", "日", "한국", "국어"]),
        ("हिन्दी में مُحَمَّد", ["हिन्दी", "में", "مُحَمَّد"]),  # marks stay in their words
        ("ไทย", ["ไท", "ทย"]),
        ("𠀀𠀁 Ω", ["𠀀𠀁", "ω"]),
        (" \t\n…—_!", []),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert tokens(text) == words


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_words_are_words_of_themselves_and_case_and_form_do_not_matter(text: str) -> None:
    words = tokens(text)
    assert all(tokens(word) == [word] for word in words)
    assert all(word and not word.isspace() and "_" not in word for word in words)


def bm25(texts: Sequence[str], query: str) -> dict[int, float]:
    """Okapi BM25 (Robertson et al., TREC-3, 1994), with the weight of a word of half the texts held above zero."""
    docs = [tokens(text) for text in texts]
    mean = sum(map(len, docs)) / len(docs)
    scores: dict[int, float] = {}
    for word in dict.fromkeys(tokens(query)):
        holding = sum(word in doc for doc in docs)
        weight = max(math.log((len(docs) - holding + 0.5) / (holding + 0.5)), 1e-6)
        for i, doc in enumerate(docs):
            if tf := Counter(doc)[word]:
                scores[i] = scores.get(i, 0) + weight * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(doc) / mean))
    return scores


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["ab", "cd", "é", "東京", "or", "near", "x9"]), max_size=6), min_size=1, max_size=8
    ),
    st.lists(st.sampled_from(["ab", "cd", "É", "東京", "OR", "NEAR", "nowhere"]), max_size=4),
)
def test_scores_are_those_of_the_formula(texts: list[list[str]], query: list[str]) -> None:
    joined = [" ".join(words) for words in texts]
    index = LexicalIndex(stem=False)
    index.begin()
    index.add([f"{i}" for i in range(len(texts))], joined)
    found = index.search(" ".join(query), None)
    truth = bm25(joined, " ".join(query))
    assert {int(id_): score for id_, score in found} == pytest.approx(truth, rel=1e-9)
    assert found == sorted(found, key=lambda one: (-one[1], one[0]))
    assert index.search(" ".join(query), 2) == found[:2]
    index.close()


def test_stems_are_english_and_leave_other_words_alone() -> None:
    texts = ["connections", "häuser", "東京"]
    for stem, here in ((True, ["0"]), (False, [])):
        with LexicalRetriever(collection_of([*texts, "x", "y", "z", "w"]), stem=stem) as retriever:
            assert found(retriever, "connected") == here
            assert found(retriever, "häuser") == ["1"]
            assert found(retriever, "häus") == []
            assert found(retriever, "東京") == ["2"]
            assert found(retriever, "東京".encode().hex()) == []


@pytest.mark.parametrize(
    "query",
    [
        '"',
        '" OR "',
        "body:secret",
        "secret*",
        "NEAR(secret, 1)",
        "-secret",
        "^secret",
        "a AND",
        "{",
        "') --",
        "\0",
        "+",
    ],
)
def test_a_query_is_words_and_never_syntax(query: str) -> None:
    with LexicalRetriever(collection_of(["secret plan", "secretary of a body", "near x and or not"])) as retriever:
        words = set(tokens(query))
        expected = {f"{i}" for i, text in enumerate(["secret plan", "secretary of a body", "near x and or not"])
                    if words & set(tokens(text))}  # fmt: skip
        assert set(found(retriever, query)) == expected


def test_a_query_of_very_many_words() -> None:
    with LexicalRetriever(collection_of([f"word{i}" for i in range(50)])) as retriever:
        assert len(found(retriever, " ".join(f"word{i}" for i in range(5000)), 100)) == 50


def test_passages_say_where_they_are_from() -> None:
    with LexicalRetriever(collection_of(["one", "two", "three", None])) as retriever:
        (passage,) = retriever.retrieve("Two!")
        assert (passage.id, passage.text, passage.metadata, passage.distance) == ("1", "two", {"n": 1}, None)
        assert passage.score == pytest.approx(bm25(["one", "two", "three", ""], "two")[1])
        assert retriever.retrieve("nowhere") == retriever.retrieve("") == []


@pytest.mark.parametrize("looked_at", [1, 7, 1000])
def test_a_filter_applies_before_the_best_are_chosen(monkeypatch: pytest.MonkeyPatch, looked_at: int) -> None:
    """However far down the ranking the matches stand; and whichever way they are looked for."""
    monkeypatch.setattr(ranked, "_LOOKED_AT", looked_at)
    texts = ["word " * (60 - i) + "else" for i in range(60)] + ["other"] * 99
    with LexicalRetriever(collection_of(texts)) as retriever:
        everything = found(retriever, "word", 100)
        assert len(everything) == 60
        for where, passes in (
            (F("n") >= 57, lambda n: n >= 57),
            (F("n").isin([3, 30, 59]), lambda n: n in {3, 30, 59}),
            (F("n") >= 0, lambda n: True),
            (F("n") > 1000, lambda n: False),
            (F("n") != 0, lambda n: n != 0),
        ):
            for k in (1, 2, 3, 100):
                expected = [i for i in everything if passes(int(i))][:k]
                assert found(retriever, "word", k, where=where) == expected


def test_it_follows_the_collection() -> None:
    class Counting(MemoryCollection):
        read: list[str]

        def _get(self, ids: list[str], include: Any) -> Records:
            if include == ("documents",):
                self.read += ids
            return super()._get(ids, include)

    collection = Counting(MemoryStore(), CollectionSpec("c", 2, Metric.EUCLIDEAN, Flat()))
    collection.read = []
    write(collection, {"0": "zero", "1": "one"})
    with LexicalRetriever(collection) as retriever:
        assert found(retriever, "one") == ["1"]
        assert sorted(collection.read) == ["0", "1"]
        write(collection, {"2": "one two"})
        assert found(retriever, "one") == ["1", "2"]
        assert collection.read[2:] == ["2"]  # only what is new is read
        collection.delete(ids=["1"])
        assert found(retriever, "one") == ["2"]
        collection.delete(ids=["2"])
        write(collection, {"3": "three"})  # as many as before: not noticed by the count
        assert found(retriever, "three") == []
        assert found(retriever, "two") == []  # but what is gone never comes, and that it is gone was noticed
        assert found(retriever, "three") == ["3"]
        collection.delete(ids=["3"])
        write(collection, {"5": "three three"})
        assert found(retriever, "three") == ["5"]  # at once, where the words were in what is gone
        collection.delete(ids=["5"])
        write(collection, {"3": "three"})
        assert found(retriever, "zero") == ["0"]
        retriever.expire()
        assert found(retriever, "three") == ["3"]
    still = LexicalRetriever(collection, follow=False)
    assert found(still, "three") == ["3"]
    write(collection, {"4": "three"})
    assert found(still, "three") == ["3"]
    still.refresh()
    assert found(still, "three") == ["3", "4"]
    still.close()


def test_the_other_half_of_a_hybrid_shows_what_is_new() -> None:
    """Another process has written, and the count is what it was; the vectors find the record, so its words are read."""

    class Everything:
        def retrieve(self, query: str, k: int = 10, *, where: Filter | None = None) -> list[Passage]:
            return best_passages(collection, lambda limit: [(id_, 1.0) for id_ in present], k, where)

    collection = collection_of(["zero", "one", "two"])
    present = ["0", "1", "2"]
    with LexicalRetriever(collection) as words:
        hybrid = HybridRetriever([Everything(), words], weights=[0, 1])
        assert next(p.id for p in hybrid.retrieve("two")) == "2"
        collection.delete(ids=["1"])
        write(collection, {"7": "seven"})
        present[1] = "7"
        assert [(p.id, bool(p.score)) for p in hybrid.retrieve("seven")][:2] == [("7", True), ("0", False)]


def test_what_was_not_flushed_is_found() -> None:
    class Waiting(MemoryCollection):
        waiting: list[Records]

        def _upsert(self, records: Records) -> None:
            self.waiting.append(records)

        def _flush(self, timeout: float) -> None:
            while self.waiting:
                super()._upsert(self.waiting.pop())

    collection = Waiting(MemoryStore(), CollectionSpec("c", 2, Metric.EUCLIDEAN, Flat()))
    collection.waiting = []
    collection.upsert(Records(["a"], np.ones((1, 2), np.float32), None, ["word"]))
    with LexicalRetriever(collection) as retriever:
        assert found(retriever, "word") == ["a"]


def test_deleted_matches_do_not_take_the_place_of_others() -> None:
    collection = collection_of([f"word {'x ' * i}" for i in range(20)] + ["y"] * 30)
    with LexicalRetriever(collection, follow=False) as retriever:
        best = found(retriever, "word", 20)
        collection.delete(ids=best[:5])
        assert found(retriever, "word", 3) == best[5:8]


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_over_stores_and_kept_on_disk(tmp_path: Path, store: str) -> None:
    texts = [f"number {i} of the {'even' if i % 2 == 0 else 'odd'}" for i in range(30)]
    with LexicalRetriever(collection_of(texts)) as memory, connect(store) as opened:
        collection = collection_of(texts, opened)
        with LexicalRetriever(collection, tmp_path / "words") as retriever:
            first = [(p.id, p.score, p.text) for p in retriever.retrieve("odd number 7")]
            assert first == [(p.id, p.score, p.text) for p in memory.retrieve("odd number 7")]
            with pytest.raises(ConnectionFailed, match="open already"):
                LexicalRetriever(collection, tmp_path / "words")
        with LexicalRetriever(collection, tmp_path / "words") as again, pytest.MonkeyPatch.context() as patch:
            patch.setattr(collection, "get", None)
            again.refresh()  # the index was kept: no text is read
            patch.undo()
            assert [(p.id, p.score, p.text) for p in again.retrieve("odd number 7")] == first
        with LexicalRetriever(collection, tmp_path / "words", stem=False) as other:
            assert found(other, "numbers") == []  # made again, without stems
            assert len(found(other, "number", 100)) == 30


def _use(collection: Collection, path: Path) -> None:
    with LexicalRetriever(collection, path) as retriever:
        assert found(retriever, "word7") == ["7"]


def test_a_damaged_file_is_made_again_with_a_warning(tmp_path: Path) -> None:
    collection = collection_of([f"word{i}" for i in range(300)])
    _use(collection, tmp_path)
    file, mine = tmp_path / "words.sqlite", tmp_path / "words.sqlite.bak"
    mine.write_text("mine")
    whole = file.read_bytes()
    for damaged in (b"no database at all, and long " * 99, whole[:5000] + bytes(len(whole) - 5000)):
        file.write_bytes(damaged)
        with pytest.warns(LexicalIndexDamagedWarning, match="made again"):
            _use(collection, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _use(collection, tmp_path)
    assert mine.read_text() == "mine"


def test_what_is_damaged_while_it_is_open_is_made_again(tmp_path: Path) -> None:
    collection = collection_of([f"word{i}" for i in range(300)])
    with LexicalRetriever(collection, tmp_path) as retriever:
        assert found(retriever, "word7") == ["7"]
        with sqlite3.connect(tmp_path / "words.sqlite") as other:
            other.execute("update words_data set block = x'0102030405' where id > 10")
        other.close()
        with pytest.warns(LexicalIndexDamagedWarning):
            assert found(retriever, "word8") == ["8"]


def test_other_troubles_are_told(tmp_path: Path) -> None:
    (tmp_path / "words.sqlite").mkdir()
    with pytest.raises(RagError, match=r"words\.sqlite cannot be used"):
        LexicalIndex(tmp_path)
    (tmp_path / "words.sqlite").rmdir()
    index = LexicalIndex(tmp_path)  # the failure let go of the directory
    index.close()
    retriever = LexicalRetriever(collection_of(["one"]))
    retriever.close()
    with pytest.raises(RagError, match="closed"):
        retriever.retrieve("one")


def test_from_several_threads() -> None:
    collection = collection_of([f"word{i % 10}" for i in range(200)])
    wrong: list[object] = []
    with LexicalRetriever(collection) as retriever:

        def ask(number: int) -> None:
            for i in range(20):
                try:
                    if number == 0:
                        write(collection, {f"{1000 + i}": "new"})
                    if len(found(retriever, f"word{number}", 100)) != 20:
                        wrong.append(number)
                except Exception as error:
                    wrong.append(error)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(found(retriever, "new", 100)) == 20
