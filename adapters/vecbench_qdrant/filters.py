"""vecbench filters as Qdrant filters, over the tokens and numbers of the payload; for both of its clients.

Values enter as values of condition objects, so none can become query syntax.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from vecbench.filters import Filter
from vecbench.typed import Bound, translate
from vecbench_qdrant.payload import TOKENS

__all__ = ["ClientDialect", "EdgeDialect", "native_filter"]


def native_filter(where: Filter, to: _Dialect) -> Any:
    """The client's filter object that selects exactly what `where` matches."""
    return to.group(must=[translate(where, to)])


class _Dialect(ABC):
    @abstractmethod
    def group(self, **clauses: list[Any]) -> Any:
        """A nested filter of must, should and must_not."""

    @abstractmethod
    def any_token(self, tokens: Sequence[str]) -> Any:
        """One token is matched as such: the engine plans it better than a list of one."""

    @abstractmethod
    def number(self, key: str, bound: Bound, value: float) -> Any:
        """See `vecbench.typed.Dialect`."""

    def no_token(self, tokens: Sequence[str]) -> Any:
        """See `vecbench.typed.Dialect`."""
        return self.group(must_not=[self.any_token(tokens)])

    def all_of(self, parts: Sequence[Any]) -> Any:
        """See `vecbench.typed.Dialect`."""
        return self.group(must=list(parts))

    def any_of(self, parts: Sequence[Any]) -> Any:
        """See `vecbench.typed.Dialect`."""
        return self.group(should=list(parts))


class EdgeDialect(_Dialect):
    """The spelling of qdrant_edge."""

    def __init__(self, module: Any) -> None:
        self._qe = module

    def group(self, **clauses: list[Any]) -> Any:
        """A nested filter of must, should and must_not."""
        return self._qe.Filter(**clauses)

    def any_token(self, tokens: Sequence[str]) -> Any:
        """See `vecbench.typed.Dialect`."""
        match = self._qe.MatchValue(tokens[0]) if len(tokens) == 1 else self._qe.MatchAny(list(tokens))
        return self._qe.FieldCondition(key=TOKENS, match=match)

    def number(self, key: str, bound: Bound, value: float) -> Any:
        """See `vecbench.typed.Dialect`."""
        return self._qe.FieldCondition(key=key, range=self._qe.RangeFloat(**{bound: value}))


class ClientDialect(_Dialect):
    """The spelling of qdrant_client.models."""

    def __init__(self, models: Any) -> None:
        self._models = models

    def group(self, **clauses: list[Any]) -> Any:
        """A nested filter of must, should and must_not."""
        return self._models.Filter(**clauses)

    def any_token(self, tokens: Sequence[str]) -> Any:
        """See `vecbench.typed.Dialect`."""
        m = self._models
        match = m.MatchValue(value=tokens[0]) if len(tokens) == 1 else m.MatchAny(any=list(tokens))
        return m.FieldCondition(key=TOKENS, match=match)

    def number(self, key: str, bound: Bound, value: float) -> Any:
        """See `vecbench.typed.Dialect`."""
        return self._models.FieldCondition(key=key, range=self._models.Range(**{bound: value}))
