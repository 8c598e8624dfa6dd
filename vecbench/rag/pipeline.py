"""Documents to answers over any store, in three calls.

with connect("qdrant", path="kb") as store, Rag(store, collection="handbook") as rag:
    rag.add("docs/")
    print(rag.ask("How long is the notice period?"))
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeAlias, Unpack, get_args

from vecbench.embed.spec import Embedder
from vecbench.errors import ConfigError
from vecbench.filters import Filter
from vecbench.index import Index
from vecbench.rag.answer.extractive import Extractive
from vecbench.rag.answer.prompt import check_history, estimate_tokens
from vecbench.rag.answer.templates import TEMPLATES, Language, PromptTemplate
from vecbench.rag.asking import AnswerStream, Asking, Stages
from vecbench.rag.budget import Clock, Costs, Deadline
from vecbench.rag.index import AddProgress, AddReport, SourceState, open_collection
from vecbench.rag.intake import FixedModel, Intake
from vecbench.rag.load.files import Reading, Unreadable
from vecbench.rag.records import Context
from vecbench.rag.rerank.lexical import LexicalReranker
from vecbench.rag.retrieve.fusion import HybridRetriever
from vecbench.rag.retrieve.lexical import LexicalRetriever
from vecbench.rag.retrieve.native import NativeLexicalRetriever
from vecbench.rag.retrieve.vector import VectorRetriever
from vecbench.rag.types import LLM, Answer, CountTokens, Document, Message, Passage, Reranker, Retriever, Splitter
from vecbench.spec import FieldType
from vecbench.store import VectorStore
from vecbench.types import Metric

if TYPE_CHECKING:
    from vecbench.rag.aio import AsyncRag

__all__ = ["Rag", "RetrieverName"]

RetrieverName: TypeAlias = Literal["hybrid", "vector", "lexical", "native-hybrid", "native-lexical"]


class Rag:
    """A collection of documents that answers questions; a context manager, and safe to ask from several threads.

    store: is not closed. collection: made where it does not exist. Everything else may be left out, or replaced:

    embedder: the fixed model, which knows English, loaded when the first text comes. metric, index, fields: as in
    `open_collection`. splitter: for all documents; without one by the kind of file, see `default_splitter`. context:
    "headings" embeds each chunk below the headings that it stands under.
    retriever: "hybrid" is vectors and words fused, "vector" or "lexical" one of them, or a `Retriever`. words_path: a
    directory that keeps the index of words; without one it is in memory and made anew by each process. With
    "native-hybrid" and "native-lexical" the store itself keeps that index (made now, where it is not there) and
    searches it, taking the words for words_language: see `NativeLexicalRetriever`, also for the stores that can.
    reranker: None, "lexical", or a `Reranker`, which then sees the first `fetch_k` passages. neighbours: as many chunks
    before and after each are given along.
    llm: an `LLM`; without one the answer is sentences of the passages (`extractive`). language: of the instructions to
    the model, or a `template`. k: passages for an answer. prompt_tokens, answer_tokens: the most of each; counted by
    count_tokens, which is for the model's tokenizer, and estimated without it. clock: nanoseconds, for tests.

    Raises `EmbedderMismatch`, before anything else is done, where another embedder made the collection.
    """

    def __init__(
        self,
        store: VectorStore,
        collection: str = "rag",
        *,
        embedder: Embedder | None = None,
        metric: Metric | None = None,
        index: Index | None = None,
        fields: Mapping[str, FieldType] | None = None,
        splitter: Splitter | None = None,
        context: Context = "headings",
        retriever: RetrieverName | Retriever = "hybrid",
        words_path: str | Path | None = None,
        words_language: str | None = None,
        reranker: Literal["lexical"] | Reranker | None = None,
        llm: LLM | None = None,
        extractive: Extractive | None = None,
        language: Language = "en",
        template: PromptTemplate | None = None,
        k: int = 6,
        fetch_k: int = 30,
        neighbours: int = 1,
        prompt_tokens: int = 4000,
        answer_tokens: int = 512,
        count_tokens: CountTokens | None = None,
        clock: Clock | None = None,
    ) -> None:
        _check_numbers(k=k, fetch_k=fetch_k, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens)
        if type(neighbours) is not int or neighbours < 0:
            raise ConfigError(f"neighbours is a whole number of chunks, 0 or more, got {neighbours!r}")
        if language not in TEMPLATES:
            raise ConfigError(f"language is one of {', '.join(TEMPLATES)}, got {language!r}; or give a template")
        if isinstance(retriever, str) and retriever not in get_args(RetrieverName):
            raise ConfigError(f"retriever is {', '.join(get_args(RetrieverName))} or a Retriever, got {retriever!r}")
        if words_path is not None and retriever not in {"hybrid", "lexical"}:
            raise ConfigError("words_path is for the index of words, which only 'hybrid' and 'lexical' have")
        if words_language is not None and retriever not in {"native-hybrid", "native-lexical"}:
            raise ConfigError("words_language is for 'native-hybrid' and 'native-lexical'; our own index knows none")
        if isinstance(reranker, str) and reranker != "lexical":
            raise ConfigError(f"reranker is None, 'lexical' or a Reranker, got {reranker!r}")
        if context not in get_args(Context):
            raise ConfigError(f"context is one of {', '.join(get_args(Context))}, got {context!r}")
        self.embedder: Embedder = FixedModel() if embedder is None else embedder
        self.collection = open_collection(store, collection, self.embedder, metric=metric, index=index, fields=fields)
        self.costs = Costs()
        self._k, self._clock = k, clock
        self._intake = Intake(self.collection, self.embedder, splitter=splitter, context=context)
        template = template or TEMPLATES[language]
        self._words: LexicalRetriever | None = None
        searched, vectors_only = self._made(retriever, words_path, words_language or "english")
        self._stages = Stages(
            collection=self.collection,
            retriever=searched,
            vectors_only=vectors_only,
            reranker=LexicalReranker() if isinstance(reranker, str) else reranker,
            llm=llm,
            extractive=extractive or Extractive(no_answer=template.no_answer),
            template=template,
            fetch_k=fetch_k,
            neighbours=neighbours,
            prompt_tokens=prompt_tokens,
            answer_tokens=answer_tokens,
            count_tokens=count_tokens or estimate_tokens,
            costs=self.costs,
        )
        self._aio: AsyncRag | None = None
        self._closed = False

    def add(
        self,
        what: str | os.PathLike[str] | Iterable[Document],
        *,
        origin: str | None = None,
        prune: bool | None = None,
        on_error: Callable[[Unreadable], None] | None = None,
        progress: Callable[[AddProgress], None] | None = None,
        **reading: Unpack[Reading],
    ) -> AddReport:
        """Load, split, embed and store what is new or changed: a file, the files of a folder, or documents.

        origin: names where they come from, the absolute path when not given (a link is not followed); "documents" for
        documents. prune: remove what this origin no longer has; True for a path, False for documents, when not given,
        and then a path where no document is found is a DocumentError instead of removing all. on_error: called for
        each file that cannot be read, or not to its end, and each document of one that no store can keep or that comes
        twice, whose chunks stay as they are, and for each file of a kind that no loader knows; without it
        `UnreadableWarning` is warned, once for all files of unknown kinds. Of documents that are given, one that
        cannot be kept is a DocumentError. reading: pattern, ignore and loaders, as of `load`; what they leave out, this
        origin no longer has.

        Warns where another origin has the same documents, a folder around this path say. One process at a time adds to
        an origin; the threads of a process, and the tasks of `aio`, take turns, and asking does not wait for them.
        """
        return self._intake.add(what, origin=origin, prune=prune, on_error=on_error, progress=progress, **reading)

    def remove(self, source: str | None = None, *, origin: str | None = None) -> int:
        """Delete the documents of this source, of an origin, or the one of both; the number of their chunks."""
        return self._intake.remove(source, origin=origin)

    def sources(self, *, origin: str | None = None) -> list[SourceState]:
        """The documents that the collection holds, by origin and source."""
        return self._intake.sources(origin=origin)

    def retrieve(
        self, question: str, k: int | None = None, *, where: Filter | None = None, budget_ms: float | None = None
    ) -> list[Passage]:
        """The passages that an answer would be made of, best first: retrieved, reranked, joined with neighbours."""
        asking, k = self._asking(question, k, budget_ms, wants_llm=False)
        return asking.find(k, where)

    def ask(
        self,
        question: str,
        *,
        k: int | None = None,
        where: Filter | None = None,
        budget_ms: float | None = None,
        history: Sequence[Message] = (),
    ) -> Answer:
        """The answer, with the passages that it cites, the time that each stage took, and notes for its reader.

        where: only chunks whose metadata matches are searched. budget_ms: milliseconds from now that the answer may
        take; `vecbench.rag.budget` says what is left out for it, the notes say what was. A model that is too slow for
        the budget is replaced by sentences of the passages; one that fails otherwise raises ModelError, or what an
        `LLM` of your own raises. history: the turns before, for the model; the search is for the question alone.
        """
        asking, k = self._asking(question, k, budget_ms, history)
        asking.find(k, where)
        return asking.answer("".join(asking.say(history, streaming=False)))

    def stream(
        self,
        question: str,
        *,
        k: int | None = None,
        where: Filter | None = None,
        budget_ms: float | None = None,
        history: Sequence[Message] = (),
    ) -> AnswerStream:
        """The same answer in pieces, as the model says them; `.answer` of the result is what `ask` returns.

        The passages are found when this returns.
        """
        asking, k = self._asking(question, k, budget_ms, history)
        asking.find(k, where)
        return AnswerStream(asking, asking.say(history, streaming=True))

    @property
    def aio(self) -> AsyncRag:
        """The same verbs, awaited."""
        if self._aio is None:
            from vecbench.rag.aio import AsyncRag

            self._aio = AsyncRag(self)
            if self._closed:
                self._aio.close()
        return self._aio

    def close(self) -> None:
        """Close what this opened: the index of words, the threads and streams of `aio`; not the store, nor a model."""
        self._closed = True
        if self._aio is not None:
            self._aio.close()
        if self._words is not None:
            self._words.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _asking(
        self,
        question: str,
        k: int | None,
        budget_ms: float | None,
        history: Sequence[Message] = (),
        *,
        wants_llm: bool = True,
    ) -> tuple[Asking, int]:
        deadline = Deadline(budget_ms) if self._clock is None else Deadline(budget_ms, clock=self._clock)
        _check_question(question)
        check_history(history)
        _check_numbers(k=self._k if k is None else k)
        return Asking(self._stages, question, wants_llm=wants_llm, deadline=deadline), self._k if k is None else k

    def _made(
        self, retriever: RetrieverName | Retriever, words_path: str | Path | None, words_language: str
    ) -> tuple[Retriever, Retriever | None]:
        """The retriever, and what a latency budget may take in its place."""
        if not isinstance(retriever, str):
            return retriever, None
        vector = VectorRetriever(self.collection, self.embedder)
        if retriever == "vector":
            return vector, None
        words: Retriever
        if retriever in {"native-hybrid", "native-lexical"}:
            words = native = NativeLexicalRetriever(self.collection, language=words_language)
            native.prepare()
        else:
            words = self._words = LexicalRetriever(self.collection, words_path)
            self._intake.watch(self._words.expire)
        if retriever in {"lexical", "native-lexical"}:
            return words, None
        return HybridRetriever([vector, words]), vector


def _check_question(question: object) -> None:
    if not isinstance(question, str):
        raise ConfigError(f"the question is a text, got {type(question).__name__}")
    if not question.strip():
        raise ConfigError("the question is blank")


def _check_numbers(**numbers: object) -> None:
    for name, value in numbers.items():
        if type(value) is not int or value < 1:
            raise ConfigError(f"{name} is a whole number of at least 1, got {value!r}")
