"""Weaviate's own search by words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vecbench import CollectionSpec, F, Flat, Metric, Records, VectorStore, connect
from vecbench.collection import Collection
from vecbench.errors import CollectionNotFound, ConfigError, StoreRejected, StoreTimeout, UnsupportedOperation
from vecbench.filters import Not
from vecbench.rag.retrieve import HybridRetriever, LexicalRetriever, NativeLexicalRetriever
from vecbench.rag.retrieve.native import SearchesWords

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Foxes and a fox again, a fox of foxes.",
    "Connections between cities.",
    "東京都",
    None,
    "nothing of interest",
    "A DOG-like animal",
]


@pytest.fixture(scope="module")
def store() -> Iterator[VectorStore]:
    with connect("weaviate") as opened:
        yield opened


def filled(store: VectorStore, name: str, texts: list[str | None]) -> Collection:
    """Written in no order, so that the server's own is not that of the ids."""
    made = store.create_collection(CollectionSpec(name, 2, Metric.EUCLIDEAN, Flat(), fields={"n": "int"}))
    rows = np.random.default_rng(1).permutation(len(texts)).tolist()
    vectors = np.ones((len(texts), 2), np.float32)
    made.upsert(Records([f"{i:03d}" for i in rows], vectors, [{"n": i} for i in rows], [texts[i] for i in rows]))
    return made


@pytest.fixture(scope="module")
def collection(store: VectorStore) -> Collection:
    return filled(store, "c", TEXTS)


def search(collection: Collection, *words: str, k: int | None = None, where: Any = None) -> list[tuple[str, float]]:
    assert isinstance(collection, SearchesWords)
    return collection.search_words(words, k, where=where, language="english")


def ids(found: list[tuple[str, float]]) -> list[str]:
    return [id_ for id_, _ in found]


def test_words_filters_and_hybrid(collection: Collection) -> None:
    native = NativeLexicalRetriever(collection)
    for _ in range(2):
        found = native.retrieve("What does the fox do?")
        assert [(p.id, p.text, p.distance) for p in found] == [("001", TEXTS[1], None), ("000", TEXTS[0], None)]
        assert (found[0].score or 0) > (found[1].score or 0) > 0
        assert [p.id for p in native.retrieve("fox", 1)] == ["001"]
        assert [p.id for p in native.retrieve("foxes")] == ["001"]  # nothing is stemmed
        assert {p.id for p in native.retrieve("dog cities nowhere")} == {"000", "002", "006"}  # any of the words
        assert [p.id for p in native.retrieve("fox", where=F("n") < 1)] == ["000"]
        assert {p.id for p in native.retrieve("dog", where=Not(F("n") < 1))} == {"006"}
        assert native.retrieve("the of") == native.retrieve("") == native.retrieve("nowhere") == []
        assert native.retrieve("東京") == []  # a run of Han is one word there
        native.prepare()
    assert collection.describe()["words"] == "english"
    with LexicalRetriever(collection) as words:
        assert [p.id for p in HybridRetriever([native, words]).retrieve("fox")] == ["001", "000"]


def test_rare_words_weigh_more(store: VectorStore) -> None:
    made = filled(store, "rare", ["common rare", "common common", *["common word"] * 8, "other word"])
    found = search(made, "common", "rare")
    assert ids(found)[:2] == ["000", "001"]
    assert len(found) == 10
    store.drop_collection("rare")


@pytest.mark.parametrize("query", ["'); drop table x; --", "fox* -dog", '{doc: "fox"}', "+fox OR NOT", "\\", "fox^3 ~"])
def test_a_query_is_a_value(collection: Collection, query: str) -> None:
    found = NativeLexicalRetriever(collection).retrieve(query)
    expected = {"000", "001"} if "fox" in query else set()
    assert {p.id for p in found} == (expected | {"006"} if "dog" in query else expected)
    assert set(ids(search(collection, query))) == {p.id for p in found}  # not cut into words by us
    assert collection.count() == len(TEXTS)


def test_languages(collection: Collection) -> None:
    for language in ("german", "english'", "", "word"):
        with pytest.raises(ConfigError, match="indexed as english"):
            NativeLexicalRetriever(collection, language=language)
        with pytest.raises(ConfigError, match="indexed as english"):
            collection.index_words(language)  # type: ignore[attr-defined]  # Weaviate's own


def test_every_write_is_followed(store: VectorStore) -> None:
    made = filled(store, "w", ["one zebra", "two zebra", "three zebra"])
    one = np.ones((1, 2), np.float32)
    made.upsert(Records(["000"], one, [{}], ["no stripes"]))
    made.upsert(Records(["001"], one, [{}]))
    made.upsert(Records(["new"], one, [{}], ["Zebra!"]))
    assert set(ids(search(made, "zebra"))) == {"002", "new"}
    made.delete(ids=["new"])
    made.delete(where=F("n") == 2)
    assert search(made, "zebra") == []
    assert ids(search(made, "stripes")) == ["000"]
    store.drop_collection("w")


def test_all_that_match_in_the_order_of_ids(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what one answer holds, which is made small here."""
    made = filled(store, "many", [f"same {'best best' if i in {70, 250} else 'length text'}" for i in range(300)])
    whole = dict(search(made, "same", "best"))
    monkeypatch.setattr("vecbench_weaviate.words.MOST", 20)
    monkeypatch.setattr("vecbench_weaviate.words._SPARE", 2)
    names = [f"{i:03d}" for i in range(300)]
    rest = [name for name in names if name not in {"070", "250"}]
    found = search(made, "same", "best")
    assert ids(found) == ["070", "250", *rest]
    assert dict(found) == whole  # a part's scores are those of the whole
    assert min(whole.values()) > 0
    assert search(made, "same", "best", k=50) == found[:50]
    assert search(made, "same", "best", k=1) == found[:1]
    assert ids(search(made, "same", where=F("n") >= 200)) == names[200:]
    assert ids(search(made, "same", k=3, where=F("n") >= 200)) == names[200:203]
    monkeypatch.setattr("vecbench_weaviate.words.MOST", 1)
    with pytest.raises(StoreRejected, match="one of 256 slices"):
        search(made, "same")
    store.drop_collection("many")


def test_a_collection_of_before(store: VectorStore, collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made as it was by a version that indexed no words."""
    with monkeypatch.context() as before:
        before.setattr("vecbench_weaviate.store.DOC", "")
        old = filled(store, "old", TEXTS)
    other = store.get_collection("old")
    assert "words" not in old.describe()
    native = NativeLexicalRetriever(old)
    for one in (old, other):
        with pytest.raises(UnsupportedOperation, match=r"call prepare\(\)"):
            search(one, "fox")
    with monkeypatch.context() as server:
        server.setattr(store, "_engine_version", "1.38.4")
        with pytest.raises(UnsupportedOperation, match=r"from 1\.39 on .*vecbench copy"):
            native.prepare()
    with monkeypatch.context() as answer:
        answer.setattr(old, "_rest", lambda *_: {})  # nothing is asked yet
        answer.setattr("vecbench_weaviate.words._PATIENCE", 0)
        for state, error in (("failed", StoreRejected), ("cancelled", StoreRejected), ("indexing", StoreTimeout)):
            answer.setattr(old, "_word_index", lambda state=state: {"status": state})
            with pytest.raises(error, match="'old'"):
                native.prepare()
    with monkeypatch.context() as client:

        def dies() -> None:
            raise KeyboardInterrupt

        client.setattr(old, "_word_index", dies)
        with pytest.raises(KeyboardInterrupt):
            native.prepare()
    native.prepare()
    native.prepare()
    for one in (old, other):
        assert search(one, "fox", "dog") == search(collection, "fox", "dog")
        assert one.describe()["words"] == "english"
    old.upsert(Records(["000"], np.ones((1, 2), np.float32), [{}], ["a zebra"]))
    assert ids(search(other, "fox", "zebra")) == ["000", "001"]
    store.drop_collection("old")


def test_an_error_is_ours(store: VectorStore) -> None:
    gone = store.create_collection(CollectionSpec("gone", 2))
    native = NativeLexicalRetriever(gone)
    store.drop_collection("gone")
    with pytest.raises(CollectionNotFound, match="gone"):
        native.retrieve("fox")
    with pytest.raises(CollectionNotFound, match="gone"):
        native.prepare()
    with pytest.raises(CollectionNotFound, match="gone"):
        gone._enable(0)  # type: ignore[attr-defined]  # as where it goes between two requests
