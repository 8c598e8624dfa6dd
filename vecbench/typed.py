"""Metadata as an engine can filter it: a list of tokens and a few numbers beside the record, and filters over those.

Engines disagree on what a filter means where types are mixed under one name, where a key is missing, and on which
characters a name or a value may hold. So a record is never filtered by its own fields. Beside its metadata, kept whole
as JSON, stand

    tokens    one list of short texts: "has" a field, "eq"ual to a value, a list that "in"cludes one, a "num"ber
    numbers   n_<hex of the field>: the number as float64; r_<hex>: what an integer beyond 2**53 lost in that float64

and `translate` turns every filter into five kinds of condition over them, in negation normal form, so that an engine
needs no "not" of its own. Equal numbers have equal tokens, 5 and 5.0 too; a token that could be mistaken for syntax
anywhere, or is long, is replaced by its hash. What is left for an adapter is to spell five conditions: see `Dialect`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from vecbench.filters import (
    And,
    Contains,
    Eq,
    Exists,
    Filter,
    Gt,
    Gte,
    In,
    Lt,
    Lte,
    Ne,
    Not,
    NotIn,
    Or,
    Scalar,
)
from vecbench.types import Metadata, MetadataValue

__all__ = [
    "Bound",
    "Dialect",
    "all_keys",
    "dump_metadata",
    "load_metadata",
    "number_key",
    "numbers",
    "tokens",
    "translate",
]

Bound: TypeAlias = Literal["lt", "lte", "gt", "gte"]
_C = TypeVar("_C")

_SAFE = re.compile(r"[A-Za-z0-9_.:=\-]{1,120}", re.ASCII)
_EXACT = 2.0**53  # integers beyond this are rounded to a float64
_NEVER = "never"  # no token of a record: theirs begin with a kind and a colon, or with "#"


_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # `json.dumps` makes one with each call


def dump_metadata(metadata: Metadata) -> str:
    """The metadata as JSON, from which ints come back as ints and floats as floats."""
    return _dump(dict(metadata))


def load_metadata(text: str | None) -> dict[str, MetadataValue]:
    """The metadata that `dump_metadata` wrote; none from None."""
    if not text:
        return {}
    found: dict[str, MetadataValue] = json.loads(text)
    return found


def number_key(kind: Literal["n", "r"], field: str) -> str:
    """The key of a field's number: "n", or "r" for what float64 lost of it; letters, digits and one underscore."""
    return f"{kind}_{field.encode().hex()}"


def tokens(metadata: Metadata) -> list[str]:
    """The tokens of a record: distinct, printable ASCII, at most 120 characters each."""
    out: dict[str, None] = {}
    for field, value in metadata.items():
        out[_token("has", field)] = None
        if isinstance(value, list):
            for item in value:
                out[_token("in", field, item)] = None
            continue
        out[_token("eq", field, _scalar_text(value))] = None
        if _is_number(value):
            out[_token("num", field)] = None
            if _split(value)[1]:
                out[_token("rest", field)] = None
    return list(out)


def numbers(metadata: Metadata) -> dict[str, float]:
    """The numbers of a record by their keys; a rest only where there is one."""
    out: dict[str, float] = {}
    for field, value in metadata.items():
        if not isinstance(value, list) and _is_number(value):
            nearest, rest = _split(value)
            out[number_key("n", field)] = nearest
            if rest:
                out[number_key("r", field)] = float(rest)
    return out


class Dialect(Protocol[_C]):
    """How an engine spells the five conditions that every filter is made of. Lists are never empty."""

    def any_token(self, tokens: Sequence[str]) -> _C:
        """The record has at least one of these tokens."""
        ...

    def no_token(self, tokens: Sequence[str]) -> _C:
        """The record has none of these tokens, or no tokens at all."""
        ...

    def number(self, key: str, bound: Bound, value: float) -> _C:
        """The record has a number under this key, and it is within the bound."""
        ...

    def all_of(self, parts: Sequence[_C]) -> _C:
        """Every part holds; two parts or more."""
        ...

    def any_of(self, parts: Sequence[_C]) -> _C:
        """Some part holds; two parts or more."""
        ...


def translate(where: Filter, to: Dialect[_C]) -> _C:
    """The engine's condition that selects exactly what `where` matches."""
    return _Translator(to).positive(where)


class _Translator(Generic[_C]):
    def __init__(self, to: Dialect[_C]) -> None:
        self.to: Dialect[_C] = to

    def positive(self, where: Filter) -> _C:
        match where:
            case And(parts):
                return self.all([self.positive(p) for p in parts])
            case Or(parts):
                return self.any([self.positive(p) for p in parts])
            case Not(part):
                return self.negative(part)
            case Ne() | NotIn():
                return self.negative(_opposite(where))
            case Lt() | Lte() | Gt() | Gte():
                return self.range(where.field, where.op, where.value)
            case _:
                return self.tokens(_wanted(where))

    def negative(self, where: Filter) -> _C:
        match where:
            case And(parts):
                return self.any([self.negative(p) for p in parts])
            case Or(parts):
                return self.all([self.negative(p) for p in parts])
            case Not(part):
                return self.positive(part)
            case Ne() | NotIn():
                return self.positive(_opposite(where))
            case Lt() | Lte() | Gt() | Gte():
                beyond = self.range(where.field, _COMPLEMENT[where.op], where.value)
                return self.any([self.to.no_token([_token("num", where.field)]), beyond])
            case _:
                wanted = _wanted(where)
                return self.to.no_token(wanted or [_NEVER])

    def tokens(self, wanted: list[str]) -> _C:
        return self.to.any_token(wanted or [_NEVER])

    def all(self, parts: list[_C]) -> _C:
        if not parts:
            return self.to.no_token([_NEVER])
        return parts[0] if len(parts) == 1 else self.to.all_of(parts)

    def any(self, parts: list[_C]) -> _C:
        if not parts:
            return self.to.any_token([_NEVER])
        return parts[0] if len(parts) == 1 else self.to.any_of(parts)

    def range(self, field: str, op: str, bound: int | float) -> _C:
        """Numbers held as (nearest float64, rest) compare first by the float64, then by the rest."""
        way = _bound(op)
        key = number_key("n", field)
        try:
            nearest, rest = _split(bound)
        except OverflowError:  # an integer beyond float64 is greater, or smaller, than every number a record can hold
            inside = (bound > 0) == way.startswith("l")
            return self.to.any_token([_token("num", field)]) if inside else self.to.any_token([_NEVER])
        if abs(nearest) < _EXACT:
            return self.to.number(key, way, nearest)
        strict: Bound = "lt" if way.startswith("l") else "gt"
        same = [self.to.number(key, "gte", nearest), self.to.number(key, "lte", nearest)]
        return self.any([self.to.number(key, strict, nearest), self.all([*same, self.rest(field, way, rest)])])

    def rest(self, field: str, way: Bound, rest: int) -> _C:
        """The rest is within the bound, where a record without one has 0."""
        held = self.to.number(number_key("r", field), way, float(rest))
        if _HOLDS[way](0, rest):
            return self.any([self.to.no_token([_token("rest", field)]), held])
        return held


_COMPLEMENT = {"lt": "gte", "lte": "gt", "gt": "lte", "gte": "lt"}
_HOLDS: dict[Bound, Callable[[int, int], bool]] = {
    "lt": int.__lt__,
    "lte": int.__le__,
    "gt": int.__gt__,
    "gte": int.__ge__,
}


def _bound(op: str) -> Bound:
    return next(b for b in _HOLDS if b == op)


def _opposite(where: Ne | NotIn) -> Eq | In:
    return Eq(where.field, where.value) if isinstance(where, Ne) else In(where.field, where.values)


def _wanted(where: Filter) -> list[str]:
    """The tokens of which a match has one."""
    match where:
        case Eq(field, value):
            return [_token("eq", field, _scalar_text(value))]
        case In(field, values):
            return list(dict.fromkeys(_token("eq", field, _scalar_text(v)) for v in values))
        case Contains(field, value):
            return [_token("in", field, value)]
        case Exists(field):
            return [_token("has", field)]
    raise AssertionError(f"no operator of tokens: {where!r}")


def _token(kind: str, *parts: str) -> str:
    readable = ":".join((kind, "=".join(parts)))
    # "=" may stand only where we put it: otherwise two different pairs of field and value could read the same.
    if _SAFE.fullmatch(readable) and readable.count("=") == len(parts) - 1:
        return readable
    return "#" + hashlib.sha256(json.dumps([kind, *parts]).encode()).hexdigest()[:40]


def _scalar_text(value: Scalar) -> str:
    """A single value as a text that is equal exactly where the values are; a bool is not a number."""
    if isinstance(value, str):
        return "s." + value
    if isinstance(value, bool):
        return "b.true" if value else "b.false"
    if isinstance(value, float):
        return f"n.{int(value)}" if value.is_integer() else "n." + value.hex()
    return f"n.{value}"


def _is_number(value: MetadataValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _split(value: Scalar) -> tuple[float, int]:
    """The nearest float64 and what is missing to the value; OverflowError for an integer beyond float64."""
    assert not isinstance(value, str)  # noqa: S101  numbers only come here; tells the type checker
    nearest = float(value)
    return nearest, 0 if isinstance(value, float) else int(value) - int(nearest)


def all_keys(rows: Iterable[Metadata]) -> set[str]:
    """The keys of all numbers in these rows: what an engine with a fixed schema must know before they are written."""
    return {key for row in rows for key in numbers(row)}
