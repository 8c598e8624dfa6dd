"""A latency budget: what each stage is likely to take, and what to leave out so that the answer comes in time.

Retrieval-augmented generation is at its weakest where an answer must be quick: each stage that makes it better takes
time. With a budget the pipeline gives up, in this order and only as far as needed,

    the depth of reranking    down to `Costs.least_depth` passages, then the stage
    the neighbours            of the passages found
    the search by words       of the hybrid retriever; the search by vectors is never left out
    the length of the answer  down to `Costs.least_tokens`
    the language model        the best sentences of the passages are the answer then

What a stage takes is learned from the calls before. The logic is here and reads no clock but the one it is given.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import SupportsFloat

from vecbench.errors import ConfigError

__all__ = ["Clock", "Costs", "Deadline", "Plan", "fit", "given_up"]

Clock = Callable[[], int]
"""Nanoseconds that never go back, as `time.perf_counter_ns` counts them."""

_REMEMBERED = 9
_FIRST_GUESS_NS: Mapping[str, int] = {"rerank": 10_000_000, "token": 20_000_000, "llm": 500_000_000}
_RESERVE = 20  # a twentieth of the budget is kept back: for what no stage counts, and for a stage that takes longer


class Costs:
    """What a unit of each stage took in the last calls; may be used from several threads.

    Stages and their units: "rerank" a passage; "neighbours", "hybrid", "vector" a call; "llm" a call up to the end of
    an answer of usual length; "token" a token of the answer. The estimate is the median of the last nine, so that one
    call that had to load a model first does not count. Before the first call reranking is taken for 10 ms a passage, a
    model for half a second an answer and 20 ms a token, and everything else for nothing.
    """

    least_depth = 4
    least_tokens = 32

    def __init__(self) -> None:
        self._taken: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self._lock = threading.Lock()

    def learn(self, stage: str, ns: int, units: int = 1) -> None:
        """Remember that so many units of a stage took so long."""
        if units > 0:
            with self._lock:
                self._taken[stage].append(ns / units)

    def expect(self, stage: str) -> float:
        """Nanoseconds that a unit of a stage is likely to take."""
        with self._lock:
            taken = list(self._taken.get(stage, ()))
        return median(taken) if taken else _FIRST_GUESS_NS.get(stage, 0)


class Deadline:
    """When an answer is due, and how long its stages took.

    budget_ms: from now; None or infinity for no budget. clock: for tests.
    """

    def __init__(self, budget_ms: float | None = None, *, clock: Clock = time.perf_counter_ns) -> None:
        if budget_ms is not None and not _is_positive(budget_ms):
            raise ConfigError(f"budget_ms is {budget_ms!r}; it must be a positive number, or None for no budget")
        self.budget_ms = None if budget_ms is None else float(budget_ms)
        self._clock = clock
        self._start = clock()
        self.timings_ns: dict[str, int] = {}

    @property
    def left_ns(self) -> float:
        """Nanoseconds until the answer is due, less a reserve; infinity without a budget, never below 0."""
        if self.budget_ms is None:
            return float("inf")
        return max(0.0, self.budget_ms * (1e6 - 1e6 / _RESERVE) - (self._clock() - self._start))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; one that runs twice is counted together."""
        begun = self._clock()
        try:
            yield
        finally:
            self.timings_ns[name] = self.timings_ns.get(name, 0) + self._clock() - begun


def _is_positive(number: object) -> bool:
    return isinstance(number, SupportsFloat) and float(number) > 0  # a string is none


@dataclass(frozen=True, slots=True)
class Plan:
    """What is still to be done: what is wished for, or what fits.

    retrieve: True where it is still ahead. words: search by words too. depth: passages to rerank, 0 for no reranking.
    neighbours: join neighbours. llm: ask the language model. tokens: its longest answer. A stage that is done, or that
    nobody wants, is False or 0.
    """

    retrieve: bool = False
    words: bool = False
    depth: int = 0
    neighbours: bool = False
    llm: bool = False
    tokens: int = 0

    def cost_ns(self, costs: Costs) -> float:
        """What it is likely to take, with an answer of usual length."""
        cost = self.depth * costs.expect("rerank")
        if self.retrieve:
            cost += costs.expect("hybrid" if self.words else "vector")
        if self.neighbours:
            cost += costs.expect("neighbours")
        if self.llm:
            cost += min(costs.expect("llm"), self.tokens * costs.expect("token"))
        return cost


def fit(wish: Plan, costs: Costs, left_ns: float) -> Plan:
    """As much of the wish as is likely to be done in the time that is left."""
    plan = wish
    if wish.cost_ns(costs) <= left_ns:
        return plan

    def over_ns() -> float:
        return plan.cost_ns(costs) - left_ns

    least_tokens = min(costs.least_tokens, wish.tokens)
    if wish.llm and Plan(wish.retrieve, llm=True, tokens=least_tokens).cost_ns(costs) > left_ns:
        plan = replace(plan, llm=False, tokens=0)  # nothing else could make room for it: nothing else need give way
    if plan.depth and (over := over_ns()) > 0:
        depth = plan.depth - math.ceil(over / costs.expect("rerank")) if costs.expect("rerank") else 0
        plan = replace(plan, depth=depth if depth >= min(costs.least_depth, wish.depth) else 0)
    if plan.neighbours and over_ns() > 0:
        plan = replace(plan, neighbours=False)
    if plan.words and over_ns() > 0:
        plan = replace(plan, words=False)
    if plan.llm and over_ns() > 0:
        room_ns = left_ns - replace(plan, llm=False).cost_ns(costs)
        tokens = int(room_ns // costs.expect("token"))
        plan = replace(plan, tokens=min(plan.tokens, max(least_tokens, tokens)))
    return plan


def given_up(wish: Plan, done: Plan) -> list[str]:
    """What was done less than wished for, in sentences for the reader of the answer."""
    notes = []
    if done.depth < wish.depth:
        some = f"only {done.depth} of {wish.depth}" if done.depth else "no"
        notes.append(f"{some} passages were reranked, to keep the latency budget")
    if wish.neighbours and not done.neighbours:
        notes.append("passages were not joined with their neighbours, to keep the latency budget")
    if wish.words and not done.words:
        notes.append("passages were searched by vectors only, to keep the latency budget")
    if wish.llm and not done.llm:
        notes.append("sentences of the passages answer, not the language model, to keep the latency budget")
    elif done.tokens < wish.tokens:
        notes.append(f"the answer was held to {done.tokens} tokens, to keep the latency budget")
    return notes
