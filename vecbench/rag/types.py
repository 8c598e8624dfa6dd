"""What passes between the stages of retrieval-augmented generation, and the protocol of each stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from vecbench.filters import Filter
from vecbench.types import Metadata

__all__ = [
    "LLM",
    "Answer",
    "Chunk",
    "Citation",
    "CountTokens",
    "Document",
    "Heading",
    "Message",
    "Passage",
    "Reranker",
    "Retriever",
    "Role",
    "Splitter",
]

CountTokens: TypeAlias = Callable[[str], int]
"""The number of tokens of a text; `len` counts characters."""
Role: TypeAlias = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of a document: `start` is its offset in characters, `level` 1 for the highest."""

    start: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Document:
    """One text and where it came from.

    text: what is split and embedded; all offsets count its characters (Unicode code points, as Python does). source:
    names the document within what is loaded, a path relative to the folder in most cases. metadata: flat, goes to
    every chunk. headings: in order of their offsets. pages: the offset at which each page begins, first page first;
    empty where the format has no pages.
    """

    text: str
    source: str
    metadata: Metadata = field(default_factory=dict)
    headings: Sequence[Heading] = ()
    pages: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage cut from a text: `source_text[start:end] == text`, always."""

    text: str
    start: int
    end: int


@runtime_checkable
class Splitter(Protocol):
    """Cuts a text into chunks, in order of their offsets; they may overlap."""

    @property
    def fingerprint(self) -> str:
        """A line that names the splitter and every parameter; splitters of equal fingerprint cut alike."""
        ...

    def split(self, text: str) -> list[Chunk]:
        """The chunks of `text`; none for a text of whitespace."""
        ...


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found.

    id: of its record in the collection. source, start, end: where it stands, `document_text[start:end] == text`.
    distance: to the query in the unit of the metric, None where it was not found by its vector. score: of the stage
    that ordered it last, larger is better (BM25, fused ranks, a reranker's logit); None where only distance ordered it.
    """

    id: str
    text: str
    source: str
    start: int
    end: int
    metadata: Metadata = field(default_factory=dict)
    distance: float | None = None
    score: float | None = None


@runtime_checkable
class Retriever(Protocol):
    """Finds passages for a question."""

    def retrieve(self, query: str, k: int = 10, *, where: Filter | None = None) -> list[Passage]:
        """Up to k passages, best first; `where` applies before the best are chosen."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Orders found passages anew, looking at question and passage together."""

    def rerank(self, query: str, passages: Sequence[Passage], k: int | None = None) -> list[Passage]:
        """The passages, or the best k, best first, each with this stage's `score`."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation with a language model."""

    role: Role
    content: str


@runtime_checkable
class LLM(Protocol):
    """A language model that answers in words."""

    @property
    def name(self) -> str:
        """What people call the model."""
        ...

    def complete(self, messages: Sequence[Message], *, max_tokens: int = 512, timeout: float | None = None) -> str:
        """The model's answer. timeout: seconds for the whole of it, None for the client's own.

        It must keep the timeout, by an error of any class: it is how an answer keeps its latency budget, since nobody
        else can end this call.
        """
        ...

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 512, timeout: float | None = None
    ) -> Iterator[str]:
        """The same answer in pieces, as they come.

        The iterator may have a `close()`, which ends the request, and a `cancel()`, which does so when called from
        another thread than the one that waits for a piece.
        """
        ...


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that an answer names: `number` as in the text, `[1]` for the first; it exists, or is not here."""

    number: int
    passage: Passage


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question.

    text: the answer. citations: the passages that it names, each once, in order of first mention. passages: all that
    the model was given, in the order of their numbers. timings_ns: nanoseconds per stage, in the order in which the
    stages ran. notes: what a reader should know, in sentences: a stage left out for the latency budget, a citation
    that named no passage and was removed.
    """

    question: str
    text: str
    citations: Sequence[Citation] = ()
    passages: Sequence[Passage] = ()
    timings_ns: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        return self.text
