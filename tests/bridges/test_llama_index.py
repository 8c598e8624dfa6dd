"""The LlamaIndex bridge: nodes with all they hold, filters, queries, through LlamaIndex's own index and retriever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from vecbench import CollectionSpec, Contains, Metric, Records, connect
from vecbench.bridges.llama_index import LlamaIndexEmbedding, VecbenchVectorStore, from_llama_index_filters
from vecbench.collection import Collection
from vecbench.errors import ConfigError, EmbedderMismatch, InvalidVector, UnsupportedFilter, UnsupportedOperation
from vecbench.filters import And, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, NotIn, Or

from .words import DIM, FACTS, WordEmbedder

EMBEDDER = WordEmbedder()


@pytest.fixture
def collection() -> Collection:
    return connect("memory").create_collection(CollectionSpec("facts", DIM, embedder=EMBEDDER.spec))


def nodes() -> list[TextNode]:
    """A node per fact; animals come from one document, plants from another."""
    made = []
    for id_, text, metadata in FACTS:
        vector = EMBEDDER.embed_documents([text])[0].tolist()
        node = TextNode(id_=id_, text=text, metadata=dict(metadata), embedding=vector)
        if kind := metadata.get("kind"):
            node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"book of {kind}s")
        made.append(node)
    return made


@pytest.fixture
def store(collection: Collection) -> VecbenchVectorStore:
    made = VecbenchVectorStore(collection, EMBEDDER)
    assert made.add(nodes()) == [id_ for id_, _, _ in FACTS]
    return made


def query(text: str = "the", k: int = 9, **more: Any) -> VectorStoreQuery:
    vector = EMBEDDER.embed_queries([text])[0].tolist()
    return VectorStoreQuery(query_embedding=vector, similarity_top_k=k, **more)


def test_nodes_come_back_as_they_were(store: VecbenchVectorStore) -> None:
    for given, found in zip(nodes(), store.get_nodes([id_ for id_, _, _ in FACTS]), strict=True):
        given.embedding = None
        assert found == given
    assert {node.node_id for node in store.get_nodes()} == {id_ for id_, _, _ in FACTS}


def test_similarities_are_cosines(store: VecbenchVectorStore) -> None:
    found = store.query(query("cat roof", 2))
    assert found.ids is not None
    assert found.nodes is not None
    assert found.similarities is not None
    assert found.ids[0] == found.nodes[0].node_id == "cat"
    cosine = EMBEDDER.embed_queries(["cat roof"])[0].astype(float) @ EMBEDDER.embed_documents([FACTS[0][1]])[0]
    assert found.similarities[0] == pytest.approx(cosine, abs=1e-6)
    assert found.similarities == sorted(found.similarities, reverse=True)


def one(key: str, operator: str, value: Any) -> MetadataFilter:
    return MetadataFilter(key=key, operator=FilterOperator(operator), value=value)


FILTERS: list[tuple[MetadataFilters, Filter]] = [
    (MetadataFilters(filters=[one("kind", "==", "plant")]), Eq("kind", "plant")),
    (MetadataFilters(filters=[one("kind", "!=", "plant")]), Ne("kind", "plant")),
    (MetadataFilters(filters=[one("year", ">", 2021)]), Gt("year", 2021)),
    (MetadataFilters(filters=[one("year", ">=", 2021)]), Gte("year", 2021)),
    (MetadataFilters(filters=[one("year", "<", 2021)]), Lt("year", 2021)),
    (MetadataFilters(filters=[one("year", "<=", 2021)]), Lte("year", 2021)),
    (MetadataFilters(filters=[one("kind", "in", ["plant"])]), In("kind", ["plant"])),
    (MetadataFilters(filters=[one("kind", "nin", ["plant"])]), NotIn("kind", ["plant"])),
    (MetadataFilters(filters=[one("tags", "contains", "fur")]), Contains("tags", "fur")),
    (
        MetadataFilters(filters=[one("tags", "any", ["fur", "x"])]),
        Or((Contains("tags", "fur"), Contains("tags", "x"))),
    ),
    (
        MetadataFilters(filters=[one("tags", "all", ["fur", "pet"])]),
        And((Contains("tags", "fur"), Contains("tags", "pet"))),
    ),
    (MetadataFilters(filters=[one("kind", "is_empty", None)]), Or((Not(Exists("kind")), Eq("kind", "")))),
    (
        MetadataFilters(filters=[one("year", "==", 2019), one("year", "==", 2021)], condition=FilterCondition.OR),
        Or((Eq("year", 2019), Eq("year", 2021))),
    ),
    (
        MetadataFilters(filters=[one("year", "==", 2019), one("kind", "==", "plant")], condition=FilterCondition.NOT),
        Not(Or((Eq("year", 2019), Eq("kind", "plant")))),
    ),
    (
        MetadataFilters(filters=[one("kind", "==", "plant"), MetadataFilters(filters=[one("year", ">", 2021)])]),
        And((Eq("kind", "plant"), Gt("year", 2021))),
    ),
]


@pytest.mark.parametrize(("given", "ours"), FILTERS)
def test_filters_mean_the_same(store: VecbenchVectorStore, given: MetadataFilters, ours: Filter) -> None:
    assert from_llama_index_filters(given) == ours
    found = store.query(query(filters=given)).ids
    assert found is not None
    assert 0 < len(found) < len(FACTS)
    expected = store.client.search(EMBEDDER.embed_queries(["the"]), 9, where=ours).ids[0]
    assert found == expected
    assert {node.node_id for node in store.get_nodes(filters=given)} == set(expected)


def test_unknown_filters_and_modes_are_refused(store: VecbenchVectorStore) -> None:
    text = MetadataFilters(filters=[one("kind", "text_match", "pla")])
    with pytest.raises(UnsupportedFilter, match="'text_match' searches inside text"):
        store.query(query(filters=text))
    with pytest.raises(UnsupportedFilter, match="compares numbers"):
        store.query(query(filters=MetadataFilters(filters=[one("kind", ">", "plant")])))
    with pytest.raises(UnsupportedOperation, match="query mode 'hybrid'"):
        store.query(query(mode=VectorStoreQueryMode.HYBRID))
    with pytest.raises(ConfigError, match="no embedding"):
        store.query(VectorStoreQuery(query_str="the"))
    with pytest.raises(InvalidVector, match="node 'bare' has no embedding"):
        store.add([TextNode(id_="bare", text="x")])
    assert from_llama_index_filters(MetadataFilters(filters=[])) is None


def test_documents_and_nodes_restrict_a_query(store: VecbenchVectorStore) -> None:
    assert set(store.query(query(doc_ids=["book of animals"])).ids or ()) == {"cat", "dog"}
    assert (store.query(query("fern shade", node_ids=["oak", "fern", "nobody"])).ids or [])[0] == "fern"
    both = query(node_ids=["oak", "cat"], filters=MetadataFilters(filters=[one("kind", "==", "plant")]))
    assert store.query(both).ids == ["oak"]
    assert store.query(query(node_ids=["nobody"])).ids == []


def test_marginal_relevance(store: VecbenchVectorStore) -> None:
    copy = nodes()[0]
    copy.id_ = "copy"
    store.add([copy])
    near = store.query(query("cat roof", 2, mode=VectorStoreQueryMode.MMR, mmr_threshold=1.0)).ids
    mixed = store.query(query("cat roof", 2, mode=VectorStoreQueryMode.MMR, mmr_threshold=0.2)).ids
    assert set(near or ()) == {"cat", "copy"}
    assert len({"cat", "copy"} & set(mixed or ())) == 1


def test_deleting(store: VecbenchVectorStore) -> None:
    store.delete("book of animals")
    assert {node.node_id for node in store.get_nodes()} == {"oak", "fern", "iron"}
    store.delete_nodes(["oak", "iron"], filters=MetadataFilters(filters=[one("kind", "==", "plant")]))
    assert {node.node_id for node in store.get_nodes()} == {"fern", "iron"}
    with pytest.raises(ConfigError, match="clear"):
        store.delete_nodes()
    store.delete_nodes(filters=MetadataFilters(filters=[one("kind", "==", "plant")]))
    assert [node.node_id for node in store.get_nodes()] == ["iron"]
    store.clear()
    assert store.client.count() == 0


def test_another_embedder_is_refused(collection: Collection) -> None:
    with pytest.raises(EmbedderMismatch):
        VecbenchVectorStore(collection, WordEmbedder("other"))
    with pytest.raises(EmbedderMismatch, match="words"):
        VecbenchVectorStore(collection)
    anonymous = connect("memory").create_collection(CollectionSpec("anonymous", DIM, Metric.EUCLIDEAN))
    assert VecbenchVectorStore(anonymous).add(nodes()) == [id_ for id_, _, _ in FACTS]


def test_through_an_index_sync_and_async(store: VecbenchVectorStore) -> None:
    embedding = LlamaIndexEmbedding.of(EMBEDDER)
    index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)
    extra = TextNode(id_="pond", text="A pond is still.", metadata={"kind": "water"})
    index.insert_nodes([extra])
    retriever = index.as_retriever(similarity_top_k=1)
    assert retriever.retrieve("still pond")[0].node.node_id == "pond"
    assert asyncio.run(retriever.aretrieve("still pond"))[0].text == "A pond is still."

    async def run() -> list[str]:
        await store.async_add([node for node in nodes() if node.node_id == "cat"])
        await store.adelete_nodes(["pond"])
        await store.adelete("book of plants")
        ids = [node.node_id for node in await store.aget_nodes()]
        found = await store.aquery(query("cat roof", 1))
        assert found.ids == ["cat"]
        await store.aclear()
        return ids

    assert set(asyncio.run(run())) == {"cat", "dog", "iron"}


def test_records_of_others_are_text_nodes(collection: Collection) -> None:
    collection.upsert(Records(["r"], EMBEDDER.embed_documents(["A river."]), [{"source": "a.md"}], ["A river."]))
    (node,) = VecbenchVectorStore(collection, EMBEDDER).get_nodes(["r"])
    assert node == TextNode(id_="r", text="A river.", metadata={"source": "a.md"})
