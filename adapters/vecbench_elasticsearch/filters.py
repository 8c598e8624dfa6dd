"""Filters as Elasticsearch's query objects: values are JSON data in them, never text that is parsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vecbench.errors import UnsupportedFilter
from vecbench.filters import Filter
from vecbench.typed import Bound, translate

__all__ = ["NUMBERS", "TOKENS", "condition"]

TOKENS, NUMBERS = "t", "num"  # fields of our mapping
_MAX_TERMS = 65_536  # index.max_terms_count
_MAX_DEPTH = 29  # indices.query.bool.max_nested_depth is 30, and counts one more


def condition(where: Filter) -> dict[str, Any]:
    """The query that selects exactly what `where` matches."""
    query = translate(where, _QueryDialect())
    depth = _depth(query)
    if depth > _MAX_DEPTH:
        raise UnsupportedFilter(f"elasticsearch nests at most {_MAX_DEPTH} conditions, this filter nests {depth}")
    return query


class _QueryDialect:
    def any_token(self, tokens: Sequence[str]) -> dict[str, Any]:
        if len(tokens) <= _MAX_TERMS:
            return {"terms": {TOKENS: list(tokens)}}
        parts = [tokens[start : start + _MAX_TERMS] for start in range(0, len(tokens), _MAX_TERMS)]
        return self.any_of([{"terms": {TOKENS: list(part)}} for part in parts])

    def no_token(self, tokens: Sequence[str]) -> dict[str, Any]:
        return {"bool": {"must_not": [self.any_token(tokens)]}}

    def number(self, key: str, bound: Bound, value: float) -> dict[str, Any]:
        return {"range": {f"{NUMBERS}.{key}": {bound: value + 0.0}}}  # Lucene sorts −0.0 before 0.0; −0.0 + 0.0 is 0.0

    def all_of(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"bool": {"filter": list(parts)}}

    def any_of(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"bool": {"should": list(parts)}}


def _depth(query: dict[str, Any]) -> int:
    """How deep `bool` is nested."""
    parts = [part for clause in query.get("bool", {}).values() for part in clause]
    return 1 + max(map(_depth, parts)) if parts else 0
