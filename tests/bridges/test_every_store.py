"""A LangChain chain, a LlamaIndex query engine and a Haystack pipeline answer from one collection, on every store."""

from __future__ import annotations

import asyncio
from typing import Any

from haystack import Document as HaystackDocument
from haystack import Pipeline
from haystack.components.builders import PromptBuilder
from haystack.document_stores.types import DuplicatePolicy
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from llama_index.core import VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from vecbench import CollectionSpec, connect
from vecbench.bridges import haystack, langchain, llama_index
from vecbench.collection import Collection
from vecbench.index import parse_index

from .words import DIM, FACTS, WordEmbedder

EMBEDDER = WordEmbedder()


class Three:
    """The same collection behind the three frameworks; each answer is the list of ids that it was made from."""

    def __init__(self, collection: Collection) -> None:
        self.langchain = langchain.VecbenchVectorStore(collection, EMBEDDER)
        self.llama = llama_index.VecbenchVectorStore(collection, EMBEDDER)
        self.haystack = haystack.VecbenchDocumentStore.of(collection, EMBEDDER)

    def chain(self, question: str, since: int | None, *, use_async: bool) -> list[str | None]:
        search: dict[str, Any] = {"k": 2} if since is None else {"k": 2, "filter": {"year": {"$gte": since}}}
        seen: list[str | None] = []

        def keep(documents: list[Any]) -> str:
            seen.extend(document.id for document in documents)
            return "\n".join(document.page_content for document in documents)

        chain = (
            {
                "context": self.langchain.as_retriever(search_kwargs=search) | RunnableLambda(keep),
                "question": RunnablePassthrough(),
            }
            | ChatPromptTemplate.from_template("{context}\n{question}")
            | FakeListChatModel(responses=["an answer"])
            | StrOutputParser()
        )
        answer = asyncio.run(chain.ainvoke(question)) if use_async else chain.invoke(question)
        assert answer == "an answer"
        return seen

    def engine(self, question: str, since: int | None, *, use_async: bool) -> list[str | None]:
        year = MetadataFilter(key="year", operator=FilterOperator.GTE, value=since)
        index = VectorStoreIndex.from_vector_store(self.llama, embed_model=llama_index.LlamaIndexEmbedding.of(EMBEDDER))
        engine = index.as_query_engine(
            llm=MockLLM(), similarity_top_k=2, filters=None if since is None else MetadataFilters(filters=[year])
        )
        answer = asyncio.run(engine.aquery(question)) if use_async else engine.query(question)
        assert answer.source_nodes[0].text in str(answer)  # the mock model repeats its prompt
        return [found.node.node_id for found in answer.source_nodes]

    def pipeline(self, question: str, since: int | None, *, use_async: bool) -> list[str | None]:
        pipeline = Pipeline()
        pipeline.add_component("retriever", haystack.VecbenchEmbeddingRetriever(self.haystack, top_k=2))
        template = "{% for d in documents %}{{ d.content }}\n{% endfor %}"
        pipeline.add_component("prompt", PromptBuilder(template, required_variables=["documents"]))
        pipeline.connect("retriever.documents", "prompt.documents")
        given: dict[str, Any] = {"query_embedding": EMBEDDER.embed_queries([question])[0].tolist()}
        if since is not None:
            given["filters"] = {"field": "meta.year", "operator": ">=", "value": since}
        if use_async:
            out = asyncio.run(pipeline.run_async({"retriever": given}, include_outputs_from={"retriever"}))
        else:
            out = pipeline.run({"retriever": given}, include_outputs_from={"retriever"})
        documents = out["retriever"]["documents"]
        assert out["prompt"]["prompt"].splitlines() == [document.content for document in documents]
        return [document.id for document in documents]

    def answers(self, question: str, since: int | None = None) -> list[str | None]:
        """Of all three, synchronous and not: they must agree."""
        found = [
            ask(question, since, use_async=use_async)
            for ask in (self.chain, self.engine, self.pipeline)
            for use_async in (False, True)
        ]
        assert found == [found[0]] * 6
        return found[0]


def test_all_three_answer_from_one_collection(store_name: str, options: dict[str, Any], index: str) -> None:
    with connect(store_name, **options) as store:
        spec = CollectionSpec("facts", DIM, index=parse_index(index), embedder=EMBEDDER.spec, fields={"year": "float"})
        three = Three(store.create_collection(spec))
        three.langchain.add_texts([t for _, t, _ in FACTS[:2]], [m for _, _, m in FACTS[:2]], ids=["cat", "dog"])
        vector = EMBEDDER.embed_documents([FACTS[2][1]])[0].tolist()
        three.llama.add([TextNode(id_="oak", text=FACTS[2][1], metadata=FACTS[2][2], embedding=vector)])
        three.haystack.write_documents([HaystackDocument(id=i, content=t, meta=m) for i, t, m in FACTS[3:]])

        assert three.answers("cat sleeps roof")[0] == "cat"
        assert three.answers("oak thousand years")[0] == "oak"
        assert three.answers("fern shade forest")[0] == "fern"
        assert set(three.answers("cat sleeps roof", since=2023)) == {"fern", "iron"}

        new = HaystackDocument(id="cat", content="The cat swims in the sea.", meta={"year": 2024})
        three.haystack.write_documents([new], DuplicatePolicy.OVERWRITE)
        assert three.answers("cat swims sea", since=2024) == ["cat"]
        three.langchain.delete(["cat"])
        three.llama.delete_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="year", value=2023.5)]))
        assert three.answers("cat swims sea iron melts", since=2022) == ["fern"]
        assert three.haystack.count_documents() == 3
