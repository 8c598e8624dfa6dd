"""vecbench filters as Weaviate filters over the tokens and numbers of `vecbench.typed`.

Values travel in protobuf messages: no text of theirs is ever read as a query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from vecbench.typed import Bound

__all__ = ["EVERY", "SLICES", "TOKENS", "WeaviateDialect", "property_name", "slice_token"]

TOKENS = "t"
EVERY = "all"
"""A token that every record has."""
SLICES = 256
"""Of which every record has the token of one, by chance: what is too much for one request can be asked in parts."""

# Like EVERY without a colon, so that they are no tokens of metadata.
_NO_RECORD = "none"
_LONGEST = 230
_VERBS = {"lt": "less_than", "lte": "less_or_equal", "gt": "greater_than", "gte": "greater_or_equal"}


def slice_token(number: int) -> str:
    """The token of a slice."""
    return f"slice.{number}"


def property_name(key: str) -> str:
    """The property of a number's key: the key, or its hash where Weaviate would find it too long."""
    return key if len(key) <= _LONGEST else key[:2] + "h_" + hashlib.sha256(key.encode()).hexdigest()


class WeaviateDialect:
    """How weaviate-client spells the conditions; known: whether the collection has a property of that name."""

    def __init__(self, filter_class: Any, known: Callable[[str], bool]) -> None:
        self._filter, self._known = filter_class, known

    def any_token(self, tokens: Sequence[str]) -> Any:
        """See `vecbench.typed.Dialect`."""
        return self._filter.by_property(TOKENS).contains_any(list(tokens))

    def no_token(self, tokens: Sequence[str]) -> Any:
        """Among those that exist: Weaviate's count of a negation has deleted and overwritten records in it.

        https://github.com/weaviate/weaviate/issues/10260
        """
        lacking = self._filter.by_property(TOKENS).contains_none(list(tokens))
        return self._filter.all_of([self.any_token([EVERY]), lacking])

    def number(self, key: str, bound: Bound, value: float) -> Any:
        """A property that no record has had yet is unknown to Weaviate, which would refuse the filter."""
        name = property_name(key)
        if not self._known(name):
            return self.any_token([_NO_RECORD])
        return getattr(self._filter.by_property(name), _VERBS[bound])(value)

    def all_of(self, parts: Sequence[Any]) -> Any:
        """See `vecbench.typed.Dialect`."""
        return self._filter.all_of(list(parts))

    def any_of(self, parts: Sequence[Any]) -> Any:
        """See `vecbench.typed.Dialect`."""
        return self._filter.any_of(list(parts))
