"""nDCG, MRR and recall: by hand, against definitions written out anew, and what cannot be judged."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from vecbench.errors import DatasetError
from vecbench.relevance import Judgements, mrr, ndcg, recall


def test_by_hand() -> None:
    judged = Judgements([{"a": 3, "b": 2, "c": 0, "d": 1}])
    ranked = [["b", "x", "a", "d"]]
    # gains 2 0 3 1 over log2 of 2 3 4 5; the best order is 3 2 1
    gain = 2 / 1 + 3 / 2 + 1 / math.log2(5)
    ideal = 3 / 1 + 2 / math.log2(3) + 1 / 2
    assert ndcg(judged, ranked, 10)[0] == pytest.approx(gain / ideal, abs=1e-15)
    assert ndcg(judged, ranked, 1)[0] == pytest.approx(2 / 3)
    assert ndcg(judged, ranked, 2)[0] == pytest.approx(2 / (3 + 2 / math.log2(3)))
    assert mrr(judged, ranked)[0] == 1
    assert mrr(judged, [["x", "c", "d", "a"]])[0] == pytest.approx(1 / 3)  # a judged document of grade 0 is no hit
    assert mrr(judged, [["x", "c", "d", "a"]], 2)[0] == 0
    assert recall(judged, ranked, 1)[0] == pytest.approx(1 / 3)
    assert recall(judged, ranked, 10)[0] == 1


def test_what_cannot_be_found_still_counts_in_the_ideal() -> None:
    """A relevant document that is not in the base is a loss, not left out: as trec_eval has it."""
    judged = Judgements([{"here": 1, "gone": 1}])
    assert ndcg(judged, [["here"]])[0] == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert recall(judged, [["here"]])[0] == 0.5


def test_a_query_with_nothing_relevant_has_no_score() -> None:
    judged = Judgements([{"a": 0}, {}, {"a": 1}])
    for score in (ndcg, mrr, recall):
        scores = score(judged, [["a"], ["a"], []])
        assert np.isnan(scores[:2]).all()
        assert scores[2] == 0
    assert judged.relevant == 1


def naive(judged: dict[str, int], ids: list[str], k: int) -> tuple[float, float, float]:
    """The three, with loops and nothing shared with the code under test."""
    dcg = 0.0
    for i in range(min(k, len(ids))):
        if ids[i] in judged:
            dcg += judged[ids[i]] / math.log(i + 2, 2)
    ideal = 0.0
    grades = sorted(judged.values())
    for i in range(k):
        if grades:
            ideal += grades.pop() / math.log(i + 2, 2)
    relevant = {id_ for id_ in judged if judged[id_] > 0}
    first = 0.0
    for i in reversed(range(min(k, len(ids)))):
        if ids[i] in relevant:
            first = 1 / (i + 1)
    return dcg / ideal, first, len(relevant & set(ids[:k])) / len(relevant)


def test_random_rankings_score_as_the_definitions_say() -> None:
    draw = random.Random(5)  # noqa: S311
    names = [f"d{i}" for i in range(40)]
    grades = [{id_: draw.randrange(4) for id_ in draw.sample(names, draw.randrange(2, 25))} for _ in range(200)]
    grades = [{**judged, "always": 2} for judged in grades]
    ranked = [draw.sample([*names, "always"], draw.randrange(1, 41)) for _ in grades]
    for k in (1, 3, 10, 100):
        found = np.stack([score(Judgements(grades), ranked, k) for score in (ndcg, mrr, recall)], axis=1)
        expected = [naive(judged, ids, k) for judged, ids in zip(grades, ranked, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_what_makes_no_sense_is_refused() -> None:
    for grade in (-1, 1.5, True, "2"):
        with pytest.raises(DatasetError, match="query 1, id 'b'"):
            Judgements([{"a": 1}, {"b": grade}])  # type: ignore[dict-item]
    judged = Judgements([{"a": 1}])
    with pytest.raises(DatasetError, match="2 rankings for 1"):
        ndcg(judged, [["a"], ["b"]])
    with pytest.raises(DatasetError, match="names an id twice"):
        ndcg(judged, [["a", "a"]])
    with pytest.raises(DatasetError, match="k is 0"):
        recall(judged, [["a"]], 0)


def test_a_slice_of_judgements_is_judgements() -> None:
    judged = Judgements([{"a": 1}, {"b": 2}, {"c": 3}])
    part = judged[1:]
    assert isinstance(part, Judgements)
    assert list(part) == [{"b": 2}, {"c": 3}]
    assert judged[0] == {"a": 1}
