"""What is awaited does not outlive its listener, and knows who asked."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from vecbench import VectorStore, connect
from vecbench.errors import RagError
from vecbench.rag import Document, Message, Rag
from vecbench.rag.adding import lock_of

from .pipeline_parts import QUESTION, Bag, Parrot, filled
from .waiting import SECONDS, Waiting

LEFT = "the answer was not heard to its end"


@pytest.fixture
def store() -> Iterator[VectorStore]:
    with connect("memory") as made:
        yield made


async def listen(rag: Rag) -> list[str]:
    async with await rag.aio.stream(QUESTION) as pieces:
        return [piece async for piece in pieces]


@pytest.mark.parametrize("cancels", [True, False])
def test_a_cancelled_task_does_not_wait_for_the_model(store: VectorStore, cancels: bool) -> None:
    llm = Waiting(cancels=cancels)

    async def run() -> None:
        with filled(store, llm=llm) as rag:
            task = asyncio.create_task(listen(rag))
            assert await asyncio.to_thread(llm.waits.wait, SECONDS)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, SECONDS / 2)
            assert llm.over.is_set() == cancels  # a model that cannot be cancelled ends with its piece
            llm.over.set()
            assert await asyncio.to_thread(llm.closed.wait, SECONDS)
            assert llm.asked == 2

    asyncio.run(run())


def test_a_stream_can_be_left_while_all_threads_wait(store: VectorStore) -> None:
    llm = Waiting()

    async def run() -> None:
        with filled(store, llm=llm) as rag:
            stream = await rag.aio.stream(QUESTION)
            assert await anext(stream) == "Three "
            asking = [asyncio.create_task(rag.aio.ask(QUESTION)) for _ in range(9)]
            await asyncio.sleep(0)  # each has taken its thread, or stands in the queue
            await asyncio.wait_for(stream.aclose(), SECONDS / 2)
            assert llm.closed.is_set()
            assert not llm.over.is_set()  # nobody waited for a piece: there was nothing to cancel
            llm.over.set()
            assert {answer.text for answer in await asyncio.gather(*asking)} == {"Three months [1]."}
            assert LEFT in (await stream.answer()).notes

    asyncio.run(run())


def test_closing_ends_the_streams_that_are_open(store: VectorStore) -> None:
    llm = Parrot("Three ", "months ", "[1].")

    async def run() -> None:
        rag = filled(store, llm=llm)
        async with await rag.aio.stream(QUESTION) as pieces:
            assert await anext(pieces) == "Three "
            rag.close()
            assert llm.closed == 1
            for later in (anext(pieces), pieces.answer(), rag.aio.ask(QUESTION), rag.aio.stream(QUESTION)):
                with pytest.raises(RagError, match="this Rag was closed"):
                    await later
        rag.close()

    asyncio.run(run())


def test_closing_ends_a_stream_that_waits(store: VectorStore) -> None:
    llm = Waiting()

    async def run() -> None:
        rag = filled(store, llm=llm)
        task = asyncio.create_task(listen(rag))
        assert await asyncio.to_thread(llm.waits.wait, SECONDS)
        rag.close()
        assert await asyncio.wait_for(task, SECONDS / 2) == ["Three "]
        assert llm.closed.is_set()

    asyncio.run(run())


def test_what_was_closed_before_it_was_awaited_is_closed(store: VectorStore) -> None:
    rag = Rag(store, embedder=Bag())
    rag.close()
    with pytest.raises(RagError, match="this Rag was closed"):
        asyncio.run(rag.aio.sources())


def test_context_variables_reach_the_model(store: VectorStore) -> None:
    request = contextvars.ContextVar("request", default="lost")

    class Logged:
        name = "logged"

        def complete(self, messages: Sequence[Message], **_: Any) -> str:
            return f"Request {request.get()} [1]."

        def stream(self, messages: Sequence[Message], **_: Any) -> Iterator[str]:
            yield self.complete(messages)

    async def ask(rag: Rag, name: str) -> list[str]:
        request.set(name)
        return [str(await rag.aio.ask(QUESTION)), *await listen(rag)]

    async def run() -> None:
        with filled(store, llm=Logged()) as rag:
            seven, eight = await asyncio.gather(ask(rag, "7"), ask(rag, "8"))
            assert (seven, eight) == (["Request 7 [1]."] * 2, ["Request 8 [1]."] * 2)

    asyncio.run(run())


def test_a_stream_that_is_made_while_the_rag_closes_is_ended(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        with filled(store, llm=Parrot("Three months [1].")) as rag:
            stream, made = rag.stream, []

            def late(*arguments: Any, **options: Any) -> Any:
                made.append(stream(*arguments, **options))
                rag.close()
                return made[0]

            monkeypatch.setattr(rag, "stream", late)
            await rag.aio.stream(QUESTION)
            assert LEFT in made[0].answer.notes

    asyncio.run(run())


def test_adds_that_wait_for_their_turn_keep_no_question_waiting(store: VectorStore) -> None:
    async def run() -> None:
        with filled(store) as rag:
            turn = lock_of(rag.collection)
            with turn:
                adds = [
                    asyncio.create_task(rag.aio.add([Document(f"Rule {n} is new.", source=f"rule-{n}")]))
                    for n in range(12)
                ]
                answer = await asyncio.wait_for(rag.aio.ask(QUESTION), SECONDS)
                assert answer.citations
                assert not any(add.done() for add in adds)
            assert [report.added for report in await asyncio.gather(*adds)] == [1] * 12

    asyncio.run(run())
