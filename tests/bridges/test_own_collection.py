"""Bridges that make their collection themselves, with the index that the store has, and everything else they can do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from vecbench import CollectionSpec, VectorStore, connect
from vecbench.bridges import haystack, langchain, llama_index
from vecbench.errors import EmbedderMismatch, UnsupportedIndex
from vecbench.index import NativeIndex, parse_index

from .words import DIM, FACTS, WordEmbedder

STORES = ("memory", "faiss", "pinecone")  # the engines that need no starting; what can be made differs with the index
EMBEDDER = WordEmbedder()
IDS, TEXTS, METADATA = [i for i, _, _ in FACTS], [t for _, t, _ in FACTS], [m for _, _, m in FACTS]


@pytest.fixture
def store(store_name: str, options: dict[str, Any]) -> Iterator[VectorStore]:
    with connect(store_name, **options) as opened:
        yield opened


def test_langchain(store: VectorStore, index: str) -> None:
    embeddings = langchain.LangChainEmbeddings(EMBEDDER)
    made = langchain.VecbenchVectorStore.from_texts(
        TEXTS, embeddings, METADATA, ids=IDS, store=store, index=parse_index(index)
    )
    assert made.collection.spec.index == parse_index(index)
    assert [d.page_content for d in made.get_by_ids(["iron", "nobody", "cat"])] == [TEXTS[4], TEXTS[0]]
    copy = "The cat sleeps on the warm roof!"
    asyncio.run(made.aadd_texts([copy], ids=["copy"]))
    near = made.max_marginal_relevance_search("cat roof", k=2, fetch_k=6, lambda_mult=1.0)
    mixed = asyncio.run(made.amax_marginal_relevance_search("cat roof", k=2, fetch_k=6, lambda_mult=0.3))
    assert {d.id for d in near} == {"cat", "copy"}
    assert len({"cat", "copy"} & {d.id for d in mixed}) == 1
    ((_, distance),) = made.similarity_search_with_score(copy, k=1)
    assert distance == pytest.approx(0, abs=1e-6)
    assert made.delete(filter={"$or": [{"kind": {"$exists": False}}, {"tags": {"$contains": "pet"}}]})
    assert {d.id for d in made.similarity_search("the", k=9)} == {"oak", "fern"}
    with pytest.raises(UnsupportedIndex):
        langchain.VecbenchVectorStore.from_texts(
            TEXTS, embeddings, store=store, collection_name="b", index=NativeIndex("nobody's")
        )


def test_llama_index(store: VectorStore, index: str) -> None:
    spec = CollectionSpec("nodes", DIM, index=parse_index(index), embedder=EMBEDDER.spec)
    made = llama_index.VecbenchVectorStore(store.create_collection(spec), EMBEDDER)
    vectors = EMBEDDER.embed_documents(TEXTS).tolist()
    nodes = [TextNode(id_=i, text=t, metadata=m, embedding=v) for (i, t, m), v in zip(FACTS, vectors, strict=True)]
    for node in nodes[:2]:
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="animals")
    asyncio.run(made.async_add(nodes))
    (found,) = made.get_nodes(["dog"])
    nodes[1].embedding = None
    assert found == nodes[1]
    plant = MetadataFilter(key="kind", operator=FilterOperator.EQ, value="plant")
    early = MetadataFilters(filters=[plant, MetadataFilter(key="year", operator=FilterOperator.LT, value=2022)])
    assert [node.node_id for node in made.get_nodes(filters=early)] == ["oak"]
    vector = EMBEDDER.embed_queries(["cat roof"])[0].tolist()
    mmr = VectorStoreQuery(
        query_embedding=vector, similarity_top_k=2, mode=VectorStoreQueryMode.MMR, doc_ids=["animals"]
    )
    assert set(made.query(mmr).ids or ()) == {"cat", "dog"}
    asyncio.run(made.adelete("animals"))
    assert {node.node_id for node in asyncio.run(made.aget_nodes())} == {"oak", "fern", "iron"}
    made.delete_nodes(["oak", "iron"], filters=MetadataFilters(filters=[plant]))
    assert made.client.count() == 2
    made.clear()
    assert (made.get_nodes(), made.client.count()) == ([], 0)


def test_haystack_by_name(store_name: str, options: dict[str, Any], index: str) -> None:
    others = {name: value for name, value in options.items() if name != "url"}
    wanted: dict[str, Any] = {"url": options.get("url"), "options": others, "embedder": EMBEDDER}
    made = haystack.VecbenchDocumentStore(store_name, index=index, **wanted)
    documents = [Document(id=i, content=t, meta={**m, "made": {"by": "hand"}}) for i, t, m in FACTS]
    assert made.write_documents(documents) == len(FACTS)
    assert made.collection.spec.index == parse_index(index)
    with pytest.raises(DuplicateDocumentError):
        made.write_documents(documents[:1])
    assert asyncio.run(made.write_documents_async(documents, DuplicatePolicy.SKIP)) == 0
    given: dict[str, Any] = {
        "operator": "AND",
        "conditions": [
            {"field": "meta.made.by", "operator": "==", "value": "hand"},
            {"field": "meta.kind", "operator": "not in", "value": ["animal"]},
            {"field": "meta.year", "operator": ">", "value": 2021},
        ],
    }
    found = {document.id: document for document in made.filter_documents(given)}
    assert found == {document.id: document for document in documents[3:]}  # without the vectors that were made here
    made.delete_documents(["cat", "nobody"])
    assert asyncio.run(made.count_documents_async()) == len(FACTS) - 1
    made.close()
    wrong = haystack.VecbenchDocumentStore(store_name, collection="b", index="native:nobody's", **wanted)
    with pytest.raises(UnsupportedIndex):
        wrong.write_documents(documents)


def test_haystack_refuses_another_embedder_each_time(tmp_path: Any) -> None:
    made = haystack.VecbenchDocumentStore("faiss", path=str(tmp_path), embedder=EMBEDDER)
    assert made.count_documents() == 0
    made.close()
    other = haystack.VecbenchDocumentStore("faiss", path=str(tmp_path), embedder=WordEmbedder("other"))
    for _ in range(2):  # the second finds the directory free: what the first opened was closed
        with pytest.raises(EmbedderMismatch):
            other.count_documents()
