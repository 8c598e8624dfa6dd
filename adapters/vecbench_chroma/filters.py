"""vecbench filters as Chroma's `where`, over the tokens and numbers of a record's metadata.

Values enter as values of a dictionary that the client sends as JSON, so none can become syntax.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from vecbench.filters import Filter
from vecbench.typed import Bound, translate

__all__ = ["ordered", "where_clause"]

_WIDE = 30  # parts of one $and or $or: SQLite nests each beside the last, and its limit is a depth of 1,000


def ordered(value: float) -> int:
    """An integer that is smaller than another's exactly where the float is smaller.

    Chroma reads floats from JSON and may lose their last bit, more than once and differently; integers stay exact.
    """
    (bits,) = struct.unpack("<q", struct.pack("<d", value + 0.0))  # -0.0 + 0.0 is 0.0
    return int(bits) if bits >= 0 else -(int(bits) & (2**63 - 1))


def where_clause(where: Filter | None, tokens_key: str) -> dict[str, Any] | None:
    """The clause that selects exactly what `where` matches."""
    return None if where is None else translate(where, _Clauses(tokens_key))


class _Clauses:
    """See `vecbench.typed.Dialect`."""

    def __init__(self, tokens_key: str) -> None:
        self._key = tokens_key

    def any_token(self, tokens: Sequence[str]) -> dict[str, Any]:
        return _joined("$or", [{self._key: {"$contains": token}} for token in tokens])

    def no_token(self, tokens: Sequence[str]) -> dict[str, Any]:
        return _joined("$and", [{self._key: {"$not_contains": token}} for token in tokens])

    def number(self, key: str, bound: Bound, value: float) -> dict[str, Any]:
        return {key: {f"${bound}": ordered(value)}}

    def all_of(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return _joined("$and", parts)

    def any_of(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return _joined("$or", parts)


def _joined(operator: str, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The parts as a tree of groups."""
    while len(parts) > 1:
        groups = [parts[i : i + _WIDE] for i in range(0, len(parts), _WIDE)]
        parts = [{operator: list(group)} if len(group) > 1 else group[0] for group in groups]
    return parts[0]
