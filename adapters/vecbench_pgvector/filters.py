"""The five conditions of `vecbench.typed` in SQL, over the columns `tokens` (text[]) and `numbers` (jsonb).

Values and keys are bound parameters; the text of a condition is made of constants only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from vecbench.filters import Filter
from vecbench.typed import Bound, translate

__all__ = ["Condition", "condition"]

_OPERATORS: dict[Bound, str] = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


class Condition(NamedTuple):
    """SQL with placeholders, and what is bound to them."""

    text: str
    values: tuple[Any, ...]


class _Sql:
    """See `vecbench.typed.Dialect`. A record without metadata has null in both columns."""

    def any_token(self, tokens: Sequence[str]) -> Condition:
        return Condition("tokens && %s::text[]", (list(tokens),))

    def no_token(self, tokens: Sequence[str]) -> Condition:
        return Condition("(tokens && %s::text[]) is not true", (list(tokens),))

    def number(self, key: str, bound: Bound, value: float) -> Condition:
        return Condition(f"(numbers ->> %s::text)::float8 {_OPERATORS[bound]} %s::float8", (key, value))

    def all_of(self, parts: Sequence[Condition]) -> Condition:
        return _join(parts, " and ")

    def any_of(self, parts: Sequence[Condition]) -> Condition:
        return _join(parts, " or ")


def _join(parts: Sequence[Condition], word: str) -> Condition:
    return Condition(f"({word.join(p.text for p in parts)})", tuple(v for p in parts for v in p.values))


_SQL = _Sql()


def condition(where: Filter | None) -> Condition:
    """The condition of a filter; `true` without one."""
    return Condition("true", ()) if where is None else translate(where, _SQL)
