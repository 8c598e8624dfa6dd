"""A stream that is left: by another thread, before its first piece, by Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pytest

from vecbench import VectorStore, connect
from vecbench.errors import ConfigError
from vecbench.rag import AnswerStream, Message

from .pipeline_parts import QUESTION, Clock, Parrot, filled
from .waiting import SECONDS, Waiting

LEFT = "the answer was not heard to its end"


@pytest.fixture
def store() -> Iterator[VectorStore]:
    with connect("memory") as made:
        yield made


def listening(stream: AnswerStream, most: int | None = None) -> tuple[threading.Thread, list[str]]:
    heard: list[str] = []
    thread = threading.Thread(target=lambda: heard.extend(islice(stream, most)))
    thread.start()
    return thread, heard


def test_another_thread_may_leave_while_a_piece_is_waited_for(store: VectorStore) -> None:
    llm = Waiting()
    rag = filled(store, llm=llm)
    guess = rag.costs.expect("llm")
    stream = rag.stream(QUESTION)
    thread, heard = listening(stream)
    assert llm.waits.wait(SECONDS)
    stream.close()
    thread.join(SECONDS)
    assert heard == ["Three "]
    assert llm.closed.is_set()
    assert stream.answer.text == "Three "
    assert stream.answer.notes[0] == LEFT
    assert rag.costs.expect("llm") == guess  # it tells nothing about how long the model takes


def test_a_model_that_cannot_be_cancelled_ends_with_its_piece(store: VectorStore) -> None:
    llm = Waiting(cancels=False)
    stream = filled(store, llm=llm).stream(QUESTION)
    thread, heard = listening(stream, 2)
    assert llm.waits.wait(SECONDS)
    stream.close()  # waits for nobody
    assert thread.is_alive()
    assert not llm.closed.is_set()
    llm.over.set()
    thread.join(SECONDS)
    assert heard == ["Three ", "months "]
    assert llm.closed.is_set()
    assert list(stream) == []
    assert llm.asked == 2
    assert stream.answer.text == "Three months "
    assert stream.answer.notes[0] == LEFT


def test_to_leave_after_the_deadline_is_no_lateness_of_the_model(store: VectorStore) -> None:
    llm, clock = Waiting(), Clock()
    rag = filled(store, llm=llm, clock=clock)
    stream = rag.stream(QUESTION, budget_ms=2000)
    thread, _ = listening(stream)
    assert llm.waits.wait(SECONDS)
    clock.wait(1950)  # into what is kept back
    stream.close()
    thread.join(SECONDS)
    assert stream.answer.notes == (LEFT, "the answer cites no passage")


def test_a_model_is_not_asked_for_one_who_has_left(store: VectorStore) -> None:
    counts, go_on = threading.Event(), threading.Event()

    def count(text: str) -> int:
        if threading.current_thread() is not threading.main_thread():
            counts.set()
            assert go_on.wait(SECONDS)
        return len(text.split())

    llm = Waiting()
    rag = filled(store, llm=llm, count_tokens=count)
    guess = rag.costs.expect("llm")
    stream = rag.stream(QUESTION)
    thread, heard = listening(stream)
    assert counts.wait(SECONDS)
    stream.close()
    go_on.set()
    thread.join(SECONDS)
    assert (heard, llm.asked, rag.costs.expect("llm")) == ([], 0, guess)


def test_who_left_before_the_first_piece_is_told_of_no_budget(store: VectorStore) -> None:
    rag = filled(store, llm=Parrot("Three months [1]."))
    with rag.stream(QUESTION) as stream:
        pass
    with rag.stream(QUESTION, budget_ms=60_000) as other:
        pass
    for left in (stream, other):
        assert left.answer.text == ""
        assert LEFT in left.answer.notes
        assert not any("budget" in note for note in left.answer.notes)


def test_ctrl_c_is_told(store: VectorStore) -> None:
    class Interrupted(Parrot):
        def stream(self, messages: Sequence[Message], **_: Any) -> Iterator[str]:
            yield "Three "
            raise KeyboardInterrupt

    stream = filled(store, llm=Interrupted()).stream(QUESTION)
    assert next(stream) == "Three "
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert list(stream) == []
    assert stream.answer.text == "Three "
    assert LEFT in stream.answer.notes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"question": None}, "the question is a text, got NoneType"),
        ({"question": b"fee"}, "the question is a text, got bytes"),
        (
            {"history": [{"role": "user", "content": "x"}]},
            r"history holds \{'role': 'user', 'content': 'x'\}; its turns",
        ),
        ({"history": "earlier"}, "history holds 'e'; its turns"),
        ({"history": None}, "history is a list of messages, got NoneType"),
        ({"history": [Message("user", None)]}, "history holds Message"),  # type: ignore[arg-type]
        ({"history": [Message("system", "x")]}, "a message of role 'system'"),
        ({"budget_ms": "300"}, "budget_ms is '300'; it must be a positive number"),
        ({"budget_ms": float("nan")}, "budget_ms is nan"),
        ({"k": "3"}, "k is a whole number"),
    ],
)
def test_wrong_questions_are_refused_at_once(store: VectorStore, arguments: dict[str, Any], message: str) -> None:
    llm = Parrot("Three months [1].")
    rag = filled(store, llm=llm)
    for verb in (rag.ask, rag.stream):
        with pytest.raises(ConfigError, match=message):
            verb(**{"question": QUESTION, **arguments})
    assert not llm.asked
