"""Filters as RediSearch query text. Every value is a parameter: no text of a caller's is ever part of the query."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vecbench.typed import Bound

__all__ = ["EVERYTHING", "NEVER", "QueryDialect"]

NEVER = "never"  # no record's token: theirs begin with a kind and a colon, or with "#"
EVERYTHING = "(-@t:{never})"  # matches as "*" does, but counts as a filter: only beside one may a policy be chosen

_RANGES: dict[Bound, str] = {"lt": "-inf ({}", "lte": "-inf {}", "gt": "({} +inf", "gte": "{} +inf"}


class QueryDialect:
    """Spells conditions for one query and collects its parameters.

    has_number: whether the index knows a number's key. One that it does not know is in no record, and naming it finds
    nothing on RediSearch 2.10 but is an error on newer servers.
    """

    def __init__(self, has_number: Callable[[str], bool]) -> None:
        self.params: dict[str, str] = {}
        self._has_number = has_number

    def any_token(self, tokens: Sequence[str]) -> str:
        """See `vecbench.typed.Dialect`."""
        return f"@t:{{{'|'.join(map(self._bind, tokens))}}}"

    def no_token(self, tokens: Sequence[str]) -> str:
        """See `vecbench.typed.Dialect`."""
        return f"(-{self.any_token(tokens)})"

    def number(self, key: str, bound: Bound, value: float) -> str:
        """See `vecbench.typed.Dialect`."""
        if not self._has_number(key):
            return self.any_token([NEVER])
        return f"@{key}:[{_RANGES[bound].format(self._bind(repr(value)))}]"

    def all_of(self, parts: Sequence[str]) -> str:
        """See `vecbench.typed.Dialect`."""
        return f"({' '.join(parts)})"

    def any_of(self, parts: Sequence[str]) -> str:
        """See `vecbench.typed.Dialect`."""
        return f"({' | '.join(parts)})"

    def _bind(self, value: str) -> str:
        name = f"p{len(self.params)}"
        self.params[name] = value
        return "$" + name
