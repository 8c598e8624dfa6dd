"""The LlamaIndex bridge: nodes of every class, retrieval through them, queries among many ids, and pickling."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.indices.vector_store import VectorIndexRetriever
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from vecbench import CollectionSpec, Metric, Records, connect
from vecbench.bridges import llama_index
from vecbench.bridges.llama_index import LlamaIndexEmbedding, VecbenchVectorStore
from vecbench.errors import ConfigError, InvalidMetadata
from vecbench.store import VectorStore

from .words import DIM, WordEmbedder

STORES = ("memory", "faiss")
EMBEDDER = WordEmbedder()
EMBEDDING = LlamaIndexEmbedding.of(EMBEDDER)


@pytest.fixture
def opened(store_name: str) -> Iterator[VectorStore]:
    with connect(store_name) as opened:
        yield opened


@pytest.fixture
def store(opened: VectorStore) -> VecbenchVectorStore:
    collection = opened.create_collection(CollectionSpec("nodes", DIM, embedder=EMBEDDER.spec))
    return VecbenchVectorStore(collection, EMBEDDER)


def vector_of(text: str) -> list[float]:
    return [float(x) for x in EMBEDDER.embed_documents([text])[0]]


SOURCE: Any = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="book", metadata={"year": 2024})}
OF_EVERY_CLASS: list[BaseNode] = [
    TextNode(id_="n", text="a text", metadata={"a": 1}, relationships=SOURCE, text_template="{content}!"),
    ImageNode(id_="n", text="a cat", image_url="http://localhost/cat.png", image_path="cat.png", relationships=SOURCE),
    ImageNode(id_="n", image="aW1hZ2U=", metadata={"tags": ["x"]}),
    IndexNode(id_="n", text="a report", index_id="reports", relationships=SOURCE),
    IndexNode(id_="n", text="a report", index_id="reports", obj=TextNode(id_="inner", text="inside")),
    Node(id_="n", text_resource=MediaResource(text="a text", mimetype="text/html"), relationships=SOURCE),
    Node(id_="n", image_resource=MediaResource(url="http://localhost/cat.png")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("given", OF_EVERY_CLASS, ids=lambda node: type(node).__name__)
def test_a_node_comes_back_as_its_own_class(store: VecbenchVectorStore, given: BaseNode) -> None:
    embedded = given.model_copy(update={"embedding": vector_of("any")})
    store.add([embedded])
    (found,) = store.get_nodes(["n"])
    assert type(found) is type(given)
    assert found == given
    assert found.hash == given.hash
    assert store.query(VectorStoreQuery(query_embedding=vector_of("any"))).nodes == [given]


def test_a_document_or_an_unknown_class_is_a_text_node(store: VecbenchVectorStore) -> None:
    """As in LlamaIndex's own stores; what a record says is looked up in a table, and never imported."""
    store.add([Document(id_="d", text="whole", metadata={"a": 1}, embedding=vector_of("whole"))])
    for name in ("os.system", "OwnNode", ["TextNode"], None):
        held = {"_vecbench_node": json.dumps({"class_name": name, "mimetype": "text/x"})}
        store.client.upsert(Records(["r"], EMBEDDER.embed_documents(["A river."]), [held], ["A river."]))
        (found,) = store.get_nodes(["r"])
        assert found == TextNode(id_="r", text="A river.", mimetype="text/x")
    (found,) = store.get_nodes(["d"])
    assert found == TextNode(id_="d", text="whole", metadata={"a": 1})


def test_records_of_earlier_versions_are_read(store: VecbenchVectorStore) -> None:
    """They have the class, but nothing of the text beside the text."""
    held = {"_vecbench_node": json.dumps({"class_name": "Node", "id_": "r"})}
    store.client.upsert(Records(["r"], EMBEDDER.embed_documents(["A river."]), [held], ["A river."]))
    assert store.get_nodes(["r"]) == [Node(id_="r", text_resource=MediaResource(text="A river."))]


def test_what_is_no_json_is_refused(store: VecbenchVectorStore) -> None:
    bad = IndexNode(id_="bad", text="x", index_id="i", obj=threading.Lock(), embedding=vector_of("x"))
    with pytest.raises(InvalidMetadata, match="node 'bad' holds what cannot be written as JSON"):
        store.add([TextNode(id_="good", text="x", embedding=vector_of("x")), bad])
    assert store.client.count() == 0


def ids(retriever: BaseRetriever, text: str) -> list[str]:
    found = [one.node.node_id for one in retriever.retrieve(text)]
    assert [one.node.node_id for one in asyncio.run(retriever.aretrieve(text))] == found
    return found


def test_retrieval_goes_on_into_what_an_index_node_is_for(store: VecbenchVectorStore) -> None:
    inner = VectorStoreIndex([TextNode(id_="inner", text="the inner answer")], embed_model=EMBEDDING)
    found = []
    for vectors in (store, SimpleVectorStore()):
        outer = VectorStoreIndex(
            objects=[
                IndexNode(id_="i", text="yearly report", index_id="reports", obj=inner.as_retriever()),
                IndexNode(id_="j", text="a note", index_id="notes", obj=TextNode(id_="note", text="x")),
            ],
            storage_context=StorageContext.from_defaults(vector_store=vectors),
            embed_model=EMBEDDING,
        )
        found.append([ids(outer.as_retriever(similarity_top_k=1), text) for text in ("yearly report", "a note")])
    assert found == [[["inner"], ["note"]]] * 2


def test_texts_beside_index_nodes(store: VecbenchVectorStore) -> None:
    """`as_retriever` names the nodes that LlamaIndex kept beside the store, which are no texts; these two name none."""
    inner = VectorStoreIndex([TextNode(id_="inner", text="the inner answer")], embed_model=EMBEDDING)
    node = IndexNode(id_="i", text="yearly report", index_id="reports")
    index = VectorStoreIndex(
        [TextNode(id_="plain", text="plain text"), node],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=EMBEDDING,
    )
    objects = {"reports": inner.as_retriever()}
    assert set(ids(VectorIndexRetriever(index, similarity_top_k=5, object_map=objects), "text")) == {"plain", "inner"}
    again = VectorStoreIndex.from_vector_store(store, embed_model=EMBEDDING)
    assert set(ids(again.as_retriever(similarity_top_k=5), "text")) == {"plain", "i"}


# Many ids with a query ------------------------------------------------------------------------------------------------

N, STEP = 400, 50


def many(opened: VectorStore, metric: Metric, monkeypatch: pytest.MonkeyPatch) -> tuple[VecbenchVectorStore, Any]:
    """N nodes, every fifth a copy of another, and what is asked of their collection: the calls of get and search."""
    collection = opened.create_collection(CollectionSpec("many", 8, metric))
    vectors = np.random.default_rng(5).normal(size=(N, 8)).astype(np.float32)
    vectors[::5] = vectors[7]
    store = VecbenchVectorStore(collection)
    store.add([TextNode(id_=f"{i}", metadata={"n": i % 3}, embedding=v.tolist()) for i, v in enumerate(vectors)])
    calls: dict[str, list[int]] = {"get": [], "search": []}
    get, search = collection.get, collection.search

    def noted_get(wanted: Any, **options: Any) -> Records:
        calls["get"].append(len(wanted))
        return get(wanted, **options)

    def noted_search(vectors: Any, k: int, **options: Any) -> Any:
        calls["search"].append(k)
        return search(vectors, k, **options)

    monkeypatch.setattr(collection, "get", noted_get)
    monkeypatch.setattr(collection, "search", noted_search)
    monkeypatch.setattr(llama_index, "_CHUNK", STEP)
    return store, (vectors, calls)


def ranked(vectors: Any, metric: Metric, given: list[str], query: Any) -> list[str]:
    """By the definition of each metric; of two that are equally near the one whose id came first."""
    x, q = vectors.astype(float), query.astype(float)
    far = {
        Metric.EUCLIDEAN: lambda: np.linalg.norm(x - q, axis=1),
        Metric.COSINE: lambda: 1 - (x * q).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(q),
        Metric.DOT: lambda: -(x * q).sum(1),
    }[metric]()
    return sorted((id_ for id_ in dict.fromkeys(given) if id_.isdigit()), key=lambda id_: round(far[int(id_)], 9))


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("exact", [True, False])
def test_the_nearest_of_many_ids_are_exact(
    opened: VectorStore, metric: Metric, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the collection is searched or the vectors are read, which a store without exact search needs."""
    store, (vectors, calls) = many(opened, metric, monkeypatch)
    capabilities = replace(store.client.store.capabilities, exact_search=exact)
    monkeypatch.setattr(store.client.store, "capabilities", capabilities)
    rng = np.random.default_rng(6)
    mixed = [f"{i}" for i in rng.permutation(N)]
    for given in (mixed, mixed[: N // 2], mixed[: N // 6], [*mixed, "nobody", *mixed[:9]], ["nobody"] * 3, mixed[:3]):
        for k, n in ((1, None), (4, 1), (90, None), (N, 2)):
            for query in (vectors[7], rng.normal(size=8).astype(np.float32)):
                filters = None if n is None else MetadataFilters(filters=[MetadataFilter(key="n", value=n)])
                asked = VectorStoreQuery(query.tolist(), similarity_top_k=k, node_ids=given, filters=filters)
                expected = [i for i in ranked(vectors, metric, given, query) if n is None or int(i) % 3 == n][:k]
                assert store.query(asked).ids == expected
    assert max(calls["get"]) <= STEP
    assert bool(calls["search"]) is exact


def test_the_ids_of_a_whole_collection_are_not_read_one_by_one(
    opened: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (_, calls) = many(opened, Metric.EUCLIDEAN, monkeypatch)
    query = np.random.default_rng(7).normal(size=8).tolist()
    everything = [f"{i}" for i in range(N)]
    for mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
        free = store.query(VectorStoreQuery(query, similarity_top_k=3, mode=mode))
        calls["search"].clear()
        restricted = store.query(VectorStoreQuery(query, similarity_top_k=3, mode=mode, node_ids=everything))
        assert restricted.ids == free.ids
        assert restricted.similarities == pytest.approx(free.similarities or [], abs=1e-6)
        assert calls["get"] == []
        assert sum(calls["search"]) < N / 4
    calls["search"].clear()
    few = everything[: STEP + 1 - 9]  # few enough to be read at once
    store.query(VectorStoreQuery(query, similarity_top_k=3, node_ids=few))
    assert (calls["get"], calls["search"]) == ([len(few)], [])


def test_a_few_ids_of_a_large_collection_are_read(opened: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store, (_, calls) = many(opened, Metric.EUCLIDEAN, monkeypatch)
    monkeypatch.setattr(llama_index, "_CHUNK", 10)
    store.query(VectorStoreQuery([1.0] * 8, similarity_top_k=3, node_ids=[f"{i}" for i in range(25)]))
    assert (calls["get"], calls["search"]) == ([10, 10, 5], [])


def test_an_index_that_keeps_the_nodes_itself(store: VecbenchVectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_index, "_CHUNK", 20)

    def index(vectors: BasePydanticVectorStore) -> VectorStoreIndex:
        nodes = [TextNode(id_=f"{i}", text=f"text {i} of the {'cat' if i % 7 else 'dog'}") for i in range(60)]
        context = StorageContext.from_defaults(vector_store=vectors)
        return VectorStoreIndex(nodes, storage_context=context, embed_model=EMBEDDING, store_nodes_override=True)

    ours, theirs = index(store), index(SimpleVectorStore())
    for text in ("text 5", "the dog 14", "cat"):
        found = ids(ours.as_retriever(similarity_top_k=3), text)
        assert found[0] == ids(theirs.as_retriever(similarity_top_k=3), text)[0]
        assert len(found) == 3


# Pickling -------------------------------------------------------------------------------------------------------------


def test_the_embedding_model_pickles_with_its_embedder() -> None:
    """So that an ingestion pipeline can give it to other processes."""
    given = LlamaIndexEmbedding.of(EMBEDDER)
    given.embed_batch_size = 3
    made = pickle.loads(pickle.dumps(given))  # noqa: S301 - made here
    assert (made.model_name, made.embed_batch_size) == (given.model_name, 3)
    assert made.get_text_embedding("a text") == vector_of("a text")
    assert asyncio.run(made.aget_query_embedding("a text")) == vector_of("a text")


class Held(WordEmbedder):
    """Holds what no pickle can."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_an_embedder_that_does_not_pickle_says_so() -> None:
    with pytest.raises(ConfigError, match=r"the embedder words .* cannot be pickled, .*TypeError: .*lock"):
        pickle.dumps(LlamaIndexEmbedding.of(Held()))
