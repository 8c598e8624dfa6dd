"""Documents, and an embedder, a clock and a model that do what they are told, for the tests of the pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vecbench import VectorStore
from vecbench.embed.spec import EmbedderSpec, Progress
from vecbench.errors import ModelError
from vecbench.rag import (
    Document,
    Message,
    Rag,
)
from vecbench.rag.answer.templates import TEMPLATES
from vecbench.rag.retrieve.words import tokens
from vecbench.types import Vectors

ROOT = Path(__file__).resolve().parents[2]
MS = 1_000_000
NO_ANSWER = TEMPLATES["en"].no_answer
QUESTION = "How long is the notice period?"
CONTRACT = "The notice period is three months to the end of a quarter."
DOCUMENTS = [
    Document(f"# Contract\n\nWork begins at nine.\n\n{CONTRACT}", "contract.md", {"year": 2024}),
    Document("Holidays are thirty days a year. They lapse in March.", "holidays.txt", {"year": 2025}),
    Document("def notice(period):\n    return period * 3\n", "notice.py", {"year": 2025}),
]


class Bag:
    """Vectors of the words of a text: alike where words are shared."""

    def __init__(self, name: str = "bag") -> None:
        self.spec = EmbedderSpec(name=name, dim=64, max_tokens=256)
        self.texts = 0

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        self.texts += len(texts)
        vectors = np.full((len(texts), self.spec.dim), 0.01, np.float32)
        for row, text in enumerate(texts):
            for word in tokens(text):
                vectors[row, sum(word.encode()) % self.spec.dim] += 1
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now

    def wait(self, ms: float) -> None:
        self.now += round(ms * MS)


class Parrot:
    """A model that says what it is told to, and keeps what it is asked. It may take its time, by a clock of ours."""

    name = "parrot"

    def __init__(self, *pieces: str, clock: Clock | None = None, ms: float = 0) -> None:
        self.pieces, self.clock, self.ms = pieces, clock, ms
        self.asked: list[tuple[Sequence[Message], int, float | None]] = []
        self.closed = 0

    def complete(self, messages: Sequence[Message], *, max_tokens: int = 512, timeout: float | None = None) -> str:
        return "".join(self.stream(messages, max_tokens=max_tokens, timeout=timeout))

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 512, timeout: float | None = None
    ) -> Iterator[str]:
        self.asked.append((messages, max_tokens, timeout))
        self.last = self._pieces(timeout)  # kept, so that only closing it ends it
        return self.last

    def _pieces(self, timeout: float | None) -> Iterator[str]:
        left = float("inf") if timeout is None else timeout * 1000
        try:
            for piece in self.pieces:
                if self.clock is not None:
                    self.clock.wait(min(self.ms, left))
                if (left := left - self.ms) < 0:
                    raise ModelError("parrot did not finish its answer in time")
                if piece == "!":
                    raise ModelError("parrot is broken")
                yield piece
        finally:
            self.closed += 1


def filled(store: VectorStore, **options: Any) -> Rag:
    rag = Rag(store, embedder=options.pop("embedder", None) or Bag(), **options)
    rag.add(DOCUMENTS)
    return rag
