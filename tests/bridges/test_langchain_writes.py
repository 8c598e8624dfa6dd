"""What LangChain writes and deletes through the bridge, held against its own in-memory store, and its indexing API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from vecbench import CollectionSpec, connect
from vecbench.bridges.langchain import LangChainEmbeddings, VecbenchVectorStore
from vecbench.embed.spec import Progress
from vecbench.errors import ConfigError, InvalidId, InvalidMetadata
from vecbench.filters import And
from vecbench.types import Vectors

from .words import DIM, FACTS, WordEmbedder

STORES = ("memory", "faiss")


@pytest.fixture
def empty(store_name: str) -> Iterator[VecbenchVectorStore]:
    """Of each of STORES that was asked for."""
    with connect(store_name) as opened:
        spec = CollectionSpec("empty", DIM, embedder=WordEmbedder().spec)
        yield VecbenchVectorStore(opened.create_collection(spec), WordEmbedder())


def test_only_a_filter_deletes_everything(empty: VecbenchVectorStore) -> None:
    """A variable that happens to be None does not; what the message says does."""
    empty.add_texts([text for _, text, _ in FACTS], [m for _, _, m in FACTS])
    with pytest.raises(ConfigError, match=r"to delete everything, filter=And\(\(\)\)"):
        empty.delete()
    with pytest.raises(ConfigError, match="to delete everything"):
        asyncio.run(empty.adelete(None))
    assert empty.delete([])
    assert empty.collection.count() == len(FACTS)
    assert empty.delete(filter=And(()))
    assert empty.collection.count() == 0


def held(store: VectorStore) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(store, InMemoryVectorStore):
        rows = [(row["text"], row["metadata"]) for row in store.store.values()]
    else:
        assert isinstance(store, VecbenchVectorStore)
        rows = [(d.page_content, d.metadata) for d in store.similarity_search("any", k=99)]
    return sorted(rows, key=str)


Cleanup = Literal["incremental", "full", "scoped_full"]


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize(
    ("cleanup", "left"),
    [
        (None, ["c is new", "c is old", "a", "b"]),  # the changed one is added, nothing is deleted
        ("incremental", ["c is new", "a", "b"]),  # of the sources seen, what is no more is deleted
        ("scoped_full", ["c is new", "a", "b"]),
        ("full", ["c is new", "b"]),
    ],
)
def test_the_indexing_api(
    empty: VecbenchVectorStore, cleanup: Cleanup | None, left: list[str], use_async: bool
) -> None:
    """Three documents, then one of them changed and one whose source is gone; LangChain's own store is beside it."""

    def document(text: str, source: str) -> Document:
        return Document(page_content=text, metadata={"source": source})

    first = [document("a", "s1"), document("b", "s2"), document("c is old", "s2")]
    second = [document("b", "s2"), document("c is new", "s2")]
    theirs = InMemoryVectorStore(LangChainEmbeddings(WordEmbedder()))
    managers = {id(store): InMemoryRecordManager("n") for store in (empty, theirs)}

    def run(store: VectorStore, documents: list[Document], *, force: bool = False) -> dict[str, int]:
        options: dict[str, Any] = {"cleanup": cleanup, "source_id_key": "source", "batch_size": 2}
        options |= {"key_encoder": "sha256", "force_update": force}
        if use_async:
            return dict(asyncio.run(aindex(documents, managers[id(store)], store, **options)))  # type: ignore[arg-type]
        return dict(index(documents, managers[id(store)], store, **options))  # type: ignore[arg-type]

    for documents, force in ((first, False), (first, False), (second, False), (second, True)):
        assert run(empty, documents, force=force) == run(theirs, documents, force=force)
        assert held(empty) == held(theirs)
    assert [text for text, _ in held(empty)] == sorted(left)
    assert run(empty, second) == {"num_added": 0, "num_updated": 0, "num_skipped": 2, "num_deleted": 0}
    assert run(empty, second, force=True)["num_updated"] == 2


class Counting(WordEmbedder):
    """Notes how many texts came with each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        self.calls.append(len(texts))
        return super().embed_documents(texts)


def test_texts_are_embedded_and_written_in_batches() -> None:
    embedder = Counting()
    spec = CollectionSpec("c", DIM, embedder=embedder.spec)
    store = VecbenchVectorStore(connect("memory").create_collection(spec), embedder)
    ids = store.add_texts(list("abcde"), [{"n": n} for n in range(5)], batch_size=2)
    assert embedder.calls == [2, 2, 1]
    assert [(d.page_content, d.metadata) for d in store.get_by_ids(ids)] == [
        (c, {"n": n}) for n, c in enumerate("abcde")
    ]
    embedder.calls.clear()
    asyncio.run(store.aadd_documents([Document(page_content=c) for c in "abc"], ids=["1", "2", "3"], batch_size=2))
    store.add_texts(list("abcde"))
    assert embedder.calls == [2, 1, 5]
    embedder.calls.clear()
    for wrong in (0, -1, True, 2.5):
        with pytest.raises(ConfigError, match="batch_size must be a whole number"):
            store.add_texts(["x"], batch_size=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"unknown options \['batchsize'\]; .* takes ids= and batch_size="):
        store.add_texts(["x"], batchsize=3)
    assert embedder.calls == []


@pytest.mark.parametrize(
    ("texts", "metadata", "ids", "error"),
    [
        (["x", "y"], [{}, {}], ["fine", "n\0"], InvalidId),
        (["x", "y"], [{}, {"n": 2**64}], ["fine", "too"], InvalidMetadata),
        (["x", "y\0"], [{}, {}], ["fine", "too"], InvalidMetadata),
    ],
)
def test_the_last_batch_is_checked_before_the_first_is_written(
    empty: VecbenchVectorStore, texts: list[str], metadata: list[dict[str, Any]], ids: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error, match="row 1"):
        empty.add_texts(texts, metadata, ids=ids, batch_size=1)
    assert empty.collection.count() == 0


@pytest.mark.parametrize("batch_size", [None, 1])
def test_of_texts_with_one_id_the_last_stays(empty: VecbenchVectorStore, batch_size: int | None) -> None:
    theirs = InMemoryVectorStore(LangChainEmbeddings(WordEmbedder()))
    documents = [Document(id=i, page_content=t, metadata={"t": t}) for i, t in (("q", "a"), ("r", "b"), ("q", "c"))]
    given = empty.add_documents(documents, batch_size=batch_size)
    assert given == theirs.add_documents(documents) == ["q", "r", "q"]
    assert held(empty) == held(theirs) == [("b", {"t": "b"}), ("c", {"t": "c"})]
    assert empty.similarity_search("c", k=1)[0].id == "q"


def test_texts_have_relevance_1_to_themselves(empty: VecbenchVectorStore) -> None:
    texts = [f"The cat number {i} sleeps on the warm roof {i * 7}." for i in range(40)]
    empty.add_texts(texts)
    for text in texts:  # a warning would be an error
        ((document, score),) = empty.similarity_search_with_relevance_scores(text, k=1)
        assert document.page_content == text
        assert 1 - 1e-6 < score <= 1
