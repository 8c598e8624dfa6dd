"""The LangChain bridge: its own semantics on an exact store, filters held against the reference evaluator."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_text_splitters import CharacterTextSplitter, RecursiveCharacterTextSplitter

from vecbench import CollectionSpec, Contains, EmbedderSpec, F, Metric, connect
from vecbench.bridges.langchain import (
    LangChainEmbeddings,
    VecbenchVectorStore,
    from_langchain_embeddings,
    from_langchain_filter,
    from_langchain_splitter,
)
from vecbench.collection import Collection
from vecbench.errors import (
    ConfigError,
    EmbedderMismatch,
    InvalidMetadata,
    RagError,
    UnsupportedFilter,
    UnsupportedOperation,
)
from vecbench.filters import And, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, NotIn, Or
from vecbench.rag.split import RecursiveSplitter
from vecbench.rag.types import Splitter

from .words import DIM, FACTS, WordEmbedder


def made(metric: Metric = Metric.COSINE, embedder: WordEmbedder | None = None) -> Collection:
    spec = (embedder or WordEmbedder()).spec
    return connect("memory").create_collection(CollectionSpec("facts", DIM, metric, embedder=spec))


@pytest.fixture
def store() -> VecbenchVectorStore:
    bridge = VecbenchVectorStore(made(), WordEmbedder())
    bridge.add_texts([text for _, text, _ in FACTS], [m for _, _, m in FACTS], ids=[id_ for id_, _, _ in FACTS])
    return bridge


def names(found: list[Document]) -> list[str | None]:
    return [document.id for document in found]


def test_documents_come_back_as_they_were(store: VecbenchVectorStore) -> None:
    assert names(store.similarity_search("cat roof", k=1)) == ["cat"]
    (document,) = store.get_by_ids(["oak"])
    assert document == Document(id="oak", page_content=FACTS[2][1], metadata=FACTS[2][2])
    assert names(store.get_by_ids(["iron", "nobody", "cat"])) == ["iron", "cat"]


def test_scores_are_distances_and_relevance_lies_between_0_and_1(store: VecbenchVectorStore) -> None:
    query = WordEmbedder().embed_queries(["cat roof"])[0].astype(float)
    for document, distance in store.similarity_search_with_score("cat roof", k=5):
        vector = WordEmbedder().embed_documents([document.page_content])[0].astype(float)
        assert distance == pytest.approx(1 - query @ vector, abs=1e-6)
    relevance = store.similarity_search_with_relevance_scores("cat roof", k=5)
    assert all(0 <= score <= 1 for _, score in relevance)
    some = store.similarity_search_with_relevance_scores("cat roof", k=5, score_threshold=relevance[0][1] - 1e-9)
    assert names([document for document, _ in some]) == ["cat"]


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.EUCLIDEAN])
def test_a_store_that_rounds_passes_no_bound(metric: Metric) -> None:
    """LangChain warns beyond 0 and 1, and several stores find a text a little nearer to itself than nothing."""
    relevance = VecbenchVectorStore(made(metric), WordEmbedder())._select_relevance_score_fn()
    assert [relevance(-2.4e-7), relevance(0.0)] == [1.0, 1.0]
    assert relevance(0.3) == pytest.approx(0.7 if metric is Metric.COSINE else 1 / 1.3)
    assert relevance(1.8) == pytest.approx(0.0 if metric is Metric.COSINE else 1 / 2.8)


def test_relevance_under_the_other_metrics() -> None:
    euclid = VecbenchVectorStore(made(Metric.EUCLIDEAN), WordEmbedder())
    euclid.add_texts(["one word"])
    ((_, score),) = euclid.similarity_search_with_relevance_scores("one word", k=1)
    assert score == pytest.approx(1)
    dot = VecbenchVectorStore(made(Metric.DOT), WordEmbedder())
    dot.add_texts(["one word"])
    with pytest.raises(UnsupportedOperation, match="dot product"):
        dot.similarity_search_with_relevance_scores("one word", k=1)


FILTERS: list[tuple[dict[str, Any], Filter]] = [
    ({"kind": "plant"}, Eq("kind", "plant")),
    ({"kind": "plant", "year": 2023}, And((Eq("kind", "plant"), Eq("year", 2023)))),
    ({"year": {"$gt": 2019, "$lte": 2021}}, And((Gt("year", 2019), Lte("year", 2021)))),
    ({"year": {"$lt": 2021}}, Lt("year", 2021)),
    ({"year": {"$gte": 2023}}, Gte("year", 2023)),
    ({"kind": {"$ne": "plant"}}, Ne("kind", "plant")),
    ({"kind": {"$in": ["plant", "stone"]}}, In("kind", ["plant", "stone"])),
    ({"kind": {"$nin": ("plant",)}}, NotIn("kind", ["plant"])),
    ({"tags": {"$contains": "fur"}}, Contains("tags", "fur")),
    ({"kind": {"$exists": False}}, Not(Exists("kind"))),
    ({"kind": {"$exists": True}}, Exists("kind")),
    ({"$or": [{"wild": True}, {"year": 2019}]}, Or((Eq("wild", True), Eq("year", 2019)))),
    ({"$and": [{"kind": "plant"}, {"$not": {"wild": True}}]}, And((Eq("kind", "plant"), Not(Eq("wild", True))))),
    ({"year": {"$not": {"$gt": 2020}}}, Not(Gt("year", 2020))),
]


@pytest.mark.parametrize(("given", "ours"), FILTERS)
def test_filters_mean_the_same(store: VecbenchVectorStore, given: dict[str, Any], ours: Filter) -> None:
    assert from_langchain_filter(given) == ours
    found = names(store.similarity_search("the", k=9, filter=given))
    assert found == names(store.similarity_search("the", k=9, filter=ours))
    assert 0 < len(found) < len(FACTS)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({}, "at least one key"),
        ({"year": {"$near": 3}}, r"field 'year': unknown operator '\$near'"),
        ({"$nor": [{"a": 1}]}, r"unknown operator '\$nor'"),
        ({"$or": []}, r"\$or takes a list"),
        ({"kind": {"$in": "plant"}}, r"\$in takes a list"),
        ({"kind": {"$exists": 1}}, r"\$exists takes true or false"),
        ({"kind": {}}, "empty condition"),
        ({"kind": None}, "takes a str, int"),
        ({"kind": ["plant"]}, "takes a str, int"),
        ({1: 2}, "unknown operator 1"),
    ],
)
def test_unknown_filters_are_refused(store: VecbenchVectorStore, given: Any, match: str) -> None:
    with pytest.raises(UnsupportedFilter, match=match):
        store.similarity_search("the", filter=given)


def test_what_a_store_cannot_keep_is_refused_before_anything_is_written(store: VecbenchVectorStore) -> None:
    with pytest.raises(InvalidMetadata, match="text 1: metadata 'who' is dict"):
        store.add_texts(["fine", "not fine"], [{"a": 1}, {"who": {"name": "Ada"}}])
    with pytest.raises(ConfigError, match="1 metadatas for 2 texts"):
        store.add_texts(["a", "b"], [{}])
    with pytest.raises(ConfigError, match="2 ids for 1 texts"):
        store.add_texts(["a"], ids=["x", "y"])
    with pytest.raises(ConfigError, match="unknown options"):
        store.similarity_search("a", fliter={"kind": "plant"})
    assert store.collection.count() == len(FACTS)
    ids = store.add_texts(["with None"], [{"a": None, "b": np.int64(3)}])
    assert store.get_by_ids(ids)[0].metadata == {"b": 3}


def test_update_and_delete(store: VecbenchVectorStore) -> None:
    store.add_documents([Document(id="cat", page_content="The cat swims.", metadata={"kind": "fish"})])
    assert store.get_by_ids(["cat"])[0].metadata == {"kind": "fish"}
    store.delete(["cat", "nobody"])
    store.delete(filter={"kind": "plant"})
    assert {document.id for document in store.similarity_search("the", k=9)} == {"dog", "iron"}
    with pytest.raises(ConfigError, match="exactly one"):
        store.delete(["dog"], filter={"kind": "animal"})
    assert store.collection.count() == 2


def test_nothing_is_found_where_nothing_is_wanted(store: VecbenchVectorStore) -> None:
    vector = store.embeddings.embed_query("the")
    assert store.similarity_search("the", k=0) == []
    assert store.similarity_search_with_score("the", k=0) == []
    assert store.similarity_search_by_vector(vector, k=0) == []
    assert store.max_marginal_relevance_search("the", k=0) == []
    assert store.max_marginal_relevance_search("the", k=0, fetch_k=0) == []
    assert asyncio.run(store.asimilarity_search("the", k=0)) == []
    with pytest.raises(ConfigError, match="at least 1, got -1"):
        store.similarity_search("the", k=-1)


def test_marginal_relevance_avoids_what_it_has(store: VecbenchVectorStore) -> None:
    store.add_texts(["The cat sleeps on the warm roof!"], ids=["copy"])
    near = store.max_marginal_relevance_search("cat roof", k=2, fetch_k=6, lambda_mult=1.0)
    mixed = store.max_marginal_relevance_search("cat roof", k=2, fetch_k=6, lambda_mult=0.3)
    assert set(names(near)) == {"cat", "copy"}
    assert mixed[0].id in {"cat", "copy"}
    assert mixed[1].id not in {"cat", "copy"}


def test_another_embedder_is_refused() -> None:
    with pytest.raises(EmbedderMismatch, match=r"words .* other"):
        VecbenchVectorStore(made(), WordEmbedder("other"))
    with pytest.raises(ConfigError, match="do not say which model"):
        VecbenchVectorStore(made(), DeterministicFakeEmbedding(size=DIM))  # type: ignore[arg-type]


def test_made_from_texts_with_embeddings_of_langchain() -> None:
    embeddings, spec = DeterministicFakeEmbedding(size=DIM), EmbedderSpec("fake", DIM, revision="1")
    with pytest.raises(ConfigError, match="give spec="):
        VecbenchVectorStore.from_texts(["a"], embeddings, store=connect("memory"))
    with pytest.raises(ConfigError, match="no store"):
        VecbenchVectorStore.from_texts(["a"], LangChainEmbeddings(WordEmbedder()))
    bridge = VecbenchVectorStore.from_texts(["alpha", "beta"], embeddings, store=connect("memory"), spec=spec)
    assert bridge.collection.spec.embedder == spec
    assert bridge.similarity_search("beta", k=1)[0].page_content == "beta"
    ours = from_langchain_embeddings(embeddings, spec)
    assert ours.embed_queries(["beta"])[0] == pytest.approx(np.array(embeddings.embed_query("beta")), rel=1e-6)
    assert ours.embed_documents([]).shape == (0, DIM)
    assert from_langchain_embeddings(LangChainEmbeddings(WordEmbedder()), WordEmbedder().spec).spec.name == "words"


def test_a_retriever_sync_and_async(store: VecbenchVectorStore) -> None:
    retriever = store.as_retriever(search_kwargs={"k": 2, "filter": {"year": {"$gte": 2021}}})
    assert names(retriever.invoke("the dog guards"))[0] == "dog"
    assert names(asyncio.run(retriever.ainvoke("the dog guards"))) == names(retriever.invoke("the dog guards"))
    mmr = store.as_retriever(search_type="mmr", search_kwargs={"k": 2})
    assert names(asyncio.run(mmr.ainvoke("the dog"))) == names(mmr.invoke("the dog"))


def test_the_async_verbs_are_the_same(store: VecbenchVectorStore) -> None:
    async def run() -> None:
        await store.aadd_texts(["A pond is still."], [{"kind": "water"}], ids=["pond"])
        assert names(await store.aget_by_ids(["pond"])) == ["pond"]
        assert names(await store.asimilarity_search("still pond", k=1)) == ["pond"]
        assert names(await store.asimilarity_search("pond", k=9, filter={"kind": "water"})) == ["pond"]
        vector = store.embeddings.embed_query("still pond")
        assert names(await store.asimilarity_search_by_vector(vector, k=1)) == ["pond"]
        assert (await store.asimilarity_search_with_score("still pond", k=1))[0][1] < 0.9
        assert await store.adelete(["pond"])
        assert await store.aget_by_ids(["pond"]) == []

    asyncio.run(run())
    assert store.collection.count(F("kind") == "water") == 0


def words_in(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(("size", "overlap", "length"), [(200, 0, len), (200, 50, len), (40, 10, words_in)])
def test_offsets_are_those_of_our_own_splitter(size: int, overlap: int, length: Any) -> None:
    """Ours knows them by construction."""
    theirs = RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=overlap, length_function=length)
    ours = RecursiveSplitter(size, overlap, length=length)
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert from_langchain_splitter(theirs, "x").split(readme) == ours.split(readme)


@pytest.mark.parametrize(("size", "overlap", "length"), [(12, 0, len), (12, 5, len), (4, 2, words_in), (30, 29, len)])
def test_offsets_in_texts_that_repeat_themselves(size: int, overlap: int, length: Any) -> None:
    """Many places look alike; without an overlap there is one that is right."""
    rng = random.Random(3)  # noqa: S311 - not a secret
    theirs = RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=overlap, length_function=length)
    for _ in range(60):
        text = "".join(rng.choices(["ab ", "ab", "c ", "\n\n", "ab ab ", "\n"], k=40))
        chunks = from_langchain_splitter(theirs, "x").split(text)
        assert [chunk.text for chunk in chunks] == theirs.split_text(text)
        assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
        for before, after in pairwise(chunks):
            assert before.start <= after.start
            assert length(text[after.start : before.end]) <= overlap
        if not overlap:
            assert chunks == RecursiveSplitter(size, 0, length=length).split(text)


def test_splitters_of_langchain_keep_exact_offsets() -> None:
    text = "ab ab ab. " * 40 + "The end.\n\n" + "ab ab ab. " * 10
    theirs = RecursiveCharacterTextSplitter(chunk_size=50, chunk_overlap=10)
    ours = from_langchain_splitter(theirs, "recursive 50 10")
    assert isinstance(ours, Splitter)
    chunks = ours.split(text)
    assert [chunk.text for chunk in chunks] == theirs.split_text(text)
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    covered = {i for chunk in chunks for i in range(chunk.start, chunk.end)}
    assert all(i in covered or character.isspace() for i, character in enumerate(text))
    altering = CharacterTextSplitter(separator=r"\d", is_separator_regex=True, chunk_size=9, chunk_overlap=0)
    with pytest.raises(RagError, match="not in the text as it stands"):
        from_langchain_splitter(altering, "x").split("abc1def2ghi")
    with pytest.raises(ConfigError, match="no split_text"):
        from_langchain_splitter(object(), "x")
