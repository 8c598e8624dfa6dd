"""A model of the user's that does not keep the time it was given, or fails."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from vecbench import VectorStore, connect
from vecbench.rag import Message, Rag

from .pipeline_parts import CONTRACT, MS, QUESTION, Clock, Parrot, filled


@pytest.fixture
def store() -> Iterator[VectorStore]:
    with connect("memory") as made:
        yield made


class Own:
    """Takes so long, whatever the timeout, and then raises or answers; its first piece comes at once."""

    name = "own"

    def __init__(self, clock: Clock, ms: float, error: Exception | None = None) -> None:
        self.clock, self.ms, self.error = clock, ms, error

    def complete(self, messages: Sequence[Message], **_: Any) -> str:
        self.clock.wait(self.ms)
        if self.error is not None:
            raise self.error
        return "Three months [1]."

    def stream(self, messages: Sequence[Message], **_: Any) -> Iterator[str]:
        yield "Three "
        self.complete(messages)
        yield "months [1]."


def asked(store: VectorStore, ms: float, error: Exception | None = None) -> Rag:
    clock = Clock()
    return filled(store, llm=Own(clock, ms, error), clock=clock)


def test_an_error_after_the_deadline_is_lateness_whatever_its_class(store: VectorStore) -> None:
    rag = asked(store, 1900, TimeoutError("token=abc ran out"))
    answer = rag.ask(QUESTION, budget_ms=2000)
    assert answer.text == f"{CONTRACT} [1]"
    assert answer.notes == (
        "sentences of the passages answer, not the language model, to keep the latency budget",
        "the language model was too late (TimeoutError: token=*** ran out)",
    )
    stream = rag.stream(QUESTION, budget_ms=2000)
    assert list(stream) == ["Three "]
    assert any("breaks off at the end of the latency budget (TimeoutError" in note for note in stream.answer.notes)


@pytest.mark.parametrize("budget_ms", [None, math.inf, 2000])
def test_an_error_in_time_is_its_own(store: VectorStore, budget_ms: float | None) -> None:
    rag = asked(store, 1800, LookupError("no such model"))
    with pytest.raises(LookupError, match="no such model"):
        rag.ask(QUESTION, budget_ms=budget_ms)
    with pytest.raises(LookupError, match="no such model"):
        list(rag.stream(QUESTION, budget_ms=budget_ms))


def test_an_answer_that_took_longer_than_its_budget_says_so(store: VectorStore) -> None:
    note = "the answer took 5000 ms, more than the latency budget of 2000 ms"
    assert asked(store, 5000).ask(QUESTION, budget_ms=2000).notes == (note,)
    assert note in asked(store, 5000).stream(QUESTION, budget_ms=2000).answer.notes
    assert asked(store, 2000).ask(QUESTION, budget_ms=2000).notes == ()
    assert asked(store, 5000).ask(QUESTION).notes == ()
    assert asked(store, 5000).ask(QUESTION, budget_ms=math.inf).notes == ()


def test_a_listener_who_pauses_is_not_the_answer(store: VectorStore) -> None:
    clock = Clock()
    stream = filled(store, llm=Parrot("Three ", "months [1]."), clock=clock).stream(QUESTION, budget_ms=2000)
    for _ in stream:
        clock.wait(60_000)
    assert stream.answer.notes == ()


def test_no_end_of_time_gives_nothing_up(store: VectorStore) -> None:
    clock = Clock()
    llm = Parrot("Three months [1].", clock=clock, ms=1)
    rag = filled(store, llm=llm, clock=clock, reranker="lexical")
    for budget_ms in (math.inf, 1e306):  # more milliseconds than there are nanoseconds
        assert rag.ask(QUESTION, budget_ms=budget_ms).notes == ()
    rag.costs.learn("llm", 3_600_000 * MS)
    assert rag.ask(QUESTION, budget_ms=math.inf).notes == ()
    assert [timeout for *_, timeout in llm.asked] == [None] * 3
