"""LangChain's own standard tests of a vector store, on every store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests

from vecbench import CollectionSpec, EmbedderSpec, connect
from vecbench.bridges.langchain import VecbenchVectorStore, from_langchain_embeddings
from vecbench.index import parse_index
from vecbench.store import VectorStore as OpenedStore


@pytest.fixture(scope="module")
def store(store_name: str, options: dict[str, Any]) -> Iterator[OpenedStore]:
    with connect(store_name, **options) as opened:
        yield opened


class TestStandard(VectorStoreIntegrationTests):
    """The embeddings are the suite's: they tell texts apart, nothing more."""

    @pytest.fixture
    def vectorstore(self, store: OpenedStore, index: str) -> Iterator[VectorStore]:
        theirs = self.get_embeddings()
        spec = EmbedderSpec("standard", len(theirs.embed_query("any")), revision="1")
        collection = store.create_collection(
            CollectionSpec("standard", spec.dim, index=parse_index(index), embedder=spec)
        )
        yield VecbenchVectorStore(collection, from_langchain_embeddings(theirs, spec))
        store.drop_collection("standard")
