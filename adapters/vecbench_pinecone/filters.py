"""vecbench filters in Pinecone's language, over the tokens and numbers of `vecbench_pinecone.records`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from vecbench.errors import UnsupportedFilter
from vecbench.filters import Filter
from vecbench.typed import Bound, translate
from vecbench_pinecone.records import TOKENS

__all__ = ["Condition", "condition"]

Condition: TypeAlias = dict[str, Any]
"""A filter as the API takes it: plain JSON, in which values stay data."""
_MAX_VALUES = 10_000  # of one $in or $nin


def condition(where: Filter) -> Condition:
    """The filter that selects exactly what `where` matches."""
    return translate(where, _Dialect())


class _Dialect:
    """Nothing but `$exists` matches a missing key, not even `$nin`; a list matches by any of its elements."""

    def any_token(self, tokens: Sequence[str]) -> Condition:
        return {TOKENS: {"$in": _few(tokens)}}

    def no_token(self, tokens: Sequence[str]) -> Condition:
        return {"$or": [{TOKENS: {"$exists": False}}, {TOKENS: {"$nin": _few(tokens)}}]}

    def number(self, key: str, bound: Bound, value: float) -> Condition:
        return {key: {f"${bound}": value}}

    def all_of(self, parts: Sequence[Condition]) -> Condition:
        return {"$and": list(parts)}

    def any_of(self, parts: Sequence[Condition]) -> Condition:
        return {"$or": list(parts)}


def _few(tokens: Sequence[str]) -> list[str]:
    if len(tokens) > _MAX_VALUES:
        raise UnsupportedFilter(f"pinecone takes {_MAX_VALUES} values in one In or NotIn, got {len(tokens)}")
    return list(tokens)
