"""What every bridge does alike: asynchronous verbs never block the loop, and writes can be read at once."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from haystack import Document
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery

from vecbench import CollectionSpec, connect
from vecbench.bridges import haystack, langchain, llama_index
from vecbench.collection import Collection
from vecbench.embed.spec import Progress
from vecbench.types import Vectors

from .words import DIM, WordEmbedder


class Waiting(WordEmbedder):
    """Gives no vector before `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        assert self.go.wait(20), "the loop was blocked: it could not set the event"
        return super().embed_documents(texts)


def _langchain_add(c: Collection, e: Waiting) -> Awaitable[object]:
    return langchain.VecbenchVectorStore(c, e).aadd_texts(["a text"])


def _langchain_search(c: Collection, e: Waiting) -> Awaitable[object]:
    return langchain.VecbenchVectorStore(c, e).asimilarity_search("a text")


def _langchain_mmr(c: Collection, e: Waiting) -> Awaitable[object]:
    return langchain.VecbenchVectorStore(c, e).as_retriever(search_type="mmr").ainvoke("a text")


def _llama_embed(c: Collection, e: Waiting) -> Awaitable[object]:
    return llama_index.LlamaIndexEmbedding.of(e).aget_query_embedding("a text")


def _haystack_write(c: Collection, e: Waiting) -> Awaitable[object]:
    store = haystack.VecbenchDocumentStore.of(c, e)
    return store.write_documents_async([Document(content="a text")])


@pytest.mark.parametrize("verb", [_langchain_add, _langchain_search, _langchain_mmr, _llama_embed, _haystack_write])
def test_embedding_happens_beside_the_loop(verb: Callable[[Collection, Waiting], Awaitable[object]]) -> None:
    embedder = Waiting()

    async def run() -> object:
        collection = connect("memory").create_collection(CollectionSpec("c", DIM, embedder=embedder.spec))
        asyncio.get_running_loop().call_later(0.01, embedder.go.set)
        return await verb(collection, embedder)

    assert asyncio.run(run()) is not None


def _writes() -> list[Any]:
    filters = MetadataFilters(filters=[MetadataFilter(key="kind", value="plant")])
    node = TextNode(id_="n", text="x", embedding=[1.0] * DIM)
    document = Document(id="d", content="x", embedding=[1.0] * DIM)
    return [
        lambda c, e: langchain.VecbenchVectorStore(c, e).add_texts(["x"]),
        lambda c, e: langchain.VecbenchVectorStore(c, e).delete(["x"]),
        lambda c, e: llama_index.VecbenchVectorStore(c, e).add([node]),
        lambda c, e: llama_index.VecbenchVectorStore(c, e).delete("x"),
        lambda c, e: llama_index.VecbenchVectorStore(c, e).delete_nodes(filters=filters),
        lambda c, e: llama_index.VecbenchVectorStore(c, e).clear(),
        lambda c, e: haystack.VecbenchDocumentStore.of(c, e).write_documents([document]),
        lambda c, e: haystack.VecbenchDocumentStore.of(c, e).delete_documents(["x"]),
    ]


@pytest.mark.parametrize("write", _writes())
def test_what_was_written_is_flushed(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = WordEmbedder()
    collection = connect("memory").create_collection(CollectionSpec("c", DIM, embedder=embedder.spec))
    done: list[str] = []
    for verb in ("upsert", "delete", "flush"):
        monkeypatch.setattr(collection, verb, functools.partial(_noting, done, verb, getattr(collection, verb)))
    write(collection, embedder)
    assert len(done) == 2
    assert done[1] == "flush"


def _noting(done: list[str], verb: str, call: Callable[..., object], *args: object, **kwargs: object) -> object:
    done.append(verb)
    return call(*args, **kwargs)


def test_a_query_of_llama_index_is_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    collection = connect("memory").create_collection(CollectionSpec("c", DIM))
    store = llama_index.VecbenchVectorStore(collection)
    threads: list[threading.Thread] = []
    search = collection.search

    def noting(*args: object, **kwargs: object) -> object:
        threads.append(threading.current_thread())
        return search(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(collection, "search", noting)
    found = asyncio.run(store.aquery(VectorStoreQuery(query_embedding=[1.0] * DIM)))
    assert found.ids == []
    assert threads
    assert threads[0] is not threading.main_thread()
