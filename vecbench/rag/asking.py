"""One question on its way to an answer: the stages, each timed, as many as the latency budget allows."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

from vecbench.collection import Collection
from vecbench.errors import ModelError, redact
from vecbench.filters import Filter
from vecbench.rag.answer.citations import check_citations
from vecbench.rag.answer.extractive import Extractive
from vecbench.rag.answer.prompt import build_prompt
from vecbench.rag.answer.templates import PromptTemplate
from vecbench.rag.budget import Costs, Deadline, Plan, fit, given_up
from vecbench.rag.retrieve.neighbours import merge_neighbours
from vecbench.rag.types import LLM, Answer, CountTokens, Message, Passage, Reranker, Retriever

__all__ = ["AnswerStream", "Asking", "Stages"]


@dataclass(frozen=True, slots=True)
class Stages:
    """What a question passes through. vectors_only: what a hybrid retriever falls back to for a latency budget."""

    collection: Collection
    retriever: Retriever
    vectors_only: Retriever | None
    reranker: Reranker | None
    llm: LLM | None
    extractive: Extractive
    template: PromptTemplate
    fetch_k: int
    neighbours: int
    prompt_tokens: int
    answer_tokens: int
    count_tokens: CountTokens
    costs: Costs


class Asking:
    """One question; `find`, `say` and `answer` are called in this order, each once."""

    def __init__(self, stages: Stages, question: str, *, wants_llm: bool, deadline: Deadline) -> None:
        self._stages, self._question, self._deadline = stages, question, deadline
        wants_llm = wants_llm and stages.llm is not None
        self._wish = Plan(
            retrieve=True,
            words=stages.vectors_only is not None,
            depth=stages.fetch_k if stages.reranker else 0,
            neighbours=stages.neighbours > 0,
            llm=wants_llm,
            tokens=stages.answer_tokens if wants_llm else 0,
        )
        self._ahead = self._done = self._wish  # until a stage does less
        self._notes: list[str] = []
        self._heard: Iterator[str] | None = None  # the model
        self._left = False
        self.passages: list[Passage] = []

    def find(self, k: int, where: Filter | None) -> list[Passage]:
        """The best k passages: retrieved, reranked, joined with their neighbours."""
        self.passages = self._joined(self._reranked(self._retrieved(k, where), k))
        return self.passages

    def say(self, history: Sequence[Message], *, streaming: bool) -> Generator[str, None, None]:
        """The answer in pieces, or in one."""
        stages = self._stages
        if not self.passages:
            self._wish = replace(self._wish, llm=False, tokens=0)  # there is nothing to ask it about
            self._notes.append("nothing was found")
            yield stages.template.no_answer
            return
        plan = self._plan()
        self._done = replace(self._done, llm=plan.llm, tokens=plan.tokens)
        if stages.llm is None or not plan.llm:
            yield self._quoted()
            return
        found, messages = self.passages, self._prompt(history)
        said: list[str] = []
        try:
            with closing(self._asked(stages.llm, messages, plan.tokens, streaming=streaming)) as pieces:
                for piece in pieces:
                    said.append(piece)
                    yield piece
        except Exception as error:  # of any class: a model of one's own has its own
            if self._left or self._deadline.left_ns > 0:  # there was time left, or no budget: it is not lateness
                raise
            why = str(error) if isinstance(error, ModelError) else redact(f"{type(error).__name__}: {error}")
            # How much too slow is not known; the next question expects twice as much.
            self._learn_answer(2, plan.tokens)
            if said:
                self._notes.append(f"the answer breaks off at the end of the latency budget ({why})")
                return
            self._done, self.passages = replace(self._done, llm=False, tokens=0), found
            self._notes.append(f"the language model was too late ({why})")
            yield self._quoted()
        else:
            self._learn_answer(1, stages.count_tokens("".join(said)))

    def answer(self, text: str) -> Answer:
        """The answer of this text, its citations checked."""
        with self._deadline.stage("citations"):
            checked = check_citations(text, self.passages, no_answer=self._stages.template.no_answer)
        budget_ms, taken_ms = self._deadline.budget_ms, sum(self._deadline.timings_ns.values()) / 1e6
        if budget_ms is not None and taken_ms > budget_ms:
            self.note(f"the answer took {math.ceil(taken_ms)} ms, more than the latency budget of {budget_ms:g} ms")
        return Answer(
            question=self._question,
            text=checked.text,
            citations=checked.citations,
            passages=tuple(self.passages),
            timings_ns=dict(self._deadline.timings_ns),
            notes=(*given_up(self._wish, self._done), *self._notes, *checked.notes),
        )

    def note(self, text: str) -> None:
        """Tell the reader of the answer."""
        self._notes.append(text)

    def cancel(self) -> None:
        """End the wait of another thread for a piece, where the model's stream can; see `LLM.stream`."""
        self._left = True
        if (cancel := getattr(self._heard, "cancel", None)) is not None:
            cancel()

    def _retrieved(self, k: int, where: Filter | None) -> list[Passage]:
        stages, words = self._stages, self._plan().words
        self._done = replace(self._done, words=words)
        self._ahead = replace(self._ahead, retrieve=False, words=False)
        retriever = stages.retriever if words or stages.vectors_only is None else stages.vectors_only
        most = max(k, stages.fetch_k) if stages.reranker else k
        return self._timed(
            "retrieve",
            "hybrid" if words else "vector",
            1,
            lambda: retriever.retrieve(self._question, most, where=where),
        )

    def _reranked(self, found: list[Passage], k: int) -> list[Passage]:
        self._wish = replace(self._wish, depth=min(self._wish.depth, len(found)))
        self._ahead = replace(self._ahead, depth=self._wish.depth)
        reranker, depth = self._stages.reranker, self._plan().depth
        self._done, self._ahead = replace(self._done, depth=depth), replace(self._ahead, depth=0)
        if reranker is None or not depth:
            return found[:k]
        best = self._timed("rerank", "rerank", depth, lambda: reranker.rerank(self._question, found[:depth]))
        return [*best, *found[depth:]][:k]

    def _joined(self, found: list[Passage]) -> list[Passage]:
        stages, neighbours = self._stages, self._plan().neighbours
        self._done, self._ahead = replace(self._done, neighbours=neighbours), replace(self._ahead, neighbours=False)
        if not (neighbours and found):
            return found
        most = max(1, stages.prompt_tokens // 2)
        join = partial(
            merge_neighbours, found, stages.collection, window=stages.neighbours, most=most, count=stages.count_tokens
        )
        return self._timed("neighbours", "neighbours", 1, join)

    def _prompt(self, history: Sequence[Message]) -> tuple[Message, ...]:
        stages = self._stages
        with self._deadline.stage("prompt"):
            prompt = build_prompt(
                self._question,
                self.passages,
                max_tokens=stages.prompt_tokens,
                count_tokens=stages.count_tokens,
                history=history,
                template=stages.template,
            )
        if left_out := len(self.passages) - len(prompt.passages):
            self._notes.append(f"{left_out} of {len(self.passages)} passages did not fit into the prompt")
        self.passages = list(prompt.passages)
        return prompt.messages

    def _asked(
        self, llm: LLM, messages: Sequence[Message], tokens: int, *, streaming: bool
    ) -> Generator[str, None, None]:
        """Pieces of the answer. Only the wait for each is the model's time, not what a reader does in between."""
        left_ns = self._deadline.left_ns
        timeout = None if left_ns == math.inf else max(left_ns / 1e9, 0.001)
        if not streaming:
            with self._deadline.stage("llm"):
                text = llm.complete(messages, max_tokens=tokens, timeout=timeout)
            yield text
            return
        self._heard = pieces = llm.stream(messages, max_tokens=tokens, timeout=timeout)
        try:
            while not self._left:
                with self._deadline.stage("llm"):
                    piece = next(pieces, None)
                if piece is None:
                    return
                yield piece
            raise ModelError("the listener left")  # unlike an end, it tells nothing about the model
        finally:
            if (close := getattr(pieces, "close", None)) is not None:
                close()  # at once, not when it is collected: a listener who leaves ends the request

    def _quoted(self) -> str:
        with self._deadline.stage("extractive"):
            return self._stages.extractive.answer(self._question, self.passages)

    def _learn_answer(self, times: int, tokens: int) -> None:
        ns = times * self._deadline.timings_ns.get("llm", 0)
        self._stages.costs.learn("llm", ns)
        self._stages.costs.learn("token", ns, max(1, tokens))

    def _plan(self) -> Plan:
        """As much of what is ahead as fits into the time that is left."""
        return fit(self._ahead, self._stages.costs, self._deadline.left_ns)

    def _timed(self, stage: str, cost: str, units: int, run: Callable[[], list[Passage]]) -> list[Passage]:
        with self._deadline.stage(stage):
            result = run()
        self._stages.costs.learn(cost, self._deadline.timings_ns[stage], units)
        return result


class AnswerStream(Iterator[str]):
    """The pieces of an answer as they come, and then the `answer`; a context manager, leaving it ends the request.

    The pieces are the model's own words. `answer` is what came of them: citations of no passage are removed there.
    Several threads may hold it; they get different pieces.
    """

    def __init__(self, asking: Asking, pieces: Generator[str, None, None]) -> None:
        self._asking, self._pieces = asking, pieces
        self._said: list[str] = []
        self._answer: Answer | None = None
        self._error: Exception | None = None
        self._ended = self._left = False
        self._lock = threading.RLock()

    def __next__(self) -> str:
        try:
            with self._lock:
                if self._left:
                    self._end()
                return self._next()
        finally:
            if self._left:  # while we waited, and `close` did not wait for us
                self._end()

    @property
    def answer(self) -> Answer:
        """The answer; what was not heard yet is heard first. After `close` it is that of the pieces that were heard.

        Raises again what ended the pieces early.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._answer is None:
                for _ in self:
                    pass
                self._answer = self._asking.answer("".join(self._said))
            return self._answer

    def close(self) -> None:
        """End the request, also while another thread waits for a piece, which is not waited for; twice is fine.

        A model whose stream cannot be cancelled (see `LLM.stream`) ends with that piece.
        """
        self._left = True
        if not self._end():
            self._asking.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _next(self) -> str:
        try:
            piece = next(self._pieces)
        except StopIteration:
            self._ended = True
            raise
        except Exception as error:
            if self._left:  # what was cut off has not failed
                raise StopIteration from error
            self._error, self._ended = error, True
            raise
        except BaseException:  # Ctrl-C: the pieces have ended, and the model has not
            self._end()
            raise
        self._said.append(piece)
        return piece

    def _end(self) -> bool:
        """End the pieces, unless another thread waits for one: False, and that thread does it."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if not self._ended:
                self._ended = True
                self._asking.note("the answer was not heard to its end")
                self._pieces.close()
        finally:
            self._lock.release()
        return True
