from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbench.errors import ConfigError
from vecbench.rag.budget import Costs, Deadline, Plan, fit, given_up

MS = 1_000_000
WISH = Plan(retrieve=True, words=True, depth=30, neighbours=True, llm=True, tokens=512)


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now

    def wait(self, ms: float) -> None:
        self.now += round(ms * MS)


def known(**ms: float) -> Costs:
    costs = Costs()
    for stage, cost in ms.items():
        costs.learn(stage, round(cost * MS))
    return costs


# All in all 30 + 300 + 10 + 400 = 740 ms; the least is 10 + 32 · 5 = 170 ms.
COSTS = known(hybrid=30, vector=10, rerank=10, neighbours=10, llm=400, token=5)


@pytest.mark.parametrize(
    ("left_ms", "expected"),
    [
        (math.inf, WISH),
        (740, WISH),
        (739, Plan(True, True, 29, True, True, 512)),
        (700, Plan(True, True, 26, True, True, 512)),
        (480, Plan(True, True, 4, True, True, 512)),  # the least depth
        (479, Plan(True, True, 0, True, True, 512)),
        (440, Plan(True, True, 0, True, True, 512)),
        (439, Plan(True, True, 0, False, True, 512)),
        (430, Plan(True, True, 0, False, True, 512)),
        (429, Plan(True, False, 0, False, True, 512)),
        (410, Plan(True, False, 0, False, True, 512)),
        (310, Plan(True, False, 0, False, True, 60)),
        (170, Plan(True, False, 0, False, True, 32)),  # the least answer
        (169, Plan(True, True, 12, True, False, 0)),  # no model: room for the rest again, 30 + 120 + 10
        (80, Plan(True, True, 4, True, False, 0)),
        (79, Plan(True, True, 0, True, False, 0)),
        (0, Plan(True, False, 0, False, False, 0)),  # vectors are always searched
    ],
)
def test_what_is_given_up_first(left_ms: float, expected: Plan) -> None:
    assert fit(WISH, COSTS, left_ms * MS) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        Plan,
        retrieve=st.booleans(),
        words=st.booleans(),
        depth=st.integers(0, 50),
        neighbours=st.booleans(),
        llm=st.just(True),
        tokens=st.integers(1, 600),
    ),
    st.dictionaries(
        st.sampled_from(["hybrid", "vector", "rerank", "neighbours", "llm", "token"]), st.integers(0, 500), max_size=6
    ),
    st.integers(0, 3000),
)
def test_what_is_kept_fits_or_is_the_least(wish: Plan, ms: dict[str, int], left_ms: int) -> None:
    costs = known(**ms)
    plan = fit(wish, costs, left_ms * MS)
    nothing = Plan(wish.retrieve)
    assert plan.cost_ns(costs) <= left_ms * MS or plan == nothing or costs.expect("vector") > costs.expect("hybrid")
    assert plan.retrieve == wish.retrieve
    assert plan.depth <= wish.depth
    assert plan.tokens <= wish.tokens
    assert (wish.words, wish.neighbours) >= (plan.words, plan.neighbours)
    assert plan.depth == 0 or plan.depth >= min(4, wish.depth)
    assert plan.llm == (plan.tokens > 0)
    assert fit(wish, costs, math.inf) == wish
    if wish.cost_ns(costs) <= left_ms * MS:
        assert plan == wish
    assert (not given_up(wish, plan)) == (plan == wish)


def test_notes_say_what_was_given_up() -> None:
    assert given_up(WISH, WISH) == []
    assert given_up(WISH, Plan(True, True, 12, True, True, 60)) == [
        "only 12 of 30 passages were reranked, to keep the latency budget",
        "the answer was held to 60 tokens, to keep the latency budget",
    ]
    assert given_up(WISH, Plan(True)) == [
        "no passages were reranked, to keep the latency budget",
        "passages were not joined with their neighbours, to keep the latency budget",
        "passages were searched by vectors only, to keep the latency budget",
        "sentences of the passages answer, not the language model, to keep the latency budget",
    ]


def test_costs_are_guessed_then_learned_per_unit() -> None:
    costs = Costs()
    assert costs.expect("rerank") == 10 * MS
    assert costs.expect("vector") == 0
    costs.learn("rerank", 60 * MS, 20)
    assert costs.expect("rerank") == 3 * MS
    costs.learn("rerank", 5, 0)  # nothing was done: nothing is learned
    assert costs.expect("rerank") == 3 * MS


def test_one_slow_call_does_not_count_and_old_ones_are_forgotten() -> None:
    costs = known(vector=5000)  # the first call loaded a model
    for _ in range(2):
        costs.learn("vector", 10 * MS)
    assert costs.expect("vector") == 10 * MS
    for _ in range(9):
        costs.learn("vector", 50 * MS)
    costs.learn("vector", 10 * MS)
    assert costs.expect("vector") == 50 * MS


def test_deadline_keeps_a_reserve_and_times_stages() -> None:
    clock = FakeClock()
    deadline = Deadline(200, clock=clock)
    assert deadline.left_ns == 190 * MS  # a twentieth is kept back
    with deadline.stage("retrieve"):
        clock.wait(30)
    clock.wait(1)

    def slow_failure() -> None:
        clock.wait(50)
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"), deadline.stage("rerank"):
        slow_failure()
    with deadline.stage("retrieve"):
        clock.wait(2)
    assert deadline.timings_ns == {"retrieve": 32 * MS, "rerank": 50 * MS}
    assert list(deadline.timings_ns) == ["retrieve", "rerank"]
    assert deadline.left_ns == 107 * MS
    clock.wait(500)
    assert deadline.left_ns == 0


def test_no_budget_never_ends() -> None:
    clock = FakeClock()
    deadline = Deadline(clock=clock)
    clock.wait(1e9)
    assert deadline.left_ns == math.inf


@pytest.mark.parametrize("budget_ms", [0, -1, math.nan])
def test_a_budget_of_nothing_is_refused(budget_ms: float) -> None:
    with pytest.raises(ConfigError, match="budget_ms is"):
        Deadline(budget_ms)
