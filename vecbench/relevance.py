"""What people judged relevant, and how good a ranking is by it: nDCG, MRR, recall."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from vecbench.errors import DatasetError

__all__ = ["Judgements", "mrr", "ndcg", "recall"]

Scores: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judgements(Sequence[Mapping[str, int]]):
    """For each query, in the order of the queries, the grades of base ids; what is not named is grade 0.

    A grade is a whole number of 0 or more; 1 and more is relevant. An id may be unknown to the base: trec_eval counts
    such a document in the ideal ranking, and so do the functions here. DatasetError for another grade.
    """

    grades: Sequence[Mapping[str, int]]

    def __post_init__(self) -> None:
        for row, judged in enumerate(self.grades):
            grade: Any  # from a file, whatever the annotation says
            for id_, grade in judged.items():
                if not isinstance(grade, int) or isinstance(grade, bool) or grade < 0:
                    raise DatasetError(f"judgements: query {row}, id {id_!r}: grade {grade!r} is no whole number ≥ 0")

    def __len__(self) -> int:
        return len(self.grades)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, int]: ...
    @overload
    def __getitem__(self, index: slice) -> Judgements: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, int] | Judgements:
        return Judgements(self.grades[index]) if isinstance(index, slice) else self.grades[index]

    def __iter__(self) -> Iterator[Mapping[str, int]]:
        return iter(self.grades)

    @property
    def relevant(self) -> int:
        """How many pairs of query and id are relevant."""
        return sum(grade >= 1 for judged in self.grades for grade in judged.values())


def ndcg(judgements: Judgements, ranked: Sequence[Sequence[str]], k: int = 10) -> Scores:
    """Normalised discounted cumulative gain at k for each query, float64 (q,), NaN where nothing is relevant.

    Σ grade/log2(rank + 1) over the first k ids, over the same sum of the best possible ranking of all that was judged:
    trec_eval's ndcg_cut. ranked: ids, best first; fewer than k are as if the rest were irrelevant.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    scores = np.full(len(judgements), np.nan)
    for row, judged, ids in _paired(judgements, ranked, k):
        best = sorted(judged.values(), reverse=True)[:k]
        ideal = float(np.dot(best, discounts[: len(best)]))
        if ideal > 0:
            gains = [judged.get(id_, 0) for id_ in ids]
            scores[row] = np.dot(gains, discounts[: len(gains)]) / ideal
    return scores


def mrr(judgements: Judgements, ranked: Sequence[Sequence[str]], k: int = 10) -> Scores:
    """1/rank of the first relevant id among the first k, 0 where none is, NaN where nothing is relevant; (q,)."""
    scores = np.full(len(judgements), np.nan)
    for row, judged, ids in _paired(judgements, ranked, k):
        if any(grade >= 1 for grade in judged.values()):
            scores[row] = next((1 / rank for rank, id_ in enumerate(ids, 1) if judged.get(id_, 0) >= 1), 0.0)
    return scores


def recall(judgements: Judgements, ranked: Sequence[Sequence[str]], k: int = 10) -> Scores:
    """Share of all relevant ids that are among the first k, NaN where nothing is relevant; float64 (q,).

    More relevant ids than k make 1 unreachable, as in trec_eval's recall.
    """
    scores = np.full(len(judgements), np.nan)
    for row, judged, ids in _paired(judgements, ranked, k):
        if total := sum(grade >= 1 for grade in judged.values()):
            scores[row] = sum(judged.get(id_, 0) >= 1 for id_ in ids) / total
    return scores


def _paired(
    judgements: Judgements, ranked: Sequence[Sequence[str]], k: int
) -> Iterator[tuple[int, Mapping[str, int], Sequence[str]]]:
    if k < 1:
        raise DatasetError(f"k is {k}; it must be at least 1")
    if len(ranked) != len(judgements):
        raise DatasetError(f"{len(ranked)} rankings for {len(judgements)} judged queries; they belong together by row")
    for row, (judged, ids) in enumerate(zip(judgements, ranked, strict=True)):
        first = ids[:k]
        if len(set(first)) != len(first):
            raise DatasetError(f"ranking of query {row} names an id twice; its gain would count twice")
        yield row, judged, first
