"""What Haystack's own tests ask of deleting, updating and counting by filters, and what they leave out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.errors import FilterError
from haystack.testing.document_store import (
    CountDocumentsByFilterTest,
    CountUniqueMetadataByFilterTest,
    DeleteAllTest,
    DeleteByFilterTest,
    FilterableDocsFixtureMixin,
    GetMetadataFieldMinMaxTest,
    GetMetadataFieldsInfoTest,
    GetMetadataFieldUniqueValuesTest,
    UpdateByFilterTest,
)
from haystack.testing.document_store_async import (
    CountDocumentsAsyncTest,
    CountDocumentsByFilterAsyncTest,
    CountUniqueMetadataByFilterAsyncTest,
    DeleteAllAsyncTest,
    DeleteByFilterAsyncTest,
    DeleteDocumentsAsyncTest,
    GetMetadataFieldMinMaxAsyncTest,
    GetMetadataFieldsInfoAsyncTest,
    GetMetadataFieldUniqueValuesAsyncTest,
    UpdateByFilterAsyncTest,
)

from vecbench import CollectionSpec, connect
from vecbench.bridges.haystack import VecbenchDocumentStore
from vecbench.bridges.haystack_by_filter import _CHUNK
from vecbench.bridges.llama_index import VecbenchVectorStore
from vecbench.errors import InvalidMetadata

from .words import DIM, FACTS, WordEmbedder

EMBEDDER = WordEmbedder(dim=768)  # the length that Haystack's own tests use
PLANT = {"field": "meta.kind", "operator": "==", "value": "plant"}


class OnFaiss(FilterableDocsFixtureMixin):
    @pytest.fixture
    def document_store(self, tmp_path: Path) -> Iterator[VecbenchDocumentStore]:
        store = VecbenchDocumentStore("faiss", path=str(tmp_path), index="flat", embedder=EMBEDDER)
        yield store
        store.close()


class TestHaystacksOwnTests(
    OnFaiss,
    CountDocumentsByFilterTest,
    CountUniqueMetadataByFilterTest,
    DeleteAllTest,
    DeleteByFilterTest,
    GetMetadataFieldMinMaxTest,
    GetMetadataFieldsInfoTest,
    GetMetadataFieldUniqueValuesTest,
    UpdateByFilterTest,
):
    """Without two of a parameter that the bridge lacks, recreate_index, which would skip themselves."""

    test_delete_all_documents_without_recreate_index = None  # type: ignore[assignment]
    test_delete_all_documents_with_recreate_index = None  # type: ignore[assignment]


class TestHaystacksOwnAsyncTests(
    OnFaiss,
    CountDocumentsAsyncTest,
    CountDocumentsByFilterAsyncTest,
    CountUniqueMetadataByFilterAsyncTest,
    DeleteAllAsyncTest,
    DeleteByFilterAsyncTest,
    DeleteDocumentsAsyncTest,
    GetMetadataFieldMinMaxAsyncTest,
    GetMetadataFieldsInfoAsyncTest,
    GetMetadataFieldUniqueValuesAsyncTest,
    UpdateByFilterAsyncTest,
):
    """Without the same two."""

    test_delete_all_documents_without_recreate_index_async = None
    test_delete_all_documents_with_recreate_index_async = None


def facts() -> list[Document]:
    vectors = WordEmbedder().embed_documents([text for _, text, _ in FACTS]).tolist()
    return [
        Document(id=id_, content=text, meta=dict(meta), embedding=vector)
        for (id_, text, meta), vector in zip(FACTS, vectors, strict=True)
    ]


@pytest.fixture
def store() -> Iterator[VecbenchDocumentStore]:
    made = VecbenchDocumentStore("memory", dim=DIM)
    made.write_documents(facts())
    yield made
    made.close()


def test_an_empty_filter_changes_nothing(store: VecbenchDocumentStore) -> None:
    for call in (store.delete_by_filter, lambda filters: store.update_by_filter(filters, {"x": 1})):
        with pytest.raises(FilterError, match="the filter is empty"):
            call({})
    assert sorted(store.filter_documents(), key=lambda d: d.id) == sorted(facts(), key=lambda d: d.id)
    assert store.count_documents_by_filter({}) == len(FACTS)


def test_by_ids(store: VecbenchDocumentStore) -> None:
    two = {"field": "id", "operator": "in", "value": ["oak", "nobody", "dog"]}
    assert store.update_by_filter(two, {"seen": True}) == 2
    assert store.count_documents_by_filter({"field": "seen", "operator": "==", "value": True}) == 2
    assert store.delete_by_filter(two) == 2
    assert {document.id for document in store.filter_documents()} == {"cat", "fern", "iron"}
    assert store.delete_by_filter(two) == 0


def test_an_update_keeps_all_else(store: VecbenchDocumentStore) -> None:
    haystack = InMemoryDocumentStore(shared=False)
    haystack.write_documents(facts())
    changes: dict[str, Any] = {"day": "2024-02-29", "year": None, "person": {"name": "Ada"}, "kind": "tree"}
    for each in (haystack, store):
        assert each.update_by_filter(PLANT, changes) == 2
    wanted, found = ({document.id: document for document in each.filter_documents()} for each in (haystack, store))
    assert found == wanted
    for field, operator, value in (
        ("meta.day", ">", "2024-02-28"),
        ("meta.person.name", "==", "Ada"),
        ("meta.person", "!=", None),
        ("meta.kind", "==", "tree"),
        ("meta.year", "<", 2030),
        ("meta.year", "==", None),
    ):
        given = {"field": field, "operator": operator, "value": value}
        assert store.count_documents_by_filter(given) == len(haystack.filter_documents(given)), given
    assert store.update_by_filter({"field": "meta.person", "operator": "!=", "value": None}, {"person": 1}) == 2
    assert store.filter_documents({"field": "meta.person.name", "operator": "==", "value": "Ada"}) == []


def test_what_metadata_cannot_hold_is_refused_before_anything_is_written(store: VecbenchDocumentStore) -> None:
    for meta, error in (({"x": {1}}, DocumentStoreError), ({"x": float("nan")}, InvalidMetadata)):
        with pytest.raises(error):
            store.update_by_filter(PLANT, {"kind": "tree", **meta})
    assert store.count_documents_by_filter(PLANT) == 2


def test_more_than_one_portion_is_updated_and_deleted() -> None:
    store = VecbenchDocumentStore("memory", dim=2)
    n = _CHUNK + 3
    store.write_documents([Document(id=str(i), content="x", embedding=[1.0, float(i)]) for i in range(n)])
    every = {"field": "meta.seen", "operator": "!=", "value": True}
    assert store.update_by_filter(every, {"seen": True}) == n
    assert store.count_documents_by_filter({"field": "meta.seen", "operator": "==", "value": True}) == n
    assert store.delete_by_filter({"field": "meta.seen", "operator": "==", "value": True}) == n
    assert store.count_documents() == 0
    store.close()


def test_what_was_made_or_hidden_stays_so() -> None:
    from llama_index.core.schema import TextNode

    embedder = WordEmbedder()
    collection = connect("memory").create_collection(CollectionSpec("c", DIM, embedder=embedder.spec))
    store = VecbenchDocumentStore.of(collection, embedder)
    bare = Document(id="bare", content="An oak.", meta={"kind": "plant"})
    store.write_documents([bare])
    node = TextNode(id_="node", text="A fern.", metadata={"kind": "plant"})
    node.embedding = embedder.embed_documents(["A fern."])[0].tolist()
    VecbenchVectorStore(collection, embedder).add([node])
    assert store.update_by_filter(PLANT, {"seen": 1}) == 2
    found = {document.id: document for document in store.filter_documents()}
    assert found["bare"].embedding is None  # made by the store, before and after
    assert found["node"].meta == {"kind": "plant", "seen": 1}
    assert [node.node_id for node in VecbenchVectorStore(collection, embedder).get_nodes(["node"])] == ["node"]
    store.delete_all_documents()
    assert (store.count_documents(), collection.count()) == (0, 0)


def test_fields_of_nested_and_mixed_metadata() -> None:
    metas: list[dict[str, Any]] = [
        {"v": 2, "w": "b", "n": {"k": 7}, "mix": 1, "none": None},
        {"v": 1.5, "w": "a", "n": {"k": 3}, "mix": "1", "list": [1, 2]},
        {"v": True, "w": "A", "list": [1, 2]},
    ]
    made = [Document(id=str(i), content="x", meta=meta, embedding=[1.0, 1.0]) for i, meta in enumerate(metas)]
    haystack, store = InMemoryDocumentStore(shared=False), VecbenchDocumentStore("memory", dim=2)
    for each in (haystack, store):
        each.write_documents(made)
    info = store.get_metadata_fields_info()
    assert {key: value for key, value in info.items() if key not in {"v", "mix"}} == {
        key: value for key, value in haystack.get_metadata_fields_info().items() if key not in {"v", "mix"}
    }
    for field in ("v", "meta.w", "mix", "none", "list"):
        assert store.get_metadata_field_min_max(field) == haystack.get_metadata_field_min_max(field), field
        assert store.get_metadata_field_unique_values(field) == haystack.get_metadata_field_unique_values(field), field
    fields = ["w", "meta.mix", "list", "none"]
    assert store.count_unique_metadata_by_filter({}, fields) == haystack.count_unique_metadata_by_filter({}, fields)
    assert store.get_metadata_field_min_max("meta.n.k") == {"min": 3, "max": 7}  # as filters name it
    store.close()
