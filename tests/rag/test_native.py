"""The stores' own search by words: one suite over all that have it, on their real engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vecbench import CollectionSpec, F, Flat, Metric, Records, connect
from vecbench.collection import Collection
from vecbench.errors import CollectionNotFound, ConfigError, ConnectionFailed, StoreError, UnsupportedOperation
from vecbench.filters import And, Or
from vecbench.rag.retrieve import HybridRetriever, LexicalRetriever, NativeLexicalRetriever
from vecbench.rag.retrieve.native import SearchesWords
from vecbench.store import VectorStore
from vecbench_elasticsearch import words as elasticsearch_words
from vecbench_elasticsearch.collection import ElasticsearchCollection
from vecbench_qdrant import words as qdrant_words
from vecbench_redisearch import words as redisearch_words

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Foxes and foxes again, a den of foxes.",
    "Connections between cities.",
    "東京都",
    None,
    "nothing of interest",
]
Patch = pytest.MonkeyPatch


def _half_way_elasticsearch(collection: Any, patch: Patch) -> None:
    """The connection breaks after one of three requests."""
    patch.setattr(elasticsearch_words, "_RECORDS", 2)
    send = collection._change
    sent: list[Any] = []

    def change(lines: list[Any]) -> None:
        if sent:
            raise ConnectionFailed("cut")
        sent.append(lines)
        send(lines)

    patch.setattr(collection, "_change", change)


def _half_way_redisearch(collection: Any, patch: Patch) -> None:
    """The client dies while the server goes through the records."""

    def settle(deadline: float) -> None:
        raise ConnectionFailed("cut")

    patch.setattr(collection, "settle", settle)


def _busy_redisearch(collection: Any, patch: Patch) -> list[int]:
    """The server is still at it when it is first asked; how often it was."""
    real, asked = collection._info, [0]

    def info() -> dict[str, Any]:
        asked.append(len(asked))
        return {**real(), "indexing": int(len(asked) <= 3)}

    patch.setattr(collection, "_info", info)
    return asked


def _small_elasticsearch(patch: Patch) -> None:
    patch.setattr(elasticsearch_words, "_WINDOW", 20)
    patch.setattr(elasticsearch_words, "_SPARE", 3)


def _small_redisearch(patch: Patch) -> None:
    patch.setattr(redisearch_words, "_SPARE", 1)


def _small_qdrant(patch: Patch) -> None:
    patch.setattr(qdrant_words, "_SPARE", 1)


@dataclass(frozen=True)
class Words:
    """What differs from store to store."""

    store: str
    language: str
    stems: bool  # and leaves out the most common words
    chinese: tuple[str, ...] = ()  # what "東京都" finds
    ranks_rare: bool = True  # knows how rare a word is: BM25
    only_ascii: bool = False  # knows case, and marks that end a word, in ASCII alone
    unprepared: bool = False  # searches without an index, slowly
    others: tuple[str, ...] = ()  # languages beside it
    half_way: Callable[[Any, Patch], None] | None = None
    small: Callable[[Patch], None] | None = None  # few hits in one answer


STORES = (
    # The cluster of our own has the locale C, hence only_ascii.
    Words(
        "pgvector", "english", stems=True, ranks_rare=False, only_ascii=True, unprepared=True,
        others=("simple", "german"),
    ),
    # Elastic's reduced distribution has no analyzer of a language.
    Words(
        "elasticsearch", "standard", stems=False, chinese=("3",), others=("simple", "stop"),
        half_way=_half_way_elasticsearch, small=_small_elasticsearch,
    ),
    Words(
        "redisearch", "english", stems=True, only_ascii=True, half_way=_half_way_redisearch, small=_small_redisearch,
    ),
    Words("qdrant", "english", stems=True, small=_small_qdrant),
)  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "words" in metafunc.fixturenames:
        asked = {name.strip() for name in metafunc.config.getoption("--stores").split(",")}
        chosen = [words for words in STORES if asked & {words.store, "all"}]
        metafunc.parametrize("words", chosen, ids=lambda words: words.store, scope="module")


@pytest.fixture(scope="module")
def store(words: Words) -> Iterator[VectorStore]:
    with connect(words.store) as opened:
        yield opened


@pytest.fixture(scope="module")
def collection(store: VectorStore, words: Words) -> Collection:
    """With an index of the words."""
    made = _filled(store, "c", TEXTS)
    NativeLexicalRetriever(made, language=words.language).prepare()
    return made


@pytest.fixture
def fresh(store: VectorStore) -> Iterator[Collection]:
    """Without one."""
    made = _filled(store, "fresh", TEXTS)
    yield made
    store.drop_collection("fresh", missing_ok=True)


def _records(texts: list[Any], ids: list[str] | None = None) -> Records:
    rows = range(len(texts))
    vectors = np.random.default_rng(0).standard_normal((len(texts), 2)).astype(np.float32)
    return Records(ids or [f"{i}" for i in rows], vectors, [{"n": i, "kind": "a"} for i in rows], texts)


def _filled(store: VectorStore, name: str, texts: list[Any], ids: list[str] | None = None) -> Collection:
    made = store.create_collection(
        CollectionSpec(name, 2, Metric.EUCLIDEAN, Flat(), fields={"n": "int", "kind": "str"})
    )
    made.upsert(_records(texts, ids))
    made.flush()
    return made


def _search(collection: Collection, words: list[str], k: int | None, language: str, **more: Any) -> list[Any]:
    assert isinstance(collection, SearchesWords)
    return collection.search_words(words, k, language=language, **more)


def test_words_filters_and_hybrid(collection: Collection, words: Words) -> None:
    native = NativeLexicalRetriever(collection, language=words.language)
    found = native.retrieve("What do foxes do?")
    assert [(p.id, p.text, p.distance) for p in found] == [("1", TEXTS[1], None), ("0", TEXTS[0], None)][
        : 1 + words.stems
    ]
    assert found[0].metadata == {"n": 1, "kind": "a"}
    assert all((p.score or 0) > 0 for p in found)
    assert {p.id for p in native.retrieve("dog cities nowhere")} == {"0", "2"}  # any of the words
    assert [p.id for p in native.retrieve("again fox", where=F("n") < 1)] == ["0"]
    assert [p.id for p in native.retrieve("QUICK", 1)] == ["0"]
    assert native.retrieve("") == native.retrieve("nowhere") == native.retrieve("?!") == []
    with LexicalRetriever(collection) as lexical:
        hybrid = HybridRetriever([native, lexical])
        assert hybrid.retrieve("foxes")[0].id == "1"


def test_a_language_stems_and_leaves_out_common_words(collection: Collection, words: Words) -> None:
    native = NativeLexicalRetriever(collection, language=words.language)
    assert [p.id for p in native.retrieve("fox")] == (["1", "0"] if words.stems else ["0"])
    assert [p.id for p in native.retrieve("connected")] == (["2"] if words.stems else [])
    assert [p.id for p in native.retrieve("the")] == ([] if words.stems else ["0"])


def test_chinese(collection: Collection, words: Words) -> None:
    native = NativeLexicalRetriever(collection, language=words.language)
    assert tuple(p.id for p in native.retrieve("東京都")) == words.chinese


@pytest.mark.parametrize(
    "query",
    [
        "\"'); drop table x; --", "fox:* & !dog", "@doc:x", "@w:(fox)", "*", "%s %(x)s", "-fox", "~fox", "p | q", "\\",
        "{}", "[fox", '"fox', "fox) => [KNN 3 @v $q]", "$w0", "_exists_:doc",
    ],
)  # fmt: skip
def test_a_query_is_a_value(collection: Collection, words: Words, query: str) -> None:
    before = collection.count()
    found = NativeLexicalRetriever(collection, language=words.language).retrieve(query)
    assert {p.id for p in found} == (({"0", "1"} if words.stems else {"0"}) if "fox" in query else set())
    _search(collection, [query, "", "nowhere"], None, words.language)  # no error
    assert collection.count() == before


def test_the_best_first_and_equal_ones_by_id(store: VectorStore, words: Words, monkeypatch: Patch) -> None:
    ids = [f"{i:02}" for i in np.random.default_rng(0).permutation(60)]
    texts = ["common tea tea" if id_ == "33" else "rare word cup" if id_ == "44" else "common tea cup" for id_ in ids]
    many = _filled(store, "many", texts, ids)
    NativeLexicalRetriever(many, language=words.language).prepare()
    if words.small is not None:
        words.small(monkeypatch)
    expected = ["33", *sorted(set(ids) - {"33", "44"})]
    for k in (1, 2, 10, 57, 58, 59, 60, 1000, None):
        found = _search(many, ["tea"], k, words.language)
        assert [id_ for id_, _ in found] == expected[:k]
        scores = [score for _, score in found]
        assert scores == sorted(scores, reverse=True)
    assert found[0][1] > found[1][1] == found[-1][1] > 0
    if words.ranks_rare:
        assert _search(many, ["common", "rare"], 1, words.language)[0][0] == "44"
    # A filter chooses among them and changes neither score nor order.
    for where in (F("kind") == "a", F("n") >= 0, Or((F("kind") == "b", F("n") < 60)), ~(F("kind") == "b")):
        assert _search(many, ["tea"], None, words.language, where=where) == found
    few = {ids[n] for n in range(7)}
    assert _search(many, ["tea"], 5, words.language, where=F("n") < 7) == [one for one in found if one[0] in few][:5]
    store.drop_collection("many")


def test_a_filter_may_be_as_deep_as_elsewhere(collection: Collection, words: Words) -> None:
    where: Any = F("n") < 1
    for i in range(13):
        where = And((Or((where, F("n") == -1 - i)), F("n") < 100 + i))
    assert collection.count(where) == 1
    assert [i for i, _ in _search(collection, ["dog"], 5, words.language, where=where)] == ["0"]


def test_without_an_index(fresh: Collection, words: Words) -> None:
    native = NativeLexicalRetriever(fresh, language=words.language)
    assert native.retrieve("") == []
    if words.unprepared:
        assert [p.id for p in native.retrieve("dog")] == ["0"]
    else:
        for query in ("dog", "nowhere"):
            with pytest.raises(UnsupportedOperation, match="prepare"):
                native.retrieve(query)
        assert "words" not in fresh.describe()
    native.prepare()
    assert [p.id for p in native.retrieve("dog")] == ["0"]


def test_an_index_loses_nothing_and_follows_writes(fresh: Collection, words: Words) -> None:
    queries = np.eye(2, dtype=np.float32)

    def seen() -> list[Any]:
        held = fresh.get([f"{i}" for i in range(len(TEXTS))])
        assert held.vectors is not None
        answers = [fresh.search(queries, 4), fresh.search(queries, 9, where=(F("n") > 1) & (F("kind") == "a"))]
        found = [(a.ids, [d.tolist() for d in a.distances]) for a in answers]
        return [held.ids, held.vectors.tobytes(), held.metadata, held.documents, found, fresh.count()]

    before = seen()
    native = NativeLexicalRetriever(fresh, language=words.language)
    native.prepare()
    assert seen() == before
    fresh.upsert(Records(["0", "new"], queries, [{"later": 7}, {"n": 9}], ["a hedgehog", "another hedgehog"]))
    fresh.delete(ids=["1"])
    fresh.flush()
    assert [p.id for p in native.retrieve("hedgehog")] == ["0", "new"]
    assert [p.id for p in native.retrieve("hedgehog", where=F("later") == 7)] == ["0"]
    assert native.retrieve("fox") == native.retrieve("dog") == native.retrieve("again") == []
    fresh.upsert(Records(["0"], queries[:1]))  # without a document
    fresh.flush()
    assert [p.id for p in native.retrieve("hedgehog")] == ["new"]
    native.prepare()
    again = fresh.store.get_collection("fresh")
    assert [p.id for p in NativeLexicalRetriever(again, language=words.language).retrieve("hedgehog")] == ["new"]


def test_beyond_ascii(fresh: Collection, words: Words) -> None:
    fresh.upsert(Records(["a", "b"], np.ones((2, 2), np.float32), documents=["ÜBER den Wolken", "„Wolken“ über uns"]))
    fresh.flush()
    native = NativeLexicalRetriever(fresh, language=words.language)
    native.prepare()
    assert {p.id for p in native.retrieve("Über")} == ({"b"} if words.only_ascii else {"a", "b"})
    assert {p.id for p in native.retrieve("Wolken")} == ({"a"} if words.only_ascii else {"a", "b"})


def test_broken_off_half_way(fresh: Collection, words: Words, monkeypatch: Patch) -> None:
    other = NativeLexicalRetriever(fresh.store.get_collection("fresh"), language=words.language)
    query = "fox foxes cities nothing"
    if words.half_way is not None:
        with monkeypatch.context() as patch:
            words.half_way(fresh, patch)
            with pytest.raises(ConnectionFailed, match="cut"):
                NativeLexicalRetriever(fresh, language=words.language).prepare()
        if words.store == "redisearch":  # the server goes on by itself, and is waited for
            asked = _busy_redisearch(other.collection, monkeypatch)
            assert {p.id for p in other.retrieve(query)} == {"0", "1", "2", "5"}
            assert len(asked) > 3
        else:  # an error and never a part
            assert fresh.describe()["words"] == {words.language: "begun"}
            with pytest.raises(UnsupportedOperation, match="not all of them"):
                other.retrieve(query)
    other.prepare()
    mended = NativeLexicalRetriever(fresh, language=words.language)
    assert {p.id for p in mended.retrieve(query)} == {"0", "1", "2", "5"}
    assert fresh.count() == len(TEXTS)


def test_what_changes_while_words_are_indexed(fresh: Collection, words: Words, monkeypatch: Patch) -> None:
    if words.store == "elasticsearch":  # between its reading which are to be indexed and its saying so
        held: Any = fresh
        send = held._change

        def change(lines: list[Any]) -> None:
            send([{"delete": {"_id": "1"}}])
            fresh.upsert(Records(["2"], np.ones((1, 2), np.float32), documents=["a hedgehog"]))
            send(lines)

        monkeypatch.setattr(held, "_change", change)
    else:
        fresh.delete(ids=["1"])
        fresh.upsert(Records(["2"], np.ones((1, 2), np.float32), documents=["a hedgehog"]))
    native = NativeLexicalRetriever(fresh, language=words.language)
    native.prepare()
    assert [p.id for p in native.retrieve("foxes hedgehog cities", where=F("n") != 0)] == ["2"]
    assert fresh.count() == len(TEXTS) - 1


def test_languages(collection: Collection, words: Words) -> None:
    for language in ("klingon", "english'; drop table x", "", "keyword", "*", "doc.x"):
        with pytest.raises(ConfigError, match=r"text search configuration|analyzer|indexed as english|no language"):
            NativeLexicalRetriever(collection, language=language)
    for language in words.others:
        other = NativeLexicalRetriever(collection, language=language)
        other.prepare()
        assert [p.id for p in other.retrieve("dog")] == ["0"]
    usual = NativeLexicalRetriever(collection, language=words.language)
    assert [p.id for p in usual.retrieve("dog")] == ["0"]
    if words.store == "elasticsearch":
        assert collection.describe()["words"] == dict.fromkeys(("simple", "standard", "stop"), "complete")
    if words.store == "redisearch":
        assert (collection.describe()["words"], collection.describe()["number_fields"]) == ("english", 1)
    if words.store == "pgvector":
        made = collection.native.execute(
            "select indexdef from pg_indexes where tablename = %s and indexname like %s",
            (collection.describe()["table"], "%_words_english"),
        ).fetchall()
        assert len(made) == 1
        assert "gin" in made[0][0]


def test_an_error_is_ours(fresh: Collection, words: Words) -> None:
    native = NativeLexicalRetriever(fresh, language=words.language)
    native.prepare()
    assert native.retrieve("dog") != []
    fresh.store.drop_collection("fresh")
    with pytest.raises(CollectionNotFound, match="fresh"):
        native.retrieve("dog")
    with pytest.raises(CollectionNotFound, match="fresh"):
        native.prepare()
    _filled(fresh.store, "fresh", TEXTS)  # another, of the same name
    with pytest.raises(CollectionNotFound, match="fresh"):
        native.retrieve("dog")


def test_a_closed_store(words: Words, monkeypatch: Patch, collection: Collection) -> None:
    native = NativeLexicalRetriever(collection, language=words.language)
    monkeypatch.setattr(collection.store, "_closed", True)
    for call in (native.prepare, lambda: native.retrieve("fox")):
        with pytest.raises(StoreError, match="closed"):
            call()


def test_an_index_of_elasticsearch_made_before_there_were_words() -> None:
    """Its documents cannot be searched, since what a field is does not change: it says so, and `describe` works."""
    mapping = {"i": {"mappings": {"properties": {"doc": {"type": "object", "enabled": False}}}}}
    old: Any = object.__new__(ElasticsearchCollection)
    old._client = SimpleNamespace(indices=SimpleNamespace(get_mapping=lambda index: mapping))
    old._name, old.spec = "i", CollectionSpec("old", 2)
    with pytest.raises(UnsupportedOperation, match="vecbench copy"):
        old._states()
