"""A collection as a LlamaIndex vector store, and an embedder of ours as a LlamaIndex embedding model.

    store = VecbenchVectorStore(collection=collection, embedder=embedder)
    index = VectorStoreIndex.from_vector_store(store, embed_model=LlamaIndexEmbedding.of(embedder))

Needs the extra `llama-index`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from vecbench.bridges.llama_index_filters import from_llama_index_filters
from vecbench.bridges.shared import HIDDEN, agreed, flat, marginal, refuse, require_embedder, visible
from vecbench.collection import Collection
from vecbench.distance import exact_distances
from vecbench.embed.spec import Embedder, EmbedderSpec
from vecbench.errors import ConfigError, InvalidVector, MissingDependency
from vecbench.filters import Eq, Exists, Filter, In, Not, Or, matches
from vecbench.types import INCLUDE_ALL, Hit, Include, Metadata, Records, Vectors, similarity

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import BaseNode, MetadataMode, TextNode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
except ImportError as error:
    raise MissingDependency("The bridge to LlamaIndex", module="llama_index.core", extra="llama-index") from error

__all__ = ["LlamaIndexEmbedding", "VecbenchVectorStore", "from_llama_index_filters"]

_NODE, _DOCUMENT = f"{HIDDEN}node", f"{HIDDEN}ref_doc"
_TEXT: tuple[Include, ...] = ("metadata", "documents")


class LlamaIndexEmbedding(BaseEmbedding):
    """One of our embedders as a LlamaIndex embedding model; make it with `of`."""

    _embedder: Embedder = PrivateAttr()

    @classmethod
    def of(cls, embedder: Embedder) -> LlamaIndexEmbedding:
        """The embedding model for an embedder; its name carries the fingerprint."""
        made = cls(model_name=embedder.spec.describe())
        made._embedder = embedder
        return made

    def _get_query_embedding(self, query: str) -> list[float]:
        return [float(x) for x in self._embedder.embed_queries([query])[0]]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return [[float(x) for x in row] for row in self._embedder.embed_documents(texts)]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class VecbenchVectorStore(BasePydanticVectorStore):
    """A collection of any store as a LlamaIndex vector store.

    What was added can be queried at once. Similarities: 1 − d under cosine, 1 / (1 + d) under Euclid, −d under dot.
    Modes DEFAULT and MMR; filters by `from_llama_index_filters`; what a collection cannot do is refused. Records that
    others wrote (our own RAG, another bridge) come back as text nodes.
    """

    stores_text: bool = True
    _collection: Collection = PrivateAttr()

    def __init__(self, collection: Collection, embedder: Embedder | EmbedderSpec | None = None) -> None:
        """embedder: the one whose vectors will come; needed where the collection names one, and must be that one."""
        super().__init__(stores_text=True)
        require_embedder(collection, embedder)
        self._collection = collection

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serializes it."""
        return "VecbenchVectorStore"

    @property
    def client(self) -> Collection:
        """The collection."""
        return self._collection

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Write nodes with their embeddings, each replacing the record of the same id; returns the ids."""
        if not nodes:
            return []
        vectors = [_embedding(node) for node in nodes]
        records = Records(
            [node.node_id for node in nodes],
            np.array(vectors, np.float32),
            [_to_metadata(node) for node in nodes],
            [node.get_content(metadata_mode=MetadataMode.NONE) for node in nodes],
            None if self._collection.spec.embedder is None else self._collection.spec.embedder.fingerprint,
        )
        self._collection.upsert(records)
        self._collection.flush()
        return list(records.ids)

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Await `add`; the loop is not blocked."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete all nodes of a source document."""
        self._collection.delete(where=Eq(_DOCUMENT, ref_doc_id))
        self._collection.flush()

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Await `delete`."""
        await asyncio.to_thread(self.delete, ref_doc_id)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes by id, by filter, or those of the ids that pass the filter."""
        where = from_llama_index_filters(filters)
        if node_ids is None and where is None:
            raise ConfigError("delete_nodes takes node_ids or filters; clear() deletes everything")
        if node_ids is None:
            self._collection.delete(where=where)
        else:
            self._collection.delete(ids=self._of(node_ids, where).ids)
        self._collection.flush()

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Await `delete_nodes`."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters)

    def clear(self) -> None:
        """Delete every record of the collection."""
        anything = Exists(_NODE)
        self._collection.delete(where=Or((anything, Not(anything))))
        self._collection.flush()

    async def aclear(self) -> None:
        """Await `clear`."""
        await asyncio.to_thread(self.clear)

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes of these ids in their order, or those that pass the filter, or all."""
        where = from_llama_index_filters(filters)
        if node_ids is not None:
            return _nodes(self._of(node_ids, where))
        return [node for batch in self._collection.scan(where=where) for node in _nodes(batch)]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Await `get_nodes`."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nearest nodes; filters, `doc_ids` and `node_ids` apply before they are chosen."""
        if kwargs:
            raise ConfigError(f"unknown options {sorted(kwargs)} of query")
        if query.mode not in {VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR}:
            raise refuse(f"the query mode {query.mode.value!r}")
        if query.query_embedding is None:
            raise ConfigError("the query has no embedding; a collection is searched by vector")
        # LlamaIndex's index passes empty lists where it means no restriction.
        documents = In(_DOCUMENT, query.doc_ids) if query.doc_ids else None
        where = agreed([from_llama_index_filters(query.filters), documents])
        vector = np.array([query.query_embedding], np.float32)
        k, metric = query.similarity_top_k, self._collection.spec.metric
        mmr = query.mode is VectorStoreQueryMode.MMR
        # LlamaIndex's own stores look at four times as many before they choose by marginal relevance.
        wanted = 4 * k if mmr else k
        if query.node_ids:
            hits = self._nearest_of(query.node_ids, where, vector, wanted)
        else:
            include: tuple[Include, ...] = INCLUDE_ALL if mmr else _TEXT
            hits = list(self._collection.search(vector, wanted, where=where, include=include).hits())
        if mmr:
            weight = 0.5 if query.mmr_threshold is None else query.mmr_threshold
            hits = marginal(vector[0], hits, k, relevance=weight, metric=metric)
        return VectorStoreQueryResult(
            nodes=[_node(hit.id, hit.document, hit.metadata) for hit in hits],
            similarities=[similarity(hit.distance, metric) for hit in hits],
            ids=[hit.id for hit in hits],
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Await `query`."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _of(self, ids: Sequence[str], where: Filter | None, include: tuple[Include, ...] = _TEXT) -> Records:
        found = self._collection.get(ids, include=include)
        if where is None:
            return found
        return found.take([i for i, m in enumerate(found.metadata or ()) if matches(where, m)])

    def _nearest_of(self, ids: Sequence[str], where: Filter | None, vector: Vectors, k: int) -> list[Hit]:
        """The nearest among given ids: they are few, so all are compared."""
        found = self._of(ids, where, INCLUDE_ALL)
        if not found.ids or found.vectors is None or found.metadata is None or found.documents is None:
            return []
        distances = exact_distances(vector, found.vectors, self._collection.spec.metric)[0]
        order: list[int] = np.argsort(distances, kind="stable")[:k].tolist()
        return [
            Hit(found.ids[i], float(distances[i]), found.vectors[i], found.metadata[i], found.documents[i])
            for i in order
        ]


def _embedding(node: BaseNode) -> list[float]:
    if node.embedding is None:
        raise InvalidVector(f"node {node.node_id!r} has no embedding; run an embedding model first")
    return node.embedding


def _to_metadata(node: BaseNode) -> dict[str, Any]:
    """A node's metadata, and the rest of it (relationships, templates) as JSON under a hidden key."""
    rest = node.model_dump(mode="json", exclude={"metadata", "embedding", "text", "text_resource"})
    metadata: dict[str, Any] = flat(node.metadata, f"node {node.node_id!r}")
    metadata[_NODE] = json.dumps(rest)
    if node.ref_doc_id is not None:
        metadata[_DOCUMENT] = node.ref_doc_id
    return metadata


def _node(id_: str, text: str | None, metadata: Metadata | None) -> BaseNode:
    held = (metadata or {}).get(_NODE)
    rest = json.loads(held) if isinstance(held, str) else {}
    return TextNode.from_dict({**rest, "id_": id_, "metadata": visible(metadata), "text": text or ""})


def _nodes(records: Records) -> list[BaseNode]:
    rows = zip(records.ids, records.documents or (), records.metadata or (), strict=True)
    return [_node(id_, text, metadata) for id_, text, metadata in rows]
