"""Relevance beside recall: of the answers that were timed, and of the exact neighbours."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from vecbench.bench import figures, runner
from vecbench.bench.plan import Plan
from vecbench.dataset import Dataset
from vecbench.errors import BenchmarkError
from vecbench.registry import StoreRef
from vecbench.relevance import Judgements
from vecbench.types import Metric


@pytest.fixture
def judged() -> Dataset:
    """Five rows on a line; for each query its second neighbour is relevant, for the last one nothing is."""
    base = np.array([[1, 0], [2, 0], [3, 0], [4, 0], [5, 0]], np.float32)
    queries = np.array([[1, 0], [5, 0], [3, 0]], np.float32)
    data = Dataset.from_arrays("line", base, queries)
    return dataclasses.replace(data, judgements=Judgements([{"1": 1}, {"3": 1, "0": 0}, {}]))


def test_figures_by_hand(judged: Dataset) -> None:
    rows = np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]])
    found = figures.quality(rows, judged)
    assert found is not None
    assert found.queries_judged == 2
    assert found.ndcg_at_10 == pytest.approx(1 / math.log2(3))
    assert found.mrr_at_10 == pytest.approx(0.5)
    assert found.recall_at_100 == 1
    twice = figures.quality(np.array([[0, 0, 1, -1, -2]] * 3), judged)
    assert twice is not None
    assert twice.mrr_at_10 == pytest.approx(0.25)  # 1 is second once the repeated id counts once; nothing for the other
    shallow = figures.quality(rows[:, :3], judged)
    assert shallow is not None
    assert (shallow.ndcg_at_10, shallow.recall_at_100) == (None, None)
    assert figures.quality(rows, dataclasses.replace(judged, judgements=None)) is None


def test_the_truth_goes_as_deep_as_is_asked_and_to_a_hundred_at_least(judged: Dataset) -> None:
    large = Dataset.from_arrays("large", np.eye(300, 4) + 1, judged.queries.repeat(2, axis=1))
    assert [figures.truth_depth(k, large) for k in (10, 100, 200, 1000)] == [100, 100, 200, 300]
    assert figures.truth_depth(10, judged) == 5


def test_a_run_reports_it_and_verify_makes_it_again(judged: Dataset) -> None:
    plan = Plan(stores=(StoreRef("faiss"),), dataset="line", metrics=(Metric.EUCLIDEAN,), k=5, rounds=1, queries=2)
    report = runner.run(plan, dataset=judged)
    assert [case.error for case in report.cases] == [None]
    best = report.exact_quality["euclidean"]
    assert best.mrr_at_10 == pytest.approx(0.5)
    assert report.cases[0].settings[-1].quality == best
    figures.verify(report, judged)
    asked = figures.with_queries(judged, 2)  # what was measured is what is told
    assert report.dataset["judgements_sha256"] == asked.judgements_sha256 != judged.judgements_sha256
    regraded = dataclasses.replace(judged, judgements=Judgements([{"1": 0}, {"3": 1, "0": 0}, {}]))
    with pytest.raises(BenchmarkError, match="with judgements of sha256"):
        figures.verify(report, regraded)
    report.cases[0].settings[-1].quality = best.model_copy(update={"mrr_at_10": 0.6})
    with pytest.raises(BenchmarkError, match="quality is"):
        figures.verify(report, judged)
