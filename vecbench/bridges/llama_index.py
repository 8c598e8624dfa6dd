"""A collection as a LlamaIndex vector store, and an embedder of ours as a LlamaIndex embedding model.

    store = VecbenchVectorStore(collection=collection, embedder=embedder)
    index = VectorStoreIndex.from_vector_store(store, embed_model=LlamaIndexEmbedding.of(embedder))

Needs the extra `llama-index`.
"""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vecbench.bridges.llama_index_filters import DOCUMENT, EMPTY, from_llama_index_filters
from vecbench.bridges.shared import HIDDEN, agreed, flat, marginal, refuse, require_embedder, visible
from vecbench.checks import as_vectors
from vecbench.collection import Collection
from vecbench.distance import paired_distances
from vecbench.embed.spec import Embedder, EmbedderSpec
from vecbench.errors import ConfigError, InvalidMetadata, InvalidVector, MissingDependency
from vecbench.filters import Eq, Exists, Filter, In, Not, Or, matches
from vecbench.index import SearchParams
from vecbench.types import INCLUDE_ALL, Hit, Include, Metadata, Records, Vectors, similarity

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import BaseNode, ImageNode, IndexNode, MetadataMode, Node, TextNode
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

_NODE = f"{HIDDEN}node"
_TEXT: tuple[Include, ...] = ("metadata", "documents")
# What a record can come back as, by the name in it; any other, a Document too, is a text node, as LlamaIndex has it.
_CLASSES: dict[str, type[BaseNode]] = {made.class_name(): made for made in (Node, IndexNode, ImageNode)}
_MMR_OPTIONS = frozenset({"mmr_threshold", "mmr_prefetch_factor", "mmr_prefetch_k"})
_CHUNK = 1000  # ids whose vectors are read at a time; where more are given, the store's own search is tried first
_SPARSE = 8  # records for each id, beyond which a search would find too few of the ids


class LlamaIndexEmbedding(BaseEmbedding):
    """One of our embedders as a LlamaIndex embedding model; make it with `of`. It pickles where the embedder does."""

    _embedder: Embedder = PrivateAttr()

    @classmethod
    def of(cls, embedder: Embedder) -> LlamaIndexEmbedding:
        """The embedding model for an embedder; its name carries the fingerprint."""
        made = cls(model_name=embedder.spec.describe())
        made._embedder = embedder
        return made

    def __getstate__(self) -> dict[str, Any]:
        try:
            pickle.dumps(self._embedder)
        except Exception as error:  # whatever a stranger's class raises
            raise ConfigError(
                f"the embedder {self._embedder.spec.describe()} cannot be pickled, and so not sent to other processes "
                f"(num_workers): {type(error).__name__}: {error}. Embed in this process"
            ) from error
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # LlamaIndex's makes the object anew out of its fields, of which the embedder is none.
        super().__setstate__(state)
        self._embedder = state["__pydantic_private__"]["_embedder"]

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

    LlamaIndex's index over a store that keeps texts, as this one does, names the index and image nodes it was given
    in every query of its `as_retriever`: texts beside them are found by `VectorIndexRetriever(index, object_map=…)`.
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
        """Write nodes with their embeddings, each replacing the record of the same id; returns the ids.

        Of nodes with one id the last is written.
        """
        if not nodes:
            return []
        last = list({node.node_id: node for node in nodes}.values())
        vectors = [_embedding(node) for node in last]
        records = Records(
            [node.node_id for node in last],
            np.array(vectors, np.float32),
            [_to_metadata(node) for node in last],
            [node.get_content(metadata_mode=MetadataMode.NONE) for node in last],
            None if self._collection.spec.embedder is None else self._collection.spec.embedder.fingerprint,
        )
        self._collection.upsert(records)
        self._collection.flush()
        return [node.node_id for node in nodes]  # LlamaIndex pairs them with what it gave

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Await `add`; the loop is not blocked."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete all nodes of a source document."""
        self._collection.delete(where=Eq(DOCUMENT, ref_doc_id))
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
        """The nearest nodes; filters, `doc_ids` and `node_ids` apply before they are chosen.

        With mode MMR, options as LlamaIndex's own stores have them: `mmr_threshold`, 1 for the nearest, 0 for the most
        different; and how many are chosen from, `mmr_prefetch_factor` · k, 4 · k unless given, or `mmr_prefetch_k`.
        """
        if query.mode not in {VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR}:
            raise refuse(f"the query mode {query.mode.value!r}")
        mmr = query.mode is VectorStoreQueryMode.MMR
        if unknown := sorted(set(kwargs) - (_MMR_OPTIONS if mmr else frozenset())):
            known = f"the mode mmr takes {sorted(_MMR_OPTIONS)}, the default mode none"
            raise ConfigError(f"unknown options {unknown} of a query in mode {query.mode.value!r}; {known}")
        if query.query_embedding is None:
            raise ConfigError("the query has no embedding; a collection is searched by vector")
        # LlamaIndex's index passes empty lists where it means no restriction.
        documents = In(DOCUMENT, query.doc_ids) if query.doc_ids else None
        where = agreed([from_llama_index_filters(query.filters), documents])
        k, metric = query.similarity_top_k, self._collection.spec.metric
        vector = as_vectors([query.query_embedding], self._collection.spec.dim, metric, "queries")
        if type(k) is not int or k < 0:
            raise ConfigError(f"similarity_top_k must be a whole number of at least 0, got {k!r}")
        wanted = _prefetch(k, kwargs) if mmr else k
        if k == 0:
            hits: list[Hit] = []
        elif query.node_ids:
            hits = self._nearest_of(list(dict.fromkeys(query.node_ids)), where, vector, wanted)
        else:
            include: tuple[Include, ...] = INCLUDE_ALL if mmr else _TEXT
            hits = list(self._collection.search(vector, wanted, where=where, include=include).hits())
        if mmr:
            weights = (kwargs.get("mmr_threshold"), query.mmr_threshold, 0.5)
            relevance = next(weight for weight in weights if weight is not None)
            hits = marginal(vector[0], hits, k, relevance=relevance, metric=metric)
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

    def _nearest_of(self, ids: list[str], where: Filter | None, vector: Vectors, k: int) -> list[Hit]:
        """The exact k nearest among distinct ids, the earlier id first where two are equally near.

        LlamaIndex gives the ids of a whole index with every query where it keeps the nodes itself
        (`store_nodes_override`): to read all their vectors takes a hundred times as long as a search.
        """
        if len(ids) > _CHUNK and (hits := self._searched(ids, where, vector, k)) is not None:
            return hits
        best: list[Hit] = []
        for start in range(0, len(ids), _CHUNK):
            found = self._of(ids[start : start + _CHUNK], where, INCLUDE_ALL)
            best = sorted([*best, *self._ranked(found, vector, k)], key=lambda hit: hit.distance)[:k]
        return best

    def _searched(self, ids: list[str], where: Filter | None, vector: Vectors, k: int) -> list[Hit] | None:
        """The same by exact searches of the collection; None where it has none, or too few of it are of the ids."""
        collection, can = self._collection, self._collection.store.capabilities
        if not can.exact_search and collection.spec.index.kind != "flat":
            return None
        total = collection.count()
        if total > _SPARSE * len(ids):
            return None
        place = {id_: i for i, id_ in enumerate(ids)}
        ask, most = 2 * k, min(total, can.max_k or total)
        while ask <= most:
            found = collection.search(vector, ask, where=where, include=INCLUDE_ALL, params=SearchParams(exact=True))
            records = found.records[0] if found.records else Records([])
            rows = [i for i, id_ in enumerate(records.ids) if id_ in place]
            rows.sort(key=lambda i: place[records.ids[i]])
            hits = self._ranked(records.take(rows), vector, k)
            if len(records) < ask:  # there are no more
                return hits
            # What was left out is at least as far as the last that was found, but for the store's rounding.
            edge = float(found.distances[0][-1])
            if len(hits) == k and hits[-1].distance < edge - 1e-5 * max(1.0, abs(edge)):
                return hits
            ask *= 4
        return None

    def _ranked(self, records: Records, vector: Vectors, k: int) -> list[Hit]:
        """The k nearest of these records, by distances in float64; the earlier where two are equally near."""
        ids, vectors, metadata, texts = records.ids, records.vectors, records.metadata, records.documents
        if not ids or vectors is None or metadata is None or texts is None:
            return []
        distances = paired_distances(np.broadcast_to(vector, vectors.shape), vectors, self._collection.spec.metric)
        order: list[int] = np.argsort(distances, kind="stable")[:k].tolist()
        return [Hit(ids[i], float(distances[i]), vectors[i], metadata[i], texts[i]) for i in order]


def _embedding(node: BaseNode) -> list[float]:
    if node.embedding is None:
        raise InvalidVector(f"node {node.node_id!r} has no embedding; run an embedding model first")
    return node.embedding


def _prefetch(k: int, options: Mapping[str, Any]) -> int:
    """How many of the nearest are chosen from by marginal relevance."""
    factor, number = options.get("mmr_prefetch_factor"), options.get("mmr_prefetch_k")
    if factor is not None and number is not None:
        raise ConfigError("mmr_prefetch_factor and mmr_prefetch_k say the same; give one of them")
    wanted = k * (4 if factor is None else factor) if number is None else number
    if not isinstance(wanted, int | float) or not 0 <= wanted < float("inf"):
        raise ConfigError(f"mmr_prefetch_factor and mmr_prefetch_k are numbers of at least 0, got {factor or number!r}")
    return max(k, int(wanted))


def _to_metadata(node: BaseNode) -> dict[str, Any]:
    """A node's metadata, and the rest of it (class, relationships, templates) as JSON under a hidden key."""
    metadata: dict[str, Any] = flat(node.metadata, f"node {node.node_id!r}")
    if empty := [key for key, value in metadata.items() if value == []]:
        metadata[EMPTY] = empty
    try:
        rest = node.model_dump(
            mode="json", exclude={"metadata": True, "embedding": True, "text": True, "text_resource": {"text"}}
        )
        metadata[_NODE] = json.dumps(rest)
    except (TypeError, ValueError) as error:
        raise InvalidMetadata(f"node {node.node_id!r} holds what cannot be written as JSON: {error}") from error
    if node.ref_doc_id is not None:
        metadata[DOCUMENT] = node.ref_doc_id
    return metadata


def _node(id_: str, text: str | None, metadata: Metadata | None) -> BaseNode:
    held = (metadata or {}).get(_NODE)
    rest = json.loads(held) if isinstance(held, str) else {}
    rest |= {"id_": id_, "metadata": visible(metadata)}
    resource = rest.pop("text_resource", {})
    made = _CLASSES.get(str(rest.get("class_name")), TextNode)
    if made is Node:
        return Node.from_dict({**rest, "text_resource": None if resource is None else {**resource, "text": text}})
    return made.from_dict({**rest, "text": text or ""})


def _nodes(records: Records) -> list[BaseNode]:
    rows = zip(records.ids, records.documents or (), records.metadata or (), strict=True)
    return [_node(id_, text, metadata) for id_, text, metadata in rows]
