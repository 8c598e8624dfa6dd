"""The LlamaIndex bridge: nodes with all they hold, filters, queries, through LlamaIndex's own index and retriever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
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
from vecbench.errors import (
    ConfigError,
    DimensionMismatch,
    EmbedderMismatch,
    InvalidVector,
    UnsupportedFilter,
    UnsupportedOperation,
)
from vecbench.filters import And, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, NotIn, Or

from .words import DIM, FACTS, WordEmbedder

STORES = ("memory", "faiss")
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


@pytest.fixture
def stored(store_name: str) -> Iterator[VecbenchVectorStore]:
    """The same nodes in each of STORES that was asked for, and one whose values are empty."""
    with connect(store_name) as opened:
        made = VecbenchVectorStore(
            opened.create_collection(CollectionSpec("facts", DIM, embedder=EMBEDDER.spec)), EMBEDDER
        )
        made.add([*nodes(), blank()])
        yield made


def blank() -> TextNode:
    metadata: dict[str, Any] = {"kind": "", "tags": []}
    return TextNode(id_="blank", text="A blank page.", metadata=metadata, embedding=vector_of("A blank page."))


def vector_of(text: str) -> list[float]:
    return [float(x) for x in EMBEDDER.embed_documents([text])[0]]


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


def holds(key: str, value: str) -> Filter:
    return Or((Contains(key, value), Eq(key, value)))


FILTERS: list[tuple[MetadataFilters, Filter]] = [
    (MetadataFilters(filters=[one("kind", "==", "plant")]), Eq("kind", "plant")),
    (MetadataFilters(filters=[one("kind", "!=", "plant")]), Ne("kind", "plant")),
    (MetadataFilters(filters=[one("year", ">", 2021)]), Gt("year", 2021)),
    (MetadataFilters(filters=[one("year", ">=", 2021)]), Gte("year", 2021)),
    (MetadataFilters(filters=[one("year", "<", 2021)]), Lt("year", 2021)),
    (MetadataFilters(filters=[one("year", "<=", 2021)]), Lte("year", 2021)),
    (MetadataFilters(filters=[one("kind", "in", ["plant"])]), In("kind", ["plant"])),
    (MetadataFilters(filters=[one("kind", "nin", ["plant"])]), NotIn("kind", ["plant"])),
    (MetadataFilters(filters=[one("tags", "contains", "fur")]), holds("tags", "fur")),
    (MetadataFilters(filters=[one("tags", "any", ["fur", "x"])]), Or((holds("tags", "fur"), holds("tags", "x")))),
    (MetadataFilters(filters=[one("tags", "all", ["fur", "pet"])]), And((holds("tags", "fur"), holds("tags", "pet")))),
    (
        MetadataFilters(filters=[one("kind", "is_empty", None)]),
        Or((Not(Exists("kind")), Eq("kind", ""), Contains("_vecbench_empty", "kind"))),
    ),
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


SAME = [
    one("tags", "is_empty", None),
    one("kind", "is_empty", None),
    one("year", "is_empty", None),
    one("tags", "contains", "fur"),
    one("tags", "any", ["fur", "nothing"]),
    one("tags", "all", ["pet", "fur"]),
    one("kind", "contains", "animal"),
    one("kind", "any", ["animal", "stone"]),
    one("kind", "all", ["animal"]),
    *(
        one(key, operator, value)
        for key in ("doc_id", "ref_doc_id", "document_id")
        for operator, value in (
            ("==", "book of animals"),
            ("!=", "book of animals"),
            ("in", ["book of plants", "none"]),
            ("nin", ["book of plants", "none"]),
        )
    ),
]


@pytest.mark.parametrize("given", SAME, ids=lambda f: f"{f.key}-{f.operator.value}")
def test_filters_find_what_the_own_store_of_llama_index_finds(
    stored: VecbenchVectorStore, given: MetadataFilter
) -> None:
    theirs = SimpleVectorStore()
    theirs.add([*nodes(), blank()])
    for condition in (FilterCondition.AND, FilterCondition.NOT):
        filters = MetadataFilters(filters=[given], condition=condition)
        expected = theirs.query(query(filters=filters)).ids
        assert stored.query(query(filters=filters)).ids == expected
        assert {node.node_id for node in stored.get_nodes(filters=filters)} == set(expected or ())
        assert 0 < len(expected or ()) < len(FACTS) + 1


def test_a_filter_does_not_search_inside_a_string(stored: VecbenchVectorStore) -> None:
    """SimpleVectorStore does; LlamaIndex defines these operators on lists."""
    for given in (one("kind", "contains", "ani"), one("kind", "any", ["ani", "pla"]), one("tags", "contains", "pe")):
        assert stored.query(query(filters=MetadataFilters(filters=[given]))).ids == []


def test_a_document_goes_before_metadata_of_the_same_name(stored: VecbenchVectorStore) -> None:
    """As in LlamaIndex's own stores; the metadata come back as they were."""
    own = nodes()[0].model_copy(update={"metadata": {"doc_id": "own"}})
    theirs = SimpleVectorStore()
    for store in (stored, theirs):
        store.add([own])
        for value, found in (("own", []), ("book of animals", ["cat"])):
            asked = query(k=1, filters=MetadataFilters(filters=[one("doc_id", "==", value)]), node_ids=["cat"])
            assert store.query(asked).ids == found
    assert stored.get_nodes(["cat"])[0].metadata == {"doc_id": "own"}


def test_nodes_are_deleted_by_their_document(stored: VecbenchVectorStore) -> None:
    stored.delete_nodes(filters=MetadataFilters(filters=[one("doc_id", "==", "book of animals")]))
    assert {node.node_id for node in stored.get_nodes()} == {"oak", "fern", "iron", "blank"}
    assert stored.get_nodes(["blank"])[0].metadata == blank().metadata


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


THRESHOLDS = [None, 0.1, 0.4, 0.9, 1.0]


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_the_marginal_relevance_of_llama_index(stored: VecbenchVectorStore, threshold: float | None) -> None:
    """The option comes with the query, or through a retriever; of two nodes, theirs are the same."""
    theirs = SimpleVectorStore()
    theirs.add([*nodes(), blank()])
    given = query("cat roof", 2, mode=VectorStoreQueryMode.MMR)
    expected = theirs.query(given, mmr_threshold=threshold).ids
    assert stored.query(given, mmr_threshold=threshold).ids == expected
    assert asyncio.run(stored.aquery(given, mmr_threshold=threshold)).ids == expected
    given.mmr_threshold = 0.77
    assert stored.query(given, mmr_threshold=threshold or 0.5).ids == expected  # the option goes before
    retriever = VectorStoreIndex.from_vector_store(stored, embed_model=LlamaIndexEmbedding.of(EMBEDDER)).as_retriever(
        vector_store_query_mode="mmr", similarity_top_k=2, vector_store_kwargs={"mmr_threshold": threshold}
    )
    assert [found.node.node_id for found in retriever.retrieve("cat roof")] == expected
    assert [found.node.node_id for found in asyncio.run(retriever.aretrieve("cat roof"))] == expected


def test_of_how_many_marginal_relevance_chooses(store: VecbenchVectorStore) -> None:
    copy = nodes()[0]
    copy.id_ = "copy"
    store.add([copy])
    given = query("cat roof", 2, mode=VectorStoreQueryMode.MMR)
    assert set(store.query(given, mmr_threshold=0.2).ids or ()) != {"cat", "copy"}
    for few in ({"mmr_prefetch_factor": 1}, {"mmr_prefetch_k": 2}, {"mmr_prefetch_k": 0}):
        assert set(store.query(given, mmr_threshold=0.2, **few).ids or ()) == {"cat", "copy"}
    for wrong, match in (
        ({"mmr_prefetch_factor": 2, "mmr_prefetch_k": 8}, "say the same"),
        ({"mmr_prefetch_factor": -1}, "numbers of at least 0, got -1"),
        ({"mmr_prefetch_k": "8"}, "numbers of at least 0, got '8'"),
        ({"mmr_threshold": 1.5}, "between 0 and 1, got 1.5"),
        ({"mmr_treshold": 0.5}, r"unknown options \['mmr_treshold'\] .*'mmr_threshold'"),
    ):
        with pytest.raises(ConfigError, match=match):
            store.query(given, **wrong)
    with pytest.raises(ConfigError, match=r"unknown options \['mmr_threshold'\] of a query in mode 'default'"):
        store.query(query(), mmr_threshold=0.5)


def test_nothing_is_found_where_nothing_is_wanted(store: VecbenchVectorStore) -> None:
    for mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
        for ids in (None, ["cat"]):
            found = store.query(query(k=0, node_ids=ids, mode=mode))
            assert (found.ids, found.nodes, found.similarities) == ([], [], [])
    index = VectorStoreIndex.from_vector_store(store, embed_model=LlamaIndexEmbedding.of(EMBEDDER))
    assert index.as_retriever(similarity_top_k=0).retrieve("the") == []
    for wrong in (-1, 2.0, None):
        with pytest.raises(ConfigError, match="similarity_top_k must be a whole number"):
            store.query(query(k=wrong, node_ids=["cat"]))  # type: ignore[arg-type]
    with pytest.raises(DimensionMismatch, match="queries"):
        store.query(VectorStoreQuery(query_embedding=[1.0], node_ids=["cat"]))


def test_of_nodes_with_one_id_the_last_stays(stored: VecbenchVectorStore) -> None:
    twice = [TextNode(id_=i, text=t, embedding=vector_of(t)) for i, t in (("q", "x"), ("r", "y"), ("q", "z"))]
    theirs = SimpleVectorStore()
    assert stored.add(twice) == theirs.add(twice) == ["q", "r", "q"]  # an index pairs them with the nodes
    assert [node.get_content() for node in stored.get_nodes(["q", "r"])] == ["z", "y"]
    assert stored.query(query("z", 1)).similarities == pytest.approx([1.0], abs=1e-6)
    assert theirs.query(query("z", 1)).similarities == pytest.approx([1.0], abs=1e-6)
    index = VectorStoreIndex(
        [TextNode(id_=i, text=t) for i, t in (("s", "one"), ("s", "two"))],
        storage_context=StorageContext.from_defaults(vector_store=stored),
        embed_model=LlamaIndexEmbedding.of(EMBEDDER),
    )
    assert index.as_retriever(similarity_top_k=1).retrieve("two")[0].text == "two"


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
