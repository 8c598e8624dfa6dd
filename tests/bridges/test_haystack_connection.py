"""Haystack document stores that name one store share it, close it once, and write no secret into YAML."""

from __future__ import annotations

import asyncio
import copy
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.errors import DocumentStoreError
from haystack.utils import Secret

from vecbench import CollectionSpec, connect
from vecbench.bridges import haystack as bridge
from vecbench.bridges import haystack_connection
from vecbench.bridges.haystack import VecbenchDocumentStore, VecbenchEmbeddingRetriever
from vecbench.errors import ConfigError, StoreClosed
from vecbench.memory import MemoryStore
from vecbench.store import Collection, VectorStore

STORES = ("faiss", "qdrant", "chroma")  # those that hold a directory and need no engine started
DOCUMENT = Document(id="a", content="x", embedding=[1.0, 0.0, 0.0, 0.0])
QUERY = [1.0, 0.0, 0.0, 0.0]


def pipeline(store: VecbenchDocumentStore) -> Pipeline:
    made = Pipeline()
    made.add_component("writer", DocumentWriter(store))
    made.add_component("retriever", VecbenchEmbeddingRetriever(store))
    return made


def loaded(yaml: str) -> Pipeline:
    return Pipeline.loads(yaml, allowed_modules=["vecbench.bridges.haystack"])


def written_and_found(made: Pipeline) -> list[str]:
    """The ids that the retriever finds after the writer wrote; two runs, as components without a link have no order."""
    made.run({"writer": {"documents": [DOCUMENT], "policy": "overwrite"}}, include_outputs_from=set())
    found = made.run({"retriever": {"query_embedding": QUERY}})
    return [document.id for document in found["retriever"]["documents"]]


def component(made: Pipeline, name: str) -> Any:
    return made.get_component(name)


def test_a_restored_pipeline_writes_and_finds(store_name: str, tmp_path: Path) -> None:
    store = VecbenchDocumentStore(store_name, path=str(tmp_path), dim=4)
    yaml = pipeline(store).dumps()
    restored = loaded(yaml)
    component(restored, "writer").run([DOCUMENT])
    (found,) = component(restored, "retriever").run(QUERY)["documents"]
    assert found.id == "a"
    assert store.count_documents() == 1  # the one that the YAML was made of shares it too
    restored.close()
    assert store.count_documents() == 1  # and has it still
    store.close()
    with connect(store_name, path=tmp_path) as free:  # nobody holds the directory
        assert free.get_collection("haystack").count() == 1


def test_closing_a_pipeline_that_only_searches_frees_the_directory(tmp_path: Path) -> None:
    writing = VecbenchDocumentStore("faiss", path=tmp_path, dim=4)
    writing.write_documents([DOCUMENT])
    writing.close()
    for use_async in (False, True):
        searching = Pipeline()
        store = VecbenchDocumentStore("faiss", path=tmp_path)
        searching.add_component("retriever", VecbenchEmbeddingRetriever(store))
        assert searching.run({"retriever": {"query_embedding": QUERY}})["retriever"]["documents"][0].id == "a"
        asyncio.run(searching.close_async()) if use_async else searching.close()
        connect("faiss", path=tmp_path).close()


def test_close_async_of_a_pipeline_that_writes_frees_the_directory(tmp_path: Path) -> None:
    made = loaded(pipeline(VecbenchDocumentStore("faiss", path=tmp_path, dim=4)).dumps())
    component(made, "writer").run([DOCUMENT])
    assert len(component(made, "retriever").run(QUERY)["documents"]) == 1
    asyncio.run(made.close_async())
    connect("faiss", path=tmp_path).close()


def test_the_last_to_close_closes_and_twice_counts_once(tmp_path: Path) -> None:
    a, b = (VecbenchDocumentStore("faiss", path=path, dim=4) for path in (tmp_path, tmp_path / ".." / tmp_path.name))
    assert a.write_documents([DOCUMENT]) == 1
    assert b.count_documents() == 1
    assert a.collection.store is b.collection.store
    kept = b.collection
    a.close()
    a.close()
    assert b.count_documents() == 1
    b.close()
    with pytest.raises(StoreClosed):
        kept.count()
    assert a.count_documents() == 1  # opens again
    a.close()


def test_what_is_dropped_unclosed_holds_nothing(tmp_path: Path) -> None:
    a, b = (VecbenchDocumentStore("faiss", path=tmp_path, dim=4) for _ in range(2))
    assert (a.count_documents(), b.count_documents()) == (0, 0)
    kept = a.collection
    del b
    gc.collect()
    a.close()  # the last one left
    with pytest.raises(StoreClosed):
        kept.count()
    gc.disable()  # a store and its collections refer to each other: dropped ones stay until they are collected
    try:
        for n in range(2):
            dropped = VecbenchDocumentStore("faiss", path=tmp_path, dim=4)
            assert dropped.count_documents() == n
            dropped.write_documents([Document(id=str(n), content="x", embedding=QUERY)])
            del dropped
    finally:
        gc.enable()
    collection = VecbenchDocumentStore("faiss", path=tmp_path).collection
    gc.collect()
    assert collection.count() == 2  # in use, whatever it was made by
    del collection
    gc.collect()
    connect("faiss", path=tmp_path).close()


def test_a_store_that_knows_none_of_its_collections_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class Forgetful(MemoryStore):
        def _create(self, spec: CollectionSpec) -> Collection:
            made = super()._create(spec)
            self._collections.clear()  # nothing but the document store holds it now, and through it the store
            return made

        def _close(self) -> None:
            closed.append(self.name)

    monkeypatch.setattr(bridge, "connect", lambda name, **options: Forgetful())
    store = VecbenchDocumentStore("memory", dim=4)
    assert store.count_documents() == 0
    gc.collect()  # of frames that an exception on the way holds
    store.close()
    assert closed == ["memory"]


def test_other_options_are_another_store(tmp_path: Path) -> None:
    one, other, third = (
        VecbenchDocumentStore("faiss", instance="x", dim=4, options=options)
        for options in ({"threads": 1}, {"threads": 2}, {"threads": Secret.from_token("1")})
    )
    one.write_documents([DOCUMENT])
    assert other.count_documents() == 0
    assert [one.collection.store is made.collection.store for made in (one, other)] == [True, False]
    for made in (one, other, third):
        made.close()


def test_a_secret_names_the_same_store_as_what_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, Any]] = []

    def open_memory(name: str, **options: Any) -> VectorStore:
        opened.append({"name": name, **options})
        return connect("memory")

    monkeypatch.setattr(bridge, "connect", open_memory)
    monkeypatch.setenv("MY_KEY", "sk-1234")
    monkeypatch.setenv("MY_URL", "http://u:pw-5678@h")
    secret = {"api_key": Secret.from_env_var("MY_KEY")}
    a = VecbenchDocumentStore("qdrant", url=Secret.from_env_var("MY_URL"), dim=4, options=secret)
    b = VecbenchDocumentStore("qdrant=http://u:pw-5678@h", dim=4, options={"api_key": "sk-1234"})
    a.write_documents([DOCUMENT])
    assert b.count_documents() == 1
    assert opened == [{"name": "qdrant", "url": "http://u:pw-5678@h", "path": None, "api_key": "sk-1234"}]
    assert not any(word in repr(dict(haystack_connection._SHARED)) for word in ("1234", "5678"))
    a.close()
    b.close()


def test_memory_is_one_where_it_is_restored_and_two_where_it_is_made() -> None:
    one, two = (VecbenchDocumentStore("memory", dim=4) for _ in range(2))
    assert (one.write_documents([DOCUMENT]), two.count_documents()) == (1, 0)
    yaml = pipeline(one).dumps()
    restored = loaded(yaml)
    other = Document(id="b", content="y", embedding=[0.0, 1.0, 0.0, 0.0])
    assert component(restored, "writer").run([other]) == {"documents_written": 1}
    assert [d.id for d in component(restored, "retriever").run(QUERY)["documents"]] == ["a", "b"]
    one.close()
    assert component(loaded(yaml), "retriever").document_store.count_documents() == 2  # others have it open
    restored.close()
    named = [VecbenchDocumentStore("memory", instance="kb", dim=4) for _ in range(2)]
    named[0].write_documents([DOCUMENT])
    assert named[1].count_documents() == 1


def test_of_a_collection_is_not_shared_nor_closed() -> None:
    collection = connect("memory").create_collection(CollectionSpec("haystack", 4))
    a, b = VecbenchDocumentStore.of(collection), VecbenchDocumentStore("memory", dim=4)
    a.write_documents([DOCUMENT])
    assert b.count_documents() == 0
    a.close()
    assert (a.count_documents(), collection.count()) == (1, 1)


def test_threads_that_start_together_open_one_store(tmp_path: Path) -> None:
    same = VecbenchDocumentStore("faiss", path=tmp_path, dim=4)
    stores = [same, same, *(VecbenchDocumentStore("faiss", path=tmp_path, dim=4) for _ in range(6))]
    start = threading.Barrier(len(stores))

    def use(store: VecbenchDocumentStore) -> int:
        start.wait(timeout=10)
        return store.count_documents()

    with ThreadPoolExecutor(len(stores)) as pool:
        assert list(pool.map(use, stores)) == [0] * len(stores)
    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(VecbenchDocumentStore.close, stores))
    connect("faiss", path=tmp_path).close()


def test_a_store_that_was_closed_under_it_is_opened_for_the_next(tmp_path: Path) -> None:
    a, b = (VecbenchDocumentStore("faiss", path=tmp_path, dim=4) for _ in range(2))
    a.write_documents([DOCUMENT])
    a.collection.store.close()
    assert b.count_documents() == 1
    a.close()
    assert b.count_documents() == 1
    b.close()


def test_what_cannot_be_opened_holds_nothing(tmp_path: Path) -> None:
    a = VecbenchDocumentStore("faiss", path=tmp_path, dim=4)
    assert a.count_documents() == 0
    refused = VecbenchDocumentStore("faiss", path=tmp_path, collection="other")
    with pytest.raises(ConfigError, match="give dim="):
        refused.count_documents()
    kept = a.collection
    a.close()
    with pytest.raises(StoreClosed):
        kept.count()


def test_from_dict_leaves_its_argument_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"api_key": Secret.from_env_var("MY_KEY"), "analysis": {"type": "custom", "inner": {"type": "env_var"}}}
    store = VecbenchDocumentStore("elasticsearch", url="http://localhost:9200", dim=4, options=options)
    data = VecbenchEmbeddingRetriever(store, scale_score=True, filter_policy="merge").to_dict()
    before = copy.deepcopy(data)
    made = [VecbenchEmbeddingRetriever.from_dict(data) for _ in range(2)]
    assert data == before
    assert [retriever.to_dict() for retriever in made] == [before, before]
    assert made[0].document_store._options == options  # the Secret again, and a dictionary with a "type" as it was
    stores = [VecbenchDocumentStore.from_dict(data["init_parameters"]["document_store"]) for _ in range(2)]
    assert data == before
    assert [store.to_dict() for store in stores] == [before["init_parameters"]["document_store"]] * 2


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"store": "pinecone", "options": {"api_key": "hush-1"}}, "option 'api_key' would be written in clear"),
        ({"store": "milvus", "options": {"token": "hush-1"}}, r'"token": Secret.from_env_var'),
        ({"store": "x", "options": {"headers": {"Authorization": "hush-1"}}}, "option 'Authorization'"),
        ({"store": "x", "options": {"proxy": "http://u:hush-1@h"}}, "option 'proxy'"),
        ({"store": "pgvector", "url": "postgresql://u:hush-1@h/db"}, "the url holds a password"),
        ({"store": "pgvector", "url": "postgresql://h/db?password=hush-1"}, "the url holds a password"),
        ({"store": "pgvector", "url": "host=h password=hush-1"}, "the url holds a password"),
        ({"store": "redisearch=redis://:hush-1@h"}, "the url holds a password"),
    ],
)
def test_a_secret_in_clear_is_not_written(wanted: dict[str, Any], match: str) -> None:
    store = VecbenchDocumentStore(**wanted)
    with pytest.raises(DocumentStoreError, match=match) as refused:
        store.to_dict()
    assert "hush" not in str(refused.value)
    with pytest.raises(DocumentStoreError, match=match):
        VecbenchEmbeddingRetriever(store).to_dict()


def test_what_is_no_secret_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    store = VecbenchDocumentStore(
        "pgvector",
        url="postgresql://me@localhost/db",
        options={"max_tokens": 5, "api_key": None, "user": "me", "password": Secret.from_env_var("MY_PASSWORD")},
    )
    assert VecbenchDocumentStore.from_dict(store.to_dict()).to_dict() == store.to_dict()
    secret = VecbenchDocumentStore("pgvector", url=Secret.from_env_var("MY_URL"))
    monkeypatch.setenv("MY_URL", "postgresql://u:hush-1@h/db")
    yaml = pipeline(secret).dumps()
    assert "hush" not in yaml
    restored = component(loaded(yaml), "retriever").document_store
    assert restored.to_dict() == secret.to_dict()
    assert restored._init["url"].resolve_value() == "postgresql://u:hush-1@h/db"
    token = VecbenchDocumentStore("pinecone", options={"api_key": Secret.from_token("hush-1")})
    with pytest.raises(ValueError, match="token-based") as refused:
        token.to_dict()
    assert "hush" not in str(refused.value)


def test_the_table_keeps_nothing_that_is_not_open() -> None:
    gc.collect()
    before = len(haystack_connection._SHARED)
    store = VecbenchDocumentStore("memory", dim=4)
    assert store.count_documents() == 0
    assert len(haystack_connection._SHARED) == before + 1
    store.close()
    gc.collect()
    assert len(haystack_connection._SHARED) == before
