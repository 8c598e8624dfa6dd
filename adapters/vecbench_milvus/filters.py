"""vecbench filters as Milvus expressions, over the tokens and numbers of a record; for the server and for lite.

Milvus has no bound parameters that every engine here understands, so an expression is text. What enters it is made of
letters, digits and `_.:=-#%` only: tokens and keys by `vecbench.typed`, ids by `pk`, numbers by Python's repr.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, unquote

from vecbench.typed import Bound

__all__ = ["ID", "MAX_PK", "NUMBERS", "TOKENS", "MilvusDialect", "id_of", "one_of", "pk"]

ID, TOKENS, NUMBERS = "id", "tokens", "numbers"
MAX_PK = 3 * 512  # each byte of an id may become three characters
_SIGNS: dict[Bound, str] = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


def pk(id_: str) -> str:
    """The primary key of a record: its id, percent-encoded, so that no id can become part of an expression."""
    return quote(id_, safe=":=")


def id_of(key: str) -> str:
    """The id whose primary key this is."""
    return unquote(key) if "%" in key else key


def one_of(ids: Sequence[str]) -> str:
    """The expression that selects the records of these ids."""
    return f"{ID} in {_texts([pk(i) for i in ids])}"


def _texts(texts: Sequence[str]) -> str:
    return '["' + '","'.join(texts) + '"]'


class MilvusDialect:
    """The five conditions of `vecbench.typed`. Every record has a list of tokens, an empty one too: `not` is safe."""

    def any_token(self, tokens: Sequence[str]) -> str:
        """See `vecbench.typed.Dialect`."""
        return f"array_contains_any({TOKENS}, {_texts(tokens)})"

    def no_token(self, tokens: Sequence[str]) -> str:
        """See `vecbench.typed.Dialect`."""
        return f"(not {self.any_token(tokens)})"

    def number(self, key: str, bound: Bound, value: float) -> str:
        """See `vecbench.typed.Dialect`. Without the key it is false to the server and unknown to lite: both miss."""
        return f'({NUMBERS}["{key}"] {_SIGNS[bound]} {value!r})'

    def all_of(self, parts: Sequence[str]) -> str:
        """See `vecbench.typed.Dialect`."""
        return f"({' and '.join(parts)})"

    def any_of(self, parts: Sequence[str]) -> str:
        """See `vecbench.typed.Dialect`."""
        return f"({' or '.join(parts)})"
