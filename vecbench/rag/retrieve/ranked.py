"""From ids that something ranked to the passages that pass a filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from vecbench.collection import Collection
from vecbench.errors import ConfigError
from vecbench.filters import Filter, matches
from vecbench.rag.records import passage
from vecbench.rag.types import Passage

__all__ = ["Ranking", "best_passages", "check_k"]

Ranking: TypeAlias = Callable[[int | None], list[tuple[str, float]]]
"""Gives that many ids with their scores, or all of them, best first."""

_LOOKED_AT = 1000  # best ids whose metadata is read, before all that pass the filter are listed


def best_passages(
    collection: Collection, ranking: Ranking, k: int, where: Filter | None, gone: list[str] | None = None
) -> list[Passage]:
    """The first k of the ranked records that are in the collection and pass the filter, however far down they stand.

    gone: takes the ids of ranked records, as far as they were looked at, that are not in the collection.
    """
    gone = [] if gone is None else gone
    most = k if where is None else max(k, _LOOKED_AT)
    ranked = ranking(most)
    found = _first(collection, ranked, k, where, gone)
    if len(found) == k or len(ranked) < most:
        return found
    ranked = ranking(None)
    if where is not None:
        passing = {id_ for batch in collection.scan(where=where, include=()) for id_ in batch.ids}
        ranked = [one for one in ranked if one[0] in passing]
    return _first(collection, ranked, k, where, gone)


def _first(
    collection: Collection, ranked: Sequence[tuple[str, float]], k: int, where: Filter | None, gone: list[str]
) -> list[Passage]:
    found: list[Passage] = []
    step = max(k, 50)
    for start in range(0, len(ranked), step):
        scores = dict(ranked[start : start + step])
        records = collection.get(list(scores), include=("metadata", "documents"))
        gone += scores.keys() - set(records.ids)
        for id_, text, metadata in zip(records.ids, records.documents or (), records.metadata or (), strict=True):
            if where is None or matches(where, metadata):
                found.append(passage(id_, text, metadata, score=scores[id_]))
                if len(found) == k:
                    return found
    return found


def check_k(k: object) -> None:
    """Raise `ConfigError` unless k can be a number of passages."""
    if type(k) is not int or k < 1:
        raise ConfigError(f"k must be a whole number of at least 1, got {k!r}")
