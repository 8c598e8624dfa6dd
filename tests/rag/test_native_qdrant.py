"""Qdrant's own search by words: on the embedded engine, and what can be known of the server's without one."""

from __future__ import annotations

import math
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecbench import HNSW, CollectionSpec, F, Metric, Records, SearchParams
from vecbench.collection import Collection
from vecbench.errors import ConfigError, StoreRejected, UnsupportedOperation
from vecbench.rag.retrieve import NativeLexicalRetriever
from vecbench.rag.retrieve.native import SearchesWords
from vecbench_qdrant import QdrantStore
from vecbench_qdrant.words import LANGUAGES, words_of

VOCABULARY = [f"w{i}x" for i in range(30)]
Texts = dict[int, list[str]]  # words by number


@pytest.fixture
def store() -> Iterator[QdrantStore]:
    with QdrantStore.open() as opened:
        yield opened


def create(store: QdrantStore, name: str = "c") -> Collection:
    index = HNSW(m=4, ef_construction=16)
    return store.create_collection(CollectionSpec(name, 8, Metric.EUCLIDEAN, index, fields={"n": "int"}))


def write(collection: Collection, texts: dict[int, Any]) -> None:
    """In no order, so that the engine's own is not that of the ids."""
    numbers = list(texts)
    random.Random(5).shuffle(numbers)  # noqa: S311  repeatable
    vectors = np.random.default_rng(numbers[0]).standard_normal((len(numbers), 8)).astype(np.float32)
    documents = [None if texts[n] is None else " ".join(texts[n]) for n in numbers]
    collection.upsert(Records([f"{n:04}" for n in numbers], vectors, [{"n": n} for n in numbers], documents))


def search(
    collection: Collection, *words: str, k: int | None = None, language: str = "english", where: Any = None
) -> Any:
    assert isinstance(collection, SearchesWords)
    return collection.search_words(words, k, where=where, language=language)


def index(collection: Collection, language: str = "english") -> None:
    assert isinstance(collection, SearchesWords)
    collection.index_words(language)


def drop_index(collection: Collection) -> None:
    from qdrant_edge import UpdateOperation

    collection.native.update(UpdateOperation.delete_field_index("doc"))


def found(collection: Collection, *words: str, language: str = "english") -> set[str]:
    return {id_ for id_, _ in search(collection, *words, language=language)}


def bm25(texts: Texts, *words: str) -> dict[str, float]:
    """By the book, with k1 = 1.2 and b = 0.75."""
    mean = sum(map(len, texts.values())) / len(texts)
    scores: dict[str, float] = {}
    for word in words:
        holding = {n: text.count(word) for n, text in texts.items() if word in text}
        rarity = math.log(1 + (len(texts) - len(holding) + 0.5) / (len(holding) + 0.5))
        for n, times in holding.items():
            part = rarity * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * len(texts[n]) / mean))
            scores[f"{n:04}"] = scores.get(f"{n:04}", 0) + part
    return scores


def some(numbers: range) -> Texts:
    """A third of them are of the same words in another order."""
    rng = random.Random(numbers.start)  # noqa: S311  repeatable
    same = VOCABULARY[:9]
    return {
        n: rng.sample(same, 9)
        if n % 3 == 0
        else rng.choices(VOCABULARY[: rng.randrange(1, 31)], k=rng.randrange(1, 20))
        for n in numbers
    }


def test_bm25_of_all_segments_together(store: QdrantStore) -> None:
    """Of records with a graph and records without, whether written before the words were indexed or after."""
    made = create(store)
    texts: Texts = {}

    def check() -> None:
        for words in (VOCABULARY[:1], [VOCABULARY[25], VOCABULARY[2]], VOCABULARY[:20]):
            whole, book = search(made, *words), bm25(texts, *words)
            assert dict(whole) == pytest.approx(book, rel=1e-5)
            # The same words make the same score, to the last bit, wherever they lie.
            alike = [hit for hit in whole if int(hit[0]) % 3 == 0]
            assert len({score for _, score in alike}) == min(1, len(alike))
            assert whole == sorted(whole, key=lambda hit: (-hit[1], hit[0]))
            for k in (1, 10, 200):
                assert search(made, *words, k=k) == whole[:k]
            for where in (F("n") < 400, ~(F("n") < 400)):  # chooses, and changes no score
                part = [hit for hit in whole if (int(hit[0]) < 400) == (where == (F("n") < 400))]
                assert search(made, *words, where=where) == part
                assert search(made, *words, k=7, where=where) == part[:7]

    texts |= some(range(600))
    write(made, texts)
    index(made)
    check()
    made.optimize()
    assert made.describe()["indexed_rows"] == 600
    check()
    later = some(range(600, 1000))
    write(made, later)
    texts |= later
    assert made.describe()["segments"] > 1
    check()
    # What is gone counts for how rare a word is, until its segment is built anew.
    made.delete(where=F("n") < 300)
    write(made, dict.fromkeys(range(300, 400)))
    for n in range(400):
        del texts[n]
    assert found(made, *VOCABULARY) == set(bm25(texts, *VOCABULARY))
    made.optimize()
    check()


def test_the_graph_is_as_it_was(store: QdrantStore) -> None:
    made = create(store)
    write(made, some(range(1500)))
    made.optimize()
    queries = np.random.default_rng(9).standard_normal((20, 8)).astype(np.float32)

    def seen() -> list[Any]:
        answers = [made.search(queries, 10, params=SearchParams(ef_search=10), where=w) for w in (None, F("n") > 700)]
        return [(a.ids, [d.tolist() for d in a.distances]) for a in answers]

    before = seen()
    index(made)
    assert seen() == before
    made.optimize()
    assert seen() == before


def test_reopened_from_disk(tmp_path: Path) -> None:
    """As do collections that were made before words could be indexed."""
    with QdrantStore.open(path=tmp_path) as first:
        write(create(first), {1: ["Foxes"], 2: ["dogs"], 3: None})
    with QdrantStore.open(path=tmp_path) as second:
        old = second.get_collection("c")
        assert "words" not in old.describe()
        with pytest.raises(UnsupportedOperation, match=r"call prepare\(\)"):
            search(old, "fox")
        NativeLexicalRetriever(old).prepare()
        write(old, {4: ["a", "fox"]})
    with QdrantStore.open(path=tmp_path) as third:
        again = third.get_collection("c")
        assert again.describe()["words"] == "english"
        assert found(again, "fox") == {"0001", "0004"}
        write(again, {1: ["hedgehogs"]})
        NativeLexicalRetriever(again).prepare()
        again.optimize()
        assert found(again, "fox") == {"0004"}
        assert found(again, "hedgehog") == {"0001"}
        with pytest.raises(ConfigError, match="indexed as english"):
            search(again, "fox", language="german")


KILLED = """
import os, signal, sys
import numpy as np
from vecbench import CollectionSpec, Records
from vecbench_qdrant import QdrantStore
made = QdrantStore.open(path=sys.argv[1]).create_collection(CollectionSpec("c", 2))
made.upsert(Records(["a", "b"], np.ones((2, 2), np.float32), documents=["foxes", "dogs"]))
shard = made.native
class Dies:
    update = shard.update
    info = shard.info
    def flush(self):
        os.kill(os.getpid(), signal.SIGKILL)
made._live = Dies
made.index_words("english")
"""


def test_killed_half_way(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL
    with QdrantStore.open(path=tmp_path) as store:
        native = NativeLexicalRetriever(store.get_collection("c"))
        native.prepare()
        assert [p.id for p in native.retrieve("fox")] == ["a"]


def test_an_index_that_is_dropped_natively(store: QdrantStore) -> None:
    made = create(store)
    write(made, {1: ["laufen"], 2: ["läuft"], 3: ["der", "Straße"]})
    index(made)
    for other in ("german", "simple", "chinese"):
        with pytest.raises(ConfigError, match=r"indexed as english.*`native`"):
            index(made, other)
        with pytest.raises(ConfigError, match="indexed as english"):
            search(made, "laufen", language=other)
    assert found(made, "laufen") == {"0001"}
    drop_index(made)
    for _ in range(2):
        with pytest.raises(UnsupportedOperation, match="not indexed"):
            search(made, "laufen")
    index(made, "german")
    assert made.describe()["words"] == "german"
    assert found(made, "laufe", language="german") == {"0001"}
    native = NativeLexicalRetriever(made, language="german")
    assert [p.id for p in native.retrieve("STRASSE")] == ["0003"]
    assert native.retrieve("der") == []


def test_every_language_is_told_back(store: QdrantStore) -> None:
    made = create(store)
    write(made, {1: ["Xylofon", "北京大学"]})
    for language in LANGUAGES:
        index(made, language)
        again = store.get_collection("c")
        assert again.describe()["words"] == language
        assert (
            again.native.info().payload_schema["doc"].params.enable_hnsw is False
        )  # else optimize takes 3 times as long
        assert found(again, "XYLOFON", language=language) == {"0001"}
        drop_index(made)
    with pytest.raises(ConfigError, match=r"no language 'Klingon' .*there is arabic, .*turkish"):
        index(made, "Klingon")


def test_what_is_a_word(store: QdrantStore) -> None:
    texts = {1: ["GPT-4", "of", "2023,"], 2: ["东京都今天天气很好"], 3: ["the", "foxes"]}
    for language in ("english", "chinese", "simple"):
        made = create(store, language)
        write(made, texts)
        index(made, language)
    english, chinese, simple = (store.get_collection(name) for name in ("english", "chinese", "simple"))
    native = NativeLexicalRetriever(chinese, language="chinese")
    assert [p.id for p in native.retrieve("天气")] == ["0002"]
    assert NativeLexicalRetriever(english).retrieve("天气") == []  # a run of them is one word
    assert found(english, "4", "2023") == {"0001"}
    assert found(chinese, "4", "2023", language="chinese") == set()  # no letter, no word
    assert found(simple, "the", language="simple") == {"0003"}
    assert found(simple, "fox", language="simple") == set()
    assert found(english, "the") == set()
    assert found(english, "fox") == {"0003"}


def test_a_word_that_is_no_text(store: QdrantStore) -> None:
    made = create(store)
    write(made, {1: ["?!", "x" * 100_000]})
    index(made)
    assert found(made, "x" * 100_000, "\0") == {"0001"}
    with pytest.raises(StoreRejected, match="searching the words of 'c'"):
        search(made, "\ud800")


def test_the_imitation_refuses() -> None:
    with QdrantStore.open(mode="memory") as store:
        made = create(store)
        with pytest.raises(UnsupportedOperation, match="imitation"):
            NativeLexicalRetriever(made)
        with pytest.raises(UnsupportedOperation, match="imitation"):
            index(made)
        assert "words" not in made.describe()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[QdrantStore]:
    """The client's imitation in the server's place. It knows no language, and does not tell of its indexes."""
    with QdrantStore.open(mode="memory") as store:
        engine: Any = store._engine
        made = create(store)
        write(made, {1: ["a", "fox"], 2: ["fox", "fox"], 3: ["a", "dog"], 4: None})
        monkeypatch.setattr(engine, "local", False)
        monkeypatch.setattr(engine, "info", replace(engine.info, engine_version="1.20.0"))
        schema: dict[str, Any] = {}
        real = engine.native.create_payload_index, engine.native.get_collection

        def create_index(name: str, field: str, field_schema: Any, wait: bool) -> Any:
            assert wait
            schema[field] = engine.models.PayloadIndexInfo(data_type="text", params=field_schema, points=0)
            return real[0](name, field, field_schema)

        monkeypatch.setattr(engine.native, "create_payload_index", create_index)
        monkeypatch.setattr(
            engine.native, "get_collection", lambda name: real[1](name).model_copy(update={"payload_schema": schema})
        )
        yield store


def test_a_server_is_asked_as_its_client_has_it(server: QdrantStore) -> None:
    made = server.get_collection("c")
    with pytest.raises(UnsupportedOperation, match=r"call prepare\(\)"):
        search(made, "fox", language="simple")
    index(made, "simple")
    index(made, "simple")
    best = search(made, "fox", language="simple")
    assert [id_ for id_, _ in best] == ["0002", "0001"]
    assert dict(best) == pytest.approx(bm25({1: ["a", "fox"], 2: ["fox", "fox"], 3: ["a", "dog"]}, "fox"))
    assert found(made, "fox", "dog", language="simple") == {"0001", "0002", "0003"}
    assert [i for i, _ in search(made, "fox", "dog", k=1, language="simple", where=F("n") > 2)] == ["0003"]
    with pytest.raises(ConfigError, match="indexed as simple"):
        search(made, "fox")
    with pytest.raises(ConfigError, match=r"no language 'klingon' .*there is arabic, "):
        search(made, language="klingon")


@pytest.mark.parametrize("version", ["1.19.5", "1.9.0", "0.11.7"])
def test_older_servers_and_clients(server: QdrantStore, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = server._engine
    made = server.get_collection("c")
    monkeypatch.setattr(engine, "info", replace(engine.info, engine_version=version))
    with pytest.raises(UnsupportedOperation, match=f"servers from 1.20 on.*{version}"):
        NativeLexicalRetriever(made)
    monkeypatch.setattr(made, "_models", object())
    with pytest.raises(UnsupportedOperation, match=r"qdrant-client from 1\.20 on"):
        NativeLexicalRetriever(made)


def test_what_a_server_is_sent_and_tells(server: QdrantStore) -> None:
    """Over gRPC nothing of it is lost: the client's own conversions, there and back."""
    from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

    made: Any = server.get_collection("c")
    held = server.native.get_collection(made.describe()["native_name"]).payload_schema
    for language in LANGUAGES:
        index(made, language)
        info = held.pop("doc")
        assert (info.params.scoring, info.params.enable_hnsw, info.params.lowercase) == (True, False, True)
        assert words_of({"doc": info}) == language
        back = GrpcToRest.convert_payload_schema_params(RestToGrpc.convert_payload_schema_params(info.params))
        assert back.model_copy(update={"scoring": True}) == info.params
        assert words_of({"doc": info.model_copy(update={"params": back})}) == language
