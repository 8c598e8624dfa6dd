from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from vecbench import VectorStore, connect
from vecbench.errors import ConfigError
from vecbench.rag import Document, Passage, Rag, build_prompt

from .pipeline_parts import CONTRACT, MS, QUESTION, Bag, Clock, Parrot


@pytest.fixture
def store() -> Iterator[VectorStore]:
    with connect("memory") as made:
        yield made


class Slow:
    """A retriever and reranker that take their time, by a clock of ours."""

    def __init__(self, clock: Clock, passages: list[Passage], each_ms: float) -> None:
        self.clock, self.passages, self.each_ms = clock, passages, each_ms
        self.depths: list[int] = []

    def rerank(self, query: str, passages: Sequence[Passage], k: int | None = None) -> list[Passage]:
        self.depths.append(len(passages))
        self.clock.wait(self.each_ms * len(passages))
        return list(passages)

    def retrieve(self, query: str, k: int = 10, *, where: Any = None) -> list[Passage]:
        self.clock.wait(5)
        return self.passages[:k]


def slow(store: VectorStore, clock: Clock, **options: Any) -> tuple[Rag, Slow]:
    made = Slow(clock, [Passage(f"p{n}", f"{CONTRACT} {n}", f"{n}.md", 0, len(CONTRACT) + 2) for n in range(20)], 10)
    rag = Rag(store, embedder=Bag(), retriever=made, reranker=made, clock=clock, neighbours=0, fetch_k=20, **options)
    return rag, made


def test_a_budget_first_takes_from_reranking(store: VectorStore) -> None:
    clock = Clock()
    rag, stages = slow(store, clock)
    answer = rag.ask(QUESTION)
    assert stages.depths == [20]
    assert answer.timings_ns["rerank"] == 200 * MS
    before = clock.now
    answer = rag.ask(QUESTION, budget_ms=100)
    assert stages.depths[-1] == 9  # 100, less 5 kept back and 5 for the search
    assert clock.now - before == 95 * MS
    assert answer.notes == ("only 9 of 20 passages were reranked, to keep the latency budget",)
    answer = rag.ask(QUESTION, budget_ms=30)
    assert len(stages.depths) == 2
    assert answer.notes == ("no passages were reranked, to keep the latency budget",)
    assert "rerank" not in answer.timings_ns
    assert str(answer).startswith(CONTRACT)


def test_a_model_gets_what_is_left(store: VectorStore) -> None:
    clock = Clock()
    llm = Parrot("Three months ", "[1].", clock=clock, ms=100)
    rag, stages = slow(store, clock, llm=llm, answer_tokens=400)
    assert rag.ask(QUESTION).notes == ()
    answer = rag.ask(QUESTION, budget_ms=300)  # 300 - 15 - 5 - 200 for the model
    assert stages.depths == [20, 8]
    assert answer.text == "Three months [1]."
    assert llm.asked[-1][2] == pytest.approx(0.2)
    # Too little time for it: sentences of the passages, and the reranking gets its time back.
    answer = rag.ask(QUESTION, budget_ms=100)
    assert len(llm.asked) == 2
    assert answer.text.startswith(CONTRACT)
    assert answer.notes == (
        "only 9 of 20 passages were reranked, to keep the latency budget",
        "sentences of the passages answer, not the language model, to keep the latency budget",
    )


def test_a_model_that_is_late_is_replaced(store: VectorStore) -> None:
    clock = Clock()
    llm = Parrot("Three ", "months.", clock=clock, ms=3000)
    one = Passage("p0", f"{CONTRACT} 0", "0.md", 0, len(CONTRACT) + 2)
    room = build_prompt(QUESTION, [one], max_tokens=10_000).tokens
    rag, _ = slow(store, clock, llm=llm, k=2, prompt_tokens=room)
    answer = rag.ask(QUESTION, budget_ms=2000)
    assert clock.now <= 2000 * MS
    assert len(answer.passages) == 2  # all that was found, not only what fitted into the prompt
    assert answer.text.startswith(CONTRACT)
    assert [c.number for c in answer.citations] == [1]
    assert "the language model was too late (parrot did not finish its answer in time)" in answer.notes
    llm.ms = 1200
    before = clock.now
    stream = rag.stream(QUESTION, budget_ms=2000)
    assert list(stream) == ["Three "]  # cannot be taken back
    assert clock.now - before <= 2000 * MS
    assert any("breaks off at the end of the latency budget" in note for note in stream.answer.notes)
    with pytest.raises(ConfigError, match="budget_ms is 0"):
        rag.ask(QUESTION, budget_ms=0)


def test_a_model_that_is_late_again_and_again_is_asked_no_more(store: VectorStore) -> None:
    clock = Clock()
    llm = Parrot("Three months.", clock=clock, ms=60_000)
    rag, _ = slow(store, clock, llm=llm)
    for _ in range(20):
        notes = rag.ask(QUESTION, budget_ms=2000).notes
    assert len(llm.asked) < 15
    assert "sentences of the passages answer, not the language model, to keep the latency budget" in notes
    assert not any("too late" in note for note in notes)


def test_a_listener_who_pauses_does_not_count_as_the_model(store: VectorStore) -> None:
    clock = Clock()
    rag, _ = slow(store, clock, llm=Parrot("Three ", "months [1].", clock=clock, ms=10))
    stream = rag.stream(QUESTION)
    for _ in stream:
        clock.wait(60_000)
    assert stream.answer.timings_ns["llm"] == 20 * MS


def test_neighbours_and_words_go_too(store: VectorStore) -> None:
    clock = Clock()
    long = Document(
        "\n\n".join(f"Paragraph {n}. " + "words of a sentence that goes on " * 25 for n in range(6)), "a.txt"
    )
    rag = Rag(store, embedder=Bag(), clock=clock)
    rag.add([long])
    whole = rag.retrieve("Paragraph 3.", 1)
    for _ in range(9):
        rag.costs.learn("neighbours", 50 * MS)
    alone = rag.retrieve("Paragraph 3.", 1, budget_ms=40)
    assert len(alone[0].text) < len(whole[0].text)
    assert alone[0].text in whole[0].text
    assert whole[0].score is not None  # of the fusion
    for _ in range(9):
        rag.costs.learn("hybrid", 50 * MS)
    vectors_only = rag.retrieve("Paragraph 3.", 1, budget_ms=40)
    assert vectors_only[0].score is None
    notes = rag.ask("Paragraph 3.", budget_ms=40).notes
    assert notes[:2] == (
        "passages were not joined with their neighbours, to keep the latency budget",
        "passages were searched by vectors only, to keep the latency budget",
    )
