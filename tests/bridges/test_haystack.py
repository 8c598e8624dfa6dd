"""The Haystack bridge: Haystack's own tests of a document store, and what they leave out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.types import DocumentStore, DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing.document_store import DocumentStoreBaseTests
from haystack.utils import Secret

from vecbench import CollectionSpec, Metric, connect
from vecbench.bridges.haystack import VecbenchDocumentStore, VecbenchEmbeddingRetriever
from vecbench.bridges.haystack_filters import from_haystack_filters
from vecbench.errors import ConfigError, EmbedderMismatch
from vecbench.filters import Eq, Not

from .words import DIM, FACTS, WordEmbedder

EMBEDDER = WordEmbedder(dim=768)  # the length that Haystack's own tests use


class TestHaystacksOwnTests(DocumentStoreBaseTests):
    """What Haystack asks of every document store, unchanged but for float32 and for the order of answers."""

    @pytest.fixture
    def document_store(self, tmp_path: Path) -> Iterator[VecbenchDocumentStore]:
        store = VecbenchDocumentStore("faiss", path=str(tmp_path), metric="euclidean", embedder=EMBEDDER)
        yield store
        store.close()

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        assert len(received) == len(expected)
        for got, wanted in zip(sorted(received, key=lambda d: d.id), sorted(expected, key=lambda d: d.id), strict=True):
            assert (got.id, got.content, got.meta) == (wanted.id, wanted.content, wanted.meta)
            if wanted.embedding is None:
                assert got.embedding is None
            else:
                assert got.embedding == pytest.approx(wanted.embedding, rel=1e-6)

    def test_write_documents(self, document_store: DocumentStore) -> None:
        """The one test that every store must write itself: what the policy NONE means."""
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document], DuplicatePolicy.NONE)
        self.assert_documents_are_equal(document_store.filter_documents(), [document])


def documents() -> list[Document]:
    embedder = WordEmbedder()
    return [
        Document(id=id_, content=text, meta=dict(meta), embedding=embedder.embed_documents([text])[0].tolist())
        for id_, text, meta in FACTS
    ]


@pytest.fixture
def store() -> VecbenchDocumentStore:
    collection = connect("memory").create_collection(CollectionSpec("facts", DIM, embedder=WordEmbedder().spec))
    made = VecbenchDocumentStore.of(collection, WordEmbedder())
    assert made.write_documents(documents()) == len(FACTS)
    return made


def test_policies(store: VecbenchDocumentStore) -> None:
    changed = [replace(document, meta={"changed": True}) for document in documents()]
    new = Document(id="new", content="new", embedding=[1.0] * DIM)
    assert store.write_documents([*changed, new], DuplicatePolicy.SKIP) == 1
    assert store.filter_documents({"field": "meta.changed", "operator": "==", "value": True}) == []
    with pytest.raises(DuplicateDocumentError, match="two of the documents"):
        store.write_documents([Document(id="x", content="1"), Document(id="x", content="2")])
    assert store.count_documents() == len(FACTS) + 1
    assert store.write_documents(changed, DuplicatePolicy.OVERWRITE) == len(FACTS)
    assert len(store.filter_documents({"field": "changed", "operator": "==", "value": True})) == len(FACTS)


def test_metadata_that_is_not_flat_comes_back_and_is_found(store: VecbenchDocumentStore) -> None:
    meta = {"person": {"name": "Ada", "age": 36}, "none": None, "numbers": [1, 2], "day": "2024-02-29", "tags": ["a"]}
    store.write_documents([Document(id="nested", content="Ada", meta=meta, embedding=[1.0] * DIM)])
    for given in (
        {"field": "meta.person.name", "operator": "==", "value": "Ada"},
        {"field": "meta.person.age", "operator": "<", "value": 40},
        {"field": "meta.day", "operator": ">", "value": "2024-02-28T23:59:59"},
        {"field": "meta.day", "operator": "<=", "value": "2024-02-29"},
    ):
        (found,) = store.filter_documents(given)
        assert (found.id, found.meta) == ("nested", meta)
    with pytest.raises(DocumentStoreError, match="document 'bad': its meta"):
        store.write_documents([Document(id="bad", content="x", meta={"a": {1, 2}}, embedding=[1.0] * DIM)])


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"field": "meta.year", "operator": "~", "value": 1}, "unknown operator '~'"),
        ({"field": "content", "operator": "==", "value": "x"}, "own field 'content'"),
        ({"field": "meta.tags", "operator": "==", "value": ["pet"]}, "takes a str, int"),
        ({"operator": "XOR", "conditions": []}, "AND, OR or NOT"),
        ({"operator": "AND", "conditions": [3]}, "a filter is a dictionary"),
    ],
)
def test_unknown_filters_are_refused(store: VecbenchDocumentStore, given: dict[str, Any], match: str) -> None:
    with pytest.raises(FilterError, match=match):
        store.filter_documents(given)


def test_none_in_a_list_is_a_missing_field(store: VecbenchDocumentStore) -> None:
    given = {"field": "meta.kind", "operator": "in", "value": ["plant", None]}
    assert {document.id for document in store.filter_documents(given)} == {"oak", "fern", "iron"}
    given["operator"] = "not in"
    assert {document.id for document in store.filter_documents(given)} == {"cat", "dog"}


def test_not_is_the_complement_of_all_conditions() -> None:
    given = {"operator": "NOT", "conditions": [{"field": "meta.kind", "operator": "==", "value": "plant"}]}
    assert from_haystack_filters(given) == Not(Eq("kind", "plant"))
    assert from_haystack_filters({}) is None


def test_what_a_collection_does_not_keep_is_refused(store: VecbenchDocumentStore) -> None:
    bare = VecbenchDocumentStore.of(store.collection)
    with pytest.raises(DocumentStoreError, match="document 'x' has no embedding"):
        bare.write_documents([Document(id="x", content="text")])
    with pytest.raises(DocumentStoreError, match="document 'y' has a blob"):
        bare.write_documents([Document(id="y", blob=ByteStream(b"1"), embedding=[1.0] * DIM)])
    assert bare.count_documents() == len(FACTS)
    with pytest.raises(EmbedderMismatch):
        VecbenchDocumentStore.of(store.collection, WordEmbedder("other"))


def test_a_pipeline_finds_filters_and_scores(store: VecbenchDocumentStore) -> None:
    pipeline = Pipeline()
    pipeline.add_component("retriever", VecbenchEmbeddingRetriever(store, top_k=2))
    vector = WordEmbedder().embed_queries(["cat roof"])[0]
    found = pipeline.run({"retriever": {"query_embedding": vector.tolist()}})["retriever"]["documents"]
    assert found[0].id == "cat"
    assert found[0].embedding is None
    cosine = float(vector.astype(float) @ WordEmbedder().embed_documents([FACTS[0][1]])[0])
    assert found[0].score == pytest.approx(cosine, abs=1e-6)
    plant = {"field": "meta.kind", "operator": "==", "value": "plant"}
    late = {"field": "meta.year", "operator": ">", "value": 2021}
    merging = VecbenchEmbeddingRetriever(store, filters=plant, filter_policy="merge", return_embedding=True)
    found = merging.run(vector.tolist(), filters=late, top_k=5)["documents"]
    assert [document.id for document in found] == ["fern"]
    assert found[0].embedding is not None
    replacing = VecbenchEmbeddingRetriever(store, filters=plant)
    found = asyncio.run(replacing.run_async(vector.tolist(), filters=late))["documents"]
    assert {document.id for document in found} == {"fern", "iron"}


def test_serialized_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VecbenchDocumentStore("faiss", path=str(tmp_path), collection="kb", dim=DIM, metric="euclidean")
    store.write_documents(documents())
    store.close()
    pipeline = Pipeline()
    pipeline.add_component("retriever", VecbenchEmbeddingRetriever(store, top_k=1, filter_policy="merge"))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["vecbench.bridges.haystack"])
    query = WordEmbedder().embed_queries(["dog house"])[0].tolist()
    assert again.run({"retriever": {"query_embedding": query}})["retriever"]["documents"][0].id == "dog"
    retriever: Any = again.get_component("retriever")
    opened = retriever.document_store
    assert opened.collection.spec.metric is Metric.EUCLIDEAN
    opened.close()
    monkeypatch.setenv("MY_KEY", "sk-secret")
    secret = VecbenchDocumentStore("pinecone", options={"api_key": Secret.from_env_var("MY_KEY")}, dim=DIM)
    assert "sk-secret" not in repr(secret.to_dict())
    assert VecbenchDocumentStore.from_dict(secret.to_dict()).to_dict() == secret.to_dict()
    with pytest.raises(DocumentStoreError, match="cannot be serialized"):
        VecbenchDocumentStore("faiss", embedder=WordEmbedder()).to_dict()
    with pytest.raises(ConfigError, match="give dim="):
        VecbenchDocumentStore("memory").count_documents()


def test_the_async_verbs(store: VecbenchDocumentStore) -> None:
    async def run() -> None:
        assert await store.count_documents_async() == len(FACTS)
        pond = Document(id="pond", content="A pond.", meta={"kind": "water"})
        assert await store.write_documents_async([pond]) == 1
        (found,) = await store.filter_documents_async({"field": "meta.kind", "operator": "==", "value": "water"})
        assert found == pond  # its vector was made by the store, so it still has none
        await store.delete_documents_async(["pond", "nobody"])
        assert await store.count_documents_async() == len(FACTS)

    asyncio.run(run())
