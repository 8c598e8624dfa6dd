"""PostgreSQL's own search by words over a pgvector collection."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from vecbench import CollectionSpec, F, Flat, Metric, Records, connect
from vecbench.collection import Collection
from vecbench.errors import CollectionNotFound, ConfigError
from vecbench.rag.retrieve import HybridRetriever, LexicalRetriever, NativeLexicalRetriever

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Foxes and foxes again, a den of foxes.",
    "Connections between cities.",
    "東京都",
    None,
    "nothing of interest",
]


@pytest.fixture(scope="module")
def collection() -> Iterator[Collection]:
    with connect("pgvector") as store:
        made = store.create_collection(CollectionSpec("c", 2, Metric.EUCLIDEAN, Flat(), fields={"n": "int"}))
        vectors = np.ones((len(TEXTS), 2), np.float32)
        made.upsert(Records([f"{i}" for i in range(len(TEXTS))], vectors, [{"n": i} for i in range(len(TEXTS))], TEXTS))
        yield made


def test_words_stems_filters_and_hybrid(collection: Collection) -> None:
    native = NativeLexicalRetriever(collection)
    for _ in range(2):  # without an index of the words, then with one
        found = native.retrieve("What do foxes do?")
        assert [(p.id, p.text, p.distance) for p in found] == [("1", TEXTS[1], None), ("0", TEXTS[0], None)]
        assert (found[0].score or 0) > (found[1].score or 0) > 0
        assert [p.id for p in native.retrieve("fox", 1)] == ["1"]
        assert {p.id for p in native.retrieve("dog city nowhere")} == {"0", "2"}  # any of the words
        assert [p.id for p in native.retrieve("connected")] == ["2"]
        assert [p.id for p in native.retrieve("fox", where=F("n") < 1)] == ["0"]
        assert native.retrieve("the") == native.retrieve("") == native.retrieve("nowhere") == []
        native.prepare()
        native.prepare()
    table = collection.describe()["table"]
    (made,) = collection.native.execute("select indexdef from pg_indexes where tablename = %s and indexname like %s",
                                        (table, "%_words_english")).fetchall()  # fmt: skip
    assert "gin" in made[0]
    with LexicalRetriever(collection) as words:
        hybrid = HybridRetriever([native, words])
        assert [p.id for p in hybrid.retrieve("fox")] == ["1", "0"]


@pytest.mark.parametrize("query", ["'); drop table x; --", "fox:* & !dog", "%s %(x)s", "a | b", "\\"])
def test_a_query_is_a_value(collection: Collection, query: str) -> None:
    before = collection.count()
    found = NativeLexicalRetriever(collection).retrieve(query)
    assert {p.id for p in found} == ({"0", "1"} if "fox" in query else set())
    assert collection.count() == before


def test_languages(collection: Collection) -> None:
    assert [p.id for p in NativeLexicalRetriever(collection, language="simple").retrieve("the")] == ["0"]
    for language in ("klingon", "english'; drop table x", ""):
        with pytest.raises(ConfigError, match="text search configuration"):
            NativeLexicalRetriever(collection, language=language)


def test_an_error_is_ours(collection: Collection) -> None:
    gone = collection.store.create_collection(CollectionSpec("gone", 2))
    native = NativeLexicalRetriever(gone)
    collection.store.drop_collection("gone")
    with pytest.raises(CollectionNotFound, match="gone"):
        native.retrieve("fox")
    with pytest.raises(CollectionNotFound, match="gone"):
        native.prepare()
