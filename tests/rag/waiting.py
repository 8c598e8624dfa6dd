"""A model that says one piece and then waits, for the tests of leaving it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from vecbench.errors import ModelError
from vecbench.rag import Message

SECONDS = 10  # after which a wait has failed


class Waiting:
    """waits, closed: set when it waits, and when its stream is closed. over: ends the wait; cancelling sets it."""

    name = "waiting"

    def __init__(self, *, cancels: bool = True) -> None:
        self.cancels = cancels
        self.waits, self.over, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.asked = 0  # for pieces and answers

    def complete(self, messages: Sequence[Message], *, max_tokens: int = 512, timeout: float | None = None) -> str:
        self.asked += 1
        assert self.over.wait(SECONDS)
        return "Three months [1]."

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 512, timeout: float | None = None
    ) -> Iterator[str]:
        return _Cancelled(self) if self.cancels else _Pieces(self)


class _Pieces(Iterator[str]):
    def __init__(self, model: Waiting) -> None:
        self.model, self.said = model, 0

    def __next__(self) -> str:
        self.model.asked += 1
        self.said += 1
        if self.said == 2:
            self.model.waits.set()
            assert self.model.over.wait(SECONDS)
            if self.model.cancels:
                raise ModelError("cut off")
        return ["Three ", "months ", "[1]."][self.said - 1]

    def close(self) -> None:
        self.model.closed.set()


class _Cancelled(_Pieces):
    def cancel(self) -> None:
        self.model.over.set()
