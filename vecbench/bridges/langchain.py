"""A collection as a LangChain `VectorStore` (and so as a retriever), and LangChain's embeddings and splitters as ours.

    store = VecbenchVectorStore(collection, embedder)
    retriever = store.as_retriever(search_kwargs={"k": 4, "filter": {"year": {"$gte": 2020}}})

Needs the extra `langchain`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from vecbench.bridges.langchain_filters import from_langchain_filter
from vecbench.bridges.shared import flat, marginal, new_ids, refuse, require_embedder, visible
from vecbench.checks import check_documents, check_ids, check_metadata
from vecbench.collection import Collection
from vecbench.embed.spec import Embedder, EmbedderSpec, Progress
from vecbench.embed.texts import checked_texts, checked_vectors
from vecbench.errors import ConfigError, MissingDependency, RagError
from vecbench.filters import Filter
from vecbench.index import HNSW, Index
from vecbench.rag.types import Chunk
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore as Store
from vecbench.types import Hit, Include, Metric, Records, Vectors, similarity

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
except ImportError as error:
    raise MissingDependency("The bridge to LangChain", module="langchain_core", extra="langchain") from error

__all__ = [
    "LangChainEmbeddings",
    "VecbenchVectorStore",
    "from_langchain_embeddings",
    "from_langchain_filter",
    "from_langchain_splitter",
]

Where = Filter | Mapping[str, Any] | None
_TEXT: tuple[Include, ...] = ("metadata", "documents")


class LangChainEmbeddings(Embeddings):
    """One of our embedders as LangChain's `Embeddings`."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of texts that will be searched."""
        return [[float(x) for x in row] for row in self.embedder.embed_documents(texts)]

    def embed_query(self, text: str) -> list[float]:
        """The vector of a text that will be searched for."""
        return [float(x) for x in self.embedder.embed_queries([text])[0]]


class _FromLangChain:
    """LangChain's embeddings as an embedder of ours."""

    def __init__(self, embeddings: Embeddings, spec: EmbedderSpec) -> None:
        self.embeddings, self.spec = embeddings, spec

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        rows = checked_texts(texts)
        vectors = checked_vectors(self.embeddings.embed_documents(rows) if rows else [], self.spec, len(rows))
        if progress and rows:
            progress(len(rows), len(rows))
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        rows = checked_texts(texts)
        return checked_vectors([self.embeddings.embed_query(text) for text in rows], self.spec, len(rows))


def from_langchain_embeddings(embeddings: Embeddings, spec: EmbedderSpec) -> Embedder:
    """LangChain's embeddings as an embedder of ours; progress counts texts.

    spec: which model it is. LangChain does not say, and a collection must know: name it with its revision, so that two
    that differ are told apart.
    """
    if isinstance(embeddings, LangChainEmbeddings):
        if embeddings.embedder.spec != spec:
            raise ConfigError(f"these embeddings are of {embeddings.embedder.spec.describe()}, not {spec.describe()}")
        return embeddings.embedder
    return _FromLangChain(embeddings, spec)


class _FromLangChainSplitter:
    """A LangChain text splitter as a splitter of ours."""

    def __init__(self, splitter: Any, fingerprint: str) -> None:
        self.splitter, self.fingerprint = splitter, fingerprint

    def split(self, text: str) -> list[Chunk]:
        chunks: list[Chunk] = []
        overlap = getattr(self.splitter, "_chunk_overlap", 0)
        length = getattr(self.splitter, "_length_function", len)
        start = end = 0
        for number, piece in enumerate(self.splitter.split_text(text)):
            # Not before the chunk before it, and not with more in common than the splitter allows.
            start = text.find(piece, start)
            while 0 <= start < end and length(text[start:end]) > overlap:
                start = text.find(piece, start + 1)
            if start < 0:
                raise RagError(
                    f"chunk {number} of {type(self.splitter).__name__} is not in the text as it stands, so it has no "
                    f"offsets: {piece[:60]!r}. Take a splitter that only cuts, keep_separator=True for example"
                )
            end = start + len(piece)
            chunks.append(Chunk(piece, start, end))
        return chunks


def from_langchain_splitter(splitter: Any, fingerprint: str) -> _FromLangChainSplitter:
    """A LangChain text splitter as a splitter of ours; RagError when it alters the text, as offsets must be exact.

    fingerprint: a line that names it and its parameters, which LangChain does not tell in full. LangChain tells no
    places either: where a text repeats itself and chunks overlap, the first place that fits is taken.
    """
    if not callable(getattr(splitter, "split_text", None)):
        raise ConfigError(f"{type(splitter).__name__} has no split_text; give a LangChain TextSplitter")
    return _FromLangChainSplitter(splitter, fingerprint)


class VecbenchVectorStore(VectorStore):
    """A collection of any store as a LangChain vector store.

    What was added can be searched at once. Scores of `…_with_score` are distances in the unit of the metric, smaller is
    nearer; relevance scores are 1 − d under cosine, cut to 0 … 1, and 1 / (1 + d) under Euclid. `filter` takes
    a filter of ours, or LangChain's dictionary form (see `from_langchain_filter`); what it does not know it refuses.
    """

    def __init__(self, collection: Collection, embedder: Embedder) -> None:
        """embedder: the one whose vectors the collection holds; another is an `EmbedderMismatch`."""
        given: object = embedder
        if isinstance(given, Embeddings):
            raise ConfigError(
                "LangChain embeddings do not say which model they are; wrap them: from_langchain_embeddings(…, spec)"
            )
        require_embedder(collection, embedder)
        self.collection, self.embedder = collection, embedder

    @property
    def embeddings(self) -> Embeddings:
        """The embedder, as LangChain sees it."""
        return LangChainEmbeddings(self.embedder)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A collection made of texts. Needs `store=`; may be given `collection_name=`, `metric=`, `index=`, `spec=`.

        `embedding`: a `LangChainEmbeddings`, an embedder of ours, or any embeddings with `spec=` of the model. `index`:
        HNSW unless it says else; Pinecone has only `NativeIndex("serverless")`.
        """
        store, spec = kwargs.pop("store", None), kwargs.pop("spec", None)
        name, metric = kwargs.pop("collection_name", "langchain"), kwargs.pop("metric", Metric.COSINE)
        index: Index = kwargs.pop("index", None) or HNSW()
        if not isinstance(store, Store) or kwargs:
            known = "store=, a vecbench store; collection_name=, metric=, index=, spec="
            raise ConfigError(f"from_texts takes {known}; got {sorted(kwargs) or 'no store'}")
        embedder: Any = embedding.embedder if isinstance(embedding, LangChainEmbeddings) else embedding
        if isinstance(embedder, Embeddings):
            if spec is None:
                raise ConfigError("LangChain embeddings do not say which model they are: give spec=EmbedderSpec(…)")
            embedder = from_langchain_embeddings(embedder, spec)
        made = CollectionSpec(name, embedder.spec.dim, metric, index, embedder.spec)
        out = cls(store.create_collection(made, exist_ok=True), embedder)
        out.add_texts(texts, metadatas, ids=ids)
        return out

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embed and write texts, each replacing the record of the same id; returns the ids, random where none came.

        Of texts with one id the last is written. batch_size: how many are embedded and written at a time, all unless
        given; LangChain's `index` gives it. Everything is checked before the first batch is written, but an embedder
        that fails later leaves the batches before it.
        """
        _no_more(kwargs, "ids= and batch_size=")
        if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
            raise ConfigError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        rows = list(texts)
        if metadatas is not None and len(metadatas) != len(rows):
            raise ConfigError(f"{len(metadatas)} metadatas for {len(rows)} texts; give one for each, or none")
        names = new_ids(ids, len(rows))
        metadata = [flat(m, f"text {i}") for i, m in enumerate(metadatas or [{}] * len(rows))]
        check_ids(names, unique=False)
        check_metadata(metadata)
        check_documents(rows)
        last = list({name: i for i, name in enumerate(names)}.values())
        step = batch_size or max(1, len(last))
        for batch in (last[start : start + step] for start in range(0, len(last), step)):
            some = [rows[i] for i in batch]
            vectors = self.embedder.embed_documents(some)
            self.collection.upsert(
                Records([names[i] for i in batch], vectors, [metadata[i] for i in batch], some, self._fingerprint)
            )
        if rows:
            self.collection.flush()
        return names

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Await `add_texts`; the loop is not blocked."""
        rows = list(texts)
        return await asyncio.to_thread(self.add_texts, rows, metadatas, ids=ids, batch_size=batch_size, **kwargs)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete by ids, or by `filter=`; ids that are not there are fine. True when it was done.

        Neither is refused, though LangChain's interface lets a store delete everything then: a variable that happens to
        be None must not empty a collection. `filter=And(())`, of `vecbench.filters`, matches everything.
        """
        where = _where(kwargs.pop("filter", None))
        _no_more(kwargs)
        if ids is None and where is None:
            raise ConfigError("delete takes ids or filter=; to delete everything, filter=And(()) of vecbench.filters")
        self.collection.delete(ids=ids, where=where)
        self.collection.flush()
        return True

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Await `delete`."""
        return await asyncio.to_thread(self.delete, ids, **kwargs)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents of these ids, in their order; one that is not there is left out."""
        return _documents_of(self.collection.get(ids, include=_TEXT))

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Await `get_by_ids`."""
        return _documents_of(await self.collection.aio.get(ids, include=_TEXT))

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The k nearest to the query; `filter=` is applied before they are chosen."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Await `similarity_search`."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """The k nearest, each with its distance."""
        where = _where(kwargs.pop("filter", None))
        _no_more(kwargs)
        return _scored(self._search(self.embedder.embed_queries([query]), k, where))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Await `similarity_search_with_score`."""
        where = _where(kwargs.pop("filter", None))
        _no_more(kwargs)
        if k == 0:
            return []
        vectors = await asyncio.to_thread(self.embedder.embed_queries, [query])
        found = await self.collection.aio.search(vectors, k, where=where, include=_TEXT, embedder=self._spec)
        return _scored(found.hits())

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """The k nearest to a vector."""
        where = _where(kwargs.pop("filter", None))
        _no_more(kwargs)
        return [document for document, _ in _scored(self._search(np.array([embedding], np.float32), k, where))]

    async def asimilarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """Await `similarity_search_by_vector`."""
        return await asyncio.to_thread(self.similarity_search_by_vector, embedding, k, **kwargs)

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """k of the `fetch_k` nearest, each unlike those before it: 1 asks for the nearest, 0 for the most different."""
        vector = [float(x) for x in self.embedder.embed_queries([query])[0]]
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, **kwargs)

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Await `max_marginal_relevance_search`."""
        return await asyncio.to_thread(self.max_marginal_relevance_search, query, k, fetch_k, lambda_mult, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """The same for a vector."""
        where = _where(kwargs.pop("filter", None))
        _no_more(kwargs)
        query = np.array([embedding], np.float32)
        found = self._search(query, max(k, fetch_k), where, ("vectors", *_TEXT))
        chosen = marginal(query[0], found, k, relevance=lambda_mult, metric=self.collection.spec.metric)
        return [_document(hit) for hit in chosen]

    async def amax_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Await `max_marginal_relevance_search_by_vector`."""
        return await asyncio.to_thread(
            self.max_marginal_relevance_search_by_vector, embedding, k, fetch_k, lambda_mult, **kwargs
        )

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        metric = self.collection.spec.metric
        if metric is Metric.DOT:
            raise refuse("a relevance score between 0 and 1 under the dot product")
        return lambda distance: min(1.0, max(0.0, similarity(distance, metric)))  # a store's rounding passes 1

    @property
    def _spec(self) -> EmbedderSpec | None:
        return None if self.collection.spec.embedder is None else self.embedder.spec

    @property
    def _fingerprint(self) -> str | None:
        return None if self._spec is None else self._spec.fingerprint

    def _search(
        self, vectors: Vectors, k: int, where: Filter | None, include: tuple[Include, ...] = _TEXT
    ) -> list[Hit]:
        if k == 0:  # LangChain's own store finds nothing then
            return []
        return list(self.collection.search(vectors, k, where=where, include=include, embedder=self._spec).hits())


def _where(given: Where) -> Filter | None:
    return from_langchain_filter(given) if isinstance(given, Mapping) else given


def _no_more(kwargs: Mapping[str, Any], known: str = "filter=") -> None:
    if kwargs:
        raise ConfigError(f"unknown options {sorted(kwargs)}; a vecbench vector store takes {known} here")


def _document(hit: Hit) -> Document:
    return Document(id=hit.id, page_content=hit.document or "", metadata=visible(hit.metadata))


def _scored(hits: Iterable[Hit]) -> list[tuple[Document, float]]:
    return [(_document(hit), hit.distance) for hit in hits]


def _documents_of(records: Records) -> list[Document]:
    texts, metadata = records.documents or (), records.metadata or ()
    return [
        Document(id=id_, page_content=text or "", metadata=visible(m))
        for id_, text, m in zip(records.ids, texts, metadata, strict=True)
    ]
