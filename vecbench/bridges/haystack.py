"""A collection as a Haystack `DocumentStore`, and the retriever that searches it.

    documents = VecbenchDocumentStore("qdrant", path="kb", collection="handbook", dim=384)
    pipeline.add_component("retriever", VecbenchEmbeddingRetriever(documents, top_k=5))

Needs the extra `haystack`.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from vecbench.bridges.haystack_by_filter import ByFilter, matching
from vecbench.bridges.haystack_connection import (
    SharedStore,
    names_data,
    refuse_clear_secrets,
    resolved,
    restored,
    shared_store,
    written,
)
from vecbench.bridges.haystack_filters import flat_meta, from_haystack_filters, nested_meta
from vecbench.bridges.shared import HIDDEN, require_embedder
from vecbench.collection import Collection
from vecbench.embed.spec import Embedder
from vecbench.errors import CollectionNotFound, ConfigError, MissingDependency
from vecbench.index import parse_index
from vecbench.registry import connect
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore
from vecbench.types import INCLUDE_ALL, Include, Metadata, Metric, Records, Vectors, similarity

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
    from haystack.document_stores.types.filter_policy import apply_filter_policy
    from haystack.utils import Secret
except ImportError as error:
    raise MissingDependency("The bridge to Haystack", module="haystack", extra="haystack") from error

__all__ = ["VecbenchDocumentStore", "VecbenchEmbeddingRetriever"]

_EMBEDDED = f"{HIDDEN}embedded"  # the vector was made here: the document that was written had none
_CHUNK = 1000


class VecbenchDocumentStore(ByFilter):
    """Haystack documents in a collection of any store; what was written can be read at once.

    store, url, path, options: as `vecbench.connect` takes them; url and values of options may be Haystack's `Secret`.
    It is opened at first use; the collection is made if it is not there, of `dim`, `metric` and `index`: "flat",
    "hnsw:m=32", or "native:serverless", the only one that Pinecone has. embedder: one of ours, which embeds documents
    that come without an embedding; without it those are refused. An object made with an embedder, or `of` a collection,
    lives in this process only and cannot be serialized.

    Objects that name the same store have it open once in this process; the last one that is closed closes it.
    instance: names an engine that has neither url nor path, such as "memory": what has one name is one, and its data
    lasts until the last that used it is closed. Without it every object that a program makes is an engine of its own,
    as with `connect`; the name made up for it is serialized, so that all that is restored from one YAML is one.
    """

    def __init__(
        self,
        store: str,
        *,
        collection: str = "haystack",
        dim: int | None = None,
        metric: str = "cosine",
        index: str = "hnsw",
        url: str | Secret | None = None,
        path: str | Path | None = None,
        instance: str | None = None,
        options: dict[str, Any] | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        if instance is None and not names_data(store, url, path):
            instance = uuid.uuid4().hex
        self._init: dict[str, Any] = {
            "store": store,
            "collection": collection,
            "dim": dim,
            "metric": metric,
            "index": index,
            "url": url,
            "path": None if path is None else str(path),
            "instance": instance,
        }
        self._options = dict(options or {})
        self._embedder = embedder
        self._opened: Collection | None = None
        self._shared: SharedStore | None = None
        self._foreign = False

    @classmethod
    def of(cls, collection: Collection, embedder: Embedder | None = None) -> Self:
        """The documents of a collection that is open; closing it stays the caller's business."""
        made = cls(collection.store.name, collection=collection.spec.name, embedder=embedder)
        if embedder is not None:
            require_embedder(collection, embedder)
        made._opened, made._foreign = collection, True
        return made

    @property
    def collection(self) -> Collection:
        """The collection, opened now if it was not."""
        opened = self._opened
        if opened is not None:
            return opened
        name, path, instance = (self._init[key] for key in ("store", "path", "instance"))
        url, options = resolved(self._init["url"]), resolved(self._options)
        shared = shared_store(name, url, path, instance, options)
        with shared.lock:
            if self._opened is None:  # another thread may have been here
                store = shared.take(self, lambda: connect(name, url=url, path=path, **options))
                try:
                    self._opened, self._shared = self._open(store), shared
                except BaseException:
                    shared.give_back(self)
                    raise
            return self._opened

    def _open(self, store: VectorStore) -> Collection:
        name, dim = self._init["collection"], self._init["dim"]
        spec = None if self._embedder is None else self._embedder.spec
        try:
            found = store.get_collection(name)
        except CollectionNotFound:
            dim = dim or (spec and spec.dim)
            if not dim:
                raise ConfigError(f"collection {name!r} is not there; give dim= to have it made") from None
            index = parse_index(self._init["index"])
            return store.create_collection(CollectionSpec(name, dim, self._init["metric"], index, spec))
        if spec is not None:
            require_embedder(found, spec)
        return found

    def close(self) -> None:
        """Give back the store, if it was opened here; it is closed with the last that has it open. Twice is fine."""
        shared, self._shared = self._shared, None
        if shared is not None:
            opened, self._opened = self._opened, None
            shared.give_back(self)
            del opened  # until here it kept the store alive, which would not be closed otherwise

    async def close_async(self) -> None:
        """Await `close`."""
        await asyncio.to_thread(self.close)

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` makes it from; secrets are named, not written: DocumentStoreError for one given in clear."""
        if self._foreign or self._embedder is not None:
            raise DocumentStoreError(
                "a document store made `of` a collection, or with an embedder, cannot be serialized; name the store "
                "and let an embedder component make the embeddings"
            )
        refuse_clear_secrets(self._init["store"], self._init["url"], self._options)
        return default_to_dict(self, **written(self._init), options=written(self._options))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The document store that `to_dict` described."""
        parameters = dict(data["init_parameters"])
        options = parameters.pop("options", None)  # kept from default_from_dict, to which any "type" names a class
        made = default_from_dict(cls, {**data, "init_parameters": parameters})
        made._options = restored(options or {})
        return made

    def count_documents(self) -> int:
        """How many documents there are."""
        return self.collection.count()

    async def count_documents_async(self) -> int:
        """Await `count_documents`."""
        return await asyncio.to_thread(self.count_documents)

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """The documents that pass the filter, all without one.

        Fields are metadata. The one own field is `id`, by == or in and as the whole filter: those of these ids, in
        their order.
        """
        return [document for batch in matching(self.collection, filters) for document in _documents(batch)]

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Await `filter_documents`."""
        return await asyncio.to_thread(self.filter_documents, filters)

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents; returns how many. NONE means FAIL: DuplicateDocumentError, and nothing is written."""
        given: object = documents
        if not isinstance(given, list) or not all(isinstance(item, Document) for item in given):
            raise ValueError("write_documents takes a list of haystack Documents")
        latest = {document.id: document for document in documents}
        if policy is not DuplicatePolicy.OVERWRITE:
            if len(latest) < len(documents) and policy is not DuplicatePolicy.SKIP:
                raise DuplicateDocumentError("two of the documents have one id; nothing was written")
            first = {document.id: document for document in reversed(documents)}
            there = set(self.collection.get(list(first), include=()).ids)
            if there and policy is not DuplicatePolicy.SKIP:
                raise DuplicateDocumentError(f"{len(there)} ids are there already, {min(there)!r} is one; none written")
            latest = {id_: document for id_, document in first.items() if id_ not in there}
        self._write(list(latest.values()))
        return len(documents) if policy is DuplicatePolicy.OVERWRITE else len(latest)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Await `write_documents`."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete by ids; those that are not there are fine."""
        self.collection.delete(ids=document_ids)
        self.collection.flush()

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """Await `delete_documents`."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    def search(
        self,
        embedding: Sequence[float],
        top_k: int,
        filters: dict[str, Any] | None,
        *,
        scale_score: bool = False,
        return_embedding: bool = False,
    ) -> list[Document]:
        """The nearest documents, each with its similarity as `score`: what the retriever asks. None for top_k 0."""
        where = from_haystack_filters(filters)
        if top_k == 0:
            return []
        include: tuple[Include, ...] = INCLUDE_ALL if return_embedding else ("metadata", "documents")
        found = self.collection.search(np.array([embedding], np.float32), top_k, where=where, include=include)
        return [
            _document(hit.id, hit.document, hit.metadata, hit.vector, _score(hit.distance, found.metric, scale_score))
            for hit in found.hits()
        ]

    def _write(self, documents: list[Document]) -> None:
        for document in documents:
            if document.blob is not None or document.sparse_embedding is not None:
                raise DocumentStoreError(
                    f"document {document.id!r} has a blob or a sparse embedding, which a collection does not keep"
                )
        bare = [i for i, document in enumerate(documents) if document.embedding is None]
        if bare and self._embedder is None:
            raise DocumentStoreError(
                f"document {documents[bare[0]].id!r} has no embedding; run an embedder before the writer, or make the "
                "document store with embedder="
            )
        metadata = [flat_meta(document.meta, f"document {document.id!r}") for document in documents]
        vectors = {i: document.embedding for i, document in enumerate(documents)}
        if bare and self._embedder is not None:
            made = self._embedder.embed_documents([documents[i].content or "" for i in bare])
            vectors.update(zip(bare, made.tolist(), strict=True))
            for i in bare:
                metadata[i][_EMBEDDED] = True
        for start in range(0, len(documents), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(documents)))
            self.collection.upsert(
                Records(
                    [documents[i].id for i in rows],
                    np.array([vectors[i] for i in rows], np.float32),
                    [metadata[i] for i in rows],
                    [documents[i].content for i in rows],
                )
            )
        self.collection.flush()


def _score(distance: float, metric: Metric, scale: bool) -> float:
    """The similarity; scaled, from 0 to 1 as Haystack's in-memory store does, Euclidean's being so anyway."""
    score = similarity(distance, metric)
    if scale and metric is Metric.COSINE:
        return (score + 1) / 2
    if scale and metric is Metric.DOT:
        return 0.5 + 0.5 * math.tanh(score / 200)  # the logistic function of score / 100, which cannot overflow so
    return score


def _document(
    id_: str, text: str | None, metadata: Metadata | None, vector: Vectors | None, score: float | None = None
) -> Document:
    ours = (metadata or {}).get(_EMBEDDED) is True
    embedding = None if vector is None or ours else vector.tolist()
    return Document(id=id_, content=text, meta=nested_meta(metadata), embedding=embedding, score=score)


def _documents(records: Records) -> list[Document]:
    return [
        _document(
            id_,
            None if records.documents is None else records.documents[i],
            None if records.metadata is None else records.metadata[i],
            None if records.vectors is None else records.vectors[i],
        )
        for i, id_ in enumerate(records.ids)
    ]


@component
class VecbenchEmbeddingRetriever:
    """The nearest documents of a `VecbenchDocumentStore` to an embedding; scores are similarities, larger is nearer.

    scale_score: scores from 0 to 1: (1 + s) / 2 of a cosine, the logistic function of s / 100 of a dot product. Every
    parameter but the store can be given for a single run, filters by `filter_policy`.
    """

    def __init__(
        self,
        document_store: VecbenchDocumentStore,
        *,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        scale_score: bool = False,
        return_embedding: bool = False,
    ) -> None:
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        self.document_store, self.top_k, self.filters = document_store, top_k, filters
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy
        self.scale_score, self.return_embedding = scale_score, return_embedding

    def close(self) -> None:
        """Close the document store; it opens again when it is used."""
        self.document_store.close()

    async def close_async(self) -> None:
        """Await `close`."""
        await self.document_store.close_async()

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` makes it from."""
        return default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            top_k=self.top_k,
            filters=self.filters,
            filter_policy=self.filter_policy.value,
            scale_score=self.scale_score,
            return_embedding=self.return_embedding,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The retriever that `to_dict` described."""
        parameters = dict(data["init_parameters"])
        parameters["document_store"] = VecbenchDocumentStore.from_dict(parameters["document_store"])
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """`documents`: the nearest first, none for top_k 0. What is not given is as the retriever was made."""
        top_k = self.top_k if top_k is None else top_k
        if top_k < 0:
            raise ValueError(f"top_k must be at least 0, got {top_k}")
        found = self.document_store.search(
            query_embedding,
            top_k,
            apply_filter_policy(self.filter_policy, self.filters, filters),
            scale_score=self.scale_score if scale_score is None else scale_score,
            return_embedding=self.return_embedding if return_embedding is None else return_embedding,
        )
        return {"documents": found}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Await `run`; the loop is not blocked."""
        return await asyncio.to_thread(self.run, query_embedding, filters, top_k, scale_score, return_embedding)
