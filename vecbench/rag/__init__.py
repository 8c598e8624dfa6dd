"""Retrieval-augmented generation over any of the stores: load, split, embed, store, retrieve, rerank, prompt, answer.

    rag = Rag(connect("qdrant", path="kb"), collection="handbook")
    rag.add("docs/")                                    # again later: only what changed
    print(rag.ask("How long is the notice period?"))

Every part is a protocol of `vecbench.rag.types` and can be used alone, or replaced. Names are loaded when they are
first used, so that importing this package imports no model, no parser and no client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecbench.lazy import lazy

if TYPE_CHECKING:
    from vecbench.rag.answer.extractive import Extractive
    from vecbench.rag.answer.openai import OpenAIChat
    from vecbench.rag.answer.prompt import build_prompt
    from vecbench.rag.answer.templates import PromptTemplate
    from vecbench.rag.asking import AnswerStream
    from vecbench.rag.index import AddReport, ChunkIndex, SourceState, open_collection
    from vecbench.rag.load import Unreadable, UnreadableWarning
    from vecbench.rag.pipeline import Rag
    from vecbench.rag.rerank import CrossEncoderReranker, HostedReranker, LexicalReranker
    from vecbench.rag.retrieve import HybridRetriever, LexicalRetriever, VectorRetriever, merge_neighbours
    from vecbench.rag.split.recursive import RecursiveSplitter
    from vecbench.rag.types import (
        LLM,
        Answer,
        Chunk,
        Citation,
        Document,
        Heading,
        Message,
        Passage,
        Reranker,
        Retriever,
        Splitter,
    )

__all__ = [
    "LLM",
    "AddReport",
    "Answer",
    "AnswerStream",
    "Chunk",
    "ChunkIndex",
    "Citation",
    "CrossEncoderReranker",
    "Document",
    "Extractive",
    "Heading",
    "HostedReranker",
    "HybridRetriever",
    "LexicalReranker",
    "LexicalRetriever",
    "Message",
    "OpenAIChat",
    "Passage",
    "PromptTemplate",
    "Rag",
    "RecursiveSplitter",
    "Reranker",
    "Retriever",
    "SourceState",
    "Splitter",
    "Unreadable",
    "UnreadableWarning",
    "VectorRetriever",
    "build_prompt",
    "merge_neighbours",
    "open_collection",
]

_HOME = {
    **dict.fromkeys(("AddReport", "ChunkIndex", "SourceState", "open_collection"), "index"),
    **dict.fromkeys(("CrossEncoderReranker", "HostedReranker", "LexicalReranker"), "rerank"),
    **dict.fromkeys(("HybridRetriever", "LexicalRetriever", "VectorRetriever", "merge_neighbours"), "retrieve"),
    **dict.fromkeys(("Extractive", "OpenAIChat", "PromptTemplate", "build_prompt"), "answer"),
    **dict.fromkeys(("LLM", "Answer", "Chunk", "Citation", "Document", "Heading", "Message", "Passage"), "types"),
    **dict.fromkeys(("Reranker", "Retriever", "Splitter"), "types"),
    "AnswerStream": "asking",
    "Rag": "pipeline",
    "RecursiveSplitter": "split.recursive",
    **dict.fromkeys(("Unreadable", "UnreadableWarning"), "load"),
}

__getattr__, __dir__ = lazy(__name__, _HOME)
