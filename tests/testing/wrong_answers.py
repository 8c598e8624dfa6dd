"""Stores that answer a search or read a filter wrongly, each in one way that real engines and adapters have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from vecbench.filters import Eq, Filter, In, Not, matches
from vecbench.index import SearchParams
from vecbench.memory import MemoryCollection
from vecbench.types import Include, Metric, Records, SearchResult, Vectors

from .planting import caught_by


class _Answer(MemoryCollection):
    """A store that spoils each right answer."""

    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        raise NotImplementedError

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        return self.spoil(queries, super()._search(queries, k, where, params, include), k)

    def cut(self, result: SearchResult, keep: slice) -> SearchResult:
        return SearchResult([i[keep] for i in result.ids], [d[keep] for d in result.distances], result.metric)


# Distances ------------------------------------------------------------------------------------------------------------


@caught_by("test_distances_are_true", metric=Metric.EUCLIDEAN, batch=1)
class SquaredEuclid(_Answer):
    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        if result.metric is Metric.EUCLIDEAN:
            result.distances = [np.square(d) for d in result.distances]
        return result


@caught_by("test_distances_are_true", metric=Metric.COSINE, batch=1)
class SimilarityInsteadOfDistance(_Answer):
    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        if result.metric is Metric.COSINE:
            result.distances = [1 - d for d in result.distances]
        return result


@caught_by("test_cosine_runs_from_zero_to_two")
class CosineHalved(_Answer):
    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        if result.metric is Metric.COSINE:
            result.distances = [d / 2 for d in result.distances]
        return result


@caught_by("test_distances_are_true", metric=Metric.COSINE, batch=40)
class CosineWithoutNormalising(_Answer):
    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        if result.metric is Metric.COSINE:
            for i, (query, ids) in enumerate(zip(queries, result.ids, strict=True)):
                d = np.array([1 - query.astype(np.float64) @ self._rows[id_][0] for id_ in ids])
                order = np.argsort(d)
                result.ids[i], result.distances[i] = [ids[j] for j in order], d[order]
        return result


@caught_by("test_distances_are_true", metric=Metric.DOT, batch=1)
class DotWithTheWrongSign(_Answer):
    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        if result.metric is Metric.DOT:
            result.distances = [-d for d in result.distances]
        return result


@caught_by("test_distances_are_true", metric=Metric.EUCLIDEAN, batch=1)
class DescendingOrder(_Answer):
    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        return self.cut(result, slice(None, None, -1))


@caught_by("test_distances_are_true", metric=Metric.EUCLIDEAN, batch=40)
class AnswersOfABatchMixedUp(_Answer):
    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        return replace(result, ids=result.ids[::-1])


@caught_by("test_the_nearest_is_found")
class MissesTheNearest(_Answer):
    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        return self.cut(super()._search(queries, k + 1, where, params, ()), slice(1, None))


@caught_by("test_distances_are_true", metric=Metric.EUCLIDEAN, batch=1)
class OneTooFew(_Answer):
    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        return self.cut(result, slice(max(1, k - 1)))


@caught_by("test_k_beyond_the_rows_gives_all")
class NeverMoreThanTwentyFive(_Answer):
    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        return self.cut(result, slice(25))


@caught_by("test_ties_have_equal_distances")
class OneOfEachTie(_Answer):
    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        for i, distances in enumerate(result.distances):
            _, first = np.unique(distances, return_index=True)
            result.ids[i], result.distances[i] = [result.ids[i][j] for j in first], distances[first]
        return result


@caught_by("test_raw_scores_stand_beside_the_answers")
class RawScoresOfOtherAnswers(_Answer):
    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        return replace(result, raw=[d[:-1] for d in result.distances])


@caught_by("test_columns_come_with_the_hits")
class ColumnsInAnotherOrder(_Answer):
    def spoil(self, queries: Vectors, result: SearchResult, k: int) -> SearchResult:
        if result.records is not None:
            result.records = [r.take(range(len(r))[::-1]) for r in result.records]
        return result


@caught_by("test_parameters_are_never_dropped")
class UnknownParameterDropped(MemoryCollection):
    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        return super()._search(queries, k, where, SearchParams(), include)


# Filters --------------------------------------------------------------------------------------------------------------


class _Blurred(MemoryCollection):
    """A store whose idea of a match differs from ours."""

    def passes(self, where: Filter, metadata: dict[str, Any]) -> bool:
        raise NotImplementedError

    def _select(self, where: Filter | None) -> list[str]:
        return [i for i in super()._select(None) if where is None or self.passes(where, dict(self._rows[i][1]))]


@caught_by("test_each_operator", operator="in")
@caught_by("test_delete_and_scan_by_filter")
class IgnoresEveryFilter(_Blurred):
    def passes(self, where: Filter, metadata: dict[str, Any]) -> bool:
        return True


@caught_by("test_each_operator", operator="contains")
class IgnoresOneOperator(_Blurred):
    def passes(self, where: Filter, metadata: dict[str, Any]) -> bool:
        return where.op == "contains" or matches(where, metadata)


@caught_by("test_each_operator", operator="not")
class NotSkipsMissingKeys(_Blurred):
    def passes(self, where: Filter, metadata: dict[str, Any]) -> bool:
        return matches(where, metadata) and not (isinstance(where, Not) and "x" not in metadata)


@caught_by("test_each_operator", operator="ne")
class NeSkipsMissingKeys(_Blurred):
    def passes(self, where: Filter, metadata: dict[str, Any]) -> bool:
        return matches(where, metadata) and not (where.op == "ne" and "x" not in metadata)


@caught_by("test_each_operator", operator="eq")
class TrueIsOne(_Blurred):
    def passes(self, where: Filter, metadata: dict[str, Any]) -> bool:
        return metadata.get(where.field) == where.value if isinstance(where, Eq) else matches(where, metadata)


@caught_by("test_each_operator", operator="eq")
class BigIntegersAreDoubles(_Blurred):
    def passes(self, where: Filter, metadata: dict[str, Any]) -> bool:
        held = metadata.get("x")
        if isinstance(where, Eq) and type(where.value) is int and type(held) is int:
            return float(held) == float(where.value)
        return matches(where, metadata)


@caught_by("test_each_operator", operator="in")
class InOfNothingIsEverything(_Blurred):
    def passes(self, where: Filter, metadata: dict[str, Any]) -> bool:
        return matches(where, metadata) or (isinstance(where, In) and not where.values)


@caught_by("test_hostile_names_and_values")
class FiltersBuiltAsText(_Blurred):
    def passes(self, where: Filter, metadata: dict[str, Any]) -> bool:
        if isinstance(where, Eq) and isinstance(where.value, str) and "'" in where.value:
            return True  # the quote ended the literal
        return matches(where, metadata)


@caught_by("test_hostile_names_and_values")
class DotsInNamesArePaths(_Blurred):
    def passes(self, where: Filter, metadata: dict[str, Any]) -> bool:
        return matches(where, {key: value for key, value in metadata.items() if "." not in key})


@caught_by("test_k_matches_exist_so_k_return")
class FiltersAfterTheNearest(_Answer):
    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        result = super(_Answer, self)._search(queries, 4 * k, None, params, ())
        for i, ids in enumerate(result.ids):
            good = [j for j, id_ in enumerate(ids) if where is None or matches(where, self._rows[id_][1])][:k]
            result.ids[i], result.distances[i] = [ids[j] for j in good], result.distances[i][good]
        return result


@caught_by("test_each_operator", operator="gt")
class CountIgnoresTheFilter(MemoryCollection):
    def _count(self, where: Filter | None) -> int:
        return super()._count(None)


@caught_by("test_delete_and_scan_by_filter")
class ScanIgnoresTheFilter(MemoryCollection):
    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        return super()._scan(None, batch_size, include)
